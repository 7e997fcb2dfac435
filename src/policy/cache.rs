//! Decisions of a short while ago, by everything that policies read.
//!
//! A decision is a function of the profile, of what the credential is limited to and of the attributes that some policy
//! looks at. So it holds for one revision, to which a cache belongs, and until then for every request alike. Where a policy
//! looks at the time or at the address, nothing is remembered: no two requests are alike then.
//!
//! It has two generations: when the young one is full it becomes the old one, and what the old one held is forgotten; what
//! is still in use is carried over.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::rc::Rc;

use siphasher::sip::SipHasher13;

use super::attributes::{Attributes, Category, ValueRef};
use super::{Decision, PolicySelection, PolicySet};

/// See the module.
#[derive(Debug)]
pub struct Decisions {
    young: Generation,
    old: Generation,
    max: usize,
    /// The key that is being looked for; kept for its room.
    key: Vec<u8>,
}

type Generation = HashMap<Box<[u8]>, Rc<Decision>, Keyed>;

/// Callers choose some of what is hashed: without a secret they could choose what falls together.
#[derive(Clone, Copy, Debug)]
struct Keyed([u8; 16]);

/// What a decision is asked for, beside the attributes.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The profile's place, one for each selection.
    pub profile: usize,
    /// Which policies apply there.
    pub selection: &'a PolicySelection,
    /// Whether the credential itself may be used for it.
    pub scope_ok: bool,
}

/// A decision whose attributes take more bytes is not remembered.
const MAX_KEY: usize = 4096;

// === impl Decisions ===

impl Decisions {
    /// Remembers at most `max` decisions; `secret` keys the hash.
    pub fn new(max: usize, secret: [u8; 16]) -> Self {
        let empty = || HashMap::with_hasher(Keyed(secret));
        Self { young: empty(), old: empty(), max, key: Vec::new() }
    }

    /// What [`PolicySet::decide`] says, which is asked only once for requests that are alike to all policies.
    pub fn decide(
        &mut self,
        policies: &PolicySet,
        question: Question<'_>,
        attributes: &Attributes<'_>,
    ) -> Rc<Decision> {
        let decide = || Rc::new(policies.decide(question.selection, attributes, question.scope_ok));
        // each generation has half of the places
        let half = self.max >> 1;
        if half == 0 || !policies.is_timeless() {
            return decide();
        }
        write_key(&mut self.key, policies, question, attributes);
        if self.key.len() > MAX_KEY {
            self.key.truncate(0);
            self.key.shrink_to(MAX_KEY);
            return decide();
        }
        if let Some(known) = self.young.get(self.key.as_slice()) {
            return Rc::clone(known);
        }
        let decision = self.old.remove(self.key.as_slice()).unwrap_or_else(decide);
        if self.young.len() >= half {
            let empty = HashMap::with_hasher(*self.young.hasher());
            self.old = std::mem::replace(&mut self.young, empty);
        }
        self.young.insert(self.key.as_slice().into(), Rc::clone(&decision));
        decision
    }

    /// Decisions that are remembered.
    pub fn len(&self) -> usize {
        self.young.len().saturating_add(self.old.len())
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// === impl Keyed ===

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// Everything that the answer may depend on. Every part says its kind and its length, so that no two requests that differ
/// are written alike.
fn write_key(key: &mut Vec<u8>, policies: &PolicySet, question: Question<'_>, attributes: &Attributes<'_>) {
    key.clear();
    part(key, b'p', &question.profile.to_le_bytes());
    key.push(u8::from(question.scope_ok));
    part(key, b'a', attributes.action.as_bytes());
    for (category, name) in policies.reads() {
        match attributes.lookup(*category, name) {
            // of the document, so the same for each request of a revision
            _ if *category == Category::Environment => {}
            None => key.push(b'0'),
            Some(ValueRef::Text(text)) => part(key, b't', text.as_bytes()),
            Some(ValueRef::List(list)) => {
                part(key, b'l', &list.len().to_le_bytes());
                list.iter().for_each(|text| part(key, b't', text.as_bytes()));
            }
            Some(ValueRef::Number(number)) => part(key, b'n', &number.to_le_bytes()),
            Some(ValueRef::Bool(value)) => key.extend([b'b', u8::from(value)]),
            // only requests have these, and policies that read them are not timeless
            Some(other) => part(key, b'o', format!("{other:?}").as_bytes()),
        }
    }
}

fn part(key: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    key.push(kind);
    key.extend(bytes.len().to_le_bytes());
    key.extend(bytes);
}
