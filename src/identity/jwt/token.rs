//! The outside of a token: a compact JWS (RFC 7515 §7.1) becomes its parts, its header strictly read.
//!
//! Keys and algorithms of our own choosing are the only ones: what would let a token bring its key (`jwk`, `jku`,
//! `x5u`, `x5c`), change its signing input (`b64`), or ask for processing that we do not know (`crit`), is refused
//! (RFC 8725 §3.10, RFC 7797 §7, RFC 7515 §4.1.11).

use serde_json::{Map, Value as Json};

use crate::identity::jwks::{Algorithm, MAX_KID};
use crate::identity::jwt::claims::object;
use crate::identity::jwt::{TokenError, base64url};

/// The parts of a token whose signature nobody has checked yet.
#[derive(Debug)]
pub struct Token<'a> {
    /// `alg`; `None` for one that is not ours.
    pub algorithm: Option<Algorithm>,
    /// `kid`.
    pub key_id: Option<String>,
    /// What was signed: the first two parts and the dot between them.
    pub signing_input: &'a [u8],
    /// The claims.
    pub payload: Map<String, Json>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Header parameters that a token may not have.
const REFUSED: [&str; 7] = ["b64", "crit", "cty", "jku", "jwk", "x5c", "x5u"];

/// Types of tokens that are accepted, where a type is written: RFC 7519 §5.1, RFC 9068 §2.1.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

// === impl Token ===

impl<'a> Token<'a> {
    /// Takes a token apart.
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
        let header = part(header)?;
        let (algorithm, key_id) = read_header(&header)?;
        Ok(Self {
            algorithm,
            key_id,
            signing_input,
            payload: part(after_dot(payload))?,
            signature: base64url(after_dot(signature)).ok_or(TokenError::Malformed)?,
        })
    }
}

/// `alg` and `kid` of a header that may be believed so far.
fn read_header(header: &Map<String, Json>) -> Result<(Option<Algorithm>, Option<String>), TokenError> {
    if let Some(parameter) = REFUSED.into_iter().find(|name| header.contains_key(*name)) {
        return Err(TokenError::HeaderRefused { parameter });
    }
    let kind = text(header, "typ")?.map(str::to_ascii_lowercase);
    // "application/" may be left out (RFC 7515 §4.1.9)
    let kind = kind.as_deref().map(|kind| kind.strip_prefix("application/").unwrap_or(kind));
    if kind.is_some_and(|kind| !TYPES.contains(&kind)) {
        return Err(TokenError::TypeRefused);
    }
    let algorithm = text(header, "alg")?.ok_or(TokenError::HeaderRefused { parameter: "alg" })?;
    let key_id = text(header, "kid")?;
    if key_id.is_some_and(|id| id.len() > MAX_KID) {
        return Err(TokenError::HeaderRefused { parameter: "kid" });
    }
    Ok((Algorithm::parse(algorithm), key_id.map(str::to_owned)))
}

fn text<'a>(header: &'a Map<String, Json>, parameter: &'static str) -> Result<Option<&'a str>, TokenError> {
    match header.get(parameter) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(TokenError::HeaderRefused { parameter }),
    }
}

fn part(text: &[u8]) -> Result<Map<String, Json>, TokenError> {
    base64url(text).as_deref().and_then(object).ok_or(TokenError::Malformed)
}

fn after_dot(part: &[u8]) -> &[u8] {
    part.get(1..).unwrap_or_default()
}
