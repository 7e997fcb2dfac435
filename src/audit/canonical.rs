//! Canonical JSON (RFC 8785) as audit events use it: objects, texts, booleans, integers, lists of texts.
//!
//! [`Canonical`] writes members in the order it is told; who calls it knows the order (RFC 8785 §3.2.3: by UTF-16
//! code units). [`Tree`] reads a line strictly and sorts for itself. A general serializer would do, but it sorts
//! and re-reads every name of every event, which costs more than the rest of a request's audit work.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Largest integer that every JSON reader keeps exactly, 2^53−1 (RFC 8785 §3.2.2.3, RFC 7493 §2.2).
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Bytes of one text as written, escapes counted; a longer one is cut and ends with `…`.
pub const MAX_TEXT_BYTES: usize = 1024;

/// Texts in one list; what lies beyond is replaced by one `…`.
pub const MAX_LIST_TEXTS: usize = 64;

/// Writes members one after the other.
#[derive(Clone, Debug, Default)]
pub struct Canonical {
    bytes: Vec<u8>,
}

/// One JSON value without floats, nulls and duplicate members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// Truth value.
    Bool(bool),
    /// An integer within ±[`MAX_INTEGER`].
    Integer(i64),
    /// A list of texts.
    List(Vec<String>),
    /// Members, sorted as RFC 8785 §3.2.3 sorts them.
    Object(Vec<(String, Self)>),
    /// A text.
    Text(String),
}

// === impl Canonical ===

impl Canonical {
    /// With room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// Opens the object itself.
    pub fn open(&mut self) {
        self.bytes.push(b'{');
    }

    /// Closes the innermost object.
    pub fn close(&mut self) {
        self.bytes.push(b'}');
    }

    /// Opens an object under a name.
    pub fn object(&mut self, name: &str) {
        self.name(name);
        self.open();
    }

    /// A text, cut at [`MAX_TEXT_BYTES`].
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.push_cut_text(value);
    }

    /// A text where there is one.
    pub fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// `true`, or nothing: in an event, false is absent.
    pub fn mark_if(&mut self, name: &str, value: bool) {
        if value {
            self.boolean(name, true);
        }
    }

    /// A truth value.
    pub fn boolean(&mut self, name: &str, value: bool) {
        self.name(name);
        self.bytes.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// A whole number, cut at ±[`MAX_INTEGER`].
    pub fn integer(&mut self, name: &str, value: i64) {
        self.name(name);
        if value < 0 {
            self.bytes.push(b'-');
        }
        self.push_digits(value.unsigned_abs());
    }

    /// A count, cut at [`MAX_INTEGER`].
    pub fn count(&mut self, name: &str, value: u64) {
        self.name(name);
        self.push_digits(value);
    }

    /// A count where there is one.
    pub fn count_if(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.count(name, value);
        }
    }

    /// A list of texts, cut at [`MAX_LIST_TEXTS`].
    pub fn list(&mut self, name: &str, values: &[String]) {
        self.name(name);
        self.bytes.push(b'[');
        for value in values.iter().take(MAX_LIST_TEXTS) {
            self.comma();
            self.push_cut_text(value);
        }
        if values.len() > MAX_LIST_TEXTS {
            self.comma();
            self.push_text("…");
        }
        self.bytes.push(b']');
    }

    /// A list, or nothing when it is empty.
    pub fn list_if(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            self.list(name, values);
        }
    }

    /// Where a member can be put in later as `"name":value,`. A member must follow.
    pub fn cut(&mut self) -> usize {
        self.comma();
        self.bytes.len()
    }

    /// How much was written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A name and its colon, after the comma that the place needs.
    fn name(&mut self, name: &str) {
        self.comma();
        self.push_text(name);
        self.bytes.push(b':');
    }

    /// INVARIANT: outside a text, `{`, `[` and `,` stand only where the next member or element needs no comma.
    fn comma(&mut self) {
        if !matches!(self.bytes.last(), None | Some(b'{' | b'[' | b',')) {
            self.bytes.push(b',');
        }
    }

    fn push_digits(&mut self, value: u64) {
        self.bytes.extend_from_slice(value.min(MAX_INTEGER).to_string().as_bytes());
    }

    fn push_cut_text(&mut self, value: &str) {
        let kept = kept_prefix(value);
        if kept.len() == value.len() {
            self.push_text(value);
        } else {
            self.push_text(&format!("{kept}…"));
        }
    }

    /// RFC 8785 §3.2.2.2.
    fn push_text(&mut self, value: &str) {
        self.bytes.push(b'"');
        let mut rest = value.as_bytes();
        loop {
            let (before, after) = rest.split_at_checked(plain_bytes(rest)).unwrap_or((rest, &[]));
            self.bytes.extend_from_slice(before);
            let Some((byte, after)) = after.split_first() else { break };
            match byte {
                b'"' => self.bytes.extend_from_slice(b"\\\""),
                b'\\' => self.bytes.extend_from_slice(b"\\\\"),
                0x08 => self.bytes.extend_from_slice(b"\\b"),
                b'\t' => self.bytes.extend_from_slice(b"\\t"),
                b'\n' => self.bytes.extend_from_slice(b"\\n"),
                0x0c => self.bytes.extend_from_slice(b"\\f"),
                b'\r' => self.bytes.extend_from_slice(b"\\r"),
                control => self.bytes.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
            }
            rest = after;
        }
        self.bytes.push(b'"');
    }

    fn push_tree(&mut self, tree: &Tree) {
        match tree {
            Tree::Bool(value) => self.bytes.extend_from_slice(if *value { b"true" } else { b"false" }),
            Tree::Integer(value) => self.bytes.extend_from_slice(value.to_string().as_bytes()),
            Tree::List(values) => {
                self.bytes.push(b'[');
                for value in values {
                    self.comma();
                    self.push_text(value);
                }
                self.bytes.push(b']');
            }
            Tree::Object(members) => {
                self.open();
                for (name, value) in members {
                    self.name(name);
                    self.push_tree(value);
                }
                self.close();
            }
            Tree::Text(value) => self.push_text(value),
        }
    }
}

// === impl Tree ===

impl Tree {
    /// Reads one JSON text; the error says in a few words what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// The canonical bytes.
    pub fn canonical(&self) -> Vec<u8> {
        let mut writer = Canonical::with_capacity(1024);
        writer.push_tree(self);
        writer.into_bytes()
    }

    /// The canonical bytes; where in them the member `name` is, with the comma after it; and where a member
    /// `absent` would go, with the comma after it. Both must have a member behind them.
    #[cfg(any(test, feature = "cases"))]
    pub fn canonical_around(&self, name: &str, absent: &str) -> (Vec<u8>, std::ops::Range<usize>, usize) {
        let Self::Object(members) = self else { return (self.canonical(), 0..0, 0) };
        let mut writer = Canonical::with_capacity(1024);
        let (mut around, mut place) = (0..0, None);
        writer.open();
        for (known, value) in members {
            let start = writer.cut();
            if place.is_none() && by_code_units(known, absent) == Ordering::Greater {
                place = Some(start);
            }
            writer.name(known);
            writer.push_tree(value);
            if known == name {
                around = start..writer.len().saturating_add(1);
            }
        }
        writer.close();
        let place = place.unwrap_or(around.end);
        (writer.into_bytes(), around, place)
    }

    /// A member of an object.
    pub fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(known, _)| known == name).map(|(_, value)| value),
            Self::Bool(_) | Self::Integer(_) | Self::List(_) | Self::Text(_) => None,
        }
    }

    /// The text of a member.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.member(name) {
            Some(Self::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The count of a member; negative numbers are none.
    pub fn count(&self, name: &str) -> Option<u64> {
        match self.member(name) {
            Some(Self::Integer(number)) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Takes a member out of an object.
    pub fn remove(&mut self, name: &str) -> Option<Self> {
        let Self::Object(members) = self else { return None };
        let at = members.iter().position(|(known, _)| known == name)?;
        Some(members.remove(at).1)
    }

    /// Puts a member into an object, in its place; one of the same name is replaced.
    pub fn insert(&mut self, name: &str, value: Self) {
        let Self::Object(members) = self else { return };
        match members.binary_search_by(|(known, _)| by_code_units(known, name)) {
            Ok(at) => {
                if let Some(slot) = members.get_mut(at) {
                    slot.1 = value;
                }
            }
            Err(at) => members.insert(at, (name.to_owned(), value)),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, a text, a truth value, an integer up to 2^53−1 or a list of texts")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Tree, E> {
        if value.unsigned_abs() > MAX_INTEGER {
            return Err(E::custom("an integer beyond 2^53−1"));
        }
        Ok(Tree::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
        self.visit_i64(i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(text) = elements.next_element::<String>()? {
            list.push(text);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut members: Vec<(String, Tree)> = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        members.sort_by(|(a, _), (b, _)| by_code_units(a, b));
        if let Some((name, _)) = members
            .iter()
            .zip(members.iter().skip(1))
            .find_map(|(this, next)| (this.0 == next.0).then_some(this))
        {
            return Err(A::Error::custom(format!("duplicate member `{}`", name.escape_debug())));
        }
        Ok(Tree::Object(members))
    }
}

/// The order of names, RFC 8785 §3.2.3. It differs from the order of their bytes beyond U+FFFF alone.
pub fn by_code_units(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// How many bytes at the beginning need no escape. Texts that need one are rare, so eight bytes are looked at at once.
fn plain_bytes(text: &[u8]) -> usize {
    /// A one in each byte.
    const ONES: u64 = 0x0101_0101_0101_0101;
    /// The first bit of each byte.
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // below `limit`, which is at most 128; a byte may borrow of the next only where a lower one is below it already
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES.wrapping_mul(limit)) & !word & HIGH;
    let is = |word: u64, byte: u8| below(word ^ ONES.wrapping_mul(u64::from(byte)), 1);
    let (words, _) = text.as_chunks::<8>();
    let plain = words
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .take_while(|word| below(*word, 0x20) | is(*word, b'"') | is(*word, b'\\') == 0);
    let plain = plain.count().saturating_mul(8);
    let rest = text.get(plain..).unwrap_or_default();
    plain.saturating_add(rest.iter().position(|byte| escaped_len(*byte) > 1).unwrap_or(rest.len()))
}

const fn escaped_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | 0x08 | b'\t' | b'\n' | 0x0c | b'\r' => 2,
        0x00..=0x1f => 6,
        _ => 1,
    }
}

/// As much of a text as [`MAX_TEXT_BYTES`] hold.
fn kept_prefix(value: &str) -> &str {
    const LONGEST_ESCAPE: usize = 6;
    if value.len() <= MAX_TEXT_BYTES / LONGEST_ESCAPE {
        return value;
    }
    let mut written: usize = 0;
    let mut end = value.len();
    for (at, byte) in value.bytes().enumerate() {
        written = written.saturating_add(escaped_len(byte));
        if written > MAX_TEXT_BYTES {
            end = at;
            break;
        }
    }
    value.get(..value.floor_char_boundary(end)).unwrap_or("")
}

#[cfg(test)]
mod tests;
