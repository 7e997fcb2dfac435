//! Subjects of certificates: the RFC 2253 text that Envoy writes becomes attributes and their values.
//!
//! `CN=a,OU=b\, c` has two attributes; looking for `CN=b` in such a text would find what somebody wrote into another
//! one. What RFC 2253 §2.4 does not allow unescaped is refused, so that there is one way to read a text.

/// An attribute's type and its value; `None` where the value is given as bytes (`#…`).
type Attribute<'a> = (&'a str, Option<String>);

/// The attributes of a subject in written order; those of a set (`+`) like any other. `None` where it is malformed.
pub fn attributes(subject: &str) -> Option<Vec<Attribute<'_>>> {
    let mut found = Vec::new();
    let mut rest = subject;
    loop {
        let (kind, after) = rest.split_once('=')?;
        let is_kind = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        if kind.is_empty() || !kind.bytes().all(is_kind) {
            return None;
        }
        let (value, after) = value(after)?;
        found.push((kind, value));
        match after.strip_prefix([',', '+']) {
            Some(next) => rest = next,
            None => return Some(found),
        }
    }
}

/// The common name of a subject that has exactly one, whole and unescaped.
pub fn common_name(subject: &str) -> Option<String> {
    let mut names = attributes(subject)?.into_iter().filter(|(kind, _)| is_common_name(kind));
    match (names.next(), names.next()) {
        (Some((_, Some(name))), None) if !name.is_empty() => Some(name),
        _ => None,
    }
}

fn is_common_name(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("CN") || kind.eq_ignore_ascii_case("OID.2.5.4.3") || kind == "2.5.4.3"
}

/// The value at the start of `text`, and what comes after it: nothing, or a separator.
fn value(text: &str) -> Option<(Option<String>, &str)> {
    if let Some(bytes) = text.strip_prefix('#') {
        let end = bytes.find([',', '+']).unwrap_or(bytes.len());
        let (digits, after) = bytes.split_at_checked(end)?;
        return digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some((None, after));
    }
    let mut value = Vec::new();
    let mut chars = text.char_indices();
    let mut after = "";
    while let Some((at, letter)) = chars.next() {
        match letter {
            ',' | '+' => {
                after = text.get(at..)?;
                break;
            }
            '\\' => {
                let (_, escaped) = chars.next()?;
                value.push(match (escaped.to_digit(16), escaped) {
                    (Some(high), _) => {
                        let low = chars.next()?.1.to_digit(16)?;
                        u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()?
                    }
                    (None, ',' | '=' | '+' | '<' | '>' | '#' | ';' | '\\' | '"' | ' ') => {
                        u8::try_from(escaped).ok()?
                    }
                    (None, _) => return None,
                });
            }
            '"' | '<' | '>' | ';' => return None,
            other => value.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    // a control character would end a name early for who reads it in C, and a line for who reads a log
    let value = String::from_utf8(value).ok().filter(|value| !value.contains(char::is_control))?;
    Some((Some(value), after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_one_common_name_is_read_whole() {
        for (subject, name) in [
            ("CN=client-1,OU=ml/x,O=Acme\\, Inc.", "client-1"),
            ("O=Acme,CN=client-1", "client-1"),
            ("OU=a+CN=b,O=c", "b"),
            ("cn=a", "a"),
            ("2.5.4.3=a", "a"),
            ("CN=a\\,CN\\=admin", "a,CN=admin"),
            ("CN=J\\C3\\B6rg", "Jörg"),
            ("CN=Jörg", "Jörg"),
            ("CN=\\#1\\ ", "#1 "),
            ("CN=a=b", "a=b"),
            ("1.2.3.4=#0C0161,CN=a", "a"),
        ] {
            assert_eq!(common_name(subject).as_deref(), Some(name), "{subject}");
        }
    }

    #[test]
    fn a_subject_with_no_two_or_a_doubtful_common_name_has_none() {
        for subject in [
            "",
            "O=Acme",
            "O=CN\\=admin",
            "O=x\\,CN=admin",
            "CN=admin,CN=b",
            "CN=admin,O=x,2.5.4.3=b",
            "CN=a+CN=b",
            "CN=",
            "CN=#0C0161",
            "CN=#0C,CN=a",
            "CN=admin\\00.evil",
            "CN=a\\0Ab",
            "CN=a\nb",
            "CN=a\\",
            "CN=a\\q",
            "CN=a\\C3",
            "CN=a\\C",
            "CN=\"a\"",
            "CN=a;O=b",
            "CN=a,",
            "CN=a,b",
            "CN=a,=b",
            ",CN=a",
            "CN =a",
            "xCN=a",
            "CN=a,O=#zz",
        ] {
            assert_eq!(common_name(subject), None, "{subject}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_name_is_it_cannot_be_another(name in "[ -~]{1,20}", other in "[ -~]{0,20}") {
            let escaped = |text: &str| {
                let mut out = String::new();
                for letter in text.chars() {
                    if ",=+<>#;\\\" ".contains(letter) {
                        out.push('\\');
                    }
                    out.push(letter);
                }
                out
            };
            let subject = format!("O={},CN={}", escaped(&other), escaped(&name));
            prop_assert_eq!(common_name(&subject), Some(name));
        }

        #[test]
        fn no_text_breaks_the_reader(text in ".{0,60}") {
            let _ = attributes(&text);
        }
    }
}
