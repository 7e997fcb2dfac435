//! A value of an Envoy document and where it stands.
//!
//! Envoy reads each field under two names, `typed_config` and `typedConfig` (the JSON mapping of protobuf); so does this.

use crate::config::faults::segment;
use crate::config::tree::{Kind, Node};

/// A value and its JSON pointer.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    /// The value.
    pub(super) node: &'a Node,
    /// Where it stands.
    pub(super) pointer: String,
}

// === impl Place ===

impl<'a> Place<'a> {
    /// The whole document.
    pub(super) const fn root(node: &'a Node) -> Self {
        Self { node, pointer: String::new() }
    }

    /// A field by its protobuf name; `null` counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<Self> {
        let Kind::Object(members) = &self.node.kind else { return None };
        let camel = camel(name);
        let member = members.iter().find(|member| member.name == name || member.name == camel)?;
        let place = Self { node: &member.node, pointer: self.below(&member.name) };
        (member.node.kind != Kind::Null).then_some(place)
    }

    /// A field of a field of …
    pub(super) fn at(&self, names: &[&str]) -> Option<Self> {
        names.iter().try_fold(self.clone(), |place, name| place.get(name))
    }

    /// The elements of a list.
    pub(super) fn items(&self) -> Vec<Self> {
        let Kind::List(items) = &self.node.kind else { return Vec::new() };
        items
            .iter()
            .enumerate()
            .map(|(index, node)| Self { node, pointer: format!("{}/{index}", self.pointer) })
            .collect()
    }

    /// The elements of a field that is a list.
    pub(super) fn list(&self, name: &str) -> Vec<Self> {
        self.get(name).map(|list| list.items()).unwrap_or_default()
    }

    /// The members of a map.
    pub(super) fn members(&self) -> Vec<(&'a str, Self)> {
        let Kind::Object(members) = &self.node.kind else { return Vec::new() };
        members
            .iter()
            .map(|member| {
                let pointer = self.below(&member.name);
                (member.name.as_str(), Self { node: &member.node, pointer })
            })
            .collect()
    }

    /// The pointer of a field, whether or not it is there.
    pub(super) fn below(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, segment(name))
    }

    /// A text.
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A field that is a text; absent and empty are the same in protobuf.
    pub(super) fn text_of(&self, name: &str) -> &'a str {
        self.get(name).and_then(|place| place.text()).unwrap_or_default()
    }

    /// Whether a field is `true`; absent is `false` in protobuf.
    pub(super) fn is(&self, name: &str) -> bool {
        self.get(name).is_some_and(|place| place.node.kind == Kind::Bool(true))
    }

    /// A field of an enumeration, by name or by number; absent is the first.
    pub(super) fn choice<'n>(&self, name: &str, names: &[&'n str]) -> Option<&'n str> {
        let Some(place) = self.get(name) else { return names.first().copied() };
        match &place.node.kind {
            Kind::Text(text) => names.iter().find(|known| *known == text).copied(),
            Kind::Integer(number) => {
                usize::try_from(*number).ok().and_then(|index| names.get(index)).copied()
            }
            _ => None,
        }
    }

    /// Whether a field is a duration above zero.
    pub(super) fn lasts(&self, name: &str) -> bool {
        let seconds = self.text_of(name).strip_suffix('s').and_then(|number| number.parse::<f64>().ok());
        seconds.is_some_and(|seconds| seconds > 0.0)
    }

    /// What a `typed_config` holds: the message's name without its package, and its fields. A `TypedStruct` is looked into.
    pub(super) fn typed(&self) -> Option<(&'a str, Self)> {
        let last = |url: &'a str| url.rsplit(['.', '/']).next().unwrap_or(url);
        let name = last(self.get("@type")?.text()?);
        if name == "TypedStruct" {
            return Some((last(self.get("type_url")?.text()?), self.get("value")?));
        }
        Some((name, self.clone()))
    }

    /// The fields of `typed_config`, where it is this message.
    pub(super) fn config(&self, message: &str) -> Option<Self> {
        let (name, fields) = self.get("typed_config")?.typed()?;
        (name == message).then_some(fields)
    }
}

/// The other name of a field.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut whole, part| {
        let mut letters = part.chars();
        whole.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        whole.push_str(letters.as_str());
        whole
    })
}

/// Pointers of members that stand twice in one object, under either name: Envoy and people may read different ones.
pub(super) fn twice(place: &Place<'_>, found: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    for (name, member) in place.members() {
        if !seen.insert(camel(name)) {
            found.push(member.pointer.clone());
        }
        twice(&member, found);
    }
    for item in place.items() {
        twice(&item, found);
    }
}
