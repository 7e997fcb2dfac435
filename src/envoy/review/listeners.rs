//! The connection managers: which run the gate, what they do with a request before it, and ways around it.

use std::collections::BTreeMap;

use crate::envoy::place::Place;
use crate::envoy::review::Reviewer;
use crate::envoy::review::gate::Gate;
use crate::envoy::review::routes::Reached;
use crate::envoy::rule::Rule;
use crate::identity::spec::SourceTrust;

/// What the listeners together lead to.
#[derive(Debug, Default)]
pub(super) struct Ways<'a> {
    /// Every gate, in the order of the file.
    gates: Vec<Gate<'a>>,
    /// Names of the routes behind a gate: `<virtual host>/<route name>`.
    pub(super) routes: Vec<String>,
    /// Clusters behind a gate.
    gated: Vec<&'a str>,
    /// Clusters that some way without a gate leads to, and where it does.
    open: BTreeMap<&'a str, String>,
    /// Whether every route table and every filter was there to look at.
    pub(super) whole: bool,
}

/// What one HTTP filter is.
enum Filter<'a> {
    Gate(Gate<'a>),
    Other,
    /// Delivered from elsewhere.
    Unseen,
}

// === impl Ways ===

impl<'a> Ways<'a> {
    /// A way without a gate.
    fn open(&mut self, reached: Reached<'a>) {
        for (name, at) in reached.clusters {
            self.open.entry(name).or_insert(at);
        }
    }
}

// === impl Reviewer ===

impl<'a> Reviewer<'a> {
    pub(super) fn listeners(&mut self) {
        let mut ways = Ways { whole: true, ..Ways::default() };
        for listener in self.parts.listeners.clone() {
            let chains =
                listener.list("filter_chains").into_iter().chain(listener.get("default_filter_chain"));
            for chain in chains {
                for filter in chain.list("filters") {
                    self.network_filter(&chain, &filter, &mut ways);
                }
            }
        }
        ways.whole &= !self.review.not_checked.iter().any(|note| note.what.starts_with("listeners"));
        if ways.gates.is_empty() && ways.whole {
            self.find(Rule::NoGate, "", "none of its listeners runs mlgate");
        }
        let gates = std::mem::take(&mut ways.gates);
        self.gates(&gates);
        for (cluster, pointer) in &ways.open {
            if ways.gated.contains(cluster) {
                self.find(
                    Rule::PassesBy,
                    pointer,
                    format!("`{cluster}` can be reached here without the gate"),
                );
            }
        }
        if !gates.is_empty() {
            self.mapped_routes(&ways);
        }
    }

    fn network_filter(&mut self, chain: &Place<'a>, filter: &Place<'a>, ways: &mut Ways<'a>) {
        if let Some(discovery) = filter.get("config_discovery") {
            ways.whole = false;
            return self.note(discovery.pointer, "a network filter, delivered from elsewhere");
        }
        match filter.get("typed_config").and_then(|config| config.typed()) {
            Some(("HttpConnectionManager", manager)) => self.manager(chain, &manager, ways),
            Some(("TcpProxy", proxy)) => {
                let mut reached = Reached::default();
                reached.action(&proxy);
                ways.open(reached);
            }
            _ => {}
        }
    }

    fn manager(&mut self, chain: &Place<'a>, manager: &Place<'a>, ways: &mut Ways<'a>) {
        let mut gates = Vec::new();
        let mut unseen = false;
        for filter in manager.list("http_filters") {
            match self.http_filter(&filter) {
                Filter::Gate(gate) => gates.push((filter, gate)),
                Filter::Unseen => unseen = true,
                Filter::Other => {}
            }
        }
        ways.whole &= !unseen;
        let names: Vec<&str> = gates.iter().map(|(filter, _)| filter.text_of("name")).collect();
        let reached = self.routes(manager, &names);
        ways.whole &= reached.whole;
        if gates.is_empty() {
            if !unseen {
                ways.open(reached);
                self.note(&manager.pointer, "a listener without the gate: whoever reaches it is not asked");
            }
            return;
        }
        for (filter, _) in &gates {
            self.switched_off(filter);
        }
        self.paths(manager);
        self.forwarded_certificates(manager);
        self.timeouts(manager);
        self.sources(manager);
        self.upgrades(manager);
        self.certificates(chain);
        ways.gates.extend(gates.into_iter().map(|(_, gate)| gate));
        ways.gated.extend(reached.clusters.keys());
        ways.routes.extend(reached.names);
    }

    /// What an HTTP filter is; ways in which it might be a gate only sometimes are found here.
    fn http_filter(&mut self, filter: &Place<'a>) -> Filter<'a> {
        if let Some(discovery) = filter.get("config_discovery") {
            let name = filter.text_of("name");
            let delivered = self.parts.extensions.iter().find(|one| one.text_of("name") == name).cloned();
            let gate = delivered.as_ref().and_then(|one| one.config("Wasm")).and_then(|wasm| Gate::of(&wasm));
            if delivered.is_none() {
                let what = format!("the HTTP filter `{name}`, delivered from elsewhere");
                self.note(&discovery.pointer, what);
            }
            if let Some(default) = discovery.get("default_config") {
                let is_gate =
                    default.typed().is_some_and(|(kind, wasm)| kind == "Wasm" && Gate::of(&wasm).is_some());
                if !is_gate && (gate.is_some() || name.contains("mlgate")) {
                    let what = "until the gate is delivered, this filter stands in its place";
                    self.find(Rule::FilterConditional, default.pointer, what);
                }
            }
            return match (gate, delivered) {
                (Some(gate), _) => Filter::Gate(gate),
                (None, Some(_)) => Filter::Other,
                (None, None) => Filter::Unseen,
            };
        }
        match filter.get("typed_config").and_then(|config| config.typed()) {
            Some(("Wasm", wasm)) => Gate::of(&wasm).map_or(Filter::Other, Filter::Gate),
            Some(("ExtensionWithMatcher", matched)) => {
                let inner = matched.at(&["extension_config", "typed_config"]);
                match inner.and_then(|config| config.typed()).and_then(|(_, wasm)| Gate::of(&wasm)) {
                    Some(gate) => {
                        self.find(
                            Rule::FilterConditional,
                            matched.pointer,
                            "a matcher stands around the gate",
                        );
                        Filter::Gate(gate)
                    }
                    None => Filter::Other,
                }
            }
            Some(("Router", router)) => {
                for inner in router.list("upstream_http_filters") {
                    if inner.config("Wasm").and_then(|wasm| Gate::of(&wasm)).is_some() {
                        self.find(
                            Rule::FilterUpstream,
                            inner.pointer,
                            "the gate is among the router's filters",
                        );
                    }
                }
                Filter::Other
            }
            _ => Filter::Other,
        }
    }

    fn switched_off(&mut self, filter: &Place<'a>) {
        if filter.is("disabled") {
            self.find(
                Rule::FilterDisabled,
                filter.below("disabled"),
                "the gate runs only on routes that ask for it",
            );
        }
        if filter.is("is_optional") {
            self.find(Rule::FilterOptional, filter.below("is_optional"), "the gate may be ignored");
        }
    }

    fn paths(&mut self, manager: &Place<'a>) {
        for flag in ["normalize_path", "merge_slashes"] {
            if !manager.is(flag) {
                self.find(Rule::PathNotNormalized, manager.below(flag), format!("`{flag}` is not `true`"));
            }
        }
        let names = [
            "IMPLEMENTATION_SPECIFIC_DEFAULT",
            "KEEP_UNCHANGED",
            "REJECT_REQUEST",
            "UNESCAPE_AND_REDIRECT",
            "UNESCAPE_AND_FORWARD",
        ];
        let field = "path_with_escaped_slashes_action";
        let chosen = manager.choice(field, &names);
        if !matches!(chosen, Some("KEEP_UNCHANGED" | "REJECT_REQUEST")) {
            let what = format!("the action is `{}`", chosen.unwrap_or("unknown"));
            self.find(Rule::EscapedSlashes, manager.below(field), what);
        }
    }

    fn timeouts(&mut self, manager: &Place<'a>) {
        for name in ["request_headers_timeout", "request_timeout"] {
            if !manager.lasts(name) {
                self.find(Rule::TimeoutMissing, manager.below(name), format!("there is no `{name}`"));
            }
        }
        // five minutes where nothing is written
        let idle = "stream_idle_timeout";
        if manager.get(idle).is_some() && !manager.lasts(idle) {
            self.find(Rule::TimeoutMissing, manager.below(idle), format!("`{idle}` is off"));
        }
    }

    fn sources(&mut self, manager: &Place<'a>) {
        let by_key = |consumer: &crate::identity::spec::ConsumerSpec| {
            consumer.credentials.api_keys.iter().any(|key| key.source_ranges.is_some())
        };
        let by_source =
            self.document.limits.iter().any(|limit| limit.key.iter().any(|part| part == "source"))
                || self.document.consumers.iter().any(by_key);
        let detected = !manager.list("original_ip_detection_extensions").is_empty();
        if by_source
            && !detected
            && self.document.authentication.source.trust == SourceTrust::Peer
            && !manager.is("use_remote_address")
        {
            self.find(
                Rule::SourceForged,
                manager.below("use_remote_address"),
                "`use_remote_address` is not `true`",
            );
        }
    }

    /// An upgrade may have filters of its own.
    fn upgrades(&mut self, manager: &Place<'a>) {
        for upgrade in manager.list("upgrade_configs") {
            let filters = upgrade.list("filters");
            let gated =
                filters.iter().any(|filter| filter.config("Wasm").and_then(|wasm| Gate::of(&wasm)).is_some());
            if !filters.is_empty() && !gated {
                let what = format!(
                    "upgrades to `{}` have filters of their own, without the gate",
                    upgrade.text_of("upgrade_type")
                );
                self.find(Rule::FilterDisabled, upgrade.below("filters"), what);
            }
        }
    }
}
