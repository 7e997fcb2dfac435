//! What the document says of attributes becomes a [`Schema`]: which types each can have, and which must be there.
//!
//! Types are derived from every value that is written (catalogue, consumers, bindings, environment) and may be
//! declared under `authorization.attributes`. A claim can be anything, so what a claim gives is open unless declared.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use super::attributes::{Category, Value, is_attribute_name};
use super::spec::{AttributeSpec, TypeSpec};
use crate::config::faults::{Faults, segment};
use crate::time::{TimeOfDay, UnixTime};

/// Which types attributes can have, and the names by which conditions know them.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    known: BTreeMap<(Category, String), Known>,
    /// Each name once, however many clauses have it.
    designators: RefCell<BTreeMap<(Category, String), Rc<Designator>>>,
}

/// How a condition names an attribute (XACML 3.0 §5.29, `AttributeDesignator`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Designator {
    /// Its category.
    pub category: Category,
    /// Its name within the category.
    pub name: Box<str>,
    /// `resource.stage`; the action is plainly `action`.
    pub full_name: Rc<str>,
    /// Whether a condition that meets none is in error (XACML's `MustBePresent`).
    pub required: bool,
}

/// A set of types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Types(u8);

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    types: Types,
    declared: bool,
    required: bool,
    /// Whether values may come that the document does not show.
    open: bool,
}

// === impl Schema ===

impl Schema {
    /// Compiles what is declared, at `pointer`.
    pub fn compile(declared: &BTreeMap<String, AttributeSpec>, pointer: &str, faults: &mut Faults) -> Self {
        let mut schema = Self::default();
        for (full_name, spec) in declared {
            let name = Category::split(full_name)
                .filter(|(category, name)| *category != Category::Action && is_attribute_name(name));
            match name {
                Some((category, name)) if category.reserved().contains(&name) => faults.at(
                    format!("{pointer}/{}", segment(full_name)),
                    format!("the type of `{full_name}` is always known"),
                    "leave it out",
                ),
                Some((category, name)) => {
                    let types = Types::from(spec.kind);
                    let known = Known { types, declared: true, required: spec.required, open: false };
                    schema.known.insert((category, name.to_owned()), known);
                }
                None => faults.at(
                    format!("{pointer}/{}", segment(full_name)),
                    format!("`{full_name}` is not the full name of an attribute"),
                    "write `principal.<name>`, `resource.<name>` or `environment.<name>`",
                ),
            }
        }
        schema
    }

    /// Takes note of a value that is written at `pointer`; one that is not of the declared type is a fault.
    pub fn see(&mut self, category: Category, name: &str, value: &Value, pointer: &str, faults: &mut Faults) {
        let types = Types::of(value);
        let known = self.known.entry((category, name.to_owned())).or_default();
        if !known.declared {
            known.types = known.types.or(types);
        } else if !known.types.meets(types) {
            faults.at(
                pointer,
                format!("`{}` is declared to be {}", category.full_name(name), known.types),
                "correct the value, or `authorization.attributes`",
            );
        }
    }

    /// Whether a value that the document does not show is of a type that its conditions were checked for; else it is a
    /// fault at `pointer`.
    pub fn admit(&self, category: Category, name: &str, value: &Value, pointer: &str, faults: &mut Faults) {
        let types = self.types(category, name);
        if !types.meets(Types::of(value)) {
            faults.at(
                pointer,
                format!("the configuration knows `{}` as {types}", category.full_name(name)),
                "correct the value, or declare the attribute under `authorization.attributes`",
            );
        }
    }

    /// Takes note that an attribute may have values that the document does not show: a claim gives it.
    pub fn open(&mut self, category: Category, name: &str) {
        self.known.entry((category, name.to_owned())).or_default().open = true;
    }

    /// The types that an attribute can have; all of them where nothing is known.
    pub fn types(&self, category: Category, name: &str) -> Types {
        match (category, name) {
            (Category::Action, _)
            | (Category::Environment, "weekday")
            | (Category::Principal, "id" | "tier")
            | (Category::Resource, "id" | "type") => Types::TEXT,
            (Category::Principal, "roles") => Types::LIST,
            (Category::Environment, "now") => Types::TIME,
            (Category::Environment, "source") => Types::ADDRESS,
            (Category::Environment, "time") => Types::TIME_OF_DAY,
            _ => match self.known.get(&(category, name.to_owned())) {
                Some(known) if known.declared || (!known.open && known.types != Types::default()) => {
                    known.types
                }
                _ => Types::ALL,
            },
        }
    }

    /// Whether a request without this attribute is in error wherever it is tested. What the request itself gives
    /// always is: an address that nobody can trust, a clock that fails.
    pub fn is_required(&self, category: Category, name: &str) -> bool {
        let of_request = category == Category::Environment && category.reserved().contains(&name);
        of_request || self.known.get(&(category, name.to_owned())).is_some_and(|known| known.required)
    }

    /// The shared name of an attribute.
    pub fn designator(&self, category: Category, name: &str) -> Rc<Designator> {
        let mut designators = self.designators.borrow_mut();
        let designator = designators.entry((category, name.to_owned())).or_insert_with(|| {
            Rc::new(Designator {
                category,
                name: name.into(),
                full_name: category.full_name(name).into(),
                required: self.is_required(category, name),
            })
        });
        Rc::clone(designator)
    }
}

// === impl Types ===

impl Types {
    /// An address, or a text that is one.
    pub const ADDRESS: Self = Self(1);
    /// Anything.
    pub const ALL: Self = Self(0x7f);
    /// `true` and `false`.
    pub const BOOLEAN: Self = Self(1 << 1);
    /// A list of texts.
    pub const LIST: Self = Self(1 << 2);
    /// A whole number.
    pub const NUMBER: Self = Self(1 << 3);
    /// A text.
    pub const TEXT: Self = Self(1 << 4);
    /// A moment, or a text that is one (RFC 3339).
    pub const TIME: Self = Self(1 << 5);
    /// A time of day, or a text that is one.
    pub const TIME_OF_DAY: Self = Self(1 << 6);

    /// What has an order.
    pub const ORDERED: Self = Self(Self::NUMBER.0 | Self::TIME.0 | Self::TIME_OF_DAY.0);

    /// What a value is; a text may be several things.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Bool(_) => Self::BOOLEAN,
            Value::List(_) => Self::LIST,
            Value::Number(_) => Self::NUMBER,
            Value::Text(text) => {
                let when = |is: bool, types: Self| if is { types } else { Self::default() };
                Self::TEXT
                    .or(when(text.parse::<IpAddr>().is_ok(), Self::ADDRESS))
                    .or(when(UnixTime::parse(text).is_ok(), Self::TIME))
                    .or(when(TimeOfDay::parse(text).is_ok(), Self::TIME_OF_DAY))
            }
        }
    }

    /// Either of them.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether some type is in both.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether some value of one can be compared with some value of the other: an element of a list is a text.
    pub const fn comparable(self, other: Self) -> bool {
        let texts = Self::TEXT.or(Self::LIST);
        self.meets(other) || (self.meets(texts) && other.meets(texts))
    }
}

impl From<TypeSpec> for Types {
    fn from(spec: TypeSpec) -> Self {
        match spec {
            TypeSpec::Address => Self::ADDRESS.or(Self::TEXT),
            TypeSpec::Boolean => Self::BOOLEAN,
            TypeSpec::List => Self::LIST,
            TypeSpec::Number => Self::NUMBER,
            TypeSpec::Text => Self::TEXT,
            TypeSpec::Time => Self::TIME.or(Self::TEXT),
            TypeSpec::TimeOfDay => Self::TIME_OF_DAY.or(Self::TEXT),
        }
    }
}

impl fmt::Display for Types {
    /// `a number or a text`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (Self::ADDRESS, "an address"),
            (Self::BOOLEAN, "true or false"),
            (Self::LIST, "a list"),
            (Self::NUMBER, "a number"),
            (Self::TEXT, "a text"),
            (Self::TIME, "a time"),
            (Self::TIME_OF_DAY, "a time of day"),
        ];
        let words: Vec<&str> =
            all.into_iter().filter(|(types, _)| self.meets(*types)).map(|(_, word)| word).collect();
        f.write_str(&words.join(" or "))
    }
}

#[cfg(test)]
mod tests;
