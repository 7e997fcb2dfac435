//! Policies that say what another says already, or can never say anything, because of another or of themselves.
//!
//! A policy is *narrower* than another when each condition of the other is one of its own too, as it is written, lists
//! fewer values, or keeps within its prefixes and bounds. That is sound without knowing any caller: whatever the narrower
//! matches, the other matches. Where the first that applies decides, a narrower one behind it is never reached.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::config::document::Document;
use crate::config::faults::Faults;
use crate::policy::spec::{CombiningSpec, EffectSpec, PolicySpec};

/// More policies than this are not compared with each other.
const MAX_COMPARED: usize = 2000;

/// Conditions by section and attribute.
type Conditions<'a> = BTreeMap<(&'static str, &'a str), &'a Json>;

pub(super) fn find(document: &Document, found: &mut Faults) {
    let enforced: Vec<(usize, &PolicySpec)> = super::enforced(document).collect();
    for (index, policy) in &enforced {
        if let Some(attribute) = contradiction(policy) {
            found.at(
                format!("/authorization/policies/{index}"),
                format!(
                    "`{}` can never match: what it asks of `{attribute}` contradicts itself",
                    policy.name
                ),
                "correct one of the conditions, or write two policies",
            );
        }
    }
    let combining = document.authorization.combining;
    let differs = document.profiles.iter().flatten().any(|(_, profile)| profile.combining.is_some());
    if differs || enforced.len() > MAX_COMPARED {
        return;
    }
    let by_order = combining == CombiningSpec::FirstApplicable;
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
                && (at < index || (!by_order && !is_narrower((other, theirs), (policy, own))))
                && (by_order || policy.effect == other.effect || other.effect == EffectSpec::Deny)
        });
        let Some((at, other, theirs)) = other else { continue };
        let pointer = format!("/authorization/policies/{index}");
        let (name, by) = (&policy.name, &other.name);
        let same = is_narrower((other, theirs), (policy, own));
        let line = format!("`/authorization/policies/{at}`");
        match (policy.effect == other.effect, same) {
            _ if by_order => found.at(
                pointer,
                format!(
                    "`{name}` is never reached: `{by}` stands before it and applies to all that it names"
                ),
                format!("put it before {line}, or take it out"),
            ),
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

/// Whether what satisfies the first satisfies the second: values of the same list, or within its prefixes or bounds.
fn is_part(written: &Json, wanted: &Json) -> bool {
    if written == wanted {
        return true;
    }
    if let (Json::Object(own), Json::Object(theirs)) = (written, wanted) {
        let bounds = Bounds::of(own);
        return theirs.iter().all(|(word, operand)| {
            own.get(word) == Some(operand)
                || Bounds::default().with(word, operand).is_some_and(|wider| wider.contains(bounds))
        });
    }
    let plain = |json: &Json| !json.is_object();
    plain(written) && plain(wanted) && {
        let wanted = values(wanted);
        values(written).into_iter().all(|value| wanted.iter().any(|wider| is_within(value, wider)))
    }
}

fn is_within(value: &Json, wider: &Json) -> bool {
    let prefix = wider.as_str().and_then(|text| text.strip_suffix('*')).filter(|text| !text.contains('{'));
    let is_prefixed = || value.as_str().zip(prefix).is_some_and(|(text, prefix)| text.starts_with(prefix));
    // what a template begins with is known only up to its first brace, and that is what is compared
    value == wider || prefix == Some("") || is_prefixed()
}

fn values(json: &Json) -> Vec<&Json> {
    match json {
        Json::Array(list) => list.iter().collect(),
        single => vec![single],
    }
}

/// Whole numbers that `gt`, `gte`, `lt` and `lte` leave possible.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    least: i64,
    most: i64,
}

// === impl Bounds ===

impl Default for Bounds {
    fn default() -> Self {
        Self { least: i64::MIN, most: i64::MAX }
    }
}

impl Bounds {
    fn of(operators: &Map<String, Json>) -> Self {
        let narrow =
            |bounds: Self, (word, operand): (&String, &Json)| bounds.with(word, operand).unwrap_or(bounds);
        operators.iter().fold(Self::default(), narrow)
    }

    /// `None` where this is no bound, or none of a number.
    fn with(self, word: &str, operand: &Json) -> Option<Self> {
        let number = operand.as_i64()?;
        match word {
            "gt" => Some(Self { least: self.least.max(number.saturating_add(1)), ..self }),
            "gte" => Some(Self { least: self.least.max(number), ..self }),
            "lt" => Some(Self { most: self.most.min(number.saturating_sub(1)), ..self }),
            "lte" => Some(Self { most: self.most.min(number), ..self }),
            _ => None,
        }
    }

    const fn contains(self, other: Self) -> bool {
        self.least <= other.least && other.most <= self.most
    }
}

/// The attribute of which a policy asks what nothing can be.
fn contradiction(policy: &PolicySpec) -> Option<String> {
    let mut asked: BTreeMap<String, Vec<&Json>> = BTreeMap::new();
    for ((section, name), json) in conditions(policy) {
        let full_name = if section == "when" { name.to_owned() } else { format!("{section}.{name}") };
        asked.entry(full_name).or_default().push(json);
    }
    let contradicts = |(name, all): &(String, Vec<&Json>)| {
        let operators = all.iter().filter_map(|json| json.as_object());
        let bounds = operators.map(Bounds::of).fold(Bounds::default(), |all, one| Bounds {
            least: all.least.max(one.least),
            most: all.most.min(one.most),
        });
        let texts = all.iter().filter(|json| SINGLE.contains(&name.as_str()) && exact(json));
        let apart = texts.clone().enumerate().any(|(index, one)| {
            let mut others = texts.clone().skip(index.saturating_add(1));
            others.any(|other| !values(one).iter().any(|value| values(other).contains(value)))
        });
        bounds.least > bounds.most || apart
    };
    asked.into_iter().find(contradicts).map(|(name, _)| name)
}

/// Texts that mean themselves.
fn exact(json: &Json) -> bool {
    values(json).iter().all(|value| value.as_str().is_some_and(|text| !text.contains(['*', '{'])))
}

/// Attributes that are one text: a list may be several things at once.
const SINGLE: [&str; 4] = ["principal.id", "principal.tier", "resource.id", "resource.type"];
