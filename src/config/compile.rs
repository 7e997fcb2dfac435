//! A document becomes the compiled gate: the stages compile their parts, every fault joins one list.

use std::collections::BTreeMap;

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value as Json;

use crate::audit::chain::{MacKey, Signer};
use crate::audit::digest::DigestSettings;
use crate::audit::event::Revision;
use crate::audit::export::TrailSettings;
use crate::audit::spec::AuditSpec;
use crate::config::credentials_list::CredentialsReader;
use crate::config::document::{BoundsSpec, Document, ProfileSpec, RevisionSpec};
use crate::config::faults::{Faults, segment};
use crate::config::{Format, read};
use crate::credentials::Extraction;
use crate::filter::profile::{Authenticate, DEFAULT, Profile, Profiles, RoutePattern};
use crate::filter::refusal::Reason;
use crate::host::Host;
use crate::http::Wanted;
use crate::identity::api_key::{ApiKeys, Listed};
use crate::identity::bindings::Bindings;
use crate::identity::introspection::Introspection;
use crate::identity::jwt::Tokens;
use crate::identity::mtls::Certificates;
use crate::identity::revocation::Revocation;
use crate::identity::secret::{NamedSecret, compile_keys};
use crate::identity::spec::SourceTrust;
use crate::identity::{Accepted, Authorities, Identity, Known, anybody_may_work};
use crate::limits::failures::Failures;
use crate::limits::{self, KeyPart, Limits};
use crate::policy::attributes::{self, AttributeMap, Category};
use crate::policy::{Facts, PolicySelection, PolicySet};
use crate::remote::store::Store;
use crate::resource::rules::{HeadMatch, ResourceRules};
use crate::resource::spec::PeekSpec;

mod accepted;
mod lists;
mod schema;

pub use lists::Lists;

/// The compiled gate: everything a request needs, nothing that changes.
#[derive(Debug)]
pub struct Config {
    /// Prefixes shared data, chains and metrics.
    pub name: String,
    /// SHA-256 of the canonical document, in hexadecimal: `policy_revision`.
    pub revision: String,
    /// `environment.*`.
    pub environment: AttributeMap,
    /// Whose address counts.
    pub source_trust: SourceTrust,
    /// Where keys are read.
    pub extraction: Extraction,
    /// Headers that may occur once.
    pub single_headers: Vec<String>,
    /// Every key, by id.
    pub api_keys: ApiKeys,
    /// What was taken back.
    pub revocation: Revocation,
    /// Where more is listed.
    pub lists: Lists,
    /// Where documents of other servers are kept.
    pub store: Store,
    /// Every trusted issuer of tokens.
    pub tokens: Tokens,
    /// Every issuer that is asked about tokens.
    pub introspection: Introspection,
    /// Which certificates are whose.
    pub certificates: Certificates,
    /// The caller of profiles that authenticate nobody.
    pub anonymous: Rc<Identity>,
    /// What is asked for.
    pub rules: ResourceRules,
    /// Whether they may.
    pub policies: PolicySet,
    /// How often.
    pub limits: Limits,
    /// What becomes of sources of wrong credentials.
    pub failures: Option<Failures>,
    /// What applies where.
    pub profiles: Profiles,
    /// What has to be known of a stream.
    pub wanted: Wanted,
    /// How bodies are digested.
    pub digest: Rc<DigestSettings>,
    /// Limits of the gate itself.
    pub bounds: Bounds,
    /// 401 or 403.
    pub invalid_credential_status: u16,
    trail: TrailSettings,
}

/// `bounds`, in the types of their use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of all header names and values.
    pub header_bytes: usize,
    /// Bytes of a body that is held.
    pub body_held: usize,
    /// Requests that wait, per worker.
    pub waiting: u32,
    /// How long one waits.
    pub wait: Duration,
    /// Nesting of a body that is read.
    pub json_depth: u32,
    /// Different series of metrics.
    pub metric_series: u32,
    /// Verified tokens that one worker remembers.
    pub verified_tokens: usize,
    /// Decisions that one worker remembers.
    pub decisions: usize,
}

/// A look-up of environment variables.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads and compiles a document.
///
/// # Errors
/// Every fault of form and meaning, with its place.
pub fn load(bytes: &[u8], format: Format, environment: Environment<'_>) -> Result<Config, Faults> {
    let (document, tree) = read(bytes, format)?;
    let mut faults = Faults::default();
    let revision = tree.policy_revision().unwrap_or_else(|fault| {
        faults.at(fault.pointer, fault.what, fault.remedy);
        String::new()
    });
    let config = Config::compile(&document, revision, environment, &mut faults);
    if faults.is_empty() {
        return Ok(config);
    }
    faults.locate(|pointer| tree.line_of(pointer));
    Err(faults)
}

// === impl Config ===

impl Config {
    /// Compiles a clean document. The result may only be used when no fault was added.
    pub fn compile(
        document: &Document,
        revision: String,
        environment: Environment<'_>,
        faults: &mut Faults,
    ) -> Self {
        let shared = compile_keys(&document.shared_data.keys, environment, "/shared_data/keys", faults);
        let roles = &document.authorization.roles;
        let bindings = Rc::new(Bindings::compile(
            &document.bindings,
            &|role| roles.contains_key(role),
            "/bindings",
            faults,
        ));
        let api_keys = ApiKeys::compile(
            &document.consumers,
            &document.authentication,
            &bindings,
            &|role| roles.contains_key(role),
            environment,
            faults,
        );
        let revocation =
            Revocation::compile(&document.authentication.revocation, "/authentication/revocation", faults);
        let token_bytes = usize::try_from(document.bounds.token_bytes.0).unwrap_or(usize::MAX);
        let tokens = Tokens::compile(
            &document.consumers,
            &document.authentication,
            &bindings,
            &document.bounds,
            environment,
            faults,
        );
        let introspection = Introspection::compile(
            &document.authentication.introspection,
            &bindings,
            token_bytes,
            environment,
            "/authentication/introspection",
            faults,
        );
        let certificates =
            Certificates::compile(&document.consumers, &document.authentication, &bindings, faults);
        let rules = ResourceRules::compile(&document.resources, "/resources", faults);
        let environment_attributes =
            attributes::compile(&document.environment, Category::Environment, "/environment", faults);
        let schema = schema::compile(document, &environment_attributes, faults);
        let facts =
            Facts { catalogue: rules.catalogue(), environment: &environment_attributes, schema: &schema };
        let policies = PolicySet::compile(&document.authorization, facts, "/authorization", faults);
        let shared_key = shared.first().map(|key| key.secret.expose());
        let limits = Limits::compile(
            &document.limits,
            document.rate_limit_service.as_ref(),
            &document.name,
            &document.bounds,
            shared_key,
            faults,
        );
        let guesses = document.authentication.failures.as_ref();
        let failures = Failures::compile(guesses, &document.name, &document.bounds, shared_key, faults);
        obliged(document, &rules, &policies, faults);
        let profiles = profiles(document, &policies, &limits, faults);
        let (trail, digest) = audit(document, &revision, environment, faults);
        if !matches!(document.responses.invalid_credential_status, 401 | 403) {
            faults.at(
                "/responses/invalid_credential_status",
                "not a status of a refused credential",
                "write 401 or 403",
            );
        }
        let reader = || CredentialsReader { roles: roles.keys().cloned().collect(), schema, bindings };
        let extraction = Extraction::from(&document.authentication.api_key);
        let wanted = Wanted {
            certificate: profiles.list.iter().any(Profile::takes_certificates),
            digest: certificates.has_hops(),
            virtual_host: !profiles.routes.is_empty()
                || limits.iter().any(|limit| limit.key().contains(&KeyPart::Route)),
        };
        Self {
            name: document.name.clone(),
            revision,
            environment: environment_attributes,
            source_trust: document.authentication.source.trust,
            single_headers: extraction.single_headers(),
            extraction,
            api_keys,
            revocation,
            lists: lists::compile(document, reader, faults),
            store: Store::new(&shared),
            tokens,
            introspection,
            certificates,
            anonymous: Rc::new(Identity::anonymous()),
            rules,
            policies,
            limits,
            failures,
            profiles,
            wanted,
            digest: Rc::new(digest),
            bounds: Bounds::from(&document.bounds),
            invalid_credential_status: document.responses.invalid_credential_status,
            trail,
        }
    }

    /// What credentials are checked against. What is known must belong to this configuration.
    pub const fn authorities<'a>(&'a self, known: Known<'a>, host: &'a dyn Host) -> Authorities<'a> {
        Authorities {
            keys: &self.api_keys,
            listed: Listed::None,
            tokens: &self.tokens,
            introspection: &self.introspection,
            certificates: &self.certificates,
            known,
            may_work: &anybody_may_work,
            host,
        }
    }

    /// A profile by its index.
    ///
    /// # Errors
    /// [`Reason::ProfileUnknown`]; no index that [`Profiles::of`] gives leads there.
    pub fn profile(&self, index: usize) -> Result<&Profile, Reason> {
        self.profiles.list.get(index).ok_or(Reason::ProfileUnknown)
    }

    /// How a trail of events is set up.
    pub fn trail_settings(&self) -> TrailSettings {
        self.trail.clone()
    }
}

// === impl Bounds ===

impl From<&BoundsSpec> for Bounds {
    fn from(spec: &BoundsSpec) -> Self {
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        Self {
            header_bytes: bytes(spec.header_bytes.0),
            body_held: bytes(spec.body_held.0),
            waiting: spec.waiting,
            wait: spec.wait.0,
            json_depth: spec.json_depth,
            metric_series: spec.metric_series,
            verified_tokens: usize::try_from(spec.verified_tokens).unwrap_or(usize::MAX),
            decisions: usize::try_from(spec.decisions).unwrap_or(usize::MAX),
        }
    }
}

fn profiles(document: &Document, policies: &PolicySet, limits: &Limits, faults: &mut Faults) -> Profiles {
    let written = document
        .profiles
        .clone()
        .unwrap_or_else(|| BTreeMap::from([(DEFAULT.to_owned(), ProfileSpec::accepting_all())]));
    if !written.contains_key(DEFAULT) {
        faults.at(
            "/profiles",
            "there is no profile `default`",
            "write what applies where no route names a profile",
        );
    }
    // The default is the first, the others follow by name.
    let mut list: Vec<Profile> = Vec::new();
    for (name, spec) in &written {
        let profile = profile(name, spec, document, policies, limits, faults);
        if name == DEFAULT { list.insert(0, profile) } else { list.push(profile) }
    }
    let mut routes = Vec::new();
    for (route, name) in &document.routes {
        match list.iter().position(|profile| profile.name == *name) {
            Some(index) => routes.push((RoutePattern::new(route), index)),
            None => faults.at(
                format!("/routes/{}", segment(route)),
                format!("there is no profile `{name}`"),
                "name a profile of `profiles`",
            ),
        }
    }
    // An exact route wins over a prefix, a longer prefix over a shorter one: the order of a map must not matter.
    routes.sort_by_key(|(pattern, _)| pattern.precedence());
    Profiles { list, routes }
}

fn profile(
    name: &str,
    spec: &ProfileSpec,
    document: &Document,
    policies: &PolicySet,
    limits: &Limits,
    faults: &mut Faults,
) -> Profile {
    let pointer = format!("/profiles/{}", segment(name));
    let authenticate = match spec.authenticate.as_ref().map(Json::as_str) {
        Some(Some("none")) => nobody(name, spec, &pointer, faults),
        _ => {
            if spec.matches.is_some() {
                faults.at(
                    format!("{pointer}/match"),
                    "only a profile that authenticates nobody has a `match`",
                    "write `authenticate: none`, or leave `match` out",
                );
            }
            Authenticate::Caller(accepted::compile(spec, document, &pointer, faults))
        }
    };
    let selected_limits = match &spec.limits {
        None => limits.all(),
        Some(Json::String(_)) => limits::Selection::default(),
        Some(names) => limits.select(&texts(names), &format!("{pointer}/limits"), faults),
    };
    if let Authenticate::Nobody(_) = authenticate {
        for limit in
            limits.selected(&selected_limits).filter(|limit| limit.key().contains(&KeyPart::Principal))
        {
            faults.at(
                &pointer,
                format!("the limit `{}` counts by principal, and nobody is authenticated here", limit.name()),
                "write `limits: none`, or name limits that count by `source`",
            );
        }
    }
    let authorize = spec.authorize.is_none();
    if !authorize && matches!(spec.policies, Some(Json::Array(_))) {
        faults.at(
            format!("{pointer}/policies"),
            "no policy is asked under `authorize: none`",
            "leave one of them out",
        );
    }
    let mut selected_policies =
        PolicySelection::compile(spec.policies.as_ref(), policies, &format!("{pointer}/policies"), faults);
    if let Some(how) = spec.combining {
        let pointer = format!("{pointer}/combining");
        if !authorize {
            faults.at(&pointer, "no policy is asked under `authorize: none`", "leave one of them out");
        }
        selected_policies = selected_policies.combined(how.into(), policies, &pointer, faults);
    }
    Profile {
        name: name.to_owned(),
        authenticate,
        authorize,
        policies: selected_policies,
        limits: selected_limits,
        audit: spec.audit,
    }
}

/// Whoever edits routes must not open more than this `match`.
fn nobody(name: &str, spec: &ProfileSpec, pointer: &str, faults: &mut Faults) -> Authenticate {
    if name == DEFAULT {
        faults.at(
            format!("{pointer}/authenticate"),
            "the profile `default` authenticates nobody",
            "give open routes a profile of their own, with a `match`",
        );
    }
    match &spec.matches {
        Some(matches) => {
            Authenticate::Nobody(HeadMatch::compile(matches, &format!("{pointer}/match"), faults))
        }
        None => {
            faults.at(
                pointer,
                "a profile that authenticates nobody needs a `match`",
                "write which methods and path it is for: other requests on such a route get `default`",
            );
            Authenticate::Caller(Accepted::Any(Vec::new()))
        }
    }
}

/// Headers that a policy adds must reach the upstream, and must not be those that show who is calling.
fn obliged(document: &Document, rules: &ResourceRules, policies: &PolicySet, faults: &mut Faults) {
    let credentials = &document.authentication.api_key.extract_from.headers;
    let compiled = policies.rules().filter(|view| view.role.is_none());
    for (index, (policy, view)) in document.authorization.policies.iter().zip(compiled).enumerate() {
        let too_late = rules.peek() == PeekSpec::Stream
            && rules.of_bodies().any(|(kind, action)| view.rule.may_be_about(kind, action));
        for name in policy.obligations.iter().flat_map(|obligations| obligations.add_headers.keys()) {
            let pointer =
                format!("/authorization/policies/{index}/obligations/add_headers/{}", segment(name));
            if credentials.contains(name) {
                faults.at(&pointer, format!("credentials are read from `{name}`"), "add another header");
            }
            if too_late {
                faults.at(
                    &pointer,
                    "under `peek: stream` headers have gone on before a decision that needs the body",
                    "write `resources.body.peek: hold`, or narrow the policy to types and actions of other rules",
                );
            }
        }
    }
}

fn audit(
    document: &Document,
    revision: &str,
    environment: Environment<'_>,
    faults: &mut Faults,
) -> (TrailSettings, DigestSettings) {
    let spec: &AuditSpec = &document.audit;
    let chain = compile_keys(&spec.chain.keys, environment, "/audit/chain/keys", faults);
    let digest = compile_keys(&spec.digest.keys, environment, "/audit/digest/keys", faults);
    match (spec.chain.keys.is_empty(), spec.chain.unkeyed) {
        (true, false) => {
            faults.at("/audit/chain", "no key, and not `unkeyed`", "name a key, or write `unkeyed: true`")
        }
        (false, true) => faults.at("/audit/chain/unkeyed", "there are keys too", "leave one of them out"),
        _ => {}
    }
    let key = |named: &NamedSecret, make: fn(String, &[u8]) -> Option<MacKey>| {
        make(named.id.clone(), named.secret.expose())
    };
    let signer = chain
        .first()
        .and_then(|named| key(named, |id, secret| MacKey::chain(id, secret).ok()))
        .map_or(Signer::Unkeyed, Signer::Keyed);
    let trail = TrailSettings {
        gate: document.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        policy_revision: revision.to_owned(),
        revision: document.revision.as_ref().map(Revision::from),
        cluster: spec.collector.cluster.clone(),
        path: spec.collector.path.clone(),
        max_events: usize::try_from(spec.queue.max_events).unwrap_or(usize::MAX),
        max_bytes: usize::try_from(document.bounds.audit_queue.0).unwrap_or(usize::MAX),
        on_full: spec.queue.on_full,
        signer,
    };
    let digest = DigestSettings {
        key: digest.first().and_then(|named| key(named, |id, secret| MacKey::digest(id, secret).ok())),
        max_bytes: spec.digest.max_bytes.0,
        inputs: spec.digest.inputs,
        outputs: spec.digest.outputs,
    };
    (trail, digest)
}

impl From<&RevisionSpec> for Revision {
    fn from(spec: &RevisionSpec) -> Self {
        Self { id: spec.id.clone(), change: spec.change.clone(), approved_by: spec.approved_by.clone() }
    }
}

fn texts(list: &Json) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
}
