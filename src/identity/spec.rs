//! The words of `consumers` and `authentication`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::config::values::{DurationText, TimestampText};
use crate::identity::jwks::Algorithm;
use crate::identity::jwt::token::TokenType;
use crate::identity::keyring::spec::{DiscoverySpec, RemoteJwksSpec};

pub use failures::FailuresSpec;

mod failures;

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
    /// Certificates.
    #[serde(default)]
    pub mtls: Vec<CertificateSpec>,
    /// Subjects of tokens.
    #[serde(default)]
    pub jwt: Vec<SubjectSpec>,
}

/// How a certificate is known: exactly one of these.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateSpec {
    /// One of its URI SANs, whole.
    pub uri_san: Option<String>,
    /// One of its DNS SANs, in any case.
    pub dns_san: Option<String>,
    /// Its subject, as RFC 2253 writes it.
    pub subject: Option<String>,
    /// The only common name of its subject.
    pub common_name: Option<String>,
}

/// A subject that an issuer knows the consumer by.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectSpec {
    /// One of `authentication.jwt.providers`.
    pub provider: String,
    /// As the provider's `claims.subject` reads it.
    pub subject: String,
}

// === impl RevocationSpec ===

impl RevocationSpec {
    /// The list beside these words, as far as it is written.
    pub fn polled(&self) -> Option<PolledSpec> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let is_written = self.cluster.is_some() || self.uri.is_some();
        is_written.then(|| PolledSpec {
            cluster: text(&self.cluster),
            uri: text(&self.uri),
            interval: self.interval,
            timeout: self.timeout,
            max_stale: self.max_stale,
        })
    }
}

// === impl CredentialsSpec ===

impl CredentialsSpec {
    /// Whether there is nothing that the caller could present.
    pub const fn is_empty(&self) -> bool {
        // taken apart, so that no kind is forgotten
        let Self { api_keys, mtls, jwt } = self;
        api_keys.is_empty() && mtls.is_empty() && jwt.is_empty()
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
    /// Whose tokens are believed.
    #[serde(default)]
    pub jwt: JwtSpec,
    /// Who is asked about opaque tokens.
    #[serde(default)]
    pub introspection: Vec<IntrospectionSpec>,
    /// Which certificates are believed; absent: none.
    pub mtls: Option<MtlsSpec>,
    /// What was taken back.
    #[serde(default)]
    pub revocation: RevocationSpec,
    /// Where more consumers are listed.
    pub credentials_list: Option<PolledSpec>,
    /// What becomes of sources of wrong credentials; absent: nothing.
    pub failures: Option<FailuresSpec>,
}

/// `authentication.mtls`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MtlsSpec {
    /// SPIFFE IDs of these are callers; where any is written, those of others never are.
    pub trust_domains: Vec<String>,
    /// Who says that a certificate is valid.
    pub peer_validation: PeerValidation,
    /// Whose word on their callers' certificates is taken.
    pub trusted_hops: Vec<CertificateSpec>,
}

/// Who says that a certificate is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerValidation {
    /// The proxy, connection by connection (`connection.peer_certificate_valid`, Envoy 1.39 and newer).
    #[default]
    Attribute,
    /// The operator: the listener lets no other certificate in.
    Listener,
}

/// One of `bindings`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindingSpec {
    /// Patterns on the caller's attributes, all of which must match.
    pub principal: BTreeMap<String, Json>,
    /// Names of `authorization.roles`.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Which rates of a limit apply.
    pub tier: Option<String>,
    /// More attributes; `{x}` is what was captured.
    #[serde(default)]
    pub attributes: BTreeMap<String, Json>,
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
    /// SPIFFE IDs of certificates, whoever they belong to.
    #[serde(default)]
    pub spiffe_ids: Vec<String>,
    /// Tokens.
    #[serde(default)]
    pub tokens: Vec<RevokedTokenSpec>,
    /// See [`PolledSpec::cluster`]; absent: there is no list but this.
    pub cluster: Option<String>,
    /// See [`PolledSpec::uri`].
    pub uri: Option<String>,
    /// See [`PolledSpec::interval`].
    pub interval: Option<DurationText>,
    /// See [`PolledSpec::timeout`].
    pub timeout: Option<DurationText>,
    /// See [`PolledSpec::max_stale`].
    pub max_stale: Option<DurationText>,
}

/// A list that is polled.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolledSpec {
    /// Envoy's cluster that serves it.
    pub cluster: String,
    /// Its whole URI.
    pub uri: String,
    /// From one look to the next.
    pub interval: Option<DurationText>,
    /// How long one look may take.
    pub timeout: Option<DurationText>,
    /// For how long the last answer is believed.
    pub max_stale: Option<DurationText>,
}

/// One token: its id is unique for its issuer only.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedTokenSpec {
    /// `iss`.
    pub issuer: String,
    /// `jti`.
    pub jti: String,
}

/// `authentication.jwt`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSpec {
    /// Trusted issuers.
    pub providers: Vec<ProviderSpec>,
    /// Who checks RSA and ECDSA signatures.
    #[serde(default)]
    pub signatures: SignaturesSpec,
}

/// `authentication.jwt.signatures`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignaturesSpec {
    /// The proxy; where it cannot, nobody.
    #[default]
    Host,
    /// The proxy; where it cannot, the filter itself, which takes a millisecond and more.
    HostOrWasm,
}

/// One issuer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSpec {
    /// Part of its callers' ids; no colon.
    pub name: String,
    /// `iss`, exactly.
    pub issuer: String,
    /// One of them must be in `aud`.
    pub audiences: Vec<String>,
    /// What its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// What its tokens may be.
    #[serde(default = "ProviderSpec::default_token_types")]
    pub token_types: Vec<TokenType>,
    /// Its public keys.
    pub local_jwks: Option<JwksSpec>,
    /// Where it publishes them.
    pub remote_jwks: Option<RemoteJwksSpec>,
    /// Where it says where it publishes them.
    pub discovery: Option<DiscoverySpec>,
    /// Secrets that it shares with us, for HS256, HS384 and HS512.
    #[serde(default)]
    pub hmac_secrets: Vec<EnvKeySpec>,
    /// How far its clock and ours may differ.
    #[serde(default = "ProviderSpec::default_clock_skew")]
    pub clock_skew: DurationText,
    /// Actions by scope; absent means that scopes limit nothing.
    pub scopes: Option<BTreeMap<String, Vec<String>>>,
    /// Longest time from `iat` to `exp`.
    pub max_lifetime: Option<DurationText>,
    /// Where a token says what.
    #[serde(default)]
    pub claims: ClaimsSpec,
    /// Whether the token stays on the request to the upstream.
    #[serde(default)]
    pub forward: bool,
}

/// One endpoint that says what opaque tokens are worth (RFC 7662).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionSpec {
    /// Part of its callers' ids; no colon.
    pub name: String,
    /// `iss`, exactly, where an answer has one.
    pub issuer: Option<String>,
    /// Envoy's cluster.
    pub cluster: String,
    /// Where it is asked.
    pub uri: String,
    /// Who the gate is to it.
    pub client_id: String,
    /// The variable that holds the gate's secret.
    pub client_secret_env: String,
    /// How long an answer may take.
    #[serde(default = "IntrospectionSpec::default_timeout")]
    pub timeout: DurationText,
    /// How long an answer is believed.
    #[serde(default = "IntrospectionSpec::default_cache_duration")]
    pub cache_duration: DurationText,
    /// How far its clock and ours may differ.
    #[serde(default = "ProviderSpec::default_clock_skew")]
    pub clock_skew: DurationText,
    /// One of them must be in `aud`; empty: any.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Actions by scope; absent means that scopes limit nothing.
    pub scopes: Option<BTreeMap<String, Vec<String>>>,
    /// Where an answer says what.
    #[serde(default)]
    pub claims: ClaimsSpec,
    /// Whether the token stays on the request to the upstream.
    #[serde(default)]
    pub forward: bool,
}

/// A JWK Set (RFC 7517 §5).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwksSpec {
    /// The keys.
    pub keys: Vec<Json>,
}

/// `claims` of a provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimsSpec {
    /// The caller's name.
    pub subject: ClaimPath,
    /// A text or a list of them.
    pub roles: Option<ClaimPath>,
    /// A text of words, or a list of them.
    pub scopes: ClaimPath,
    /// A text.
    pub tier: Option<ClaimPath>,
    /// Any attribute of a principal.
    pub attributes: BTreeMap<String, ClaimPath>,
}

/// Names from the outermost claim inwards. A plain text is one name, dots and all, since claims are called
/// `https://acme.example/roles` too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "ClaimPathForm")]
pub struct ClaimPath(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum ClaimPathForm {
    Name(String),
    Path(Vec<String>),
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

impl ProviderSpec {
    const fn default_clock_skew() -> DurationText {
        DurationText(std::time::Duration::from_secs(60))
    }

    fn default_token_types() -> Vec<TokenType> {
        vec![TokenType::AccessToken, TokenType::Jwt]
    }
}

impl IntrospectionSpec {
    const fn default_timeout() -> DurationText {
        DurationText(std::time::Duration::from_secs(1))
    }

    const fn default_cache_duration() -> DurationText {
        DurationText(std::time::Duration::from_secs(30))
    }
}

impl ClaimPath {
    /// How errors name it.
    pub fn name(&self) -> String {
        self.0.join(".")
    }
}

impl From<ClaimPathForm> for ClaimPath {
    fn from(form: ClaimPathForm) -> Self {
        match form {
            ClaimPathForm::Name(name) => Self(vec![name]),
            ClaimPathForm::Path(path) => Self(path),
        }
    }
}

impl Default for ClaimsSpec {
    fn default() -> Self {
        let named = |name: &str| ClaimPath(vec![name.to_owned()]);
        Self {
            subject: named("sub"),
            roles: None,
            scopes: named("scope"),
            tier: None,
            attributes: BTreeMap::new(),
        }
    }
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
