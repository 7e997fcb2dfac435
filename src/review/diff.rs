//! Recorded decisions become what flips between two configurations, by the policy responsible, and apart what cannot be
//! decided because an attribute was not recorded.

use std::collections::BTreeMap;

use crate::filter::refusal::Reason;
use crate::time::UnixTime;

use super::Candidate;
use super::candidate::Answer;
use super::partial::Outcome;
use super::record::Record;
use super::replay::Replay;

/// What changes from one configuration to another.
#[derive(Debug)]
pub struct Difference<'a> {
    old: &'a Candidate,
    new: &'a Candidate,
    /// Flips by who is responsible.
    pub flips: BTreeMap<String, Vec<Flip>>,
    /// What cannot be decided, by what was not recorded.
    pub undecided: BTreeMap<String, Vec<Flip>>,
    /// Sums.
    pub counts: Counts,
    places: BTreeMap<Key, (String, usize)>,
}

/// How many decisions became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Put to both configurations.
    pub decisions: u64,
    /// Recorded before policies were asked.
    pub not_asked: u64,
    /// Allowed by one and denied by the other.
    pub flipped: u64,
    /// Not decided by one of them.
    pub undecided: u64,
    /// Made by another configuration than the old one, and otherwise than that would.
    pub recorded_otherwise: u64,
    /// Counted above, and not listed since there are too many different ones.
    pub not_listed: u64,
}

/// Equal decisions of one caller that flip, or may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Who.
    pub principal: String,
    /// To do what.
    pub action: String,
    /// Type and id.
    pub resource: (String, String),
    /// What the old one says; `None`: it depends.
    pub from: Option<Answer>,
    /// What the new one says; `None`: it depends.
    pub to: Option<Answer>,
    /// How often.
    pub count: u64,
    /// The first that was read.
    pub decision_id: String,
    /// Its time.
    pub timestamp: UnixTime,
}

/// Different flips that are kept apart.
pub const MAX_FLIPS: usize = 100_000;

type Key = (String, String, (String, String), String, String, String);

// === impl Difference ===

impl<'a> Difference<'a> {
    /// Nothing is recorded yet.
    pub fn between(old: &'a Candidate, new: &'a Candidate) -> Self {
        Self {
            old,
            new,
            flips: BTreeMap::new(),
            undecided: BTreeMap::new(),
            counts: Counts::default(),
            places: BTreeMap::new(),
        }
    }

    /// Puts one more decision to both.
    pub fn take(&mut self, record: &Record) {
        let count = record.count;
        let replay = |candidate| Replay { candidate, recorder: self.old };
        let asked = record.said.as_ref().and_then(|said| {
            let replayed = replay(self.old).of(record)?;
            // what the old one said is better known than what it would say
            let old = if record.policy_revision == self.old.config.revision {
                Outcome::Said(said.clone())
            } else {
                let otherwise =
                    matches!(&replayed, Outcome::Said(answer) if answer.is_allowed() != said.is_allowed());
                self.counts.recorded_otherwise =
                    self.counts.recorded_otherwise.saturating_add(if otherwise { count } else { 0 });
                replayed
            };
            Some((old, replay(self.new).of(record)?))
        });
        let Some((old, new)) = asked else {
            self.counts.not_asked = self.counts.not_asked.saturating_add(count);
            return;
        };
        self.counts.decisions = self.counts.decisions.saturating_add(count);
        match (old, new) {
            (Outcome::Said(from), Outcome::Said(to)) if from.is_allowed() == to.is_allowed() => {}
            (Outcome::Said(from), Outcome::Said(to)) => {
                self.counts.flipped = self.counts.flipped.saturating_add(count);
                let group = responsible(&from, &to);
                self.list(record, &group, Some(from), Some(to));
            }
            (old, new) => {
                self.counts.undecided = self.counts.undecided.saturating_add(count);
                let mut on = std::collections::BTreeSet::new();
                let mut said = |outcome| match outcome {
                    Outcome::Said(answer) => Some(answer),
                    Outcome::Depends(names) => {
                        on.extend(names);
                        None
                    }
                };
                let (from, to) = (said(old), said(new));
                let group = on.into_iter().collect::<Vec<_>>().join(", ");
                self.list(record, &group, from, to);
            }
        }
    }

    fn list(&mut self, record: &Record, group: &str, from: Option<Answer>, to: Option<Answer>) {
        let decided = from.is_some() && to.is_some();
        let flip = Flip {
            principal: record.principal.clone().unwrap_or_default(),
            action: record.action.clone().unwrap_or_else(|| record.method.clone()),
            resource: record.resource.clone().unwrap_or_else(|| (String::from("path"), record.path.clone())),
            from,
            to,
            count: record.count,
            decision_id: record.decision_id.clone(),
            timestamp: record.timestamp,
        };
        let (from, to) = (text(&flip.from), text(&flip.to));
        let key =
            (flip.principal.clone(), flip.action.clone(), flip.resource.clone(), from, to, group.to_owned());
        let groups = if decided { &mut self.flips } else { &mut self.undecided };
        let known = self.places.get(&key).and_then(|(group, index)| groups.get_mut(group)?.get_mut(*index));
        if let Some(known) = known {
            known.count = known.count.saturating_add(record.count);
        } else if self.places.len() < MAX_FLIPS {
            let list = groups.entry(group.to_owned()).or_default();
            self.places.insert(key, (group.to_owned(), list.len()));
            list.push(flip);
        } else {
            self.counts.not_listed = self.counts.not_listed.saturating_add(record.count);
        }
    }
}

/// How reports call what one side says.
pub fn text(answer: &Option<Answer>) -> String {
    answer.as_ref().map_or_else(|| String::from("not decided"), ToString::to_string)
}

/// Whose words make the difference: the policies that now deny or allow, or those that no longer do.
fn responsible(from: &Answer, to: &Answer) -> String {
    let (denies, allows) = if to.is_allowed() { (from, to) } else { (to, from) };
    let named = |answer: &Answer| match answer.policies.as_slice() {
        [] => String::from("a profile that asks no policy"),
        names => names.join(", "),
    };
    match denies.refused {
        Some(Reason::ExplicitDeny | Reason::PolicyError) => named(denies),
        Some(Reason::NoMatch | Reason::Role) | None => named(allows),
        Some(Reason::ProfileUnknown) => String::from("profiles"),
        Some(Reason::ResourceUnknown) => String::from("resources"),
        Some(Reason::CredentialRevoked) => String::from("revocation"),
        Some(_) => String::from("credentials"),
    }
}
