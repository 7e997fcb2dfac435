//! A recorded decision and a configuration become what that configuration would have said.
//!
//! Everything that configurations say is taken from the configuration that is asked: consumers, keys and their limits,
//! bindings, scopes, profiles, rules, the catalogue, the environment. The record gives what came with the request:
//! credential, address, time, path, the model of a body, and what a token claimed. A claim is known where the record
//! holds it and no configuration wrote over it; what is not known is named, never guessed.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::filter::profile::{Authenticate, Profile};
use crate::filter::refusal::Reason;
use crate::identity::{Accepted, Identity, Method};
use crate::resource::Resource;
use crate::resource::rules::Resolution;

use super::Candidate;
use super::candidate::{Answer, Question};
use super::partial::{self, Outcome, Unknown};
use super::record::Record;

use caller::Caller;

mod caller;

/// A configuration that recorded decisions are put to.
#[derive(Clone, Copy, Debug)]
pub struct Replay<'a> {
    /// The one that is asked.
    pub candidate: &'a Candidate,
    /// The one that records are read by: what it writes of a caller is no claim.
    pub recorder: &'a Candidate,
}

/// A longer path or name was cut when it was recorded, in characters.
const MAX_RECORDED: usize = 1024;

/// How [`Outcome::Depends`] calls a model that no event names.
const BODY: &str = "the model in the body";

// === impl Replay ===

impl Replay<'_> {
    /// What it says of a recorded request. `None`: no policy was asked, and none would be.
    pub fn of(&self, record: &Record) -> Option<Outcome> {
        record.principal.as_ref()?;
        Some(match self.ask(record) {
            Ok(outcome) => outcome?,
            Err(reason) => Outcome::Said(Answer { refused: Some(reason), policies: Vec::new() }),
        })
    }

    fn ask(&self, record: &Record) -> Result<Option<Outcome>, Reason> {
        let Some(rebuilt) = self.rebuild(record)? else { return Ok(None) };
        if !rebuilt.profile.authorize {
            return Ok(record.said.is_some().then(|| Outcome::Said(Answer::default())));
        }
        Ok(Some(match rebuilt.question(self.candidate, record)? {
            Some(question) => partial::decide(self.candidate, rebuilt.profile, &question, &rebuilt.unknown),
            None => Outcome::Depends(BTreeSet::from([BODY.to_owned()])),
        }))
    }

    /// The request as it would be asked. `None` where none was known yet.
    ///
    /// # Errors
    /// What refuses it before policies are asked.
    pub fn rebuild(&self, record: &Record) -> Result<Option<Rebuilt<'_>>, Reason> {
        let Some(profile) = self.profile(record)? else { return Ok(None) };
        let Caller { identity, unknown } = Caller::of(record, *self, profile)?;
        self.candidate.config.revocation.check(&identity).map_err(|_| Reason::CredentialRevoked)?;
        let asked = if profile.authorize { self.resource(record) } else { Err(Unnamed) };
        Ok(Some(Rebuilt { profile, identity, unknown, asked }))
    }

    /// The recorded profile as it is now; what lets nobody in by name applies `default` beyond its own match. `None`
    /// where none was known yet.
    fn profile(&self, record: &Record) -> Result<Option<&Profile>, Reason> {
        let Some(name) = &record.profile else { return Ok(None) };
        let profile = self.candidate.profile(name).ok_or(Reason::ProfileUnknown)?;
        let is_open = match &profile.authenticate {
            Authenticate::Nobody(only) => only.matches(&record.method, &record.path, &record.host),
            Authenticate::Caller(_) => return Ok(Some(profile)),
        };
        if is_open { Ok(Some(profile)) } else { self.candidate.config.profile(0).map(Some) }
    }

    fn resource(&self, record: &Record) -> Result<Result<Asked, Reason>, Unnamed> {
        let rules = &self.candidate.config.rules;
        if record.path.chars().count() >= MAX_RECORDED {
            return Ok(self.recorded(record));
        }
        let resolution = match rules.resolve(&record.method, &record.path, &record.host) {
            Resolution::NeedsBody(pending) => match &record.resource {
                Some((_, id)) if id.chars().count() < MAX_RECORDED => rules.complete(&pending, id),
                _ => return Err(Unnamed),
            },
            known => known,
        };
        Ok(match resolution {
            Resolution::Found { resource, action } => Ok(Asked { resource, action, listed: true }),
            Resolution::Unlisted { resource, action } => Ok(Asked { resource, action, listed: false }),
            Resolution::NeedsBody(_) | Resolution::Unknown => Err(Reason::ResourceUnknown),
        })
    }

    fn recorded(&self, record: &Record) -> Result<Asked, Reason> {
        match (&record.resource, &record.action) {
            (Some((kind, id)), Some(action)) => {
                let (resource, listed) = self.candidate.resource(kind, id);
                Ok(Asked { resource, action: Rc::from(action.as_str()), listed })
            }
            _ => Err(Reason::ResourceUnknown),
        }
    }
}

/// A recorded request as a configuration is asked about it.
#[derive(Debug)]
pub struct Rebuilt<'a> {
    /// What applies.
    pub profile: &'a Profile,
    /// Who asks, as far as it is known.
    pub identity: Identity,
    /// What is not known of the caller.
    pub unknown: Unknown,
    asked: Result<Result<Asked, Reason>, Unnamed>,
}

/// What a request is about.
#[derive(Debug)]
struct Asked {
    resource: Rc<Resource>,
    action: Rc<str>,
    listed: bool,
}

/// The body names the resource, and the event does not.
#[derive(Debug)]
struct Unnamed;

// === impl Rebuilt ===

impl Rebuilt<'_> {
    /// What policies are asked; `None` where nobody wrote down about what.
    ///
    /// # Errors
    /// No rule names it.
    pub fn question<'q>(
        &'q self,
        candidate: &'q Candidate,
        record: &Record,
    ) -> Result<Option<Question<'q>>, Reason> {
        let asked = match &self.asked {
            Ok(asked) => asked.as_ref().map_err(|reason| *reason)?,
            Err(Unnamed) => return Ok(None),
        };
        Ok(Some(Question {
            principal: &self.identity,
            resource: &asked.resource,
            listed: asked.listed,
            action: &asked.action,
            environment: &candidate.config.environment,
            now: Some(record.timestamp),
            source: record.source,
        }))
    }
}

/// Whether a profile lets a credential of this method in at all.
fn accepts(profile: &Profile, method: &str) -> bool {
    match &profile.authenticate {
        Authenticate::Nobody(_) => true,
        Authenticate::Caller(Accepted::Any(methods) | Accepted::All { methods, .. }) => {
            Method::named(method).is_some_and(|method| methods.contains(&method))
        }
    }
}
