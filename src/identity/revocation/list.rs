//! The document of a revocation list: JSON (RFC 8259) becomes a [`RevocationList`] and that a [`Revocation`].
//!
//! It is read whole or not at all: an unknown or doubled member, a wrong type, an entry that could never match, or more
//! than the bounds refuse it. Nothing in it is nested deeper than an entry.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Revocation, Words};
use crate::config::faults::Faults;
use crate::identity::spec::RevokedTokenSpec;
use crate::remote::keeper::{Kind, Unreadable};
use crate::time::UnixTime;

/// What was taken back, in written order. Words are those of `authentication.revocation`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationList {
    /// Always 1.
    pub version: u32,
    /// Public parts of keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Ids of principals, whatever they show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<String>,
    /// SPIFFE IDs of certificates, whoever they belong to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spiffe_ids: Vec<String>,
    /// Tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<RevokedTokenSpec>,
    /// For people; the gate does not look at them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// Why an entry is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The [`Entry`], as it is shown.
    pub entry: String,
    /// RFC 3339.
    pub at: String,
    /// In the operator's words.
    pub why: String,
}

/// One thing that is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The public part of a key.
    Key(String),
    /// The id of a principal.
    Principal(String),
    /// A SPIFFE ID.
    SpiffeId(String),
    /// An issuer's token.
    Token(RevokedTokenSpec),
}

/// Why a list is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidList(String);

/// Bytes of a list.
pub const MAX_BYTES: usize = 16 << 20;

/// Entries of all kinds together.
pub const MAX_ENTRIES: usize = 250_000;

/// Bytes of one text.
pub const MAX_TEXT: usize = 4096;

/// The kind of document that this is.
#[derive(Clone, Copy, Debug)]
pub struct ListedRevocation;

/// The version of this form.
const VERSION: u32 = 1;

// === impl RevocationList ===

impl RevocationList {
    /// Reads a list.
    ///
    /// # Errors
    /// What is wrong with it, where that is one thing the first.
    pub fn read(bytes: &[u8]) -> Result<Self, InvalidList> {
        let list = Self::parse(bytes)?;
        list.compile().map(|_| list)
    }

    fn parse(bytes: &[u8]) -> Result<Self, InvalidList> {
        if bytes.len() > MAX_BYTES {
            return Err(InvalidList(format!("larger than {MAX_BYTES} bytes")));
        }
        serde_json::from_slice(bytes).map_err(|error| InvalidList(error.to_string()))
    }

    /// What is looked things up in.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn compile(&self) -> Result<Revocation, InvalidList> {
        if self.version != VERSION {
            return Err(InvalidList(format!("version {}, and {VERSION} is the only one", self.version)));
        }
        if self.len() > MAX_ENTRIES {
            return Err(InvalidList(format!("more than {MAX_ENTRIES} entries")));
        }
        let Self { keys, principals, spiffe_ids, tokens, .. } = self;
        let tokens_of = tokens.iter().flat_map(|token| [&token.issuer, &token.jti]);
        let texts = principals.iter().chain(spiffe_ids).chain(tokens_of);
        if texts.into_iter().any(|text| !is_text(text)) {
            return Err(InvalidList(format!(
                "an entry is empty, longer than {MAX_TEXT} bytes or has control characters"
            )));
        }
        let mut faults = Faults::default();
        let revocation = Revocation::of(Words { keys, principals, spiffe_ids, tokens }, "", &mut faults);
        match faults.iter().next() {
            Some(fault) => Err(InvalidList(format!("{}: {}: {}", fault.pointer, fault.what, fault.remedy))),
            None => Ok(revocation),
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        let Self { keys, principals, spiffe_ids, tokens, .. } = self;
        [keys.len(), principals.len(), spiffe_ids.len(), tokens.len()]
            .iter()
            .fold(0, |all, some| all.saturating_add(*some))
    }

    /// Whether nothing is taken back.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts an entry at the end of its kind, and says why if it is told. Whether it was not there before.
    pub fn add(&mut self, entry: &Entry, why: Option<(&str, UnixTime)>) -> bool {
        let is_new = match entry {
            Entry::Key(id) => add(&mut self.keys, id),
            Entry::Principal(id) => add(&mut self.principals, id),
            Entry::SpiffeId(id) => add(&mut self.spiffe_ids, id),
            Entry::Token(token) => add(&mut self.tokens, token),
        };
        if let Some((why, at)) = why.filter(|_| is_new) {
            let note = Note { entry: entry.to_string(), at: at.to_string(), why: why.to_owned() };
            self.notes.push(note);
        }
        is_new
    }

    /// Takes an entry out, with what was noted of it. Whether it was there.
    pub fn remove(&mut self, entry: &Entry) -> bool {
        let was_there = match entry {
            Entry::Key(id) => remove(&mut self.keys, id),
            Entry::Principal(id) => remove(&mut self.principals, id),
            Entry::SpiffeId(id) => remove(&mut self.spiffe_ids, id),
            Entry::Token(token) => remove(&mut self.tokens, token),
        };
        let name = entry.to_string();
        self.notes.retain(|note| note.entry != name);
        was_there
    }
}

impl Revocation {
    /// Reads a list as the gate does.
    ///
    /// # Errors
    /// As [`RevocationList::read`].
    pub fn read(bytes: &[u8]) -> Result<Self, InvalidList> {
        RevocationList::parse(bytes)?.compile()
    }
}

impl Kind for ListedRevocation {
    type Document = Revocation;

    fn read(&self, body: &[u8]) -> Result<Revocation, Unreadable> {
        Revocation::read(body).map_err(|error| Unreadable(error.to_string()))
    }
}

impl Default for RevocationList {
    fn default() -> Self {
        Self {
            version: VERSION,
            keys: Vec::new(),
            principals: Vec::new(),
            spiffe_ids: Vec::new(),
            tokens: Vec::new(),
            notes: Vec::new(),
        }
    }
}

fn add<T: Clone + PartialEq>(list: &mut Vec<T>, entry: &T) -> bool {
    let is_new = !list.contains(entry);
    if is_new {
        list.push(entry.clone());
    }
    is_new
}

fn remove<T: PartialEq>(list: &mut Vec<T>, entry: &T) -> bool {
    let before = list.len();
    list.retain(|known| known != entry);
    list.len() < before
}

fn is_text(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && !text.contains(char::is_control)
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => write!(f, "key {id}"),
            Self::Principal(id) => write!(f, "principal {id}"),
            Self::SpiffeId(id) => write!(f, "spiffe {id}"),
            Self::Token(token) => write!(f, "token {} of {}", token.jti, token.issuer),
        }
    }
}

impl fmt::Display for InvalidList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        RevocationList::read(text.as_bytes()).unwrap_err().to_string()
    }

    fn token(issuer: &str, jti: &str) -> RevokedTokenSpec {
        RevokedTokenSpec { issuer: issuer.into(), jti: jti.into() }
    }

    #[test]
    fn a_list_is_read_in_the_words_of_the_configuration() {
        let text = r#"{ "version": 1, "keys": ["k7f3a2b9"], "principals": ["user_2", "mtls:spiffe://a.example/w"],
            "spiffe_ids": ["spiffe://a.example/x"], "tokens": [{ "issuer": "https://a.example", "jti": "1" }],
            "notes": [{ "entry": "key k7f3a2b9", "at": "2026-01-01T00:00:00Z", "why": "lost" }] }"#;
        let list = RevocationList::read(text.as_bytes()).unwrap();
        assert_eq!(list.len(), 5);
        let revocation = list.compile().unwrap();
        assert!(revocation.key("k7f3a2b9") && !revocation.key("k7f3a2b8") && !revocation.key("k7f3a2b9x"));
        assert!(revocation.principal("user_2") && !revocation.principal("user_"));
        assert!(
            revocation.spiffe_id("spiffe://a.example/x") && !revocation.spiffe_id("spiffe://a.example/w")
        );
        assert!(revocation.token("https://a.example", "1") && !revocation.token("1", "https://a.example"));
        assert!(RevocationList::read(br#"{"version":1}"#).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_a_list_is_refused_whole() {
        let long = "x".repeat(MAX_TEXT + 1);
        for text in [
            "",
            "<html>not found</html>",
            "[]",
            "null",
            "{}",
            r#"{"version":2}"#,
            r#"{"version":"1"}"#,
            r#"{"version":1} {"version":1}"#,
            r#"{"version":1,"version":1}"#,
            r#"{"version":1,"keys":["k7f3a2b9"],"keys":[]}"#,
            r#"{"version":1,"key":["k7f3a2b9"]}"#,
            r#"{"version":1,"keys":["k7f3a2b"#,
            r#"{"version":1,"keys":"k7f3a2b9"}"#,
            r#"{"version":1,"keys":["K7F3A2B9"]}"#,
            r#"{"version":1,"keys":[null]}"#,
            r#"{"version":1,"principals":["anonymous"]}"#,
            r#"{"version":1,"principals":[""]}"#,
            r#"{"version":1,"principals":["a\nb"]}"#,
            r#"{"version":1,"spiffe_ids":["https://a.example/"]}"#,
            r#"{"version":1,"tokens":[{"issuer":"a"}]}"#,
            r#"{"version":1,"tokens":[{"issuer":"a","jti":"1","exp":1}]}"#,
            r#"{"version":1,"tokens":["1"]}"#,
            r#"{"version":1,"keys":[[[[]]]]}"#,
            &format!(r#"{{"version":1,"principals":["{long}"]}}"#),
        ] {
            assert!(RevocationList::read(text.as_bytes()).is_err(), "{text}");
        }
        let deep = format!(r#"{{"version":1,"keys":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(RevocationList::read(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_refusal_never_repeats_a_key() {
        let text = r#"{"version":1,"keys":["mlg_k7f3a2b9_0123456789ABCDEFGHIJKLMNOPQRSTUV2LJgwY"]}"#;
        assert!(!refused(text).contains("0123"), "{}", refused(text));
    }

    #[test]
    fn there_is_a_bound_on_entries_and_bytes() {
        let mut list =
            RevocationList { keys: vec!["k7f3a2b9".into(); MAX_ENTRIES], ..RevocationList::default() };
        assert!(list.compile().is_ok());
        list.principals.push("user_1".into());
        assert!(list.compile().is_err());
        assert!(refused(&" ".repeat(MAX_BYTES + 1)).contains("larger"));
    }

    #[test]
    fn entries_come_and_go_in_order_with_what_is_noted() {
        let mut list = RevocationList::default();
        let (a, b) = (Entry::Key("aaaaaaaa".into()), Entry::Token(token("https://a.example", "1")));
        let why = ("lost", UnixTime::from_millis(0));
        assert!(list.add(&a, Some(why)) && list.add(&b, None));
        assert!(!list.add(&a, Some(("again", UnixTime::from_millis(1)))));
        assert_eq!((list.keys.len(), list.tokens.len(), list.notes.len()), (1, 1, 1));
        let written = serde_json::to_vec(&list).unwrap();
        assert_eq!(RevocationList::read(&written).unwrap(), list);
        assert!(list.remove(&a) && !list.remove(&a));
        assert_eq!((list.keys.len(), list.tokens.len(), list.notes.len()), (0, 1, 0));
        assert!(list.remove(&b) && list.is_empty());
    }
}
