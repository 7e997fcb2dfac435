//! A document becomes a tree that keeps what serde would forget: duplicate members, their order, and lines.
//!
//! JSON (RFC 8259) is what the filter is given. YAML (1.2, core schema) is read by the command alone, through
//! `from_yaml`. Both end in the same [`Node`]s, so one walk serves both.

use std::cell::Cell;
use std::fmt;
use std::io::Read;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::audit::chain::hex;
use crate::config::Format;
use crate::config::faults::{Fault, Faults};

mod wire;
#[cfg(feature = "cases")]
mod yaml;

#[cfg(test)]
mod tests;

/// A document with positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    root: Node,
}

/// One value and the line on which it, or the name it belongs to, begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// From 1; 0 in a protobuf Struct, which has no lines.
    pub line: u32,
    /// The value itself.
    pub kind: Kind,
}

/// What a [`Node`] is. A number without a fraction is an [`Kind::Integer`] however it is written, since a protobuf
/// Struct knows doubles only.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool(bool),
    /// Any other number.
    Fraction(f64),
    /// A whole number within ±(2^53−1).
    Integer(i64),
    /// A list.
    List(Vec<Node>),
    /// `null`, or a YAML word with nothing behind it.
    Null,
    /// Members in written order, duplicates included.
    Object(Vec<Member>),
    /// A text.
    Text(String),
}

/// One member of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its value.
    pub node: Node,
}

/// A document larger than this is refused, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

/// Deepest nesting of a document.
pub const MAX_DEPTH: usize = 32;

/// Deepest nesting of a document of the proxy, in which one of ours may stand.
pub const MAX_PROXY_DEPTH: usize = 72;

/// Most values in a document.
pub const MAX_NODES: usize = 1_000_000;

/// Largest whole number that every JSON reader keeps exactly (RFC 8259 §6).
pub const MAX_INTEGER: i64 = 9_007_199_254_740_991;

// === impl Tree ===

impl Tree {
    /// Reads a document of either form.
    ///
    /// # Errors
    /// As [`Tree::from_json`] and `from_yaml`.
    pub fn read(bytes: &[u8], format: Format) -> Result<Self, Faults> {
        match format {
            Format::Json => Self::from_json(bytes),
            Format::Plugin => Self::from_plugin(bytes),
            #[cfg(feature = "cases")]
            Format::Yaml => Self::from_yaml(bytes),
        }
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// One fault: where the text stops being JSON, or which limit it is over.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Faults> {
        Self::json_within(bytes, MAX_DEPTH)
    }

    fn json_within(bytes: &[u8], deepest: usize) -> Result<Self, Faults> {
        within_size(bytes)?;
        let line = Cell::new(1);
        let nodes = Cell::new(0);
        let mut reader = serde_json::Deserializer::from_reader(LineReader { bytes, line: &line });
        NodeSeed { depth: 0, deepest, line: &line, nodes: &nodes }
            .deserialize(&mut reader)
            .and_then(|root| reader.end().map(|()| Self { root }))
            .map_err(|error| {
                let message = error.to_string();
                // the place is a field of the fault
                let what = message.split(" at line ").next().unwrap_or(&message);
                syntax(
                    error.line(),
                    &format!("not a JSON document: {what}"),
                    "correct the JSON at this place",
                )
            })
    }

    /// Reads what the proxy hands to a plugin: a protobuf Struct where the bootstrap has one, else JSON. Bytes of a
    /// Struct hold a control character for each value, so that no JSON text is ever taken for one.
    ///
    /// # Errors
    /// As [`Tree::from_json`].
    pub fn from_plugin(bytes: &[u8]) -> Result<Self, Faults> {
        within_size(bytes)?;
        match wire::read(bytes) {
            Ok(root) => Ok(Self { root }),
            Err(wire::Unread::Other) => Self::from_json(bytes),
            Err(wire::Unread::Over(what)) => {
                let mut faults = Faults::default();
                faults.at("", what, "split the consumers over several gates");
                Err(faults)
            }
        }
    }

    /// Reads YAML, of which JSON is a part.
    ///
    /// # Errors
    /// One fault: where the text stops being YAML that has one reading.
    #[cfg(feature = "cases")]
    pub fn from_yaml(bytes: &[u8]) -> Result<Self, Faults> {
        Self::yaml_within(bytes, MAX_DEPTH)
    }

    /// Reads a document of the proxy, under the same rules as one of ours but deeper.
    ///
    /// # Errors
    /// As [`Tree::from_json`] and `from_yaml`.
    #[cfg(feature = "cli")]
    pub fn of_proxy(bytes: &[u8], format: Format) -> Result<Self, Faults> {
        match format {
            Format::Yaml => Self::yaml_within(bytes, MAX_PROXY_DEPTH),
            Format::Json | Format::Plugin => Self::json_within(bytes, MAX_PROXY_DEPTH),
        }
    }

    #[cfg(feature = "cases")]
    fn yaml_within(bytes: &[u8], deepest: usize) -> Result<Self, Faults> {
        within_size(bytes)?;
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
            syntax(line, "not UTF-8", "save the file as UTF-8")
        })?;
        yaml::read(text.strip_prefix('\u{feff}').unwrap_or(text), deepest).map(|root| Self { root })
    }

    /// The outermost value.
    pub const fn root(&self) -> &Node {
        &self.root
    }

    /// The line of what a JSON pointer names, or of the nearest part of it that exists.
    pub fn line_of(&self, pointer: &str) -> Option<u32> {
        let (node, _) = self.walk(pointer);
        Some(node.line).filter(|line| *line > 0)
    }

    /// What a JSON pointer names.
    pub fn at(&self, pointer: &str) -> Option<&Node> {
        let (node, whole) = self.walk(pointer);
        whole.then_some(node)
    }

    /// The part of a pointer that exists, and whether that is all of it.
    fn walk(&self, pointer: &str) -> (&Node, bool) {
        let mut node = &self.root;
        for part in pointer.split('/').skip(1) {
            let name = part.replace("~1", "/").replace("~0", "~");
            let inner = match &node.kind {
                Kind::List(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)),
                Kind::Object(members) => {
                    members.iter().find(|member| member.name == name).map(|member| &member.node)
                }
                _ => None,
            };
            match inner {
                Some(inner) => node = inner,
                None => return (node, false),
            }
        }
        (node, true)
    }

    /// The value without positions; of duplicate members the last.
    pub fn to_json(&self) -> Json {
        self.root.to_json()
    }

    /// The canonical form (RFC 8785): the same for YAML and JSON, whatever order and layout.
    ///
    /// # Errors
    /// A value that RFC 8785 cannot write.
    pub fn canonical(&self) -> Result<Vec<u8>, Fault> {
        serde_json_canonicalizer::to_vec(&self.to_json()).map_err(|error| Fault {
            pointer: String::new(),
            line: None,
            what: format!("has no canonical form: {error}"),
            remedy: String::from("write whole numbers and texts"),
        })
    }

    /// SHA-256 of [`Tree::canonical`], in hexadecimal: `policy_revision` of audit events.
    ///
    /// # Errors
    /// As [`Tree::canonical`].
    pub fn policy_revision(&self) -> Result<String, Fault> {
        Ok(hex(&Sha256::digest(self.canonical()?)))
    }
}

impl From<Node> for Tree {
    fn from(root: Node) -> Self {
        Self { root }
    }
}

// === impl Node ===

impl Node {
    /// The value without positions; of duplicate members the last.
    pub fn to_json(&self) -> Json {
        match &self.kind {
            Kind::Bool(value) => Json::Bool(*value),
            Kind::Fraction(value) => serde_json::Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Kind::Integer(value) => Json::from(*value),
            Kind::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Kind::Null => Json::Null,
            Kind::Object(members) => {
                Json::Object(members.iter().map(|m| (m.name.clone(), m.node.to_json())).collect())
            }
            Kind::Text(text) => Json::String(text.clone()),
        }
    }
}

// === impl Kind ===

impl Kind {
    /// A number, whole where it has no fraction.
    fn number(value: f64) -> Self {
        if value.fract() == 0.0 {
            // through text, since a cast would saturate silently
            if let Ok(whole) = format!("{value:.0}").parse::<i64>()
                && whole.unsigned_abs() <= MAX_INTEGER.unsigned_abs()
            {
                return Self::Integer(whole);
            }
        }
        Self::Fraction(value)
    }

    /// A whole number, as a [`Kind::Fraction`] where doubles would not keep it.
    fn whole(value: i128) -> Self {
        match i64::try_from(value) {
            Ok(value) if value.unsigned_abs() <= MAX_INTEGER.unsigned_abs() => Self::Integer(value),
            // INVARIANT: the text of a whole number is the text of a double
            _ => Self::Fraction(value.to_string().parse().unwrap_or(f64::MAX)),
        }
    }
}

/// Counts lines as serde_json takes bytes, which it does one by one.
struct LineReader<'a> {
    bytes: &'a [u8],
    line: &'a Cell<u32>,
}

impl Read for LineReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let (Some((byte, rest)), Some(place)) = (self.bytes.split_first(), buffer.first_mut()) else {
            return Ok(0);
        };
        *place = *byte;
        self.bytes = rest;
        if *byte == b'\n' {
            self.line.set(self.line.get().saturating_add(1));
        }
        Ok(1)
    }
}

/// Reads one value. When it is asked, serde_json has seen the first byte of a list's element and the colon of a
/// member: the counter is on the line where a person would look.
#[derive(Clone, Copy)]
struct NodeSeed<'a> {
    depth: usize,
    deepest: usize,
    line: &'a Cell<u32>,
    nodes: &'a Cell<usize>,
}

impl NodeSeed<'_> {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.saturating_add(1);
        if depth > self.deepest {
            return Err(E::custom(format_args!("nested more than {} deep", self.deepest)));
        }
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.nodes.set(self.nodes.get().saturating_add(1));
        if self.nodes.get() > MAX_NODES {
            return Err(serde::de::Error::custom(format_args!("more than {MAX_NODES} values")));
        }
        let line = self.line.get();
        Ok(Node { line, kind: deserializer.deserialize_any(self)? })
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Kind;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::whole(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::whole(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::number(value))
    }
    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        Ok(Kind::Text(text.to_owned()))
    }
    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        let seed = self.inner()?;
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(seed)? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let seed = self.inner()?;
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let node = map.next_value_seed(seed)?;
            members.push(Member { name, node });
        }
        Ok(Kind::Object(members))
    }
}

fn within_size(bytes: &[u8]) -> Result<(), Faults> {
    if bytes.len() > MAX_BYTES {
        let mut faults = Faults::default();
        faults.at("", format!("larger than {MAX_BYTES} bytes"), "split the consumers over several gates");
        return Err(faults);
    }
    Ok(())
}

/// One fault of the text itself, which has a line and no pointer.
fn syntax(line: usize, what: &str, remedy: &str) -> Faults {
    let mut faults = Faults::default();
    faults.at("", what, remedy);
    faults.locate(|_| u32::try_from(line).ok().filter(|line| *line > 0));
    faults
}
