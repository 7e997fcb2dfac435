//! Bytes become the parts of a JWS in its compact form (RFC 7515 §7.1), its header strictly read, and its signature is
//! checked by the keys of whoever is trusted. What the payload says is nobody's business here.
//!
//! Keys and algorithms of our own choosing are the only ones: what would let a JWS bring its key (`jwk`, `jku`, `x5u`,
//! `x5c`), change its signing input (`b64`), hide its payload (`enc`, `zip`), or ask for processing that we do not know
//! (`crit`), is refused (RFC 8725 §3.6 and §3.10, RFC 7797 §7, RFC 7515 §4.1.11).

use serde_json::{Map, Value as Json};

use crate::host::signature::SignatureCheck;
use crate::identity::jwks::{Algorithm, KeySet, MAX_KID};
use crate::identity::jwt::claims::object;
use crate::identity::jwt::{TokenError, base64url};

/// The parts of a JWS whose signature nobody has checked yet.
#[derive(Debug)]
pub struct Jws<'a> {
    /// `alg`; `None` for one that is not ours.
    pub algorithm: Option<Algorithm>,
    /// `kid`.
    pub key_id: Option<String>,
    /// `typ`, in lower case and without `application/`, which may be left out (RFC 7515 §4.1.9).
    pub kind: Option<String>,
    /// Whether `cty` says of what type the payload is.
    pub has_content_type: bool,
    /// The payload.
    pub payload: Vec<u8>,
    /// What was signed: the first two parts and the dot between them.
    signing_input: &'a [u8],
    signature: Vec<u8>,
}

/// Header parameters that a JWS may not have.
const REFUSED: [&str; 8] = ["b64", "crit", "enc", "jku", "jwk", "x5c", "x5u", "zip"];

// === impl Jws ===

impl<'a> Jws<'a> {
    /// Takes it apart.
    ///
    /// # Errors
    /// What is wrong with its form or its header.
    pub fn read(presented: &'a [u8]) -> Result<Self, TokenError> {
        let mut dots = presented.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(TokenError::Malformed);
        };
        let (signing_input, signature) = presented.split_at_checked(second).ok_or(TokenError::Malformed)?;
        let (header, payload) = signing_input.split_at_checked(first).ok_or(TokenError::Malformed)?;
        let header = base64url(header).as_deref().and_then(object).ok_or(TokenError::Malformed)?;
        if let Some(parameter) = REFUSED.into_iter().find(|name| header.contains_key(*name)) {
            return Err(TokenError::HeaderRefused { parameter });
        }
        let kind = text(&header, "typ")?.map(str::to_ascii_lowercase);
        let kind = kind.map(|kind| kind.strip_prefix("application/").map_or(kind.clone(), str::to_owned));
        let algorithm = text(&header, "alg")?.ok_or(TokenError::HeaderRefused { parameter: "alg" })?;
        let key_id = text(&header, "kid")?;
        if key_id.is_some_and(|id| id.len() > MAX_KID) {
            return Err(TokenError::HeaderRefused { parameter: "kid" });
        }
        Ok(Self {
            algorithm: Algorithm::parse(algorithm),
            key_id: key_id.map(str::to_owned),
            kind,
            has_content_type: header.contains_key("cty"),
            payload: base64url(after_dot(payload)).ok_or(TokenError::Malformed)?,
            signing_input,
            signature: base64url(after_dot(signature)).ok_or(TokenError::Malformed)?,
        })
    }

    /// Whether one of these keys signed it by `algorithm`, which the caller has found to be one that may be used. `ask`
    /// is how public keys are checked, by the host or in its place.
    ///
    /// # Errors
    /// No key fits, none of those that do signed it, or `ask` could not say.
    pub fn verify(
        &self,
        algorithm: Algorithm,
        keys: &KeySet,
        mut ask: impl FnMut(&SignatureCheck<'_>) -> Result<bool, TokenError>,
    ) -> Result<(), TokenError> {
        for key in keys.find(self.key_id.as_deref(), algorithm)? {
            if key.verify(algorithm, self.signing_input, &self.signature, &mut ask)? {
                return Ok(());
            }
        }
        Err(TokenError::SignatureWrong)
    }
}

fn text<'a>(header: &'a Map<String, Json>, parameter: &'static str) -> Result<Option<&'a str>, TokenError> {
    match header.get(parameter) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(TokenError::HeaderRefused { parameter }),
    }
}

fn after_dot(part: &[u8]) -> &[u8] {
    part.get(1..).unwrap_or_default()
}
