//! An absolute HTTP URI becomes what a request to a cluster needs of it (RFC 3986, RFC 9110 §4.2).

use std::fmt;

/// The parts of an `http` or `https` URI. The cluster decides whether the connection is encrypted; the scheme is what
/// its writer meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// Whether it says `https`.
    pub secure: bool,
    /// Host and port, in lower case.
    pub authority: String,
    /// Path and query; `/` where none is written.
    pub path: String,
}

/// Why a text is not a URI that can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidUri {
    /// Neither `http://` nor `https://`.
    Scheme,
    /// No host, user information, or letters that no host has.
    Authority,
    /// Letters that no path has.
    Path,
    /// A fragment, which is never sent.
    Fragment,
    /// Longer than [`MAX_URI`].
    TooLong,
}

/// The longest URI, in bytes.
pub const MAX_URI: usize = 2048;

// === impl Uri ===

impl Uri {
    /// Reads a whole URI.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidUri> {
        if text.len() > MAX_URI {
            return Err(InvalidUri::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUri::Scheme)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(InvalidUri::Scheme),
        };
        if rest.contains('#') {
            return Err(InvalidUri::Fragment);
        }
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(at).ok_or(InvalidUri::Authority)?;
        let host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
        if authority.is_empty() || authority.starts_with(':') || !authority.bytes().all(host) {
            return Err(InvalidUri::Authority);
        }
        // RFC 3986 §3.3 and §3.4; what is not ASCII must be escaped
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
        if !path.bytes().all(letter) {
            return Err(InvalidUri::Path);
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { secure, authority: authority.to_ascii_lowercase(), path })
    }
}

// === impl InvalidUri ===

impl fmt::Display for InvalidUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "it begins with neither `https://` nor `http://`",
            Self::Authority => "it has no host, or one with letters that no host has",
            Self::Path => "its path has letters that must be escaped",
            Self::Fragment => "it has a fragment, which is never sent",
            Self::TooLong => "it is too long",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_has_an_authority_and_a_path() {
        let uri = |text: &str| Uri::parse(text).map(|uri| (uri.secure, uri.authority, uri.path));
        let same = |secure, authority: &str, path: &str| Ok((secure, authority.to_owned(), path.to_owned()));
        assert_eq!(uri("https://Idp.Example/keys?v=1"), same(true, "idp.example", "/keys?v=1"));
        assert_eq!(uri("http://127.0.0.1:8080"), same(false, "127.0.0.1:8080", "/"));
        assert_eq!(uri("HTTPS://[::1]:8443?x"), same(true, "[::1]:8443", "/?x"));
    }

    #[test]
    fn what_could_mean_something_else_is_refused() {
        for (text, why) in [
            ("", InvalidUri::Scheme),
            ("idp.example/keys", InvalidUri::Scheme),
            ("ftp://idp.example/", InvalidUri::Scheme),
            ("https:///keys", InvalidUri::Authority),
            ("https://:80/keys", InvalidUri::Authority),
            ("https://user@idp.example/", InvalidUri::Authority),
            ("https://idp.example\\@evil/", InvalidUri::Authority),
            ("https://idp\r\nx: y/", InvalidUri::Authority),
            ("https://idp.example/a b", InvalidUri::Path),
            ("https://idp.example/\u{e4}", InvalidUri::Path),
            ("https://idp.example/a\r\nx: y", InvalidUri::Path),
            ("https://idp.example/#keys", InvalidUri::Fragment),
        ] {
            assert_eq!(Uri::parse(text), Err(why), "{text}");
        }
        assert_eq!(Uri::parse(&format!("https://a/{}", "a".repeat(MAX_URI))), Err(InvalidUri::TooLong));
    }
}
