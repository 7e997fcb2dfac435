//! A complete body becomes the one model that it names, or a reason why it does not name exactly one.
//!
//! Parsers differ in what they make of unclean JSON: the last of two duplicates or the first, `Model` as `model`, what
//! stands behind the end, a byte order mark (RFC 8259 §4, §8.1, §9). What could be read in two ways is refused, so that
//! the model that was decided about is the one that the upstream runs. Nothing is kept of the body but the name.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;

use crate::filter::refusal::Reason;
use crate::http::Headers;

/// Why a body does not name exactly one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It names none, two, one under a variant spelling, or one that is not text; or the query names one too.
    Ambiguous,
    /// It is not one JSON object in UTF-8 (RFC 8259) and nothing else.
    Malformed,
    /// It is nested deeper than is read.
    TooDeep,
    /// Its media type or encoding cannot be read.
    Unreadable,
}

/// Whether the head announces a body that can be read: JSON, in UTF-8, not compressed.
pub fn readable(headers: &Headers) -> Result<(), BodyError> {
    let encoded = headers
        .all("content-encoding")
        .any(|value| !value.is_empty() && !value.eq_ignore_ascii_case(b"identity"));
    // `text` gives nothing when there are two: recipients choose differently
    let media_type = headers.text("content-type").ok_or(BodyError::Unreadable)?;
    let mut parts = media_type.split(';').map(str::trim);
    let json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if json && utf8 && !encoded { Ok(()) } else { Err(BodyError::Unreadable) }
}

/// Whether a query leaves it to the body to name the model. Servers that bind parameters of the query by name let a
/// `model` there win over the body's.
pub fn left_to_body(query: Option<&str>) -> Result<(), BodyError> {
    let names = query.unwrap_or_default().split(['&', ';']).map(|pair| pair.split(['=', '[']).next());
    let named = names.flatten().any(|name| {
        // an escaped bracket begins an index too
        let mut letters = percent_decode_str(name).take_while(|byte| *byte != b'[');
        let same =
            MEMBER.bytes().all(|letter| letters.next().is_some_and(|l| l.eq_ignore_ascii_case(&letter)));
        same && letters.next().is_none()
    });
    if named { Err(BodyError::Ambiguous) } else { Ok(()) }
}

/// The top-level `model` of a complete body, nested at most `depth_limit` deep.
pub fn model_of_body(body: &[u8], depth_limit: u32) -> Result<String, BodyError> {
    // serde_json does not look at the bytes of strings that it skips
    let text = std::str::from_utf8(body).map_err(|_| BodyError::Malformed)?;
    check_depth(body, depth_limit)?;
    let mut json = Deserializer::from_str(text);
    let found = (&mut json).deserialize_map(TopLevel).map_err(|_| BodyError::Malformed)?;
    json.end().map_err(|_| BodyError::Malformed)?;
    match found {
        // servers take an empty name for their default model
        Found::One(model) if !model.is_empty() => Ok(model),
        Found::None | Found::One(_) | Found::Ambiguous => Err(BodyError::Ambiguous),
    }
}

/// Refuses nesting before any parser can recurse. Text that is not JSON may pass or not: it is refused anyway.
fn check_depth(body: &[u8], limit: u32) -> Result<(), BodyError> {
    // nothing is nested deeper than there are brackets: most bodies are done after this one quick pass
    if brackets(body) <= limit {
        return Ok(());
    }
    let mut depth: u32 = 0;
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                while let Some(byte) = bytes.find(|byte| matches!(**byte, b'"' | b'\\')) {
                    if *byte == b'"' {
                        break;
                    }
                    bytes.next();
                }
            }
            b'[' | b'{' => {
                depth = depth.saturating_add(1);
                if depth > limit {
                    return Err(BodyError::TooDeep);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// How often `[` or `{` occurs. Counting in bytes over short chunks lets the compiler use vectors, which a checked
/// count over the whole does not: 14 us against 0.6 us for 15 KB.
fn brackets(body: &[u8]) -> u32 {
    body.chunks(128).fold(0, |count: u32, chunk| {
        let in_chunk = chunk.iter().fold(0_u8, |n, byte| n.wrapping_add(u8::from(*byte | 0x20 == b'{')));
        count.saturating_add(u32::from(in_chunk))
    })
}

enum Found {
    None,
    One(String),
    Ambiguous,
}

/// Visits the members of the top-level object.
struct TopLevel;

impl<'de> Visitor<'de> for TopLevel {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Found, A::Error> {
        let mut found = Found::None;
        while let Some(name) = members.next_key_seed(Name)? {
            found = match name {
                Spelling::Other => {
                    members.next_value::<IgnoredAny>()?;
                    found
                }
                Spelling::Variant => {
                    members.next_value::<IgnoredAny>()?;
                    Found::Ambiguous
                }
                Spelling::Exact => match (found, members.next_value_seed(Model)?) {
                    (Found::None, Some(model)) => Found::One(model),
                    _ => Found::Ambiguous,
                },
            };
        }
        Ok(found)
    }
}

/// How a member's name, unescaped, is related to `model`.
enum Spelling {
    Exact,
    /// Equal to it but for case: some parsers take it for the same.
    Variant,
    Other,
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Spelling;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Spelling, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Spelling;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Spelling, E> {
        Ok(if name == MEMBER {
            Spelling::Exact
        } else if name.chars().flat_map(char::to_lowercase).eq(MEMBER.chars()) {
            // Unicode's simple folding adds no other letter to `m`, `o`, `d`, `e` or `l`
            Spelling::Variant
        } else {
            Spelling::Other
        })
    }
}

/// The member's value: `None` when it is not text.
struct Model;

impl<'de> DeserializeSeed<'de> for Model {
    type Value = Option<String>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Model {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

// === impl BodyError ===

impl From<BodyError> for Reason {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Ambiguous | BodyError::Malformed | BodyError::TooDeep => Self::BodyAmbiguous,
            BodyError::Unreadable => Self::BodyUnreadable,
        }
    }
}

const MEMBER: &str = "model";

#[cfg(test)]
mod tests;
