//! A JWK Set that an issuer serves becomes its usable keys (RFC 7517 §5).
//!
//! Whoever serves it is not the writer of the configuration, so that one key of a kind that we do not know, or one that is
//! malformed, spoils no other: it is left out, as RFC 7517 §5 asks. What spoils the whole is what makes it another
//! document to another reader: text that is no JSON, a second `keys`, more keys than may be.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};

use crate::identity::jwks::{Key, KeySet};

/// How much of a set is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetBounds {
    /// Keys, usable or not.
    pub keys: usize,
    /// Nesting of JSON; a key that lies deeper is left out.
    pub depth: usize,
}

/// Why a document is not a set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidSet {
    /// Not one JSON object with one list `keys`.
    Malformed,
    /// More keys than are read.
    TooMany,
    /// Not one key that verifies signatures.
    Useless,
}

/// Nesting that serde_json reads, less what lies around a key.
const MAX_DEPTH: usize = 120;

/// Reads a set.
///
/// # Errors
/// What is wrong with the whole of it. A set without a single usable key is wrong too: it must not take the place of one
/// that has some.
pub fn read(bytes: &[u8], bounds: SetBounds) -> Result<KeySet, InvalidSet> {
    // JSON is UTF-8 (RFC 8259 §8.1), also where it is passed over
    let text = std::str::from_utf8(bytes).map_err(|_| InvalidSet::Malformed)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut document = Document { bounds, too_many: false };
    let keys = (&mut document).deserialize(&mut reader);
    if document.too_many {
        return Err(InvalidSet::TooMany);
    }
    let keys = keys.ok().flatten().ok_or(InvalidSet::Malformed)?;
    reader.end().map_err(|_| InvalidSet::Malformed)?;
    let mut set = KeySet::empty();
    for key in keys.iter().flatten() {
        if let Ok(key) = Key::from_jwk(key) {
            set.insert(key);
        }
    }
    if set.is_empty() { Err(InvalidSet::Useless) } else { Ok(set) }
}

// === impl InvalidSet ===

impl fmt::Display for InvalidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is not a JWK Set",
            Self::TooMany => "it has more keys than `bounds.jwks_keys`",
            Self::Useless => "it has not one key that verifies signatures",
        })
    }
}

/// The outermost object; gives the elements of `keys`.
struct Document {
    bounds: SetBounds,
    too_many: bool,
}

/// Elements of `keys`: `None` for one that cannot be read.
type Elements = Vec<Option<Json>>;

impl<'de> DeserializeSeed<'de> for &mut Document {
    type Value = Option<Elements>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Document {
    type Value = Option<Elements>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut keys = None;
        while let Some(name) = map.next_key::<String>()? {
            if name != "keys" {
                map.next_value::<IgnoredAny>()?;
            } else if keys.replace(map.next_value_seed(List(self))?).is_some() {
                return Err(serde::de::Error::custom("a second list of keys"));
            }
        }
        Ok(keys)
    }
}

struct List<'a>(&'a mut Document);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Elements;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Elements, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Elements;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Elements, A::Error> {
        let mut elements = Elements::new();
        // around an element are the object and the list
        let left = self.0.bounds.depth.min(MAX_DEPTH).saturating_sub(2);
        while let Some(element) = list.next_element_seed(Element { left })? {
            if elements.len() >= self.0.bounds.keys {
                self.0.too_many = true;
                return Err(serde::de::Error::custom("too many keys"));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}

/// A value; `None` for one in which a member occurs twice (RFC 7517 §4), or that is nested too deep. Either is read to
/// its end, so that what follows can be read too.
#[derive(Clone, Copy)]
struct Element {
    left: usize,
}

impl<'de> DeserializeSeed<'de> for Element {
    type Value = Option<Json>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Json>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element {
    type Value = Option<Json>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Option<Json>, E> {
        Ok(Some(Json::Bool(value)))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Option<Json>, E> {
        Ok(Some(Json::from(value)))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Option<Json>, E> {
        Ok(Some(Json::from(value)))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Option<Json>, E> {
        Ok(Some(Number::from_f64(value).map_or(Json::Null, Json::Number)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Option<Json>, E> {
        Ok(Some(Json::String(text.to_owned())))
    }
    fn visit_unit<E>(self) -> Result<Option<Json>, E> {
        Ok(Some(Json::Null))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<Json>, A::Error> {
        let Some(left) = self.left.checked_sub(1) else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let mut items = Some(Vec::new());
        while let Some(item) = list.next_element_seed(Self { left })? {
            match (item, &mut items) {
                (Some(item), Some(items)) => items.push(item),
                _ => items = None,
            }
        }
        Ok(items.map(Json::Array))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Json>, A::Error> {
        let Some(left) = self.left.checked_sub(1) else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let mut members = Some(Map::new());
        while let Some(name) = map.next_key::<String>()? {
            let member = map.next_value_seed(Self { left })?;
            let fits = match (member, &mut members) {
                (Some(member), Some(members)) => members.insert(name, member).is_none(),
                _ => false,
            };
            if !fits {
                members = None;
            }
        }
        Ok(members.map(Json::Object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: SetBounds = SetBounds { keys: 5, depth: 64 };
    const GOOD: &str =
        r#"{"kty":"OKP","kid":"ed-1","crv":"Ed25519","x":"uT16PxMEbcJl_07MYANHzRcILL2BT9k2arAJbrQZ0qM"}"#;

    fn read_text(text: &str) -> Result<usize, InvalidSet> {
        read(text.as_bytes(), BOUNDS).map(|set| set.len())
    }

    #[test]
    fn one_bad_key_spoils_no_other() {
        let deep = format!("{{\"kty\":\"OKP\",\"x\":{}{}}}", "[".repeat(100), "]".repeat(100));
        for bad in [
            "null",
            "7",
            "[]",
            "{}",
            r#"{"kty":"oct","k":"c2VjcmV0"}"#,
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#,
            r#"{"kty":"EC","crv":"P-256","x":1,"y":null}"#,
            r#"{"kty":"OKP","kid":"ed-1","crv":"Ed25519","x":"uT16PxMEbcJl_07MYANHzRcILL2BT9k2arAJbrQZ0qM","kid":"x"}"#,
            r#"{"kty":"OKP","inner":[{"a":1,"a":2}],"crv":"Ed25519","x":"uT16PxMEbcJl_07MYANHzRcILL2BT9k2arAJbrQZ0qM"}"#,
            &deep,
        ] {
            assert_eq!(
                read_text(&format!(r#"{{"a":[1],"keys":[{bad},{GOOD},{bad}],"b":{{"b":{{}}}}}}"#)),
                Ok(1),
                "{bad}"
            );
            assert_eq!(read_text(&format!(r#"{{"keys":[{bad}]}}"#)), Err(InvalidSet::Useless), "{bad}");
        }
    }

    #[test]
    fn what_is_no_set_is_refused_whole() {
        for bad in [
            "",
            "<html><body>503</body></html>",
            "null",
            "[]",
            "{}",
            r#"{"keys":{}}"#,
            r#"{"keys":null}"#,
            &format!(r#"{{"keys":[{GOOD}]"#),
            &format!(r#"{{"keys":[{GOOD}]}} x"#),
            &format!(r#"{{"keys":[{GOOD}],"keys":[{GOOD}]}}"#),
            &format!(r#"{{"keys":[{GOOD},]}}"#),
            &format!("\u{feff}{{\"keys\":[{GOOD}]}}"),
            &"[".repeat(100_000),
            &format!(r#"{{"keys":{}"#, "[".repeat(100_000)),
            &format!(r#"{{"x":{}"#, "[".repeat(100_000)),
        ] {
            assert_eq!(read_text(bad), Err(InvalidSet::Malformed), "{}", bad.get(..60).unwrap_or(bad));
        }
        let garbled = [b"{\"a\":\"\xff\",\"keys\":[".as_slice(), GOOD.as_bytes(), b"]}"].concat();
        assert_eq!(read(&garbled, BOUNDS).err(), Some(InvalidSet::Malformed));
        assert_eq!(read_text(r#"{"keys":[]}"#), Err(InvalidSet::Useless));
    }

    #[test]
    fn more_keys_than_may_be_are_no_set_usable_or_not() {
        let five = ["{}"; 4].join(",");
        assert_eq!(read_text(&format!(r#"{{"keys":[{five},{GOOD}]}}"#)), Ok(1));
        assert_eq!(read_text(&format!(r#"{{"keys":[{GOOD},{five},{{}}]}}"#)), Err(InvalidSet::TooMany));
    }
}
