//! Opaque tokens: their issuer says what they are worth (RFC 7662).
//!
//! [`Introspection::authenticate`] goes through the endpoints in written order. What one says `inactive` of may be
//! another's token, so the next is asked; any other word ends it: a token that its issuer knows and that is not for us is
//! wrong, and where an issuer cannot be asked nobody can say whose the token is. Nothing is asked that is known already.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::config::faults::Faults;
use crate::credentials::UnverifiedToken;
use crate::host::Callout;
use crate::identity::bindings::Bindings;
use crate::identity::jwt::claims::Times;
use crate::identity::spec::IntrospectionSpec;
use crate::identity::{Authentication, AuthenticationError, Identity, Inquiry};
use crate::time::UnixTime;

pub mod answer;
pub mod cache;
pub mod endpoint;

use cache::Introspected;
use endpoint::Endpoint;

/// Every endpoint that is asked.
#[derive(Clone, Debug, Default)]
pub struct Introspection {
    endpoints: Vec<Endpoint>,
    max_bytes: usize,
}

/// Whether one endpoint knows one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    endpoint: usize,
    digest: [u8; 32],
    token: UnverifiedToken,
}

/// An endpoint, and the SHA-256 of a token.
pub type QuestionKey = (usize, [u8; 32]);

/// What an endpoint says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds, and is for us.
    Active(Active),
    /// It does not know it, or any longer.
    Inactive,
    /// It holds, but not for us or not now.
    Refused(AuthenticationError),
    /// Nothing that can be relied upon.
    Unavailable(Failure),
}

/// A token that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    identity: Rc<Identity>,
    times: Times,
}

/// Why an endpoint says nothing that can be relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It cannot be reached, or does not answer in time.
    Silent,
    /// It does not accept the gate's own credentials.
    Unauthorized,
    /// Another status than 200.
    Status(u16),
    /// Its answer is not what RFC 7662 §2.2 describes.
    Garbage,
}

/// What was answered about the token of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers(Vec<(usize, Verdict)>);

/// Most endpoints of a document: each may be asked about one token.
pub const MAX_ENDPOINTS: usize = 8;

/// The longest `timeout`.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest `cache_duration`: a token that its issuer takes back is believed no longer.
pub const MAX_CACHE: Duration = Duration::from_secs(300);

/// For how long a token is remembered that an endpoint does not know, at most.
pub const NEGATIVE: Duration = Duration::from_secs(10);

// === impl Introspection ===

impl Introspection {
    /// Compiles `authentication.introspection`, found at `pointer`. The result may only be used when no fault was added.
    pub fn compile(
        specs: &[IntrospectionSpec],
        bindings: &Rc<Bindings>,
        max_bytes: usize,
        environment: &dyn Fn(&str) -> Option<String>,
        pointer: &str,
        faults: &mut Faults,
    ) -> Self {
        if specs.len() > MAX_ENDPOINTS {
            faults.at(
                pointer,
                format!("more than {MAX_ENDPOINTS} endpoints"),
                "each of them may be asked about one token: split the issuers over several gates",
            );
        }
        let mut endpoints = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            if specs.iter().take(index).any(|earlier| earlier.name == spec.name) {
                faults.at(
                    format!("{pointer}/name"),
                    format!("a second endpoint is called `{}`", spec.name),
                    "give each endpoint its own name",
                );
            }
            endpoints.extend(Endpoint::compile(spec, bindings, environment, &pointer, faults));
        }
        Self { endpoints, max_bytes }
    }

    /// Whether any endpoint is configured.
    pub const fn is_configured(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// Who presents this token, or who must be asked.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn authenticate(
        &self,
        presented: &UnverifiedToken,
        answers: &Answers,
        introspected: &RefCell<Introspected>,
        now: UnixTime,
    ) -> Result<Authentication, AuthenticationError> {
        // nothing else can be a token (RFC 6750 §2.1), so no endpoint has to read it
        if presented.0.len() > self.max_bytes || !is_token(&presented.0) {
            return Err(AuthenticationError::Invalid);
        }
        let digest: [u8; 32] = Sha256::digest(&presented.0).into();
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let answered = answers.find(index).cloned();
            let known = answered.or_else(|| introspected.borrow_mut().find(&(index, digest), now));
            match known {
                None => {
                    let question = Question { endpoint: index, digest, token: presented.clone() };
                    return Ok(Authentication::Asks(Inquiry::Introspection(question)));
                }
                Some(Verdict::Active(Active { identity, times })) => {
                    times.check(endpoint.clock_skew(), now)?;
                    return Ok(Authentication::Caller(identity));
                }
                Some(Verdict::Inactive) => {}
                Some(Verdict::Refused(error)) => return Err(error),
                Some(Verdict::Unavailable(_)) => return Err(AuthenticationError::IntrospectionUnavailable),
            }
        }
        Err(AuthenticationError::Invalid)
    }

    /// The call that asks; `None` for a question of another configuration.
    pub fn callout(&self, question: &Question) -> Option<Callout> {
        self.endpoint(question).map(|endpoint| endpoint.callout(&question.token))
    }

    /// What an answer says: its status, where it has one, and its body, where it could be read.
    pub fn read(
        &self,
        question: &Question,
        status: Option<u16>,
        body: Option<&[u8]>,
        now: UnixTime,
    ) -> Verdict {
        match self.endpoint(question) {
            Some(endpoint) => answer::read(endpoint, status, body, now),
            None => Verdict::Unavailable(Failure::Silent),
        }
    }

    /// Until when an answer is believed without asking again: never beyond the token's own end.
    pub fn keep_until(&self, question: &Question, verdict: &Verdict, now: UnixTime) -> UnixTime {
        let longest = self.endpoint(question).map_or(Duration::ZERO, Endpoint::cache_duration);
        match verdict {
            Verdict::Active(active) => now.plus(longest).min(active.times.expires),
            Verdict::Inactive | Verdict::Refused(_) => now.plus(longest.min(NEGATIVE)),
            Verdict::Unavailable(_) => now,
        }
    }

    /// How long its answer may take.
    pub fn timeout(&self, question: &Question) -> Duration {
        self.endpoint(question).map_or(MAX_TIMEOUT, Endpoint::timeout)
    }

    /// How the configuration calls the endpoint.
    pub fn name(&self, question: &Question) -> &str {
        self.endpoint(question).map_or("", Endpoint::name)
    }

    fn endpoint(&self, question: &Question) -> Option<&Endpoint> {
        self.endpoints.get(question.endpoint)
    }
}

// === impl Question ===

impl Question {
    /// The same for every request that has this question.
    pub const fn key(&self) -> QuestionKey {
        (self.endpoint, self.digest)
    }

    /// Whom it is for, by its place in the configuration.
    pub const fn endpoint(&self) -> usize {
        self.endpoint
    }
}

// === impl Answers ===

impl Answers {
    /// Keeps an answer.
    pub fn add(&mut self, question: &Question, verdict: Verdict) {
        self.0.push((question.endpoint, verdict));
    }

    fn find(&self, endpoint: usize) -> Option<&Verdict> {
        self.0.iter().find(|(known, _)| *known == endpoint).map(|(_, verdict)| verdict)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("the endpoint does not answer"),
            Self::Unauthorized => {
                f.write_str("the endpoint refuses `client_id` with the secret of `client_secret_env`")
            }
            Self::Status(status) => write!(f, "the endpoint answers {status}"),
            Self::Garbage => f.write_str("the endpoint's answer is not one of RFC 7662"),
        }
    }
}

/// `b64token`, RFC 6750 §2.1.
fn is_token(presented: &[u8]) -> bool {
    let text = presented.trim_ascii_end();
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last.saturating_add(1));
    let letters = text.get(..end).unwrap_or_default();
    let letter =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    !letters.is_empty() && letters.iter().all(letter)
}

#[cfg(test)]
mod tests;
