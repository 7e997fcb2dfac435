//! What an issuer says of a caller becomes an [`Identity`]: claims of a token, or of an answer about one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use serde_json::Value as Json;

use crate::config::faults::Faults;
use crate::identity::api_key::table::MAX_CONSUMER_NAME;
use crate::identity::bindings::Bindings;
use crate::identity::consumer::Consumer;
use crate::identity::jwt::TokenError;
use crate::identity::jwt::claims::{Claims, invalid, missing};
use crate::identity::spec::{ClaimPath, ClaimsSpec};
use crate::identity::{Credential, DEFAULT_TIER, Identity, Scope};
use crate::policy::attributes::{self, Category, Value};

/// How one issuer's claims are read.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Part of the ids of its callers, before the subject: `jwt:corp`.
    prefix: String,
    method: &'static str,
    issuer: Option<String>,
    claims: ClaimsSpec,
    /// Actions by scope; `None`: scopes limit nothing.
    scopes: Option<BTreeMap<String, Vec<String>>>,
    forward: bool,
    /// Consumers by the subject that they are bound to.
    bound: HashMap<String, Consumer>,
    bindings: Rc<Bindings>,
}

/// The words of an issuer that say how its claims are read.
#[derive(Clone, Copy, Debug)]
pub struct MappingWords<'a> {
    /// Part of the ids of its callers, before the subject.
    pub prefix: &'a str,
    /// The method as events name it.
    pub method: &'static str,
    /// Its `iss`, where it has one.
    pub issuer: Option<&'a str>,
    /// `claims`.
    pub claims: &'a ClaimsSpec,
    /// `scopes`.
    pub scopes: Option<&'a BTreeMap<String, Vec<String>>>,
    /// `forward`.
    pub forward: bool,
}

/// The longest subject, in bytes.
const MAX_SUBJECT: usize = MAX_CONSUMER_NAME;

/// Most elements of one list: caches count identities, not what is in them.
pub const MAX_ELEMENTS: usize = 256;

// === impl Mapping ===

impl Mapping {
    /// Compiles the words of an issuer, found at `pointer`.
    pub fn compile(
        words: MappingWords<'_>,
        bindings: &Rc<Bindings>,
        pointer: &str,
        faults: &mut Faults,
    ) -> Self {
        // names of attributes follow the same rules wherever they are written
        let names = words.claims.attributes.keys().map(|name| (name.clone(), Json::Bool(true))).collect();
        attributes::compile(&names, Category::Principal, &format!("{pointer}/claims/attributes"), faults);
        Self {
            prefix: words.prefix.to_owned(),
            method: words.method,
            issuer: words.issuer.map(str::to_owned),
            claims: words.claims.clone(),
            scopes: words.scopes.cloned(),
            forward: words.forward,
            bound: HashMap::new(),
            bindings: Rc::clone(bindings),
        }
    }

    /// Makes a subject a consumer; gives the consumer that it was before.
    pub fn bind(&mut self, subject: &str, consumer: Consumer) -> Option<Consumer> {
        self.bound.insert(subject.to_owned(), consumer)
    }

    /// Whom these claims speak of, once they are believed. What the configuration says of a consumer wins over
    /// bindings, and those over claims, attribute by attribute.
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
            principal: format!("{}:{subject}", self.prefix),
            name: subject.clone(),
            roles: optional(claims, mapping.roles.as_ref(), one_or_more)?.unwrap_or_default(),
            tier: optional(claims, mapping.tier.as_ref(), tier)?
                .unwrap_or_else(|| String::from(DEFAULT_TIER)),
            ..Identity::anonymous()
        };
        for (name, path) in &mapping.attributes {
            if let Some(value) = optional(claims, Some(path), attribute)? {
                identity.attributes.insert(name.clone(), value);
            }
        }
        let mut identity = self.bindings.settle(identity, self.bound.get(subject));
        let scopes = optional(claims, Some(&mapping.scopes), words)?.unwrap_or_default();
        identity.scope = self.scope(&scopes);
        identity.credential = Credential {
            method: self.method.to_owned(),
            issuer: self
                .issuer
                .clone()
                .or_else(|| Some(claims.issuer()).filter(|i| !i.is_empty()).map(str::to_owned)),
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
            // each once before anything is copied: scopes may be repeated
            let allowed: BTreeSet<_> = scopes.iter().filter_map(|scope| map.get(scope)).flatten().collect();
            allowed.into_iter().cloned().collect()
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

/// The value of an attribute, if it is one of [`MAX_ELEMENTS`] elements at most.
fn attribute(value: &Json) -> Option<Value> {
    let fits = value.as_array().is_none_or(|list| list.len() <= MAX_ELEMENTS);
    fits.then(|| attributes::value(value)).flatten()
}

/// A text, or a list of texts.
fn one_or_more(value: &Json) -> Option<Vec<String>> {
    match attribute(value)? {
        Value::List(list) => Some(list),
        Value::Text(one) => Some(vec![one]),
        Value::Bool(_) | Value::Number(_) => None,
    }
}

/// A text of words (RFC 8693 §4.2), or a list of them.
fn words(value: &Json) -> Option<Vec<String>> {
    match value {
        Json::String(text) => {
            let words = || text.split(' ').filter(|word| !word.is_empty());
            words().nth(MAX_ELEMENTS).is_none().then(|| words().map(str::to_owned).collect())
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
