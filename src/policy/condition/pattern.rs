//! One JSON value becomes the [`Pattern`] of a clause: equality, one of a list, a prefix, presence, or what
//! `{principal.x}` stands for.

use std::rc::Rc;

use serde_json::Value as Json;

use crate::config::faults::Faults;
use crate::policy::attributes::{Attributes, Category, MAX_NUMBER, ValueRef, is_attribute_name};

/// Alternatives, one of which must match.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    alternatives: Vec<Alternative>,
    text: Box<str>,
}

/// What one clause says. The name is that of the attribute at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match<'a> {
    Yes,
    No,
    Error(&'a Rc<str>),
}

#[derive(Clone, Debug)]
enum Alternative {
    /// `*`: any present value.
    Any,
    Bool(bool),
    Number(i64),
    /// Exactly this text.
    Text(Box<str>),
    /// A text that begins so.
    Prefix(Box<str>),
    /// `{principal.x}` alone: the very value, whatever its type.
    Same(Variable),
    /// Text around substitutions; `open`: any text may follow.
    Template {
        pieces: Vec<Piece>,
        open: bool,
    },
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(Box<str>),
    Variable(Variable),
}

/// An attribute of the principal.
#[derive(Clone, Debug)]
struct Variable {
    name: Box<str>,
    full_name: Rc<str>,
}

// === impl Pattern ===

impl Pattern {
    pub(super) fn compile(json: &Json, pointer: &str, faults: &mut Faults) -> Option<Self> {
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
                        Alternative::compile(element, &format!("{pointer}/{index}"), faults)
                    })
                    .collect();
                compiled.into_iter().collect::<Option<Vec<_>>>()?
            }
            single => vec![Alternative::compile(single, pointer, faults)?],
        };
        Some(Self { alternatives, text: json.to_string().into() })
    }

    /// The pattern as written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Names of the principal's attributes that it substitutes.
    pub(super) fn substitutes(&self) -> impl Iterator<Item = &str> {
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
            same.into_iter().chain(inside).map(|variable| &*variable.name)
        })
    }

    /// A disjunction in the same logic: one match wins, then an error, so the order of a list changes nothing.
    pub(super) fn matches<'a>(
        &'a self,
        value: ValueRef<'_>,
        name: &'a Rc<str>,
        attributes: &Attributes<'_>,
    ) -> Match<'a> {
        let mut erring: Option<&Rc<str>> = None;
        for alternative in &self.alternatives {
            match alternative.matches(value, name, attributes) {
                Match::Yes => return Match::Yes,
                Match::No => {}
                Match::Error(name) => erring = Some(erring.map_or(name, |known| known.min(name))),
            }
        }
        erring.map_or(Match::No, Match::Error)
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
    fn compile(json: &Json, pointer: &str, faults: &mut Faults) -> Option<Self> {
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
            Json::String(text) => Self::compile_text(text, pointer, faults),
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

    fn compile_text(text: &str, pointer: &str, faults: &mut Faults) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (body, open) = text.strip_suffix('*').map_or((text, false), |body| (body, true));
        let mut pieces = Vec::new();
        let mut rest = body;
        while let Some((literal, after)) = rest.split_once('{') {
            let variable = after.split_once('}').and_then(|(inside, after)| {
                let name = inside.strip_prefix("principal.").filter(|name| is_attribute_name(name))?;
                Some((Variable::new(name), after))
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
            [Piece::Variable(variable)] if !open => Some(Self::Same(variable.clone())),
            _ => Some(Self::Template { pieces, open }),
        }
    }

    fn matches<'a>(
        &'a self,
        value: ValueRef<'_>,
        name: &'a Rc<str>,
        attributes: &Attributes<'_>,
    ) -> Match<'a> {
        match self {
            Self::Any => Match::Yes,
            Self::Bool(expected) => match value {
                ValueRef::Bool(seen) => Match::when(seen == *expected),
                _ => Match::Error(name),
            },
            Self::Number(expected) => match value {
                ValueRef::Number(seen) => Match::when(seen == *expected),
                _ => Match::Error(name),
            },
            Self::Text(expected) => texts(value, name, |text| text == &**expected),
            Self::Prefix(prefix) => texts(value, name, |text| text.starts_with(&**prefix)),
            Self::Same(variable) => match variable.value(attributes) {
                Some(expected) => same(value, expected, name),
                None => Match::No,
            },
            Self::Template { pieces, open } => template(pieces, *open, value, name, attributes),
        }
    }
}

// === impl Variable ===

impl Variable {
    fn new(name: &str) -> Self {
        Self { name: name.into(), full_name: Category::Principal.full_name(name).into() }
    }

    /// `None` when the principal has none. An empty text counts as none: as part of a prefix it would match
    /// everything, and two empty attributes say nothing about belonging together.
    fn value<'a>(&self, attributes: &Attributes<'a>) -> Option<ValueRef<'a>> {
        attributes.lookup(Category::Principal, &self.name).filter(|value| *value != ValueRef::Text(""))
    }
}

// === impl Match ===

impl Match<'_> {
    const fn when(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// A text, or a list with one element for which `holds`; an error for anything else.
fn texts<'a>(value: ValueRef<'_>, name: &'a Rc<str>, holds: impl Fn(&str) -> bool) -> Match<'a> {
    match value {
        ValueRef::Text(text) => Match::when(holds(text)),
        ValueRef::List(list) => Match::when(list.iter().any(|text| holds(text))),
        ValueRef::Bool(_) | ValueRef::Number(_) => Match::Error(name),
    }
}

/// Equal values of one type; lists of text have one element in common.
fn same<'a>(value: ValueRef<'_>, expected: ValueRef<'_>, name: &'a Rc<str>) -> Match<'a> {
    match (value, expected) {
        (ValueRef::Bool(seen), ValueRef::Bool(expected)) => Match::when(seen == expected),
        (ValueRef::Number(seen), ValueRef::Number(expected)) => Match::when(seen == expected),
        (seen, ValueRef::Text(expected)) => texts(seen, name, |text| text == expected),
        (seen, ValueRef::List(expected)) => {
            texts(seen, name, |text| expected.iter().any(|known| known == text && !known.is_empty()))
        }
        _ => Match::Error(name),
    }
}

/// Substituted values are literal, so that the pieces stand one after the other and nothing is searched for.
fn template<'a>(
    pieces: &'a [Piece],
    open: bool,
    value: ValueRef<'_>,
    name: &'a Rc<str>,
    attributes: &Attributes<'_>,
) -> Match<'a> {
    let mut missing = false;
    let mut erring: Option<&Rc<str>> = None;
    for piece in pieces {
        let Piece::Variable(variable) = piece else { continue };
        match variable.value(attributes) {
            Some(ValueRef::Text(_)) => {}
            Some(_) => {
                erring = Some(erring.map_or(&variable.full_name, |known| known.min(&variable.full_name)))
            }
            None => missing = true,
        }
    }
    if missing {
        return Match::No; // as a false clause does, absence makes the match impossible whatever errs beside it
    }
    if let Some(erring) = erring {
        return Match::Error(erring);
    }
    texts(value, name, |text| {
        let rest = pieces.iter().try_fold(text, |rest, piece| match piece {
            Piece::Literal(literal) => rest.strip_prefix(&**literal),
            Piece::Variable(variable) => match variable.value(attributes) {
                Some(ValueRef::Text(expected)) => rest.strip_prefix(expected),
                _ => None,
            },
        });
        rest.is_some_and(|rest| open || rest.is_empty())
    })
}

const fn kind_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a truth value",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}
