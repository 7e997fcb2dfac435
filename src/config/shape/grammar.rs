//! The texts of a document: a function that says yes or no, and the same as a pattern for editors.

use crate::identity::api_key::{KeyDigest, KeyId};
use crate::identity::mtls::spiffe::is_trust_domain;

/// A kind of text.
#[derive(Debug)]
pub struct Grammar {
    /// Whether a text is one.
    pub check: fn(&str) -> bool,
    /// The same as a regular expression of JSON Schema (ECMA-262, RFC 9485 subset); a test compares the two.
    pub pattern: &'static str,
    /// In words, for a remedy.
    pub say: &'static str,
    /// Whether a fault must not repeat the text, since a key may have been pasted there.
    pub secret: bool,
}

/// Longest text of a document, in characters.
pub const MAX_TEXT: usize = 1024;

/// Longest text beside a key, in characters.
pub const MAX_LONG: usize = 16_384;

/// Longest name of a claim, subject or key id, in bytes.
pub const MAX_CLAIM: usize = 256;

/// Longest name, in characters.
pub const MAX_NAME: usize = 128;

const fn grammar(check: fn(&str) -> bool, pattern: &'static str, say: &'static str) -> Grammar {
    Grammar { check, pattern, say, secret: false }
}

/// The name of a claim, a subject, a key id: any text of a line of at most 256 bytes.
pub static CLAIM: Grammar = grammar(
    |text| any(text) && text.len() <= MAX_CLAIM,
    r"^[^\u0000-\u001f\u007f-\u009f]{1,256}$",
    "a text of one line, at most 256 bytes long",
);

/// Any text of a line, such as a certificate.
pub static LONG: Grammar = grammar(
    |text| text.chars().count() <= MAX_LONG && !text.is_empty() && !text.contains(char::is_control),
    r"^[^\u0000-\u001f\u007f-\u009f]{1,16384}$",
    "a text of one line",
);

/// A number of a key in base64url.
pub static KEY_PART: Grammar = grammar(
    |text| word(text, 2048, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')),
    "^[A-Za-z0-9_-]{1,2048}$",
    "base64url",
);

/// Any text of a line, not empty.
pub static ANY: Grammar = grammar(any, r"^[^\u0000-\u001f\u007f-\u009f]{1,1024}$", "a text of one line");

/// A trust domain (SPIFFE-ID §2.1).
pub static TRUST_DOMAIN: Grammar =
    grammar(is_trust_domain, "^[a-z0-9._-]{1,255}$", "a trust domain, without `spiffe://`");

/// A name of the writer's: of a role, a policy, a limit, a profile, a cluster.
pub static NAME: Grammar = grammar(
    name,
    r"^[^\u0000-\u0020\u007f-\u00a0]{1,128}$",
    "a name without spaces, at most 128 characters long",
);

/// A consumer's name, which is the id of a principal.
pub static CONSUMER: Grammar = grammar(
    |text| name(text) && !text.contains(':') && text != "anonymous",
    r"^[^\u0000-\u0020\u007f-\u00a0:]{1,128}$",
    "a name without spaces and colons, other than `anonymous`",
);

/// The gate's name, which becomes part of keys and chains.
pub static GATE: Grammar = grammar(
    |text| word(text, 32, |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')),
    "^[a-z0-9_-]{1,32}$",
    "1 to 32 of `a-z`, `0-9`, `_` and `-`",
);

/// The id of a secret that the environment holds.
pub static SECRET_ID: Grammar = grammar(
    |text| word(text, 32, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')),
    "^[A-Za-z0-9_-]{1,32}$",
    "1 to 32 of `A-Z`, `a-z`, `0-9`, `_` and `-`",
);

/// The name of an environment variable.
pub static ENV: Grammar = grammar(
    |text| {
        word(text, 128, |b| b.is_ascii_alphanumeric() || b == b'_')
            && !text.starts_with(|c: char| c.is_ascii_digit())
    },
    "^[A-Za-z_][A-Za-z0-9_]{0,127}$",
    "the name of an environment variable",
);

/// The public part of an API key.
pub static KEY_ID: Grammar = Grammar {
    check: |text| KeyId::parse(text.as_bytes()).is_some(),
    pattern: "^[0-9a-z]{8}$",
    say: "the 8 letters and digits between `mlg_` and the next `_` of the key",
    secret: true,
};

/// The digest of an API key.
pub static KEY_DIGEST: Grammar = Grammar {
    check: key_digest,
    pattern: "^(sha256|hmac-sha256:[A-Za-z0-9_-]{1,32}):[0-9a-f]{64}$",
    say: "`sha256:` or `hmac-sha256:<pepper id>:` and 64 of `0-9a-f`, as `mlgate key new` prints it",
    secret: true,
};

/// A header's name.
pub static HEADER: Grammar = grammar(
    |text| word(text, MAX_NAME, |b| token(b) && !b.is_ascii_uppercase()),
    r"^[a-z0-9!#$%&'*+.^_`|~-]{1,128}$",
    "a header name in lower case",
);

/// The name of a query parameter or cookie.
pub static TOKEN: Grammar = grammar(
    |text| word(text, MAX_NAME, token),
    r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$",
    "a name of letters, digits, `-` and `_`",
);

/// An HTTP method.
pub static METHOD: Grammar = grammar(
    |text| word(text, 32, |b| b.is_ascii_uppercase() || b == b'-'),
    "^[A-Z-]{1,32}$",
    "an HTTP method in upper case",
);

/// A path, perhaps with captures.
pub static PATH: Grammar = grammar(
    |text| {
        text.starts_with('/') && word(text, MAX_TEXT, |b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'))
    },
    "^/[!\"$->@-~]{0,1023}$",
    "a path that starts with `/`, without a query",
);

/// An address range.
pub static RANGE: Grammar = grammar(
    |text| text.parse::<ipnet::IpNet>().is_ok(),
    "^[0-9A-Fa-f.:]{2,45}/[0-9]{1,3}$",
    "an address range such as `10.0.0.0/8` or `2001:db8::/32`",
);

fn any(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= MAX_TEXT && !text.contains(char::is_control)
}

fn name(text: &str) -> bool {
    any(text) && text.chars().count() <= MAX_NAME && !text.contains([' ', '\u{a0}'])
}

fn word(text: &str, longest: usize, letter: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.len() <= longest && text.bytes().all(letter)
}

/// `tchar`, RFC 9110 §5.6.2.
fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn key_digest(text: &str) -> bool {
    KeyDigest::parse(text).is_ok_and(|digest| digest.pepper.is_none_or(|pepper| (SECRET_ID.check)(&pepper)))
}
