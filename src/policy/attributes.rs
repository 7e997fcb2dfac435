//! What a decision may look at: four categories of named, typed values (XACML 3.0 §B, NIST SP 800-162).

use std::collections::BTreeMap;

use crate::identity::Identity;
use crate::resource::Resource;

/// A typed attribute value. Numbers are integers within ±(2^53−1), as audit events carry them (RFC 8785).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Truth value.
    Bool(bool),
    /// A list of texts: roles, groups.
    List(Vec<String>),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
}

/// A borrowed [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueRef<'a> {
    /// Truth value.
    Bool(bool),
    /// A list of texts.
    List(&'a [String]),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(&'a str),
}

/// Named values of one category.
pub type AttributeMap = BTreeMap<String, Value>;

/// The category of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// `principal.*`
    Principal,
    /// `resource.*`
    Resource,
    /// `action`
    Action,
    /// `environment.*`
    Environment,
}

/// The attributes of one request. Built once, after the resource is known.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who asks.
    pub principal: &'a Identity,
    /// For what.
    pub resource: &'a Resource,
    /// To do what.
    pub action: &'a str,
    /// Where: `environment.name`, `environment.region`.
    pub environment: &'a AttributeMap,
}

// === impl Value ===

impl Value {
    /// A view that borrows.
    pub fn view(&self) -> ValueRef<'_> {
        match self {
            Self::Bool(value) => ValueRef::Bool(*value),
            Self::List(value) => ValueRef::List(value),
            Self::Number(value) => ValueRef::Number(*value),
            Self::Text(value) => ValueRef::Text(value),
        }
    }
}

// === impl Attributes ===

impl<'a> Attributes<'a> {
    /// The value of one attribute; `None` when this request has none.
    ///
    /// `principal.id`, `principal.roles` and `principal.tier`, `resource.type` and `resource.id` come from the
    /// identity and the resource themselves and cannot be overridden by attributes of the same name.
    pub fn lookup(&self, category: Category, name: &str) -> Option<ValueRef<'a>> {
        match (category, name) {
            (Category::Action, _) => Some(ValueRef::Text(self.action)),
            (Category::Principal, "id") => Some(ValueRef::Text(&self.principal.principal)),
            (Category::Principal, "roles") => Some(ValueRef::List(&self.principal.roles)),
            (Category::Principal, "tier") => Some(ValueRef::Text(&self.principal.tier)),
            (Category::Principal, _) => self.principal.attributes.get(name).map(Value::view),
            (Category::Resource, "type") => Some(ValueRef::Text(&self.resource.kind)),
            (Category::Resource, "id") => Some(ValueRef::Text(&self.resource.id)),
            (Category::Resource, _) => self.resource.attributes.get(name).map(Value::view),
            (Category::Environment, _) => self.environment.get(name).map(Value::view),
        }
    }
}
