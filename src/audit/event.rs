//! An outcome becomes one canonical JSON object; what is absent is left out.
//!
//! An event is written once, when it happens, as a [`Draft`]. Its number, the hash of the event before it and its
//! MAC are put in when it leaves the queue ([`crate::audit::chain`]): a draft that is lost leaves no hole.

use std::collections::BTreeMap;

use crate::audit::canonical::{Canonical, by_code_units};
use crate::policy::attributes::{AttributeMap, Category, Value};
use crate::time::UnixTime;

/// Version of the event's form, `v`.
pub const VERSION: u64 = 1;

/// Bytes of one event, sealed; larger ones lose their lists and attributes and say so in `degraded`.
pub const MAX_EVENT_BYTES: usize = 64 << 10;

/// One thing that happened. Every kind has a time; the rest of the common members comes with the seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditEvent {
    /// A decision and its outcome.
    Access(Box<AccessEvent>),
    /// A chain ends in an orderly way.
    Close(UnixTime),
    /// A configuration took effect.
    Config(ConfigEvent),
    /// Events are missing here, and this is how many.
    Gap(GapEvent),
    /// Nothing happened for a while.
    Heartbeat(UnixTime),
    /// A chain begins.
    Open(OpenEvent),
}

/// A decision and its outcome. Empty lists and maps, `None` and `false` are left out of the event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessEvent {
    /// When the head came; times in policies are this one.
    pub timestamp: UnixTime,
    /// 128 random bits in hex; the caller has it too.
    pub decision_id: String,
    /// `x-request-id`.
    pub request_id: Option<String>,
    /// From `traceparent`.
    pub trace_id: Option<String>,
    /// The principal's id; `None` where nobody was authenticated.
    pub principal: Option<String>,
    /// The bare name.
    pub user_id: Option<String>,
    /// `principal.org`
    pub org: Option<String>,
    /// Roles, in configuration order.
    pub roles: Vec<String>,
    /// Tier of the limits.
    pub tier: Option<String>,
    /// `principal.team`
    pub team: Option<String>,
    /// Scopes of a token.
    pub scopes: Vec<String>,
    /// How the principal was shown; never the secret.
    pub credential: Option<CredentialFacts>,
    /// The other identity where two were shown.
    pub via: Option<String>,
    /// For what.
    pub resource: Option<ResourceFacts>,
    /// The model's id where the resource is a model.
    pub model_id: Option<String>,
    /// To do what.
    pub action: Option<String>,
    /// Exactly the attributes that any policy of this revision reads.
    pub attributes: BTreeMap<Category, AttributeMap>,
    /// HTTP method.
    pub method: Option<String>,
    /// `:authority`.
    pub host: Option<String>,
    /// Route name.
    pub route: Option<String>,
    /// Profile.
    pub profile: Option<String>,
    /// How it ended.
    pub status: Status,
    /// The inner word; absent for a success.
    pub reason: Option<&'static str>,
    /// Policies that determined the decision.
    pub policies: Vec<String>,
    /// Policies in shadow mode that would have changed it.
    pub shadow: Vec<String>,
    /// Path without query.
    pub path: Option<String>,
    /// SHA-256 of the canonical configuration.
    pub policy_revision: Option<String>,
    /// Status the caller read.
    pub http_status: Option<u16>,
    /// From the head's arrival to the stream's end, milliseconds.
    pub duration_ms: Option<u64>,
    /// Of the request body.
    pub input_hash: Option<String>,
    /// Of the response body.
    pub output_hash: Option<String>,
    /// Bytes of the request body, all of them.
    pub input_bytes: Option<u64>,
    /// Bytes of the response body, all of them.
    pub output_bytes: Option<u64>,
    /// A hash does not cover all of its body.
    pub partial: bool,
    /// Tokens read by the model.
    pub input_tokens: Option<u64>,
    /// Tokens written by the model.
    pub output_tokens: Option<u64>,
    /// The caller's address.
    pub source: Option<String>,
    /// What did not work while this was decided.
    pub degraded: Vec<String>,
}

/// `credential`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialFacts {
    /// `api_key`, `jwt`, `mtls`, `introspection`, `none`.
    pub method: String,
    /// The public part of a key.
    pub id: Option<String>,
    /// Of a token.
    pub issuer: Option<String>,
    /// Of a token.
    pub jti: Option<String>,
}

/// `resource`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceFacts {
    /// Its type.
    pub kind: String,
    /// Its id within the type.
    pub id: String,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// The client left.
    Aborted,
    /// mlgate refused.
    #[default]
    Denied,
    /// Upstream 5xx, reset, timeout, or gRPC status 2, 4, 13, 14.
    Error,
    /// Neither of these.
    Success,
}

/// Facts of `open`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenEvent {
    /// When the first stream came.
    pub timestamp: UnixTime,
    /// Of the filter.
    pub version: String,
    /// SHA-256 of the canonical configuration.
    pub policy_revision: String,
    /// The chain that was opened before this one in the same process, for the same gate and collector.
    pub prev_chain: Option<String>,
}

/// Facts of `config`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigEvent {
    /// When it took effect.
    pub timestamp: UnixTime,
    /// SHA-256 of the canonical configuration.
    pub policy_revision: String,
    /// What held before; absent right after `open`.
    pub prev_policy_revision: Option<String>,
    /// What the document says of itself.
    pub revision: Option<Revision>,
}

/// The document's `revision`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// For instance a commit.
    pub id: Option<String>,
    /// For instance a change request.
    pub change: Option<String>,
    /// Who approved it.
    pub approved_by: Vec<String>,
}

/// Facts of `gap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapEvent {
    /// When the loss was written down.
    pub timestamp: UnixTime,
    /// Events lost.
    pub count: u64,
    /// Why.
    pub reason: GapReason,
    /// First and last number lost, where they had numbers.
    pub range: Option<(u64, u64)>,
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The queue was full.
    Overflow,
    /// The collector refused the batch for good.
    Refused,
}

/// A written event without `chain`, `count`, `kid`, `mac`, `prev` and `seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Canonical bytes.
    pub(crate) bytes: Vec<u8>,
    /// Where `chain` and `count`, `kid` and `mac`, `prev`, `seq` go in.
    pub(crate) cuts: [usize; 4],
    /// `count`: events coalesced into this one, or lost.
    pub(crate) count: Option<u64>,
}

// === impl AuditEvent ===

impl AuditEvent {
    /// Its `type`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Access(_) => "access",
            Self::Close(_) => "close",
            Self::Config(_) => "config",
            Self::Gap(_) => "gap",
            Self::Heartbeat(_) => "heartbeat",
            Self::Open(_) => "open",
        }
    }

    /// When it happened.
    pub const fn timestamp(&self) -> UnixTime {
        match self {
            Self::Access(access) => access.timestamp,
            Self::Close(timestamp) | Self::Heartbeat(timestamp) => *timestamp,
            Self::Config(config) => config.timestamp,
            Self::Gap(gap) => gap.timestamp,
            Self::Open(open) => open.timestamp,
        }
    }

    /// Writes it down.
    pub fn draft(&self, gate: &str) -> Draft {
        let draft = self.write(gate);
        match self {
            Self::Access(access) if draft.bytes.len() > MAX_EVENT_BYTES / 2 => {
                let mut short = access.clone();
                for list in [&mut short.roles, &mut short.scopes, &mut short.policies, &mut short.shadow] {
                    list.clear();
                }
                short.attributes.clear();
                short.degraded = vec![String::from("event_cut")];
                Self::Access(short).write(gate)
            }
            _ => draft,
        }
    }

    fn write(&self, gate: &str) -> Draft {
        let mut w = Canonical::with_capacity(1024);
        w.open();
        let cuts = match self {
            Self::Access(access) => access.write(&mut w, gate),
            Self::Config(config) => config.write(&mut w, gate),
            Self::Gap(gap) => gap.write(&mut w, gate),
            Self::Open(open) => open.write(&mut w, gate),
            Self::Close(_) | Self::Heartbeat(_) => {
                let chain = w.cut();
                w.text("gate", gate);
                let kid = w.cut();
                [chain, kid, kid, kid]
            }
        };
        w.text("timestamp", &self.timestamp().to_string());
        if let Self::Gap(gap) = self {
            w.count_if("to", gap.range.map(|(_, to)| to));
        }
        if let Self::Access(access) = self {
            w.text_if("trace_id", access.trace_id.as_deref());
        }
        w.text("type", self.kind());
        if let Self::Access(access) = self {
            w.text_if("user_id", access.user_id.as_deref());
        }
        w.count("v", VERSION);
        if let Self::Open(open) = self {
            w.text("version", &open.version);
        }
        if let Self::Access(access) = self {
            w.text_if("via", access.via.as_deref());
        }
        w.close();
        let count = match self {
            Self::Gap(gap) => Some(gap.count),
            _ => None,
        };
        Draft { bytes: w.into_bytes(), cuts, count }
    }
}

// === impl AccessEvent ===

impl AccessEvent {
    /// Whether equal ones may be counted together when they flood: a refusal that needs no identity to cause, or
    /// one that happens because the queue is full.
    pub fn is_coalescible(&self) -> bool {
        self.status == Status::Denied && (self.is_strangers() || self.reason == Some("audit_unavailable"))
    }

    /// Whether it needs no identity to cause.
    pub fn is_strangers(&self) -> bool {
        matches!(self.principal.as_deref(), None | Some("anonymous"))
    }

    /// Every member up to `tier`, in the order of RFC 8785 §3.2.3.
    fn write(&self, w: &mut Canonical, gate: &str) -> [usize; 4] {
        w.text_if("action", self.action.as_deref());
        self.write_attributes(w);
        let chain = w.cut();
        if let Some(credential) = &self.credential {
            w.object("credential");
            w.text_if("id", credential.id.as_deref());
            w.text_if("issuer", credential.issuer.as_deref());
            w.text_if("jti", credential.jti.as_deref());
            w.text("method", &credential.method);
            w.close();
        }
        w.text("decision_id", &self.decision_id);
        w.list_if("degraded", &self.degraded);
        w.count_if("duration_ms", self.duration_ms);
        w.text("gate", gate);
        w.text_if("host", self.host.as_deref());
        w.count_if("http_status", self.http_status.map(u64::from));
        w.count_if("input_bytes", self.input_bytes);
        w.text_if("input_hash", self.input_hash.as_deref());
        w.count_if("input_tokens", self.input_tokens);
        let kid = w.cut();
        w.text_if("method", self.method.as_deref());
        w.text_if("model_id", self.model_id.as_deref());
        w.text_if("org", self.org.as_deref());
        w.count_if("output_bytes", self.output_bytes);
        w.text_if("output_hash", self.output_hash.as_deref());
        w.count_if("output_tokens", self.output_tokens);
        w.mark_if("partial", self.partial);
        w.text_if("path", self.path.as_deref());
        w.list_if("policies", &self.policies);
        w.text_if("policy_revision", self.policy_revision.as_deref());
        let prev = w.cut();
        w.text_if("principal", self.principal.as_deref());
        w.text_if("profile", self.profile.as_deref());
        w.text_if("reason", self.reason);
        w.text_if("request_id", self.request_id.as_deref());
        if let Some(resource) = &self.resource {
            w.object("resource");
            w.text("id", &resource.id);
            w.text("type", &resource.kind);
            w.close();
        }
        w.list_if("roles", &self.roles);
        w.text_if("route", self.route.as_deref());
        w.list_if("scopes", &self.scopes);
        let seq = w.cut();
        w.list_if("shadow", &self.shadow);
        w.text_if("source", self.source.as_deref());
        w.text("status", self.status.word());
        w.text_if("team", self.team.as_deref());
        w.text_if("tier", self.tier.as_deref());
        [chain, kid, prev, seq]
    }

    fn write_attributes(&self, w: &mut Canonical) {
        if self.attributes.values().all(BTreeMap::is_empty) {
            return;
        }
        w.object("attributes");
        let mut categories: Vec<(&str, &AttributeMap)> =
            self.attributes.iter().map(|(category, values)| (word(*category), values)).collect();
        categories.sort_by_key(|(category, _)| *category);
        for (category, values) in categories {
            if values.is_empty() {
                continue;
            }
            w.object(category);
            let mut values: Vec<(&String, &Value)> = values.iter().collect();
            values.sort_by(|(a, _), (b, _)| by_code_units(a, b));
            for (name, value) in values {
                match value {
                    Value::Bool(value) => w.boolean(name, *value),
                    Value::List(value) => w.list(name, value),
                    Value::Number(value) => w.integer(name, *value),
                    Value::Text(value) => w.text(name, value),
                }
            }
            w.close();
        }
        w.close();
    }
}

// === impl Status ===

impl Status {
    /// As events carry it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Denied => "denied",
            Self::Error => "error",
            Self::Success => "success",
        }
    }
}

// === impl OpenEvent ===

impl OpenEvent {
    fn write(&self, w: &mut Canonical, gate: &str) -> [usize; 4] {
        let chain = w.cut();
        w.text("gate", gate);
        let kid = w.cut();
        w.text("policy_revision", &self.policy_revision);
        let prev = w.cut();
        w.text_if("prev_chain", self.prev_chain.as_deref());
        let seq = w.cut();
        [chain, kid, prev, seq]
    }
}

// === impl ConfigEvent ===

impl ConfigEvent {
    fn write(&self, w: &mut Canonical, gate: &str) -> [usize; 4] {
        let chain = w.cut();
        w.text("gate", gate);
        let kid = w.cut();
        w.text("policy_revision", &self.policy_revision);
        let prev = w.cut();
        w.text_if("prev_policy_revision", self.prev_policy_revision.as_deref());
        if let Some(revision) = &self.revision {
            w.object("revision");
            w.list_if("approved_by", &revision.approved_by);
            w.text_if("change", revision.change.as_deref());
            w.text_if("id", revision.id.as_deref());
            w.close();
        }
        let seq = w.cut();
        [chain, kid, prev, seq]
    }
}

// === impl GapEvent ===

impl GapEvent {
    fn write(&self, w: &mut Canonical, gate: &str) -> [usize; 4] {
        let chain = w.cut();
        w.count_if("from", self.range.map(|(from, _)| from));
        w.text("gate", gate);
        let kid = w.cut();
        w.text("reason", self.reason.word());
        let seq = w.cut();
        [chain, kid, kid, seq]
    }
}

// === impl GapReason ===

impl GapReason {
    /// As events carry it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Refused => "refused",
        }
    }
}

const fn word(category: Category) -> &'static str {
    match category {
        Category::Action => "action",
        Category::Environment => "environment",
        Category::Principal => "principal",
        Category::Resource => "resource",
    }
}

#[cfg(test)]
mod tests;
