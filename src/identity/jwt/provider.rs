//! One configured issuer: whom it may speak for, with which keys, and what its claims mean here.

use std::rc::Rc;
use std::time::Duration;

use crate::config::faults::Faults;
use crate::identity::Identity;
use crate::identity::bindings::Bindings;
use crate::identity::consumer::Consumer;
use crate::identity::jwks::{Algorithm, Key, KeySet};
use crate::identity::jwt::claims::{Claims, Times, missing};
use crate::identity::jwt::token::TokenType;
use crate::identity::jwt::{MAX_PROVIDERS, TokenError};
use crate::identity::keyring::Origin;
use crate::identity::mapping::{Mapping, MappingWords};
use crate::identity::secret::compile_keys;
use crate::identity::spec::{ConsumerSpec, ProviderSpec};

/// See the module.
#[derive(Clone, Debug)]
pub struct Provider {
    name: String,
    issuer: String,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    token_types: Vec<TokenType>,
    /// Those of the configuration.
    keys: KeySet,
    /// Where the others are.
    origin: Option<Origin>,
    clock_skew: Duration,
    max_lifetime: Option<Duration>,
    mapping: Mapping,
}

const PROVIDERS: &str = "/authentication/jwt/providers";

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
        providers.push(Provider::compile(spec, bindings, &pointer, environment, faults));
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
            if let Some(other) = provider.mapping.bind(&token.subject, bound) {
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
        bindings: &Rc<Bindings>,
        pointer: &str,
        environment: &dyn Fn(&str) -> Option<String>,
        faults: &mut Faults,
    ) -> Self {
        let mut keys = KeySet::empty();
        local_keys(spec, &mut keys, &format!("{pointer}/local_jwks"), faults);
        shared_secrets(spec, &mut keys, pointer, environment, faults);
        let publishes = spec.remote_jwks.is_some() || spec.discovery.is_some();
        if spec.local_jwks.is_none() && !publishes && spec.hmac_secrets.is_empty() {
            faults.at(
                pointer,
                format!("`{}` has no keys", spec.name),
                "write `local_jwks`, `remote_jwks`, `discovery` or `hmac_secrets`",
            );
        }
        let words = MappingWords {
            prefix: &format!("jwt:{}", spec.name),
            method: "jwt",
            issuer: Some(&spec.issuer),
            claims: &spec.claims,
            scopes: spec.scopes.as_ref(),
            forward: spec.forward,
        };
        Self {
            name: spec.name.clone(),
            issuer: spec.issuer.clone(),
            audiences: spec.audiences.clone(),
            algorithms: spec.algorithms.clone(),
            token_types: spec.token_types.clone(),
            keys,
            origin: None,
            clock_skew: spec.clock_skew.0,
            max_lifetime: spec.max_lifetime.map(|longest| longest.0),
            mapping: Mapping::compile(words, bindings, pointer, faults),
        }
    }

    /// Whose tokens these are.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Its public keys are there, not in the configuration.
    pub(super) fn publishes_at(&mut self, origin: Option<Origin>) {
        self.origin = origin;
    }

    /// Where its public keys are; `None`: in the configuration.
    pub const fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Whether keys of this algorithm are those that it publishes. Secrets never are.
    pub fn publishes(&self, algorithm: Algorithm) -> bool {
        self.origin.is_some() && algorithm.min_secret().is_none()
    }

    /// Keys of the configuration that it signs with.
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

    /// Who a verified token speaks of.
    ///
    /// # Errors
    /// The first mapped claim of a wrong type, or no subject.
    pub fn identity(&self, claims: &Claims<'_>) -> Result<Identity, TokenError> {
        self.mapping.identity(claims)
    }
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
