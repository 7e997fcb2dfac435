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
        Kind::Text(lines) if is_literal(lines) => {
            text.push_str(" |\n");
            for line in lines.lines() {
                indent(depth.saturating_add(1), text);
                text.push_str(line);
                text.push('\n');
            }
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

/// Several lines that can stand as they are: each is whole and visible, and the first says how far all are indented.
fn is_literal(text: &str) -> bool {
    let shown = |line: &str| !line.is_empty() && !line.contains(|c: char| c.is_control() || c == '\u{feff}');
    text.ends_with('\n')
        && text.lines().count() > 1
        && !text.starts_with(char::is_whitespace)
        && text.lines().all(shown)
        // lines end as they were written: a reader makes each break `\n`
        && !text.contains(['\r', '\u{2028}', '\u{2029}', '\u{85}'])
}

/// What some reader takes for something else than a text: Envoy's and Kubernetes' are of YAML 1.1.
const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// Plain where no reader could take it for anything but a text.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(plain) && !word {
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
            "list": [1, 0.25, -3, true, null, "", " ", "-", "plain-text", [["deep"]], [], {}, {"z": [{"q": "\"\\\u0007\u2028é"}], "a": 1}],
            "lines": "a: 1\n  - b # c\n", "more": ["x\ny\n", "x\n\ny\n", " x\ny\n", "x\r\ny\r\n", "x\ny", "\n", "x\u0007\ny\n"]}"#;
        let tree = Tree::from_json(json.as_bytes()).unwrap();
        let text = write(tree.root());
        assert_eq!(Tree::from_yaml(text.as_bytes()).unwrap().to_json(), tree.to_json(), "{text}");
        assert!(text.contains("\"y\": \"n\"\n") && text.contains("  - plain-text\n"), "{text}");
        assert!(text.contains("lines: |\n  a: 1\n    - b # c\n"), "{text}");
    }
}
