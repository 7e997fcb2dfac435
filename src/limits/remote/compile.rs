//! The words of global limits and of their service become [`Service`], or all of their faults.

use crate::config::faults::{Faults, segment};
use crate::limits::key::KeyPart;
use crate::limits::remote::{MAX_CLUSTER, MAX_GLOBAL, MAX_TIMEOUT, MAX_WORD, Service};
use crate::limits::spec::{LimitSpec, ScopeSpec, ServiceSpec};

/// Compiles `rate_limit_service`.
pub(in crate::limits) fn service(spec: &ServiceSpec, pointer: &str, faults: &mut Faults) -> Service {
    if spec.cluster.len() > MAX_CLUSTER {
        faults.at(
            format!("{pointer}/cluster"),
            format!("a name of {} bytes", spec.cluster.len()),
            format!("give the cluster a name of at most {MAX_CLUSTER} bytes"),
        );
    }
    if !is_word(&spec.domain) {
        faults.at(
            format!("{pointer}/domain"),
            format!("`{}` is not a domain that every service takes", spec.domain),
            word_remedy(),
        );
    }
    if spec.timeout.0 > MAX_TIMEOUT {
        faults.at(
            format!("{pointer}/timeout"),
            "every request would wait so long for a service that hangs",
            format!("write at most {}s", MAX_TIMEOUT.as_secs()),
        );
    }
    Service {
        cluster: spec.cluster.clone(),
        domain: spec.domain.clone(),
        timeout: spec.timeout.0,
        failure_mode: spec.failure_mode,
    }
}

/// Checks what is only true of global limits.
pub(in crate::limits) fn check(specs: &[LimitSpec], has_service: bool, faults: &mut Faults) {
    let global = || specs.iter().enumerate().filter(|(_, spec)| spec.scope == ScopeSpec::Global);
    if global().count() > MAX_GLOBAL {
        faults.at(
            "/limits",
            format!("{} limits with `scope: global`", global().count()),
            format!("write at most {MAX_GLOBAL}"),
        );
    }
    for (index, spec) in global() {
        let pointer = format!("/limits/{index}");
        if !has_service {
            faults.at(
                format!("{pointer}/scope"),
                "there is no service that could count for all Envoys",
                "write `rate_limit_service`, or `scope: local`",
            );
        }
        check_key(spec, &pointer, faults);
        for tier in spec.rates.keys() {
            check_rates(spec, tier, &format!("{pointer}/rates/{}", segment(tier)), faults);
        }
    }
}

/// Keys of entries stand in the service's own file.
fn check_key(spec: &LimitSpec, pointer: &str, faults: &mut Faults) {
    for (index, word) in spec.key.iter().enumerate() {
        if KeyPart::parse(word).is_some() && !is_word(word) {
            faults.at(
                format!("{pointer}/key/{index}"),
                format!("`{word}` is not a key that every service takes"),
                word_remedy(),
            );
        }
    }
}

fn check_rates(spec: &LimitSpec, tier: &str, pointer: &str, faults: &mut Faults) {
    if !is_word(tier) {
        faults.at(pointer, format!("`{tier}` is not a tier that every service takes"), word_remedy());
    }
    let rates = spec.rates.get(tier).map(Vec::as_slice).unwrap_or_default();
    for (index, rate) in rates.iter().enumerate() {
        if rate.burst.is_some() {
            faults.at(
                format!("{pointer}/{index}/burst"),
                "a service counts fixed windows and knows no burst",
                "leave it out, or write `scope: local`",
            );
        }
        if rate.window.0.subsec_nanos() > 0 {
            faults.at(
                format!("{pointer}/{index}/window"),
                "a service counts whole seconds",
                "write at least 1s, or `scope: local`",
            );
        }
        if rates.iter().take(index).any(|earlier| earlier.window.0 == rate.window.0) {
            faults.at(
                format!("{pointer}/{index}/window"),
                "another rate of this tier has the same window, by which the service tells them apart",
                "keep the lower one",
            );
        }
    }
}

/// Texts of the configuration that stand in the service's own file, whatever its language.
fn is_word(text: &str) -> bool {
    (1..=MAX_WORD).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

fn word_remedy() -> String {
    format!("write 1 to {MAX_WORD} letters, digits, `_`, `-` and `.`")
}

#[cfg(test)]
mod tests;
