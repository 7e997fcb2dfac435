//! Policies that say what another says already, or can never say anything because of another.
//!
//! A policy is *narrower* than another when each condition of the other is one of its own too, as it is written, or lists
//! fewer values of the same list. That is sound without knowing any caller: whatever the narrower matches, the other
//! matches. It is looked for under deny_overrides, where the order does not matter.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::config::document::Document;
use crate::config::faults::Faults;
use crate::policy::spec::{CombiningSpec, EffectSpec, PolicySpec};

/// More policies than this are not compared with each other.
const MAX_COMPARED: usize = 2000;

/// Conditions by section and attribute.
type Conditions<'a> = BTreeMap<(&'static str, &'a str), &'a Json>;

pub(super) fn find(document: &Document, found: &mut Faults) {
    let enforced: Vec<(usize, &PolicySpec)> = super::enforced(document).collect();
    let by_order = document.authorization.combining != CombiningSpec::DenyOverrides
        || document.profiles.iter().flatten().any(|(_, profile)| profile.combining.is_some());
    if by_order || enforced.len() > MAX_COMPARED {
        return;
    }
    // where one counts, the other must count too
    let together = |policy: &PolicySpec, other: &PolicySpec| {
        let mut profiles = document.profiles.iter().flatten().map(|(_, profile)| profile);
        profiles.all(|profile| {
            super::left_out(profile, policy).is_some() || super::left_out(profile, other).is_none()
        })
    };
    let compared: Vec<(usize, &PolicySpec, Conditions<'_>)> =
        enforced.into_iter().map(|(index, policy)| (index, policy, conditions(policy))).collect();
    for (index, policy, own) in &compared {
        let other = compared.iter().find(|(at, other, theirs)| {
            at != index
                && together(policy, other)
                && is_narrower((policy, own), (other, theirs))
                // of two that say the same, the later one is too much
                && (at < index || !is_narrower((other, theirs), (policy, own)))
                && (policy.effect == other.effect || other.effect == EffectSpec::Deny)
        });
        let Some((at, other, theirs)) = other else { continue };
        let pointer = format!("/authorization/policies/{index}");
        let (name, by) = (&policy.name, &other.name);
        let same = is_narrower((other, theirs), (policy, own));
        let line = format!("`/authorization/policies/{at}`");
        match (policy.effect == other.effect, same) {
            (false, _) => found.at(
                pointer,
                format!("`{name}` can never allow anything: `{by}` denies all that it names"),
                format!("take one of them out, or narrow {line}"),
            ),
            (true, true) => found.at(
                pointer,
                format!("`{name}` says the same as `{by}`"),
                format!("take one of them out, or correct what should differ from {line}"),
            ),
            (true, false) => found.at(
                pointer,
                format!("`{name}` is shadowed by `{by}`, which asks for less and does the same"),
                format!("take it out, or narrow {line}"),
            ),
        }
    }
}

fn conditions(policy: &PolicySpec) -> Conditions<'_> {
    let principal = policy.principal.iter().map(|(name, json)| (("principal", name.as_str()), json));
    let resource = policy.resource.iter().map(|(name, json)| (("resource", name.as_str()), json));
    let when = policy.when.iter().map(|(name, json)| (("when", name.as_str()), json));
    principal.chain(resource).chain(when).collect()
}

/// Whether all that the first matches, the second matches too.
fn is_narrower(
    (policy, own): (&PolicySpec, &Conditions<'_>),
    (other, theirs): (&PolicySpec, &Conditions<'_>),
) -> bool {
    let action = match (&policy.action, &other.action) {
        (_, None) => true,
        (None, Some(theirs)) => theirs.iter().any(|action| action == "*"),
        (Some(own), Some(theirs)) => {
            theirs.iter().any(|action| action == "*") || own.iter().all(|action| theirs.contains(action))
        }
    };
    action
        && theirs.iter().all(|(place, wanted)| own.get(place).is_some_and(|written| is_part(written, wanted)))
}

/// The same, or values of the same list.
fn is_part(written: &Json, wanted: &Json) -> bool {
    let values = |json: &Json| match json {
        Json::Array(list) => list.clone(),
        single => vec![single.clone()],
    };
    let plain = |json: &Json| !json.is_object();
    written == wanted
        || (plain(written) && plain(wanted) && {
            let wanted = values(wanted);
            values(written).iter().all(|value| wanted.contains(value))
        })
}
