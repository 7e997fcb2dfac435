//! A [`Node`] becomes YAML that Envoy and this crate read alike: block style, in its own order, doubtful texts quoted.

use std::fmt::Write as _;

use crate::config::tree::{Kind, Node};

/// Writes a document.
pub(super) fn write(root: &Node) -> String {
    let mut text = String::new();
    block(root, 0, &mut text);
    text
}

/// A value on lines of its own, which begin at `depth`.
fn block(node: &Node, depth: usize, text: &mut String) {
    match &node.kind {
        Kind::Object(members) if !members.is_empty() => {
            for member in members {
                indent(depth, text);
                text.push_str(&scalar(&member.name));
                text.push(':');
                after(&member.node, depth, text);
            }
        }
        Kind::List(items) if !items.is_empty() => {
            for item in items {
                indent(depth, text);
                text.push('-');
                match &item.kind {
                    // the first member stands on the line of the dash
                    Kind::Object(members) if !members.is_empty() => {
                        let mut inner = String::new();
                        block(item, depth.saturating_add(1), &mut inner);
                        text.push(' ');
                        text.push_str(inner.trim_start());
                    }
                    _ => after(item, depth, text),
                }
            }
        }
        _ => {
            indent(depth, text);
            text.push_str(&inline(node));
            text.push('\n');
        }
    }
}

/// A value behind a name or a dash.
fn after(node: &Node, depth: usize, text: &mut String) {
    match &node.kind {
        Kind::Object(members) if !members.is_empty() => {
            text.push('\n');
            block(node, depth.saturating_add(1), text);
        }
        Kind::List(items) if !items.is_empty() => {
            text.push('\n');
            block(node, depth.saturating_add(1), text);
        }
        _ => {
            text.push(' ');
            text.push_str(&inline(node));
            text.push('\n');
        }
    }
}

fn indent(depth: usize, text: &mut String) {
    text.extend(std::iter::repeat_n("  ", depth));
}

fn inline(node: &Node) -> String {
    match &node.kind {
        Kind::Bool(value) => value.to_string(),
        Kind::Fraction(value) => value.to_string(),
        Kind::Integer(value) => value.to_string(),
        Kind::List(_) => String::from("[]"),
        Kind::Null => String::from("null"),
        Kind::Object(_) => String::from("{}"),
        Kind::Text(text) => scalar(text),
    }
}

/// Plain where no reader could take it for anything but a text: Envoy's takes `on` and `y` for truth values.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let word = ["true", "false", "null"].iter().any(|word| text.eq_ignore_ascii_case(word));
    if text.len() > 3
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !word
    {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\u{2028}' | '\u{2029}' | '\u{feff}' => drop(write!(quoted, "\\u{:04x}", u32::from(letter))),
            letter if letter.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::Tree;

    #[test]
    fn what_is_written_is_read_again() {
        let json = r#"{"a": [], "b": {}, "on": "off", "y": "n", "t": "true", "n": "null", "1": "1e3", "@type": "x: #y",
            "list": [1, 0.25, -3, true, null, "", " ", "-", "plain-text", [["deep"]], [], {}, {"z": [{"q": "\"\\\u0007\u2028é"}], "a": 1}]}"#;
        let tree = Tree::from_json(json.as_bytes()).unwrap();
        let text = write(tree.root());
        assert_eq!(Tree::from_yaml(text.as_bytes()).unwrap().to_json(), tree.to_json(), "{text}");
        assert!(text.contains("\"y\": \"n\"\n") && text.contains("  - plain-text\n"), "{text}");
    }
}
