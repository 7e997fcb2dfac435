//! What each policy says becomes one answer (XACML 3.0 Appendix C): deny-overrides, first-applicable,
//! permit-unless-deny.

use std::rc::Rc;

use super::condition::truth::{Absence, Match};
use super::obligations::Obligations;
use super::spec::{CombiningSpec, EffectSpec, ModeSpec, ProfileCombiningSpec};
use super::{Decision, PolicyError, Shadowed};
use crate::filter::refusal::Reason;

/// How policies combine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Combining {
    /// A deny wins whatever the order, one that errs too (XACML 3.0 §C.2).
    #[default]
    DenyOverrides,
    /// The first policy that says something decides, in written order; then roles' permissions. One that errs ends the
    /// search and denies (XACML 3.0 §C.8).
    FirstApplicable,
    /// What no deny forbids is allowed. A deny that errs denies, and so does one that looks for what is missing.
    PermitUnlessDeny,
}

/// What one policy or permission says, if it is not *no*.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict<'s> {
    pub(super) name: &'s Rc<str>,
    pub(super) effect: EffectSpec,
    pub(super) mode: ModeSpec,
    /// The policy's place in written order; `None` for a permission, which comes after all policies.
    pub(super) order: Option<usize>,
    pub(super) said: Match<'s>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ruling {
    Allowed,
    Denied,
    Erring,
    OutOfScope,
    Nothing,
}

// === impl Combining ===

impl Combining {
    /// What an attribute that is missing means.
    pub const fn absence(self) -> Absence {
        match self {
            Self::DenyOverrides | Self::FirstApplicable => Absence::NoMatch,
            Self::PermitUnlessDeny => Absence::Error,
        }
    }

    /// One answer. `scope_ok` is whether the credential itself may be used for this, which is one more deny;
    /// `nothing_allows` is asked why where nothing does.
    pub(super) fn decide(
        self,
        verdicts: &[Verdict<'_>],
        scope_ok: bool,
        nothing_allows: impl FnOnce() -> Reason,
    ) -> Decision {
        let enforced = |verdict: &Verdict<'_>| verdict.mode == ModeSpec::Enforce;
        let first = self.first(verdicts, enforced);
        let counts = |verdict: &Verdict<'_>| enforced(verdict) && first.admits(verdict);
        let ruling = self.ruling(verdicts, counts, scope_ok);
        let named = |effect: EffectSpec, erring: bool| {
            let determines = |verdict: &&Verdict<'_>| {
                let errs = matches!(verdict.said, Match::Error(..));
                // under first-applicable an allow that errs denies too
                counts(verdict) && errs == erring && (verdict.effect == effect || first.is_one() && errs)
            };
            let mut names: Vec<String> =
                verdicts.iter().filter(determines).map(|verdict| verdict.name.to_string()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let (refused, policies) = match ruling {
            Ruling::Allowed if self == Self::PermitUnlessDeny => (None, Vec::new()),
            Ruling::Allowed => (None, named(EffectSpec::Allow, false)),
            Ruling::Denied => (Some(Reason::ExplicitDeny), named(EffectSpec::Deny, false)),
            Ruling::Erring => (Some(Reason::PolicyError), named(EffectSpec::Deny, true)),
            Ruling::OutOfScope => (Some(Reason::Scope), Vec::new()),
            Ruling::Nothing => (Some(nothing_allows()), Vec::new()),
        };
        let errors = errors(verdicts.iter().filter(|verdict| enforced(verdict)));
        let shadow = self.shadow(verdicts, ruling, scope_ok);
        Decision { refused, policies, errors, shadow, obligations: Obligations::default() }
    }

    /// Policies in shadow mode each of which would alone have turned the answer, had it been enforced.
    fn shadow(self, verdicts: &[Verdict<'_>], ruling: Ruling, scope_ok: bool) -> Vec<Shadowed> {
        let mut turned = Vec::new();
        for shadow in verdicts.iter().filter(|verdict| verdict.mode == ModeSpec::Shadow) {
            let with = |verdict: &Verdict<'_>| {
                verdict.mode == ModeSpec::Enforce || verdict.order == shadow.order && verdict.order.is_some()
            };
            let first = self.first(verdicts, with);
            let would = self.ruling(verdicts, |verdict| with(verdict) && first.admits(verdict), scope_ok);
            if (would == Ruling::Allowed) != (ruling == Ruling::Allowed) {
                let denies = ruling == Ruling::Allowed;
                turned.push(Shadowed { policy: shadow.name.to_string(), denies });
            }
        }
        turned.sort_unstable();
        turned
    }

    fn ruling(
        self,
        verdicts: &[Verdict<'_>],
        counts: impl Fn(&Verdict<'_>) -> bool,
        scope_ok: bool,
    ) -> Ruling {
        let (mut denied, mut erring, mut allowed) = (false, false, self == Self::PermitUnlessDeny);
        for verdict in verdicts.iter().filter(|verdict| counts(verdict)) {
            match (verdict.said, verdict.effect) {
                (Match::Yes, EffectSpec::Deny) => denied = true,
                (Match::Yes, EffectSpec::Allow) => allowed = true,
                (Match::Error(..), EffectSpec::Deny) => erring = true,
                (Match::Error(..), EffectSpec::Allow) => {
                    erring |= self == Self::FirstApplicable && verdict.order.is_some();
                }
                (Match::No, _) => {}
            }
        }
        match () {
            () if denied => Ruling::Denied,
            () if erring => Ruling::Erring,
            () if !scope_ok => Ruling::OutOfScope,
            () if allowed => Ruling::Allowed,
            () => Ruling::Nothing,
        }
    }

    /// Which verdicts are looked at.
    fn first(self, verdicts: &[Verdict<'_>], counts: impl Fn(&Verdict<'_>) -> bool) -> First {
        if self != Self::FirstApplicable {
            return First::All;
        }
        let orders = verdicts.iter().filter(|verdict| counts(verdict)).filter_map(|verdict| verdict.order);
        orders.min().map_or(First::All, First::One)
    }
}

impl From<CombiningSpec> for Combining {
    fn from(spec: CombiningSpec) -> Self {
        match spec {
            CombiningSpec::DenyOverrides => Self::DenyOverrides,
            CombiningSpec::FirstApplicable => Self::FirstApplicable,
        }
    }
}

impl From<ProfileCombiningSpec> for Combining {
    fn from(spec: ProfileCombiningSpec) -> Self {
        match spec {
            ProfileCombiningSpec::DenyOverrides => Self::DenyOverrides,
            ProfileCombiningSpec::FirstApplicable => Self::FirstApplicable,
            ProfileCombiningSpec::PermitUnlessDeny => Self::PermitUnlessDeny,
        }
    }
}

/// Which verdicts an algorithm looks at.
#[derive(Clone, Copy, Debug)]
enum First {
    All,
    One(usize),
}

// === impl First ===

impl First {
    fn admits(self, verdict: &Verdict<'_>) -> bool {
        match self {
            Self::All => true,
            Self::One(order) => verdict.order == Some(order),
        }
    }

    const fn is_one(self) -> bool {
        matches!(self, Self::One(_))
    }
}

fn errors<'v>(verdicts: impl Iterator<Item = &'v Verdict<'v>>) -> Vec<PolicyError> {
    let mut errors: Vec<PolicyError> = verdicts
        .filter_map(|verdict| match verdict.said {
            Match::Error(attribute, flaw) => {
                Some(PolicyError { policy: verdict.name.to_string(), attribute: attribute.to_string(), flaw })
            }
            _ => None,
        })
        .collect();
    errors.sort_unstable();
    errors.dedup();
    errors
}
