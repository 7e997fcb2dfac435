//! A token becomes an [`Identity`], or a reason why not (RFC 7519, RFC 7515, RFC 8725).
//!
//! [`Tokens::verify`] owns the order. What costs least comes first, and no signature work is done for a token that
//! would be refused anyway:
//!
//! ```text
//! size ▶ already verified? ▶ three parts ▶ header ▶ claims ▶ issuer ▶ type ▶ algorithm ▶ audience ▶ times ▶ key ▶ signature
//! ```
//!
//! Nothing that a token says chooses what is trusted: it only selects among configured issuers, algorithms and keys.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::config::document::BoundsSpec;
use crate::config::faults::Faults;
use crate::host::signature::SignatureCheck;
use crate::host::{Host, HostError};
use crate::identity::bindings::Bindings;
use crate::identity::jwks::{Algorithm, KeySet, NoKey};
use crate::identity::keyring::{Keyrings, KeysTicket, NoKeys};
use crate::identity::spec::{AuthenticationSpec, ConsumerSpec, SignaturesSpec};
use crate::identity::{Authentication, AuthenticationError, Identity, Inquiry};
use crate::remote::store::Store;
use crate::time::UnixTime;

pub mod cache;
pub mod claims;
pub mod jws;
mod origin;
pub mod provider;
pub mod token;

use cache::{Basis, Verified};
use claims::Times;
use provider::Provider;
use token::Token;

/// Configured issuers and how their tokens are verified.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    providers: Vec<Provider>,
    /// Which provider has an issuer.
    issuers: HashMap<String, usize>,
    max_bytes: usize,
    signatures: SignaturesSpec,
}

/// What a verified token gave.
#[derive(Clone, Debug)]
pub struct Passed {
    /// Who it is.
    pub identity: Rc<Identity>,
    /// When it holds.
    pub times: Times,
    /// What it was verified by.
    pub basis: Basis,
    provider: usize,
}

/// Why a token is refused: facts, never the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// `alg` is not one that the provider lists. `None`: not one of ours, such as `none`.
    AlgorithmRefused {
        /// What the token says.
        algorithm: Option<Algorithm>,
    },
    /// None of the provider's audiences.
    AudienceRefused,
    /// A claim is missing.
    ClaimMissing {
        /// Its name in the configuration or the standard.
        claim: String,
    },
    /// A claim has the wrong type or an impossible value.
    ClaimInvalid {
        /// Its name in the configuration or the standard.
        claim: String,
    },
    /// It is over.
    Expired {
        /// `exp`.
        at: UnixTime,
        /// The clock.
        now: UnixTime,
    },
    /// A header parameter that is not allowed, missing or mistyped.
    HeaderRefused {
        /// Its name.
        parameter: &'static str,
    },
    /// It was issued in the future.
    IssuedLater {
        /// `iat`.
        at: UnixTime,
        /// The clock.
        now: UnixTime,
    },
    /// No provider has this issuer.
    IssuerUnknown,
    /// The issuer's keys may come with a fetch that is about to end.
    KeysComing(KeysTicket),
    /// The issuer's keys are not there, and nobody may look for them before this time has passed.
    KeysUnavailable(Duration),
    /// No key fits.
    KeyUnknown,
    /// The token names no key, and more would fit than are tried.
    KeyAmbiguous,
    /// It lives longer than the provider allows.
    LivesTooLong,
    /// Not three parts of base64url with JSON objects in the first two.
    Malformed,
    /// Not valid yet.
    NotYetValid {
        /// `nbf`.
        at: UnixTime,
        /// The clock.
        now: UnixTime,
    },
    /// The signature is not the key's.
    SignatureWrong,
    /// Larger than a token may be.
    TooLarge,
    /// `typ` is not that of an access token.
    TypeRefused,
    /// The host could not check the signature, which says nothing about the token.
    Unverifiable(HostError),
}

/// Most providers of a document.
pub const MAX_PROVIDERS: usize = 64;

// === impl Tokens ===

impl Tokens {
    /// Compiles `authentication.jwt` and what `consumers` say of tokens. The result may only be used when no fault
    /// was added.
    pub fn compile(
        consumers: &[ConsumerSpec],
        authentication: &AuthenticationSpec,
        bindings: &Rc<Bindings>,
        bounds: &BoundsSpec,
        environment: &dyn Fn(&str) -> Option<String>,
        faults: &mut Faults,
    ) -> Self {
        let spec = &authentication.jwt;
        let max_bytes = usize::try_from(bounds.token_bytes.0).unwrap_or(usize::MAX);
        let mut providers = provider::compile(&spec.providers, consumers, bindings, environment, faults);
        origin::check_bounds(bounds, faults);
        for (index, (provider, spec)) in providers.iter_mut().zip(&spec.providers).enumerate() {
            let pointer = format!("/authentication/jwt/providers/{index}");
            provider.publishes_at(origin::compile(spec, &pointer, bounds, faults));
        }
        if spec.signatures == SignaturesSpec::HostOrWasm && !cfg!(feature = "fallback") {
            faults.at(
                "/authentication/jwt/signatures",
                "this build of the filter cannot verify RSA and ECDSA itself",
                "write `host`, or build the filter with the feature `fallback`",
            );
        }
        for (index, one) in spec.providers.iter().enumerate() {
            let pss = one.algorithms.iter().find(|algorithm| algorithm.is_pss());
            if let Some(algorithm) = pss.filter(|_| spec.signatures == SignaturesSpec::Host) {
                faults.at(
                    format!("/authentication/jwt/providers/{index}/algorithms"),
                    format!("the proxy cannot verify `{}`", algorithm.name()),
                    "leave it out, or write `signatures: host_or_wasm` beside `providers`",
                );
            }
        }
        let issuers =
            providers.iter().enumerate().map(|(index, one)| (one.issuer().to_owned(), index)).collect();
        Self { providers, issuers, max_bytes, signatures: spec.signatures }
    }

    /// The keys of this configuration's providers that are elsewhere, for one worker of a gate.
    pub fn keyrings(&self, gate: &str, store: &Store) -> Keyrings {
        Keyrings::new(self.providers.iter().map(Provider::origin), gate, store)
    }

    /// Whether any provider is configured.
    pub const fn is_configured(&self) -> bool {
        !self.providers.is_empty()
    }

    /// Who presents this token.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn authenticate(
        &self,
        presented: &[u8],
        verified: &RefCell<Verified>,
        keyrings: &Keyrings,
        host: &dyn Host,
    ) -> Result<Authentication, AuthenticationError> {
        match self.verify(presented, verified, keyrings, host) {
            Ok(identity) => Ok(Authentication::Caller(identity)),
            Err(TokenError::KeysComing(ticket)) => Ok(Authentication::Asks(Inquiry::Keys(ticket))),
            Err(error) => Err(AuthenticationError::from(error)),
        }
    }

    /// Whether this token was verified a short while ago, so that it costs nothing to verify it again.
    pub fn remembers(
        &self,
        presented: &[u8],
        verified: &RefCell<Verified>,
        keyrings: &Keyrings,
        host: &dyn Host,
    ) -> bool {
        let known = || {
            let digest = Sha256::digest(presented).into();
            remembered(&digest, verified, keyrings, host)
        };
        presented.len() <= self.max_bytes && known().is_some()
    }

    /// The order of all checks. Each of them is the only one of its kind.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn verify(
        &self,
        presented: &[u8],
        verified: &RefCell<Verified>,
        keyrings: &Keyrings,
        host: &dyn Host,
    ) -> Result<Rc<Identity>, TokenError> {
        let now = host.unix_time();
        if presented.len() > self.max_bytes {
            return Err(TokenError::TooLarge);
        }
        let digest: [u8; 32] = Sha256::digest(presented).into();
        if let Some(known) = remembered(&digest, verified, keyrings, host) {
            // The signature stays right; the time goes on.
            let provider = self.providers.get(known.provider).ok_or(TokenError::IssuerUnknown)?;
            known.times.check(provider.clock_skew(), now)?;
            return Ok(known.identity);
        }
        let passed = self.verify_afresh(presented, now, keyrings, host)?;
        verified.borrow_mut().insert(digest, passed.clone(), now);
        Ok(passed.identity)
    }

    fn verify_afresh(
        &self,
        presented: &[u8],
        now: UnixTime,
        keyrings: &Keyrings,
        host: &dyn Host,
    ) -> Result<Passed, TokenError> {
        let token = Token::read(presented)?;
        let claims = claims::Claims::read(&token.payload)?;
        let index = *self.issuers.get(claims.issuer()).ok_or(TokenError::IssuerUnknown)?;
        let provider = self.providers.get(index).ok_or(TokenError::IssuerUnknown)?;
        if !token.kind(&claims).is_some_and(|kind| provider.accepts_type(kind)) {
            return Err(TokenError::TypeRefused);
        }
        let algorithm = token
            .jws
            .algorithm
            .filter(|algorithm| provider.accepts(*algorithm))
            .ok_or(TokenError::AlgorithmRefused { algorithm: token.jws.algorithm })?;
        provider.check_audience(&claims)?;
        provider.check_times(claims.times(), now)?;
        let published: Rc<KeySet>;
        let keys = if provider.publishes(algorithm) {
            published = keyrings.find(index, token.jws.key_id.as_deref(), algorithm, host)?;
            &*published
        } else {
            provider.keys()
        };
        let basis = Basis::of(index, keyrings, host).unwrap_or_default();
        token.jws.verify(algorithm, keys, |check| self.check_publicly(check, host))?;
        let identity = Rc::new(provider.identity(&claims)?);
        Ok(Passed { identity, times: *claims.times(), basis, provider: index })
    }

    fn check_publicly(&self, check: &SignatureCheck<'_>, host: &dyn Host) -> Result<bool, TokenError> {
        match (host.verify_signature(check), self.signatures) {
            (Ok(right), _) => Ok(right),
            #[cfg(feature = "fallback")]
            (Err(_), SignaturesSpec::HostOrWasm) => Ok(crate::host::signature::software::verify(check)),
            (Err(error), _) => Err(TokenError::Unverifiable(error)),
        }
    }
}

// === impl TokenError ===

impl From<NoKey> for TokenError {
    fn from(error: NoKey) -> Self {
        match error {
            NoKey::Ambiguous => Self::KeyAmbiguous,
            NoKey::Unknown => Self::KeyUnknown,
        }
    }
}

impl From<NoKeys> for TokenError {
    fn from(error: NoKeys) -> Self {
        match error {
            NoKeys::Unknown => Self::KeyUnknown,
            NoKeys::Coming(ticket) => Self::KeysComing(ticket),
            NoKeys::After(wait) => Self::KeysUnavailable(wait),
        }
    }
}

impl From<TokenError> for AuthenticationError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Expired { .. } => Self::Expired,
            TokenError::Unverifiable(_) => Self::Unavailable,
            TokenError::KeysComing(_) => Self::KeysUnavailable(Duration::ZERO),
            TokenError::KeysUnavailable(wait) => Self::KeysUnavailable(wait),
            _ => Self::Invalid,
        }
    }
}

impl TokenError {
    /// What scripts may rely on.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::AlgorithmRefused { .. } => "algorithm_refused",
            Self::AudienceRefused => "audience_refused",
            Self::ClaimMissing { .. } => "claim_missing",
            Self::ClaimInvalid { .. } => "claim_invalid",
            Self::Expired { .. } => "expired",
            Self::HeaderRefused { .. } => "header_refused",
            Self::IssuedLater { .. } => "issued_later",
            Self::IssuerUnknown => "issuer_unknown",
            Self::KeysComing(_) | Self::KeysUnavailable(_) => "keys_unavailable",
            Self::KeyUnknown => "key_unknown",
            Self::KeyAmbiguous => "key_ambiguous",
            Self::LivesTooLong => "lives_too_long",
            Self::Malformed => "malformed",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::SignatureWrong => "signature_wrong",
            Self::TooLarge => "too_large",
            Self::TypeRefused => "type_refused",
            Self::Unverifiable(_) => "unverifiable",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlgorithmRefused { algorithm: Some(algorithm) } => {
                write!(f, "the issuer is not trusted with `{}`", algorithm.name())
            }
            Self::AlgorithmRefused { algorithm: None } => f.write_str("`alg` is none of ours"),
            Self::AudienceRefused => f.write_str("it is for another audience"),
            Self::ClaimMissing { claim } => write!(f, "the claim `{claim}` is missing"),
            Self::ClaimInvalid { claim } => write!(f, "the claim `{claim}` has the wrong type"),
            Self::Expired { at, now } => write!(f, "expired at {at}, it is {now}"),
            Self::HeaderRefused { parameter } => write!(f, "the header parameter `{parameter}` is refused"),
            Self::IssuedLater { at, now } => write!(f, "issued at {at}, it is {now}"),
            Self::IssuerUnknown => f.write_str("no provider has its issuer"),
            Self::KeysComing(_) => f.write_str("the issuer's keys are being fetched"),
            Self::KeysUnavailable(_) => f.write_str("the issuer's keys could not be fetched"),
            Self::KeyUnknown => f.write_str("no key of the issuer fits"),
            Self::KeyAmbiguous => f.write_str("it names no key, and more would fit than are tried"),
            Self::LivesTooLong => f.write_str("it lives longer than `max_lifetime`"),
            Self::Malformed => {
                f.write_str("it is not three parts of base64url with JSON in which no member occurs twice")
            }
            Self::NotYetValid { at, now } => write!(f, "not valid before {at}, it is {now}"),
            Self::SignatureWrong => f.write_str("the signature is wrong"),
            Self::TooLarge => f.write_str("it is larger than `bounds.token_bytes`"),
            Self::TypeRefused => f.write_str("`typ` is not that of an access token"),
            Self::Unverifiable(error) => write!(f, "the host cannot check the signature: {error:?}"),
        }
    }
}

/// What a token gave a short while ago. A signature holds as long as what it was verified by.
fn remembered(
    digest: &[u8; 32],
    verified: &RefCell<Verified>,
    keyrings: &Keyrings,
    host: &dyn Host,
) -> Option<Passed> {
    let known = verified.borrow_mut().find(digest, host.unix_time())?;
    (Some(known.basis) == Basis::of(known.provider, keyrings, host)).then_some(known)
}

/// Strict base64url (RFC 7515 §2): no padding, no white space, and no second spelling of the same bytes, which unused
/// bits of the last letter would allow.
pub fn base64url(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
