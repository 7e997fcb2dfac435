//! A path with one reading, or none.
//!
//! Envoy routes by the raw text, model servers decode and normalise: where the two could differ the request is
//! refused instead of rewritten (RFC 3986 §6.2.2; the path confusions of Envoy's 2026 advisories are the cases).

/// Why a path has more than one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmbiguousPath {
    /// Not absolute: empty, `*`, or a whole URI.
    NotAbsolute,
    /// `.` or `..`.
    DotSegment,
    /// `//`.
    EmptySegment,
    /// A byte that servers read differently: `\`, `;`, `#`, a control, or from 0x80.
    Byte(u8),
    /// An escape that is not two hexadecimal digits.
    InvalidEscape,
    /// An escaped byte that changes the structure once decoded: slash, dot, `\`, `;`, `%`, a control.
    StructuralEscape(u8),
}

/// Accepts a path, without its query, that every server reads alike. A trailing slash is part of the text.
pub fn canonical(path: &str) -> Result<(), AmbiguousPath> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(AmbiguousPath::NotAbsolute);
    };
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' | b';' | b'#' | 0..=0x20 | 0x7f.. => return Err(AmbiguousPath::Byte(byte)),
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => {
                    let decoded = (high << 4) | low;
                    if structural(decoded) {
                        return Err(AmbiguousPath::StructuralEscape(decoded));
                    }
                }
                _ => return Err(AmbiguousPath::InvalidEscape),
            },
            _ => {}
        }
    }
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => return Err(AmbiguousPath::DotSegment),
            "" if segments.peek().is_some() => return Err(AmbiguousPath::EmptySegment),
            _ => {}
        }
    }
    Ok(())
}

/// A decoded byte that would change how the path is split or read.
const fn structural(byte: u8) -> bool {
    matches!(byte, b'/' | b'.' | b'\\' | b';' | b'%' | b'?' | b'#' | 0..=0x1f | 0x7f)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(digit.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_have_one_reading() {
        for path in [
            "/",
            "/predict",
            "/v1/models/fraud_v2:predict",
            "/a/",
            "/a/.well-known",
            "/a%20b",
            "/caf%C3%A9",
            "/a...b",
        ] {
            assert_eq!(canonical(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_path_with_two_readings_is_refused() {
        for path in [
            "",
            "*",
            "predict",
            "http://x/y",
            "/a/../b",
            "/a/.",
            "/..",
            "//a",
            "/a//b",
            "/a\\b",
            "/a;v=1",
            "/a/..;x/b",
            "/a%2fb",
            "/a%2Fb",
            "/a%2eb",
            "/%2e%2e/a",
            "/a%5cb",
            "/a%3bb",
            "/a%252fb",
            "/a%00b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%0ab",
            "/a b",
            "/a\u{e9}",
            "/a#b",
            "/a\0b",
            "/a\tb",
            "/a%3fb",
            "/a%23b",
        ] {
            assert!(canonical(path).is_err(), "{path}");
        }
    }
}
