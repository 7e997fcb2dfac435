//! The gate itself in an Envoy document: the plugin, its VM, and the configuration that it is given.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use crate::config::faults::segment;
use crate::config::findings;
use crate::config::tree::{Kind, Tree};
use crate::envoy::CAPABILITIES;
use crate::envoy::place::Place;
use crate::envoy::review::Reviewer;
use crate::envoy::rule::Rule;
use crate::resource::spec::PeekSpec;

/// One plugin that is a gate.
#[derive(Clone, Debug)]
pub(super) struct Gate<'a> {
    /// Its `PluginConfig`.
    pub(super) plugin: Place<'a>,
    /// What it is configured with.
    inline: Inline,
    /// Where that stands.
    pointer: String,
}

/// A configuration inside an Envoy document.
#[derive(Clone, Debug)]
enum Inline {
    Absent,
    Read(Tree),
    Unread(String),
}

/// Words by which a plugin whose configuration cannot be read is taken for a gate.
const NAME: &str = "mlgate";

// === impl Gate ===

impl<'a> Gate<'a> {
    /// A Wasm filter's `config`, where it is a gate.
    pub(super) fn of(wasm: &Place<'a>) -> Option<Self> {
        let plugin = wasm.get("config")?;
        let (inline, pointer) = inline(&plugin);
        let ours = match &inline {
            Inline::Read(tree) => {
                let root = Place::root(tree.root());
                root.get("version").is_some() && root.get("authorization").is_some()
            }
            Inline::Absent | Inline::Unread(_) => false,
        };
        let vm = plugin.get("vm_config");
        let file =
            vm.as_ref().and_then(|vm| vm.at(&["code", "local", "filename"])).and_then(|file| file.text());
        let uri = vm
            .as_ref()
            .and_then(|vm| vm.at(&["code", "remote", "http_uri", "uri"]))
            .and_then(|uri| uri.text());
        let named = [
            plugin.text_of("name"),
            plugin.text_of("root_id"),
            file.unwrap_or_default(),
            uri.unwrap_or_default(),
        ];
        (ours || named.iter().any(|text| text.contains(NAME))).then_some(Self { plugin, inline, pointer })
    }

    /// `name` of its configuration.
    fn name(&self) -> Option<String> {
        let Inline::Read(tree) = &self.inline else { return None };
        Place::root(tree.root()).get("name").and_then(|name| name.text()).map(str::to_owned)
    }

    fn revision(&self) -> Option<String> {
        let Inline::Read(tree) = &self.inline else { return None };
        tree.policy_revision().ok()
    }

    fn vm_id(&self) -> String {
        self.plugin.get("vm_config").map(|vm| vm.text_of("vm_id").to_owned()).unwrap_or_default()
    }
}

// === impl Reviewer ===

impl<'a> Reviewer<'a> {
    /// Everything about each gate. Gives those that run the configuration under review.
    pub(super) fn gates(&mut self, gates: &[Gate<'a>]) {
        let own = |gate: &Gate<'_>| gate.name().is_none_or(|name| name == self.document.name);
        let any_own = gates.iter().any(own);
        let mine: Vec<bool> = gates.iter().map(|gate| own(gate) || !any_own).collect();
        for (gate, mine) in gates.iter().zip(mine) {
            self.plugin(gate);
            if mine {
                self.runs_the_configuration(gate);
                self.stop_iteration(gate);
                self.environment(gate);
            } else {
                let name = gate.name().unwrap_or_default();
                self.note(
                    &gate.pointer,
                    format!("another gate, `{name}`: check it with its own configuration"),
                );
            }
        }
        for (index, gate) in gates.iter().enumerate() {
            let before = gates.iter().take(index);
            let collides = |other: &Gate<'_>| {
                gate.name().is_some()
                    && gate.name() == other.name()
                    && gate.vm_id() == other.vm_id()
                    && gate.revision() != other.revision()
            };
            if before.clone().any(collides) {
                let name = gate.name().unwrap_or_default();
                self.find(
                    Rule::GatesCollide,
                    &gate.pointer,
                    format!("another gate is called `{name}` too, in the same `vm_id`"),
                );
            }
        }
    }

    fn plugin(&mut self, gate: &Gate<'a>) {
        let plugin = &gate.plugin;
        let policy =
            plugin.choice("failure_policy", &["UNSPECIFIED", "FAIL_RELOAD", "FAIL_CLOSED", "FAIL_OPEN"]);
        if plugin.is("fail_open") {
            self.find(Rule::FailOpen, plugin.below("fail_open"), "`fail_open` is set");
        }
        match policy {
            Some("FAIL_RELOAD") => {}
            Some("FAIL_OPEN") => {
                self.find(Rule::FailOpen, plugin.below("failure_policy"), "the policy is `FAIL_OPEN`");
            }
            policy => {
                let what = format!("the policy is `{}`", policy.unwrap_or("unknown"));
                self.find(Rule::FailReload, plugin.below("failure_policy"), what);
            }
        }
        let Some(vm) = plugin.get("vm_config") else {
            return self.find(Rule::VmIdEmpty, plugin.below("vm_config"), "there is no `vm_config`");
        };
        if vm.text_of("vm_id").is_empty() {
            self.find(Rule::VmIdEmpty, vm.below("vm_id"), "there is no `vm_id`");
        }
        if let Some(remote) = vm.at(&["code", "remote"]) {
            let digest = remote.text_of("sha256");
            if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                self.find(Rule::CodeUnpinned, remote.below("sha256"), "there is no SHA-256 of the code");
            }
        }
        self.capabilities(plugin, &vm);
    }

    fn capabilities(&mut self, plugin: &Place<'a>, vm: &Place<'a>) {
        // in the VM's configuration since Envoy 1.40, beside it before
        for holder in [vm, plugin] {
            let Some(list) = holder.at(&["capability_restriction_config", "allowed_capabilities"]) else {
                continue;
            };
            let allowed: Vec<&str> = list.members().into_iter().map(|(name, _)| name).collect();
            let missing: Vec<String> = CAPABILITIES
                .iter()
                .filter(|name| !allowed.is_empty() && !allowed.contains(name))
                .map(|name| format!("`{name}`"))
                .collect();
            if !missing.is_empty() {
                self.find(
                    Rule::CapabilityMissing,
                    list.pointer,
                    format!("not allowed: {}", missing.join(", ")),
                );
            }
        }
    }

    fn runs_the_configuration(&mut self, gate: &Gate<'a>) {
        let what = match &gate.inline {
            Inline::Absent => String::from("there is no configuration"),
            Inline::Unread(why) => why.clone(),
            Inline::Read(tree)
                if tree.policy_revision().ok() == self.configuration.policy_revision().ok() =>
            {
                return;
            }
            Inline::Read(tree) => {
                let place = difference(&tree.to_json(), &self.configuration.to_json(), "");
                format!(
                    "first at `{}`",
                    place.filter(|place| !place.is_empty()).unwrap_or_else(|| "/".to_owned())
                )
            }
        };
        self.find(Rule::ConfigurationDiffers, &gate.pointer, what);
    }

    fn stop_iteration(&mut self, gate: &Gate<'a>) {
        const FLAG: &str = "allow_on_headers_stop_iteration";
        let (holds, allowed) = (self.document.resources.body.peek == PeekSpec::Hold, gate.plugin.is(FLAG));
        if holds && !allowed {
            self.find(
                Rule::StopIterationMissing,
                gate.plugin.below(FLAG),
                "the configuration has `peek: hold`",
            );
        }
        if allowed && !holds {
            self.find(
                Rule::StopIterationUnneeded,
                gate.plugin.below(FLAG),
                "the configuration has no `peek: hold`",
            );
        }
    }

    fn environment(&mut self, gate: &Gate<'a>) {
        let variables = gate.plugin.at(&["vm_config", "environment_variables"]);
        let keys: Vec<&str> = variables
            .as_ref()
            .map(|variables| variables.list("host_env_keys"))
            .unwrap_or_default()
            .iter()
            .filter_map(Place::text)
            .collect();
        let written = variables.and_then(|variables| variables.get("key_values")).map(|map| map.members());
        let mut seen = std::collections::BTreeSet::new();
        for (_, name) in findings::variables(self.document) {
            if !seen.insert(name) {
                continue;
            }
            if let Some((_, place)) = written.iter().flatten().find(|(key, _)| *key == name) {
                self.find(
                    Rule::EnvironmentWritten,
                    &place.pointer,
                    format!("the value of `{name}` stands here"),
                );
            } else if !keys.contains(&name) {
                let pointer =
                    format!("{}/vm_config/environment_variables/host_env_keys", gate.plugin.pointer);
                self.find(Rule::EnvironmentMissing, pointer, format!("`{name}` is not among them"));
            }
        }
    }
}

/// What a plugin is configured with, and where it stands.
fn inline(plugin: &Place<'_>) -> (Inline, String) {
    let Some(place) = plugin.get("configuration") else {
        return (Inline::Absent, plugin.below("configuration"));
    };
    let pointer = place.below("value");
    let Some(value) = place.get("value") else { return (Inline::Absent, pointer) };
    let text = |bytes: &[u8]| match Tree::from_json(bytes) {
        Ok(tree) => Inline::Read(tree),
        Err(faults) => Inline::Unread(faults.iter().next().map(ToString::to_string).unwrap_or_default()),
    };
    let kind = place.text_of("@type");
    let read = match &value.node.kind {
        Kind::Object(_) => Inline::Read(Tree::from(value.node.clone())),
        Kind::Text(encoded) if kind.ends_with("BytesValue") => match STANDARD.decode(encoded) {
            Ok(bytes) => text(&bytes),
            Err(_) => Inline::Unread(String::from("not base64")),
        },
        Kind::Text(json) => text(json.as_bytes()),
        _ => Inline::Unread(String::from("not a configuration")),
    };
    (read, pointer)
}

/// The first place at which two documents differ, in the order of names.
fn difference(one: &Json, other: &Json, pointer: &str) -> Option<String> {
    match (one, other) {
        (Json::Object(one), Json::Object(other)) => {
            let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
            names.sort();
            names.dedup();
            names.into_iter().find_map(|name| {
                let pointer = format!("{pointer}/{}", segment(name));
                match (one.get(name), other.get(name)) {
                    (Some(one), Some(other)) => difference(one, other, &pointer),
                    _ => Some(pointer),
                }
            })
        }
        (Json::Array(one), Json::Array(other)) => {
            let longer = one.len().max(other.len());
            (0..longer).find_map(|index| {
                let pointer = format!("{pointer}/{index}");
                match (one.get(index), other.get(index)) {
                    (Some(one), Some(other)) => difference(one, other, &pointer),
                    _ => Some(pointer),
                }
            })
        }
        _ => (one != other).then(|| pointer.to_owned()),
    }
}
