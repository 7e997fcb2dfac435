//! `bindings`: what is known of a caller becomes roles, a tier and attributes, by pattern.
//!
//! The first binding that matches wins, whole; a caller that none matches keeps what it has. What the configuration
//! says of a consumer wins over a binding, and that over claims: roles, tier and each attribute for itself.

use serde_json::Value as Json;

use crate::config::faults::{Faults, segment};
use crate::identity::Identity;
use crate::identity::consumer::{Consumer, check_roles};
use crate::identity::spec::BindingSpec;
use crate::policy::attributes::{self, AttributeMap, Attributes, Category, Value, ValueRef};
use crate::resource::Resource;
use crate::resource::rules::pattern::{Captures, Pattern, Template};

/// Bindings in written order.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    list: Vec<Binding>,
}

#[derive(Clone, Debug)]
struct Binding {
    /// All of them must match.
    conditions: Vec<Condition>,
    roles: Vec<String>,
    tier: Option<String>,
    attributes: Vec<(String, Given)>,
}

/// A pattern on one attribute of the principal.
#[derive(Clone, Debug)]
struct Condition {
    attribute: String,
    /// One of them must match.
    alternatives: Vec<Alternative>,
}

#[derive(Clone, Debug)]
enum Alternative {
    /// `*`: any present value.
    Any,
    Bool(bool),
    Number(i64),
    Text(String),
    Prefix(String),
    /// Text with captures, each within one segment between slashes.
    Captures(Pattern),
}

/// The value of an attribute that a binding gives.
#[derive(Clone, Debug)]
enum Given {
    Fixed(Value),
    Text(Template),
    List(Vec<Template>),
}

// === impl Bindings ===

impl Bindings {
    /// Compiles the list, found at `pointer`. The result may only be used when no fault was added.
    pub fn compile(
        specs: &[BindingSpec],
        is_role: &dyn Fn(&str) -> bool,
        pointer: &str,
        faults: &mut Faults,
    ) -> Self {
        let compiled = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| binding(spec, is_role, &format!("{pointer}/{index}"), faults));
        Self { list: compiled.collect() }
    }

    /// A caller as it is for everything that follows. `claimed` is what its credential says.
    pub fn settle(&self, mut claimed: Identity, consumer: Option<&Consumer>) -> Identity {
        let prevail = |identity: &mut Identity| {
            if let Some(consumer) = consumer {
                consumer.prevail_over(identity);
            }
        };
        if !self.list.is_empty() {
            let mut seen = claimed.clone();
            prevail(&mut seen);
            self.apply(&seen, &mut claimed);
        }
        prevail(&mut claimed);
        claimed
    }

    fn apply(&self, seen: &Identity, identity: &mut Identity) {
        let nothing = Resource::none();
        let environment = AttributeMap::new();
        let known = Attributes {
            principal: seen,
            resource: &nothing,
            action: "",
            environment: &environment,
            now: None,
            source: None,
        };
        for binding in &self.list {
            if let Some(captures) = binding.matches(&known) {
                return binding.give(&captures, identity);
            }
        }
    }
}

// === impl Binding ===

impl Binding {
    fn matches<'s>(&'s self, known: &Attributes<'s>) -> Option<Captures<'s, 's>> {
        let mut captures = Captures::new();
        let all = self.conditions.iter().all(|condition| {
            let Some(value) = known.lookup(Category::Principal, &condition.attribute) else { return false };
            condition.alternatives.iter().any(|alternative| alternative.matches(value, &mut captures))
        });
        all.then_some(captures)
    }

    fn give(&self, captures: &Captures<'_, '_>, identity: &mut Identity) {
        if !self.roles.is_empty() {
            identity.roles.clone_from(&self.roles);
        }
        if let Some(tier) = &self.tier {
            identity.tier.clone_from(tier);
        }
        for (name, given) in &self.attributes {
            let value = match given {
                Given::Fixed(value) => value.clone(),
                Given::Text(text) => Value::Text(text.fill(captures)),
                Given::List(list) => Value::List(list.iter().map(|text| text.fill(captures)).collect()),
            };
            identity.attributes.insert(name.clone(), value);
        }
    }
}

// === impl Alternative ===

impl Alternative {
    /// Whether a value is like this. Of a list, the first element that is decides what is captured. A value of another
    /// type is not.
    fn matches<'s>(&'s self, value: ValueRef<'s>, captures: &mut Captures<'s, 's>) -> bool {
        match (self, value) {
            (Self::Any, _) => true,
            (Self::Bool(wanted), ValueRef::Bool(value)) => *wanted == value,
            (Self::Number(wanted), ValueRef::Number(value)) => *wanted == value,
            (_, ValueRef::Text(text)) => self.matches_text(text, captures),
            (_, ValueRef::List(list)) => list.iter().any(|text| self.matches_text(text, captures)),
            _ => false,
        }
    }

    fn matches_text<'s>(&'s self, text: &'s str, captures: &mut Captures<'s, 's>) -> bool {
        match self {
            Self::Text(wanted) => wanted == text,
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Captures(pattern) => {
                let mut found = Captures::new();
                let matches = pattern.matches(text.split('/'), &mut found);
                if matches {
                    captures.extend(found);
                }
                matches
            }
            Self::Any | Self::Bool(_) | Self::Number(_) => false,
        }
    }

    fn compile(json: &Json, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let text = match attributes::value(json) {
            Some(Value::Bool(value)) => return Some(Self::Bool(value)),
            Some(Value::Number(value)) => return Some(Self::Number(value)),
            Some(Value::Text(text)) => text,
            Some(Value::List(_)) | None => {
                faults.at(
                    pointer,
                    "no value of an attribute is like this",
                    "write a text, a whole number, true or false",
                );
                return None;
            }
        };
        match (text.strip_suffix('*'), text.contains(['{', '}'])) {
            (Some(""), _) => Some(Self::Any),
            (Some(_), true) => {
                faults.at(
                    pointer,
                    format!("`{text}` has a capture and a `*`"),
                    "capture the last segment too, or leave the captures out",
                );
                None
            }
            (Some(prefix), false) => Some(Self::Prefix(prefix.to_owned())),
            (None, true) => Pattern::compile(&text, '/', pointer, faults).map(Self::Captures),
            (None, false) => Some(Self::Text(text)),
        }
    }
}

fn binding(
    spec: &BindingSpec,
    is_role: &dyn Fn(&str) -> bool,
    pointer: &str,
    faults: &mut Faults,
) -> Binding {
    check_roles(&spec.roles, is_role, pointer, faults);
    if spec.principal.is_empty() {
        faults.at(
            format!("{pointer}/principal"),
            "without a pattern this binds everybody",
            "name an attribute, or write `id: \"*\"`",
        );
    }
    let conditions: Vec<Condition> = spec
        .principal
        .iter()
        .filter_map(|(name, json)| {
            condition(name, json, &format!("{pointer}/principal/{}", segment(name)), faults)
        })
        .collect();
    let mut names: Vec<&str> = Vec::new();
    for condition in &conditions {
        for alternative in &condition.alternatives {
            let Alternative::Captures(pattern) = alternative else { continue };
            for name in pattern.names() {
                if names.contains(&name) {
                    faults.at(
                        format!("{pointer}/principal/{}", segment(&condition.attribute)),
                        format!("`{name}` is captured already"),
                        "give each capture its own name",
                    );
                }
                names.push(name);
            }
        }
    }
    let given = given(spec, &names, &format!("{pointer}/attributes"), faults);
    Binding { roles: spec.roles.clone(), tier: spec.tier.clone(), attributes: given, conditions }
}

fn condition(name: &str, json: &Json, pointer: &str, faults: &mut Faults) -> Option<Condition> {
    if !attributes::is_attribute_name(name) {
        faults.at(
            pointer,
            format!("`{name}` is not the name of an attribute"),
            "write 1 to 64 letters, digits, `_`, `-` and `.`",
        );
        return None;
    }
    let alternatives = match json {
        Json::Array(list) => {
            let compiled: Vec<_> = list
                .iter()
                .enumerate()
                .map(|(index, json)| Alternative::compile(json, &format!("{pointer}/{index}"), faults))
                .collect();
            let compiled = compiled.into_iter().collect::<Option<Vec<_>>>()?;
            if compiled.iter().any(|alternative| matches!(alternative, Alternative::Captures(_))) {
                faults.at(
                    pointer,
                    "one of several patterns captures",
                    "write a binding for each, so that what is captured is always there",
                );
            }
            compiled
        }
        single => vec![Alternative::compile(single, pointer, faults)?],
    };
    Some(Condition { attribute: name.to_owned(), alternatives })
}

/// The attributes that a binding gives; `names` are captured.
fn given(spec: &BindingSpec, names: &[&str], pointer: &str, faults: &mut Faults) -> Vec<(String, Given)> {
    let mut given = Vec::new();
    for (name, value) in attributes::compile(&spec.attributes, Category::Principal, pointer, faults) {
        let pointer = format!("{pointer}/{}", segment(&name));
        let mut template = |text: &str| {
            let template = Template::compile(text, &pointer, faults)?;
            let unknown = template.names().find(|name| !names.contains(name));
            if let Some(unknown) = unknown {
                faults.at(
                    &pointer,
                    format!("nothing captures `{unknown}`"),
                    "write it into a pattern under `principal`",
                );
            }
            Some(template)
        };
        let value = match &value {
            Value::Text(text) => template(text).map(Given::Text),
            Value::List(list) => {
                list.iter().map(|text| template(text)).collect::<Option<_>>().map(Given::List)
            }
            Value::Bool(_) | Value::Number(_) => Some(Given::Fixed(value)),
        };
        given.extend(value.map(|value| (name, value)));
    }
    given
}

#[cfg(test)]
mod tests;
