//! The words of a document become a JSON Schema (draft 2020-12), so that editors complete and check them.
//!
//! It says what [`shape::check`](crate::config::shape::check) says, from the same description. Reserved words are not
//! in it.

use serde_json::{Map, Value as Json, json};

use crate::config::shape::grammar::{ANY, Grammar};
use crate::config::shape::{Object, Shape, words};
use crate::config::tree::MAX_INTEGER;

/// The schema of a whole document.
pub fn schema() -> Json {
    let mut schema = of(&words::DOCUMENT);
    if let Json::Object(members) = &mut schema {
        members.insert(String::from("$schema"), json!("https://json-schema.org/draft/2020-12/schema"));
        // conditions contain themselves
        let definitions = json!({
            "test": { "anyOf": [of(&Shape::Pattern), self::object(&words::OPERATORS)] },
            "when": self::object(&words::WHEN),
        });
        members.insert(String::from("$defs"), definitions);
        members.insert(String::from("title"), json!("mlgate configuration, version 1"));
    }
    schema
}

fn of(shape: &Shape) -> Json {
    match shape {
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Choice(choice) => json!({ "enum": choice.built }),
        Shape::Duration => json!({ "type": "string", "pattern": "^0*[1-9][0-9]*(ms|s|m|h|d)$" }),
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(of).collect::<Vec<_>>() }),
        Shape::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::List { of: item, min } => list(&of(item), *min),
        Shape::Object(object) => self::object(object),
        Shape::Pattern => {
            let one = json!({ "anyOf": [text(&ANY), whole(), of(&Shape::Bool)] });
            json!({ "anyOf": [text(&ANY), whole(), of(&Shape::Bool), list(&one, 1)] })
        }
        Shape::Size => json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)?$" },
        ] }),
        Shape::Test => json!({ "$ref": "#/$defs/test" }),
        Shape::Text(grammar) => text(grammar),
        Shape::Timestamp => json!({ "type": "string", "format": "date-time" }),
        Shape::When => json!({ "$ref": "#/$defs/when" }),
        Shape::Value => json!({ "anyOf": [text(&ANY), whole(), of(&Shape::Bool), list(&text(&ANY), 0)] }),
    }
}

fn object(object: &Object) -> Json {
    let mut properties = Map::new();
    for field in object.fields {
        let Some(shape) = &field.shape else { continue };
        let mut schema = of(shape);
        if let Json::Object(members) = &mut schema {
            members.insert(String::from("description"), json!(field.note));
        }
        properties.insert(field.name.to_owned(), schema);
    }
    let required: Vec<&str> = object.fields.iter().filter(|f| f.required).map(|field| field.name).collect();
    let mut schema = Map::new();
    schema.insert(String::from("type"), json!("object"));
    if !properties.is_empty() {
        schema.insert(String::from("properties"), Json::Object(properties));
    }
    if !required.is_empty() {
        schema.insert(String::from("required"), json!(required));
    }
    match &object.rest {
        None => {
            schema.insert(String::from("additionalProperties"), Json::Bool(false));
        }
        Some(rest) => {
            schema.insert(String::from("additionalProperties"), of(&rest.of));
            schema.insert(String::from("propertyNames"), json!({ "pattern": rest.names.pattern }));
        }
    }
    Json::Object(schema)
}

fn text(grammar: &Grammar) -> Json {
    json!({ "type": "string", "pattern": grammar.pattern })
}

fn whole() -> Json {
    json!({ "type": "integer", "minimum": MAX_INTEGER.saturating_neg(), "maximum": MAX_INTEGER })
}

fn list(items: &Json, min: usize) -> Json {
    let mut schema = json!({ "type": "array", "items": items });
    if let (Json::Object(members), true) = (&mut schema, min > 0) {
        members.insert(String::from("minItems"), json!(min));
    }
    schema
}
