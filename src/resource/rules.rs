//! Route rules become [`ResourceRules`], and a request head becomes a [`Resolution`]: what it is about and what it
//! does, or that its body must say so. The first rule that matches wins; what no rule names is unknown.

use std::rc::Rc;

use super::Resource;
use super::catalogue::{Catalogue, Listing, MAX_ID, check_type};
use super::presets::{self, PresetRule};
use super::spec::{MatchSpec, PeekSpec, ResourcesSpec, RuleSpec};
use crate::config::faults::Faults;

use head_match::{Likeness, PathReadings};
use pattern::Template;

mod head_match;
pub(crate) mod pattern;

pub use head_match::HeadMatch;

/// The compiled `resources`.
#[derive(Clone, Debug)]
pub struct ResourceRules {
    rules: Vec<Rule>,
    catalogue: Catalogue,
    peek: PeekSpec,
}

/// What a request head is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// A resource and an action that policies decide about.
    Found {
        /// What the request is about.
        resource: Rc<Resource>,
        /// What it does.
        action: Rc<str>,
    },
    /// The body names the resource.
    NeedsBody(PendingResource),
    /// No rule matches.
    Unknown,
    /// A rule matches, but the catalogue does not list the resource: refused like an unknown one, and recorded with
    /// what was asked for.
    Unlisted {
        /// What the request is about.
        resource: Rc<Resource>,
        /// What it does.
        action: Rc<str>,
    },
}

/// What is known of a request before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingResource {
    /// The type of the resource.
    pub kind: Rc<str>,
    /// What the request does.
    pub action: Rc<str>,
}

#[derive(Clone, Debug)]
struct Rule {
    head: HeadMatch,
    kind: Rc<str>,
    id: Id,
    action: Rc<str>,
}

#[derive(Clone, Debug)]
enum Id {
    /// The same for every request.
    Fixed(Box<str>),
    /// Made of captures.
    Captured(Template),
    /// The top-level `model` of the body.
    Body,
}

/// Written as the id of a rule: the top-level `model` of the JSON body.
pub const BODY_MODEL: &str = "{body.model}";

/// The longest action, in bytes.
pub const MAX_ACTION: usize = 64;

// === impl ResourceRules ===

impl ResourceRules {
    /// Compiles `spec`, which stands at `pointer`. The result may only be used when no fault was added.
    pub fn compile(spec: &ResourcesSpec, pointer: &str, faults: &mut Faults) -> Self {
        let catalogue = Catalogue::compile(spec, pointer, faults);
        let mut rules = Vec::new();
        for (index, rule) in spec.rules.iter().enumerate() {
            let pointer = format!("{pointer}/rules/{index}");
            let before = rules.len();
            compile_rule(rule, &catalogue, &pointer, faults, &mut rules);
            let reads_body = rules.iter().skip(before).any(|rule| matches!(rule.id, Id::Body));
            if reads_body && spec.body.peek == PeekSpec::Off {
                faults.at(
                    pointer,
                    "this needs the body's model, which `peek: off` forbids",
                    "write `resources.body.peek: stream` (or `hold`), or take the rule out",
                );
            }
        }
        if spec.rules.is_empty() {
            faults.at(
                format!("{pointer}/rules"),
                "without rules every request is denied",
                "write at least one rule, such as `preset: openai`",
            );
        }
        Self { rules, catalogue, peek: spec.body.peek }
    }

    /// What a request is about. `path` is canonical and without query, `host` in lower case without port.
    ///
    /// A path whose readings match different rules, or whose escapes are not UTF-8, is unknown.
    pub fn resolve(&self, method: &str, path: &str, host: &str) -> Resolution {
        let Some(path) = PathReadings::of(path) else { return Resolution::Unknown };
        for rule in &self.rules {
            let captures = match rule.head.compare(method, &path, host) {
                Likeness::Same(captures) => captures,
                Likeness::Other => continue,
                Likeness::Ambiguous => return Resolution::Unknown,
            };
            return match &rule.id {
                Id::Fixed(id) => self.listed(&rule.kind, id, &rule.action),
                Id::Captured(template) => self.listed(&rule.kind, &template.fill(&captures), &rule.action),
                Id::Body => Resolution::NeedsBody(PendingResource {
                    kind: Rc::clone(&rule.kind),
                    action: Rc::clone(&rule.action),
                }),
            };
        }
        Resolution::Unknown
    }

    /// What a request is about once its body has named the model. Never [`Resolution::NeedsBody`].
    pub fn complete(&self, pending: &PendingResource, model: &str) -> Resolution {
        self.listed(&pending.kind, model, &pending.action)
    }

    /// The listed resources.
    pub const fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// How bodies are looked into.
    pub const fn peek(&self) -> PeekSpec {
        self.peek
    }

    /// Whether some rule needs a body.
    pub fn reads_bodies(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.id, Id::Body))
    }

    /// Type and action of each rule that needs a body.
    pub fn of_bodies(&self) -> impl Iterator<Item = (&str, &str)> {
        let rules = self.rules.iter().filter(|rule| matches!(rule.id, Id::Body));
        rules.map(|rule| (&*rule.kind, &*rule.action))
    }

    fn listed(&self, kind: &str, id: &str, action: &Rc<str>) -> Resolution {
        let action = Rc::clone(action);
        match self.catalogue.look_up(kind, id) {
            Listing::Known(resource) => Resolution::Found { resource, action },
            Listing::Unlisted(resource) => Resolution::Unlisted { resource, action },
        }
    }
}

fn compile_rule(
    spec: &RuleSpec,
    catalogue: &Catalogue,
    pointer: &str,
    faults: &mut Faults,
    rules: &mut Vec<Rule>,
) {
    match spec {
        RuleSpec { preset: Some(name), matches: None, resource: None, action: None } => {
            let Some(preset) = presets::preset(name) else {
                let known: Vec<String> = presets::names().map(|name| format!("`{name}`")).collect();
                faults.at(
                    format!("{pointer}/preset"),
                    format!("no preset is called `{name}`"),
                    format!("write one of {}", known.join(", ")),
                );
                return;
            };
            rules.extend(preset.iter().filter_map(|rule| from_preset(rule, pointer, faults)));
        }
        RuleSpec { preset: None, matches: Some(matches), resource: Some(resource), action: Some(action) } => {
            check_type(&resource.kind, &format!("{pointer}/resource/type"), faults);
            check_action(action, &format!("{pointer}/action"), faults);
            let rule = build(matches, [&resource.kind, &resource.id, action], pointer, faults);
            if let Some(Rule { id: Id::Fixed(id), .. }) = &rule
                && let Listing::Unlisted(_) = catalogue.look_up(&resource.kind, id)
            {
                faults.at(
                    format!("{pointer}/resource/id"),
                    format!("the catalogue lists no {} `{id}`, so that this is always denied", resource.kind),
                    "list it in `resources.catalogue`, or write `resources.unlisted: allow`",
                );
            }
            rules.extend(rule);
        }
        _ => faults.at(
            pointer,
            "this is neither a preset nor a whole rule",
            "write either `preset` alone, or `match`, `resource` and `action`",
        ),
    }
}

fn from_preset(rule: &PresetRule, pointer: &str, faults: &mut Faults) -> Option<Rule> {
    let matches = MatchSpec {
        methods: Some(vec![rule.method.to_owned()]),
        path: Some(rule.path.to_owned()),
        host: None,
    };
    build(&matches, [rule.kind, rule.id, rule.action], pointer, faults)
}

fn build(
    matches: &MatchSpec,
    [kind, id, action]: [&str; 3],
    pointer: &str,
    faults: &mut Faults,
) -> Option<Rule> {
    let head = HeadMatch::compile(matches, &format!("{pointer}/match"), faults);
    let pointer = format!("{pointer}/resource/id");
    if id.is_empty() || id.len() > MAX_ID {
        faults.at(&pointer, "the id is empty or too long", format!("write 1 to {MAX_ID} bytes of text"));
    }
    let (id, used) = if id == BODY_MODEL {
        (Id::Body, Vec::new())
    } else {
        let template = Template::compile(id, &pointer, faults)?;
        let used: Vec<String> = template.names().map(str::to_owned).collect();
        let id = if used.is_empty() { Id::Fixed(id.into()) } else { Id::Captured(template) };
        (id, used)
    };
    for name in &used {
        if !head.names().any(|known| known == name) {
            faults.at(
                &pointer,
                format!("`{{{name}}}` is captured by neither path nor host"),
                "capture it in `match`, or write the id itself",
            );
        }
    }
    for name in head.names() {
        if !used.iter().any(|known| known == name) && !name.starts_with('_') {
            faults.at(
                &pointer,
                format!("`{{{name}}}` is captured and not used"),
                "use it in the id, or call it `{_…}` to say that it may be anything",
            );
        }
    }
    Some(Rule { head, kind: kind.into(), id, action: action.into() })
}

fn check_action(action: &str, pointer: &str, faults: &mut Faults) {
    let word = (1..=MAX_ACTION).contains(&action.len())
        && action
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':'));
    if !word {
        faults.at(
            pointer,
            format!("`{action}` is not an action"),
            "write 1 to 64 letters, digits, `_`, `-`, `.` and `:`, such as `predict`",
        );
    }
}

#[cfg(test)]
mod tests;
