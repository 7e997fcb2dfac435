use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use shape::{Object, Shape, grammar, words};

/// A valid value of each kind; every field that works is in it. `all`: optional ones too.
fn sample(shape: &Shape, all: bool) -> Json {
    match shape {
        Shape::Bool => Json::Bool(true),
        Shape::Choice(choice) => Json::from(choice.built[0]),
        Shape::Duration => Json::from("1s"),
        Shape::Either(shapes) => sample(shapes.last().unwrap(), all),
        Shape::Integer { min, .. } => Json::from(*min),
        Shape::List { of, .. } => Json::Array(vec![sample(of, all)]),
        Shape::Object(object) => {
            let mut members = serde_json::Map::new();
            for field in object.fields {
                if let Some(shape) = field.shape.as_ref().filter(|_| all || field.required) {
                    members.insert(field.name.to_owned(), sample(shape, all));
                }
            }
            if let Some(rest) = object.rest.as_ref().filter(|_| all) {
                members.insert(String::from("other"), sample(&rest.of, all));
            }
            Json::Object(members)
        }
        Shape::When => serde_json::json!({ "not": { "action": "a" } }),
        Shape::Pattern | Shape::Test | Shape::Value => Json::from(vec!["a", "b"]),
        Shape::Size => Json::from("1KiB"),
        Shape::Text(text) => Json::from(if std::ptr::eq(*text, &raw const grammar::KEY_DIGEST) {
            format!("sha256:{}", "0".repeat(64))
        } else {
            ["/a", "10.0.0.0/8", "GET", "a1b2c3d4", "a"]
                .into_iter()
                .find(|a| (text.check)(a))
                .unwrap()
                .to_owned()
        }),
        Shape::Timestamp => Json::from("2026-01-01T00:00:00Z"),
    }
}

fn read_json(value: &Json) -> Result<(Document, Tree), Faults> {
    read(&serde_json::to_vec(value).unwrap(), Format::Json)
}

/// Every object of ours in `shape`, by the pointer it has in its [`sample`].
fn objects(shape: &Shape, pointer: &str, found: &mut Vec<(String, &'static Object)>) {
    match shape {
        Shape::Either(shapes) => objects(shapes.last().unwrap(), pointer, found),
        Shape::List { of, .. } => objects(of, &format!("{pointer}/0"), found),
        Shape::Object(object) => {
            found.push((pointer.to_owned(), object));
            for field in object.fields {
                if let Some(shape) = &field.shape {
                    objects(shape, &format!("{pointer}/{}", field.name), found);
                }
            }
            if let Some(rest) = &object.rest {
                objects(&rest.of, &format!("{pointer}/other"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_word_that_works_is_a_field_of_a_spec() {
    for all in [true, false] {
        let (_, tree) =
            read_json(&sample(&words::DOCUMENT, all)).unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!(tree.to_json(), sample(&words::DOCUMENT, all));
    }
}

#[test]
fn every_field_of_a_spec_is_a_word() {
    // serde names the fields it knows when it meets one that it does not
    let full = sample(&words::DOCUMENT, true);
    let mut found = Vec::new();
    objects(&words::DOCUMENT, "", &mut found);
    assert!(found.len() > 30, "{}", found.len());
    let mut compared = 0;
    for (pointer, object) in found {
        let mut broken = full.clone();
        let members = broken.pointer_mut(&pointer).unwrap().as_object_mut().unwrap();
        members.insert(String::from("no such word"), Json::Null);
        // objects in places that serde leaves open are read by the stage that owns them
        let result = match pointer.as_str() {
            "/profiles/other/authenticate" => {
                serde_json::from_value::<document::AuthenticateSpec>(Json::Object(members.clone())).map(drop)
            }
            "/authorization/roles/other/permissions/0" => {
                serde_json::from_value::<crate::policy::spec::PermissionSpec>(Json::Object(members.clone()))
                    .map(drop)
            }
            _ => serde_json::from_value::<Document>(broken).map(drop),
        };
        if object.rest.is_some() {
            continue;
        }
        let message = result.expect_err(&pointer).to_string();
        let (_, known) = message.split_once("expected").expect(&message);
        let mut known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let mut words: Vec<&str> = object.built().collect();
        known.sort_unstable();
        words.sort_unstable();
        assert_eq!(known, words, "{pointer}");
        compared += 1;
    }
    assert!(compared > 25, "{compared}");
}

#[test]
fn a_word_that_is_required_is_missed_by_serde_too() {
    let full = sample(&words::DOCUMENT, true);
    let mut found = Vec::new();
    objects(&words::DOCUMENT, "", &mut found);
    for (pointer, object) in found {
        for field in object.fields.iter().filter(|field| field.shape.is_some()) {
            let mut broken = full.clone();
            broken.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().remove(field.name);
            let missed = read_json(&broken).is_err();
            assert_eq!(missed, field.required, "{pointer}/{}", field.name);
            let open = pointer.ends_with("/authenticate") || pointer.ends_with("/permissions/0");
            if !open {
                let by_serde = serde_json::from_value::<Document>(broken).is_err();
                assert_eq!(by_serde, field.required, "{pointer}/{}", field.name);
            }
        }
    }
}

#[test]
fn every_choice_is_one_of_a_spec() {
    fn choices(shape: &Shape, pointer: &str, found: &mut Vec<(String, &'static str)>) {
        match shape {
            Shape::Choice(choice) => {
                found.extend(choice.built.iter().map(|word| (pointer.to_owned(), *word)))
            }
            Shape::List { of, .. } => choices(of, &format!("{pointer}/0"), found),
            Shape::Object(object) => {
                for field in
                    object.fields.iter().filter_map(|f| f.shape.as_ref().map(|shape| (f.name, shape)))
                {
                    choices(field.1, &format!("{pointer}/{}", field.0), found);
                }
            }
            _ => {}
        }
    }
    let full = sample(&words::DOCUMENT, true);
    let mut found = Vec::new();
    choices(&words::DOCUMENT, "", &mut found);
    assert!(found.len() > 15, "{}", found.len());
    for (pointer, word) in found {
        let mut changed = full.clone();
        *changed.pointer_mut(&pointer).unwrap() = Json::from(word);
        assert!(read_json(&changed).is_ok(), "{pointer}: {word}");
    }
}

#[cfg(feature = "cli")]
#[test]
fn yaml_and_json_have_one_revision() {
    let yaml = b"version: 1\nname: g\nresources: {}\nauthorization: {}\naudit:\n  collector: { cluster: a }\n  chain: { unkeyed: true }\n";
    let json = br#"{"audit":{"chain":{"unkeyed":true},"collector":{"cluster":"a"}},"authorization":{},"name":"g","resources":{},"version":1.0}"#;
    let (_, yaml) = read(yaml, Format::Yaml).unwrap();
    let (_, json) = read(json, Format::Json).unwrap();
    assert_eq!(yaml.policy_revision().unwrap(), json.policy_revision().unwrap());
}

#[cfg(feature = "cli")]
const FULL: &str = include_str!("../../envoy/config/full.yaml");

#[cfg(feature = "cli")]
fn full_example() -> Json {
    Tree::from_yaml(FULL.as_bytes()).unwrap().to_json()
}

#[cfg(feature = "cli")]
#[test]
fn the_full_example_compiles_from_either_form() {
    let environment = |_: &str| Some("secret".repeat(6));
    let yaml = load(FULL.as_bytes(), Format::Yaml, &environment).unwrap();
    let json = load(full_example().to_string().as_bytes(), Format::Json, &environment).unwrap();
    assert_eq!(yaml.revision, json.revision);
}

#[cfg(feature = "cli")]
#[test]
fn faults_of_meaning_have_lines_too() {
    let broken = FULL
        .replace("roles: [analyst]", "roles: [analist]")
        .replace("partner*\": partner", "partner*\": partnr");
    let faults = load(broken.as_bytes(), Format::Yaml, &|_| Some("secret".repeat(6))).unwrap_err();
    let line = |text: &str| {
        broken.lines().position(|line| line.contains(text)).and_then(|at| u32::try_from(at + 1).ok())
    };
    let found: Vec<_> = faults.iter().map(|fault| (fault.pointer.as_str(), fault.line)).collect();
    assert_eq!(found, [("/consumers/1/roles/0", line("analist")), ("/routes/api~1partner*", line("partnr"))]);
}

#[cfg(feature = "cli")]
#[test]
fn a_missing_variable_is_a_fault() {
    let faults =
        load(FULL.as_bytes(), Format::Yaml, &|name| (name != "MLGATE_PEPPER_1").then(|| "x".repeat(32)));
    let found: Vec<_> = faults.unwrap_err().into_vec().into_iter().map(|fault| fault.pointer).collect();
    assert_eq!(found, ["/authentication/api_key/peppers/0/env"]);
}

/// Replaces, removes or doubles one value somewhere in a document.
fn mutated(full: &Json, path: &[prop::sample::Index], with: &Json, how: u8) -> String {
    fn walk(node: &mut Json, path: &[prop::sample::Index], with: &Json, how: u8) {
        let Some((step, rest)) = path.split_first() else {
            *node = with.clone();
            return;
        };
        match node {
            Json::Object(members) if !members.is_empty() => {
                let name = step.get(&members.keys().cloned().collect::<Vec<_>>()).clone();
                match (rest.is_empty(), how) {
                    (true, 0) => drop(members.remove(&name)),
                    (true, 1) => drop(members.insert(format!("{name}x"), with.clone())),
                    _ => walk(members.get_mut(&name).unwrap(), rest, with, how),
                }
            }
            Json::Array(items) if !items.is_empty() => {
                let index = step.index(items.len());
                walk(&mut items[index], rest, with, how);
            }
            _ => *node = with.clone(),
        }
    }
    let mut changed = full.clone();
    walk(&mut changed, path, with, how);
    changed.to_string()
}

fn anything() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        ".{0,20}".prop_map(Json::from),
        Just(Json::from("none")),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
        Just(serde_json::json!([[1], {"a": {}}])),
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_give_faults(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!read(&bytes, Format::Json).unwrap_err().is_empty());
        #[cfg(feature = "cli")]
        prop_assert!(!read(&bytes, Format::Yaml).unwrap_err().is_empty());
    }

    #[test]
    fn arbitrary_text_gives_faults(text in "[a-c \n:{}\\[\\]\"',&*!|>#%@`0-9.e~?-]{0,60}") {
        prop_assert!(!read(text.as_bytes(), Format::Json).unwrap_err().is_empty());
        #[cfg(feature = "cli")]
        prop_assert!(!read(text.as_bytes(), Format::Yaml).unwrap_err().is_empty());
    }

    #[test]
    fn a_mutated_document_gives_a_document_or_faults(
        path in prop::collection::vec(any::<prop::sample::Index>(), 1..6), with in anything(), how in 0_u8..3,
    ) {
        let text = mutated(&sample(&words::DOCUMENT, true), &path, &with, how);
        #[cfg(feature = "cli")]
        if let Err(faults) = read(text.as_bytes(), Format::Yaml) {
            prop_assert!(!faults.is_empty());
        }
        match read(text.as_bytes(), Format::Json) {
            Ok((_, tree)) => prop_assert_eq!(tree.policy_revision().unwrap().len(), 64),
            Err(faults) => {
                prop_assert!(!faults.is_empty());
                // a clean walk is a document: serde has nothing left to find
                prop_assert!(faults.iter().all(|f| !f.what.starts_with("cannot be read")), "{:?}", faults);
                prop_assert!(faults.iter().all(|fault| fault.line.is_some()));
            }
        }
    }

    #[cfg(feature = "cli")]
    #[test]
    fn a_mutated_document_compiles_or_gives_faults_with_their_lines(
        path in prop::collection::vec(any::<prop::sample::Index>(), 1..6), with in anything(), how in 0_u8..3,
    ) {
        let text = mutated(&full_example(), &path, &with, how);
        match load(text.as_bytes(), Format::Json, &|_| Some("secret".repeat(6))) {
            Ok(config) => prop_assert_eq!(config.revision.len(), 64),
            Err(faults) => {
                prop_assert!(!faults.is_empty());
                prop_assert!(faults.iter().all(|fault| fault.line.is_some()), "{:?}", faults);
            }
        }
    }

    #[test]
    fn a_document_cut_anywhere_gives_faults(at in any::<prop::sample::Index>()) {
        let text = sample(&words::DOCUMENT, true).to_string();
        let cut = &text.as_bytes()[..at.index(text.len())];
        prop_assert!(read(cut, Format::Json).is_err());
    }
}

#[cfg(feature = "cli")]
#[test]
fn the_full_example_has_every_word_that_works() {
    fn walk(shape: &Shape, node: &tree::Node, used: &mut Vec<*const shape::Field>) {
        match (shape, &node.kind) {
            (Shape::Either(shapes), _) => shapes.iter().for_each(|shape| walk(shape, node, used)),
            (Shape::List { of, .. }, tree::Kind::List(items)) => {
                items.iter().for_each(|item| walk(of, item, used));
            }
            (Shape::Object(object), tree::Kind::Object(members)) => {
                for member in members {
                    match object.fields.iter().find(|field| field.name == member.name) {
                        Some(field) => {
                            used.push(field);
                            field.shape.iter().for_each(|shape| walk(shape, &member.node, used));
                        }
                        None => object.rest.iter().for_each(|rest| walk(&rest.of, &member.node, used)),
                    }
                }
            }
            _ => {}
        }
    }
    let tree = Tree::from_yaml(FULL.as_bytes()).unwrap();
    let mut used = Vec::new();
    walk(&words::DOCUMENT, tree.root(), &mut used);
    let mut found = Vec::new();
    objects(&words::DOCUMENT, "", &mut found);
    for (pointer, object) in found {
        for field in object.fields.iter().filter(|field| field.shape.is_some()) {
            assert!(used.contains(&std::ptr::from_ref(field)), "{pointer}/{}", field.name);
        }
    }
}

#[test]
fn every_preset_is_a_choice() {
    let mut found = Vec::new();
    objects(&words::DOCUMENT, "", &mut found);
    let (_, rule) = found.iter().find(|(pointer, _)| pointer == "/resources/rules/0").unwrap();
    let Some(Shape::Choice(choice)) = rule.fields.iter().find(|f| f.name == "preset").unwrap().shape else {
        panic!()
    };
    let mut built = choice.built.to_vec();
    built.sort_unstable();
    assert_eq!(built, crate::resource::presets::names().collect::<Vec<_>>());
}
