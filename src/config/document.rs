//! The whole document as specs: what a clean tree becomes before the stages compile it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::audit::spec::AuditSpec;
use crate::config::values::{DurationText, SizeText};
use crate::identity::spec::{AuthenticationSpec, BindingSpec, ConsumerSpec, EnvKeySpec};
use crate::limits::spec::{LimitSpec, ServiceSpec};
use crate::policy::spec::{AuthorizationSpec, ProfileCombiningSpec};
use crate::resource::spec::{MatchSpec, ResourcesSpec};

/// One configuration document, version 1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Always 1.
    pub version: u32,
    /// Prefixes shared data, chains and metrics: `[a-z0-9_-]`, 1 to 32.
    pub name: String,
    /// What the audit trail says of this document when it takes effect.
    pub revision: Option<RevisionSpec>,
    /// `environment.*`.
    #[serde(default)]
    pub environment: BTreeMap<String, Json>,
    /// Configured callers.
    #[serde(default)]
    pub consumers: Vec<ConsumerSpec>,
    /// Roles, tier and attributes for callers by pattern.
    #[serde(default)]
    pub bindings: Vec<BindingSpec>,
    /// Who is calling.
    #[serde(default)]
    pub authentication: AuthenticationSpec,
    /// For what.
    pub resources: ResourcesSpec,
    /// Whether they may.
    pub authorization: AuthorizationSpec,
    /// How often.
    #[serde(default)]
    pub limits: Vec<LimitSpec>,
    /// Whom limits with `scope: global` are asked of.
    pub rate_limit_service: Option<ServiceSpec>,
    /// What is kept of it.
    pub audit: AuditSpec,
    /// Keys of values in shared data.
    #[serde(default)]
    pub shared_data: SharedDataSpec,
    /// Choices of the answers.
    #[serde(default)]
    pub responses: ResponsesSpec,
    /// Every limit with a name.
    #[serde(default)]
    pub bounds: BoundsSpec,
    /// Per-route configuration; absent means one `default`.
    pub profiles: Option<BTreeMap<String, ProfileSpec>>,
    /// `<virtual host>/<route name>` to profile; a trailing `*` is a prefix.
    #[serde(default)]
    pub routes: BTreeMap<String, String>,
}

/// `revision`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevisionSpec {
    /// For instance a commit.
    pub id: Option<String>,
    /// For instance a change request.
    pub change: Option<String>,
    /// Who approved it.
    #[serde(default)]
    pub approved_by: Vec<String>,
}

/// `shared_data`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedDataSpec {
    /// First is used, all are accepted.
    #[serde(default)]
    pub keys: Vec<EnvKeySpec>,
}

/// `responses`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponsesSpec {
    /// 401, or 403 for services whose callers expect that.
    #[serde(default = "ResponsesSpec::default_invalid_credential_status")]
    pub invalid_credential_status: u16,
}

/// `bounds`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoundsSpec {
    /// All header names and values of a request.
    pub header_bytes: SizeText,
    /// A body that is held for its model.
    pub body_held: SizeText,
    /// Requests that wait, per worker.
    pub waiting: u32,
    /// How long one waits.
    pub wait: DurationText,
    /// Nesting of a body that is read.
    pub json_depth: u32,
    /// Slots of limits by principal.
    pub principal_slots: u32,
    /// Slots of limits by source.
    pub source_slots: u32,
    /// Attempts of one charge.
    pub cas_retries: u32,
    /// Bytes of events that wait in one worker.
    pub audit_queue: SizeText,
    /// Different series of metrics.
    pub metric_series: u32,
    /// A token.
    pub token_bytes: SizeText,
    /// Verified tokens that one worker remembers.
    pub verified_tokens: u32,
    /// Decisions that one worker remembers.
    pub decisions: u32,
    /// A document of keys that an issuer publishes.
    pub jwks_bytes: SizeText,
    /// Keys of one issuer.
    pub jwks_keys: u32,
}

/// One profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileSpec {
    /// `none`, or an object of [`AuthenticateSpec`]'s fields.
    pub authenticate: Option<Json>,
    /// `none`; absent means that policies decide.
    pub authorize: Option<String>,
    /// `none`, or names of limits; absent means all.
    pub limits: Option<Json>,
    /// `none`, or names of policies and `role:<role>`, a trailing `*` is a prefix; absent means all.
    pub policies: Option<Json>,
    /// How they combine; absent means as `authorization.combining` says.
    pub combining: Option<ProfileCombiningSpec>,
    /// What a request must also look like where nobody is authenticated.
    #[serde(rename = "match")]
    pub matches: Option<MatchSpec>,
    /// Which decisions are recorded.
    #[serde(default)]
    pub audit: ProfileAuditSpec,
}

/// `authenticate` in its long form.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthenticateSpec {
    /// The first credential presented, in this order.
    pub any: Option<Vec<String>>,
    /// All of these credentials, instead.
    pub all: Option<Vec<String>>,
    /// Whose identity decides, of `all`.
    pub principal: Option<String>,
}

/// `audit` of a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileAuditSpec {
    /// Every decision.
    #[default]
    All,
    /// Only refusals.
    Denials,
}

impl ProfileSpec {
    /// The profile of a document that has no `profiles`: every configured method, every policy, every limit.
    pub const fn accepting_all() -> Self {
        Self {
            authenticate: None,
            authorize: None,
            limits: None,
            policies: None,
            combining: None,
            matches: None,
            audit: ProfileAuditSpec::All,
        }
    }
}

impl ResponsesSpec {
    const fn default_invalid_credential_status() -> u16 {
        401
    }
}

impl Default for ResponsesSpec {
    fn default() -> Self {
        Self { invalid_credential_status: Self::default_invalid_credential_status() }
    }
}

impl Default for BoundsSpec {
    fn default() -> Self {
        Self {
            header_bytes: SizeText(64 << 10),
            body_held: SizeText(1 << 20),
            waiting: 100,
            wait: DurationText(std::time::Duration::from_secs(5)),
            json_depth: 64,
            principal_slots: 65_536,
            source_slots: 16_384,
            cas_retries: 8,
            audit_queue: SizeText(16 << 20),
            metric_series: 500,
            token_bytes: SizeText(16 << 10),
            verified_tokens: 4096,
            decisions: 4096,
            jwks_bytes: SizeText(256 << 10),
            jwks_keys: 100,
        }
    }
}
