//! Texts with captures: paths by segment, hosts by label, and the ids that are made of what was captured.
//!
//! A segment holds at most one capture, so that there is one way to read it.

use crate::config::faults::Faults;

/// A path or a host, split at its separator.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
}

/// An id with captures.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

/// What captures stand for in one request, by name.
pub(crate) type Captures<'p, 't> = Vec<(&'p str, &'t str)>;

#[derive(Clone, Debug)]
enum Part {
    Exact(Box<str>),
    Capture { before: Box<str>, name: Box<str>, after: Box<str> },
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(Box<str>),
    Capture(Box<str>),
}

// === impl Pattern ===

impl Pattern {
    /// Compiles a path, which begins with a slash, or a host. `None` and a fault when it is malformed.
    pub(crate) fn compile(text: &str, separator: char, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let mut parts = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for part in text.split(separator) {
            let pieces = match pieces(part) {
                Ok(pieces) => pieces,
                Err(what) => {
                    faults.at(pointer, format!("`{text}`: {what}"), CAPTURE_REMEDY);
                    return None;
                }
            };
            let part = match pieces.as_slice() {
                [] => Part::Exact("".into()),
                [Piece::Literal(text)] => Part::Exact(text.clone()),
                [Piece::Capture(name)] => Part::capture("", name, ""),
                [Piece::Literal(before), Piece::Capture(name)] => Part::capture(before, name, ""),
                [Piece::Capture(name), Piece::Literal(after)] => Part::capture("", name, after),
                [Piece::Literal(before), Piece::Capture(name), Piece::Literal(after)] => {
                    Part::capture(before, name, after)
                }
                _ => {
                    faults.at(
                        pointer,
                        format!("`{text}` captures twice between two `{separator}`"),
                        "capture once, so that there is one way to read it",
                    );
                    return None;
                }
            };
            parts.push(part);
        }
        for part in &parts {
            let Part::Capture { name, .. } = part else { continue };
            if names.contains(&&**name) {
                faults.at(
                    pointer,
                    format!("`{text}` captures `{name}` twice"),
                    "give each capture its own name",
                );
                return None;
            }
            names.push(name);
        }
        Some(Self { parts })
    }

    /// The names it captures.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture { name, .. } => Some(&**name),
            Part::Exact(_) => None,
        })
    }

    /// A path that it matches.
    pub(crate) fn sample(&self) -> String {
        let parts: Vec<String> = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Exact(text) => text.to_string(),
                Part::Capture { before, after, .. } => format!("{before}x{after}"),
            })
            .collect();
        parts.join("/")
    }

    /// Whether a split text looks like this; what is captured is added to `captures`.
    pub(crate) fn matches<'p, 't>(
        &'p self,
        mut text: impl Iterator<Item = &'t str>,
        captures: &mut Captures<'p, 't>,
    ) -> bool {
        let all = self.parts.iter().all(|part| {
            let Some(text) = text.next() else { return false };
            match part {
                Part::Exact(exact) => &**exact == text,
                Part::Capture { before, name, after } => {
                    let inside = text.strip_prefix(&**before).and_then(|rest| rest.strip_suffix(&**after));
                    let inside = inside.filter(|inside| !inside.is_empty());
                    captures.extend(inside.map(|inside| (&**name, inside)));
                    inside.is_some()
                }
            }
        });
        all && text.next().is_none()
    }
}

// === impl Part ===

impl Part {
    fn capture(before: &str, name: &str, after: &str) -> Self {
        Self::Capture { before: before.into(), name: name.into(), after: after.into() }
    }
}

// === impl Template ===

impl Template {
    /// Compiles an id. `None` and a fault when it is malformed.
    pub(crate) fn compile(text: &str, pointer: &str, faults: &mut Faults) -> Option<Self> {
        match pieces(text) {
            Ok(pieces) => Some(Self { pieces }),
            Err(what) => {
                faults.at(pointer, format!("`{text}`: {what}"), CAPTURE_REMEDY);
                None
            }
        }
    }

    /// The names it needs.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Capture(name) => Some(&**name),
            Piece::Literal(_) => None,
        })
    }

    /// The text with what was captured.
    pub(crate) fn fill(&self, captures: &Captures<'_, '_>) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Capture(name) => {
                    let captured = captures.iter().find(|(known, _)| *known == &**name);
                    text.push_str(captured.map_or("", |(_, captured)| captured));
                }
            }
        }
        text
    }
}

/// The longest name of a capture, in bytes.
const MAX_CAPTURE_NAME: usize = 32;

const CAPTURE_REMEDY: &str = "write captures as `{name}`, the name in lower-case letters, digits and `_`";

fn pieces(text: &str) -> Result<Vec<Piece>, &'static str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((literal, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or("a brace is not closed")?;
        let is_name = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
            && name.len() <= MAX_CAPTURE_NAME
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if !is_name {
            return Err("what stands in braces is not the name of a capture");
        }
        if literal.contains('}') {
            return Err("a brace was not opened");
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.into()));
        }
        pieces.push(Piece::Capture(name.into()));
        rest = after;
    }
    if rest.contains('}') {
        return Err("a brace was not opened");
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.into()));
    }
    Ok(pieces)
}
