//! A document becomes findings: what the gate loads, but its writer probably did not mean.
//!
//! A fault refuses a document everywhere and at any time; a finding depends on the clock, on the machine, or on taste.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::config::document::{Document, ProfileSpec};
use crate::config::faults::{Faults, segment};
use crate::identity::spec::{EnvKeySpec, PeerValidation};
use crate::policy::spec::{EffectSpec, ModeSpec, PolicySpec};
use crate::resource::presets;
use crate::time::UnixTime;

mod policies;

#[cfg(test)]
mod tests;

/// Variables of the environment that the document names, each with its pointer.
pub fn variables(document: &Document) -> Vec<(String, &str)> {
    let fixed: [(&str, &[EnvKeySpec]); 4] = [
        ("/authentication/api_key/peppers", &document.authentication.api_key.peppers),
        ("/audit/chain/keys", &document.audit.chain.keys),
        ("/audit/digest/keys", &document.audit.digest.keys),
        ("/shared_data/keys", &document.shared_data.keys),
    ];
    let providers = document.authentication.jwt.providers.iter().enumerate().map(|(index, provider)| {
        let pointer = format!("/authentication/jwt/providers/{index}/hmac_secrets");
        (pointer, provider.hmac_secrets.as_slice())
    });
    let endpoints = document.authentication.introspection.iter().enumerate().map(|(index, endpoint)| {
        let pointer = format!("/authentication/introspection/{index}/client_secret_env");
        (pointer, endpoint.client_secret_env.as_str())
    });
    let lists = fixed.map(|(pointer, keys)| (pointer.to_owned(), keys)).into_iter().chain(providers);
    lists
        .flat_map(|(pointer, keys)| {
            let each = keys.iter().enumerate();
            each.map(move |(index, key)| (format!("{pointer}/{index}/env"), key.env.as_str()))
        })
        .chain(endpoints)
        .collect()
}

/// Variables of the environment that the document names and `value` does not know.
pub fn environment(document: &Document, value: &dyn Fn(&str) -> Option<String>, found: &mut Faults) {
    for (pointer, name) in variables(document) {
        if value(name).is_none_or(|value| value.is_empty()) {
            found.at(
                pointer,
                format!("the environment variable `{name}` is missing or empty here"),
                "the gate must have it; give it to this command with `--env`",
            );
        }
    }
}

/// What certificates need of the proxy, where there is no document of it to look at.
pub fn certificates(document: &Document, found: &mut Faults) {
    const POINTER: &str = "/authentication/mtls/peer_validation";
    const LOOK: &str = "give the proxy's document to this command with `--envoy`";
    match document.authentication.mtls.as_ref().map(|mtls| mtls.peer_validation) {
        Some(PeerValidation::Attribute) => {
            found.at(POINTER, "`attribute` needs Envoy 1.39, and a listener that resumes no sessions", LOOK);
        }
        Some(PeerValidation::Listener) => {
            found.at(
                POINTER,
                "under `listener` nobody but the operator says that certificates are verified",
                LOOK,
            );
        }
        None => {}
    }
}

/// Everything else.
pub fn find(document: &Document, now: UnixTime, found: &mut Faults) {
    keys(document, now, found);
    published(document, found);
    audit(document, found);
    lists(document, found);
    grants(document, found);
    dead(document, found);
    policies::find(document, found);
    profiles(document, found);
}

/// Credentials that nobody can use.
fn keys(document: &Document, now: UnixTime, found: &mut Faults) {
    for (index, consumer) in document.consumers.iter().enumerate() {
        for (number, key) in consumer.credentials.api_keys.iter().enumerate() {
            if let Some(end) = key.not_after.filter(|end| end.0 <= now) {
                found.at(
                    format!("/consumers/{index}/credentials/api_keys/{number}/not_after"),
                    format!("the key `{}` of `{}` expired at {}", key.id, consumer.name, end.0),
                    "take it out, or make a new one with `mlgate key new`",
                );
            }
        }
    }
}

/// Keys that issuers publish, where somebody could come between, or every worker has to ask for itself.
fn published(document: &Document, found: &mut Faults) {
    let providers = document.authentication.jwt.providers.iter().enumerate();
    let mut any = false;
    for (index, provider) in providers {
        let places = [
            ("remote_jwks", provider.remote_jwks.as_ref().map(|remote| Some(remote.uri.as_str()))),
            ("discovery", provider.discovery.as_ref().map(|discovery| discovery.uri.as_deref())),
        ];
        for (word, uri) in places.into_iter().filter_map(|(word, uri)| Some((word, uri?))) {
            any = true;
            let (at, uri) = match uri {
                Some(uri) => (format!("{word}/uri"), uri),
                None => (String::from("issuer"), provider.issuer.as_str()),
            };
            if uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://")) {
                found.at(
                    format!("/authentication/jwt/providers/{index}/{at}"),
                    format!("whoever is between here and `{}` could let anybody in", provider.name),
                    "write `https`, and give the cluster TLS that verifies the server",
                );
            }
        }
    }
    if any && document.shared_data.keys.is_empty() {
        found.at(
            "/shared_data/keys",
            "without a key no worker believes what another has fetched: each asks the issuers for itself",
            "write `keys` with a secret of the environment",
        );
    }
}

/// Evidence that is weaker than it could be.
fn audit(document: &Document, found: &mut Faults) {
    if document.audit.chain.unkeyed {
        found.at(
            "/audit/chain/unkeyed",
            "anybody could have written an unkeyed chain",
            "write `keys` with a secret of the environment",
        );
    }
    let digest = &document.audit.digest;
    if digest.keys.is_empty() && (digest.inputs || digest.outputs) {
        found.at(
            "/audit/digest",
            "digests without a key tell what a small body was to anybody who tries all of them",
            "write `keys` with a secret of the environment",
        );
    }
}

/// Lists that each worker must poll for itself.
fn lists(document: &Document, found: &mut Faults) {
    let authentication = &document.authentication;
    let polled = [
        ("/authentication/revocation/cluster", authentication.revocation.cluster.is_some()),
        ("/authentication/credentials_list/cluster", authentication.credentials_list.is_some()),
    ];
    for (pointer, _) in
        polled.iter().filter(|(_, is_polled)| *is_polled && document.shared_data.keys.is_empty())
    {
        found.at(
            *pointer,
            "without a key of `shared_data` each worker polls this list for itself",
            "write `shared_data.keys` with a secret of the environment",
        );
    }
}

/// Grants that are broader than anybody needs.
fn grants(document: &Document, found: &mut Faults) {
    const NARROW: &str = "name the actions, or the resources";
    for (name, role) in &document.authorization.roles {
        for (index, permission) in role.permissions.iter().enumerate() {
            let of = |word: &str| permission.get(word);
            let any = match permission {
                Json::String(action) => action == "*",
                _ => of("actions").and_then(Json::as_array).is_some_and(|a| a.iter().any(|a| a == "*")),
            };
            let limited = ["resource", "when"]
                .iter()
                .any(|word| of(word).and_then(Json::as_object).is_some_and(|patterns| !patterns.is_empty()));
            if any && !limited {
                found.at(
                    format!("/authorization/roles/{}/permissions/{index}", segment(name)),
                    format!("the role `{name}` may do everything"),
                    NARROW,
                );
            }
        }
    }
    for (index, policy) in enforced(document).filter(|(_, policy)| policy.effect == EffectSpec::Allow) {
        let any = policy.action.as_ref().is_none_or(|actions| actions.iter().any(|action| action == "*"));
        if any && policy.resource.is_empty() && policy.when.is_empty() {
            let who = if policy.principal.is_empty() { "everybody" } else { "whom it names" };
            found.at(
                format!("/authorization/policies/{index}"),
                format!("`{}` lets {who} do everything", policy.name),
                NARROW,
            );
        }
    }
}

/// What no request can match.
fn dead(document: &Document, found: &mut Faults) {
    const TYPING: &str = "correct the name, or add what it means";
    let (kinds, actions) = offered(document);
    let unknown = |known: &BTreeSet<&str>, name: &str| !name.contains(['*', '{']) && !known.contains(name);
    for (name, role) in &document.authorization.roles {
        for (index, permission) in role.permissions.iter().enumerate() {
            let names: Vec<&str> = match permission {
                Json::String(action) => vec![action],
                _ => permission.get("actions").map(texts).unwrap_or_default(),
            };
            for action in names.into_iter().filter(|action| unknown(&actions, action)) {
                found.at(
                    format!("/authorization/roles/{}/permissions/{index}", segment(name)),
                    format!("no rule has the action `{action}`"),
                    TYPING,
                );
            }
        }
    }
    let roles: BTreeSet<&str> = document.authorization.roles.keys().map(String::as_str).collect();
    for (index, policy) in enforced(document) {
        let mut never = |at: &str, what: String| {
            let pointer = format!("/authorization/policies/{index}/{at}");
            found.at(pointer, format!("`{}` can never match: {what}", policy.name), TYPING);
        };
        if let Some(named) =
            policy.action.as_ref().filter(|names| names.iter().all(|name| unknown(&actions, name)))
        {
            never("action", format!("no rule has the action {}", quoted(named)));
        }
        let clauses = [
            ("principal/roles", policy.principal.get("roles"), &roles, "there is no role"),
            ("when/principal.roles", policy.when.get("principal.roles"), &roles, "there is no role"),
            ("resource/type", policy.resource.get("type"), &kinds, "no rule has the type"),
            ("when/resource.type", policy.when.get("resource.type"), &kinds, "no rule has the type"),
        ];
        for (at, pattern, known, what) in clauses {
            let named = pattern.map(texts).unwrap_or_default();
            if !named.is_empty() && named.iter().all(|name| unknown(known, name)) {
                never(at, format!("{what} {}", quoted(&named)));
            }
        }
    }
}

/// Profiles that leave a deny out.
fn profiles(document: &Document, found: &mut Faults) {
    for (name, profile) in document.profiles.iter().flatten() {
        for (_, policy) in enforced(document).filter(|(_, policy)| policy.effect == EffectSpec::Deny) {
            let at = match left_out(profile, policy) {
                Some(at) => format!("/profiles/{}/{at}", segment(name)),
                None => continue,
            };
            found.at(
                at,
                format!("the profile `{name}` leaves out `{}`, which denies", policy.name),
                "name it among the policies of the profile",
            );
        }
    }
}

/// The word by which a profile leaves a policy out. One that authorises nobody says so itself.
fn left_out(profile: &ProfileSpec, policy: &PolicySpec) -> Option<&'static str> {
    let policies = profile.policies.as_ref().filter(|_| profile.authorize.is_none())?;
    let named = policies.as_array().is_some_and(|names| {
        names.iter().filter_map(Json::as_str).any(|name| match name.strip_suffix('*') {
            Some(prefix) => policy.name.starts_with(prefix),
            None => policy.name == name,
        })
    });
    (!named).then_some("policies")
}

fn enforced(document: &Document) -> impl Iterator<Item = (usize, &PolicySpec)> {
    document.authorization.policies.iter().enumerate().filter(|(_, policy)| policy.mode == ModeSpec::Enforce)
}

/// Types of resources and actions that some rule gives a request. A captured type may be any.
fn offered(document: &Document) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let (mut kinds, mut actions) = (BTreeSet::new(), BTreeSet::new());
    for rule in &document.resources.rules {
        kinds.extend(rule.resource.iter().map(|resource| resource.kind.as_str()));
        actions.extend(rule.action.as_deref());
        for rule in rule.preset.as_deref().and_then(presets::preset).into_iter().flatten() {
            kinds.insert(rule.kind);
            actions.insert(rule.action);
        }
    }
    (kinds, actions)
}

/// The texts of a pattern; nothing where it is not only of texts.
fn texts(pattern: &Json) -> Vec<&str> {
    match pattern {
        Json::Array(items) => items.iter().map(Json::as_str).collect::<Option<Vec<_>>>().unwrap_or_default(),
        other => other.as_str().into_iter().collect(),
    }
}

fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}
