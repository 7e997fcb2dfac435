//! Every value of an attribute that a document shows becomes the [`Schema`] of conditions.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::config::document::Document;
use crate::config::faults::{Faults, segment};
use crate::policy::attributes::{AttributeMap, Category, Value, value};
use crate::policy::schema::Schema;

/// Reads them all. Values at fault are passed over: the stage that owns them says so.
pub(super) fn compile(document: &Document, environment: &AttributeMap, faults: &mut Faults) -> Schema {
    let declared = &document.authorization.attributes;
    let mut schema = Schema::compile(declared, "/authorization/attributes", faults);
    for (name, value) in environment {
        let pointer = format!("/environment/{}", segment(name));
        schema.see(Category::Environment, name, value, &pointer, faults);
    }
    let mut see = |schema: &mut Schema, category, attributes: &BTreeMap<String, Json>, pointer: &str| {
        for (name, json) in attributes {
            let Some(value) = value(json) else { continue };
            let captures = |text: &String| text.contains('{');
            let filled = match &value {
                Value::Text(text) => captures(text),
                Value::List(list) => list.iter().any(captures),
                Value::Bool(_) | Value::Number(_) => false,
            };
            // what a binding captures is a text, but which one is not known
            if filled && pointer.starts_with("/bindings") && matches!(value, Value::Text(_)) {
                schema.open(category, name);
            } else {
                schema.see(category, name, &value, &format!("{pointer}/{}", segment(name)), faults);
            }
        }
    };
    for (index, consumer) in document.consumers.iter().enumerate() {
        let pointer = format!("/consumers/{index}/attributes");
        see(&mut schema, Category::Principal, &consumer.attributes, &pointer);
    }
    for (index, binding) in document.bindings.iter().enumerate() {
        let pointer = format!("/bindings/{index}/attributes");
        see(&mut schema, Category::Principal, &binding.attributes, &pointer);
    }
    for (index, entry) in document.resources.catalogue.iter().enumerate() {
        let pointer = format!("/resources/catalogue/{index}");
        see(&mut schema, Category::Resource, &entry.attributes, &pointer);
    }
    let signed = document.authentication.jwt.providers.iter().map(|provider| &provider.claims);
    let opaque = document.authentication.introspection.iter().map(|endpoint| &endpoint.claims);
    for claims in signed.chain(opaque) {
        claims.attributes.keys().for_each(|name| schema.open(Category::Principal, name));
    }
    schema
}
