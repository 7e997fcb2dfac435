//! The words of `consumers` and `authentication`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::config::values::TimestampText;

/// One configured caller.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerSpec {
    /// The principal's id; no colon.
    pub name: String,
    /// `org`, `team`, …: text, whole number, boolean or a list of text.
    #[serde(default)]
    pub attributes: BTreeMap<String, Json>,
    /// Names of `authorization.roles`.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Which rates of a limit apply.
    pub tier: Option<String>,
    /// What the caller may present.
    #[serde(default)]
    pub credentials: CredentialsSpec,
}

/// The credentials of a consumer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsSpec {
    /// Keys, by digest.
    #[serde(default)]
    pub api_keys: Vec<ApiKeySpec>,
}

// === impl CredentialsSpec ===

impl CredentialsSpec {
    /// Whether there is nothing that the caller could present.
    pub const fn is_empty(&self) -> bool {
        // taken apart, so that no kind is forgotten
        let Self { api_keys } = self;
        api_keys.is_empty()
    }
}

/// One API key, of which only the digest is known.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeySpec {
    /// The public part: 8 of `[0-9a-z]`.
    pub id: String,
    /// `sha256:<64 hex>` or `hmac-sha256:<pepper id>:<64 hex>`, over the whole key.
    pub digest: String,
    /// Not valid before.
    pub not_before: Option<TimestampText>,
    /// Not valid from then on.
    pub not_after: Option<TimestampText>,
    /// Models it may be used for; a trailing `*` is a prefix.
    pub models: Option<Vec<String>>,
    /// Actions it may be used for.
    pub actions: Option<Vec<String>>,
    /// Addresses it may be used from, as CIDR.
    pub source_ranges: Option<Vec<String>>,
}

/// `authentication`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthenticationSpec {
    /// Whose address a request comes from.
    #[serde(default)]
    pub source: SourceSpec,
    /// Where keys are read.
    #[serde(default)]
    pub api_key: ApiKeyAuthSpec,
    /// What was taken back.
    #[serde(default)]
    pub revocation: RevocationSpec,
}

/// `authentication.revocation`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationSpec {
    /// Public parts of keys.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Ids of principals, whatever they show.
    #[serde(default)]
    pub principals: Vec<String>,
    /// Tokens.
    #[serde(default)]
    pub tokens: Vec<RevokedTokenSpec>,
}

/// One token: its id is unique for its issuer only.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedTokenSpec {
    /// `iss`.
    pub issuer: String,
    /// `jti`.
    pub jti: String,
}

/// `authentication.source`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// `peer` or `xff`.
    #[serde(default)]
    pub trust: SourceTrust,
}

/// Which address counts as the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceTrust {
    /// The connection's; an address with port 0 came from a header and counts as absent.
    #[default]
    Peer,
    /// What Envoy made of `x-forwarded-for`.
    Xff,
}

/// `authentication.api_key`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyAuthSpec {
    /// Where to look.
    #[serde(default)]
    pub extract_from: ExtractFromSpec,
    /// Keys of `hmac-sha256` digests.
    #[serde(default)]
    pub peppers: Vec<EnvKeySpec>,
    /// Whether the credential stays on the request to the upstream.
    #[serde(default)]
    pub forward: bool,
}

/// `extract_from`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtractFromSpec {
    /// Header names, lower case.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Query parameters.
    #[serde(default)]
    pub params: Vec<String>,
    /// Cookies.
    #[serde(default)]
    pub cookies: Vec<String>,
}

/// A secret that the environment holds under a name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvKeySpec {
    /// How digests and events name it.
    pub id: String,
    /// The variable's name; a missing or empty one is a fault.
    pub env: String,
}

impl Default for ExtractFromSpec {
    fn default() -> Self {
        Self {
            headers: vec![String::from("x-api-key"), String::from("authorization")],
            params: Vec::new(),
            cookies: Vec::new(),
        }
    }
}
