use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::identity::Identity;
use crate::policy::attributes::{self, AttributeMap, Value};
use crate::resource::Resource;

mod operators;

struct Scene {
    principal: Identity,
    resource: Resource,
    environment: AttributeMap,
}

impl Scene {
    fn new(principal: &Json, resource: &Json) -> Self {
        let mut identity = Identity::anonymous();
        identity.principal = String::from("user_1");
        identity.roles = vec![String::from("viewer"), String::from("analyst")];
        identity.attributes = map(principal, Category::Principal);
        Self {
            principal: identity,
            resource: Resource {
                kind: String::from("model"),
                id: String::from("fraud_detector_v2"),
                attributes: map(resource, Category::Resource),
            },
            environment: map(&json!({ "name": "production" }), Category::Environment),
        }
    }

    fn attributes(&self) -> Attributes<'_> {
        Attributes {
            principal: &self.principal,
            resource: &self.resource,
            action: "predict",
            environment: &self.environment,
            now: None,
            source: None,
        }
    }

    fn says(&self, patterns: &Json) -> Truth {
        compile(patterns, None).evaluate(&self.attributes())
    }
}

fn map(json: &Json, category: Category) -> AttributeMap {
    let mut faults = Faults::default();
    let map = attributes::compile(&serde_json::from_value(json.clone()).unwrap(), category, "", &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    map
}

fn compile(patterns: &Json, default: Option<Category>) -> Condition {
    let mut faults = Faults::default();
    let section = section(default);
    let written = serde_json::from_value(patterns.clone()).unwrap();
    let condition = Condition::compile(&written, section, &Schema::default(), "/when", &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    condition
}

fn section(default: Option<Category>) -> Section {
    match default {
        Some(Category::Principal) => Section::Principal,
        Some(Category::Resource) => Section::Resource,
        _ => Section::When,
    }
}

fn error(attribute: &str) -> Truth {
    Truth::Error(ConditionError { attribute: attribute.into(), flaw: Flaw::Type })
}

fn check(scene: &Scene, rows: &[(Json, Truth)]) {
    for (patterns, truth) in rows {
        assert_eq!(scene.says(patterns), *truth, "{patterns}");
    }
}

#[test]
fn a_text_is_equal_one_of_a_prefix_or_present() {
    let scene = Scene::new(&json!({ "org": "acme" }), &json!({}));
    check(
        &scene,
        &[
            (json!({}), Truth::True),
            (json!({ "principal.org": "acme" }), Truth::True),
            (json!({ "principal.org": "Acme" }), Truth::False),
            (json!({ "principal.org": "acm" }), Truth::False),
            (json!({ "principal.org": ["other", "acme"] }), Truth::True),
            (json!({ "principal.org": ["other", "ac*"] }), Truth::True),
            (json!({ "principal.org": "ac*" }), Truth::True),
            (json!({ "principal.org": "acme*" }), Truth::True),
            (json!({ "principal.org": "b*" }), Truth::False),
            (json!({ "principal.org": "*cme" }), Truth::False),
            (json!({ "principal.org": "*" }), Truth::True),
            (json!({ "principal.team": "*" }), Truth::False),
            (json!({ "principal.id": "user_*", "resource.type": "model" }), Truth::True),
            (json!({ "action": ["read", "predict"] }), Truth::True),
            (json!({ "environment.name": "production", "action": "delete" }), Truth::False),
        ],
    );
}

#[test]
fn a_list_matches_with_one_element() {
    let scene = Scene::new(&json!({ "groups": ["eu", "ml-ops"], "none": [] }), &json!({}));
    check(
        &scene,
        &[
            (json!({ "principal.roles": "analyst" }), Truth::True),
            (json!({ "principal.roles": "admin" }), Truth::False),
            (json!({ "principal.groups": "ml-*" }), Truth::True),
            (json!({ "principal.groups": ["us", "eu"] }), Truth::True),
            (json!({ "principal.none": "ml-*" }), Truth::False),
            (json!({ "principal.none": "*" }), Truth::True),
        ],
    );
}

#[test]
fn a_wrong_type_is_an_error_and_absence_is_not() {
    let scene = Scene::new(&json!({ "level": 3, "trusted": true, "org": "acme" }), &json!({}));
    check(
        &scene,
        &[
            (json!({ "principal.level": 3 }), Truth::True),
            (json!({ "principal.level": [1, 2] }), Truth::False),
            (json!({ "principal.level": "3" }), error("principal.level")),
            (json!({ "principal.level": true }), error("principal.level")),
            (json!({ "principal.trusted": true }), Truth::True),
            (json!({ "principal.trusted": false }), Truth::False),
            (json!({ "principal.trusted": "tr*" }), error("principal.trusted")),
            (json!({ "principal.org": 3 }), error("principal.org")),
            (json!({ "principal.absent": 3 }), Truth::False),
        ],
    );
}

#[test]
fn a_false_clause_wins_over_an_erring_one_in_any_order() {
    let scene = Scene::new(&json!({ "level": 3, "zone": 4 }), &json!({ "stage": "test" }));
    check(
        &scene,
        &[
            (json!({ "principal.level": "3", "resource.stage": "production" }), Truth::False),
            (json!({ "action": "delete", "principal.level": "3" }), Truth::False),
            (json!({ "principal.level": "3", "resource.stage": "test" }), error("principal.level")),
            (json!({ "principal.level": "3", "principal.zone": "4" }), error("principal.level")),
        ],
    );
}

#[test]
fn a_substitution_is_a_literal_value() {
    let scene = Scene::new(
        &json!({ "org": "acme", "star": "*", "prefix": "ac*", "empty": "", "level": 3, "groups": ["red", "blue", ""] }),
        &json!({ "org": "acme", "path": "acme/red/x", "colour": "blue", "level": 3, "text": "3", "empty": "", "star": "*" }),
    );
    check(
        &scene,
        &[
            (json!({ "resource.org": "{principal.org}" }), Truth::True),
            (json!({ "resource.org": "{principal.star}" }), Truth::False),
            (json!({ "resource.star": "{principal.star}" }), Truth::True),
            (json!({ "resource.org": "{principal.prefix}" }), Truth::False),
            (json!({ "resource.org": "{principal.absent}" }), Truth::False),
            (json!({ "resource.empty": "{principal.empty}" }), Truth::False),
            (json!({ "resource.empty": "{principal.groups}" }), Truth::False),
            (json!({ "resource.org": "{principal.empty}*" }), Truth::False),
            (json!({ "resource.org": "{principal.absent}*" }), Truth::False),
            (json!({ "resource.path": "{principal.org}/*" }), Truth::True),
            (json!({ "resource.path": "{principal.org}/red/x" }), Truth::True),
            (json!({ "resource.path": "{principal.org}/red" }), Truth::False),
            (json!({ "resource.path": "{principal.prefix}*" }), Truth::False),
            (json!({ "resource.colour": "{principal.groups}" }), Truth::True),
            (json!({ "resource.org": "{principal.groups}" }), Truth::False),
            (json!({ "resource.level": "{principal.level}" }), Truth::True),
            (json!({ "resource.text": "{principal.level}" }), error("resource.text")),
            (json!({ "resource.text": "v{principal.level}" }), error("principal.level")),
            (json!({ "resource.text": "{principal.level}{principal.absent}" }), Truth::False),
            (json!({ "principal.groups": "{principal.groups}" }), Truth::True),
            (json!({ "resource.org": ["x", "{principal.org}"] }), Truth::True),
        ],
    );
}

#[test]
fn every_fault_is_reported_with_its_place() {
    let mut faults = Faults::default();
    let patterns = json!({
        "org": "x", "principal.org": null, "resource.n": 1.5, "resource.big": 9007199254740992_i64, "resource.o": {},
        "resource.empty": [], "resource.mixed": ["a", 1], "resource.nested": [["a"]], "environment.": "x",
        "action": "{resource.x}", "resource.open": "a{principal.x", "thing.x": "y", "principal.a b": "c",
    });
    Condition::compile(
        &serde_json::from_value(patterns).unwrap(),
        section(None),
        &Schema::default(),
        "/when",
        &mut faults,
    );
    let places: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(
        places,
        [
            "/when/action",
            "/when/environment.",
            "/when/org",
            "/when/principal.a b",
            "/when/principal.org",
            "/when/resource.big",
            "/when/resource.empty",
            "/when/resource.mixed",
            "/when/resource.n",
            "/when/resource.nested/0",
            "/when/resource.o",
            "/when/resource.open",
            "/when/thing.x",
        ]
    );
}

#[test]
fn a_category_written_twice_is_a_fault() {
    for key in ["principal.org", "resource.org", "action", ""] {
        let mut faults = Faults::default();
        let patterns = BTreeMap::from([(key.to_owned(), json!("x"))]);
        Condition::compile(
            &patterns,
            section(Some(Category::Principal)),
            &Schema::default(),
            "",
            &mut faults,
        );
        assert_eq!(faults.len(), 1, "{key}");
    }
}

#[test]
fn a_trace_shows_each_clause_and_what_it_saw() {
    let scene = Scene::new(&json!({ "level": 3 }), &json!({}));
    let condition = compile(
        &json!({ "level": "3", "org": "{principal.team}", "roles": ["viewer"] }),
        Some(Category::Principal),
    );
    let trace = condition.trace("", Lookup { attributes: &scene.attributes(), absence: Absence::NoMatch });
    let rows: Vec<_> = trace
        .iter()
        .map(|clause| (&*clause.attribute, &*clause.pattern, &clause.seen, &clause.truth))
        .collect();
    let roles = Value::List(vec![String::from("viewer"), String::from("analyst")]);
    assert_eq!(
        rows,
        [
            ("principal.level", r#""3""#, &Some(Value::Number(3)), &error("principal.level")),
            ("principal.org", r#""{principal.team}""#, &None, &Truth::False),
            ("principal.roles", r#"["viewer"]"#, &Some(roles), &Truth::True),
        ]
    );
    let reads: Vec<_> =
        condition.reads().into_iter().map(|(category, name)| category.full_name(name)).collect();
    assert_eq!(reads, ["principal.level", "principal.org", "principal.team", "principal.roles"]);
}

fn any_pattern() -> impl Strategy<Value = Json> {
    let one = prop_oneof![
        "[ab*]{0,2}".prop_map(Json::from),
        Just(json!("{principal.x}")),
        Just(json!("a{principal.y}*")),
    ];
    prop_oneof![
        one.clone(),
        prop::collection::vec(one, 1..4).prop_map(Json::from),
        (0..3).prop_map(Json::from)
    ]
}

fn any_value() -> impl Strategy<Value = Json> {
    prop_oneof![
        "[ab*]{0,3}".prop_map(Json::from),
        prop::collection::vec("[ab]{0,2}", 0..3).prop_map(Json::from),
        (0..3).prop_map(Json::from),
        any::<bool>().prop_map(Json::from),
    ]
}

proptest! {
    #[test]
    fn the_order_of_clauses_and_of_lists_changes_nothing(
        principal in prop::collection::btree_map("[xy]", any_value(), 0..3),
        resource in prop::collection::btree_map("[xyz]", any_value(), 0..4),
        patterns in prop::collection::vec(("[xyz]", any_pattern()), 0..6),
        shift in 0_usize..6,
    ) {
        let scene = Scene::new(&json!(principal), &json!(resource));
        let build = |patterns: &[(String, Json)]| patterns.iter().fold(Condition::default(), |condition, (name, pattern)| {
            condition.and(compile(&json!({ name: pattern }), Some(Category::Resource)))
        });
        let mut turned = patterns.clone();
        turned.rotate_left(shift.min(patterns.len()));
        for (_, pattern) in &mut turned {
            if let Json::Array(list) = pattern {
                list.reverse();
            }
        }
        let straight = build(&patterns).evaluate(&scene.attributes());
        prop_assert_eq!(&straight, &build(&turned).evaluate(&scene.attributes()));
        // and the whole is what its clauses say one by one
        let clauses: Vec<_> = build(&patterns).trace("", Lookup { attributes: &scene.attributes(), absence: Absence::NoMatch }).into_iter().map(|c| c.truth).collect();
        let expected = if clauses.contains(&Truth::False) {
            "false"
        } else if clauses.iter().all(|truth| *truth == Truth::True) {
            "true"
        } else {
            "error"
        };
        let said = match straight { Truth::True => "true", Truth::False => "false", Truth::Error(_) => "error" };
        prop_assert_eq!(said, expected);
    }

    #[test]
    fn arbitrary_patterns_compile_or_are_faults(text in "\\PC{0,12}|[{}a-z.*]{0,24}") {
        let mut faults = Faults::default();
        let patterns = BTreeMap::from([(text.clone(), Json::String(text))]);
        Condition::compile(&patterns, section(None), &Schema::default(), "", &mut faults);
        Condition::compile(&patterns, section(Some(Category::Resource)), &Schema::default(), "", &mut faults);
    }
}
