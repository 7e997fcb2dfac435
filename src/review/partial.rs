//! A question of which not everything is known becomes an answer, or the names of what it depends on.
//!
//! Conditions are evaluated in Kleene's logic with one more value, *open*: what tests an unknown attribute. An answer is
//! given only where every value of the unknown would lead to it.

use std::collections::BTreeSet;

use crate::filter::profile::Profile;
use crate::filter::refusal::Reason;
use crate::policy::RuleView;
use crate::policy::attributes::Category;
use crate::policy::combining::Combining;
use crate::policy::condition::truth::{Lookup, Match};
use crate::policy::condition::{Block, Clause, Condition};
use crate::policy::spec::EffectSpec;

use super::Candidate;
use super::candidate::{Answer, Question};

/// What can be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This, whatever the rest is.
    Said(Answer),
    /// It depends on these.
    Depends(BTreeSet<String>),
}

/// Attributes that are not known.
pub type Unknown = BTreeSet<(Category, String)>;

/// What a condition says.
enum Said {
    Yes,
    No,
    Error,
    Open(BTreeSet<String>),
}

/// Decides, as far as it can be done without the `unknown`.
pub fn decide(
    candidate: &Candidate,
    profile: &Profile,
    question: &Question<'_>,
    unknown: &Unknown,
) -> Outcome {
    let is_read = candidate.config.policies.reads().iter().any(|name| unknown.contains(name));
    if !profile.authorize || !question.listed || !is_read {
        return Outcome::Said(candidate.decide(profile, question));
    }
    let attributes = question.attributes();
    let combining = candidate.config.policies.combining(&profile.policies);
    let asked = Asked { lookup: Lookup { attributes: &attributes, absence: combining.absence() }, unknown };
    let rules: Vec<RuleView<'_>> = candidate
        .config
        .policies
        .rules()
        .zip(candidate.counts(profile))
        .filter_map(|(rule, counts)| counts.then_some(rule))
        .collect();
    if combining == Combining::FirstApplicable {
        // policies come in written order, permissions after them; what follows the first that speaks does not matter
        for rule in rules.iter().filter(|rule| rule.role.is_none()) {
            match asked.rule(rule) {
                Said::No => {}
                Said::Open(on) => return Outcome::Depends(on),
                Said::Yes | Said::Error => return Outcome::Said(candidate.decide(profile, question)),
            }
        }
    }
    let mut votes = Votes { permits: combining == Combining::PermitUnlessDeny, ..Votes::default() };
    for rule in &rules {
        votes.count(rule, asked.rule(rule));
    }
    let within = question.principal.scope.allows(question.resource, question.action, question.source);
    votes.outcome(within)
}

#[derive(Default)]
struct Votes {
    denies: BTreeSet<String>,
    erring: BTreeSet<String>,
    allows: BTreeSet<String>,
    open_denies: BTreeSet<String>,
    open_allows: BTreeSet<String>,
    /// Under permit-unless-deny nothing needs to allow.
    permits: bool,
}

// === impl Votes ===

impl Votes {
    fn count(&mut self, rule: &RuleView<'_>, said: Said) {
        let names = match (said, rule.effect) {
            (Said::Open(on), EffectSpec::Deny) => return self.open_denies.extend(on),
            (Said::Open(on), EffectSpec::Allow) => return self.open_allows.extend(on),
            (Said::Yes, EffectSpec::Deny) => &mut self.denies,
            (Said::Yes, EffectSpec::Allow) => &mut self.allows,
            (Said::Error, EffectSpec::Deny) => &mut self.erring,
            (Said::Error, EffectSpec::Allow) | (Said::No, _) => return,
        };
        names.insert(rule.policy.to_owned());
    }

    /// Denies override: an open deny matters only where something would be allowed without it.
    fn outcome(self, within: bool) -> Outcome {
        let said = |refused, policies: BTreeSet<String>| {
            Outcome::Said(Answer { refused, policies: policies.into_iter().collect() })
        };
        if !self.denies.is_empty() {
            return said(Some(Reason::ExplicitDeny), self.denies);
        }
        if !self.erring.is_empty() {
            return said(Some(Reason::PolicyError), self.erring);
        }
        if !within {
            return said(Some(Reason::Scope), BTreeSet::new());
        }
        let allows = if self.permits { BTreeSet::new() } else { self.allows };
        match (allows.is_empty() && !self.permits, self.open_allows.is_empty(), self.open_denies.is_empty()) {
            (true, true, _) => said(Some(Reason::NoMatch), BTreeSet::new()),
            (false, _, true) => said(None, allows),
            (false, _, false) => Outcome::Depends(self.open_denies),
            (true, false, _) => Outcome::Depends(&self.open_allows | &self.open_denies),
        }
    }
}

/// A question, and what is not known of it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    lookup: Lookup<'a>,
    unknown: &'a Unknown,
}

// === impl Asked ===

impl Asked<'_> {
    fn rule(self, rule: &RuleView<'_>) -> Said {
        let mut parts = Vec::new();
        if let Some(role) = rule.role {
            let roles = (Category::Principal, String::from("roles"));
            parts.push(if self.unknown.contains(&roles) {
                Said::Open(BTreeSet::from([roles.0.full_name(&roles.1)]))
            } else if self.lookup.attributes.principal.roles.iter().any(|held| held == role) {
                Said::Yes
            } else {
                Said::No
            });
        }
        parts.extend(rule.rule.conditions().into_iter().map(|part| self.condition(part)));
        all(parts)
    }

    fn condition(self, condition: &Condition) -> Said {
        let clauses = condition.clauses().iter().map(|one| self.clause(one));
        let blocks = condition.blocks().iter().map(|one| self.block(one));
        all(clauses.chain(blocks))
    }

    fn block(self, block: &Block) -> Said {
        let parts = block.parts().iter().map(|part| self.condition(part));
        match block {
            Block::All(_) => all(parts),
            // a disjunction is the mirror image of a conjunction
            Block::Any(_) => not(all(parts.map(not))),
            Block::Not(_) => not(all(parts)),
        }
    }

    fn clause(self, clause: &Clause) -> Said {
        let of = std::iter::once(clause.attribute()).chain(clause.comparison().others());
        let open: BTreeSet<String> = of
            .filter(|of| self.unknown.contains(&(of.category, of.name.to_string())))
            .map(|of| of.full_name.to_string())
            .collect();
        if !open.is_empty() {
            return Said::Open(open);
        }
        match clause.matches(self.lookup) {
            Match::Yes => Said::Yes,
            Match::No => Said::No,
            Match::Error(..) => Said::Error,
        }
    }
}

fn all(parts: impl IntoIterator<Item = Said>) -> Said {
    let (mut open, mut error) = (BTreeSet::new(), false);
    for part in parts {
        match part {
            Said::No => return Said::No,
            Said::Yes => {}
            Said::Error => error = true,
            Said::Open(on) => open.extend(on),
        }
    }
    match (open.is_empty(), error) {
        (false, _) => Said::Open(open),
        (true, true) => Said::Error,
        (true, false) => Said::Yes,
    }
}

fn not(said: Said) -> Said {
    match said {
        Said::Yes => Said::No,
        Said::No => Said::Yes,
        other => other,
    }
}
