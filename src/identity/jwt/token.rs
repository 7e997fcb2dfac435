//! A JWS becomes a token: JSON for a payload, and a type that may be an access token's (RFC 8725 §3.11 and §3.12).
//!
//! One issuer signs tokens of several kinds with one key, so that a token of another kind is refused by what it says of
//! itself: `typ` in the header (RFC 9068 §2.1); claims that only ID tokens have (OpenID Connect Core §2 and §3.3.2.11)
//! or only security events (RFC 8417 §2.2); and the claims by which large providers name the kind.

use serde_json::{Map, Value as Json};

use crate::identity::jwt::TokenError;
use crate::identity::jwt::claims::{Claims, object};
use crate::identity::jwt::jws::Jws;

/// A token whose signature nobody has checked yet.
#[derive(Debug)]
pub struct Token<'a> {
    /// The outside.
    pub jws: Jws<'a>,
    /// The claims.
    pub payload: Map<String, Json>,
}

/// What a token may be where an access token is due; a word of `token_types`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub enum TokenType {
    /// Its header says that it is an access token (RFC 9068).
    #[serde(rename = "at+jwt")]
    AccessToken,
    /// It says nothing else than that it is a JWT.
    #[serde(rename = "jwt")]
    Jwt,
    /// It says that it is an ID token.
    #[serde(rename = "id_token")]
    IdToken,
}

/// Claims that only ID tokens have. Some providers copy a `nonce` into access tokens and call them so.
const OF_ID_TOKENS: [&str; 2] = ["at_hash", "c_hash"];

/// Claims by which providers name the kind: Keycloak, Amazon Cognito, and others.
const KINDS: [&str; 3] = ["typ", "token_use", "token_type"];

// === impl Token ===

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// What is wrong with its form or its header.
    pub fn read(presented: &'a [u8]) -> Result<Self, TokenError> {
        let jws = Jws::read(presented)?;
        if jws.has_content_type {
            // a token in a token (RFC 7519 §5.2)
            return Err(TokenError::HeaderRefused { parameter: "cty" });
        }
        if !matches!(jws.kind.as_deref(), None | Some("jwt" | "at+jwt")) {
            return Err(TokenError::TypeRefused);
        }
        let payload = object(&jws.payload).ok_or(TokenError::Malformed)?;
        Ok(Self { jws, payload })
    }

    /// Of which type it is; `None`: of one that nobody may present.
    pub fn kind(&self, claims: &Claims<'_>) -> Option<TokenType> {
        if self.jws.kind.as_deref() == Some("at+jwt") {
            return Some(TokenType::AccessToken);
        }
        let mut is_access = false;
        let mut is_id = OF_ID_TOKENS.into_iter().any(|name| claims.named(name).is_some());
        for kind in KINDS.into_iter().filter_map(|name| claims.named(name)?.as_str()) {
            match kind.to_ascii_lowercase().as_str() {
                "access" | "bearer" => is_access = true,
                "id" => is_id = true,
                "logout" | "offline" | "refresh" => return None,
                _ => {}
            }
        }
        if claims.named("events").is_some() {
            return None;
        }
        is_id |= !is_access && claims.named("nonce").is_some();
        Some(if is_id { TokenType::IdToken } else { TokenType::Jwt })
    }
}
