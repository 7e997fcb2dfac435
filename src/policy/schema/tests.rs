use serde_json::{Value as Json, json};

use super::*;

fn compile(declared: &Json) -> (Schema, Vec<String>) {
    let mut faults = Faults::default();
    let declared = serde_json::from_value(declared.clone()).unwrap();
    let schema = Schema::compile(&declared, "/a", &mut faults);
    (schema, faults.into_vec().into_iter().map(|fault| fault.pointer).collect())
}

#[test]
fn a_text_may_be_several_things() {
    let text = |text: &str| Types::of(&Value::Text(text.to_owned()));
    assert_eq!(text("acme"), Types::TEXT);
    assert_eq!(text("10.0.0.1"), Types::TEXT.or(Types::ADDRESS));
    assert_eq!(text("18:00"), Types::TEXT.or(Types::TIME_OF_DAY));
    assert_eq!(text("2026-01-01T00:00:00Z"), Types::TEXT.or(Types::TIME));
}

#[test]
fn types_are_those_that_the_document_shows_unless_others_may_come() {
    let (mut schema, faults) = compile(&json!({ "resource.level": { "type": "number" } }));
    assert!(faults.is_empty());
    let mut faults = Faults::default();
    let text = Value::Text(String::from("high"));
    schema.see(Category::Principal, "clearance", &text, "/1", &mut faults);
    schema.see(Category::Principal, "clearance", &Value::Number(1), "/2", &mut faults);
    schema.see(Category::Principal, "team", &text, "/3", &mut faults);
    schema.see(Category::Resource, "level", &Value::Number(1), "/4", &mut faults);
    assert!(faults.is_empty());
    schema.see(Category::Resource, "level", &text, "/5", &mut faults);
    schema.open(Category::Principal, "team");
    assert_eq!(faults.iter().map(|fault| fault.pointer.as_str()).collect::<Vec<_>>(), ["/5"]);
    assert_eq!(schema.types(Category::Principal, "clearance"), Types::TEXT.or(Types::NUMBER));
    assert_eq!(schema.types(Category::Principal, "team"), Types::ALL);
    assert_eq!(schema.types(Category::Principal, "unheard"), Types::ALL);
    assert_eq!(schema.types(Category::Resource, "level"), Types::NUMBER);
    assert_eq!(schema.types(Category::Environment, "source"), Types::ADDRESS);
}

#[test]
fn what_a_request_gives_is_always_required() {
    let (schema, _) = compile(&json!({
        "principal.org": { "type": "text", "required": true }, "principal.team": { "type": "text" },
    }));
    let required = |name: &str| {
        let (category, name) = Category::split(name).unwrap();
        schema.designator(category, name).required
    };
    for (name, is) in [
        ("principal.org", true),
        ("principal.team", false),
        ("principal.other", false),
        ("environment.source", true),
        ("environment.time", true),
        ("environment.region", false),
    ] {
        assert_eq!(required(name), is, "{name}");
    }
}

#[test]
fn only_attributes_that_have_no_type_of_their_own_are_declared() {
    let number = json!({ "type": "number" });
    let (_, faults) = compile(&json!({
        "action": number, "principal.id": number, "environment.now": number, "org": number,
        "principal.a b": number, "resource.level": number,
    }));
    assert_eq!(faults, ["/a/action", "/a/environment.now", "/a/org", "/a/principal.a b", "/a/principal.id"]);
}
