//! Two documents that differ in what some callers may do, and what each answers to whom.

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::Request;
use mlgate::cases::Gate;
use mlgate::config::{Format, load};
use serde_json::{Value, json};

/// Which of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Which {
    /// In effect at the start.
    First,
    /// The other.
    Second,
}

/// Both, with the digests of this run's keys.
#[derive(Debug)]
pub(crate) struct Documents {
    first: (Value, String),
    second: (Value, String),
}

/// A body that names a model, which is held until then.
pub(crate) const CHAT: &str = r#"{"messages":[],"model":"m"}"#;

/// Every caller that has a key.
pub(crate) const CALLERS: [&str; 6] =
    ["always01", "never001", "first001", "second01", "revoked1", "spent001"];

// === impl Which ===

impl Which {
    /// What `first001` and `second01` are answered.
    pub(crate) const fn answers(self) -> (u16, u16) {
        match self {
            Self::First => (200, 403),
            Self::Second => (403, 200),
        }
    }

    /// What the document says of itself.
    pub(crate) fn document_revision(self) -> Value {
        match self {
            Self::First => json!({"id": "1"}),
            Self::Second => json!({"id": "2", "change": "CHG-2"}),
        }
    }

    /// What a caller is answered whose limit is not used up: status and reason.
    pub(crate) fn answer(self, caller: &str) -> (u16, &'static str) {
        let denied = (403, "access_denied");
        match (caller, self) {
            ("spent001", _) => (429, "rate_limited"),
            ("never001", _) | ("second01", Self::First) | ("first001", Self::Second) => denied,
            ("revoked1", Self::Second) => (401, "credential_revoked"),
            _ => (200, ""),
        }
    }

    /// The other one.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

// === impl Documents ===

impl Documents {
    /// The second is the first with other roles and a revocation.
    pub(crate) fn of(gate: &Gate) -> anyhow::Result<Self> {
        let mut second = gate.document.clone();
        let fields = second.as_object_mut().context("no document")?;
        fields.insert("revision".into(), Which::Second.document_revision());
        fields.insert("authentication".into(), json!({"revocation": {"keys": ["revoked1"]}}));
        for consumer in fields.get_mut("consumers").and_then(Value::as_array_mut).into_iter().flatten() {
            let role = match consumer.get("name").and_then(Value::as_str) {
                Some("first001") => "nothing",
                Some("second01") => "reader",
                _ => continue,
            };
            consumer.as_object_mut().context("no consumer")?.insert("roles".into(), json!([role]));
        }
        let revision = |document: &Value| {
            let environment = |name: &str| gate.environment.get(name).cloned();
            let config = load(document.to_string().as_bytes(), Format::Json, &environment);
            config.map(|config| config.revision).map_err(|faults| anyhow!("{faults:?}"))
        };
        let first = gate.document.clone();
        Ok(Self { first: (first.clone(), revision(&first)?), second: (second.clone(), revision(&second)?) })
    }

    /// One of them.
    pub(crate) const fn of_which(&self, which: Which) -> &Value {
        match which {
            Which::First => &self.first.0,
            Which::Second => &self.second.0,
        }
    }

    /// How events name it.
    pub(crate) fn revision(&self, which: Which) -> &str {
        match which {
            Which::First => &self.first.1,
            Which::Second => &self.second.1,
        }
    }

    /// Which one events mean.
    pub(crate) fn which(&self, revision: &str) -> anyhow::Result<Which> {
        let both = [Which::First, Which::Second];
        both.into_iter().find(|which| self.revision(*which) == revision).context("a revision of neither")
    }
}

/// The first document, before its keys are made.
pub(crate) fn first() -> Value {
    let digest = format!("sha256:{}", "0".repeat(64));
    let consumers: Vec<Value> = CALLERS
        .into_iter()
        .map(|name| {
            let role = if matches!(name, "never001" | "second01") { "nothing" } else { "reader" };
            let tier = if name == "spent001" { "small" } else { "default" };
            json!({"name": name, "roles": [role], "tier": tier,
                "credentials": {"api_keys": [{"id": name, "digest": digest}]}})
        })
        .collect();
    json!({
        "version": 1,
        "name": "gate",
        "revision": Which::First.document_revision(),
        "consumers": consumers,
        "resources": {"unlisted": "allow", "rules": [{"preset": "openai"}]},
        "authorization": {"roles": {
            "reader": {"permissions": ["list", "predict"]},
            "nothing": {"permissions": ["evaluate"]},
        }},
        "limits": [{"name": "per-caller", "key": ["principal"], "rates": {
            "default": [{"limit": 1_000_000, "window": "1h"}],
            "small": [{"limit": 5, "window": "1h"}],
        }}],
        "audit": {
            "collector": {"cluster": "audit"},
            "chain": {"keys": [{"id": "c1", "env": "MLGATE_CHAIN_KEY_1"}]},
        },
        "shared_data": {"keys": [{"id": "s1", "env": "MLGATE_SHARED_KEY_1"}]},
    })
}

/// A call without a body.
pub(crate) fn get(key: &str) -> anyhow::Result<Request<Bytes>> {
    Ok(Request::get("/v1/models").header("x-api-key", key).body(Bytes::new())?)
}

/// The head of a call whose body is held.
pub(crate) fn post(key: &str) -> anyhow::Result<Request<()>> {
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    Ok(request.header("x-api-key", key).body(())?)
}
