//! The words of `limits` become [`Limits`], or all of their faults.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::document::BoundsSpec;
use crate::config::faults::{Faults, segment};
use crate::limits::gcra::{MAX_RATES, Rate};
use crate::limits::key::{Agreed, KeyPart};
use crate::limits::remote;
use crate::limits::slots::Table;
use crate::limits::spec::{LimitSpec, RateSpec, ScopeSpec, ServiceSpec};
use crate::limits::{Limit, Limits, Selection, TableKind};
use crate::policy::condition::{Condition, Section};
use crate::policy::schema::Schema;

/// How many limits one configuration may have.
pub const MAX_LIMITS: usize = 64;

/// How many tiers one limit may tell apart.
pub const MAX_TIERS: usize = 64;

/// How many things one limit may count apart.
pub const MAX_KEY_PARTS: usize = 8;

/// The longest name of a limit, in bytes.
pub const MAX_NAME: usize = 64;

// === impl Limits ===

impl Limits {
    /// Compiles the limits of the gate called `gate`.
    ///
    /// `service` is whom the global ones are asked of. `shared_key` is the first of `shared_data.keys`; without it the workers agree on a random key in shared data.
    /// Limits at fault are left out, so the result may only be used when there are no faults.
    pub fn compile(
        specs: &[LimitSpec],
        service: Option<&ServiceSpec>,
        gate: &str,
        bounds: &BoundsSpec,
        shared_key: Option<&[u8]>,
        faults: &mut Faults,
    ) -> Self {
        if specs.len() > MAX_LIMITS {
            faults.at("/limits", format!("{} limits", specs.len()), format!("write at most {MAX_LIMITS}"));
        }
        let mut names = BTreeSet::new();
        let mut limits = Vec::new();
        for (index, spec) in specs.iter().enumerate().take(MAX_LIMITS) {
            let pointer = format!("/limits/{index}");
            if !names.insert(&spec.name) {
                faults.at(
                    format!("{pointer}/name"),
                    format!("a limit called `{}` exists already", spec.name),
                    "give each limit its own name",
                );
            }
            limits.push(Limit::compile(spec, pointer, faults));
        }
        remote::compile::check(specs, service.is_some(), faults);
        let table = |kind: TableKind, slots: u32| {
            let rates =
                limits.iter().filter(|limit| limit.table == kind).map(|limit| limit.rates.len()).sum();
            Table::new(gate, kind.word(), slots, rates, bounds.cas_retries)
        };
        Self {
            principals: table(TableKind::Principal, bounds.principal_slots),
            sources: table(TableKind::Source, bounds.source_slots),
            hash_key: Agreed::new(gate, bounds.cas_retries, shared_key),
            service: service.map(|spec| remote::compile::service(spec, "/rate_limit_service", faults)),
            limits,
        }
    }

    /// The limits that a profile names; a trailing `*` is a prefix. An empty list, and a name that no limit has, are
    /// faults.
    pub fn select(&self, names: &[String], pointer: &str, faults: &mut Faults) -> Selection {
        if names.is_empty() {
            faults.at(pointer, "an empty list", "name the limits that apply, or write `none`");
        }
        let mut selected = BTreeSet::new();
        for (index, pattern) in names.iter().enumerate() {
            let named = |limit: &Limit| match pattern.strip_suffix('*') {
                Some(prefix) => limit.name.starts_with(prefix),
                None => limit.name == *pattern,
            };
            let mut found = self.limits.iter().enumerate().filter(|(_, limit)| named(limit)).peekable();
            if found.peek().is_none() {
                faults.at(
                    format!("{pointer}/{index}"),
                    format!("no limit is called `{pattern}`"),
                    "name a limit of `limits`, or several by a prefix and `*`",
                );
            }
            selected.extend(found.map(|(index, _)| index));
        }
        Selection(selected.into_iter().collect())
    }

    /// What `check` should say of limits that are valid and yet surprise.
    pub fn review(&self, findings: &mut Faults) {
        if self.service.is_some() && !self.limits.iter().any(Limit::is_global) {
            findings.at("/rate_limit_service", "no limit is asked of it", "write `scope: global` at one");
        }
        for limit in self.limits.iter().filter(|limit| limit.scope == ScopeSpec::Local) {
            for (tier, rates) in &limit.rates {
                for (index, rate) in rates.iter().enumerate() {
                    if rate.window() > MAX_LOCAL_WINDOW {
                        findings.at(
                            format!("{}/rates/{}/{index}/window", limit.pointer, segment(tier)),
                            format!(
                                "`{}` counts over more than an hour in the memory of one Envoy",
                                limit.name
                            ),
                            "a restart forgets it: prefer a window of at most 1h",
                        );
                    }
                }
            }
        }
    }
}

// === impl Limit ===

impl Limit {
    fn compile(spec: &LimitSpec, pointer: String, faults: &mut Faults) -> Self {
        if !is_name(&spec.name) {
            faults.at(
                format!("{pointer}/name"),
                format!("`{}` is not the name of a limit", spec.name),
                format!("write 1 to {MAX_NAME} letters, digits, `_`, `-` and `.`"),
            );
        }
        let key = compile_key(&spec.key, &format!("{pointer}/key"), faults);
        let rates_pointer = format!("{pointer}/rates");
        if !spec.rates.contains_key(DEFAULT_TIER) {
            faults.at(
                &rates_pointer,
                format!("`{}` has no rates for tiers that are not written", spec.name),
                "add `default`",
            );
        }
        if spec.rates.len() > MAX_TIERS {
            faults.at(
                &rates_pointer,
                format!("{} tiers", spec.rates.len()),
                format!("write at most {MAX_TIERS}"),
            );
        }
        let rates: BTreeMap<_, _> = spec
            .rates
            .iter()
            .map(|(tier, rates)| {
                let pointer = format!("{rates_pointer}/{}", segment(tier));
                (tier.clone(), compile_rates(rates, &pointer, faults))
            })
            .collect();
        Self {
            name: spec.name.clone(),
            table: if key.contains(&KeyPart::Source) { TableKind::Source } else { TableKind::Principal },
            when: Condition::compile(
                &spec.when,
                Section::When,
                &Schema::default(),
                &format!("{pointer}/when"),
                faults,
            ),
            scope: spec.scope,
            key,
            rates,
            pointer,
        }
    }
}

fn compile_key(words: &[String], pointer: &str, faults: &mut Faults) -> Vec<KeyPart> {
    if words.len() > MAX_KEY_PARTS {
        faults.at(pointer, format!("{} parts", words.len()), format!("write at most {MAX_KEY_PARTS}"));
    }
    let mut key = Vec::new();
    for (index, word) in words.iter().enumerate().take(MAX_KEY_PARTS) {
        match KeyPart::parse(word) {
            Some(part) if key.contains(&part) => faults.at(
                format!("{pointer}/{index}"),
                format!("`{word}` is there already"),
                "write each part once",
            ),
            Some(part) => key.push(part),
            None => faults.at(
                format!("{pointer}/{index}"),
                format!("nothing can be counted by `{word}`"),
                "write `principal`, `credential`, `source`, `model`, `action`, `route`, `profile`, `tier`, \
                 or an attribute such as `principal.org`",
            ),
        }
    }
    key
}

fn compile_rates(specs: &[RateSpec], pointer: &str, faults: &mut Faults) -> Vec<Rate> {
    if specs.is_empty() || specs.len() > MAX_RATES {
        faults.at(pointer, format!("{} rates", specs.len()), format!("write 1 to {MAX_RATES}"));
    }
    let mut rates = Vec::new();
    for (index, spec) in specs.iter().enumerate().take(MAX_RATES) {
        match Rate::new(spec.limit, spec.window.0, spec.burst.unwrap_or(spec.limit)) {
            Ok(rate) => rates.push(rate),
            Err(invalid) => faults.at(
                format!("{pointer}/{index}/{}", invalid.field()),
                invalid.to_string(),
                invalid.remedy(),
            ),
        }
    }
    rates
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// The rates of tiers without rates of their own.
pub(crate) const DEFAULT_TIER: &str = "default";

/// Beyond this a local window is found by `check`.
const MAX_LOCAL_WINDOW: std::time::Duration = std::time::Duration::from_secs(3600);

#[cfg(test)]
mod tests;
