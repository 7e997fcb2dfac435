use proptest::prelude::*;

use super::*;

/// A P-256 key and what `openssl pkey -pubout -outform DER` makes of it, but for its coordinates.
#[test]
fn a_point_becomes_a_subject_public_key_info() {
    let key = PublicKey::ec(Curve::P256, &[0x11; 32], &[0x22; 32]);
    let start = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
    ];
    assert_eq!(key.spki(), [&start[..], &[0x11; 32], &[0x22; 32]].concat());
    assert_eq!(key.inner(), [&[0x04][..], &[0x11; 32], &[0x22; 32]].concat());
    let key = PublicKey::ec(Curve::P384, &[0x11; 48], &[0x22; 48]);
    assert_eq!((key.spki().len(), key.inner().len()), (120, 97));
    let key = PublicKey::ec(Curve::P521, &[0x01; 66], &[0x02; 66]);
    assert_eq!((key.spki().len(), key.inner().len()), (158, 133));
    assert_eq!(key.spki().get(..5), Some(&[0x30, 0x81, 0x9b, 0x30, 0x10][..]));
}

#[test]
fn a_modulus_becomes_a_subject_public_key_info() {
    let key = PublicKey::rsa(&[0xff; 256], &[1, 0, 1]);
    // lengths of 2048-bit keys: 294 bytes, of which 24 come before the RSAPublicKey
    assert_eq!((key.spki().len(), key.inner().len()), (294, 270));
    assert_eq!(key.spki().get(..6), Some(&[0x30, 0x82, 0x01, 0x22, 0x30, 0x0d][..]));
    assert_eq!(
        key.inner().get(..10),
        Some(&[0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00, 0xff][..])
    );
    assert_eq!(key.inner().get(265..), Some(&[0x02, 0x03, 0x01, 0x00, 0x01][..]));
}

#[test]
fn integers_have_one_form() {
    for (number, der) in [
        (&[0, 0, 0][..], &[2, 1, 0][..]),
        (&[], &[2, 1, 0]),
        (&[0, 1], &[2, 1, 1]),
        (&[0x7f], &[2, 1, 0x7f]),
        (&[0x80], &[2, 2, 0, 0x80]),
        (&[0, 0xff, 0], &[2, 3, 0, 0xff, 0]),
    ] {
        assert_eq!(integer(number), der, "{number:?}");
    }
}

#[test]
fn the_question_has_the_bytes_of_the_proxys_message() {
    let key = PublicKey::ec(Curve::P256, &[1; 32], &[2; 32]);
    let signature = [[0x80; 32], [0; 32]].concat();
    let check =
        SignatureCheck { algorithm: Algorithm::Es256, key: &key, text: &[b'x'; 200], signature: &signature };
    let der = [&[0x30, 38, 2, 33, 0][..], &[0x80; 32], &[2, 1, 0]].concat();
    let expected = [
        &[0x0a, 6][..],
        b"sha256",
        &[0x12, 91],
        key.spki(),
        &[0x1a, 40],
        &der,
        &[0x22, 0xc8, 0x01],
        &[b'x'; 200],
    ]
    .concat();
    assert_eq!(check.message(), Ok(Some(expected)));
    for length in [0, 63, 65, 96] {
        let check = SignatureCheck { signature: &vec![1; length], ..check };
        assert_eq!(check.message(), Ok(None), "{length}");
    }
    for (algorithm, hash) in
        [(Algorithm::Rs256, "sha256"), (Algorithm::Rs384, "sha384"), (Algorithm::Rs512, "sha512")]
    {
        let message = SignatureCheck { algorithm, ..check }.message().unwrap().unwrap();
        assert_eq!(message.get(2..8), Some(hash.as_bytes()));
    }
    let check = SignatureCheck { algorithm: Algorithm::Es384, signature: &[1; 96], ..check };
    assert_eq!(check.message().unwrap().unwrap().get(2..8), Some(&b"sha384"[..]));
    let check = SignatureCheck { algorithm: Algorithm::Es512, signature: &[1; 132], ..check };
    assert_eq!(check.message().unwrap().unwrap().get(2..8), Some(&b"sha512"[..]));
}

#[test]
fn the_proxy_is_never_asked_about_pss() {
    let key = PublicKey::rsa(&[0xff; 256], &[1, 0, 1]);
    for algorithm in [Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512] {
        let check = SignatureCheck { algorithm, key: &key, text: b"x", signature: &[1; 256] };
        assert_eq!(check.message(), Err(HostError::NotFound));
    }
}

#[test]
fn only_a_true_result_is_a_yes() {
    let error = |length: u8| [&[0x12, length][..], &vec![b'e'; usize::from(length)]].concat();
    for (result, expected) in [
        (vec![0x08, 1], Ok(true)),
        (vec![0x08, 0], Ok(false)),
        (vec![], Ok(false)),
        (error(5), Ok(false)),
        ([vec![0x08, 0], error(127)].concat(), Ok(false)),
        ([vec![0x08, 1], error(0)].concat(), Ok(true)),
        ([&[0x12, 0x80, 1][..], &[b'e'; 128]].concat(), Ok(false)),
    ] {
        assert_eq!(verdict(&result), expected, "{result:?}");
    }
    for wrong in
        [&[0x08][..], &[0x08, 2], &[0x08, 0x81, 0x00], &[0x09, 1], &[0x12, 4, 1], &[1], &[0x08, 1, 7]]
    {
        assert!(verdict(wrong).is_err(), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn no_result_traps_and_none_says_yes_without_saying_it(result in proptest::collection::vec(any::<u8>(), 0..40)) {
        if verdict(&result) == Ok(true) {
            prop_assert!(result.windows(2).any(|pair| pair == [0x08, 1]));
        }
    }

    #[test]
    fn no_signature_or_key_traps(
        signature in proptest::collection::vec(any::<u8>(), 0..120),
        x in proptest::collection::vec(any::<u8>(), 0..60),
        y in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let keys = [PublicKey::rsa(&x, &y), PublicKey::ec(Curve::P256, &x, &y)];
        for (key, algorithm) in keys.iter().flat_map(|key| [(key, Algorithm::Rs256), (key, Algorithm::Es256), (key, Algorithm::Es384)]) {
            let check = SignatureCheck { algorithm, key, text: b"text", signature: &signature };
            let _ = check.message();
            #[cfg(feature = "fallback")]
            prop_assert!(!software::verify(&check));
        }
    }
}
