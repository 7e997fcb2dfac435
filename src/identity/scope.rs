//! What a credential itself may be used for.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::resource::{MODEL, Resource};

/// Limits that a credential carries. `None`: not limited in this respect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Model ids, a trailing `*` is a prefix.
    pub models: Option<Vec<String>>,
    /// Actions.
    pub actions: Option<Vec<String>>,
    /// Addresses of callers.
    pub source_ranges: Option<Vec<IpNet>>,
}

// === impl Scope ===

impl Scope {
    /// Whether the credential may be used for this resource and action, from this source address.
    ///
    /// A credential that is limited to models is limited to resources of the type `model`. One that is limited to
    /// addresses is outside them when the source is unknown; an IPv4 address that came as IPv6 (RFC 4291 §2.5.5.2)
    /// counts as what it is.
    pub fn allows(&self, resource: &Resource, action: &str, source: Option<IpAddr>) -> bool {
        let model = self.models.as_ref().is_none_or(|models| {
            resource.kind == MODEL && models.iter().any(|pattern| is_match(pattern, &resource.id))
        });
        let action = self.actions.as_ref().is_none_or(|actions| actions.iter().any(|p| is_match(p, action)));
        let within = self.source_ranges.as_ref().is_none_or(|ranges| {
            source.is_some_and(|source| ranges.iter().any(|range| range.contains(&source.to_canonical())))
        });
        model && action && within
    }

    /// What both allow.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self {
            models: both(self.models.as_ref(), other.models.as_ref(), |a, b| narrower(a, b)),
            actions: both(self.actions.as_ref(), other.actions.as_ref(), |a, b| narrower(a, b)),
            source_ranges: both(self.source_ranges.as_ref(), other.source_ranges.as_ref(), narrower_range),
        }
    }
}

/// What both lists allow. `None` is no limit.
fn both<T: Clone>(
    ours: Option<&Vec<T>>,
    theirs: Option<&Vec<T>>,
    meet: impl Fn(&T, &T) -> Option<T>,
) -> Option<Vec<T>> {
    match (ours, theirs) {
        (None, other) | (other, None) => other.cloned(),
        (Some(ours), Some(theirs)) => {
            Some(ours.iter().flat_map(|one| theirs.iter().filter_map(|other| meet(one, other))).collect())
        }
    }
}

/// The pattern that matches what two patterns match. Two prefixes have one in common only if one begins the other.
fn narrower(one: &str, other: &str) -> Option<String> {
    match (one.strip_suffix('*'), other.strip_suffix('*')) {
        (Some(one), Some(other)) if one.starts_with(other) => Some(format!("{one}*")),
        (Some(one), Some(other)) => other.starts_with(one).then(|| format!("{other}*")),
        (None, _) => is_match(other, one).then(|| one.to_owned()),
        (_, None) => is_match(one, other).then(|| other.to_owned()),
    }
}

fn narrower_range(one: &IpNet, other: &IpNet) -> Option<IpNet> {
    if other.contains(one) { Some(*one) } else { one.contains(other).then_some(*other) }
}

/// Equality, or a prefix before a trailing `*`.
pub(crate) fn is_match(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => pattern == text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::attributes::AttributeMap;

    fn scope(models: Option<&[&str]>, actions: Option<&[&str]>, ranges: Option<&[&str]>) -> Scope {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Scope {
            models: models.map(owned),
            actions: actions.map(owned),
            source_ranges: ranges.map(|list| list.iter().map(|range| range.parse().unwrap()).collect()),
        }
    }

    #[test]
    fn a_scope_limits_each_respect_that_it_names() {
        let model = Resource { kind: "model".into(), id: "fraud_v2".into(), attributes: AttributeMap::new() };
        let dataset = Resource { kind: "dataset".into(), ..model.clone() };
        let inside: Option<IpAddr> = Some("10.1.2.3".parse().unwrap());
        let mapped: Option<IpAddr> = Some("::ffff:10.1.2.3".parse().unwrap());
        let outside: Option<IpAddr> = Some("192.0.2.1".parse().unwrap());
        let rows = [
            (scope(None, None, None), &dataset, None, true),
            (scope(Some(&["fraud_*"]), None, None), &model, None, true),
            (scope(Some(&["x", "fraud_v2"]), None, None), &model, None, true),
            (scope(Some(&["fraud"]), None, None), &model, None, false),
            (scope(Some(&["fraud_*"]), None, None), &dataset, None, false),
            (scope(None, Some(&["predict"]), None), &dataset, None, true),
            (scope(None, Some(&["read"]), None), &model, None, false),
            (scope(None, None, Some(&["10.0.0.0/8"])), &model, inside, true),
            (scope(None, None, Some(&["10.0.0.0/8"])), &model, mapped, true),
            (scope(None, None, Some(&["10.0.0.0/8"])), &model, outside, false),
            (scope(None, None, Some(&["10.0.0.0/8"])), &model, None, false),
        ];
        for (scope, resource, source, allowed) in rows {
            assert_eq!(
                scope.allows(resource, "predict", source),
                allowed,
                "{scope:?} {resource:?} {source:?}"
            );
        }
    }

    #[test]
    fn an_intersection_allows_what_both_do() {
        let scopes = [
            scope(None, None, None),
            scope(Some(&["fraud_*"]), None, None),
            scope(Some(&["fraud_v*", "x"]), Some(&["predict"]), None),
            scope(
                Some(&["fraud_v2", "churn"]),
                Some(&["read", "p*"]),
                Some(&["10.0.0.0/8", "2001:db8::/32"]),
            ),
            scope(Some(&["*"]), Some(&["*"]), Some(&["10.1.0.0/16", "192.0.2.0/24"])),
            scope(Some(&[]), None, None),
        ];
        let resource = |kind: &str, id: &str| Resource {
            kind: kind.into(),
            id: id.into(),
            attributes: AttributeMap::new(),
        };
        let resources = ["fraud_v2", "fraud_v1", "fraud", "x", "churn"].map(|id| resource("model", id));
        let sources = [None, Some("10.1.2.3"), Some("10.2.3.4"), Some("192.0.2.1"), Some("2001:db8::1")];
        for (one, other) in scopes.iter().flat_map(|one| scopes.iter().map(move |other| (one, other))) {
            let both = one.intersection(other);
            for resource in resources.iter().chain([&resource("dataset", "x")]) {
                for (action, source) in
                    ["predict", "read", "train"].into_iter().flat_map(|a| sources.map(|s| (a, s)))
                {
                    let source = source.map(|text| text.parse().unwrap());
                    let allows = |scope: &Scope| scope.allows(resource, action, source);
                    assert_eq!(
                        allows(&both),
                        allows(one) && allows(other),
                        "{one:?} {other:?} {both:?} {resource:?} {action} {source:?}"
                    );
                }
            }
        }
    }
}
