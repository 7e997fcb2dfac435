//! The routes that a configuration gives profiles → virtual hosts. Their names are the configuration's; what they match is
//! a place to begin.

use std::collections::BTreeSet;

use crate::config::document::Document;
use crate::config::tree::Node;
use crate::envoy::node::{list, object, text};

/// A virtual host without a name in the configuration, and the route that takes what no other takes.
const HOST: &str = "models";
const REST: &str = "all";

/// One virtual host for each that `routes` names, each with its routes and one for the rest.
pub(super) fn hosts(document: &Document, upstream: &str) -> Node {
    let mut hosts: Vec<(String, Vec<(String, Node)>)> = Vec::new();
    for (pattern, profile) in &document.routes {
        let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
        let (host, route) = prefix.split_once('/').unwrap_or((prefix, ""));
        let host = if host.is_empty() { HOST } else { host };
        let known = hosts.iter().position(|(name, _)| name == host).unwrap_or_else(|| {
            hosts.push((host.to_owned(), Vec::new()));
            hosts.len().saturating_sub(1)
        });
        let Some((_, routes)) = hosts.get_mut(known) else { continue };
        if !route.is_empty() && route != REST && routes.iter().all(|(name, _)| name != route) {
            routes.push((route.to_owned(), one(document, route, profile, upstream)));
        }
    }
    if hosts.is_empty() {
        hosts.push((HOST.to_owned(), Vec::new()));
    }
    let mut domains = BTreeSet::new();
    list(hosts.into_iter().enumerate().map(|(index, (name, routes))| {
        // only one may take every name; the others are to be told apart by theirs
        let domain = match index {
            0 => String::from("*"),
            _ => format!("{}.example", letters(&name).to_ascii_lowercase()),
        };
        let domain = if domains.insert(domain.clone()) { domain } else { format!("host-{index}.example") };
        let rest = object([
            ("name", text(REST)),
            ("match", object([("prefix", text("/"))])),
            ("route", forward(upstream)),
        ]);
        let routes = routes.into_iter().map(|(_, route)| route).chain([rest]);
        object([("name", text(&name)), ("domains", list([text(&domain)])), ("routes", list(routes))])
    }))
}

fn one(document: &Document, name: &str, profile: &str, upstream: &str) -> Node {
    let spec = document.profiles.as_ref().and_then(|profiles| profiles.get(profile));
    let path = spec.and_then(|spec| spec.matches.as_ref()).and_then(|matches| matches.path.as_deref());
    let matches = match path {
        Some(path) if path.contains('{') => ("safe_regex", object([("regex", text(&regex(path)))])),
        Some(path) => ("path", text(path)),
        None => ("prefix", text(&format!("/{}/", letters(name)))),
    };
    object([("name", text(name)), ("match", object([matches])), ("route", forward(upstream))])
}

/// No end for answers of a model that streams; an end for silence.
fn forward(upstream: &str) -> Node {
    object([("cluster", text(upstream)), ("timeout", text("0s")), ("idle_timeout", text("120s"))])
}

/// A path with captures as RE2 reads it.
fn regex(path: &str) -> String {
    let mut regex = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        regex.push_str(&escaped(before));
        regex.push_str("[^/]+");
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    regex.push_str(&escaped(rest));
    regex
}

fn escaped(text: &str) -> String {
    let mut whole = String::new();
    for letter in text.chars() {
        if !letter.is_ascii_alphanumeric() && !matches!(letter, '/' | '_' | '-') && letter.is_ascii() {
            whole.push('\\');
        }
        whole.push(letter);
    }
    whole
}

/// What may stand in a path and in a host.
fn letters(text: &str) -> String {
    let letters: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
    if letters.is_empty() { String::from("-") } else { letters }
}
