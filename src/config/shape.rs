//! What a document may look like: a tree becomes every fault of its form at once.
//!
//! The words themselves are in [`words`]; the command's JSON Schema comes from the same description. What words mean
//! together (references, unique names, one of two) is checked by the stage that compiles them.

use crate::config::faults::{Fault, Faults, segment};
use crate::config::tree::{Kind, MAX_INTEGER, Member, Node};
use crate::config::values;
use crate::time::UnixTime;

pub mod grammar;
pub mod words;

#[cfg(test)]
mod tests;

use grammar::Grammar;

/// What one value may be.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// One of some words.
    Choice(&'static Choice),
    /// A [`values::duration`].
    Duration,
    /// The first of these whose kind fits.
    Either(&'static [Self]),
    /// A whole number from `min` to `max`.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A list with at least `min` elements.
    List {
        /// What each is.
        of: &'static Self,
        /// How many there are at least.
        min: usize,
    },
    /// Named members.
    Object(&'static Object),
    /// What an attribute is compared with: a text, whole number or boolean, or a list of them.
    Pattern,
    /// What is asked of an attribute: a [`Shape::Pattern`], or an object of [`words::OPERATORS`].
    Test,
    /// A condition: [`words::WHEN`], which contains itself.
    When,
    /// A [`values::size`].
    Size,
    /// A text of some grammar.
    Text(&'static Grammar),
    /// An RFC 3339 timestamp with a zone.
    Timestamp,
    /// The value of an attribute: a text, whole number or boolean, or a list of texts.
    Value,
}

/// Words to choose from.
#[derive(Debug)]
pub struct Choice {
    /// Those that work.
    pub built: &'static [&'static str],
    /// Those that are reserved.
    pub later: &'static [&'static str],
}

/// An object: its own fields, and perhaps any others of one shape.
#[derive(Debug)]
pub struct Object {
    /// Fields with names of ours.
    pub fields: &'static [Field],
    /// Fields with names of the writer's.
    pub rest: Option<Rest>,
}

/// Fields whose names the writer chooses.
#[derive(Debug)]
pub struct Rest {
    /// What a name looks like.
    pub names: &'static Grammar,
    /// What is behind it.
    pub of: Shape,
}

/// One field of an [`Object`].
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What is behind it; of a reserved word nothing is known.
    pub shape: Option<Shape>,
    /// Whether it must be there.
    pub required: bool,
    /// What it is for, in a few words.
    pub note: &'static str,
}

/// At most this much of a faulty text is repeated in its fault, in characters.
const MAX_QUOTED: usize = 60;

/// The faults of `node` and all it contains.
pub fn check(shape: &Shape, node: &Node) -> Faults {
    let mut walk = Walk { pointer: String::new(), faults: Faults::default() };
    walk.value(shape, node);
    walk.faults
}

struct Walk {
    pointer: String,
    faults: Faults,
}

// === impl Field ===

/// A field that must be there.
pub const fn required(name: &'static str, shape: Shape, note: &'static str) -> Field {
    Field { name, shape: Some(shape), required: true, note }
}

/// A field that may be left out.
pub const fn optional(name: &'static str, shape: Shape, note: &'static str) -> Field {
    Field { name, shape: Some(shape), required: false, note }
}

/// A field that is reserved.
pub const fn later(name: &'static str) -> Field {
    Field { name, shape: None, required: false, note: "" }
}

// === impl Shape ===

impl Shape {
    /// What would be right, in words.
    pub fn say(&self) -> String {
        match self {
            Self::Bool => String::from("`true` or `false`"),
            Self::Choice(choice) => one_of(choice.built),
            Self::Duration => String::from("a duration such as `50ms`, `10s`, `5m`, `1h` or `1d`"),
            Self::Either(shapes) => shapes.iter().map(Self::say).collect::<Vec<_>>().join(", or "),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::List { of, min: 0 } => format!("a list (of {})", of.say()),
            Self::List { of, min } => format!("a list of at least {min} (of {})", of.say()),
            Self::Object(_) => String::from("an object"),
            Self::Pattern => String::from("a text, a whole number, `true` or `false`, or a list of them"),
            Self::Test => format!("{}, or operators", Self::Pattern.say()),
            Self::When => String::from("attributes by their full name, and `all`, `any` and `not`"),
            Self::Size => String::from("a size such as `64KiB` or `1MiB`"),
            Self::Text(grammar) => grammar.say.to_owned(),
            Self::Timestamp => String::from("a timestamp such as `2026-01-31T00:00:00Z`"),
            Self::Value => String::from("a text, a whole number, `true` or `false`, or a list of texts"),
        }
    }

    /// Whether a value of this kind is meant for this shape, well formed or not.
    fn fits(&self, kind: &Kind) -> bool {
        match self {
            Self::Bool => matches!(kind, Kind::Bool(_)),
            Self::Choice(_) | Self::Duration | Self::Text(_) | Self::Timestamp => {
                matches!(kind, Kind::Text(_))
            }
            Self::Either(shapes) => shapes.iter().any(|shape| shape.fits(kind)),
            Self::Integer { .. } => matches!(kind, Kind::Integer(_) | Kind::Fraction(_)),
            Self::List { .. } => matches!(kind, Kind::List(_)),
            Self::Object(_) | Self::When => matches!(kind, Kind::Object(_)),
            Self::Test => matches!(kind, Kind::Object(_)) || Self::Pattern.fits(kind),
            Self::Pattern | Self::Value => {
                matches!(kind, Kind::Bool(_) | Kind::Integer(_) | Kind::List(_) | Kind::Text(_))
            }
            Self::Size => matches!(kind, Kind::Integer(_) | Kind::Text(_)),
        }
    }

    /// Whether the document may hold a text here, so that a number or boolean is probably an unquoted one.
    fn takes_text(&self) -> bool {
        match self {
            Self::Choice(_) | Self::Text(_) => true,
            Self::Either(shapes) => shapes.iter().any(Self::takes_text),
            _ => false,
        }
    }
}

// === impl Walk ===

impl Walk {
    fn fault(&mut self, line: u32, what: String, remedy: String) {
        let line = Some(line).filter(|line| *line > 0);
        self.faults.push(Fault { pointer: self.pointer.clone(), line, what, remedy });
    }

    /// Runs `inner` with the pointer one segment longer. Of a name that is too long for any word only the start is
    /// kept: every fault inside holds the pointer.
    fn within(&mut self, name: &str, inner: impl FnOnce(&mut Self)) {
        let length = self.pointer.len();
        let start: String = name.chars().take(grammar::MAX_TEXT).collect();
        self.pointer.push('/');
        self.pointer.push_str(&segment(&start));
        inner(self);
        self.pointer.truncate(length);
    }

    fn value(&mut self, shape: &Shape, node: &Node) {
        if !shape.fits(&node.kind) {
            return self.mistyped(shape, node);
        }
        match (shape, &node.kind) {
            (Shape::Either(shapes), kind) => {
                if let Some(shape) = shapes.iter().find(|shape| shape.fits(kind)) {
                    self.value(shape, node);
                }
            }
            (Shape::Choice(choice), Kind::Text(text)) => self.choice(choice, node, text),
            (Shape::Duration, Kind::Text(text)) => {
                self.text(shape, node, text, values::duration(text).is_some());
            }
            (Shape::Size, Kind::Text(text)) => self.text(shape, node, text, values::size(text).is_some()),
            (Shape::Size, Kind::Integer(number)) if *number < 0 => self.mistyped(shape, node),
            (Shape::Timestamp, Kind::Text(text)) => {
                self.text(shape, node, text, UnixTime::parse(text).is_ok());
            }
            (Shape::Text(grammar), Kind::Text(text)) => self.grammar(grammar, node, text),
            (Shape::Integer { min, max }, Kind::Integer(number)) if !(min..=max).contains(&number) => {
                self.fault(
                    node.line,
                    format!("`{number}` is out of range"),
                    format!("write {}", shape.say()),
                );
            }
            (Shape::Integer { .. }, Kind::Fraction(_)) => self.mistyped(shape, node),
            (Shape::List { of, min }, Kind::List(items)) => {
                if items.len() < *min {
                    let what = if items.is_empty() { "an empty list" } else { "too short" };
                    self.fault(
                        node.line,
                        what.to_owned(),
                        format!("write {}, or leave the word out", shape.say()),
                    );
                }
                for (index, item) in items.iter().enumerate() {
                    self.within(&index.to_string(), |walk| walk.value(of, item));
                }
            }
            (Shape::Pattern, Kind::List(items)) => {
                const ONE: Shape = Shape::Either(&[
                    Shape::Text(&grammar::ANY),
                    Shape::Integer { min: -MAX_INTEGER, max: MAX_INTEGER },
                    Shape::Bool,
                ]);
                if items.is_empty() {
                    self.fault(node.line, String::from("an empty list, which nothing matches"), shape.say());
                }
                for (index, item) in items.iter().enumerate() {
                    self.within(&index.to_string(), |walk| walk.value(&ONE, item));
                }
            }
            (Shape::Value, Kind::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.within(&index.to_string(), |walk| walk.value(&Shape::Text(&grammar::ANY), item));
                }
            }
            (Shape::Pattern | Shape::Value, Kind::Text(text)) => self.grammar(&grammar::ANY, node, text),
            (Shape::Object(object), Kind::Object(members)) => self.object(object, node, members),
            (Shape::Test, Kind::Object(members)) => self.object(&words::OPERATORS, node, members),
            (Shape::Test, _) => self.value(&Shape::Pattern, node),
            (Shape::When, Kind::Object(members)) => self.object(&words::WHEN, node, members),
            _ => {}
        }
    }

    fn object(&mut self, object: &Object, node: &Node, members: &[Member]) {
        let mut seen: std::collections::BTreeMap<&str, u32> = std::collections::BTreeMap::new();
        for member in members {
            let field = object.fields.iter().find(|field| field.name == member.name);
            self.within(&member.name, |walk| {
                let line = member.node.line;
                if let Some(first) = seen.get(member.name.as_str()) {
                    walk.fault(
                        line,
                        format!("written twice, first on line {first}"),
                        String::from("keep one of the two"),
                    );
                }
                match (field, &object.rest) {
                    (Some(Field { shape: Some(shape), .. }), _) => walk.value(shape, &member.node),
                    (Some(_), _) => walk.not_built(line, &member.name),
                    (None, Some(rest)) => {
                        if !(rest.names.check)(&member.name) {
                            walk.fault(
                                line,
                                format!("the name `{}` is not allowed here", quoted(&member.name)),
                                format!("write {}", rest.names.say),
                            );
                        }
                        walk.value(&rest.of, &member.node);
                    }
                    (None, None) => {
                        let known: Vec<&str> = object.built().collect();
                        walk.fault(
                            line,
                            format!("unknown word `{}`", quoted(&member.name)),
                            meant(&member.name, &known),
                        );
                    }
                }
            });
            seen.entry(&member.name).or_insert(member.node.line);
        }
        for field in object.fields {
            if field.required && !seen.contains_key(field.name) {
                let say = field.shape.map(|shape| shape.say()).unwrap_or_default();
                self.within(field.name, |walk| {
                    walk.fault(node.line, format!("`{}` is missing", field.name), format!("write {say}"));
                });
            }
        }
    }

    fn choice(&mut self, choice: &Choice, node: &Node, text: &str) {
        if choice.later.contains(&text) {
            self.not_built(node.line, text);
        } else if !choice.built.contains(&text) {
            self.fault(node.line, format!("unknown choice `{}`", quoted(text)), meant(text, choice.built));
        }
    }

    fn grammar(&mut self, grammar: &Grammar, node: &Node, text: &str) {
        if !(grammar.check)(text) {
            let what = if grammar.secret {
                String::from("not well formed")
            } else {
                format!("`{}` is not well formed", quoted(text))
            };
            self.fault(node.line, what, format!("write {}", grammar.say));
        }
    }

    fn text(&mut self, shape: &Shape, node: &Node, text: &str, right: bool) {
        if !right {
            self.fault(
                node.line,
                format!("`{}` is not well formed", quoted(text)),
                format!("write {}", shape.say()),
            );
        }
    }

    fn not_built(&mut self, line: u32, word: &str) {
        self.fault(
            line,
            format!("`{word}` is a word of mlgate that is not built yet"),
            String::from("leave it out until a version of mlgate knows it"),
        );
    }

    fn mistyped(&mut self, shape: &Shape, node: &Node) {
        let (what, unquoted) = match &node.kind {
            Kind::Bool(value) => (format!("`{value}`"), true),
            Kind::Fraction(value) => (format!("the number `{value}`"), true),
            Kind::Integer(value) => (format!("the number `{value}`"), true),
            Kind::List(_) => (String::from("a list"), false),
            Kind::Null => (String::from("nothing"), false),
            Kind::Object(_) => (String::from("an object"), false),
            Kind::Text(text) => (format!("the text `{}`", quoted(text)), false),
        };
        let say = shape.say();
        let remedy = match &node.kind {
            Kind::Null => format!("write {say}, or leave the word out"),
            _ if unquoted && shape.takes_text() => {
                format!("write {say}; a text that looks like a number or a truth value needs quotes")
            }
            _ => format!("write {say}"),
        };
        self.fault(node.line, format!("{what} cannot stand here"), remedy);
    }
}

// === impl Object ===

impl Object {
    /// Names of the fields that work.
    pub fn built(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().filter(|field| field.shape.is_some()).map(|field| field.name)
    }
}

/// The beginning of what the writer wrote, without control characters.
fn quoted(text: &str) -> String {
    let mut short: String =
        text.chars().take(MAX_QUOTED).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        short.push('…');
    }
    short
}

fn one_of(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
}

/// The nearest of the known words where one is near, else all of them.
fn meant(word: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|known| (distance(word, known), known))
        .filter(|(distance, known)| *distance <= known.len().div_euclid(3).max(1))
        .min();
    match near {
        Some((_, near)) => format!("did you mean `{near}`?"),
        None => format!("write {}", one_of(known)),
    }
}

/// How many letters must be put in, left out or changed (Levenshtein); words over 64 letters are far from all.
fn distance(left: &str, right: &str) -> usize {
    const FAR: usize = 64;
    if left.len() > FAR || right.len() > FAR {
        return FAR;
    }
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i.saturating_add(1);
        for (place, r) in row.iter_mut().skip(1).zip(right.chars()) {
            let changed = diagonal.saturating_add(usize::from(l != r));
            diagonal = *place;
            *place = changed.min(before.min(*place).saturating_add(1));
            before = *place;
        }
        if let Some(first) = row.first_mut() {
            *first = i.saturating_add(1);
        }
    }
    row.last().copied().unwrap_or(FAR)
}
