//! One document becomes all of its faults, or the compiled gate.
//!
//! [`read`] goes from bytes to a [`tree::Tree`], checks its form against [`shape`], and only then lets serde make a
//! [`document::Document`] of it. What the document means is compiled by the stages.

pub mod compile;
pub mod credentials_list;
pub mod document;
pub mod faults;
#[cfg(feature = "cli")]
pub mod findings;
#[cfg(feature = "cli")]
pub mod schema;
pub mod shape;
pub mod tree;
pub mod values;

#[cfg(test)]
mod tests;

pub use compile::{Bounds, Config, load};
use document::Document;
use faults::Faults;
use tree::Tree;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON text.
    Json,
    /// As Envoy and Istio deliver it: JSON text, or a protobuf Struct.
    Plugin,
    /// As people write it.
    #[cfg(feature = "cases")]
    Yaml,
}

/// Reads a document and checks its form.
///
/// # Errors
/// Every fault of the form, each with its place; or the one that keeps the text from being read at all.
pub fn read(bytes: &[u8], format: Format) -> Result<(Document, Tree), Faults> {
    let tree = Tree::read(bytes, format)?;
    let mut faults = shape::check(&shape::words::DOCUMENT, tree.root());
    if faults.is_empty() {
        match serde_json::from_value(tree.to_json()) {
            Ok(document) => return Ok((document, tree)),
            // INVARIANT: a clean tree is a document; a word that breaks this is found here instead of by a trap
            Err(error) => faults.at("", format!("cannot be read: {error}"), "correct the word that is named"),
        }
    }
    Err(faults)
}
