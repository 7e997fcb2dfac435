//! A world as Cedar policies. Cedar reads an attribute that is not there as an error, so each test asks `has` first.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::str::FromStr as _;

use anyhow::Context as _;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression,
};

use crate::world::{Ask, Category, Formula, Rule, Test, Type, Value, World};

/// A world in Cedar.
#[derive(Debug)]
pub struct Cedar {
    policies: PolicySet,
    authorizer: Authorizer,
}

/// A request in Cedar.
#[derive(Debug)]
pub struct CedarAsk {
    request: Request,
    entities: Entities,
}

// === impl Cedar ===

impl Cedar {
    /// Parses the world's policies.
    pub fn of(world: &World) -> anyhow::Result<Self> {
        let mut text = String::new();
        for rule in &world.rules {
            policy(rule, world, &mut text)?;
        }
        let policies = PolicySet::from_str(&text).with_context(|| format!("policies:\n{text}"))?;
        Ok(Self { policies, authorizer: Authorizer::new() })
    }

    /// Whether a request is allowed; an error of any policy is an error here.
    pub fn is_allowed(&self, ask: &CedarAsk) -> anyhow::Result<bool> {
        let response = self.authorizer.is_authorized(&ask.request, &self.policies, &ask.entities);
        if let Some(error) = response.diagnostics().errors().next() {
            anyhow::bail!("{error}");
        }
        Ok(response.decision() == Decision::Allow)
    }
}

// === impl CedarAsk ===

impl CedarAsk {
    /// The request with all of its entities.
    pub fn of(ask: &Ask, world: &World) -> anyhow::Result<Self> {
        let entity = |category: Category| -> anyhow::Result<Entity> {
            let mut values = HashMap::new();
            for (index, value) in &ask.values {
                let attribute = world.attributes.get(*index).context("no such attribute")?;
                if attribute.category == category {
                    values.insert(attribute.name.clone(), expression(value, attribute.kind)?);
                }
            }
            Ok(Entity::new(uid(variable(category))?, values, HashSet::new())?)
        };
        let request = Request::new(
            uid("principal")?,
            EntityUid::from_type_name_and_id(EntityTypeName::from_str("Action")?, EntityId::new(&ask.action)),
            uid("resource")?,
            Context::empty(),
            None,
        )?;
        let entities =
            Entities::from_entities([entity(Category::Principal)?, entity(Category::Resource)?], None)?;
        Ok(Self { request, entities })
    }
}

fn uid(name: &str) -> anyhow::Result<EntityUid> {
    Ok(EntityUid::from_type_name_and_id(EntityTypeName::from_str("Thing")?, EntityId::new(name)))
}

const fn variable(category: Category) -> &'static str {
    match category {
        Category::Principal => "principal",
        Category::Resource => "resource",
    }
}

fn expression(value: &Value, kind: Type) -> anyhow::Result<RestrictedExpression> {
    Ok(match (value, kind) {
        (Value::Text(text), Type::Address) => RestrictedExpression::new_ip(text),
        (Value::Text(text), _) => RestrictedExpression::new_string(text.clone()),
        (Value::Number(number), _) => RestrictedExpression::new_long(*number),
        (Value::Bool(value), _) => RestrictedExpression::new_bool(*value),
        (Value::List(list), _) => RestrictedExpression::new_set(
            list.iter().map(|text| RestrictedExpression::new_string(text.clone())),
        ),
    })
}

fn policy(rule: &Rule, world: &World, into: &mut String) -> anyhow::Result<()> {
    let effect = if rule.allows { "permit" } else { "forbid" };
    let action = if rule.actions.is_empty() {
        String::from("action")
    } else {
        let actions: Vec<String> =
            rule.actions.iter().map(|action| format!("Action::{}", quoted(action))).collect();
        format!("action in [{}]", actions.join(", "))
    };
    writeln!(into, "{effect}(principal, {action}, resource) when {{ {} }};", condition(&rule.when, world)?)?;
    Ok(())
}

fn condition(formula: &Formula, world: &World) -> anyhow::Result<String> {
    let joined = |list: &[Formula], with: &str, empty: &str| -> anyhow::Result<String> {
        let each = list.iter().map(|formula| condition(formula, world));
        let each = each.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(if each.is_empty() { empty.to_owned() } else { format!("({})", each.join(with)) })
    };
    match formula {
        Formula::All(list) => joined(list, " && ", "true"),
        Formula::Any(list) => joined(list, " || ", "false"),
        Formula::Not(inner) => Ok(format!("!({})", condition(inner, world)?)),
        Formula::Test(index, test) => clause(*index, test, world),
    }
}

fn clause(index: usize, test: &Test, world: &World) -> anyhow::Result<String> {
    let place = |index: usize| -> anyhow::Result<(String, String, Type)> {
        let attribute = world.attributes.get(index).context("no such attribute")?;
        let of = variable(attribute.category);
        let name = &attribute.name;
        Ok((format!("{of} has {name}"), format!("{of}.{name}"), attribute.kind))
    };
    let (has, at, kind) = place(index)?;
    let texts = |list: &[String]| list.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
    let test = match (test, kind) {
        (Test::Present, _) => return Ok(format!("({has})")),
        (Test::Is(Value::Text(text)), Type::List) => format!("{at}.contains({})", quoted(text)),
        (Test::Is(Value::Text(text)), _) => format!("{at} == {}", quoted(text)),
        (Test::Is(Value::Number(number)), _) => format!("{at} == {number}"),
        (Test::Is(Value::Bool(value)), _) => format!("{at} == {value}"),
        (Test::Is(Value::List(_)), _) => anyhow::bail!("no engine compares whole lists here"),
        (Test::OneOf(list), Type::List) => format!("{at}.containsAny([{}])", texts(list)),
        (Test::OneOf(list), _) => format!("[{}].contains({at})", texts(list)),
        // in a pattern a star that is meant has a backslash
        (Test::StartsWith(text), _) => format!("{at} like \"{}*\"", escaped(text).replace('*', "\\*")),
        (Test::Above(number), _) => format!("{at} > {number}"),
        (Test::AtMost(number), _) => format!("{at} <= {number}"),
        (Test::SameAs(other), _) => {
            let (other_has, other_at, _) = place(*other)?;
            // here two empty texts are nothing in common
            format!("{other_has} && {other_at} != \"\" && {at} == {other_at}")
        }
        (Test::Within(range), _) => format!("{at}.isInRange(ip({}))", quoted(range)),
    };
    Ok(format!("({has} && {test})"))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
