//! An organisation's policies as data that one Rego rule scans, as their documentation shows it for many small policies.

use anyhow::Context as _;
use regorus::{Engine, Value};
use serde_json::json;

use crate::organisation::{ACTION, OrgAsk, Organisation};

/// An organisation in Rego.
#[derive(Debug)]
pub struct Rego {
    engine: Engine,
}

const POLICY: &str = r#"
package gate

import rego.v1

default allow := false

allow if {
    granted
    not forbidden
}

granted if {
    some policy in data.policies
    policy.allows
    applies(policy)
}

forbidden if {
    some policy in data.policies
    not policy.allows
    applies(policy)
}

applies(policy) if {
    policy.action == input.action
    same(policy.place, input.place)
    input.clearance > policy.above
}

same(wanted, place) if wanted == place

same(wanted, _) if wanted == null
"#;

// === impl Rego ===

impl Rego {
    /// Compiles the rule and takes the policies as its data.
    pub fn of(organisation: &Organisation) -> anyhow::Result<Self> {
        let mut engine = Engine::new();
        engine.add_policy(String::from("gate.rego"), POLICY.to_owned())?;
        let policies = organisation.policies.iter().map(|policy| {
            json!({"allows": policy.allows, "action": ACTION, "place": policy.place, "above": policy.above})
        });
        let data = json!({"policies": policies.collect::<Vec<_>>()});
        engine.add_data(Value::from_json_str(&data.to_string())?)?;
        Ok(Self { engine })
    }

    /// A request as its input.
    pub fn input(ask: &OrgAsk) -> anyhow::Result<Value> {
        let input = json!({"action": ACTION, "place": ask.place, "clearance": ask.clearance});
        Value::from_json_str(&input.to_string())
    }

    /// Whether a request is allowed.
    pub fn is_allowed(&mut self, input: &Value) -> anyhow::Result<bool> {
        self.engine.set_input(input.clone());
        self.engine.eval_rule(String::from("data.gate.allow"))?.as_bool().copied().context("no truth value")
    }
}
