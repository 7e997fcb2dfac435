//! An organisation's policies in Casbin: one matcher with attributes, deny overrides.

use ::casbin::{CoreApi as _, DefaultModel, Enforcer, MemoryAdapter, MgmtApi as _};
use serde::Serialize;

use crate::organisation::{ACTION, OrgAsk, Organisation};

/// An organisation in Casbin.
pub struct Casbin {
    enforcer: Enforcer,
}

/// A request in Casbin.
#[derive(Clone, Debug, Hash, Serialize)]
pub struct Subject {
    org: String,
    team: String,
    /// Of as many digits as the policies have: Casbin's are texts, and these compare like numbers.
    clearance: String,
}

/// What is asked for in Casbin.
#[derive(Clone, Debug, Hash, Serialize)]
pub struct Object {
    kind: String,
    stage: String,
}

const MODEL: &str = r#"
[request_definition]
r = sub, obj, act

[policy_definition]
p = org, team, kind, stage, above, act, eft

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = r.act == p.act && (p.org == "*" || r.sub.org == p.org) && (p.team == "*" || r.sub.team == p.team) && (p.kind == "*" || r.obj.kind == p.kind) && (p.stage == "*" || r.obj.stage == p.stage) && r.sub.clearance > p.above
"#;

// === impl Casbin ===

impl Casbin {
    /// Loads the policies.
    pub async fn of(organisation: &Organisation) -> anyhow::Result<Self> {
        let model = DefaultModel::from_str(MODEL).await?;
        let mut enforcer = Enforcer::new(model, MemoryAdapter::default()).await?;
        let anything = std::array::from_fn(|_| String::from("*"));
        let policies = organisation.policies.iter().map(|policy| {
            let mut row: Vec<String> = policy.place.clone().unwrap_or_else(|| Clone::clone(&anything)).into();
            let effect = if policy.allows { "allow" } else { "deny" };
            row.extend([digits(policy.above), ACTION.to_owned(), effect.to_owned()]);
            row
        });
        enforcer.add_policies(policies.collect()).await?;
        Ok(Self { enforcer })
    }

    /// Whether a request is allowed.
    pub fn is_allowed(&self, ask: &(Subject, Object)) -> anyhow::Result<bool> {
        Ok(self.enforcer.enforce((ask.0.clone(), ask.1.clone(), ACTION))?)
    }

    /// A request in its form.
    pub fn ask(ask: &OrgAsk) -> (Subject, Object) {
        let [org, team, kind, stage] = ask.place.clone();
        (Subject { org, team, clearance: digits(ask.clearance) }, Object { kind, stage })
    }
}

fn digits(number: i64) -> String {
    format!("{number:04}")
}

impl std::fmt::Debug for Casbin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Casbin").finish_non_exhaustive()
    }
}
