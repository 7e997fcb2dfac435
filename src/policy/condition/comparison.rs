//! What a clause does with the attribute that it names: a pattern, or one of the operators of the document.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;
use serde_json::{Value as Json, json};

use super::pattern::{self, Pattern, kind_of, same};
use super::truth::{Flaw, Lookup, Match};
use crate::config::faults::Faults;
use crate::policy::attributes::{self, Category, Value, ValueRef, is_attribute_name};
use crate::policy::schema::{Designator, Schema, Types};
use crate::time::{TimeOfDay, UnixTime};

/// See the module.
#[derive(Clone, Debug)]
pub enum Comparison {
    /// The short form: equality, one of a list, a prefix, presence, what `{principal.x}` stands for.
    Like(Pattern),
    /// `equals`: this very value, nothing special in it, or that of another attribute.
    Equals(Operand),
    /// `gt`, `gte`, `lt`, `lte`: numbers, moments and times of day have an order.
    Order(Order, Operand),
    /// `in_cidr`: an address in one of these ranges.
    InCidr(Vec<IpNet>),
    /// `contains_all`: a list with all of these elements.
    ContainsAll(Vec<String>),
    /// `present`: whether there is a value at all.
    Present(bool),
}

/// An operator of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
}

/// What an attribute is compared with.
#[derive(Clone, Debug)]
pub enum Operand {
    /// `{ attribute: resource.owner }`: what that holds.
    Attribute(Rc<Designator>),
    /// A moment.
    Time(UnixTime),
    /// A time of each day.
    TimeOfDay(TimeOfDay),
    /// A text, number or truth value.
    Value(Value),
}

/// Every operator, in the order of the reference.
pub const OPERATORS: [&str; 9] =
    ["equals", "gt", "gte", "lt", "lte", "in_cidr", "contains_all", "present", "not"];

// === impl Comparison ===

impl Comparison {
    /// Compiles what stands behind an operator's word, at `pointer`. `None` after a fault.
    pub(super) fn compile(
        word: &str,
        json: &Json,
        schema: &Schema,
        pointer: &str,
        faults: &mut Faults,
    ) -> Option<Self> {
        let order = |order: Order, faults: &mut Faults| {
            Operand::ordered(json, schema, pointer, faults).map(|operand| Self::Order(order, operand))
        };
        match word {
            "equals" => Operand::compile(json, schema, pointer, faults).map(Self::Equals),
            "gt" => order(Order::Gt, faults),
            "gte" => order(Order::Gte, faults),
            "lt" => order(Order::Lt, faults),
            "lte" => order(Order::Lte, faults),
            "in_cidr" => ranges(json, pointer, faults).map(Self::InCidr),
            "contains_all" => texts(json, pointer, faults).map(Self::ContainsAll),
            "present" => match json {
                Json::Bool(present) => Some(Self::Present(*present)),
                other => wrong(other, "`true` or `false`", pointer, faults),
            },
            _ => {
                faults.at(
                    pointer,
                    format!("`{word}` is not an operator"),
                    format!("write one of `{}`", OPERATORS.join("`, `")),
                );
                None
            }
        }
    }

    /// The operator's word; `None` for the short form.
    pub const fn word(&self) -> Option<&'static str> {
        match self {
            Self::Like(_) => None,
            Self::Equals(_) => Some("equals"),
            Self::Order(order, _) => Some(order.word()),
            Self::InCidr(_) => Some("in_cidr"),
            Self::ContainsAll(_) => Some("contains_all"),
            Self::Present(_) => Some("present"),
        }
    }

    /// What the document writes behind the attribute.
    pub fn to_json(&self) -> Json {
        let operand = match self {
            Self::Like(pattern) => return pattern.to_json(),
            Self::Equals(operand) | Self::Order(_, operand) => operand.to_json(),
            Self::InCidr(ranges) => ranges.iter().map(ToString::to_string).collect(),
            Self::ContainsAll(texts) => Json::from(texts.as_slice()),
            Self::Present(present) => Json::from(*present),
        };
        json!({ self.word().unwrap_or_default(): operand })
    }

    /// What it says where the attribute has the value `found`.
    pub(super) fn matches<'c>(
        &'c self,
        of: &'c Designator,
        found: Option<ValueRef<'_>>,
        lookup: Lookup<'_>,
    ) -> Match<'c> {
        if let Self::Present(wanted) = self {
            // absence is what is asked for, so it is never an error
            return Match::when(found.is_some() == *wanted);
        }
        let Some(value) = found else { return lookup.absent(of) };
        let wrong = Match::Error(&of.full_name, Flaw::Type);
        match self {
            Self::Like(pattern) => pattern.matches(value, of, lookup),
            Self::Equals(operand) => match operand.value(lookup) {
                Ok(expected) => same(value, expected, of),
                Err(absent) => absent,
            },
            Self::Order(order, operand) => match operand.value(lookup) {
                Ok(bound) => compare(value, bound).map_or(wrong, |found| Match::when(order.admits(found))),
                Err(absent) => absent,
            },
            Self::InCidr(ranges) => address(value)
                .map_or(wrong, |address| Match::when(ranges.iter().any(|range| range.contains(&address)))),
            Self::ContainsAll(texts) => match value {
                ValueRef::List(list) => Match::when(texts.iter().all(|text| list.contains(text))),
                ValueRef::Text(only) => Match::when(texts.iter().all(|text| text == only)),
                _ => wrong,
            },
            Self::Present(_) => Match::Yes,
        }
    }

    /// Types of values for which it may hold, or may not without being in error.
    pub(super) fn types(&self, schema: &Schema) -> Types {
        match self {
            Self::Like(pattern) => pattern.types(schema),
            Self::Equals(operand) => operand.types(schema),
            Self::Order(_, operand) => operand.types(schema).and(Types::ORDERED),
            Self::InCidr(_) => Types::ADDRESS,
            Self::ContainsAll(_) => Types::LIST.or(Types::TEXT),
            Self::Present(_) => Types::ALL,
        }
    }

    /// Other attributes that it looks at.
    pub fn others(&self) -> impl Iterator<Item = &Designator> {
        let (pattern, operand) = match self {
            Self::Like(pattern) => (Some(pattern), None),
            Self::Equals(Operand::Attribute(other)) | Self::Order(_, Operand::Attribute(other)) => {
                (None, Some(&**other))
            }
            _ => (None, None),
        };
        pattern.into_iter().flat_map(Pattern::substitutes).chain(operand)
    }
}

// === impl Order ===

impl Order {
    /// The operator's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::Lt => "lt",
            Self::Lte => "lte",
        }
    }

    const fn admits(self, found: Ordering) -> bool {
        match self {
            Self::Gt => found.is_gt(),
            Self::Gte => found.is_ge(),
            Self::Lt => found.is_lt(),
            Self::Lte => found.is_le(),
        }
    }
}

// === impl Operand ===

impl Operand {
    fn compile(json: &Json, schema: &Schema, pointer: &str, faults: &mut Faults) -> Option<Self> {
        if let Json::Object(members) = json {
            let named = members.get("attribute").and_then(Json::as_str).filter(|_| members.len() == 1);
            let known = named
                .and_then(Category::split)
                .filter(|(category, name)| *category == Category::Action || is_attribute_name(name));
            if known.is_none() {
                faults.at(
                    pointer,
                    "this names no attribute",
                    "write `{ attribute: <full name> }`, such as `resource.owner`",
                );
            }
            return known.map(|(category, name)| Self::Attribute(schema.designator(category, name)));
        }
        match attributes::value(json) {
            Some(Value::List(_)) | None => {
                wrong(json, "a text, a whole number, true, false or `{ attribute: … }`", pointer, faults)
            }
            Some(value) => Some(Self::Value(value)),
        }
    }

    /// Only what has an order.
    fn ordered(json: &Json, schema: &Schema, pointer: &str, faults: &mut Faults) -> Option<Self> {
        match Self::compile(json, schema, pointer, faults)? {
            Self::Value(Value::Text(text)) => match (UnixTime::parse(&text), TimeOfDay::parse(&text)) {
                (Ok(time), _) => Some(Self::Time(time)),
                (_, Ok(time)) => Some(Self::TimeOfDay(time)),
                _ => wrong(json, "a whole number, `2026-01-31T00:00:00Z` or `18:00`", pointer, faults),
            },
            Self::Value(Value::Bool(_)) => wrong(json, "a number or a time", pointer, faults),
            operand => Some(operand),
        }
    }

    /// As the document writes it.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Attribute(other) => json!({ "attribute": &*other.full_name }),
            Self::Time(time) => Json::from(time.to_string()),
            Self::TimeOfDay(time) => Json::from(time.to_string()),
            Self::Value(Value::Bool(value)) => Json::from(*value),
            Self::Value(Value::List(value)) => Json::from(value.as_slice()),
            Self::Value(Value::Number(value)) => Json::from(*value),
            Self::Value(Value::Text(value)) => Json::from(value.as_str()),
        }
    }

    fn value<'v, 'c: 'v, 'a: 'v>(&'c self, lookup: Lookup<'a>) -> Result<ValueRef<'v>, Match<'c>> {
        match self {
            Self::Attribute(other) => lookup.operand(other),
            Self::Time(time) => Ok(ValueRef::Time(*time)),
            Self::TimeOfDay(time) => Ok(ValueRef::TimeOfDay(*time)),
            Self::Value(value) => Ok(value.view()),
        }
    }

    fn types(&self, schema: &Schema) -> Types {
        match self {
            Self::Attribute(other) => schema.types(other.category, &other.name),
            Self::Time(_) => Types::TIME,
            Self::TimeOfDay(_) => Types::TIME_OF_DAY,
            Self::Value(value) => Types::of(value),
        }
    }
}

/// How two values stand to each other; `None` where they have no order between them.
pub(super) fn compare(one: ValueRef<'_>, other: ValueRef<'_>) -> Option<Ordering> {
    match (scale(one)?, scale(other)?) {
        (Scale::Number(one), Scale::Number(other)) => Some(one.cmp(&other)),
        (Scale::Time(one), Scale::Time(other)) => Some(one.cmp(&other)),
        (Scale::TimeOfDay(one), Scale::TimeOfDay(other)) => Some(one.cmp(&other)),
        _ => None,
    }
}

enum Scale {
    Number(i64),
    Time(UnixTime),
    TimeOfDay(TimeOfDay),
}

fn scale(value: ValueRef<'_>) -> Option<Scale> {
    match value {
        ValueRef::Number(number) => Some(Scale::Number(number)),
        ValueRef::Time(time) => Some(Scale::Time(time)),
        ValueRef::TimeOfDay(time) => Some(Scale::TimeOfDay(time)),
        ValueRef::Text(text) => {
            let time_of_day = TimeOfDay::parse(text).map(Scale::TimeOfDay);
            time_of_day.or_else(|_| UnixTime::parse(text).map(Scale::Time)).ok()
        }
        _ => None,
    }
}

/// An IPv4 address on a dual-stack listener is an IPv4 address (RFC 4291 §2.5.5.2).
pub(super) fn address(value: ValueRef<'_>) -> Option<IpAddr> {
    match value {
        ValueRef::Address(address) => Some(address.to_canonical()),
        ValueRef::Text(text) => text.parse::<IpAddr>().ok().map(|address| address.to_canonical()),
        _ => None,
    }
}

fn ranges(json: &Json, pointer: &str, faults: &mut Faults) -> Option<Vec<IpNet>> {
    let texts = texts(json, pointer, faults)?;
    let ranges: Vec<_> = texts
        .iter()
        .map(|text| {
            let range = text.parse::<IpNet>().ok();
            if range.is_none() {
                faults.at(
                    pointer,
                    format!("`{text}` is not an address range"),
                    "write one such as `10.0.0.0/8` or `2001:db8::/32`",
                );
            }
            range
        })
        .collect();
    ranges.into_iter().collect()
}

/// One text or a list of them.
fn texts(json: &Json, pointer: &str, faults: &mut Faults) -> Option<Vec<String>> {
    let list = match json {
        Json::Array(list) if !pattern::fits(list, pointer, faults) => return None,
        Json::Array(list) => list.as_slice(),
        single => std::slice::from_ref(single),
    };
    let texts: Option<Vec<String>> = list.iter().map(|text| text.as_str().map(str::to_owned)).collect();
    match texts {
        Some(texts) if !texts.is_empty() => Some(texts),
        _ => wrong(json, "a text or a list of texts", pointer, faults),
    }
}

fn wrong<T>(json: &Json, remedy: &str, pointer: &str, faults: &mut Faults) -> Option<T> {
    faults.at(pointer, format!("{} cannot stand here", kind_of(json)), format!("write {remedy}"));
    None
}
