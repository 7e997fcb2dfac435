//! What an issuer says of itself becomes the place of its keys (OpenID Connect Discovery 1.0 §4, RFC 8414 §3).

use crate::identity::jwt::claims;
use crate::remote::keeper::{Kind, Unreadable};
use crate::remote::uri::{InvalidUri, Uri};

/// Of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// As the configuration has it.
    pub issuer: String,
}

/// What is appended to an issuer (OpenID Connect Discovery 1.0 §4.1).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

// === impl Discovery ===

impl Discovery {
    /// Where its document is (OpenID Connect Discovery 1.0 §4.1).
    ///
    /// # Errors
    /// An issuer that is no URI, or one with a query, to which nothing can be appended.
    pub fn uri(&self) -> Result<Uri, InvalidUri> {
        let mut uri = Uri::parse(&self.issuer)?;
        if uri.path.contains('?') {
            return Err(InvalidUri::Path);
        }
        uri.path = format!("{}{WELL_KNOWN}", uri.path.strip_suffix('/').unwrap_or(&uri.path));
        Ok(uri)
    }
}

impl Kind for Discovery {
    /// Where the keys are.
    type Document = Uri;

    fn read(&self, body: &[u8]) -> Result<Uri, Unreadable> {
        let unreadable = |what: &str| Unreadable(what.to_owned());
        let members = claims::object(body).ok_or_else(|| unreadable("it is not a JSON object"))?;
        let text = |name: &str| members.get(name).and_then(serde_json::Value::as_str);
        // Exactly: an issuer that another one's document names could speak for it (OpenID Connect Discovery 1.0 §4.3,
        // RFC 8414 §3.3).
        if text("issuer") != Some(&self.issuer) {
            return Err(unreadable("its `issuer` is not the one that is configured"));
        }
        let keys = text("jwks_uri").ok_or_else(|| unreadable("it has no `jwks_uri`"))?;
        let keys = Uri::parse(keys)
            .map_err(|error| Unreadable(format!("its `jwks_uri` cannot be fetched: {error}")))?;
        let secure = Uri::parse(&self.issuer).is_ok_and(|issuer| issuer.secure);
        if secure && !keys.secure {
            return Err(unreadable("its `jwks_uri` is not `https` although the issuer is"));
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(issuer: &str) -> Discovery {
        Discovery { issuer: issuer.to_owned() }
    }

    #[test]
    fn a_document_is_found_below_its_issuer() {
        for (issuer, path) in [
            ("https://idp.example", "/.well-known/openid-configuration"),
            ("https://idp.example/", "/.well-known/openid-configuration"),
            ("https://idp.example/realms/a", "/realms/a/.well-known/openid-configuration"),
            ("https://idp.example/realms/a/", "/realms/a/.well-known/openid-configuration"),
        ] {
            assert_eq!(of(issuer).uri().map(|uri| uri.path), Ok(path.to_owned()), "{issuer}");
        }
        for issuer in ["idp", "https://idp.example?tenant=1", "https://idp.example/#a"] {
            assert!(of(issuer).uri().is_err(), "{issuer}");
        }
    }

    #[test]
    fn a_document_of_another_issuer_is_not_believed() {
        let discovery = of("https://idp.example");
        let read = |text: &str| discovery.read(text.as_bytes()).map(|uri| (uri.authority, uri.path));
        let keys = r#""jwks_uri":"https://keys.example/k?v=1""#;
        assert_eq!(
            read(&format!(r#"{{"issuer":"https://idp.example",{keys},"claims_supported":["sub"]}}"#)),
            Ok((String::from("keys.example"), String::from("/k?v=1")))
        );
        for wrong in [
            String::from("<html>"),
            format!("{{{keys}}}"),
            format!(r#"{{"issuer":"https://idp.example/",{keys}}}"#),
            format!(r#"{{"issuer":"https://IDP.example",{keys}}}"#),
            format!(r#"{{"issuer":["https://idp.example"],{keys}}}"#),
            format!(r#"{{"issuer":"https://evil.example","issuer":"https://idp.example",{keys}}}"#),
            String::from(r#"{"issuer":"https://idp.example"}"#),
            String::from(r#"{"issuer":"https://idp.example","jwks_uri":"/keys"}"#),
            String::from(r#"{"issuer":"https://idp.example","jwks_uri":"file:///etc/passwd"}"#),
            String::from(r#"{"issuer":"https://idp.example","jwks_uri":"http://idp.example/keys"}"#),
            String::from(r#"{"issuer":"https://idp.example","jwks_uri":7}"#),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
        let plain = of("http://127.0.0.1:1");
        let document = r#"{"issuer":"http://127.0.0.1:1","jwks_uri":"http://127.0.0.1:1/jwks"}"#;
        assert!(plain.read(document.as_bytes()).is_ok(), "on a machine of one's own");
    }
}
