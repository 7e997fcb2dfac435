//! The gate that is measured: one caller with a key, one issuer of tokens, more or less to do.

use std::time::{SystemTime, UNIX_EPOCH};

use mlgate::identity::api_key::ApiKey;
use serde_json::{Value, json};

/// What a gate is configured with.
#[derive(Clone, Copy)]
pub(crate) struct Duties {
    /// Policies, of which the last allows.
    pub(crate) policies: usize,
    /// One limit of two rates, or none.
    pub(crate) limits: bool,
    /// Every decision, or denials only.
    pub(crate) audit: bool,
}

/// One policy, everything else.
pub(crate) const ALL: Duties = Duties { policies: 1, limits: true, audit: true };

/// Of the tokens.
pub(crate) const ISSUER: &str = "https://issuer.example";
/// Value of `MLGATE_CHAIN_KEY_1`.
pub(crate) const CHAIN_KEY: &str = "0123456789abcdef0123456789abcdef";

/// Claims of a token of its own for each `id`.
pub(crate) fn claims(id: usize) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({
        "iss": ISSUER, "aud": "model-gateway", "sub": "alice", "jti": id.to_string(),
        "iat": now, "exp": now + 3_600, "org": "acme", "roles": ["scientist"],
    })
}

/// The gate that does these duties for one key and one issuer.
pub(crate) fn document(key: &ApiKey, jwk: &Value, duties: Duties) -> Value {
    let other = |index| {
        json!({
            "name": format!("p{index}"), "effect": "allow",
            "principal": {"org": format!("org{index}")}, "action": ["predict"],
        })
    };
    let mut all: Vec<Value> = (1..duties.policies).map(other).collect();
    all.push(json!({"name": "own", "effect": "allow", "principal": {"org": "acme"}, "action": ["predict"]}));
    let mut document = json!({
        "version": 1,
        "name": "gate",
        "consumers": [{"name": "user_1", "attributes": {"org": "acme"}, "credentials": {
            "api_keys": [{"id": key.id().to_string(), "digest": key.digest().to_string()}]}}],
        "authentication": {"jwt": {"providers": [{
            "name": "corp", "issuer": ISSUER, "audiences": ["model-gateway"], "algorithms": ["RS256"],
            "local_jwks": {"keys": [jwk]}, "claims": {"attributes": {"org": "org"}},
        }]}},
        "resources": {"unlisted": "allow", "rules": [
            {"match": {"methods": ["GET"], "path": "/predict"}, "resource": {"type": "model", "id": "m"}, "action": "predict"},
        ]},
        "authorization": {"policies": all},
        "limits": [{"name": "per-caller", "key": ["principal"], "rates": {"default": [
            {"limit": 100_000_000, "window": "1h"}, {"limit": 900_000, "window": "1s"}]}}],
        "audit": {
            "collector": {"cluster": "audit"},
            "chain": {"keys": [{"id": "c1", "env": "MLGATE_CHAIN_KEY_1"}]},
            "digest": {"inputs": false, "outputs": false},
        },
        "profiles": {"default": {
            "authenticate": {"any": ["api_key", "jwt"]},
            "audit": if duties.audit { "all" } else { "denials" },
        }},
    });
    if !duties.limits {
        document.as_object_mut().unwrap().remove("limits");
    }
    document
}
