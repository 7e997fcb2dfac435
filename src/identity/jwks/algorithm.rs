//! `alg` becomes an [`Algorithm`], or none of ours (RFC 7518 §3.1, RFC 8037 §3.1).

use crate::host::signature;

/// Algorithms of signatures that are built. `none` is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// Ed25519.
    EdDSA,
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

// === impl Algorithm ===

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 13] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
        Self::HS256,
        Self::HS384,
        Self::HS512,
    ];

    /// Reads an `alg`; `None` for `none` and whatever else is not ours. Case counts (RFC 7515 §4.1.1).
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text)
    }

    /// As in `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
        }
    }

    /// Whether the host is asked, or software in its place; `None` where the filter verifies itself.
    pub const fn of_host(self) -> Option<signature::Algorithm> {
        match self {
            Self::RS256 => Some(signature::Algorithm::Rs256),
            Self::RS384 => Some(signature::Algorithm::Rs384),
            Self::RS512 => Some(signature::Algorithm::Rs512),
            Self::PS256 => Some(signature::Algorithm::Ps256),
            Self::PS384 => Some(signature::Algorithm::Ps384),
            Self::PS512 => Some(signature::Algorithm::Ps512),
            Self::ES256 => Some(signature::Algorithm::Es256),
            Self::ES384 => Some(signature::Algorithm::Es384),
            Self::ES512 => Some(signature::Algorithm::Es512),
            Self::EdDSA | Self::HS256 | Self::HS384 | Self::HS512 => None,
        }
    }

    /// Whether it is RSASSA-PSS, which Envoy cannot verify.
    pub const fn is_pss(self) -> bool {
        matches!(self, Self::PS256 | Self::PS384 | Self::PS512)
    }

    /// The shortest secret, in bytes: as long as the hash (RFC 7518 §3.2). `None` for what has public keys.
    pub const fn min_secret(self) -> Option<usize> {
        match self {
            Self::HS256 => Some(32),
            Self::HS384 => Some(48),
            Self::HS512 => Some(64),
            _ => None,
        }
    }
}
