//! A question of which not everything is known becomes an answer, or the names of what it depends on.
//!
//! Conditions are evaluated in Kleene's logic with one more value, *open*: what tests an unknown attribute. An answer is
//! given only where every value of the unknown would lead to it.

use std::collections::BTreeSet;

use crate::filter::profile::Profile;
use crate::filter::refusal::Reason;
use crate::policy::RuleView;
use crate::policy::attributes::{Attributes, Category};
use crate::policy::condition::{Block, Clause, Condition, Truth};
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
    let mut votes = Votes::default();
    let rules = candidate.config.policies.rules().zip(candidate.counts(profile));
    for (rule, _) in rules.filter(|(_, counts)| *counts) {
        votes.count(&rule, says(&rule, &attributes, unknown));
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
        match (self.allows.is_empty(), self.open_allows.is_empty(), self.open_denies.is_empty()) {
            (true, true, _) => said(Some(Reason::NoMatch), BTreeSet::new()),
            (false, _, true) => said(None, self.allows),
            (false, _, false) => Outcome::Depends(self.open_denies),
            (true, false, _) => Outcome::Depends(&self.open_allows | &self.open_denies),
        }
    }
}

fn says(rule: &RuleView<'_>, attributes: &Attributes<'_>, unknown: &Unknown) -> Said {
    let mut parts = Vec::new();
    if let Some(role) = rule.role {
        let roles = (Category::Principal, String::from("roles"));
        parts.push(if unknown.contains(&roles) {
            Said::Open(BTreeSet::from([roles.0.full_name(&roles.1)]))
        } else if attributes.principal.roles.iter().any(|held| held == role) {
            Said::Yes
        } else {
            Said::No
        });
    }
    parts.extend(rule.rule.conditions().into_iter().map(|part| condition(part, attributes, unknown)));
    all(parts)
}

fn condition(condition: &Condition, attributes: &Attributes<'_>, unknown: &Unknown) -> Said {
    let clauses = condition.clauses().iter().map(|one| clause(one, attributes, unknown));
    let blocks = condition.blocks().iter().map(|one| block(one, attributes, unknown));
    all(clauses.chain(blocks))
}

fn block(block: &Block, attributes: &Attributes<'_>, unknown: &Unknown) -> Said {
    let parts = block.parts().iter().map(|part| condition(part, attributes, unknown));
    match block {
        Block::All(_) => all(parts),
        // a disjunction is the mirror image of a conjunction
        Block::Any(_) => not(all(parts.map(not))),
        Block::Not(_) => not(all(parts)),
    }
}

fn clause(clause: &Clause, attributes: &Attributes<'_>, unknown: &Unknown) -> Said {
    let of = std::iter::once(clause.attribute()).chain(clause.comparison().others());
    let open: BTreeSet<String> = of
        .filter(|of| unknown.contains(&(of.category, of.name.to_string())))
        .map(|of| of.full_name.to_string())
        .collect();
    if !open.is_empty() {
        return Said::Open(open);
    }
    match clause.evaluate(attributes) {
        Truth::True => Said::Yes,
        Truth::False => Said::No,
        Truth::Error(_) => Said::Error,
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
