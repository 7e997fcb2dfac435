//! Who is calling: credentials become an [`Identity`], or a reason why not.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::credentials::{self, Credentials, MAX_CREDENTIALS};
use crate::host::Host;
use crate::policy::attributes::AttributeMap;

pub mod api_key;
pub mod bindings;
pub mod consumer;
pub mod discovery;
pub mod introspection;
pub mod jwks;
pub mod jwt;
pub mod keyring;
pub mod mapping;
pub mod mtls;
pub mod polled;
pub mod recent;
pub mod revocation;
pub mod scope;
pub mod secret;
pub mod spec;

use api_key::{ApiKeys, Listed};
use introspection::cache::Introspected;
use introspection::{Answers, Introspection};
use jwt::Tokens;
use jwt::cache::Verified;
use keyring::{Keyrings, KeysTicket};
use mtls::Certificates;

pub use scope::Scope;

/// The principal that nobody authenticated.
pub const ANONYMOUS: &str = "anonymous";

/// The tier of callers without one.
pub const DEFAULT_TIER: &str = "default";

/// A caller whose credential was verified, or `anonymous` where a profile asks for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The principal's id: a consumer's name, `jwt:<provider>:<subject>`, `opaque:<endpoint>:<subject>`,
    /// `mtls:<SPIFFE ID>` or `anonymous`.
    pub principal: String,
    /// The name without the method's prefix; `user_id` in audit events.
    pub name: String,
    /// Roles, in configuration order.
    pub roles: Vec<String>,
    /// Tier of the limits; `default` when none is written.
    pub tier: String,
    /// Other attributes: `org`, `team`, …
    pub attributes: AttributeMap,
    /// How it was shown.
    pub credential: Credential,
    /// What the credential itself is limited to; of several, what all of them allow.
    pub scope: Scope,
    /// Who the other credentials showed, where a profile asks for several.
    pub via: Vec<Rc<Self>>,
}

/// What an audit event says of the credential; never the secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credential {
    /// `api_key`, `jwt`, `introspection`, `mtls`; `none` for anonymous.
    pub method: String,
    /// The public part of a key, the name in a certificate; empty where the method has none.
    pub id: String,
    /// `iss` of a token.
    pub issuer: Option<String>,
    /// `jti` of a token.
    pub token_id: Option<String>,
    /// Scopes of a token, whether or not they limit anything here.
    pub scopes: Vec<String>,
    /// Whether it stays on the request to the upstream.
    pub forward: bool,
}

/// A way to show who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// An API key.
    ApiKey,
    /// A token that its issuer signed.
    Jwt,
    /// A token that its issuer is asked about.
    Introspection,
    /// The connection's certificate.
    Mtls,
}

/// Which credentials let a caller in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The first that is presented, in this order.
    Any(Vec<Method>),
    /// All of them.
    All {
        /// In written order.
        methods: Vec<Method>,
        /// Whose identity decides; `None`: they must agree.
        principal: Option<Method>,
    },
}

/// Why no identity came of the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationError {
    /// Nothing was presented.
    Missing,
    /// Malformed, unknown or wrong.
    Invalid,
    /// Was valid once.
    Expired,
    /// Taken back, the credential or everything of its principal.
    Revoked,
    /// Nobody could say; the credential may be right.
    Unavailable,
    /// A list that may know the key cannot be had.
    CredentialsUnavailable,
    /// The issuer's keys are not there, and nobody may look for them before this time has passed.
    KeysUnavailable(Duration),
    /// The issuer of an opaque token could not be asked.
    IntrospectionUnavailable,
    /// Too many wrong credentials came from the same source: for this much longer nothing costly is done for it.
    Blocked(Duration),
}

/// What credentials lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// A caller.
    Caller(Rc<Identity>),
    /// A question: when it is answered, [`authenticate`] is to be asked again.
    Asks(Inquiry),
}

/// What must be known before anybody can say who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// What the issuer says of an opaque token.
    Introspection(introspection::Question),
    /// What keys an issuer publishes.
    Keys(KeysTicket),
}

/// What was found out before.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Tokens whose signature was right a short while ago.
    pub verified: &'a RefCell<Verified>,
    /// Keys that issuers publish.
    pub keyrings: &'a Keyrings,
    /// What issuers said of tokens a short while ago.
    pub introspected: &'a RefCell<Introspected>,
    /// What was answered about this request.
    pub answers: &'a Answers,
}

/// Asks whether something costly may be done for whoever presents a credential: a signature, a question to somebody else.
pub type MayWork<'a> = &'a dyn Fn() -> Result<(), AuthenticationError>;

/// What credentials are checked against.
#[derive(Clone, Copy)]
pub struct Authorities<'a> {
    /// Every key.
    pub keys: &'a ApiKeys,
    /// Keys of a list beside them.
    pub listed: Listed<'a>,
    /// Every trusted issuer.
    pub tokens: &'a Tokens,
    /// Which certificates are whose.
    pub certificates: &'a Certificates,
    /// Every issuer that is asked about tokens.
    pub introspection: &'a Introspection,
    /// What was found out before.
    pub known: Known<'a>,
    /// Asked before anything costly.
    pub may_work: MayWork<'a>,
    /// Clock and signatures.
    pub host: &'a dyn Host,
}

impl std::fmt::Debug for Authorities<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorities").finish_non_exhaustive()
    }
}

/// Who is calling, or what must be asked first. Of `all`, everything else is checked before anything is asked.
///
/// # Errors
/// Of `any`, what is wrong with the first credential that is presented: a wrong one is never skipped over. Of `all`, what
/// is wrong with the first that is missing or wrong, and [`AuthenticationError::Invalid`] where they do not agree.
pub fn authenticate(
    presented: &[Credentials],
    accepted: &Accepted,
    authorities: Authorities<'_>,
) -> Result<Authentication, AuthenticationError> {
    if presented.len() > MAX_CREDENTIALS {
        return Err(AuthenticationError::Invalid);
    }
    match accepted {
        Accepted::Any(methods) => {
            for method in methods {
                if let Some(found) = method.authenticate(presented, methods, authorities)? {
                    return Ok(found);
                }
            }
            Err(AuthenticationError::Missing)
        }
        Accepted::All { methods, principal } => {
            let mut shown = Vec::with_capacity(methods.len());
            let mut asks = None;
            for method in methods {
                match method.authenticate(presented, methods, authorities)? {
                    None => return Err(AuthenticationError::Missing),
                    Some(Authentication::Caller(identity)) => shown.push((*method, identity)),
                    Some(Authentication::Asks(inquiry)) => asks = asks.or(Some(inquiry)),
                }
            }
            match asks {
                Some(inquiry) => Ok(Authentication::Asks(inquiry)),
                None => together(shown, *principal).map(Authentication::Caller),
            }
        }
    }
}

/// One caller of several credentials. What any of them forbids is forbidden.
fn together(
    shown: Vec<(Method, Rc<Identity>)>,
    principal: Option<Method>,
) -> Result<Rc<Identity>, AuthenticationError> {
    let wanted = |method: Method| principal.is_none_or(|principal| principal == method);
    let decides = shown.iter().position(|(method, _)| wanted(*method)).ok_or(AuthenticationError::Invalid)?;
    let mut others: Vec<Rc<Identity>> = shown.into_iter().map(|(_, identity)| identity).collect();
    let first = others.remove(decides);
    if principal.is_none() && others.iter().any(|other| other.principal != first.principal) {
        return Err(AuthenticationError::Invalid);
    }
    if others.is_empty() {
        return Ok(first);
    }
    let mut identity = Rc::unwrap_or_clone(first);
    for other in &others {
        identity.scope = identity.scope.intersection(&other.scope);
    }
    identity.via = others;
    Ok(Rc::new(identity))
}

/// Nobody is kept from anything.
///
/// # Errors
/// Never.
pub const fn anybody_may_work() -> Result<(), AuthenticationError> {
    Ok(())
}

// === impl Authentication ===

impl Authentication {
    /// The caller, where nothing has to be asked.
    pub fn caller(self) -> Option<Rc<Identity>> {
        match self {
            Self::Caller(identity) => Some(identity),
            Self::Asks(_) => None,
        }
    }
}

// === impl Method ===

impl Method {
    /// The method that a configuration calls so.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "api_key" => Some(Self::ApiKey),
            "jwt" => Some(Self::Jwt),
            "introspection" => Some(Self::Introspection),
            "mtls" => Some(Self::Mtls),
            _ => None,
        }
    }

    /// Who shows a credential of this kind, where these are accepted. `None`: nobody does.
    ///
    /// Two of one kind that differ are refused: whichever of them the upstream or a log reads, it must be the one that
    /// was verified.
    fn authenticate(
        self,
        presented: &[Credentials],
        accepted: &[Self],
        authorities: Authorities<'_>,
    ) -> Result<Option<Authentication>, AuthenticationError> {
        let Authorities { keys, listed, tokens, introspection, certificates, known, may_work, host } =
            authorities;
        let mut found = presented.iter().filter(|credentials| self.is_shown_by(credentials, accepted));
        let Some(first) = found.next() else { return Ok(None) };
        if found.any(|other| other != first) {
            return Err(AuthenticationError::Invalid);
        }
        let now = host.unix_time();
        let caller = match first {
            Credentials::ApiKey(key) => keys.authenticate(&key.0, listed, now).map(Some),
            Credentials::Token(token) if self == Self::Introspection => {
                let found = introspection.authenticate(token, known.answers, known.introspected, now)?;
                if let Authentication::Asks(_) = found {
                    may_work()?;
                }
                return Ok(Some(found));
            }
            Credentials::Token(token) => {
                // what is remembered costs nothing
                may_work().or_else(|blocked| {
                    let remembers = tokens.remembers(&token.0, known.verified, known.keyrings, host);
                    if remembers { Ok(()) } else { Err(blocked) }
                })?;
                return tokens.authenticate(&token.0, known.verified, known.keyrings, host).map(Some);
            }
            Credentials::Certificate(certificate) => certificates.authenticate(certificate),
        };
        Ok(caller?.map(Authentication::Caller))
    }

    /// Where signed and opaque tokens are accepted, one with the three parts of a JWT is meant to be one; where only one
    /// kind is, every token is meant to be of that kind.
    fn is_shown_by(self, credentials: &Credentials, accepted: &[Self]) -> bool {
        match (self, credentials) {
            (Self::ApiKey, Credentials::ApiKey(_)) | (Self::Mtls, Credentials::Certificate(_)) => true,
            (Self::Jwt, Credentials::Token(token)) => {
                !accepted.contains(&Self::Introspection) || credentials::is_jwt(&token.0)
            }
            (Self::Introspection, Credentials::Token(token)) => {
                !accepted.contains(&Self::Jwt) || !credentials::is_jwt(&token.0)
            }
            _ => false,
        }
    }
}

// === impl Identity ===

impl Identity {
    /// The caller of a profile that authenticates nobody.
    pub fn anonymous() -> Self {
        Self {
            principal: String::from(ANONYMOUS),
            name: String::from(ANONYMOUS),
            roles: Vec::new(),
            tier: String::from(DEFAULT_TIER),
            attributes: AttributeMap::new(),
            credential: Credential { method: String::from("none"), ..Credential::default() },
            scope: Scope::default(),
            via: Vec::new(),
        }
    }

    /// Everybody whom the credentials showed, whoever decides.
    pub fn shown(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.via.iter().map(Rc::as_ref))
    }
}

#[cfg(test)]
mod tests;
