//! A clause becomes values that may make it hold, or not hold: whether they do is for the clause to say.

use std::net::IpAddr;

use crate::policy::attributes::{Category, Value};
use crate::policy::condition::Clause;
use crate::policy::condition::comparison::{Comparison, Operand};
use crate::policy::condition::pattern::{Alternative, Piece};
use crate::policy::schema::Designator;
use crate::time::{TimeOfDay, UnixTime};

use super::world::{NOW, World};

/// One attribute, and what it may become.
pub(super) type Try = ((Category, String), Option<Value>);

/// A text that nobody writes.
const OTHER: &str = "something else";

/// Addresses for documentation (RFC 5737, RFC 3849), of which one is in no range of a policy.
const ADDRESSES: [&str; 4] = ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1"];

/// Everything that may help, in no order: values of the attribute itself, and of those that it is compared with.
/// The `pool` is what policies name for the attribute.
pub(super) fn of(clause: &Clause, world: &World, pool: &[Value]) -> Vec<Try> {
    let attribute = clause.attribute();
    let seen = world.value(attribute.category, &attribute.name);
    let mut values: Vec<Option<Value>> = vec![None, Some(Value::Text(OTHER.to_owned()))];
    match &seen {
        Some(Value::Bool(value)) => values.push(Some(Value::Bool(!value))),
        Some(Value::Number(value)) => values.push(Some(Value::Number(value.saturating_add(1)))),
        Some(Value::List(_)) => values.push(Some(Value::List(Vec::new()))),
        Some(Value::Text(_)) | None => {}
    }
    for value in wanted(clause.comparison(), world).into_iter().chain(pool.iter().cloned()) {
        values.extend(near(&value).into_iter().map(Some));
        // a list has the value beside what it has, or without it
        if let (Some(Value::List(list)), Value::Text(text)) = (&seen, &value) {
            let mut with = list.clone();
            with.push(text.clone());
            let without = list.iter().filter(|known| *known != text).cloned().collect();
            values.extend([Some(Value::List(with)), Some(Value::List(without))]);
        }
        if let (Some(Value::List(list)), Value::List(more)) = (&seen, &value) {
            let with = list.iter().chain(more.iter().filter(|one| !list.contains(one))).cloned().collect();
            let without = list.iter().filter(|known| !more.contains(known)).cloned().collect();
            values.extend([Some(Value::List(with)), Some(Value::List(without))]);
        }
        values.push(Some(value));
    }
    if is_on(attribute, "source") {
        values.extend(ADDRESSES.map(|address| Some(Value::Text(address.to_owned()))));
    }
    let mut tries: Vec<Try> = Vec::new();
    for value in values {
        tries.extend(place(attribute, value, world));
    }
    for other in clause.comparison().others() {
        // the other side becomes what this side is
        for value in
            seen.iter().flat_map(|value| parts(value).into_iter().chain(near(value)).chain([value.clone()]))
        {
            tries.extend(place(other, Some(value), world));
        }
        tries.extend(place(other, None, world));
        tries.extend(place(other, Some(Value::Text(OTHER.to_owned())), world));
    }
    tries
}

/// What an attribute becomes; the time of day and the day of the week follow from the moment.
fn place(attribute: &Designator, value: Option<Value>, world: &World) -> Option<Try> {
    let own = (attribute.category, attribute.name.to_string());
    let derived = is_on(attribute, "time") || is_on(attribute, "weekday");
    if !derived {
        return Some((own, value));
    }
    let Some(Value::Text(text)) = value else { return None };
    let now = world.question().now.unwrap_or_default();
    let moment = if is_on(attribute, "time") {
        let since = millis_of_day(&TimeOfDay::parse(&text).ok()?.to_string())?;
        let midnight = now.millis().saturating_sub(now.millis().rem_euclid(DAY));
        UnixTime::from_millis(midnight.saturating_add(since))
    } else {
        let days = (1..=7_i64)
            .map(|days| UnixTime::from_millis(now.millis().saturating_add(days.saturating_mul(DAY))));
        days.into_iter()
            .find(|day| day.weekday() == text || (text == OTHER && day.weekday() != now.weekday()))?
    };
    Some(((Category::Environment, NOW.to_owned()), Some(Value::Text(moment.to_string()))))
}

fn is_on(attribute: &Designator, name: &str) -> bool {
    attribute.category == Category::Environment && &*attribute.name == name
}

/// A day, in milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// Of `HH:MM:SS.mmm`.
fn millis_of_day(text: &str) -> Option<i64> {
    let mut parts = text.split([':', '.']).map(|part| part.parse::<i64>().ok());
    let mut sum = 0_i64;
    for factor in [3_600_000, 60_000, 1000, 1] {
        sum = sum.saturating_add(parts.next()??.saturating_mul(factor));
    }
    Some(sum)
}

/// The neighbours of a value that has an order.
fn near(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(number) => {
            vec![Value::Number(number.saturating_sub(1)), Value::Number(number.saturating_add(1))]
        }
        Value::Text(text) => {
            let around = |millis: i64| [millis.saturating_sub(1), millis.saturating_add(1)];
            if let Ok(time) = UnixTime::parse(text) {
                return around(time.millis())
                    .map(|millis| Value::Text(UnixTime::from_millis(millis).to_string()))
                    .into();
            }
            let time = TimeOfDay::parse(text).ok().and_then(|time| millis_of_day(&time.to_string()));
            let beside = |time: i64| UnixTime::from_millis(time.rem_euclid(DAY)).time_of_day().to_string();
            time.map(|time| around(time).map(|time| Value::Text(beside(time))).into()).unwrap_or_default()
        }
        Value::Bool(_) | Value::List(_) => Vec::new(),
    }
}

/// The elements of a list.
fn parts(value: &Value) -> Vec<Value> {
    match value {
        Value::List(list) => list.iter().cloned().map(Value::Text).collect(),
        _ => Vec::new(),
    }
}

/// What one alternative of a pattern stands for.
fn like(alternative: &Alternative, world: &World) -> Vec<Value> {
    let text = |text: &str| vec![Value::Text(text.to_owned())];
    match alternative {
        Alternative::Any => text(OTHER),
        Alternative::Bool(value) => vec![Value::Bool(*value), Value::Bool(!*value)],
        Alternative::Number(number) => vec![Value::Number(*number)],
        Alternative::Text(exact) => text(exact),
        Alternative::Prefix(prefix) => vec![Value::Text(format!("{prefix}x"))],
        Alternative::Same(other) => {
            let value = world.value(other.category, &other.name);
            value.into_iter().flat_map(|value| parts(&value).into_iter().chain([value])).collect()
        }
        Alternative::Template { pieces, open } => {
            let mut whole = String::new();
            for piece in pieces {
                match piece {
                    Piece::Literal(literal) => whole.push_str(literal),
                    Piece::Variable(other) => match world.value(other.category, &other.name) {
                        Some(Value::Text(value)) => whole.push_str(&value),
                        // with what the caller would have to have as well
                        _ => whole.push_str(OTHER),
                    },
                }
            }
            if *open {
                whole.push('x');
            }
            vec![Value::Text(whole)]
        }
    }
}

/// What the clause names.
pub(super) fn wanted(comparison: &Comparison, world: &World) -> Vec<Value> {
    match comparison {
        Comparison::Like(pattern) => pattern.alternatives().iter().flat_map(|one| like(one, world)).collect(),
        Comparison::Equals(operand) | Comparison::Order(_, operand) => {
            operand_value(operand, world).into_iter().collect()
        }
        Comparison::InCidr(ranges) => {
            let address = |range: &ipnet::IpNet| -> IpAddr { range.network() };
            ranges.iter().map(|range| Value::Text(address(range).to_string())).collect()
        }
        Comparison::ContainsAll(texts) => vec![Value::List(texts.clone())],
        Comparison::Present(_) => vec![Value::Text(OTHER.to_owned()), Value::Number(0), Value::Bool(true)],
    }
}

fn operand_value(operand: &Operand, world: &World) -> Option<Value> {
    match operand {
        Operand::Attribute(other) => world.value(other.category, &other.name),
        Operand::Time(time) => Some(Value::Text(time.to_string())),
        Operand::TimeOfDay(time) => Some(Value::Text(time.to_string())),
        Operand::Value(value) => Some(value.clone()),
    }
}
