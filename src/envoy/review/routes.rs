//! The route tables: who is let past the gate, which profiles are named, and where requests go.

use std::collections::BTreeMap;

use crate::envoy::place::Place;
use crate::envoy::review::Reviewer;
use crate::envoy::review::listeners::Ways;
use crate::envoy::rule::Rule;
use crate::filter::profile::{DEFAULT, RoutePattern};

/// Where a route table leads.
#[derive(Debug, Default)]
pub(super) struct Reached<'a> {
    /// `<virtual host>/<route name>` of every route.
    pub(super) names: Vec<String>,
    /// Clusters, and where the first way to each is written.
    pub(super) clusters: BTreeMap<&'a str, String>,
    /// Whether the table was there to look at.
    pub(super) whole: bool,
}

/// The namespace and the name of a profile in metadata.
const PROFILE: [&str; 3] = ["filter_metadata", "mlgate", "profile"];

// === impl Reached ===

impl<'a> Reached<'a> {
    /// The clusters of a route's action, or of a TCP proxy.
    pub(super) fn action(&mut self, action: &Place<'a>) {
        let weighted =
            action.get("weighted_clusters").map(|weighted| weighted.list("clusters")).unwrap_or_default();
        let names = weighted.iter().filter_map(|one| one.get("name")).chain(action.get("cluster"));
        for name in names {
            if let Some(text) = name.text() {
                self.clusters.entry(text).or_insert(name.pointer);
            }
        }
    }
}

// === impl Reviewer ===

impl<'a> Reviewer<'a> {
    /// The route table of a manager whose gates have these filter names; without any only where it leads.
    pub(super) fn routes(&mut self, manager: &Place<'a>, gates: &[&str]) -> Reached<'a> {
        let mut reached = Reached { whole: true, ..Reached::default() };
        if let Some(table) = manager.get("route_config") {
            self.table(&table, gates, &mut reached);
        } else if let Some(scoped) = manager.get("scoped_routes") {
            reached.whole = false;
            self.note(scoped.pointer, "scoped routes");
        } else if let Some(rds) = manager.get("rds") {
            let name = rds.text_of("route_config_name");
            let tables = self.parts.tables.clone();
            match tables.iter().find(|table| table.text_of("name") == name) {
                Some(table) => self.table(table, gates, &mut reached),
                None => {
                    reached.whole = false;
                    self.note(rds.pointer, format!("the routes `{name}`, delivered from elsewhere"));
                }
            }
        }
        reached
    }

    fn table(&mut self, table: &Place<'a>, gates: &[&str], reached: &mut Reached<'a>) {
        self.bypass(table, gates);
        if let Some(vhds) = table.get("vhds") {
            reached.whole = false;
            self.note(vhds.pointer, "virtual hosts, delivered from elsewhere");
        }
        for host in table.list("virtual_hosts") {
            self.bypass(&host, gates);
            self.profile(&host, gates);
            if let Some(matcher) = host.get("matcher") {
                reached.whole = false;
                self.note(matcher.pointer, "routes in a matcher");
            }
            for route in host.list("routes") {
                reached.names.push(format!("{}/{}", host.text_of("name"), route.text_of("name")));
                self.bypass(&route, gates);
                self.profile(&route, gates);
                let Some(action) = route.get("route") else { continue };
                reached.action(&action);
                self.redirects(&action, gates);
                let weighted = action.get("weighted_clusters").map(|weighted| weighted.list("clusters"));
                for one in weighted.unwrap_or_default() {
                    self.bypass(&one, gates);
                }
            }
        }
    }

    /// `typed_per_filter_config` that switches a gate off.
    fn bypass(&mut self, holder: &Place<'a>, gates: &[&str]) {
        let configs =
            holder.get("typed_per_filter_config").map(|configs| configs.members()).unwrap_or_default();
        for (name, config) in configs {
            let disabled =
                config.typed().is_some_and(|(kind, fields)| kind == "FilterConfig" && fields.is("disabled"));
            if disabled && gates.contains(&name) {
                self.find(Rule::FilterDisabled, config.below("disabled"), "this route is let past the gate");
            }
        }
    }

    fn profile(&mut self, holder: &Place<'a>, gates: &[&str]) {
        let Some(profile) = holder.get("metadata").and_then(|metadata| metadata.at(&PROFILE)) else { return };
        if gates.is_empty() {
            return;
        }
        let known = |name: &str| match &self.document.profiles {
            Some(profiles) => profiles.contains_key(name),
            None => name == DEFAULT,
        };
        match profile.text() {
            Some(name) if known(name) => {}
            Some(name) => {
                self.find(Rule::ProfileUnknown, profile.pointer, format!("there is no profile `{name}`"));
            }
            None => self.find(Rule::ProfileUnknown, profile.pointer, "not a text"),
        }
    }

    fn redirects(&mut self, action: &Place<'a>, gates: &[&str]) {
        let policy = action.get("internal_redirect_policy").or_else(|| {
            let handled = action.text_of("internal_redirect_action") == "HANDLE_INTERNAL_REDIRECT";
            action.get("internal_redirect_action").filter(|_| handled)
        });
        if let Some(policy) = policy.filter(|_| !gates.is_empty()) {
            self.find(Rule::InternalRedirect, policy.pointer, "Envoy follows redirects itself here");
        }
    }

    /// Routes that the configuration gives a profile.
    pub(super) fn mapped_routes(&mut self, ways: &Ways<'a>) {
        for route in self.document.routes.keys() {
            let pattern = RoutePattern::new(route);
            if !ways.whole {
                self.note(
                    "",
                    format!("whether there is a route `{route}`, which the configuration gives a profile"),
                );
            } else if !ways.routes.iter().any(|name| pattern.matches(name)) {
                let pointer = format!("/routes/{}", crate::config::faults::segment(route));
                self.find_in_configuration(
                    Rule::RouteUnknown,
                    pointer,
                    format!("the file has no route `{route}`"),
                );
            }
        }
    }
}
