//! Questions become which clauses of the policies were seen to hold and not to hold.
//!
//! A clause of a permission is only looked at for callers who have the role. A clause that always holds (`action: "*"`) is
//! none.

use std::collections::BTreeMap;

use crate::filter::profile::Profile;
use crate::policy::attributes::Attributes;
use crate::policy::condition::{Clause, Part, Truth};
use crate::policy::spec::ModeSpec;

use super::Candidate;
use super::candidate::Question;

/// See the module.
#[derive(Debug)]
pub struct Coverage<'a> {
    candidate: &'a Candidate,
    /// In the order of the document's pointers.
    clauses: Vec<Seen>,
    rules: Vec<Rule<'a>>,
}

/// One clause, or having a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it is written.
    pub pointer: String,
    /// Of which policy.
    pub policy: String,
    /// What it asks: attribute and pattern.
    pub text: String,
    /// Whether it was seen to hold.
    pub yes: bool,
    /// Whether it was seen not to.
    pub no: bool,
}

/// One rule of the set; the numbers are places among the clauses.
#[derive(Debug)]
struct Rule<'a> {
    role: Option<(&'a str, usize)>,
    clauses: Vec<(&'a Clause, usize)>,
    enforced: bool,
}

// === impl Coverage ===

impl<'a> Coverage<'a> {
    /// Nothing was asked yet.
    pub fn of(candidate: &'a Candidate) -> Self {
        let mut coverage = Self { candidate, clauses: Vec::new(), rules: Vec::new() };
        let mut places = BTreeMap::new();
        for view in candidate.config.policies.rules() {
            let enforced = view.mode == ModeSpec::Enforce;
            let role = view.role.filter(|_| enforced).map(|role| {
                let pointer = format!("/authorization/roles/{}", crate::config::faults::segment(role));
                (
                    role,
                    coverage.place(&mut places, &pointer, view.policy, || format!("has the role `{role}`")),
                )
            });
            let mut clauses = Vec::new();
            view.rule.walk(&mut |pointer, part| {
                let Part::Clause(clause) = part else { return };
                if enforced && !always_holds(clause) {
                    let text = || format!("{} {}", clause.attribute().full_name, clause.to_json());
                    let policy =
                        view.rule.owner().map(|owner| format!("{}{owner}", crate::policy::ROLE_PREFIX));
                    let policy = policy.unwrap_or_else(|| view.policy.to_owned());
                    clauses.push((clause, coverage.place(&mut places, pointer, &policy, text)));
                }
            });
            coverage.rules.push(Rule { role, clauses, enforced });
        }
        coverage
    }

    fn place(
        &mut self,
        places: &mut BTreeMap<String, usize>,
        pointer: &str,
        policy: &str,
        text: impl Fn() -> String,
    ) -> usize {
        let next = self.clauses.len();
        *places.entry(pointer.to_owned()).or_insert_with(|| {
            let (pointer, policy) = (pointer.to_owned(), policy.to_owned());
            self.clauses.push(Seen { pointer, policy, text: text(), yes: false, no: false });
            next
        })
    }

    /// Takes note of one question that policies were asked.
    pub fn ask(&mut self, profile: &Profile, question: &Question<'_>) {
        if !profile.authorize || !question.listed {
            return;
        }
        let attributes = question.attributes();
        let counts: Vec<bool> = self.candidate.counts(profile).collect();
        let counted = self.rules.iter().zip(counts).filter(|(rule, counts)| rule.enforced && *counts);
        for (rule, _) in counted {
            if let Some((role, place)) = rule.role {
                let held = attributes.principal.roles.iter().any(|held| held == role);
                note(&mut self.clauses, place, held);
                if !held {
                    continue;
                }
            }
            for (clause, place) in &rule.clauses {
                if let Some(holds) = holds(clause, &attributes) {
                    note(&mut self.clauses, *place, holds);
                }
            }
        }
    }

    /// Every clause, in the order of the policies.
    pub fn clauses(&self) -> &[Seen] {
        &self.clauses
    }

    /// Clauses that were not seen both ways.
    pub fn uncovered(&self) -> impl Iterator<Item = &Seen> {
        self.clauses.iter().filter(|seen| !(seen.yes && seen.no))
    }

    /// How many of a hundred clauses were seen both ways, rounded down; of none, all.
    pub fn percent(&self) -> u8 {
        let all = self.clauses.len();
        let covered = all.saturating_sub(self.uncovered().count());
        let percent = covered.saturating_mul(100).checked_div(all).unwrap_or(100);
        u8::try_from(percent).unwrap_or(100)
    }
}

// === impl Seen ===

impl std::fmt::Display for Seen {
    /// `nobody-deletes: resource.stage "production" was never false`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let never = match (self.yes, self.no) {
            (false, false) => "was never asked",
            (true, _) => "was never false",
            (false, true) => "was never true",
        };
        write!(f, "{}: {} {never}", self.policy, self.text)
    }
}

fn holds(clause: &Clause, attributes: &Attributes<'_>) -> Option<bool> {
    match clause.evaluate(attributes) {
        Truth::True => Some(true),
        Truth::False => Some(false),
        Truth::Error(_) => None,
    }
}

fn note(clauses: &mut [Seen], place: usize, holds: bool) {
    if let Some(seen) = clauses.get_mut(place) {
        if holds { seen.yes = true } else { seen.no = true }
    }
}

/// Every request has an action.
fn always_holds(clause: &Clause) -> bool {
    let any = |json: &serde_json::Value| json == "*";
    let written = clause.to_json();
    let is_any = any(&written) || written.as_array().is_some_and(|list| list.iter().any(any));
    &*clause.attribute().full_name == "action" && is_any
}
