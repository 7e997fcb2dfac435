//! One configured issuer: whom it may speak for, with which keys, and what its claims mean here.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value as Json;

use crate::config::faults::Faults;
use crate::identity::api_key::table::MAX_CONSUMER_NAME;
use crate::identity::bindings::Bindings;
use crate::identity::consumer::Consumer;
use crate::identity::jwks::{Algorithm, Key, KeySet};
use crate::identity::jwt::claims::{Claims, Times, invalid, missing};
use crate::identity::jwt::token::TokenType;
use crate::identity::jwt::{MAX_PROVIDERS, TokenError};
use crate::identity::secret::compile_keys;
use crate::identity::spec::{ClaimPath, ClaimsSpec, ConsumerSpec, ProviderSpec};
use crate::identity::{Credential, DEFAULT_TIER, Identity, Scope};
use crate::policy::attributes::{self, Category, Value};

/// See the module.
#[derive(Clone, Debug)]
pub struct Provider {
    name: String,
    issuer: String,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    token_types: Vec<TokenType>,
    keys: KeySet,
    clock_skew: Duration,
    max_lifetime: Option<Duration>,
    claims: ClaimsSpec,
    /// Actions by scope; `None`: scopes limit nothing.
    scopes: Option<BTreeMap<String, Vec<String>>>,
    forward: bool,
    /// Consumers by the subject that they are bound to.
    bound: HashMap<String, Consumer>,
    bindings: Rc<Bindings>,
}

const PROVIDERS: &str = "/authentication/jwt/providers";

/// The longest subject, in bytes.
const MAX_SUBJECT: usize = MAX_CONSUMER_NAME;

/// Compiles all providers and binds consumers to them.
pub fn compile(
    specs: &[ProviderSpec],
    consumers: &[ConsumerSpec],
    bindings: &Rc<Bindings>,
    environment: &dyn Fn(&str) -> Option<String>,
    faults: &mut Faults,
) -> Vec<Provider> {
    if specs.len() > MAX_PROVIDERS {
        faults.at(
            PROVIDERS,
            format!("more than {MAX_PROVIDERS} providers"),
            "split the issuers over several gates",
        );
    }
    let mut providers = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let pointer = format!("{PROVIDERS}/{index}");
        let earlier = specs.get(..index).unwrap_or_default();
        if earlier.iter().any(|other| other.name == spec.name) {
            faults.at(
                format!("{pointer}/name"),
                format!("a second provider is called `{}`", spec.name),
                "give each provider its own name",
            );
        }
        if earlier.iter().any(|other| other.issuer == spec.issuer) {
            faults.at(
                format!("{pointer}/issuer"),
                format!("a second provider has the issuer `{}`", spec.issuer),
                "a token belongs to one provider: merge the two",
            );
        }
        let bindings = Rc::clone(bindings);
        providers.push(Provider { bindings, ..Provider::compile(spec, &pointer, environment, faults) });
    }
    bind(&mut providers, consumers, faults);
    providers
}

fn bind(providers: &mut [Provider], consumers: &[ConsumerSpec], faults: &mut Faults) {
    for (number, consumer) in consumers.iter().enumerate() {
        for (index, token) in consumer.credentials.jwt.iter().enumerate() {
            let pointer = format!("/consumers/{number}/credentials/jwt/{index}");
            let Some(provider) = providers.iter_mut().find(|provider| provider.name == token.provider) else {
                faults.at(
                    format!("{pointer}/provider"),
                    format!("no provider is called `{}`", token.provider),
                    "name one of `authentication.jwt.providers`",
                );
                continue;
            };
            // What is wrong with the consumer itself was said where its keys were compiled.
            let bound = Consumer::compile(consumer, &|_| true, "", &mut Faults::default());
            if let Some(other) = provider.bound.insert(token.subject.clone(), bound) {
                faults.at(
                    format!("{pointer}/subject"),
                    format!("`{}` is already `{}`", token.subject, other.name()),
                    "a subject belongs to one consumer",
                );
            }
        }
    }
}

// === impl Provider ===

impl Provider {
    fn compile(
        spec: &ProviderSpec,
        pointer: &str,
        environment: &dyn Fn(&str) -> Option<String>,
        faults: &mut Faults,
    ) -> Self {
        let mut keys = KeySet::empty();
        local_keys(spec, &mut keys, &format!("{pointer}/local_jwks"), faults);
        shared_secrets(spec, &mut keys, pointer, environment, faults);
        if spec.local_jwks.is_none() && spec.hmac_secrets.is_empty() {
            faults.at(
                pointer,
                format!("`{}` has no keys", spec.name),
                "write `local_jwks` or `hmac_secrets`",
            );
        }
        // names of attributes follow the same rules wherever they are written
        let names = spec.claims.attributes.keys().map(|name| (name.clone(), Json::Bool(true))).collect();
        attributes::compile(&names, Category::Principal, &format!("{pointer}/claims/attributes"), faults);
        Self {
            name: spec.name.clone(),
            issuer: spec.issuer.clone(),
            audiences: spec.audiences.clone(),
            algorithms: spec.algorithms.clone(),
            token_types: spec.token_types.clone(),
            keys,
            clock_skew: spec.clock_skew.0,
            max_lifetime: spec.max_lifetime.map(|longest| longest.0),
            claims: spec.claims.clone(),
            scopes: spec.scopes.clone(),
            forward: spec.forward,
            bound: HashMap::new(),
            bindings: Rc::default(),
        }
    }

    /// Whose tokens these are.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Keys that it signs with.
    pub const fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// How far its clock and ours may differ.
    pub const fn clock_skew(&self) -> Duration {
        self.clock_skew
    }

    /// Whether its tokens may be signed so.
    pub fn accepts(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether its tokens may be of this type.
    pub fn accepts_type(&self, kind: TokenType) -> bool {
        self.token_types.contains(&kind)
    }

    /// Whether a token is for us (RFC 8725 §3.9).
    ///
    /// # Errors
    /// None of its audiences is one of ours.
    pub fn check_audience(&self, claims: &Claims<'_>) -> Result<(), TokenError> {
        let ours = claims.audiences().iter().any(|one| self.audiences.iter().any(|ours| ours == one));
        if ours { Ok(()) } else { Err(TokenError::AudienceRefused) }
    }

    /// Whether a token holds now, and is not one that holds for too long.
    ///
    /// # Errors
    /// Which time says no.
    pub fn check_times(&self, times: &Times, now: crate::time::UnixTime) -> Result<(), TokenError> {
        times.check(self.clock_skew, now)?;
        let Some(longest) = self.max_lifetime else { return Ok(()) };
        let lifetime = times.lifetime().ok_or_else(|| missing("iat"))?;
        if lifetime > longest { Err(TokenError::LivesTooLong) } else { Ok(()) }
    }

    /// Who a verified token speaks of. What the configuration says of a consumer wins over bindings, and those over
    /// claims, attribute by attribute.
    ///
    /// # Errors
    /// The first mapped claim of a wrong type, or no subject.
    pub fn identity(&self, claims: &Claims<'_>) -> Result<Identity, TokenError> {
        let mapping = &self.claims;
        let subject = match claims.at(&mapping.subject.0)? {
            None => return Err(missing(&mapping.subject.name())),
            Some(Json::String(subject)) if is_subject(subject) => subject,
            Some(_) => return Err(invalid(&mapping.subject.name())),
        };
        let mut identity = Identity {
            principal: format!("jwt:{}:{subject}", self.name),
            name: subject.clone(),
            roles: optional(claims, mapping.roles.as_ref(), one_or_more)?.unwrap_or_default(),
            tier: optional(claims, mapping.tier.as_ref(), tier)?
                .unwrap_or_else(|| String::from(DEFAULT_TIER)),
            ..Identity::anonymous()
        };
        for (name, path) in &mapping.attributes {
            if let Some(value) = optional(claims, Some(path), attributes::value)? {
                identity.attributes.insert(name.clone(), value);
            }
        }
        let mut identity = self.bindings.settle(identity, self.bound.get(subject));
        let scopes = optional(claims, Some(&mapping.scopes), words)?.unwrap_or_default();
        identity.scope = self.scope(&scopes);
        identity.credential = Credential {
            method: String::from("jwt"),
            issuer: Some(self.issuer.clone()),
            token_id: claims.token_id().map(str::to_owned),
            scopes,
            forward: self.forward,
            ..Credential::default()
        };
        Ok(identity)
    }

    /// What the scopes of a token allow together.
    fn scope(&self, scopes: &[String]) -> Scope {
        let actions = self.scopes.as_ref().map(|map| {
            let allowed = scopes.iter().filter_map(|scope| map.get(scope)).flatten();
            let mut actions: Vec<String> = allowed.cloned().collect();
            actions.sort_unstable();
            actions.dedup();
            actions
        });
        Scope { actions, ..Scope::default() }
    }
}

/// The value at a path, in its type; a value of another type is an error.
fn optional<T>(
    claims: &Claims<'_>,
    path: Option<&ClaimPath>,
    read: impl Fn(&Json) -> Option<T>,
) -> Result<Option<T>, TokenError> {
    let Some(path) = path else { return Ok(None) };
    match claims.at(&path.0)? {
        None => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| invalid(&path.name())),
    }
}

/// A text, or a list of texts.
fn one_or_more(value: &Json) -> Option<Vec<String>> {
    match attributes::value(value)? {
        Value::List(list) => Some(list),
        Value::Text(one) => Some(vec![one]),
        Value::Bool(_) | Value::Number(_) => None,
    }
}

/// A text of words (RFC 8693 §4.2), or a list of them.
fn words(value: &Json) -> Option<Vec<String>> {
    match value {
        Json::String(text) => {
            Some(text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect())
        }
        other => one_or_more(other),
    }
}

fn tier(value: &Json) -> Option<String> {
    value.as_str().filter(|tier| !tier.is_empty()).map(str::to_owned)
}

fn is_subject(subject: &str) -> bool {
    (1..=MAX_SUBJECT).contains(&subject.len()) && !subject.contains(char::is_control)
}

fn local_keys(spec: &ProviderSpec, keys: &mut KeySet, pointer: &str, faults: &mut Faults) {
    let Some(set) = &spec.local_jwks else { return };
    if set.keys.is_empty() {
        faults.at(format!("{pointer}/keys"), "an empty list", "write the keys of the issuer");
    }
    for (index, jwk) in set.keys.iter().enumerate() {
        let pointer = format!("{pointer}/keys/{index}");
        match Key::from_jwk(jwk) {
            Err(error) => faults.at(
                pointer,
                format!("this key is not used: {error}"),
                "take it out, or write a public key for signatures as the issuer publishes it",
            ),
            Ok(key) => {
                if !keys.insert(key) {
                    faults.at(
                        pointer,
                        "an earlier key has the same `kid` and algorithm",
                        "keep one of the two",
                    );
                }
            }
        }
    }
}

fn shared_secrets(
    spec: &ProviderSpec,
    keys: &mut KeySet,
    pointer: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    faults: &mut Faults,
) {
    let wanted: Vec<Algorithm> =
        spec.algorithms.iter().copied().filter(|algorithm| algorithm.min_secret().is_some()).collect();
    if wanted.is_empty() != spec.hmac_secrets.is_empty() {
        faults.at(
            format!("{pointer}/algorithms"),
            "`HS256`, `HS384` or `HS512` and `hmac_secrets` go together",
            "write both of them or none",
        );
    }
    let pointer = format!("{pointer}/hmac_secrets");
    for named in compile_keys(&spec.hmac_secrets, environment, &pointer, faults) {
        for algorithm in &wanted {
            match Key::shared(&named.id, &named.secret, *algorithm) {
                // a second one of the same id was reported with the ids
                Some(key) => drop(keys.insert(key)),
                None => {
                    let index = spec.hmac_secrets.iter().position(|spec| spec.id == named.id).unwrap_or(0);
                    let least = algorithm.min_secret().unwrap_or_default();
                    faults.at(
                        format!("{pointer}/{index}/env"),
                        format!("the secret is shorter than the {least} bytes of `{}`", algorithm.name()),
                        "take a random one, for instance of `openssl rand -hex 32`",
                    );
                }
            }
        }
    }
}
