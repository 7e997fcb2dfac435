//! What a decision may look at: four categories of named, typed values (XACML 3.0 §B, NIST SP 800-162).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value as Json;

use crate::config::faults::{Faults, segment};
use crate::identity::Identity;
use crate::resource::Resource;
use crate::time::{TimeOfDay, UnixTime};

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

/// A borrowed [`Value`], or what only a request has. The latter become texts where they are written down, and a text
/// of their form is compared as if it were one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueRef<'a> {
    /// Where a request comes from.
    Address(IpAddr),
    /// Truth value.
    Bool(bool),
    /// A list of texts.
    List(&'a [String]),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(&'a str),
    /// A moment.
    Time(UnixTime),
    /// A time of each day, in UTC.
    TimeOfDay(TimeOfDay),
}

/// The largest number an attribute may hold, 2^53−1, and its negative the smallest.
pub const MAX_NUMBER: i64 = (1 << 53) - 1;

/// The longest name of an attribute, in bytes.
pub const MAX_ATTRIBUTE_NAME: usize = 64;

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
    /// When the request came: `environment.now`, `environment.time`, `environment.weekday`. `None` where no clock was
    /// asked, and where a recorded request has these in `environment`.
    pub now: Option<UnixTime>,
    /// From where, as far as it is trusted: `environment.source`.
    pub source: Option<IpAddr>,
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

// === impl ValueRef ===

impl ValueRef<'_> {
    /// A copy that owns.
    pub fn to_value(self) -> Value {
        match self {
            Self::Address(value) => Value::Text(value.to_string()),
            Self::Bool(value) => Value::Bool(value),
            Self::List(value) => Value::List(value.to_vec()),
            Self::Number(value) => Value::Number(value),
            Self::Text(value) => Value::Text(value.to_owned()),
            Self::Time(value) => Value::Text(value.to_string()),
            Self::TimeOfDay(value) => Value::Text(value.to_string()),
        }
    }
}

// === impl Category ===

impl Category {
    /// How configuration and events name an attribute: `principal.org`; the action is plainly `action`.
    pub fn full_name(self, name: &str) -> String {
        match self {
            Self::Action => String::from("action"),
            Self::Environment => format!("environment.{name}"),
            Self::Principal => format!("principal.{name}"),
            Self::Resource => format!("resource.{name}"),
        }
    }

    /// Reads a full name; the name of `action` is empty. `None` where no category is named.
    pub fn split(full_name: &str) -> Option<(Self, &str)> {
        if full_name == "action" {
            return Some((Self::Action, ""));
        }
        let (category, name) = full_name.split_once('.')?;
        match category {
            "environment" => Some((Self::Environment, name)),
            "principal" => Some((Self::Principal, name)),
            "resource" => Some((Self::Resource, name)),
            _ => None,
        }
    }

    /// Names that the category gives itself, which no configured attribute may take.
    pub(super) const fn reserved(self) -> &'static [&'static str] {
        match self {
            Self::Action => &[],
            Self::Environment => &["now", "source", "time", "weekday"],
            Self::Principal => &["id", "roles", "tier"],
            Self::Resource => &["id", "type"],
        }
    }
}

// === impl Attributes ===

impl<'a> Attributes<'a> {
    /// The value of one attribute; `None` when this request has none.
    ///
    /// `principal.id`, `principal.roles` and `principal.tier`, `resource.type` and `resource.id` come from the
    /// identity and the resource themselves and cannot be overridden by attributes of the same name;
    /// `environment.now`, `environment.time`, `environment.weekday` and `environment.source` from the request.
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
            (Category::Environment, _) => {
                self.of_request(name).or_else(|| self.environment.get(name).map(Value::view))
            }
        }
    }

    fn of_request(&self, name: &str) -> Option<ValueRef<'a>> {
        match name {
            "now" => self.now.map(ValueRef::Time),
            "source" => self.source.map(ValueRef::Address),
            "time" => self.now.map(|now| ValueRef::TimeOfDay(now.time_of_day())),
            "weekday" => self.now.map(|now| ValueRef::Text(now.weekday())),
            _ => None,
        }
    }
}

/// Compiles configured attributes of a category, found at `pointer`; those at fault are left out.
pub fn compile(
    configured: &BTreeMap<String, Json>,
    category: Category,
    pointer: &str,
    faults: &mut Faults,
) -> AttributeMap {
    let mut compiled = AttributeMap::new();
    for (name, json) in configured {
        let pointer = format!("{pointer}/{}", segment(name));
        if category.reserved().contains(&name.as_str()) {
            faults.at(
                &pointer,
                format!("`{}` has its own meaning", category.full_name(name)),
                "give the attribute another name",
            );
        } else if !is_attribute_name(name) {
            faults.at(
                &pointer,
                format!("`{name}` is not the name of an attribute"),
                "write 1 to 64 letters, digits, `_`, `-` and `.`",
            );
        } else if let Some(value) = value(json) {
            compiled.insert(name.clone(), value);
        } else {
            faults.at(
                &pointer,
                format!("`{name}` is not the value of an attribute"),
                "write a text, a whole number within 2^53-1, true or false, or a list of texts",
            );
        }
    }
    compiled
}

/// Whether patterns and configuration can name an attribute so.
pub fn is_attribute_name(name: &str) -> bool {
    (1..=MAX_ATTRIBUTE_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// A value that an attribute may have; `None` for a fraction, `null`, an object, or a list of other things than texts.
pub fn value(json: &Json) -> Option<Value> {
    match json {
        Json::Bool(value) => Some(Value::Bool(*value)),
        Json::Number(number) => {
            number.as_i64().filter(|n| (-MAX_NUMBER..=MAX_NUMBER).contains(n)).map(Value::Number)
        }
        Json::String(text) => Some(Value::Text(text.clone())),
        Json::Array(list) => list
            .iter()
            .map(|element| element.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .map(Value::List),
        Json::Null | Json::Object(_) => None,
    }
}
