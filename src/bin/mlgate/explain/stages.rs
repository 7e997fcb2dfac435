//! What each stage saw of a request, in the order of `filter::transaction`, whose verdict is the one that counts.

use std::cell::RefCell;
use std::rc::Rc;

use mlgate::config::Config;
use mlgate::credentials;
use mlgate::filter::profile::{Authenticate, Profile, route_of};
use mlgate::filter::refusal::{Reason, Refusal};
use mlgate::host::Host;
use mlgate::http::{HeadLimits, RequestHead};
use mlgate::identity::introspection::Answers;
use mlgate::identity::keyring::Keyrings;
use mlgate::identity::{Identity, Known, authenticate};
use mlgate::limits::Subject;
use mlgate::policy::attributes::{Attributes, Value};
use mlgate::policy::condition::{ClauseTrace, Truth};
use mlgate::policy::explain::PolicyTrace;
use mlgate::policy::spec::EffectSpec;
use mlgate::resource::rules::Resolution;
use mlgate::resource::{Resource, scan};
use mlgate::review::candidate::Question;
use mlgate::review::flip::flip;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::flip::Flip;
use super::request::Request;

/// See the module. What a stage after a refusal would have seen is absent.
#[derive(Debug, Default, Serialize)]
pub(super) struct Stages {
    /// `POST /predict`.
    pub(super) request: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) caller: Option<Caller>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resource: Option<Asked>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) policies: Vec<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) within_scope: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) limits: Vec<String>,
    /// What the rate limit service is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<String>,
    /// What would flip a denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flip: Option<Flip>,
    /// Names of the policies that decide.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) because: Vec<String>,
}

/// Who asks.
#[derive(Debug, Serialize)]
pub(super) struct Caller {
    pub(super) principal: String,
    /// How it was shown; `assumed` where the request names a `principal`.
    pub(super) method: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) credential: String,
    pub(super) roles: Vec<String>,
    pub(super) tier: String,
    pub(super) attributes: Json,
}

/// For what, to do what.
#[derive(Debug, Serialize)]
pub(super) struct Asked {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) listed: bool,
    pub(super) attributes: Json,
    pub(super) action: String,
}

/// What one policy says.
#[derive(Debug, Serialize)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) effect: &'static str,
    /// `false`: `mode: off`, or the profile leaves it out.
    pub(super) counts: bool,
    pub(super) matches: &'static str,
    pub(super) clauses: Vec<Clause>,
}

/// What one clause says.
#[derive(Debug, Serialize)]
pub(super) struct Clause {
    pub(super) attribute: String,
    pub(super) pattern: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seen: Option<Json>,
    pub(super) matches: &'static str,
}

// === impl Stages ===

impl Stages {
    /// Asks one stage after the other, until one refuses.
    pub(super) fn of(request: &Request, block: &[u8], config: &Config, host: &dyn Host) -> Self {
        let mut stages = Self::default();
        // why it ended is the transaction's to say
        let _ended = stages.walk(request, block, config, host);
        stages
    }

    fn walk(
        &mut self,
        request: &Request,
        block: &[u8],
        config: &Config,
        host: &dyn Host,
    ) -> Result<(), Reason> {
        let limits = HeadLimits { header_bytes: config.bounds.header_bytes, single: &config.single_headers };
        let (mut head, verdict) =
            RequestHead::read(block, request.facts.clone(), config.source_trust, limits);
        config.certificates.resolve(&mut head);
        self.request = format!("{} {}", head.method, head.path());
        verdict?;
        if head.facts.outbound {
            return Err(Reason::DirectionRefused);
        }
        let profile = config.profile(config.profiles.of(&head)?)?;
        self.profile = Some(profile.name.clone());
        let identity = match &profile.authenticate {
            Authenticate::Nobody(_) => Rc::clone(&config.anonymous),
            Authenticate::Caller(accepted) => {
                let found = credentials::find(&head, &config.extraction);
                let (verified, introspected) = (RefCell::default(), RefCell::default());
                let known = Known {
                    verified: &verified,
                    keyrings: &Keyrings::default(),
                    introspected: &introspected,
                    answers: &Answers::default(),
                };
                let found = authenticate(&found, accepted, config.authorities(known, host))
                    .map_err(|error| Refusal::from(error).reason)?;
                // nobody is asked from here
                found.caller().ok_or(Reason::IntrospectionUnavailable)?
            }
        };
        self.caller = Some(Caller::of(&identity, request.assumed));
        config.revocation.check(&identity).map_err(|error| Refusal::from(error).reason)?;
        let asked = if profile.authorize {
            Some(self.decide(request, &head, config, &identity, host)?)
        } else {
            None
        };
        self.limits = config.limits.selected(&profile.limits).flat_map(|limit| limit.promises()).collect();
        let nothing = Resource::none();
        let attributes = Attributes {
            principal: &identity,
            resource: asked.as_ref().map_or(&nothing, |(resource, _)| resource),
            action: asked.as_ref().map_or("", |(_, action)| action),
            environment: &config.environment,
            now: Some(host.unix_time()),
            source: head.source,
        };
        let subject = Subject {
            attributes: &attributes,
            source: head.source,
            route: Some(&route_of(&head)),
            profile: &profile.name,
        };
        let question = config.limits.question(&profile.limits, &subject);
        self.service = question.zip(config.limits.service()).map(|(question, service)| {
            format!("the cluster `{}` is asked of `{}`: {question}", service.cluster, service.domain)
        });
        Ok(())
    }

    /// What each policy says, and what would flip a denial.
    pub(super) fn said(&mut self, config: &Config, profile: &Profile, question: &Question<'_>) {
        let traces = config.policies.explain(&profile.policies, &question.attributes());
        self.policies = traces.into_iter().map(Policy::from).collect();
        let scope = &question.principal.scope;
        self.within_scope = Some(scope.allows(question.resource, question.action, question.source));
        if !question.ask(config, profile).is_allowed() {
            self.flip = Some(Flip::from(flip(config, profile, question)));
        }
    }

    fn decide(
        &mut self,
        request: &Request,
        head: &RequestHead,
        config: &Config,
        identity: &Identity,
        host: &dyn Host,
    ) -> Result<(Rc<Resource>, Rc<str>), Reason> {
        let profile = config.profile(config.profiles.of(head)?)?;
        let resolution = match config.rules.resolve(&head.method, head.path(), &head.host) {
            Resolution::NeedsBody(pending) => {
                let refused = |error| Refusal::from(error).reason;
                scan::readable(&head.headers).map_err(refused)?;
                let model = scan::model_of_body(&request.body, config.bounds.json_depth).map_err(refused)?;
                config.rules.complete(&pending, &model)
            }
            known => known,
        };
        let (resource, action, listed) = match resolution {
            Resolution::Found { resource, action } => (resource, action, true),
            Resolution::Unlisted { resource, action } => (resource, action, false),
            Resolution::NeedsBody(_) | Resolution::Unknown => return Err(Reason::ResourceUnknown),
        };
        self.resource = Some(Asked {
            kind: resource.kind.clone(),
            id: resource.id.clone(),
            listed,
            attributes: attributes(&resource.attributes),
            action: action.to_string(),
        });
        if !listed {
            return Err(Reason::ResourceUnknown);
        }
        let question = Question {
            principal: identity,
            resource: &resource,
            listed,
            action: &action,
            environment: &config.environment,
            now: Some(host.unix_time()),
            source: head.source,
        };
        self.said(config, profile, &question);
        let within = self.within_scope.unwrap_or(false);
        let decision = config.policies.decide(&profile.policies, &question.attributes(), within);
        self.because = decision.policies;
        decision.refused.map_or(Ok((resource, action)), Err)
    }
}

// === impl Caller ===

impl Caller {
    pub(super) fn of(identity: &Identity, assumed: bool) -> Self {
        let credential = &identity.credential;
        Self {
            principal: identity.principal.clone(),
            method: if assumed { String::from("assumed") } else { credential.method.clone() },
            credential: if assumed { String::new() } else { credential.id.clone() },
            roles: identity.roles.clone(),
            tier: identity.tier.clone(),
            attributes: attributes(&identity.attributes),
        }
    }
}

// === impl Policy ===

impl From<PolicyTrace> for Policy {
    fn from(trace: PolicyTrace) -> Self {
        Self {
            name: trace.policy,
            effect: match trace.effect {
                EffectSpec::Allow => "allow",
                EffectSpec::Deny => "deny",
            },
            counts: trace.counts,
            matches: word(&trace.truth),
            clauses: trace.clauses.into_iter().map(Clause::from).collect(),
        }
    }
}

// === impl Clause ===

impl From<ClauseTrace> for Clause {
    fn from(trace: ClauseTrace) -> Self {
        Self {
            matches: word(&trace.truth),
            attribute: trace.attribute,
            pattern: trace.pattern,
            seen: trace.seen.as_ref().map(value),
        }
    }
}

const fn word(truth: &Truth) -> &'static str {
    match truth {
        Truth::True => "yes",
        Truth::False => "no",
        Truth::Error(_) => "error",
    }
}

pub(super) fn attributes(map: &mlgate::policy::attributes::AttributeMap) -> Json {
    Json::Object(map.iter().map(|(name, known)| (name.clone(), value(known))).collect::<Map<_, _>>())
}

pub(super) fn value(value: &Value) -> Json {
    match value {
        Value::Bool(value) => json!(value),
        Value::List(value) => json!(value),
        Value::Number(value) => json!(value),
        Value::Text(value) => json!(value),
    }
}
