//! A world as a configuration of mlgate.

use anyhow::Context as _;
use mlgate::config::Format;
use mlgate::config::{Config, load};
use mlgate::identity::Identity;
use mlgate::policy::attributes::{AttributeMap, Attributes, Value as GateValue};
use mlgate::policy::cache::{Decisions, Question};
use mlgate::policy::{Decision, PolicySelection};
use mlgate::resource::Resource;
use serde_json::{Map, Value as Json, json};

use crate::world::{Ask, Category, Formula, Rule, Test, Type, Value, World};

/// A world in mlgate.
#[derive(Debug)]
pub struct Gate {
    config: Config,
}

/// A request in mlgate.
#[derive(Debug)]
pub struct GateAsk {
    principal: Identity,
    resource: Resource,
    action: String,
    environment: AttributeMap,
}

// === impl Gate ===

impl Gate {
    /// Compiles the world's policies.
    pub fn of(world: &World) -> anyhow::Result<Self> {
        let policies = world.rules.iter().enumerate().map(|(index, rule)| policy(index, rule, world));
        let policies = policies.collect::<anyhow::Result<Vec<_>>>()?;
        let declared: Map<String, Json> = world
            .attributes
            .iter()
            .enumerate()
            .map(|(index, attribute)| {
                Ok((full_name(index, world)?, json!({"type": type_word(attribute.kind)})))
            })
            .collect::<anyhow::Result<_>>()?;
        let document = json!({
            "version": 1,
            "name": "peers",
            "resources": { "rules": [{ "preset": "openai" }], "unlisted": "deny" },
            "authorization": { "attributes": declared, "policies": policies },
            "audit": { "collector": { "cluster": "audit" }, "chain": { "unkeyed": true } },
        });
        let config = load(document.to_string().as_bytes(), Format::Json, &|_| None)
            .map_err(|faults| anyhow::anyhow!("{faults:?}\n{document:#}"))?;
        Ok(Self { config })
    }

    /// What the gate decides.
    pub fn decide(&self, ask: &GateAsk) -> Decision {
        self.config.policies.decide(&PolicySelection::all(), &ask.attributes(), true)
    }

    /// Whether it allows, by what it remembers of earlier requests.
    pub fn recalls(&self, ask: &GateAsk, decisions: &mut Decisions) -> bool {
        let selection = PolicySelection::all();
        let question = Question { profile: 0, selection: &selection, scope_ok: true };
        decisions.decide(&self.config.policies, question, &ask.attributes()).is_allowed()
    }

    /// Whether it allows; an error of any policy is an error here.
    pub fn is_allowed(&self, ask: &GateAsk) -> anyhow::Result<bool> {
        let decision = self.decide(ask);
        anyhow::ensure!(decision.errors.is_empty(), "{:?}", decision.errors);
        Ok(decision.is_allowed())
    }
}

// === impl GateAsk ===

impl GateAsk {
    fn attributes(&self) -> Attributes<'_> {
        Attributes {
            principal: &self.principal,
            resource: &self.resource,
            action: &self.action,
            environment: &self.environment,
            now: None,
            source: None,
        }
    }

    /// The request with all of its attributes.
    pub fn of(ask: &Ask, world: &World) -> anyhow::Result<Self> {
        let of = |category: Category| {
            let mut map = AttributeMap::new();
            for (index, value) in &ask.values {
                let attribute = world.attributes.get(*index).context("no such attribute")?;
                if attribute.category == category {
                    map.insert(attribute.name.clone(), gate_value(value));
                }
            }
            anyhow::Ok(map)
        };
        let mut principal = Identity::anonymous();
        principal.attributes = of(Category::Principal)?;
        let mut resource = Resource::none();
        resource.attributes = of(Category::Resource)?;
        Ok(Self { principal, resource, action: ask.action.clone(), environment: AttributeMap::new() })
    }
}

fn gate_value(value: &Value) -> GateValue {
    match value {
        Value::Text(text) => GateValue::Text(text.clone()),
        Value::Number(number) => GateValue::Number(*number),
        Value::Bool(value) => GateValue::Bool(*value),
        Value::List(list) => GateValue::List(list.clone()),
    }
}

const fn type_word(kind: Type) -> &'static str {
    match kind {
        Type::Address => "address",
        Type::Text => "text",
        Type::Number => "number",
        Type::Bool => "boolean",
        Type::List => "list",
    }
}

fn full_name(index: usize, world: &World) -> anyhow::Result<String> {
    let attribute = world.attributes.get(index).context("no such attribute")?;
    Ok(match attribute.category {
        Category::Principal => format!("principal.{}", attribute.name),
        Category::Resource => format!("resource.{}", attribute.name),
    })
}

fn policy(index: usize, rule: &Rule, world: &World) -> anyhow::Result<Json> {
    let mut policy = json!({
        "name": format!("policy-{index}"),
        "effect": if rule.allows { "allow" } else { "deny" },
        "when": condition(&rule.when, world)?,
    });
    if let (Some(policy), false) = (policy.as_object_mut(), rule.actions.is_empty()) {
        policy.insert(String::from("action"), json!(rule.actions));
    }
    Ok(policy)
}

/// A condition is a map, so tests of several attributes stand beside each other.
fn condition(formula: &Formula, world: &World) -> anyhow::Result<Json> {
    let list = |list: &[Formula]| -> anyhow::Result<Vec<Json>> {
        list.iter().map(|formula| condition(formula, world)).collect()
    };
    Ok(match formula {
        Formula::Test(index, test) => json!({ full_name(*index, world)?: clause(test, world)? }),
        Formula::All(all) => match side_by_side(all, world)? {
            Some(clauses) => Json::Object(clauses),
            None => json!({ "all": list(all)? }),
        },
        Formula::Any(any) => json!({ "any": list(any)? }),
        Formula::Not(inner) => json!({ "not": condition(inner, world)? }),
    })
}

/// As one map, where each formula tests an attribute of its own and blocks differ.
fn side_by_side(all: &[Formula], world: &World) -> anyhow::Result<Option<Map<String, Json>>> {
    let mut members = Map::new();
    for formula in all {
        let (name, json) = match formula {
            Formula::Test(index, test) => (full_name(*index, world)?, clause(test, world)?),
            Formula::Not(inner) => (String::from("not"), condition(inner, world)?),
            Formula::All(_) | Formula::Any(_) => return Ok(None),
        };
        if members.insert(name, json).is_some() {
            return Ok(None);
        }
    }
    Ok(Some(members))
}

fn clause(test: &Test, world: &World) -> anyhow::Result<Json> {
    Ok(match test {
        Test::Is(Value::Text(text)) => json!(text),
        Test::Is(Value::Number(number)) => json!(number),
        Test::Is(Value::Bool(value)) => json!(value),
        Test::Is(Value::List(_)) => anyhow::bail!("no engine compares whole lists here"),
        Test::OneOf(list) => json!(list),
        Test::StartsWith(text) => json!(format!("{text}*")),
        Test::Above(number) => json!({ "gt": number }),
        Test::AtMost(number) => json!({ "lte": number }),
        Test::Present => json!({ "present": true }),
        Test::SameAs(other) => json!({ "equals": { "attribute": full_name(*other, world)? } }),
        Test::Within(range) => json!({ "in_cidr": [range] }),
    })
}
