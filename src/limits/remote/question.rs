//! A request becomes a [`Question`]: the descriptors of every counter that it counts to.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::audit::chain::hex;
use crate::limits::gcra;
use crate::limits::key::{Found, KeyPart, Network, Subject};
use crate::limits::remote::message::{Descriptor, Entry, RateLimitRequest};
use crate::limits::remote::{LIMIT_ENTRY, RATES_ENTRY, WINDOW_ENTRY};
use crate::limits::{Degraded, Limit, Limits, Selection};
use crate::policy::attributes::ValueRef;
use crate::policy::condition::Truth;

/// What is asked of the service about one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    descriptors: Vec<Descriptor>,
    /// What each descriptor counts to.
    pub(super) counted: Vec<Counted>,
    /// `<limit>/<part>` for each part of a key that this request lacks.
    pub unknown: Vec<String>,
    /// What was worse than it should be; each at most once.
    pub degraded: Vec<Degraded>,
}

/// The counter of one descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) limit: String,
    pub(super) requests: u64,
    pub(super) window: Duration,
}

/// What stands for a part of a key that a request lacks. Services give an empty value a bucket of its own, or none.
pub const UNKNOWN: &str = "(unknown)";

/// The longest value of an entry, in bytes; a longer one is sent as its digest.
pub const MAX_VALUE: usize = 256;

/// How the digest of a value begins that is not sent as it is.
pub const DIGEST_PREFIX: &str = "sha256:";

// === impl Limits ===

impl Limits {
    /// What the service is asked about a request: every selected global limit whose `when` does not say no. `None`:
    /// nothing.
    pub fn question(&self, selection: &Selection, subject: &Subject<'_>) -> Option<Question> {
        let mut question = Question::default();
        for limit in self.selected(selection).filter(|limit| limit.is_global()) {
            match limit.when.evaluate(subject.attributes) {
                Truth::False => continue,
                Truth::Error(_) => question.degraded = vec![Degraded::Condition],
                Truth::True => {}
            }
            question.ask(limit, subject);
        }
        (!question.descriptors.is_empty()).then_some(question)
    }
}

// === impl Question ===

impl Question {
    fn ask(&mut self, limit: &Limit, subject: &Subject<'_>) {
        let (tier, rates) = limit.rates_of(&subject.attributes.principal.tier);
        let mut entries = vec![entry(LIMIT_ENTRY, limit.name.clone())];
        for part in &limit.key {
            let found = part.find(subject);
            if found.is_none() {
                self.unknown.push(format!("{}/{part}", limit.name));
            }
            let value = found.map_or(Cow::Borrowed(UNKNOWN), |found| value(found, &limit.key));
            entries.push(entry(&part.to_string(), value.into_owned()));
        }
        entries.push(entry(RATES_ENTRY, tier.to_owned()));
        for rate in rates {
            let mut entries = entries.clone();
            entries.push(entry(WINDOW_ENTRY, gcra::span(rate.window())));
            self.descriptors.push(Descriptor { entries });
            self.counted.push(Counted {
                limit: limit.name.clone(),
                requests: rate.limit(),
                window: rate.window(),
            });
        }
    }

    /// The request's message. Every request counts once.
    pub fn message(&self, domain: &str) -> Vec<u8> {
        let request = RateLimitRequest {
            domain: domain.to_owned(),
            descriptors: self.descriptors.clone(),
            hits_addend: 1,
        };
        request.encode_to_vec()
    }

    /// The limits that are asked, each once, in written order.
    pub fn limits(&self) -> impl Iterator<Item = &str> {
        let mut last = None;
        self.counted
            .iter()
            .map(|counted| counted.limit.as_str())
            .filter(move |limit| last.replace(*limit) != Some(*limit))
    }

    /// The longest of the windows: after it no fixed window refuses any more.
    pub(super) fn longest(&self) -> Duration {
        self.counted.iter().map(|counted| counted.window).max().unwrap_or_default()
    }
}

/// `[limit=fleet, principal.org=acme, rates=default, window=1m]`, several with a space between them.
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = |descriptor: &Descriptor| {
            let entries = descriptor.entries.iter().map(|entry| format!("{}={}", entry.key, entry.value));
            format!("[{}]", entries.collect::<Vec<_>>().join(", "))
        };
        f.write_str(&self.descriptors.iter().map(written).collect::<Vec<_>>().join(" "))
    }
}

fn entry(key: &str, value: String) -> Entry {
    Entry { key: key.to_owned(), value }
}

/// The value of an entry. Equal texts are equal values and different texts different ones; what a service could read
/// as something else is sent as a digest: nothing, too much, control characters, our own words, and a text that holds
/// the next entry as services write it when they join entries with `_`.
fn value<'a>(found: Found<'a>, key: &[KeyPart]) -> Cow<'a, str> {
    let text = match found {
        Found::Credential { method, id } => Cow::Owned(format!("{method}:{id}")),
        Found::Source(network) => Cow::Owned(network.to_string()),
        Found::Value(value) => match value {
            ValueRef::Address(address) => Cow::Owned(Network::of(address).to_string()),
            ValueRef::Bool(value) => Cow::Owned(value.to_string()),
            ValueRef::List(list) => return Cow::Owned(digest(format!("{list:?}").as_bytes())),
            ValueRef::Number(number) => Cow::Owned(number.to_string()),
            ValueRef::Text(text) => Cow::Borrowed(text),
            ValueRef::Time(time) => Cow::Owned(time.to_string()),
            ValueRef::TimeOfDay(time) => Cow::Owned(time.to_string()),
        },
    };
    let mut parts = key.iter().map(KeyPart::to_string);
    let joins = |key: &str| text.contains('_') && text.contains(&format!("_{key}_"));
    let plain = (1..=MAX_VALUE).contains(&text.len())
        && !text.contains(char::is_control)
        && !text.starts_with(DIGEST_PREFIX)
        && text != UNKNOWN
        && !parts.any(|part| joins(&part))
        && !joins(RATES_ENTRY);
    if plain { text } else { Cow::Owned(digest(text.as_bytes())) }
}

fn digest(bytes: &[u8]) -> String {
    format!("{DIGEST_PREFIX}{}", hex(&Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests;
