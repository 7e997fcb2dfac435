//! Each operator and block: what holds, what does not, and what is an error.

use serde_json::json;

use super::*;
use crate::time::UnixTime;

/// A request on a Monday at 09:30 UTC from 10.1.2.3.
struct Here(Scene);

impl Here {
    fn new() -> Self {
        Self(Scene::new(
            &json!({ "level": 3, "org": "acme", "groups": ["eu", "ml"], "trusted": true, "empty": "" }),
            &json!({
                "owner": "user_1", "level": 2, "open_until": "2026-12-31T00:00:00Z", "opens": "08:00",
                "groups": ["ml", "us"], "home": "10.9.9.9", "stage": "production",
            }),
        ))
    }

    fn attributes(&self) -> Attributes<'_> {
        Attributes {
            now: Some(UnixTime::parse("2026-11-23T09:30:00Z").unwrap()),
            source: Some("::ffff:10.1.2.3".parse().unwrap()),
            ..self.0.attributes()
        }
    }
}

fn check(rows: &[(Json, Truth)]) {
    let here = Here::new();
    for (written, truth) in rows {
        assert_eq!(compile(written, None).evaluate(&here.attributes()), *truth, "{written}");
    }
}

fn missing(attribute: &str) -> Truth {
    Truth::Error(ConditionError { attribute: attribute.into(), flaw: Flaw::Missing })
}

#[test]
fn equals_takes_its_value_as_it_is() {
    check(&[
        (json!({ "principal.org": { "equals": "acme" } }), Truth::True),
        (json!({ "principal.org": { "equals": "ac*" } }), Truth::False),
        (json!({ "principal.org": { "equals": "{principal.org}" } }), Truth::False),
        (json!({ "principal.level": { "equals": 3 } }), Truth::True),
        (json!({ "principal.trusted": { "equals": false } }), Truth::False),
        (json!({ "principal.level": { "equals": "3" } }), error("principal.level")),
        (json!({ "principal.groups": { "equals": "ml" } }), Truth::True),
        (json!({ "principal.team": { "equals": "x" } }), Truth::False),
        (json!({ "environment.source": { "equals": "10.1.2.3" } }), Truth::True),
        (json!({ "environment.weekday": { "equals": "monday" } }), Truth::True),
    ]);
}

#[test]
fn two_attributes_can_be_compared() {
    let attribute =
        |of: &str, operator: &str, other: &str| json!({ of: { operator: { "attribute": other } } });
    check(&[
        (attribute("resource.owner", "equals", "principal.id"), Truth::True),
        (attribute("resource.owner", "equals", "principal.org"), Truth::False),
        (attribute("resource.groups", "equals", "principal.groups"), Truth::True),
        (attribute("resource.owner", "equals", "principal.level"), error("resource.owner")),
        (attribute("resource.owner", "equals", "principal.unheard"), Truth::False),
        (attribute("resource.stage", "equals", "principal.empty"), Truth::False),
        (attribute("principal.level", "gte", "resource.level"), Truth::True),
        (attribute("principal.level", "lt", "resource.level"), Truth::False),
        (attribute("principal.level", "lt", "resource.owner"), error("principal.level")),
        (attribute("environment.now", "lt", "resource.open_until"), Truth::True),
        (attribute("environment.time", "gte", "resource.opens"), Truth::True),
        (attribute("environment.now", "lt", "resource.opens"), error("environment.now")),
        (attribute("environment.source", "equals", "resource.home"), Truth::False),
        (json!({ "action": { "equals": { "attribute": "resource.owner" } } }), Truth::False),
    ]);
}

#[test]
fn numbers_and_times_have_an_order() {
    check(&[
        (json!({ "principal.level": { "gt": 2 } }), Truth::True),
        (json!({ "principal.level": { "gt": 3 } }), Truth::False),
        (json!({ "principal.level": { "gte": 3, "lte": 3 } }), Truth::True),
        (json!({ "principal.level": { "lt": 3 } }), Truth::False),
        (json!({ "principal.org": { "gt": 2 } }), error("principal.org")),
        (json!({ "principal.team": { "gt": 2 } }), Truth::False),
        (json!({ "environment.time": { "gte": "09:30", "lt": "17:30:00" } }), Truth::True),
        (json!({ "environment.time": { "gt": "09:30" } }), Truth::False),
        (json!({ "environment.now": { "lt": "2026-11-23T10:31:00+01:00" } }), Truth::True),
        (json!({ "resource.open_until": { "gt": "2026-12-30T00:00:00Z" } }), Truth::True),
        (json!({ "resource.opens": { "lt": "09:00" } }), Truth::True),
        (json!({ "resource.opens": { "lt": "2026-12-30T00:00:00Z" } }), error("resource.opens")),
    ]);
}

#[test]
fn an_address_is_in_a_range() {
    check(&[
        (json!({ "environment.source": { "in_cidr": "10.0.0.0/8" } }), Truth::True),
        (json!({ "environment.source": { "in_cidr": ["192.168.0.0/16", "2001:db8::/32"] } }), Truth::False),
        (json!({ "resource.home": { "in_cidr": ["192.168.0.0/16", "10.9.0.0/16"] } }), Truth::True),
        (json!({ "resource.owner": { "in_cidr": "10.0.0.0/8" } }), error("resource.owner")),
        (json!({ "principal.level": { "in_cidr": "10.0.0.0/8" } }), error("principal.level")),
    ]);
}

#[test]
fn a_list_contains_all_of_some() {
    check(&[
        (json!({ "principal.groups": { "contains_all": ["ml", "eu"] } }), Truth::True),
        (json!({ "principal.groups": { "contains_all": "ml" } }), Truth::True),
        (json!({ "principal.groups": { "contains_all": ["ml", "us"] } }), Truth::False),
        (json!({ "principal.org": { "contains_all": ["acme"] } }), Truth::True),
        (json!({ "principal.level": { "contains_all": ["3"] } }), error("principal.level")),
    ]);
}

#[test]
fn presence_is_never_an_error() {
    check(&[
        (json!({ "principal.org": { "present": true } }), Truth::True),
        (json!({ "principal.empty": { "present": true } }), Truth::True),
        (json!({ "principal.team": { "present": true } }), Truth::False),
        (json!({ "principal.team": { "present": false } }), Truth::True),
        (json!({ "principal.org": { "not": { "present": true } } }), Truth::False),
    ]);
}

#[test]
fn not_turns_round_what_is_known_and_keeps_an_error() {
    check(&[
        (json!({ "resource.stage": { "not": "staging" } }), Truth::True),
        (json!({ "resource.stage": { "not": ["staging", "prod*"] } }), Truth::False),
        (json!({ "resource.stage": { "not": { "equals": "prod*" } } }), Truth::True),
        (json!({ "environment.source": { "not": { "in_cidr": "10.0.0.0/8" } } }), Truth::False),
        (json!({ "principal.level": { "not": "3" } }), error("principal.level")),
        (json!({ "principal.roles": { "not": "admin" } }), Truth::True),
        (json!({ "principal.roles": { "not": "viewer" } }), Truth::False),
        (json!({ "principal.team": { "not": "sales" } }), Truth::True),
        (json!({ "principal.team": { "not": "sales", "present": true } }), Truth::False),
        (json!({ "not": { "principal.level": "3" } }), error("principal.level")),
        (json!({ "not": { "principal.level": "3", "action": "read" } }), Truth::True),
    ]);
}

#[test]
fn blocks_follow_kleene() {
    let (yes, no, err) =
        (json!({ "action": "predict" }), json!({ "action": "read" }), json!({ "principal.level": "x" }));
    let all = |parts: [&Json; 2]| json!({ "all": parts });
    let any = |parts: [&Json; 2]| json!({ "any": parts });
    let error = || error("principal.level");
    check(&[
        (all([&yes, &yes]), Truth::True),
        (all([&yes, &err]), error()),
        (all([&err, &no]), Truth::False),
        (any([&no, &no]), Truth::False),
        (any([&err, &no]), error()),
        (any([&err, &yes]), Truth::True),
        (json!({ "not": any([&no, &err]) }), error()),
        (
            json!({ "any": [no, { "all": [yes, { "not": no }] }], "resource.stage": "production" }),
            Truth::True,
        ),
        (json!({ "any": [yes], "not": yes }), Truth::False),
    ]);
}

#[test]
fn what_is_required_must_be_there() {
    let scene = Here::new();
    let mut faults = Faults::default();
    let declared = json!({ "principal.team": { "type": "text", "required": true } });
    let schema = Schema::compile(&serde_json::from_value(declared).unwrap(), "", &mut faults);
    let says = |written: &Json, attributes: &Attributes<'_>| {
        let mut faults = Faults::default();
        let written = serde_json::from_value(written.clone()).unwrap();
        let condition = Condition::compile(&written, Section::When, &schema, "", &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        condition.evaluate(attributes)
    };
    let attributes = scene.attributes();
    assert_eq!(says(&json!({ "principal.team": "x" }), &attributes), missing("principal.team"));
    assert_eq!(says(&json!({ "principal.team": { "not": "x" } }), &attributes), missing("principal.team"));
    assert_eq!(says(&json!({ "principal.team": { "present": false } }), &attributes), Truth::True);
    assert_eq!(
        says(&json!({ "resource.owner": "{principal.team}" }), &attributes),
        missing("principal.team")
    );
    assert_eq!(says(&json!({ "principal.team": "x", "action": "read" }), &attributes), Truth::False);
    let nowhere = Attributes { source: None, now: None, ..attributes };
    let source = json!({ "environment.source": { "in_cidr": "10.0.0.0/8" } });
    assert_eq!(says(&source, &nowhere), missing("environment.source"));
    assert_eq!(
        says(&json!({ "environment.time": { "lt": "12:00" } }), &nowhere),
        missing("environment.time")
    );
}

#[test]
fn a_recorded_request_is_judged_as_it_was() {
    let here = Here::new();
    let written = json!({
        "environment.source": { "in_cidr": "10.0.0.0/8" }, "environment.time": { "lt": "09:30:00.001" },
        "environment.now": { "gte": "2026-11-23T09:30:00Z" }, "environment.weekday": ["monday"],
    });
    let condition = compile(&written, None);
    let recorded: AttributeMap = ["source", "time", "now", "weekday"]
        .into_iter()
        .map(|name| {
            let value = here.attributes().lookup(Category::Environment, name).unwrap();
            (name.to_owned(), value.to_value())
        })
        .collect();
    let replayed = Attributes { now: None, source: None, environment: &recorded, ..here.attributes() };
    assert_eq!(condition.evaluate(&here.attributes()), Truth::True);
    assert_eq!(condition.evaluate(&replayed), Truth::True);
}

#[test]
fn faults_of_conditions_have_their_place() {
    let rows = [
        (json!({ "principal.x": {} }), "/when/principal.x"),
        (json!({ "principal.x": { "greater": 1 } }), "/when/principal.x/greater"),
        (json!({ "principal.x": { "gt": "soon" } }), "/when/principal.x/gt"),
        (json!({ "principal.x": { "gt": true } }), "/when/principal.x/gt"),
        (json!({ "principal.x": { "gt": { "attribute": "x" } } }), "/when/principal.x/gt"),
        (json!({ "principal.x": { "equals": ["a"] } }), "/when/principal.x/equals"),
        (json!({ "principal.x": { "in_cidr": "10.0.0.1" } }), "/when/principal.x/in_cidr"),
        (json!({ "principal.x": { "contains_all": [] } }), "/when/principal.x/contains_all"),
        (json!({ "principal.x": { "contains_all": [1] } }), "/when/principal.x/contains_all"),
        (json!({ "principal.x": { "present": "yes" } }), "/when/principal.x/present"),
        (json!({ "principal.x": { "not": { "gt": 1, "lt": 3 } } }), "/when/principal.x/not"),
        (json!({ "principal.x": { "not": { "not": 1 } } }), "/when/principal.x/not"),
        (json!({ "principal.x": vec!["a"; 1025] }), "/when/principal.x"),
        (
            json!({ "principal.x": { "contains_all": ["a".repeat(70_000)] } }),
            "/when/principal.x/contains_all",
        ),
        (json!({ "environment.time": { "lt": 5 } }), "/when/environment.time/lt"),
        (json!({ "environment.source": "10.*" }), "/when/environment.source"),
        (json!({ "environment.source": { "equals": "here" } }), "/when/environment.source/equals"),
        (json!({ "principal.id": { "gt": 1 } }), "/when/principal.id/gt"),
        (json!({ "action": { "gt": { "attribute": "environment.time" } } }), "/when/action/gt"),
        (json!({ "any": [] }), "/when/any"),
        (json!({ "all": {} }), "/when/all"),
        (json!({ "any": [{}] }), "/when/any/0"),
        (json!({ "not": { "org": "x" } }), "/when/not/org"),
    ];
    for (written, place) in rows {
        assert_eq!(faults(&written), [place], "{written}");
    }
}

fn faults(written: &Json) -> Vec<String> {
    let mut faults = Faults::default();
    let written = serde_json::from_value(written.clone()).unwrap();
    Condition::compile(&written, Section::When, &Schema::default(), "/when", &mut faults);
    faults.into_vec().into_iter().map(|fault| fault.pointer).collect()
}

#[test]
fn depth_and_number_of_clauses_are_bounded() {
    let nested = |depth: usize| (0..depth).fold(json!({ "action": "x" }), |inner, _| json!({ "not": inner }));
    assert!(faults(&nested(MAX_DEPTH)).is_empty());
    assert_eq!(faults(&nested(MAX_DEPTH + 1)).len(), 1);
    let many = |clauses: usize| json!({ "any": vec![json!({ "action": "x" }); clauses] });
    assert!(faults(&many(MAX_CLAUSES)).is_empty());
    assert_eq!(faults(&many(MAX_CLAUSES + 1)), ["/when"]);
}

#[test]
fn every_part_is_found_where_it_is_written() {
    let written = serde_json::from_value(json!({
        "principal.org": "acme", "principal.level": { "gte": 1, "not": { "equals": 2 } },
        "any": [{ "resource.a-b": "x" }, { "not": { "action": { "not": "read" } } }],
    }))
    .unwrap();
    let mut faults = Faults::default();
    let condition = Condition::compile(&written, Section::When, &Schema::default(), "/p/when", &mut faults);
    let mut places = Vec::new();
    condition.walk("/p", &mut |pointer, part| {
        places.push(match part {
            Part::Clause(clause) => format!("{pointer} {}", clause.to_json()),
            Part::Block(block) => format!("{pointer} {}", block.word()),
        });
    });
    assert_eq!(
        places,
        [
            r#"/p/when/principal.level/gte {"gte":1}"#,
            r#"/p/when/principal.level/not/equals {"not":{"equals":2}}"#,
            r#"/p/when/principal.org "acme""#,
            "/p/when/any any",
            r#"/p/when/any/0/resource.a-b "x""#,
            "/p/when/any/1/not not",
            r#"/p/when/any/1/not/action/not {"not":"read"}"#,
        ]
    );
}
