//! A `google.protobuf.Struct` as Envoy hands it over: its bytes on the wire, not the JSON that stands in the
//! bootstrap. Only what Struct, Value and ListValue are made of is read; anything else means that it is no Struct.
//!
//! ```text
//! Struct    1: entry { 1: name, 2: Value } …
//! Value     1: null | 2: double | 3: text | 4: bool | 5: Struct | 6: ListValue
//! ListValue 1: Value …
//! ```

use crate::config::tree::{Kind, MAX_DEPTH, MAX_NODES, Member, Node};

/// Why bytes gave no document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Not a Struct.
    Other,
    /// One, but over a limit.
    Over(String),
}

struct Reader {
    nodes: usize,
}

/// Type of a field on the wire: a varint, eight bytes, or bytes with their length before them.
const VARINT: u64 = 0;
const EIGHT: u64 = 1;
const BYTES: u64 = 2;

/// Reads a Struct that has at least one member.
pub(super) fn read(bytes: &[u8]) -> Result<Node, Unread> {
    let mut reader = Reader { nodes: 1 };
    match bytes {
        [] => Err(Unread::Other),
        bytes => reader.object(bytes, 0).map(node),
    }
}

// === impl Reader ===

impl Reader {
    fn object(&mut self, mut bytes: &[u8], depth: usize) -> Result<Kind, Unread> {
        let depth = deeper(depth)?;
        let mut members = Vec::new();
        while !bytes.is_empty() {
            let mut entry = only(&mut bytes, 1)?;
            let name = text(only(&mut entry, 1)?)?;
            let node = self.value(only(&mut entry, 2)?, depth)?;
            if !entry.is_empty() {
                return Err(Unread::Other);
            }
            members.push(Member { name, node });
        }
        Ok(Kind::Object(members))
    }

    fn list(&mut self, mut bytes: &[u8], depth: usize) -> Result<Kind, Unread> {
        let depth = deeper(depth)?;
        let mut items = Vec::new();
        while !bytes.is_empty() {
            items.push(self.value(only(&mut bytes, 1)?, depth)?);
        }
        Ok(Kind::List(items))
    }

    fn value(&mut self, mut bytes: &[u8], depth: usize) -> Result<Node, Unread> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MAX_NODES {
            return Err(Unread::Over(format!("more than {MAX_NODES} values")));
        }
        let tag = varint(&mut bytes)?;
        let kind = match (tag >> 3, tag & 7) {
            (1, VARINT) if varint(&mut bytes)? == 0 => Kind::Null,
            (2, EIGHT) => {
                let (number, rest) = bytes.split_first_chunk::<8>().ok_or(Unread::Other)?;
                bytes = rest;
                Kind::number(f64::from_le_bytes(*number))
            }
            (3, BYTES) => Kind::Text(text(taken(&mut bytes)?)?),
            (4, VARINT) => match varint(&mut bytes)? {
                0 => Kind::Bool(false),
                1 => Kind::Bool(true),
                _ => return Err(Unread::Other),
            },
            (5, BYTES) => self.object(taken(&mut bytes)?, depth)?,
            (6, BYTES) => self.list(taken(&mut bytes)?, depth)?,
            _ => return Err(Unread::Other),
        };
        if bytes.is_empty() { Ok(node(kind)) } else { Err(Unread::Other) }
    }
}

const fn node(kind: Kind) -> Node {
    Node { line: 0, kind }
}

fn deeper(depth: usize) -> Result<usize, Unread> {
    match depth.saturating_add(1) {
        depth if depth > MAX_DEPTH => Err(Unread::Over(format!("nested more than {MAX_DEPTH} deep"))),
        depth => Ok(depth),
    }
}

/// The bytes of the next field, which must have this number.
fn only<'a>(bytes: &mut &'a [u8], number: u64) -> Result<&'a [u8], Unread> {
    match varint(bytes)? {
        tag if tag == (number << 3 | BYTES) => taken(bytes),
        _ => Err(Unread::Other),
    }
}

/// A length and so many bytes.
fn taken<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Unread> {
    let length = usize::try_from(varint(bytes)?).map_err(|_| Unread::Other)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Unread::Other)?;
    *bytes = rest;
    Ok(taken)
}

fn text(bytes: &[u8]) -> Result<String, Unread> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Unread::Other)
}

/// Seven bits from each byte, the lowest first; at most 63 bits, which is more than a length or a tag needs.
fn varint(bytes: &mut &[u8]) -> Result<u64, Unread> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(Unread::Other)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Unread::Other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        bytes.push(u8::try_from(length).unwrap());
        bytes.extend(content);
        bytes
    }

    fn value(json: &Json) -> Vec<u8> {
        match json {
            Json::Null => vec![0x08, 0],
            Json::Number(number) => [&[0x11][..], &number.as_f64().unwrap().to_le_bytes()].concat(),
            Json::String(text) => field(3, text.as_bytes()),
            Json::Bool(value) => vec![0x20, u8::from(*value)],
            Json::Object(_) => field(5, &object(json)),
            Json::Array(items) => {
                field(6, &items.iter().flat_map(|item| field(1, &value(item))).collect::<Vec<_>>())
            }
        }
    }

    fn object(json: &Json) -> Vec<u8> {
        let entry = |(name, inner): (&String, &Json)| {
            field(1, &[field(1, name.as_bytes()), field(2, &value(inner))].concat())
        };
        json.as_object().unwrap().iter().flat_map(entry).collect()
    }

    #[test]
    fn a_struct_is_the_same_document_as_its_json() {
        let document = json!({
            "version": 1, "none": null, "yes": true, "no": false, "half": 0.5, "empty": {}, "list": [],
            "deep": {"list": [1, "two", [3], {"four": -4}], "é": "x".repeat(300)},
        });
        assert_eq!(read(&object(&document)).unwrap().to_json(), document);
    }

    #[test]
    fn json_is_never_taken_for_a_struct() {
        let texts = ["", "{}", "\n{}", "\n{\n\"version\": 1}", "null", "\n\n\n\n"];
        for text in texts {
            assert_eq!(read(text.as_bytes()), Err(Unread::Other), "{text:?}");
        }
    }

    #[test]
    fn a_struct_that_is_too_deep_is_said_to_be() {
        let deep = (0..=MAX_DEPTH).fold(json!(1), |inner, _| json!({ "x": inner }));
        assert_eq!(read(&object(&deep)), Err(Unread::Over(format!("nested more than {MAX_DEPTH} deep"))));
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_trap(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_cut_or_changed_struct_is_no_trap(cut: prop::sample::Index, at: prop::sample::Index, byte: u8) {
            let mut bytes = object(&json!({"a": [1, true, "text", {"b": null}], "c": {"d": 2.5}}));
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = read(&bytes[..cut.index(bytes.len())]);
            let _ = read(&bytes);
        }
    }
}
