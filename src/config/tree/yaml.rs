//! YAML 1.2 becomes [`Node`]s: the core schema's plain scalars (§10.3.2), and nothing that has two readings.
//!
//! Anchors, aliases, tags, merge keys and several documents are refused: they hide from a reader what is in force.

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::config::faults::Faults;
use crate::config::tree::{Kind, MAX_NODES, Member, Node, syntax};

/// A collection that is not closed yet.
enum Open {
    List { line: u32, items: Vec<Node> },
    Object { line: u32, members: Vec<Member>, name: Option<(String, u32)> },
}

/// What plain text is under the core schema.
enum Plain {
    Kind(Kind),
    /// `.inf` and `.nan`, which JSON cannot say.
    NotJson,
}

/// Reads the one document of `text`.
pub(super) fn read(text: &str, deepest: usize) -> Result<Node, Faults> {
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    let mut documents = 0_usize;
    let mut nodes = 0_usize;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            syntax(
                error.marker().line(),
                &format!("not a YAML document: {}", error.info()),
                "correct the YAML here",
            )
        })?;
        let at = span.start.line();
        let line = u32::try_from(at).unwrap_or(u32::MAX);
        nodes = nodes.saturating_add(1);
        if nodes > MAX_NODES {
            return Err(syntax(at, &format!("more than {MAX_NODES} values"), "split the document"));
        }
        let complete = match event {
            Event::DocumentStart(_) => {
                documents = documents.saturating_add(1);
                if documents > 1 {
                    return Err(syntax(
                        at,
                        "a second document",
                        "keep one document in the file, without `---`",
                    ));
                }
                continue;
            }
            Event::Alias(_) => {
                return Err(syntax(at, "an alias (`*name`)", "write the value out: aliases are not read"));
            }
            Event::Scalar(value, style, anchor, tag) => {
                plainly(at, anchor, tag.is_some())?;
                if let Some(Open::Object { name: name @ None, .. }) = open.last_mut() {
                    if &*value == "<<" && style == ScalarStyle::Plain {
                        return Err(syntax(
                            at,
                            "a merge key (`<<`)",
                            "write the members out: merging is not done",
                        ));
                    }
                    *name = Some((value.into_owned(), line));
                    continue;
                }
                let kind = if style == ScalarStyle::Plain {
                    plain(&value)
                } else {
                    Plain::Kind(Kind::Text(value.into_owned()))
                };
                let Plain::Kind(kind) = kind else {
                    return Err(syntax(
                        at,
                        "a number that JSON does not have",
                        "write a whole number, or quote a text",
                    ));
                };
                Node { line, kind }
            }
            Event::SequenceStart(anchor, tag) => {
                plainly(at, anchor, tag.is_some())?;
                open_one(&mut open, Open::List { line, items: Vec::new() }, at, deepest)?;
                continue;
            }
            Event::MappingStart(anchor, tag) => {
                plainly(at, anchor, tag.is_some())?;
                open_one(&mut open, Open::Object { line, members: Vec::new(), name: None }, at, deepest)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List { line, items }) => Node { line, kind: Kind::List(items) },
                Some(Open::Object { line, members, .. }) => Node { line, kind: Kind::Object(members) },
                None => return Err(syntax(at, "not a YAML document", "close what was opened")),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
        };
        match open.last_mut() {
            None => root = Some(complete),
            Some(Open::List { items, .. }) => items.push(complete),
            Some(Open::Object { members, name, .. }) => {
                if let Some((name, line)) = name.take() {
                    members.push(Member { name, node: Node { line, ..complete } });
                }
            }
        }
    }
    root.ok_or_else(|| syntax(1, "empty", "write a document that starts with `version: 1`"))
}

/// Opens a collection, unless it would be a member's name or too deep.
fn open_one(open: &mut Vec<Open>, one: Open, at: usize, deepest: usize) -> Result<(), Faults> {
    if matches!(open.last(), Some(Open::Object { name: None, .. })) {
        return Err(syntax(
            at,
            "a name that is not a text",
            "quote it: a text with `{` or `[` in front needs quotes",
        ));
    }
    if open.len() >= deepest {
        return Err(syntax(
            at,
            &format!("nested more than {deepest} deep"),
            "nothing of a document is so deep",
        ));
    }
    open.push(one);
    Ok(())
}

/// Refuses anchors and tags.
fn plainly(at: usize, anchor: usize, tagged: bool) -> Result<(), Faults> {
    if anchor != 0 {
        return Err(syntax(at, "an anchor (`&name`)", "leave it out: aliases are not read"));
    }
    if tagged {
        return Err(syntax(at, "a tag (`!name`)", "leave it out, and quote what must be a text"));
    }
    Ok(())
}

/// The core schema's reading of a plain scalar: `off`, `no` and `yes` are texts, `1e3` is a number.
fn plain(text: &str) -> Plain {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    Plain::Kind(match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" => Kind::Bool(true),
        "false" | "False" | "FALSE" => Kind::Bool(false),
        _ if matches!(unsigned, ".inf" | ".Inf" | ".INF") => return Plain::NotJson,
        ".nan" | ".NaN" | ".NAN" => return Plain::NotJson,
        _ => match radix(text) {
            Some(value) => Kind::whole(value),
            None if decimal(unsigned) => match (text.parse::<i128>(), text.parse::<f64>()) {
                (Ok(whole), _) => Kind::whole(whole),
                (_, Ok(value)) if value.is_finite() => Kind::number(value),
                _ => return Plain::NotJson,
            },
            None => Kind::Text(text.to_owned()),
        },
    })
}

/// `0o17` and `0x1f`.
fn radix(text: &str) -> Option<i128> {
    let (digits, radix) = match (text.strip_prefix("0o"), text.strip_prefix("0x")) {
        (Some(digits), _) => (digits, 8),
        (_, Some(digits)) => (digits, 16),
        _ => return None,
    };
    // from_str_radix alone would take a sign
    digits.chars().all(|c| c.is_digit(radix)).then(|| i128::from_str_radix(digits, radix).ok()).flatten()
}

/// `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}
