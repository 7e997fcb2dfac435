//! The configured resources become a [`Catalogue`]: attributes that the caller cannot forge, by type and id.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use siphasher::sip::SipHasher13;

use super::spec::{ResourcesSpec, UnlistedSpec};
use super::{CATALOGUE, Resource};
use crate::config::faults::Faults;
use crate::policy::attributes::{self, AttributeMap, Category};

/// Every configured resource.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Type to id to resource. A fixed hash key will do: callers can only look things up.
    by_type: BTreeMap<String, ById>,
    unlisted: UnlistedSpec,
}

type ById = HashMap<String, Rc<Resource>, BuildHasherDefault<SipHasher13>>;

/// What the catalogue says of a type and an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// The resource may be decided about.
    Known(Rc<Resource>),
    /// It is not listed, and what is not listed is denied.
    Unlisted(Rc<Resource>),
}

/// The longest type, in bytes.
pub const MAX_TYPE: usize = 64;

/// The longest id, in bytes.
pub const MAX_ID: usize = 1024;

// === impl Catalogue ===

impl Catalogue {
    /// Compiles the catalogue of `spec`, which stands at `pointer`.
    pub fn compile(spec: &ResourcesSpec, pointer: &str, faults: &mut Faults) -> Self {
        let mut by_type: BTreeMap<String, ById> = BTreeMap::new();
        for (index, entry) in spec.catalogue.iter().enumerate() {
            let pointer = format!("{pointer}/catalogue/{index}");
            check_type(&entry.kind, &format!("{pointer}/type"), faults);
            if entry.id.is_empty() || entry.id.len() > MAX_ID {
                faults.at(
                    format!("{pointer}/id"),
                    "the id is empty or too long",
                    format!("write 1 to {MAX_ID} bytes of text"),
                );
            }
            let attributes = attributes::compile(&entry.attributes, Category::Resource, &pointer, faults);
            let resource = Resource { kind: entry.kind.clone(), id: entry.id.clone(), attributes };
            let ids = by_type.entry(entry.kind.clone()).or_default();
            if ids.insert(entry.id.clone(), Rc::new(resource)).is_some() {
                faults.at(
                    format!("{pointer}/id"),
                    format!("a second {} has the id `{}`", entry.kind, entry.id),
                    "list each resource once",
                );
            }
        }
        Self { by_type, unlisted: spec.unlisted }
    }

    /// What is known of a resource. The list of models is always listed, since it names no model.
    pub fn look_up(&self, kind: &str, id: &str) -> Listing {
        if let Some(resource) = self.by_type.get(kind).and_then(|ids| ids.get(id)) {
            return Listing::Known(Rc::clone(resource));
        }
        let resource =
            Rc::new(Resource { kind: kind.to_owned(), id: id.to_owned(), attributes: AttributeMap::new() });
        if kind == CATALOGUE || self.unlisted == UnlistedSpec::Allow {
            Listing::Known(resource)
        } else {
            Listing::Unlisted(resource)
        }
    }

    /// Whether it lists a resource.
    pub fn contains(&self, kind: &str, id: &str) -> bool {
        self.by_type.get(kind).is_some_and(|ids| ids.contains_key(id))
    }

    /// Whether resources that are not listed are left to the policies.
    pub fn allows_unlisted(&self) -> bool {
        self.unlisted == UnlistedSpec::Allow
    }

    /// Every listed resource, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.by_type.values().flat_map(HashMap::values).map(|resource| &**resource)
    }
}

/// A type is a word: policies, events and metrics name it.
pub(super) fn check_type(kind: &str, pointer: &str, faults: &mut Faults) {
    let word = (1..=MAX_TYPE).contains(&kind.len())
        && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    if !word {
        faults.at(
            pointer,
            format!("`{kind}` is not a type"),
            "write 1 to 64 letters, digits, `_`, `-` and `.`, such as `model`",
        );
    }
}
