//! An endpoint's answer becomes a [`Verdict`] (RFC 7662 §2.2).
//!
//! The endpoint is believed about the token, and about nothing else: an answer that is not what the standard describes says
//! nothing, and one for another issuer, audience or time refuses the token.

use std::rc::Rc;

use serde_json::Value as Json;

use crate::identity::AuthenticationError;
use crate::identity::introspection::endpoint::Endpoint;
use crate::identity::introspection::{Active, Failure, Verdict};
use crate::identity::jwt::claims::{Claims, object};
use crate::time::UnixTime;

/// The longest answer that is read, in bytes.
pub const MAX_ANSWER: usize = 64 << 10;

/// Reads an answer: its status, where it has one, and its body, where it could be read.
pub(super) fn read(endpoint: &Endpoint, status: Option<u16>, body: Option<&[u8]>, now: UnixTime) -> Verdict {
    match status {
        Some(200) => {}
        Some(401 | 403) => return Verdict::Unavailable(Failure::Unauthorized),
        // what the proxy itself answers for an endpoint that it cannot reach, or that takes too long
        None | Some(503 | 504) => return Verdict::Unavailable(Failure::Silent),
        Some(other) => return Verdict::Unavailable(Failure::Status(other)),
    }
    let members = body.filter(|body| body.len() <= MAX_ANSWER).and_then(object);
    let Some(members) = members else { return Verdict::Unavailable(Failure::Garbage) };
    match members.get("active") {
        Some(Json::Bool(true)) => {}
        Some(Json::Bool(false)) => return Verdict::Inactive,
        Some(_) | None => return Verdict::Unavailable(Failure::Garbage),
    }
    let refused = |error: AuthenticationError| Verdict::Refused(error);
    let claims = match Claims::introspected(&members) {
        Ok(claims) => claims,
        Err(error) => return refused(error.into()),
    };
    if let Err(error) = endpoint.check(&claims) {
        return refused(error);
    }
    let times = *claims.times();
    if let Err(error) = times.check(endpoint.clock_skew(), now) {
        return refused(error.into());
    }
    match endpoint.mapping().identity(&claims) {
        Ok(identity) => Verdict::Active(Active { identity: Rc::new(identity), times }),
        Err(error) => refused(error.into()),
    }
}
