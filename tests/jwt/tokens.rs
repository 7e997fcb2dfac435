//! Tokens for tests, signed when they are needed, with keys that are published as examples.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a token that cannot be made should stop the test"
)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value as Json, json};

/// A key pair, and the id by which tokens name it.
#[derive(Clone)]
pub(crate) struct Pair {
    /// The public half, as an issuer publishes it.
    pub(crate) jwk: Json,
    key: EncodingKey,
}

/// What HS256 tokens of these tests are signed with.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// RFC 7515 appendix A.2.
const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4\
    d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-\
    KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGN\
    j8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

/// The same key with its private half, as PKCS #1.
const RSA_DER: &str = "\
MIIEowIBAAKCAQEAofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEzP1Pt0Bm4d4\
    QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS\
    +UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxXFvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs\
    91kzk2PAcDTW9gb54h4FRWyuXpoQIDAQABAoIBABKucaRpzQorw35SbEUAVx8dYXUdZOlJcHtiWQ+dC6V8ljxAHj/PLyzTveyI5QO/xkObCyjI\
    L303l2cfUhPu2MFaJdjVzqACXuOrLot/eSFvxjvqVidTtAZExqFRJ9mylUVAoLvhowVWmC1On95fZCXxTUtxNEG1Xcc7m0rtzJKs45J+N/V9DP\
    1edYH6USyPSWGp6wuA+KgHRnKKVf9GRx80JQY7nVNkL17eHoTWEwga+lwi0FEoW9Y7lDtWXYmKBWhUE+U8PGxlJf8f40493HDw1WRQ/aSLoS4Q\
    Tp3rn7gYgeHEvfJdkkf0UMhlknlo53M09EFPdadQ4TlUbjqKc50CgYEA4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH/5IB3jw3bcxGn6QLvnEtf\
    dUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw/Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn+nXqhJTBgIPgtldC+KDV5z+y\
    2XDwGUcCgYEAuQPEfgmVtjL0Uyyx88GZFF1fOunH3+7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD/YwD6\
    6t62wDmpe/HlB+TnBA+njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdcCgYAHAp9XcCSrn8wVkMVkKdb7DOX4IKjzdahm\
    +ctDAJN4O/y7OW5FKebvUjdAIt2GuoTZ71iTG+7F0F+lP88jtjP4U4qe7VHoewl4MKOfXZKTe+YCS1XbNvfgwJ3Ltyl1OH9hWvu2yza7q+d5PC\
    sDzqtm27kxuvULVeya+TEdAB1ijQKBgQCH/3r6YrVH/uCWGy6bzV1nGNOdjKc9tmkfOJmN54dxdixdpozCQ6U4OxZrsj3FcOhHBsqAHvX2uuYj\
    agqvo3cOj1TRqNocX40omfCCMx3bD1yPPf/6TI2XECva/ggqEY2mYzmIiA5LVVmc5nrybr+lssFKneeyxN2Wq93S0iJMdQKBgCGHewxzoa1r8Z\
    MD0LETNrToK423K377UCYqXfg5XMclbrjPbEC3YI1ZNqMtuhdBJqUnBi6tjKMF+34Xf0CUN8ncuXGO2CAYvO8PdyCixHX52ybaDjy1FtCE6yUX\
    joKNXKvUm7MWGsAYH6f4IegOetN5NvmUMFStCSkh7ixZLkN1";

/// What stands before the scalar in PKCS #8 (RFC 5958), for keys without their public half.
const P256_PREFIX: &str = "MEECAQAwEwYHKoZIzj0CAQYIKoZIzj0DAQcEJzAlAgEBBCA";
const P384_PREFIX: &str = "ME4CAQAwEAYHKoZIzj0CAQYFK4EEACIENzA1AgEBBDA";
const ED25519_PREFIX: &str = "MC4CAQAwBQYDK2VwBCIEIA";

/// The key of RFC 7515 appendix A.2.
pub(crate) fn rsa() -> Pair {
    Pair {
        jwk: json!({ "kty": "RSA", "kid": "rsa", "n": RSA_N, "e": "AQAB" }),
        key: EncodingKey::from_rsa_der(&STANDARD.decode(RSA_DER).unwrap()),
    }
}

/// The key of RFC 7515 appendix A.3.
pub(crate) fn p256() -> Pair {
    Pair {
        jwk: json!({
            "kty": "EC", "crv": "P-256", "kid": "p256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }),
        key: EncodingKey::from_ec_der(&pkcs8(P256_PREFIX, "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")),
    }
}

/// A key whose scalar is half of the SHA-384 of `mlgate test key`.
pub(crate) fn p384() -> Pair {
    let scalar = "S38NgLVS1I6C0_R9p51GmT9yA0CLgzZWTsAyYSV1i8VbMQsStGemRW3Q8ucKmg5D";
    Pair {
        jwk: json!({
            "kty": "EC", "crv": "P-384", "kid": "p384",
            "x": "EET8C-AlouxU30cD2Dh2QDBgMg_seTFt_hOfyoe-WUO_HkQ4Yyo8frgnqs0Jo3R_",
            "y": "fNFSHjqFFzbZ_rXTNMHLoW8C4CAAL_yfB9CFdi61e6VMeQi4ixnR5H0I0Kn7dV01",
        }),
        key: EncodingKey::from_ec_der(&pkcs8(P384_PREFIX, scalar)),
    }
}

/// The key of RFC 8037 appendix A.1.
pub(crate) fn ed25519() -> Pair {
    Pair {
        jwk: json!({
            "kty": "OKP", "crv": "Ed25519", "kid": "ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        }),
        key: EncodingKey::from_ed_der(&pkcs8(ED25519_PREFIX, "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")),
    }
}

/// [`SECRET`], which has no public half.
pub(crate) fn shared() -> Pair {
    Pair { jwk: json!({ "kid": "shared" }), key: EncodingKey::from_secret(SECRET.as_bytes()) }
}

/// A shared secret that an attacker makes of a public key (RFC 8725 §2.1).
pub(crate) fn confused(bytes: &[u8]) -> Pair {
    Pair { jwk: json!({ "kid": "rsa" }), key: EncodingKey::from_secret(bytes) }
}

impl Pair {
    /// A token as issuers make them.
    pub(crate) fn token(&self, algorithm: Algorithm, claims: &Json) -> String {
        let header = json!({ "alg": format!("{algorithm:?}"), "typ": "at+jwt", "kid": self.jwk["kid"] });
        self.sign(algorithm, &header.to_string(), &claims.to_string())
    }

    /// A token with any header and any claims, even such as are no JSON.
    pub(crate) fn sign(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(text.as_bytes(), &self.key, algorithm).unwrap();
        format!("{text}.{signature}")
    }
}

fn pkcs8(prefix: &str, scalar: &str) -> Vec<u8> {
    let mut der = URL_SAFE_NO_PAD.decode(prefix).unwrap();
    der.extend(URL_SAFE_NO_PAD.decode(scalar).unwrap());
    der
}
