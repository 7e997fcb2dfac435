//! A request that can be changed: what a question borrows, owned, and one attribute set at a time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::identity::Identity;
use crate::policy::attributes::{AttributeMap, Category, Value, ValueRef};
use crate::resource::Resource;
use crate::review::candidate::Question;
use crate::time::UnixTime;

/// Attributes and what they become; `None`: absent.
pub(super) type Changes = BTreeMap<(Category, String), Option<Value>>;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct World {
    identity: Identity,
    resource: Resource,
    action: String,
    environment: AttributeMap,
    now: Option<UnixTime>,
    source: Option<IpAddr>,
}

/// What `environment.time` and `environment.weekday` follow from.
pub(super) const NOW: &str = "now";

// === impl World ===

impl World {
    pub(super) fn of(question: &Question<'_>) -> Self {
        Self {
            identity: question.principal.clone(),
            resource: question.resource.clone(),
            action: question.action.to_owned(),
            environment: question.environment.clone(),
            now: question.now,
            source: question.source,
        }
    }

    /// As policies are asked about it.
    pub(super) const fn question(&self) -> Question<'_> {
        Question {
            principal: &self.identity,
            resource: &self.resource,
            listed: true,
            action: self.action.as_str(),
            environment: &self.environment,
            now: self.now,
            source: self.source,
        }
    }

    /// What an attribute is.
    pub(super) fn value(&self, category: Category, name: &str) -> Option<Value> {
        self.question().attributes().lookup(category, name).map(ValueRef::to_value)
    }

    /// The same with changes.
    pub(super) fn with(&self, changes: &Changes) -> Self {
        let mut world = self.clone();
        for ((category, name), to) in changes {
            world.set(*category, name, to.clone());
        }
        world
    }

    /// Sets one attribute. What cannot be (a text for the roles, no action) changes nothing, as nobody would notice.
    fn set(&mut self, category: Category, name: &str, to: Option<Value>) {
        let text = |to: Option<Value>| match to {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        };
        match (category, name) {
            (Category::Action, _) => self.action = text(to).unwrap_or_default(),
            (Category::Principal, "id") => self.identity.principal = text(to).unwrap_or_default(),
            (Category::Principal, "tier") => self.identity.tier = text(to).unwrap_or_default(),
            (Category::Principal, "roles") => {
                self.identity.roles = match to {
                    Some(Value::List(roles)) => roles,
                    _ => Vec::new(),
                }
            }
            (Category::Resource, "type") => self.resource.kind = text(to).unwrap_or_default(),
            (Category::Resource, "id") => self.resource.id = text(to).unwrap_or_default(),
            (Category::Environment, NOW) => {
                self.now = text(to).and_then(|text| UnixTime::parse(&text).ok());
            }
            (Category::Environment, "source") => self.source = text(to).and_then(|text| text.parse().ok()),
            (Category::Principal, _) => put(&mut self.identity.attributes, name, to),
            (Category::Resource, _) => put(&mut self.resource.attributes, name, to),
            (Category::Environment, _) => put(&mut self.environment, name, to),
        }
    }
}

fn put(map: &mut AttributeMap, name: &str, to: Option<Value>) {
    match to {
        Some(value) => drop(map.insert(name.to_owned(), value)),
        None => drop(map.remove(name)),
    }
}
