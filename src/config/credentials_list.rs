//! A list of consumers from elsewhere becomes their keys, under the rules of the configuration that polls it.
//!
//! ```json
//! { "version": 1, "consumers": [{ "name": "user_9", "roles": ["viewer"], "credentials": { "api_keys": [] } }] }
//! ```
//!
//! The words are those of `consumers`; only API keys may be listed. A list may add consumers, and add keys to those of the
//! configuration, of whom it can say nothing else. It is read whole or not at all.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde::Deserialize;

use crate::config::Config;
use crate::config::faults::{Faults, segment};
use crate::config::shape::{self, words};
use crate::config::tree::Tree;
use crate::identity::api_key::ApiKeys;
use crate::identity::bindings::Bindings;
use crate::identity::spec::ConsumerSpec;
use crate::policy::attributes::{Category, value};
use crate::policy::schema::Schema;
use crate::remote::keeper::{Kind, Unreadable};

/// What a list is held against.
#[derive(Debug)]
pub struct CredentialsReader {
    /// Names of `authorization.roles`.
    pub roles: BTreeSet<String>,
    /// Which types attributes can have.
    pub schema: Schema,
    /// What callers are by pattern.
    pub bindings: Rc<Bindings>,
}

/// The kind of document that such a list is for one configuration.
#[derive(Debug)]
pub struct ListedCredentials(pub Rc<Config>);

/// The document itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialsListSpec {
    /// Always 1; the form says so.
    #[serde(rename = "version")]
    _version: u32,
    consumers: Vec<ConsumerSpec>,
}

/// Bytes of a list.
pub const MAX_BYTES: usize = 16 << 20;

// === impl CredentialsReader ===

impl CredentialsReader {
    /// Reads a list beside the keys of the configuration.
    ///
    /// # Errors
    /// Every fault of form and meaning; none repeats a key or a digest.
    pub fn read(&self, bytes: &[u8], keys: &ApiKeys) -> Result<ApiKeys, Faults> {
        let tree = Tree::from_json(bytes)?;
        let mut faults = shape::check(&words::CREDENTIALS_LIST, tree.root());
        if !faults.is_empty() {
            return Err(faults);
        }
        let list: CredentialsListSpec = serde_json::from_value(tree.to_json()).map_err(|error| {
            // INVARIANT: a clean tree is a list
            faults.at("", format!("cannot be read: {error}"), "correct the word that is named");
            std::mem::take(&mut faults)
        })?;
        let listed =
            keys.list(&list.consumers, &self.bindings, &|role| self.roles.contains(role), &mut faults);
        for (index, consumer) in list.consumers.iter().enumerate() {
            for (name, json) in &consumer.attributes {
                let pointer = format!("/consumers/{index}/attributes/{}", segment(name));
                if let Some(value) = value(json) {
                    self.schema.admit(Category::Principal, name, &value, &pointer, &mut faults);
                }
            }
        }
        if faults.is_empty() {
            return Ok(listed);
        }
        faults.locate(|pointer| tree.line_of(pointer));
        Err(faults)
    }
}

// === impl ListedCredentials ===

impl Kind for ListedCredentials {
    type Document = ApiKeys;

    fn read(&self, body: &[u8]) -> Result<ApiKeys, Unreadable> {
        let config = &self.0;
        let Some((_, reader)) = &config.lists.credentials else {
            return Err(Unreadable(String::from("no list is configured")));
        };
        reader.read(body, &config.api_keys).map_err(|faults| {
            let first = faults.iter().next().map(ToString::to_string).unwrap_or_default();
            Unreadable(format!("{first} ({} in all)", faults.len()))
        })
    }
}

#[cfg(test)]
mod tests;
