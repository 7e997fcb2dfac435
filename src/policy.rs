//! What may they do: attributes become a [`Decision`].
//!
//! Denies override (XACML 3.0 §C.2) unless [`combining`] is told otherwise: every policy that applies is evaluated, so
//! that their order never changes an answer, and a policy that cannot be evaluated never permits: an erring deny
//! denies, an erring allow grants nothing.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::config::faults::{Faults, segment};
use crate::filter::refusal::Reason;

use attributes::{Attributes, Category};
use combining::{Combining, Verdict};
use condition::truth::{Lookup, Match};
use condition::{Absence, Condition, Flaw, Part, Truth};
use index::{Index, Over};
use obligations::Obligations;
use rbac::Role;
use spec::{AuthorizationSpec, EffectSpec, ModeSpec};

pub mod abac;
pub mod attributes;
pub mod cache;
pub mod combining;
pub mod condition;
pub mod explain;
pub mod facts;
mod index;
pub mod mutation;
pub mod obligations;
pub mod rbac;
pub mod schema;
pub mod selection;
pub mod spec;

pub use facts::Facts;
pub use selection::PolicySelection;

/// What the policies say of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `None`: allowed. Otherwise why not.
    pub refused: Option<Reason>,
    /// Names of the policies that decided, `role:<role>` for a role's permission; sorted, each once.
    pub policies: Vec<String>,
    /// Policies that could not be evaluated, whether or not that decided; sorted, each once.
    pub errors: Vec<PolicyError>,
    /// Policies in shadow mode that would have turned the answer; sorted.
    pub shadow: Vec<Shadowed>,
    /// What must be done where it is allowed: obligations of the policies that decided, by their names.
    pub obligations: Obligations,
}

/// A policy in shadow mode that would alone have turned the answer, had it been enforced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shadowed {
    /// The policy's name.
    pub policy: String,
    /// Whether it would have denied what was allowed; otherwise it would have allowed what was refused.
    pub denies: bool,
}

/// A policy that could not be evaluated, because of one attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyError {
    /// The policy's name.
    pub policy: String,
    /// The attribute's full name.
    pub attribute: String,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// The compiled `authorization`.
#[derive(Clone, Debug)]
pub struct PolicySet {
    roles: BTreeMap<String, Role>,
    policies: Vec<Policy>,
    /// Policies that are not switched off, filed.
    index: Index,
    /// Allows that are enforced, filed by whose they are and which action they name.
    claims: Index,
    reads: Vec<(Category, String)>,
    /// None of them is given by the request itself.
    timeless: bool,
    /// Whether some policy has obligations.
    obliges: bool,
    obliged_headers: Vec<String>,
    combining: Combining,
}

/// One policy that has a name of its own.
#[derive(Clone, Debug)]
struct Policy {
    name: Rc<str>,
    effect: EffectSpec,
    mode: ModeSpec,
    rule: Rule,
    obligations: Option<Box<Obligations>>,
}

/// What must hold for a policy or a permission to apply.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whose it is, and which action it names.
    claim: Condition,
    /// On what, and when.
    object: Condition,
    place: Place,
}

/// Where a rule is written.
#[derive(Clone, Debug)]
enum Place {
    /// The policy of this index.
    Policy(usize),
    /// The permission of this index, of this role.
    Permission(Rc<str>, usize),
}

/// One policy, or one permission as one role has it, for those who read policies.
#[derive(Clone, Copy, Debug)]
pub struct RuleView<'s> {
    /// The policy's name; `role:<role>` for a permission that the role has or inherits.
    pub policy: &'s str,
    /// The role that has it, of a permission.
    pub role: Option<&'s str>,
    /// What it does when it matches.
    pub effect: EffectSpec,
    /// Whether it counts.
    pub mode: ModeSpec,
    /// What must hold.
    pub rule: &'s Rule,
}

/// How names of roles' policies begin.
pub const ROLE_PREFIX: &str = "role:";

// === impl Decision ===

impl Decision {
    /// Whether the request may go on.
    pub const fn is_allowed(&self) -> bool {
        self.refused.is_none()
    }
}

// === impl PolicySet ===

impl PolicySet {
    /// Compiles `spec`, which stands at `pointer`. The facts say which attributes exist. The result may only be used
    /// when no fault was added.
    pub fn compile(spec: &AuthorizationSpec, facts: Facts<'_>, pointer: &str, faults: &mut Faults) -> Self {
        if spec.roles.is_empty() && spec.policies.is_empty() {
            faults.at(
                pointer,
                "neither roles nor policies are written, so that every request is denied",
                "write `roles` or `policies`",
            );
        }
        let roles = rbac::compile(&spec.roles, facts, &format!("{pointer}/roles"), faults);
        let policies = abac::compile(&spec.policies, facts, &format!("{pointer}/policies"), faults);
        let file = |over, counts: &dyn Fn(&Policy) -> bool| {
            let counted = policies.iter().enumerate().filter(|(_, policy)| counts(policy));
            Index::build(counted.map(|(number, policy)| (number, &policy.rule)), over)
        };
        let index = file(Over::Rule, &|policy| policy.mode != ModeSpec::Off);
        let claims = file(Over::Claim, &Policy::grants);
        let combining = spec.combining.into();
        let obligations = policies.iter().filter_map(|policy| policy.obligations.as_deref());
        let headers = obligations.clone().flat_map(|obligations| &obligations.headers);
        let mut obliged_headers: Vec<String> = headers.map(|(name, _)| name.clone()).collect();
        obliged_headers.sort_unstable();
        obliged_headers.dedup();
        let obliges = obligations.count() > 0;
        let reads = Vec::new();
        let timeless = true;
        let mut set =
            Self { roles, policies, index, claims, reads, timeless, obliges, obliged_headers, combining };
        set.reads = set.collect_reads();
        set.timeless = !set.reads.iter().any(|(category, name)| {
            *category == Category::Environment && category.reserved().contains(&name.as_str())
        });
        set
    }

    /// How policies combine where this selection applies.
    pub fn combining(&self, selection: &PolicySelection) -> Combining {
        selection.combining().unwrap_or(self.combining)
    }

    /// Whether a role is configured.
    pub fn is_role(&self, name: &str) -> bool {
        self.roles.contains_key(name)
    }

    /// Every attribute that some enforced policy or permission looks at, sorted, each once. The action is not among
    /// them: it is no member of a category, and each event has it anyway.
    pub fn reads(&self) -> &[(Category, String)] {
        &self.reads
    }

    /// Whether a decision depends on nothing that only the moment or the connection gives.
    pub const fn is_timeless(&self) -> bool {
        self.timeless
    }

    /// Every rule: permissions by role, inherited ones with each heir, then policies as written.
    pub fn rules(&self) -> impl Iterator<Item = RuleView<'_>> {
        let permissions = self.roles.iter().flat_map(|(name, role)| {
            role.permissions.iter().map(move |rule| RuleView {
                policy: &role.policy,
                role: Some(name.as_str()),
                effect: EffectSpec::Allow,
                mode: ModeSpec::Enforce,
                rule,
            })
        });
        permissions.chain(self.policies.iter().map(|policy| RuleView {
            policy: &policy.name,
            role: None,
            effect: policy.effect,
            mode: policy.mode,
            rule: &policy.rule,
        }))
    }

    /// Decides one request. `scope_ok` is whether the credential itself may be used for it.
    pub fn decide(
        &self,
        selection: &PolicySelection,
        attributes: &Attributes<'_>,
        scope_ok: bool,
    ) -> Decision {
        let combining = self.combining(selection);
        let lookup = Lookup { attributes, absence: combining.absence() };
        let mut verdicts = Vec::new();
        for role in self.roles_of(selection, attributes) {
            for rule in role.index.candidates(lookup).filter_map(|number| role.permissions.get(number)) {
                let said = rule.matches(lookup);
                if said != Match::No {
                    let (effect, mode) = (EffectSpec::Allow, ModeSpec::Enforce);
                    verdicts.push(Verdict { name: &role.policy, effect, mode, order: None, said });
                }
            }
        }
        for number in self.index.candidates(lookup).filter(|number| selection.has_policy(*number)) {
            let Some(Policy { name, effect, mode, rule, .. }) = self.policies.get(number) else { continue };
            let said = rule.matches(lookup);
            if said != Match::No {
                verdicts.push(Verdict { name, effect: *effect, mode: *mode, order: Some(number), said });
            }
        }
        let mut decision = combining.decide(&verdicts, scope_ok, || self.nothing_allows(selection, lookup));
        if decision.is_allowed() && self.obliges {
            self.oblige(&verdicts, &mut decision);
        }
        decision
    }

    /// By name, so that the order of policies changes nothing.
    fn oblige(&self, verdicts: &[Verdict<'_>], decision: &mut Decision) {
        for name in &decision.policies {
            let decided = verdicts.iter().filter(|verdict| **verdict.name == **name);
            let policies = decided.filter_map(|verdict| self.policies.get(verdict.order?));
            for obligations in policies.filter_map(|policy| policy.obligations.as_deref()) {
                decision.obligations.join(obligations);
            }
        }
    }

    /// Names of all headers that some policy may add: what a client sends under them means nothing.
    pub fn obliged_headers(&self) -> &[String] {
        &self.obliged_headers
    }

    /// `no_match` when something of the caller's names the action but not for this, else `role`.
    fn nothing_allows(&self, selection: &PolicySelection, lookup: Lookup<'_>) -> Reason {
        let claimed = |rule: &Rule| rule.claim.matches(lookup) != Match::No;
        let by_role = self.roles_of(selection, lookup.attributes).any(|role| {
            let permission = |number: usize| role.permissions.get(number);
            role.claims.any(lookup, |number| permission(number).is_some_and(|rule| claimed(rule)))
        });
        let by_policy = |number: usize| {
            let policy = self.policies.get(number).filter(|_| selection.has_policy(number));
            policy.is_some_and(|policy| claimed(&policy.rule))
        };
        let named = by_role || self.claims.any(lookup, by_policy);
        if named { Reason::NoMatch } else { Reason::Role }
    }

    /// The roles of the caller that are configured and selected.
    fn roles_of<'a>(
        &'a self,
        selection: &'a PolicySelection,
        attributes: &Attributes<'a>,
    ) -> impl Iterator<Item = &'a Role> {
        let roles = attributes.principal.roles.iter().filter_map(|role| self.roles.get(role));
        roles.filter(|role| selection.has_role(role.place))
    }

    fn collect_reads(&self) -> Vec<(Category, String)> {
        let mut reads: Vec<(Category, String)> = self
            .rules()
            .filter(|view| view.mode != ModeSpec::Off)
            .flat_map(|view| view.rule.conditions().into_iter().flat_map(Condition::reads))
            .filter(|(category, _)| *category != Category::Action)
            .map(|(category, name)| (category, name.to_owned()))
            .collect();
        if !self.roles.is_empty() {
            reads.push((Category::Principal, String::from("roles")));
        }
        reads.sort_unstable();
        reads.dedup();
        reads
    }
}

// === impl Policy ===

impl Policy {
    fn grants(&self) -> bool {
        self.effect == EffectSpec::Allow && self.mode == ModeSpec::Enforce
    }
}

// === impl Rule ===

impl Rule {
    /// Whose it is and which action it names; on what, and when. Both must hold.
    pub const fn conditions(&self) -> [&Condition; 2] {
        [&self.claim, &self.object]
    }

    /// Where it is written, as a JSON pointer.
    pub fn pointer(&self) -> String {
        match &self.place {
            Place::Policy(index) => format!("/authorization/policies/{index}"),
            Place::Permission(role, index) => {
                format!("/authorization/roles/{}/permissions/{index}", segment(role))
            }
        }
    }

    /// Whether its clauses leave a type of resource and an action possible.
    pub fn may_be_about(&self, kind: &str, action: &str) -> bool {
        let mut conditions = self.conditions().into_iter();
        conditions.all(|condition| {
            condition.may_match(Category::Resource, "type", kind)
                && condition.may_match(Category::Action, "", action)
        })
    }

    /// The role that a permission is written for.
    pub fn owner(&self) -> Option<&str> {
        match &self.place {
            Place::Policy(_) => None,
            Place::Permission(role, _) => Some(role),
        }
    }

    /// Every clause and block, with its place.
    pub fn walk<'s>(&'s self, visit: &mut dyn FnMut(&str, Part<'s>)) {
        let pointer = self.pointer();
        self.conditions().into_iter().for_each(|condition| condition.walk(&pointer, visit));
    }

    /// What it says of a request.
    pub fn evaluate(&self, attributes: &Attributes<'_>) -> Truth {
        Truth::from(self.matches(Lookup { attributes, absence: Absence::NoMatch }))
    }

    fn matches<'s>(&'s self, lookup: Lookup<'_>) -> Match<'s> {
        Match::all(self.conditions().into_iter().map(|condition| condition.matches(lookup)))
    }
}

/// A name that events, selections and `explain` can show; `false` after a fault.
fn check_name(name: &str, pointer: &str, faults: &mut Faults) {
    let plain = (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with(ROLE_PREFIX)
        && !name.contains('*')
        && !name.chars().any(char::is_control);
    if !plain {
        faults.at(
            pointer,
            format!("`{name}` is not a name here"),
            format!("write 1 to {MAX_NAME} bytes without `*` that do not begin with `{ROLE_PREFIX}`"),
        );
    }
}

/// The longest name of a role or policy, in bytes.
pub const MAX_NAME: usize = 128;

#[cfg(test)]
mod tests;
