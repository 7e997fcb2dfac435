//! The keys of all consumers become an [`ApiKeys`], and a presented key becomes an [`Identity`].

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use ipnet::IpNet;
use siphasher::sip::SipHasher13;
use subtle::ConstantTimeEq;

use super::{ApiKey, KeyDigest, KeyId, Pepper};
use crate::config::faults::Faults;
use crate::identity::bindings::Bindings;
use crate::identity::consumer::Consumer;
use crate::identity::secret::compile_keys;
use crate::identity::spec::{ApiKeySpec, AuthenticationSpec, ConsumerSpec};
use crate::identity::{ANONYMOUS, AuthenticationError, Credential, Identity, Scope};
use crate::time::UnixTime;

/// Every configured key by its id. A lookup costs the same however many there are.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys {
    /// Hashed with a fixed key: ids come from the configuration, and callers can only look them up.
    known: Map<KeyId, Entry>,
    /// Callers by name, where a list may give them more keys; else empty.
    callers: Map<String, Identity>,
    peppers: Rc<[(String, Pepper)]>,
    plain_in_use: bool,
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<SipHasher13>>;

#[derive(Clone, Debug)]
struct Entry {
    digest: [u8; 32],
    /// Index of the pepper; `None`: plain SHA-256.
    pepper: Option<usize>,
    not_before: Option<UnixTime>,
    not_after: Option<UnixTime>,
    identity: Rc<Identity>,
}

/// Keys that a list adds to those of the configuration.
#[derive(Clone, Copy, Debug)]
pub enum Listed<'a> {
    /// There is no list.
    None,
    /// The list cannot be had, or is too old: a key that is not configured may be right.
    Unavailable,
    /// These.
    Known(&'a ApiKeys),
}

/// The longest name of a consumer, in bytes.
pub const MAX_CONSUMER_NAME: usize = 256;

// === impl ApiKeys ===

impl ApiKeys {
    /// Compiles `consumers` and the peppers of `authentication`. `is_role` knows the configured roles, `environment`
    /// the variables of the VM. The result may only be used when no fault was added.
    pub fn compile(
        consumers: &[ConsumerSpec],
        authentication: &AuthenticationSpec,
        bindings: &Bindings,
        is_role: &dyn Fn(&str) -> bool,
        environment: &dyn Fn(&str) -> Option<String>,
        faults: &mut Faults,
    ) -> Self {
        let pointer = "/authentication/api_key/peppers";
        let peppers = compile_keys(&authentication.api_key.peppers, environment, pointer, faults);
        let peppers = peppers.iter().map(|pepper| (pepper.id.clone(), Pepper::new(&pepper.secret)));
        let mut keys = Self { peppers: peppers.collect(), ..Self::default() };
        // A pepper whose variable is missing was reported above: its digests are not dangling references too.
        let is_pepper = |id: &str| authentication.api_key.peppers.iter().any(|pepper| pepper.id == id);
        let mut names = HashMap::new();
        for (index, consumer) in consumers.iter().enumerate() {
            let pointer = format!("/consumers/{index}");
            let identity = caller(consumer, &mut names, bindings, is_role, index, faults);
            for (index, spec) in consumer.credentials.api_keys.iter().enumerate() {
                let pointer = format!("{pointer}/credentials/api_keys/{index}");
                keys.add(spec, &identity, None, &is_pepper, &pointer, faults);
            }
            if authentication.credentials_list.is_some() {
                keys.callers.insert(consumer.name.clone(), identity);
            }
        }
        keys
    }

    /// Compiles the consumers of a list, which may add keys to those of the configuration and consumers of its own. What
    /// the configuration says of a consumer stands alone. The result may only be used when no fault was added.
    pub fn list(
        &self,
        consumers: &[ConsumerSpec],
        bindings: &Bindings,
        is_role: &dyn Fn(&str) -> bool,
        faults: &mut Faults,
    ) -> Self {
        let mut keys = Self { peppers: Rc::clone(&self.peppers), ..Self::default() };
        let is_pepper = |id: &str| self.peppers.iter().any(|(known, _)| known == id);
        let mut names = HashMap::new();
        for (index, consumer) in consumers.iter().enumerate() {
            let pointer = format!("/consumers/{index}");
            let listed = caller(consumer, &mut names, bindings, is_role, index, faults);
            let configured = self.callers.get(&consumer.name);
            let more =
                !consumer.attributes.is_empty() || !consumer.roles.is_empty() || consumer.tier.is_some();
            if configured.is_some() && more {
                faults.at(
                    &pointer,
                    format!("the configuration says what `{}` is, and a list cannot say more", consumer.name),
                    "leave `attributes`, `roles` and `tier` out, or take the consumer out of the configuration",
                );
            }
            let identity = configured.unwrap_or(&listed);
            for (index, spec) in consumer.credentials.api_keys.iter().enumerate() {
                let pointer = format!("{pointer}/credentials/api_keys/{index}");
                keys.add(spec, identity, Some(self), &is_pepper, &pointer, faults);
            }
        }
        keys
    }

    /// Adds a key of a caller. Beside the keys of a configuration, one that is the very same there stays its.
    fn add(
        &mut self,
        spec: &ApiKeySpec,
        caller: &Identity,
        beside: Option<&Self>,
        is_pepper: &dyn Fn(&str) -> bool,
        pointer: &str,
        faults: &mut Faults,
    ) {
        let scope = scope_of(spec, pointer, faults);
        let id = KeyId::parse(spec.id.as_bytes());
        if id.is_none() {
            faults.at(
                format!("{pointer}/id"),
                format!("`{}` is not the id of a key", spec.id),
                "write the 8 digits and lower-case letters after `mlg_`",
            );
        }
        if let (Some(from), Some(until)) = (spec.not_before, spec.not_after)
            && from.0 >= until.0
        {
            faults.at(
                format!("{pointer}/not_after"),
                format!("`{}` is not after `not_before`", until.0),
                "write a later time",
            );
        }
        let Some(digest) = digest_of(spec, is_pepper, pointer, faults) else { return };
        let Some(id) = id else { return };
        let mut taken = |by: &Identity| {
            faults.at(
                format!("{pointer}/id"),
                format!("the key `{id}` is already one of `{}`", by.principal),
                "a key belongs to one consumer; make another with `mlgate key new`",
            );
        };
        if let Some(known) = beside.and_then(|beside| beside.known.get(&id)) {
            // a key may move from a list into the configuration without a gap, but nobody takes another's over
            if known.identity.principal != caller.principal || known.digest != digest.bytes {
                taken(&known.identity);
            }
            return;
        }
        let pepper = digest.pepper.as_ref();
        let pepper = pepper.and_then(|wanted| self.peppers.iter().position(|(id, _)| id == wanted));
        self.plain_in_use |= digest.pepper.is_none();
        let credential =
            Credential { method: String::from("api_key"), id: spec.id.clone(), ..Credential::default() };
        let entry = Entry {
            digest: digest.bytes,
            pepper,
            not_before: spec.not_before.map(|time| time.0),
            not_after: spec.not_after.map(|time| time.0),
            identity: Rc::new(Identity { credential, scope, ..caller.clone() }),
        };
        if let Some(earlier) = self.known.insert(id, entry) {
            taken(&earlier.identity);
        }
    }

    /// Who presents these bytes at this time.
    ///
    /// The check digits come first: they cost least and tell nothing about configured keys. What follows takes the
    /// same work whether the id is known or not, and the comparison takes the same time wherever the digests differ.
    /// That a key has expired is only said to who really has it. The keys of a list are looked at after our own.
    ///
    /// # Errors
    /// Why it is nobody's; [`AuthenticationError::CredentialsUnavailable`] where a list that cannot be had may know it.
    pub fn authenticate(
        &self,
        presented: &[u8],
        listed: Listed<'_>,
        now: UnixTime,
    ) -> Result<Rc<Identity>, AuthenticationError> {
        let key = ApiKey::parse(presented).map_err(|_| AuthenticationError::Invalid)?;
        let list = match listed {
            Listed::Known(list) => Some(list),
            Listed::None | Listed::Unavailable => None,
        };
        let own = self.known.get(&key.id());
        if own.is_none() && matches!(listed, Listed::Unavailable) {
            return Err(AuthenticationError::CredentialsUnavailable);
        }
        let entry = own.or_else(|| list?.known.get(&key.id()));
        let pepper = entry.and_then(|entry| entry.pepper);
        // each kind of digest that any key has is computed for every key
        let plain_in_use = self.plain_in_use || list.is_some_and(|list| list.plain_in_use);
        let plain = if plain_in_use { key.sha256() } else { [0; 32] };
        let keyed = self.peppers.get(pepper.unwrap_or(0)).map_or([0; 32], |(_, pepper)| key.hmac(pepper));
        let computed = if pepper.is_some() { keyed } else { plain };
        let expected = entry.map_or(&UNKNOWN, |entry| &entry.digest);
        let right: bool = computed.ct_eq(expected).into();
        let Some(entry) = entry.filter(|_| right) else { return Err(AuthenticationError::Invalid) };
        if entry.not_before.is_some_and(|from| now < from) {
            return Err(AuthenticationError::Invalid);
        }
        if entry.not_after.is_some_and(|until| now >= until) {
            return Err(AuthenticationError::Expired);
        }
        Ok(Rc::clone(&entry.identity))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// What the digest of an unknown key is compared with; equality with it admits nobody.
const UNKNOWN: [u8; 32] = [0; 32];

/// What everything that a consumer shows is, but for the credential. `names` are those before it.
fn caller<'a>(
    consumer: &'a ConsumerSpec,
    names: &mut HashMap<&'a str, usize>,
    bindings: &Bindings,
    is_role: &dyn Fn(&str) -> bool,
    index: usize,
    faults: &mut Faults,
) -> Identity {
    let pointer = format!("/consumers/{index}");
    check_name(&consumer.name, &pointer, faults);
    if let Some(first) = names.insert(consumer.name.as_str(), index) {
        faults.at(
            format!("{pointer}/name"),
            format!("a second consumer is called `{}`", consumer.name),
            format!("give it another name, or merge it into `/consumers/{first}`"),
        );
    }
    let known = Consumer::compile(consumer, is_role, &pointer, faults);
    bindings.settle(Identity::anonymous(), Some(&known))
}

fn check_name(name: &str, pointer: &str, faults: &mut Faults) {
    let pointer = format!("{pointer}/name");
    if name == ANONYMOUS {
        faults.at(pointer, "`anonymous` is the caller that nobody authenticated", "choose another name");
    } else if name.contains(':') {
        faults.at(
            pointer,
            format!("`{name}` has a colon, which begins the ids of tokens and certificates"),
            "choose a name without `:`",
        );
    } else if !(1..=MAX_CONSUMER_NAME).contains(&name.len()) || name.chars().any(char::is_control) {
        faults.at(
            pointer,
            "the name is empty, too long or has control characters",
            format!("write 1 to {MAX_CONSUMER_NAME} bytes of text"),
        );
    }
}

fn digest_of(
    spec: &ApiKeySpec,
    is_pepper: &dyn Fn(&str) -> bool,
    pointer: &str,
    faults: &mut Faults,
) -> Option<KeyDigest> {
    let pointer = format!("{pointer}/digest");
    let Ok(digest) = KeyDigest::parse(&spec.digest) else {
        // what stands there may be a key itself: it is not repeated
        faults.at(
            pointer,
            "this is not the digest of a key",
            "write `sha256:<64 hex>` or `hmac-sha256:<pepper id>:<64 hex>`, as `mlgate key new` prints it",
        );
        return None;
    };
    if let Some(pepper) = digest.pepper.as_ref().filter(|id| !is_pepper(id)) {
        faults.at(
            pointer,
            format!("no pepper has the id `{pepper}`"),
            "add it to `authentication.api_key.peppers`",
        );
        return None;
    }
    Some(digest)
}

/// What a key is limited to. The result may only be used when no fault was added.
pub fn scope_of(spec: &ApiKeySpec, pointer: &str, faults: &mut Faults) -> Scope {
    let words = [
        ("models", spec.models.as_ref()),
        ("actions", spec.actions.as_ref()),
        ("source_ranges", spec.source_ranges.as_ref()),
    ];
    for (word, list) in words {
        if list.is_some_and(Vec::is_empty) {
            faults.at(
                format!("{pointer}/{word}"),
                "an empty list allows nothing",
                "list what the key may be used for, or leave the word out",
            );
        }
    }
    let source_ranges = spec.source_ranges.as_ref().map(|ranges| {
        let mut compiled = Vec::new();
        for (index, range) in ranges.iter().enumerate() {
            match range.parse::<IpNet>() {
                Ok(range) => compiled.push(range),
                Err(_) => faults.at(
                    format!("{pointer}/source_ranges/{index}"),
                    format!("`{range}` is not a range of addresses"),
                    "write CIDR such as `10.0.0.0/8`, or `10.1.2.3/32` for one address",
                ),
            }
        }
        compiled
    });
    Scope { models: spec.models.clone(), actions: spec.actions.clone(), source_ranges }
}
