//! The inside of a token: JSON read strictly, and the registered claims in their types (RFC 7519 §4.1).
//!
//! A claim of the wrong type is an error and never an absent one: libraries that took `"exp": "…"` for no `exp` let
//! expired tokens pass. Two members of one name are an error too, since readers differ in which of them they keep.

use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};

use crate::identity::jwt::TokenError;
use crate::identity::revocation::list::MAX_TEXT;
use crate::time::UnixTime;

/// Claims whose registered members have the right types.
#[derive(Debug)]
pub struct Claims<'a> {
    all: &'a Map<String, Json>,
    issuer: &'a str,
    audiences: Vec<&'a str>,
    token_id: Option<&'a str>,
    times: Times,
}

/// When a token holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// `exp`.
    pub expires: UnixTime,
    /// `nbf`.
    pub not_before: Option<UnixTime>,
    /// `iat`.
    pub issued: Option<UnixTime>,
}

/// Nesting of a token's JSON.
const MAX_DEPTH: usize = 16;

/// The longest `iss` of a token that is not one configured, in bytes.
const MAX_ISSUER: usize = MAX_TEXT;

/// The longest `jti`, in bytes: events and revocations name a token by it, whole.
const MAX_TOKEN_ID: usize = 256;

// === impl Claims ===

impl<'a> Claims<'a> {
    /// Reads the registered claims.
    ///
    /// # Errors
    /// The first claim that is missing or of a wrong type.
    pub fn read(all: &'a Map<String, Json>) -> Result<Self, TokenError> {
        let issuer = text(all, "iss")?.ok_or_else(|| missing("iss"))?;
        let audiences = audiences(all)?.ok_or_else(|| missing("aud"))?;
        // whatever claim names the caller, `sub` is a text where it is there
        text(all, "sub")?;
        let token_id = bounded_id(all)?;
        let times = Times {
            expires: time(all, "exp")?.ok_or_else(|| missing("exp"))?,
            not_before: time(all, "nbf")?,
            issued: time(all, "iat")?,
        };
        Ok(Self { all, issuer, audiences, token_id, times })
    }

    /// Reads what the issuer itself says of a token (RFC 7662 §2.2): it may leave out what its own word makes up for. The
    /// issuer is then empty, no audience there, and the end that of time.
    ///
    /// # Errors
    /// The first claim of a wrong type.
    pub fn introspected(all: &'a Map<String, Json>) -> Result<Self, TokenError> {
        let token_id = bounded_id(all)?;
        text(all, "sub")?;
        let times = Times {
            expires: time(all, "exp")?.unwrap_or(UnixTime::from_millis(i64::MAX)),
            not_before: time(all, "nbf")?,
            issued: time(all, "iat")?,
        };
        let issuer = text(all, "iss")?.unwrap_or_default();
        if issuer.len() > MAX_ISSUER {
            return Err(invalid("iss"));
        }
        Ok(Self { all, issuer, audiences: audiences(all)?.unwrap_or_default(), token_id, times })
    }

    /// `iss`.
    pub const fn issuer(&self) -> &'a str {
        self.issuer
    }

    /// `aud`, however many.
    pub fn audiences(&self) -> &[&'a str] {
        &self.audiences
    }

    /// `jti`.
    pub const fn token_id(&self) -> Option<&'a str> {
        self.token_id
    }

    /// `exp`, `nbf` and `iat`.
    pub const fn times(&self) -> &Times {
        &self.times
    }

    /// A claim by its name.
    pub fn named(&self, name: &str) -> Option<&'a Json> {
        self.all.get(name)
    }

    /// The claim at a path of names. `None` where it, or what should hold it, is absent.
    ///
    /// # Errors
    /// Something on the way is there and holds no members.
    pub fn at(&self, path: &[String]) -> Result<Option<&'a Json>, TokenError> {
        let Some((first, rest)) = path.split_first() else { return Ok(None) };
        let mut found = self.all.get(first);
        for name in rest {
            found = match found {
                None => return Ok(None),
                Some(Json::Object(members)) => members.get(name),
                Some(_) => return Err(invalid(&path.join("."))),
            };
        }
        Ok(found)
    }
}

// === impl Times ===

impl Times {
    /// Whether a token holds now, for clocks that may differ by `skew`.
    ///
    /// # Errors
    /// Which time says no.
    pub fn check(&self, skew: Duration, now: UnixTime) -> Result<(), TokenError> {
        if now >= self.expires.plus(skew) {
            return Err(TokenError::Expired { at: self.expires, now });
        }
        let latest = now.plus(skew);
        if let Some(at) = self.not_before.filter(|at| *at > latest) {
            return Err(TokenError::NotYetValid { at, now });
        }
        if let Some(at) = self.issued.filter(|at| *at > latest) {
            return Err(TokenError::IssuedLater { at, now });
        }
        Ok(())
    }

    /// How long it lives from being issued; `None` where it does not say when that was.
    pub fn lifetime(&self) -> Option<Duration> {
        let millis = self.expires.millis().saturating_sub(self.issued?.millis());
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    }
}

/// A claim that is missing.
pub fn missing(claim: &str) -> TokenError {
    TokenError::ClaimMissing { claim: claim.to_owned() }
}

/// A claim of the wrong type.
pub fn invalid(claim: &str) -> TokenError {
    TokenError::ClaimInvalid { claim: claim.to_owned() }
}

/// Reads a JSON object that is all of `bytes`; no member twice, nested at most `MAX_DEPTH` deep.
pub fn object(bytes: &[u8]) -> Option<Map<String, Json>> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    match value {
        Json::Object(members) => Some(members),
        _ => None,
    }
}

fn text<'a>(claims: &'a Map<String, Json>, claim: &'static str) -> Result<Option<&'a str>, TokenError> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(claim)),
    }
}

fn audiences(claims: &Map<String, Json>) -> Result<Option<Vec<&str>>, TokenError> {
    match claims.get("aud") {
        None => Ok(None),
        Some(Json::String(one)) => Ok(Some(vec![one.as_str()])),
        Some(Json::Array(list)) => {
            list.iter().map(Json::as_str).collect::<Option<_>>().map(Some).ok_or_else(|| invalid("aud"))
        }
        Some(_) => Err(invalid("aud")),
    }
}

fn bounded_id(claims: &Map<String, Json>) -> Result<Option<&str>, TokenError> {
    match text(claims, "jti")? {
        Some(id) if id.len() > MAX_TOKEN_ID => Err(invalid("jti")),
        id => Ok(id),
    }
}

/// A `NumericDate` (RFC 7519 §2): seconds since the epoch, perhaps with a fraction, which is cut to milliseconds.
fn time(claims: &Map<String, Json>, claim: &'static str) -> Result<Option<UnixTime>, TokenError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let millis = value
        .as_f64()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .ok_or_else(|| invalid(claim))?;
    Ok(Some(UnixTime::from_millis(millis)))
}

/// Reads a value as serde_json would, but for members that occur twice.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.saturating_add(1);
        if depth > MAX_DEPTH { Err(E::custom("nested too deep")) } else { Ok(Self { depth }) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Json;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Json;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::from(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::from(value))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }
    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let seed = self.inner()?;
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(seed)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let seed = self.inner()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(seed)?;
            if members.insert(name, value).is_some() {
                return Err(serde::de::Error::custom("a member occurs twice"));
            }
        }
        Ok(Json::Object(members))
    }
}
