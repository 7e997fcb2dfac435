//! One JSON value becomes the [`Pattern`] of a clause: equality, one of a list, a prefix, presence, or what
//! `{principal.x}` stands for.

use std::cmp::Ordering;
use std::rc::Rc;

use serde_json::Value as Json;

use super::comparison::{address, compare};
use super::truth::{Flaw, Lookup, Match};
use crate::config::faults::Faults;
use crate::policy::attributes::{Category, MAX_NUMBER, ValueRef, is_attribute_name};
use crate::policy::schema::{Designator, Schema, Types};

/// Alternatives, one of which must match.
#[derive(Clone, Debug)]
pub struct Pattern {
    alternatives: Vec<Alternative>,
    /// Written as a list, perhaps of one.
    listed: bool,
}

/// The most alternatives of one pattern, and elements of one operand.
pub const MAX_LIST: usize = 1024;

/// The most bytes of all texts of one pattern or operand.
pub const MAX_PATTERN_BYTES: usize = 64 << 10;

/// One alternative of a [`Pattern`].
#[derive(Clone, Debug)]
pub enum Alternative {
    /// `*`: any present value.
    Any,
    /// Exactly this truth value.
    Bool(bool),
    /// Exactly this number.
    Number(i64),
    /// Exactly this text.
    Text(Box<str>),
    /// A text that begins so.
    Prefix(Box<str>),
    /// `{principal.x}` alone: the very value, whatever its type.
    Same(Rc<Designator>),
    /// Text around substitutions.
    Template {
        /// One after the other.
        pieces: Vec<Piece>,
        /// Any text may follow.
        open: bool,
    },
}

/// A part of a template.
#[derive(Clone, Debug)]
pub enum Piece {
    /// This text.
    Literal(Box<str>),
    /// What an attribute of the principal holds.
    Variable(Rc<Designator>),
}

// === impl Pattern ===

impl Pattern {
    pub(super) fn compile(json: &Json, schema: &Schema, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let alternatives = match json {
            Json::Array(list) => {
                if list.is_empty() {
                    faults.at(
                        pointer,
                        "an empty list matches nothing",
                        "list the values, or leave the word out",
                    );
                    return None;
                }
                if !fits(list, pointer, faults) {
                    return None;
                }
                let same_type =
                    list.windows(2).all(|pair| matches!(pair, [a, b] if kind_of(a) == kind_of(b)));
                if !same_type {
                    faults.at(
                        pointer,
                        "the list mixes types, so that every value has the wrong type for some of it",
                        "list values of one type",
                    );
                    return None;
                }
                // the pointer names the list's element, and all elements are looked at
                let compiled: Vec<_> = list
                    .iter()
                    .enumerate()
                    .map(|(index, element)| {
                        Alternative::compile(element, schema, &format!("{pointer}/{index}"), faults)
                    })
                    .collect();
                compiled.into_iter().collect::<Option<Vec<_>>>()?
            }
            single => vec![Alternative::compile(single, schema, pointer, faults)?],
        };
        Some(Self { alternatives, listed: json.is_array() })
    }

    /// As the document writes it.
    pub fn to_json(&self) -> Json {
        let mut texts = self.alternatives.iter().map(Alternative::to_json);
        match (self.listed, texts.next()) {
            (false, Some(only)) => only,
            (_, first) => Json::Array(first.into_iter().chain(texts).collect()),
        }
    }

    /// What it consists of, in written order.
    pub fn alternatives(&self) -> &[Alternative] {
        &self.alternatives
    }

    /// Types of values for which it may hold.
    pub(super) fn types(&self, schema: &Schema) -> Types {
        self.alternatives.iter().fold(Types::default(), |types, alternative| {
            types.or(match alternative {
                Alternative::Any => Types::ALL,
                Alternative::Bool(_) => Types::BOOLEAN,
                Alternative::Number(_) => Types::NUMBER,
                Alternative::Text(_) | Alternative::Prefix(_) | Alternative::Template { .. } => {
                    Types::TEXT.or(Types::LIST)
                }
                Alternative::Same(other) => schema.types(other.category, &other.name),
            })
        })
    }

    /// The principal's attributes that it substitutes.
    pub(super) fn substitutes(&self) -> impl Iterator<Item = &Designator> {
        self.alternatives.iter().flat_map(|alternative| {
            let (same, pieces) = match alternative {
                Alternative::Same(variable) => (Some(variable), [].as_slice()),
                Alternative::Template { pieces, .. } => (None, pieces.as_slice()),
                _ => (None, [].as_slice()),
            };
            let inside = pieces.iter().filter_map(|piece| match piece {
                Piece::Variable(variable) => Some(variable),
                Piece::Literal(_) => None,
            });
            same.into_iter().chain(inside).map(Rc::as_ref)
        })
    }

    /// A disjunction in the same logic: one match wins, then an error, so the order of a list changes nothing.
    pub(super) fn matches<'c>(
        &'c self,
        value: ValueRef<'_>,
        of: &'c Designator,
        lookup: Lookup<'_>,
    ) -> Match<'c> {
        Match::any(self.alternatives.iter().map(|alternative| alternative.matches(value, of, lookup)))
    }

    /// Whether a text may match, whatever the substitutions stand for.
    pub(super) fn may_match(&self, value: &str) -> bool {
        self.alternatives.iter().any(|alternative| match alternative {
            Alternative::Any | Alternative::Same(_) | Alternative::Template { .. } => true,
            Alternative::Text(text) => &**text == value,
            Alternative::Prefix(prefix) => value.starts_with(&**prefix),
            Alternative::Bool(_) | Alternative::Number(_) => false,
        })
    }

    /// The texts it lists, when it is nothing but a list of exact texts.
    pub(super) fn only_texts(&self) -> Option<Vec<&str>> {
        self.alternatives
            .iter()
            .map(|alternative| match alternative {
                Alternative::Text(text) => Some(&**text),
                _ => None,
            })
            .collect()
    }
}

// === impl Alternative ===

impl Alternative {
    fn compile(json: &Json, schema: &Schema, pointer: &str, faults: &mut Faults) -> Option<Self> {
        match json {
            Json::Bool(value) => Some(Self::Bool(*value)),
            Json::Number(number) => {
                let whole = number.as_i64().filter(|n| (-MAX_NUMBER..=MAX_NUMBER).contains(n));
                if whole.is_none() {
                    faults.at(
                        pointer,
                        format!("`{number}` is not a whole number within 2^53-1"),
                        "write a whole number, or quote it to compare texts",
                    );
                }
                whole.map(Self::Number)
            }
            Json::String(text) => Self::compile_text(text, schema, pointer, faults),
            Json::Null | Json::Array(_) | Json::Object(_) => {
                faults.at(
                    pointer,
                    format!("{} is not a pattern", kind_of(json)),
                    "write a text, a whole number, true or false, or a list of one of these",
                );
                None
            }
        }
    }

    fn compile_text(text: &str, schema: &Schema, pointer: &str, faults: &mut Faults) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (body, open) = text.strip_suffix('*').map_or((text, false), |body| (body, true));
        let mut pieces = Vec::new();
        let mut rest = body;
        while let Some((literal, after)) = rest.split_once('{') {
            let variable = after.split_once('}').and_then(|(inside, after)| {
                let name = inside.strip_prefix("principal.").filter(|name| is_attribute_name(name))?;
                Some((schema.designator(Category::Principal, name), after))
            });
            let Some((variable, after)) = variable else {
                faults.at(
                    pointer,
                    format!("`{text}` has a brace that opens no substitution"),
                    "only `{principal.<name>}` can be substituted",
                );
                return None;
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.into()));
            }
            pieces.push(Piece::Variable(variable));
            rest = after;
        }
        if pieces.is_empty() {
            let body = Box::from(body);
            return Some(if open { Self::Prefix(body) } else { Self::Text(body) });
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.into()));
        }
        match pieces.as_slice() {
            [Piece::Variable(variable)] if !open => Some(Self::Same(Rc::clone(variable))),
            _ => Some(Self::Template { pieces, open }),
        }
    }

    fn to_json(&self) -> Json {
        let variable = |of: &Designator| format!("{{{}}}", of.full_name);
        match self {
            Self::Any => Json::from("*"),
            Self::Bool(value) => Json::from(*value),
            Self::Number(value) => Json::from(*value),
            Self::Text(text) => Json::from(&**text),
            Self::Prefix(prefix) => Json::from(format!("{prefix}*")),
            Self::Same(of) => Json::from(variable(of)),
            Self::Template { pieces, open } => {
                let text: String = pieces
                    .iter()
                    .map(|piece| match piece {
                        Piece::Literal(text) => text.to_string(),
                        Piece::Variable(of) => variable(of),
                    })
                    .collect();
                Json::from(if *open { format!("{text}*") } else { text })
            }
        }
    }

    fn matches<'c>(&'c self, value: ValueRef<'_>, of: &'c Designator, lookup: Lookup<'_>) -> Match<'c> {
        match self {
            Self::Any => Match::Yes,
            Self::Bool(expected) => same(value, ValueRef::Bool(*expected), of),
            Self::Number(expected) => same(value, ValueRef::Number(*expected), of),
            Self::Text(expected) => texts(value, of, |text| text == &**expected),
            Self::Prefix(prefix) => texts(value, of, |text| text.starts_with(&**prefix)),
            Self::Same(other) => match lookup.operand(other) {
                Ok(expected) => same(value, expected, of),
                Err(absent) => absent,
            },
            Self::Template { pieces, open } => template(pieces, *open, value, of, lookup),
        }
    }
}

/// A text, or a list with one element for which `holds`; an error for anything else.
fn texts<'c>(value: ValueRef<'_>, of: &'c Designator, holds: impl Fn(&str) -> bool) -> Match<'c> {
    match value {
        ValueRef::Text(text) => Match::when(holds(text)),
        ValueRef::List(list) => Match::when(list.iter().any(|text| holds(text))),
        _ => Match::Error(&of.full_name, Flaw::Type),
    }
}

/// Equal values of one type; lists of text have one element in common. A text is an address, a moment or a time of day
/// if it is compared with one.
pub(super) fn same<'c>(value: ValueRef<'_>, expected: ValueRef<'_>, of: &'c Designator) -> Match<'c> {
    let parsed = |equal: Option<bool>| equal.map_or(Match::Error(&of.full_name, Flaw::Type), Match::when);
    match (value, expected) {
        (ValueRef::Bool(seen), ValueRef::Bool(expected)) => Match::when(seen == expected),
        (ValueRef::Number(seen), ValueRef::Number(expected)) => Match::when(seen == expected),
        (ValueRef::Address(one), other) | (other, ValueRef::Address(one)) => {
            parsed(address(other).map(|other| one.to_canonical() == other))
        }
        (ValueRef::Time(_) | ValueRef::TimeOfDay(_), _) | (_, ValueRef::Time(_) | ValueRef::TimeOfDay(_)) => {
            parsed(compare(value, expected).map(Ordering::is_eq))
        }
        (seen, ValueRef::Text(expected)) => texts(seen, of, |text| text == expected),
        (seen, ValueRef::List(expected)) => {
            texts(seen, of, |text| expected.iter().any(|known| known == text && !known.is_empty()))
        }
        _ => Match::Error(&of.full_name, Flaw::Type),
    }
}

/// Substituted values are literal, so that the pieces stand one after the other and nothing is searched for.
fn template<'c>(
    pieces: &'c [Piece],
    open: bool,
    value: ValueRef<'_>,
    of: &'c Designator,
    lookup: Lookup<'_>,
) -> Match<'c> {
    // as a false clause does, absence makes the match impossible whatever errs beside it
    let known = Match::all(pieces.iter().map(|piece| match piece {
        Piece::Literal(_) => Match::Yes,
        Piece::Variable(variable) => match lookup.operand(variable) {
            Ok(ValueRef::Text(_)) => Match::Yes,
            Ok(_) => Match::Error(&variable.full_name, Flaw::Type),
            Err(absent) => absent,
        },
    }));
    if known != Match::Yes {
        return known;
    }
    texts(value, of, |text| {
        let rest = pieces.iter().try_fold(text, |rest, piece| match piece {
            Piece::Literal(literal) => rest.strip_prefix(&**literal),
            Piece::Variable(variable) => match lookup.operand(variable) {
                Ok(ValueRef::Text(expected)) => rest.strip_prefix(expected),
                _ => None,
            },
        });
        rest.is_some_and(|rest| open || rest.is_empty())
    })
}

/// Whether a list is not longer than is good; a fault otherwise.
pub(super) fn fits(list: &[Json], pointer: &str, faults: &mut Faults) -> bool {
    let bytes: usize = list.iter().filter_map(Json::as_str).map(str::len).sum();
    let fits = list.len() <= MAX_LIST && bytes <= MAX_PATTERN_BYTES;
    if !fits {
        faults.at(
            pointer,
            format!("a list of {} elements and {bytes} bytes of text", list.len()),
            format!("list at most {MAX_LIST} elements and {MAX_PATTERN_BYTES} bytes, or use a prefix"),
        );
    }
    fits
}

pub(super) const fn kind_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a truth value",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}
