//! Whether two coordinates are a point of one of NIST's curves (SP 800-186 §3.2.1, RFC 8725 §3.4).
//!
//! Only public keys are read here, so that nothing has to take the same time for each. Multiplication is by doubling:
//! a key is read once, and no crate has to come into the filter for it.

use std::cmp::Ordering;

use super::Curve;

/// 544 bits, the lowest first.
type Number = [u32; LIMBS];

const LIMBS: usize = 17;

/// Whether `y² = x³ − 3x + b` modulo the curve's prime, and both coordinates are smaller than that. Coordinates are
/// big endian, of the curve's size.
pub(super) fn is_on(curve: Curve, x: &[u8], y: &[u8]) -> bool {
    let (prime, b) = match curve {
        Curve::P256 => (P256_PRIME, P256_B),
        Curve::P384 => (P384_PRIME, P384_B),
        Curve::P521 => (P521_PRIME, P521_B),
    };
    let (Some(p), Some(b)) = (hexadecimal(prime), hexadecimal(b)) else { return false };
    let (Some(x), Some(y)) = (number(x), number(y)) else { return false };
    if compare(&x, &p).is_ge() || compare(&y, &p).is_ge() {
        return false;
    }
    let sum = |left: &Number, right: &Number| sum(left, right, &p);
    let product = |left: &Number, right: &Number| product(left, right, &p);
    sum(&product(&y, &y), &sum(&x, &sum(&x, &x))) == sum(&product(&product(&x, &x), &x), &b)
}

const P256_PRIME: &str = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff";
const P256_B: &str = "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b";
const P384_PRIME: &str =
    "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff";
const P384_B: &str =
    "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef";
const P521_PRIME: &str = "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
    ffffffffffffffffffffffffffffffffffffff";
const P521_B: &str = "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3b\
    b1bf073573df883d2c34f1ef451fd46b503f00";

/// Of its bytes, the highest first; `None`: too many.
fn number(bytes: &[u8]) -> Option<Number> {
    let mut number = Number::default();
    let mut limbs = number.iter_mut();
    for part in bytes.rchunks(4) {
        let value = part.iter().fold(0_u32, |value, byte| value.wrapping_shl(8) | u32::from(*byte));
        *limbs.next()? = value;
    }
    Some(number)
}

fn hexadecimal(text: &str) -> Option<Number> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
    number(&bytes?)
}

fn compare(left: &Number, right: &Number) -> Ordering {
    left.iter().rev().cmp(right.iter().rev())
}

/// Of two numbers below `p`, modulo `p`. INVARIANT: 2p < 2^544
fn sum(left: &Number, right: &Number, p: &Number) -> Number {
    let mut sum = Number::default();
    let mut carry = false;
    for ((to, left), right) in sum.iter_mut().zip(left).zip(right) {
        let (value, first) = left.overflowing_add(*right);
        let (value, second) = value.overflowing_add(u32::from(carry));
        (*to, carry) = (value, first | second);
    }
    if compare(&sum, p).is_lt() {
        return sum;
    }
    let mut borrow = false;
    for (to, prime) in sum.iter_mut().zip(p) {
        let (value, first) = to.overflowing_sub(*prime);
        let (value, second) = value.overflowing_sub(u32::from(borrow));
        (*to, borrow) = (value, first | second);
    }
    sum
}

/// Of two numbers below `p`, modulo `p`.
fn product(left: &Number, right: &Number, p: &Number) -> Number {
    let mut product = Number::default();
    for limb in right.iter().rev().skip_while(|limb| **limb == 0) {
        for bit in (0..u32::BITS).rev() {
            product = sum(&product, &product, p);
            if limb.wrapping_shr(bit) & 1 == 1 {
                product = sum(&product, left, p);
            }
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        let text = text.as_bytes().as_chunks::<2>().0;
        text.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// The generators of SP 800-186 §3.2.1.
    const POINTS: [(Curve, &str, &str); 3] = [
        (
            Curve::P256,
            "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
            "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
        ),
        (
            Curve::P384,
            "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
            "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
        ),
        (
            Curve::P521,
            "00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66",
            "011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650",
        ),
    ];

    #[test]
    fn a_point_is_on_its_own_curve_and_its_neighbours_are_not() {
        for (curve, x, y) in POINTS {
            let (x, y) = (bytes(x), bytes(y));
            assert!(is_on(curve, &x, &y), "{curve:?}");
            assert!(!is_on(curve, &y, &x) && !is_on(curve, &x, &x), "{curve:?}");
            for at in 0..x.len() {
                let mut other = y.clone();
                other[at] ^= 1;
                assert!(!is_on(curve, &x, &other), "{curve:?} {at}");
            }
            let nothing = vec![0; x.len()];
            assert!(!is_on(curve, &nothing, &nothing) && !is_on(curve, &x, &nothing), "{curve:?}");
            assert!(!is_on(curve, &vec![255; x.len()], &y), "{curve:?}");
        }
    }

    #[test]
    fn a_coordinate_is_smaller_than_the_prime() {
        // sqrt(b): the point above zero, of which the prime is another name (found by b^((p+1)/4) modulo p)
        let y = bytes("66485c780e2f83d72433bd5d84a06bb6541c2af31dae871728bf856a174f93f4");
        assert!(is_on(Curve::P256, &[0; 32], &y));
        assert!(!is_on(Curve::P256, &bytes(P256_PRIME), &y));
        assert!(!is_on(Curve::P521, &[0xff; 80], &[0xff; 80]), "more than there is room for");
    }
}
