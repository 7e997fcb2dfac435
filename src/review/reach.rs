//! A configuration becomes the ways into it, and a way, a resource and an action become whether they lead there.
//!
//! A way is a credential of a configured caller in a profile that accepts it; or any token of an issuer or of an
//! introspection endpoint, or any certificate of a trust domain, whose caller nobody configured. What depends on a claim, on the time or on the address
//! is said to.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::faults::Faults;
use crate::filter::profile::{Authenticate, Profile};
use crate::identity::api_key::table::scope_of;
use crate::identity::scope::is_match;
use crate::identity::spec::{ClaimsSpec, ConsumerSpec};
use crate::identity::{ANONYMOUS, Accepted, Identity, Method};
use crate::policy::attributes::Category;
use crate::resource::presets;
use crate::resource::{CATALOGUE, Resource};
use crate::time::UnixTime;

use super::Candidate;
use super::candidate::{Answer, Question};
use super::partial::{self, Outcome, Unknown};

/// One way in.
#[derive(Clone, Debug)]
pub struct Way<'a> {
    /// A consumer's name, `anonymous`, or a pattern such as `jwt:corp:*`.
    pub principal: String,
    /// What is shown: `key w9xfhmfn`, `token of corp`, `certificate`, `nothing`.
    pub credential: String,
    /// Where.
    pub profile: &'a Profile,
    identity: Identity,
    unknown: Unknown,
    /// Actions by scope, where scopes limit a token.
    scopes: Option<&'a BTreeMap<String, Vec<String>>>,
    sources: Vec<String>,
    /// What a request must look like where nobody is authenticated.
    like: Option<String>,
}

/// A way that leads to what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The policies that allow it; where it depends, none.
    pub policies: Vec<String>,
    /// What it depends on: attributes, scopes, addresses. Empty: nothing.
    pub depends_on: Vec<String>,
}

/// What the time and the address decide.
const OF_REQUEST: [&str; 4] = ["now", "source", "time", "weekday"];

/// How a resource is called that the catalogue does not list.
pub const UNLISTED: &str = "(not listed)";

// === impl Candidate ===

impl Candidate {
    /// Every way in that is open at this time.
    pub fn ways(&self, now: UnixTime) -> Vec<Way<'_>> {
        let mut ways = Vec::new();
        for profile in &self.config.profiles.list {
            match &profile.authenticate {
                Authenticate::Nobody(_) => {
                    let nobody = Identity::anonymous();
                    let mut way = self.way(profile, ANONYMOUS, "nothing", nobody, Unknown::new());
                    way.like = self.like(&profile.name);
                    ways.push(way);
                }
                Authenticate::Caller(accepted) => {
                    for consumer in &self.document.consumers {
                        self.of_consumer(profile, accepted, consumer, now, &mut ways);
                    }
                    self.of_strangers(profile, accepted, &mut ways);
                }
            }
        }
        ways.retain(|way| self.config.revocation.check(&way.identity).is_ok());
        ways
    }

    fn way<'a>(
        &'a self,
        profile: &'a Profile,
        principal: &str,
        credential: &str,
        identity: Identity,
        mut unknown: Unknown,
    ) -> Way<'a> {
        unknown.extend(OF_REQUEST.map(|name| (Category::Environment, name.to_owned())));
        let (principal, credential) = (principal.to_owned(), credential.to_owned());
        Way {
            principal,
            credential,
            profile,
            identity,
            unknown,
            scopes: None,
            sources: Vec::new(),
            like: None,
        }
    }

    /// `GET /healthz`: the `match` of an open profile.
    fn like(&self, profile: &str) -> Option<String> {
        let spec = self.document.profiles.as_ref()?.get(profile)?.matches.as_ref()?;
        let methods = spec.methods.as_ref().map(|methods| methods.join(" or "));
        let words = [methods, spec.path.clone(), spec.host.clone()];
        Some(words.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }

    fn of_consumer<'a>(
        &'a self,
        profile: &'a Profile,
        accepted: &Accepted,
        consumer: &'a ConsumerSpec,
        now: UnixTime,
        ways: &mut Vec<Way<'a>>,
    ) {
        let has = |method: &Method| match method {
            Method::ApiKey => !consumer.credentials.api_keys.is_empty(),
            Method::Jwt => !consumer.credentials.jwt.is_empty(),
            // an endpoint's callers are nobody's consumers
            Method::Introspection => false,
            Method::Mtls => !consumer.credentials.mtls.is_empty(),
        };
        let methods = match accepted {
            Accepted::Any(methods) => methods.clone(),
            // the others are shown beside it, whoever's they are
            Accepted::All { principal: Some(method), .. } => vec![*method],
            Accepted::All { methods, .. } if !methods.iter().all(has) => return,
            Accepted::All { methods, .. } => methods.clone(),
        };
        let settled = self.settle(Identity::anonymous(), Some(&consumer.name));
        if methods.contains(&Method::ApiKey) {
            let open = consumer.credentials.api_keys.iter().filter(|key| {
                key.not_before.is_none_or(|from| now >= from.0)
                    && key.not_after.is_none_or(|until| now < until.0)
            });
            for key in open {
                let mut identity = settled.clone();
                identity.credential.method = String::from("api_key");
                identity.credential.id.clone_from(&key.id);
                // INVARIANT: of a configuration that was compiled without faults
                identity.scope = scope_of(key, "", &mut Faults::default());
                // from where is said beside, not decided
                identity.scope.source_ranges = None;
                let mut way =
                    self.way(profile, &consumer.name, &format!("key {}", key.id), identity, Unknown::new());
                way.sources = key.source_ranges.clone().unwrap_or_default();
                ways.push(way);
            }
        }
        if methods.contains(&Method::Mtls) && has(&Method::Mtls) {
            ways.push(self.way(profile, &consumer.name, "certificate", settled.clone(), Unknown::new()));
        }
        if methods.contains(&Method::Jwt) {
            for provider in &self.document.authentication.jwt.providers {
                if consumer.credentials.jwt.iter().any(|bound| bound.provider == provider.name) {
                    let unknown = self.claimed(&provider.claims, Some(consumer));
                    let credential = format!("token of {}", provider.name);
                    let mut way = self.way(profile, &consumer.name, &credential, settled.clone(), unknown);
                    way.scopes = provider.scopes.as_ref();
                    ways.push(way);
                }
            }
        }
    }

    /// Callers that are no consumers.
    fn of_strangers<'a>(&'a self, profile: &'a Profile, accepted: &Accepted, ways: &mut Vec<Way<'a>>) {
        let methods = match accepted {
            Accepted::Any(methods) => methods.as_slice(),
            Accepted::All { principal: Some(method), .. } => std::slice::from_ref(method),
            Accepted::All { methods, .. } => match methods.as_slice() {
                [only] => std::slice::from_ref(only),
                // strangers of two kinds are never the same principal
                _ => return,
            },
        };
        let authentication = &self.document.authentication;
        let jwt = authentication.jwt.providers.iter().filter(|_| methods.contains(&Method::Jwt));
        let jwt = jwt.map(|issuer| ("jwt", &issuer.name, &issuer.claims, issuer.scopes.as_ref()));
        let opaque = authentication.introspection.iter();
        let opaque = opaque.filter(|_| methods.contains(&Method::Introspection));
        let opaque = opaque.map(|asked| ("opaque", &asked.name, &asked.claims, asked.scopes.as_ref()));
        for (kind, name, claims, scopes) in jwt.chain(opaque) {
            let unknown = self.claimed(claims, None);
            let credential = format!("token of {name}");
            let mut way = self.of_stranger(profile, &format!("{kind}:{name}:*"), &credential, unknown);
            way.scopes = scopes;
            ways.push(way);
        }
        let domains = authentication.mtls.as_ref().map(|mtls| mtls.trust_domains.as_slice());
        for domain in domains.unwrap_or_default().iter().filter(|_| methods.contains(&Method::Mtls)) {
            let principal = format!("mtls:spiffe://{domain}/*");
            ways.push(self.of_stranger(profile, &principal, "certificate", self.bound()));
        }
    }

    /// A way of whoever has an id of this pattern.
    fn of_stranger<'a>(
        &'a self,
        profile: &'a Profile,
        principal: &str,
        credential: &str,
        mut unknown: Unknown,
    ) -> Way<'a> {
        unknown.insert((Category::Principal, String::from("id")));
        let identity = Identity { principal: principal.to_owned(), ..Identity::anonymous() };
        self.way(profile, principal, credential, identity, unknown)
    }

    /// What a token may say, and nothing else does.
    fn claimed(&self, claims: &ClaimsSpec, consumer: Option<&ConsumerSpec>) -> Unknown {
        let mut names: BTreeSet<String> = claims.attributes.keys().cloned().collect();
        names.extend(claims.roles.as_ref().map(|_| String::from("roles")));
        names.extend(claims.tier.as_ref().map(|_| String::from("tier")));
        let mut unknown = self.bound();
        unknown.extend(names.into_iter().map(|name| (Category::Principal, name)));
        let written = |name: &str| {
            consumer.is_some_and(|consumer| match name {
                "roles" => !consumer.roles.is_empty(),
                "tier" => consumer.tier.is_some(),
                name => consumer.attributes.contains_key(name),
            })
        };
        unknown.retain(|(_, name)| !written(name));
        unknown
    }

    /// What a binding may give: whose patterns match is not known of a caller that nobody configured.
    fn bound(&self) -> Unknown {
        let mut unknown = Unknown::new();
        for binding in &self.document.bindings {
            let names = binding.attributes.keys().cloned();
            let roles = (!binding.roles.is_empty()).then(|| String::from("roles"));
            let tier = binding.tier.as_ref().map(|_| String::from("tier"));
            unknown.extend(names.chain(roles).chain(tier).map(|name| (Category::Principal, name)));
        }
        unknown
    }

    /// Every resource that is listed, and one that is not where that is allowed, by type and id.
    pub fn resources(&self) -> Vec<(Resource, bool)> {
        let catalogue = self.config.rules.catalogue();
        let mut all: Vec<(Resource, bool)> =
            catalogue.iter().map(|resource| (resource.clone(), true)).collect();
        let kinds: BTreeSet<String> = self.offered().into_iter().map(|(kind, _)| kind).collect();
        for kind in kinds {
            if kind == CATALOGUE {
                let (resource, listed) = self.resource(CATALOGUE, "models");
                all.push(((*resource).clone(), listed));
            } else if catalogue.allows_unlisted() {
                let (resource, listed) = self.resource(&kind, UNLISTED);
                all.push(((*resource).clone(), listed));
            }
        }
        all.sort_by(|(a, _), (b, _)| (&a.kind, &a.id).cmp(&(&b.kind, &b.id)));
        all
    }

    /// Types of resources and what rules do with them.
    pub fn offered(&self) -> BTreeSet<(String, String)> {
        let mut offered = BTreeSet::new();
        for rule in &self.document.resources.rules {
            if let (Some(resource), Some(action)) = (&rule.resource, &rule.action) {
                offered.insert((resource.kind.clone(), action.clone()));
            }
            for rule in rule.preset.as_deref().and_then(presets::preset).into_iter().flatten() {
                offered.insert((rule.kind.to_owned(), rule.action.to_owned()));
            }
        }
        offered
    }

    /// Whether a way leads to a resource and an action. `None`: it does not.
    pub fn access(&self, way: &Way<'_>, resource: &Resource, listed: bool, action: &str) -> Option<Access> {
        let question = Question {
            principal: &way.identity,
            resource,
            listed,
            action,
            environment: &self.config.environment,
            now: None,
            source: None,
        };
        let (policies, mut depends_on) = match partial::decide(self, way.profile, &question, &way.unknown) {
            Outcome::Said(answer) if !answer.is_allowed() => return None,
            Outcome::Said(Answer { policies, .. }) => (policies, Vec::new()),
            Outcome::Depends(names) => (Vec::new(), names.into_iter().collect()),
        };
        if let Some(scopes) = way.scopes.filter(|_| way.profile.authorize) {
            let granting =
                scopes.iter().filter(|(_, actions)| actions.iter().any(|one| is_match(one, action)));
            let granting: Vec<&str> = granting.map(|(scope, _)| scope.as_str()).collect();
            if granting.is_empty() {
                return None;
            }
            depends_on.push(format!("scope {}", granting.join(" or ")));
        }
        if !way.sources.is_empty() {
            depends_on.push(format!("source in {}", way.sources.join(", ")));
        }
        depends_on.extend(way.like.as_ref().map(|like| format!("a request like {like}")));
        Some(Access { policies, depends_on })
    }
}
