//! One table from reason to answer: what the caller reads, and what only the audit event holds.

use std::time::Duration;

use crate::identity::AuthenticationError;
use crate::resource::scan::BodyError;

/// Why a request was refused: the inner word, as audit events and metrics carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The path has more than one reading.
    PathAmbiguous,
    /// A header block that cannot be trusted.
    HeadInvalid,
    /// A body that names no model, two, or one that is not text.
    BodyAmbiguous,
    /// No credential.
    CredentialMissing,
    /// A wrong credential.
    CredentialInvalid,
    /// A credential past its end.
    CredentialExpired,
    /// A credential taken back.
    CredentialRevoked,
    /// A deny policy matched.
    ExplicitDeny,
    /// No allow policy matched.
    NoMatch,
    /// A deny policy could not be evaluated.
    PolicyError,
    /// Nothing of the caller's roles names the action.
    Role,
    /// Outside what the credential is limited to.
    Scope,
    /// No rule names it, or it is not in the catalogue.
    ResourceUnknown,
    /// The route names a profile that does not exist.
    ProfileUnknown,
    /// The stream's direction is not the filter's.
    DirectionRefused,
    /// More body than may be held.
    BodyTooLarge,
    /// A body in an encoding that cannot be read where a model is needed.
    BodyUnreadable,
    /// Over a limit.
    RateLimited,
    /// Too many wrong credentials came from the same source.
    Blocked,
    /// Nobody could check the signature of a token, or its issuer's keys are not there.
    KeysUnavailable,
    /// A list that may know the key could not be had in time.
    CredentialsUnavailable,
    /// Nobody could say whether the credential was taken back.
    RevocationUnavailable,
    /// The issuer of an opaque token could not be asked.
    IntrospectionUnavailable,
    /// Nobody could say whether the limit is kept.
    LimiterUnavailable,
    /// The audit queue is full and the configuration prefers refusing to forgetting.
    AuditUnavailable,
    /// Too many requests wait already.
    Overloaded,
    /// The body did not come in time.
    BodyTimeout,
}

/// What goes to the caller for one [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The word the caller reads.
    pub public: &'static str,
    /// The word in audit events and metrics.
    pub inner: &'static str,
    /// HTTP status.
    pub status: u16,
    /// gRPC status.
    pub grpc_status: u8,
    /// Title of the problem document (RFC 9457 §3.1.3).
    pub title: &'static str,
}

/// A refusal: its reason, and when to come back where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The inner reason.
    pub reason: Reason,
    /// After how long the same request would be admitted.
    pub retry_after: Option<Duration>,
}

// === impl Reason ===

impl Reason {
    /// Every reason, in the order of the table of the reference.
    pub const ALL: [Self; 27] = [
        Self::PathAmbiguous,
        Self::HeadInvalid,
        Self::BodyAmbiguous,
        Self::CredentialMissing,
        Self::CredentialInvalid,
        Self::CredentialExpired,
        Self::CredentialRevoked,
        Self::ExplicitDeny,
        Self::NoMatch,
        Self::PolicyError,
        Self::Role,
        Self::Scope,
        Self::ResourceUnknown,
        Self::ProfileUnknown,
        Self::DirectionRefused,
        Self::BodyTooLarge,
        Self::BodyUnreadable,
        Self::RateLimited,
        Self::Blocked,
        Self::KeysUnavailable,
        Self::CredentialsUnavailable,
        Self::RevocationUnavailable,
        Self::IntrospectionUnavailable,
        Self::LimiterUnavailable,
        Self::AuditUnavailable,
        Self::Overloaded,
        Self::BodyTimeout,
    ];

    /// The row of the table.
    pub const fn answer(self) -> Answer {
        const fn row(
            public: &'static str,
            inner: &'static str,
            status: u16,
            grpc: u8,
            title: &'static str,
        ) -> Answer {
            Answer { public, inner, status, grpc_status: grpc, title }
        }
        const fn same(word: &'static str, status: u16, grpc: u8, title: &'static str) -> Answer {
            row(word, word, status, grpc, title)
        }
        const fn denied(inner: &'static str) -> Answer {
            row("access_denied", inner, 403, 7, "This caller may not do this")
        }
        match self {
            Self::PathAmbiguous => same("path_ambiguous", 400, 3, "The path has more than one reading"),
            Self::HeadInvalid => same("head_invalid", 400, 3, "The request head is not acceptable"),
            Self::BodyAmbiguous => same("body_ambiguous", 400, 3, "The body does not name exactly one model"),
            Self::CredentialMissing => same("credential_missing", 401, 16, "A credential is needed"),
            Self::CredentialInvalid => same("credential_invalid", 401, 16, "The credential is not valid"),
            Self::CredentialExpired => same("credential_expired", 401, 16, "The credential has expired"),
            Self::CredentialRevoked => same("credential_revoked", 401, 16, "The credential was revoked"),
            Self::ExplicitDeny => denied("explicit_deny"),
            Self::NoMatch => denied("no_match"),
            Self::PolicyError => denied("policy_error"),
            Self::Role => denied("role"),
            Self::Scope => denied("scope"),
            Self::ResourceUnknown => denied("resource_unknown"),
            Self::ProfileUnknown => denied("profile_unknown"),
            Self::DirectionRefused => denied("direction_refused"),
            Self::BodyTooLarge => same("body_too_large", 413, 8, "The body is larger than may be read"),
            Self::BodyUnreadable => same("body_unreadable", 415, 3, "The body's encoding cannot be read"),
            Self::RateLimited => same("rate_limited", 429, 8, "Over the rate limit"),
            Self::Blocked => same("blocked", 429, 8, "Too many wrong credentials came from this address"),
            Self::KeysUnavailable => same("keys_unavailable", 503, 14, "The token could not be checked"),
            Self::CredentialsUnavailable => {
                same("credentials_unavailable", 503, 14, "The key could not be checked")
            }
            Self::RevocationUnavailable => {
                same("revocation_unavailable", 503, 14, "It could not be checked what was revoked")
            }
            Self::IntrospectionUnavailable => {
                same("introspection_unavailable", 503, 14, "The token's issuer could not be asked")
            }
            Self::LimiterUnavailable => {
                same("limiter_unavailable", 503, 14, "The limit could not be checked")
            }
            Self::AuditUnavailable => same("audit_unavailable", 503, 14, "The call could not be recorded"),
            Self::Overloaded => same("overloaded", 503, 14, "Too many requests are waiting"),
            Self::BodyTimeout => same("body_timeout", 408, 4, "The body did not arrive in time"),
        }
    }
}

// === impl Refusal ===

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, retry_after: None }
    }
}

impl From<AuthenticationError> for Refusal {
    fn from(error: AuthenticationError) -> Self {
        let retry_after = match error {
            AuthenticationError::Blocked(left) => Some(left),
            AuthenticationError::KeysUnavailable(wait) => Some(wait.max(Duration::from_secs(1))),
            _ => None,
        };
        let reason = match error {
            AuthenticationError::Blocked(_) => Reason::Blocked,
            AuthenticationError::Missing => Reason::CredentialMissing,
            AuthenticationError::Invalid => Reason::CredentialInvalid,
            AuthenticationError::Expired => Reason::CredentialExpired,
            AuthenticationError::Revoked => Reason::CredentialRevoked,
            AuthenticationError::Unavailable | AuthenticationError::KeysUnavailable(_) => {
                Reason::KeysUnavailable
            }
            AuthenticationError::CredentialsUnavailable => Reason::CredentialsUnavailable,
            AuthenticationError::IntrospectionUnavailable => Reason::IntrospectionUnavailable,
        };
        Self { reason, retry_after }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Reason::from(error).into()
    }
}
