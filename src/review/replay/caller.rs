//! A record becomes the caller as a configuration would see it, and the names of what is not known of it.

use std::collections::BTreeMap;

use crate::config::document::Document;
use crate::config::faults::Faults;
use crate::filter::profile::{Authenticate, Profile};
use crate::filter::refusal::Reason;
use crate::identity::api_key::table::scope_of;
use crate::identity::spec::{ApiKeySpec, ClaimsSpec, ConsumerSpec, SubjectSpec};
use crate::identity::{ANONYMOUS, Credential, DEFAULT_TIER, Identity, Scope};
use crate::policy::attributes::Category;
use crate::review::Candidate;
use crate::review::partial::Unknown;
use crate::review::record::Record;

use super::{Replay, accepts};

/// See the module.
pub(super) struct Caller {
    pub(super) identity: Identity,
    /// Names of the principal's attributes that policies read and nobody wrote down.
    pub(super) unknown: Unknown,
}

/// A token's caller, as far as it is known.
struct Claims<'a> {
    record: &'a Record,
    replay: Replay<'a>,
    /// The issuer in the configuration that is asked.
    issuer: Issuer<'a>,
    /// The same in the one that records are read by.
    recorded: Option<Issuer<'a>>,
    consumer: Option<&'a ConsumerSpec>,
    recorded_consumer: Option<&'a ConsumerSpec>,
    same_bindings: bool,
}

/// Who signs tokens, or is asked about them.
#[derive(Clone, Copy)]
struct Issuer<'a> {
    /// Before its name in the ids of its callers.
    prefix: &'static str,
    name: &'a str,
    claims: &'a ClaimsSpec,
    scopes: Option<&'a BTreeMap<String, Vec<String>>>,
}

// === impl Caller ===

impl Caller {
    pub(super) fn of(record: &Record, replay: Replay<'_>, profile: &Profile) -> Result<Self, Reason> {
        let method = record.credential.method.as_str();
        if matches!(profile.authenticate, Authenticate::Nobody(_)) {
            return Ok(Self::known(Identity::anonymous()));
        }
        if record.principal.as_deref() == Some(ANONYMOUS) || !accepts(profile, method) {
            return Err(Reason::CredentialMissing);
        }
        match method {
            "api_key" => Self::of_key(record, replay),
            "mtls" => Self::of_certificate(record, replay),
            _ => Self::of_token(record, replay),
        }
    }

    fn known(identity: Identity) -> Self {
        Self { identity, unknown: Unknown::new() }
    }

    /// Nothing of a key's caller comes from the caller.
    fn of_key(record: &Record, replay: Replay<'_>) -> Result<Self, Reason> {
        let id = record.credential.id.as_deref().unwrap_or_default();
        let (consumer, key) = key(&replay.candidate.document, id).ok_or(Reason::CredentialInvalid)?;
        let recorded = key_of(&replay.recorder.document, id);
        if recorded.is_some_and(|recorded| recorded.digest != key.digest)
            || key.not_before.is_some_and(|from| record.timestamp < from.0)
        {
            return Err(Reason::CredentialInvalid);
        }
        if key.not_after.is_some_and(|until| record.timestamp >= until.0) {
            return Err(Reason::CredentialExpired);
        }
        let mut identity = replay.candidate.settle(Identity::anonymous(), Some(&consumer.name));
        // INVARIANT: of a configuration that was compiled without faults
        identity.scope = scope_of(key, "", &mut Faults::default());
        identity.credential = credential(record);
        Ok(Self::known(identity))
    }

    /// Nor of a certificate's.
    fn of_certificate(record: &Record, replay: Replay<'_>) -> Result<Self, Reason> {
        let id = record.credential.id.as_deref().unwrap_or_default();
        let document = &replay.candidate.document;
        let bound = document.consumers.iter().find(|consumer| {
            consumer.credentials.mtls.iter().any(|spec| {
                let dns = spec.dns_san.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(id));
                dns || [&spec.uri_san, &spec.subject, &spec.common_name]
                    .into_iter()
                    .any(|name| name.as_deref() == Some(id))
            })
        });
        let domain = id.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next());
        let trusted = document.authentication.mtls.as_ref().is_some_and(|mtls| {
            domain.is_some_and(|domain| mtls.trust_domains.iter().any(|trusted| trusted == domain))
        });
        if bound.is_none() && !trusted {
            return Err(Reason::CredentialMissing);
        }
        let claims = Identity {
            principal: format!("mtls:{id}"),
            name: id.to_owned(),
            credential: credential(record),
            ..Identity::anonymous()
        };
        Ok(Self::known(replay.candidate.settle(claims, bound.map(|consumer| consumer.name.as_str()))))
    }

    fn of_token(record: &Record, replay: Replay<'_>) -> Result<Self, Reason> {
        let issuer = Issuer::of(record, &replay.candidate.document).ok_or(Reason::CredentialInvalid)?;
        let recorded = Issuer::of(record, &replay.recorder.document);
        let principal = record.principal.as_deref().unwrap_or_default();
        let recorded_consumer = consumer(&replay.recorder.document, principal);
        let subject = match recorded_consumer {
            None => principal.splitn(3, ':').nth(2),
            Some(consumer) => consumer
                .credentials
                .jwt
                .iter()
                .find(|bound| recorded.is_some_and(|issuer| issuer.binds(bound)))
                .map(|bound| bound.subject.as_str()),
        };
        let subject = subject.unwrap_or(&record.name);
        let consumer = replay.candidate.document.consumers.iter().find(|consumer| {
            let mut bound = consumer.credentials.jwt.iter();
            bound.any(|bound| issuer.binds(bound) && bound.subject == subject)
        });
        let same_bindings = replay.candidate.written("/bindings") == replay.recorder.written("/bindings");
        let claims = Claims { record, replay, issuer, recorded, consumer, recorded_consumer, same_bindings };
        Ok(claims.caller(subject))
    }
}

// === impl Issuer ===

impl<'a> Issuer<'a> {
    /// Whose token a record speaks of.
    fn of(record: &Record, document: &'a Document) -> Option<Self> {
        let authentication = &document.authentication;
        if record.credential.method == "introspection" {
            let name = record.principal.as_deref()?.split(':').nth(1)?;
            let endpoint = authentication.introspection.iter().find(|endpoint| endpoint.name == name)?;
            let (claims, scopes) = (&endpoint.claims, endpoint.scopes.as_ref());
            return Some(Self { prefix: "opaque", name: &endpoint.name, claims, scopes });
        }
        let mut providers = authentication.jwt.providers.iter();
        let provider = providers.find(|one| Some(&one.issuer) == record.credential.issuer.as_ref())?;
        let (claims, scopes) = (&provider.claims, provider.scopes.as_ref());
        Some(Self { prefix: "jwt", name: &provider.name, claims, scopes })
    }

    fn binds(&self, bound: &SubjectSpec) -> bool {
        self.prefix == "jwt" && bound.provider == self.name
    }
}

// === impl Claims ===

impl Claims<'_> {
    fn caller(&self, subject: &str) -> Caller {
        let candidate = self.replay.candidate;
        let mut unknown = Unknown::new();
        let mut identity = Identity {
            principal: format!("{}:{}:{subject}", self.issuer.prefix, self.issuer.name),
            name: subject.to_owned(),
            credential: credential(self.record),
            scope: self.scope(),
            ..Identity::anonymous()
        };
        let paths = (Some(self.issuer.claims), self.recorded.map(|recorded| recorded.claims));
        let path =
            |of: fn(&crate::identity::spec::ClaimsSpec) -> Option<&crate::identity::spec::ClaimPath>| {
                (paths.0.and_then(of), paths.1.and_then(of))
            };
        let is_roles = |spec: &ConsumerSpec| !spec.roles.is_empty();
        let binds_roles = binds(candidate, |spec| !spec.roles.is_empty());
        let bound_roles = binds(self.replay.recorder, |spec| !spec.roles.is_empty());
        if !self.consumer.is_some_and(is_roles) {
            let overwritten = self.recorded_consumer.is_some_and(is_roles);
            match self.source(path(|claims| claims.roles.as_ref()), binds_roles, bound_roles, overwritten) {
                Source::Record if !self.record.cut => identity.roles.clone_from(&self.record.roles),
                Source::Nothing => {}
                Source::Record | Source::Unknown => {
                    unknown.extend([(Category::Principal, String::from("roles"))])
                }
            }
        }
        let is_tier = |spec: &ConsumerSpec| spec.tier.is_some();
        let binds_tier = binds(candidate, |spec| spec.tier.is_some());
        let bound_tier = binds(self.replay.recorder, |spec| spec.tier.is_some());
        if !self.consumer.is_some_and(is_tier) {
            let overwritten = self.recorded_consumer.is_some_and(is_tier);
            match self.source(path(|claims| claims.tier.as_ref()), binds_tier, bound_tier, overwritten) {
                Source::Record => {
                    identity.tier = self.record.tier.clone().unwrap_or_else(|| String::from(DEFAULT_TIER));
                }
                Source::Nothing => {}
                Source::Unknown => unknown.extend([(Category::Principal, String::from("tier"))]),
            }
        }
        for name in self.names() {
            if self.consumer.is_some_and(|spec| spec.attributes.contains_key(name)) {
                continue;
            }
            let overwritten = self.recorded_consumer.is_some_and(|spec| spec.attributes.contains_key(name));
            let claims = (
                self.issuer.claims.attributes.get(name),
                self.recorded.and_then(|recorded| recorded.claims.attributes.get(name)),
            );
            let now = binds(candidate, |spec| spec.attributes.contains_key(name));
            let then = binds(self.replay.recorder, |spec| spec.attributes.contains_key(name));
            match (self.source(claims, now, then, overwritten), self.record.attributes.get(name)) {
                (Source::Nothing, _) => {}
                (Source::Record, Some(value)) => {
                    identity.attributes.insert(name.to_owned(), value.clone());
                }
                (Source::Record, None) if self.was_read(name) => {}
                _ => unknown.extend([(Category::Principal, name.to_owned())]),
            }
        }
        if let Some(consumer) = self.consumer {
            candidate.prevail(&consumer.name, &mut identity);
        }
        Caller { identity, unknown }
    }

    /// Where something that the consumer's words do not give comes from. `claims` are the places in a token, now and
    /// when it was recorded; so are the bindings `now` and `then`.
    fn source<P: PartialEq>(
        &self,
        claims: (Option<P>, Option<P>),
        now: bool,
        then: bool,
        overwritten: bool,
    ) -> Source {
        match (now || then, claims) {
            (_, (claim, _)) if overwritten => {
                if now || claim.is_some() {
                    Source::Unknown
                } else {
                    Source::Nothing
                }
            }
            (true, _) if self.same_bindings => Source::Record,
            (true, _) => Source::Unknown,
            (false, (None, _)) => Source::Nothing,
            (false, (now, then)) if now == then => Source::Record,
            _ => Source::Unknown,
        }
    }

    /// The principal's attributes that policies read.
    fn names(&self) -> impl Iterator<Item = &str> {
        let reads = self.replay.candidate.config.policies.reads().iter();
        reads
            .filter(|(category, name)| {
                *category == Category::Principal && !matches!(name.as_str(), "id" | "roles" | "tier")
            })
            .map(|(_, name)| name.as_str())
    }

    /// Whether the event would hold the attribute if the caller had had it.
    fn was_read(&self, name: &str) -> bool {
        let recorder = &self.replay.recorder.config;
        let read = |(category, known): &(Category, String)| *category == Category::Principal && known == name;
        !self.record.cut
            && self.record.resource.is_some()
            && self.record.policy_revision == recorder.revision
            && recorder.policies.reads().iter().any(read)
    }

    fn scope(&self) -> Scope {
        let actions = self.issuer.scopes.map(|map| {
            self.record.scopes.iter().filter_map(|scope| map.get(scope)).flatten().cloned().collect()
        });
        Scope { actions, ..Scope::default() }
    }
}

/// Where a value of a caller is to be read.
#[derive(Clone, Copy)]
enum Source {
    /// There is none.
    Nothing,
    /// In the record.
    Record,
    /// Nobody wrote it down.
    Unknown,
}

fn binds(candidate: &Candidate, gives: impl Fn(&crate::identity::spec::BindingSpec) -> bool) -> bool {
    candidate.document.bindings.iter().any(gives)
}

fn credential(record: &Record) -> Credential {
    Credential {
        method: record.credential.method.clone(),
        id: record.credential.id.clone().unwrap_or_default(),
        issuer: record.credential.issuer.clone(),
        token_id: record.credential.jti.clone(),
        scopes: record.scopes.clone(),
        ..Credential::default()
    }
}

fn consumer<'a>(document: &'a Document, name: &str) -> Option<&'a ConsumerSpec> {
    document.consumers.iter().find(|consumer| consumer.name == name)
}

fn key<'a>(document: &'a Document, id: &str) -> Option<(&'a ConsumerSpec, &'a ApiKeySpec)> {
    document.consumers.iter().find_map(|consumer| {
        let key = consumer.credentials.api_keys.iter().find(|key| key.id == id)?;
        Some((consumer, key))
    })
}

fn key_of<'a>(document: &'a Document, id: &str) -> Option<&'a ApiKeySpec> {
    key(document, id).map(|(_, key)| key)
}
