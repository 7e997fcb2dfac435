use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::policy::attributes::Value;

fn compile(resources: &Json) -> (ResourceRules, Vec<String>) {
    let spec: ResourcesSpec = serde_json::from_value(resources.clone()).unwrap();
    let mut faults = Faults::default();
    let rules = ResourceRules::compile(&spec, "/resources", &mut faults);
    (rules, faults.iter().map(|fault| fault.pointer.clone()).collect())
}

fn rules(resources: &Json) -> ResourceRules {
    let (rules, faults) = compile(resources);
    assert!(faults.is_empty(), "{faults:?}");
    rules
}

fn open(list: &Json) -> ResourceRules {
    rules(&json!({ "unlisted": "allow", "rules": list }))
}

/// `type/id action`, or the word for what came instead.
fn said(resolution: &Resolution) -> String {
    match resolution {
        Resolution::Found { resource, action } => format!("{}/{} {action}", resource.kind, resource.id),
        Resolution::NeedsBody(pending) => format!("{}? {}", pending.kind, pending.action),
        Resolution::Unknown => String::from("unknown"),
        Resolution::Unlisted { resource, action } => {
            format!("unlisted {}/{} {action}", resource.kind, resource.id)
        }
    }
}

fn check(rules: &ResourceRules, rows: &[(&str, &str, &str)]) {
    for (method, path, expected) in rows {
        assert_eq!(said(&rules.resolve(method, path, "host")), *expected, "{method} {path}");
    }
}

#[test]
fn a_segment_or_a_part_of_one_is_captured() {
    let rules = open(&json!([
        { "match": { "methods": ["POST"], "path": "/v1/models/{model}:predict" },
          "resource": { "type": "model", "id": "{model}" }, "action": "predict" },
        { "match": { "path": "/{org}/m-{name}/run" },
          "resource": { "type": "model", "id": "{org}.{name}" }, "action": "run" },
        { "match": { "methods": ["GET"], "path": "/any/{_what}" },
          "resource": { "type": "page", "id": "any" }, "action": "read" },
    ]));
    check(
        &rules,
        &[
            ("POST", "/v1/models/fraud_v2:predict", "model/fraud_v2 predict"),
            ("POST", "/v1/models/a:predict:predict", "model/a:predict predict"),
            ("POST", "/v1/models/:predict", "unknown"),
            ("POST", "/v1/models/fraud_v2:predict/", "unknown"),
            ("POST", "/v1/models/fraud_v2", "unknown"),
            ("POST", "/v1/models/a/b:predict", "unknown"),
            ("GET", "/v1/models/fraud_v2:predict", "unknown"),
            ("post", "/v1/models/fraud_v2:predict", "unknown"),
            ("PUT", "/acme/m-x/run", "model/acme.x run"),
            ("PUT", "/acme/m-/run", "unknown"),
            ("PUT", "//m-x/run", "unknown"),
            ("GET", "/any/thing", "page/any read"),
            ("GET", "/any/", "unknown"),
            ("GET", "", "unknown"),
        ],
    );
}

#[test]
fn the_first_rule_that_matches_wins() {
    let one =
        json!({ "match": { "path": "/m/admin" }, "resource": { "type": "admin", "id": "x" }, "action": "a" });
    let other =
        json!({ "match": { "path": "/m/{m}" }, "resource": { "type": "model", "id": "{m}" }, "action": "b" });
    check(&open(&json!([one, other])), &[("GET", "/m/admin", "admin/x a"), ("GET", "/m/y", "model/y b")]);
    check(&open(&json!([other, one])), &[("GET", "/m/admin", "model/admin b")]);
}

#[test]
fn an_escaped_id_is_what_the_upstream_reads() {
    let rules = open(&json!([
        { "match": { "path": "/m/{m}" }, "resource": { "type": "model", "id": "{m}" }, "action": "read" },
    ]));
    check(
        &rules,
        &[
            ("GET", "/m/caf%C3%A9", "model/café read"),
            ("GET", "/m/a%20b", "model/a b read"),
            ("GET", "/m/%7Bx%7D", "model/{x} read"),
            ("GET", "/m/a+b", "model/a+b read"),
            ("GET", "/m/%FF", "unknown"),
            ("GET", "/m/%C3%A9%C3", "unknown"),
        ],
    );
}

#[test]
fn escapes_do_not_walk_past_a_rule() {
    let rules = open(&json!([
        { "match": { "path": "/m/admin" }, "resource": { "type": "admin", "id": "x" }, "action": "a" },
        { "match": { "path": "/m/{m}:predict" }, "resource": { "type": "model", "id": "{m}" }, "action": "predict" },
        { "match": { "path": "/m/{m}" }, "resource": { "type": "model", "id": "{m}" }, "action": "read" },
    ]));
    check(
        &rules,
        &[
            ("GET", "/m/%61dmin", "unknown"),
            ("GET", "/%6d/admin", "unknown"),
            ("GET", "/m/x%3Apredict", "unknown"),
            ("GET", "/m/x:%70redict", "unknown"),
            ("GET", "/m/%78:predict", "model/x predict"),
            ("GET", "/m/adm%69nx", "model/adminx read"),
        ],
    );
}

#[test]
fn hosts_capture_one_label() {
    let rules = open(&json!([
        { "match": { "host": "{model}.models.example" }, "resource": { "type": "model", "id": "{model}" }, "action": "predict" },
        { "match": { "host": "x-{a}.example", "path": "/{b}" }, "resource": { "type": "model", "id": "{b}.{a}" }, "action": "read" },
    ]));
    for (host, expected) in [
        ("fraud.models.example", "model/fraud predict"),
        ("a.fraud.models.example", "unknown"),
        (".models.example", "unknown"),
        ("models.example", "unknown"),
        ("x-1.example", "model/p.1 read"),
        ("", "unknown"),
    ] {
        assert_eq!(said(&rules.resolve("GET", "/p", host)), expected, "{host}");
    }
}

#[test]
fn the_catalogue_gives_attributes_and_says_what_exists() {
    let rule = json!({ "match": { "path": "/{m}" }, "resource": { "type": "model", "id": "{m}" }, "action": "read" });
    let catalogue = json!([
        { "type": "model", "id": "a", "org": "acme", "level": 3 },
        { "type": "dataset", "id": "b" },
    ]);
    let closed = rules(&json!({ "catalogue": catalogue, "rules": [rule] }));
    check(&closed, &[("GET", "/a", "model/a read"), ("GET", "/b", "unlisted model/b read")]);
    let Resolution::Found { resource, .. } = closed.resolve("GET", "/a", "") else { panic!("listed") };
    assert_eq!(resource.attributes.get("org"), Some(&Value::Text(String::from("acme"))));
    assert_eq!(resource.attributes.get("level"), Some(&Value::Number(3)));
    let open = rules(&json!({ "catalogue": catalogue, "rules": [rule], "unlisted": "allow" }));
    check(&open, &[("GET", "/a", "model/a read"), ("GET", "/b", "model/b read")]);
}

#[test]
fn openai_reads_the_model_from_the_body() {
    let rules =
        rules(&json!({ "catalogue": [{ "type": "model", "id": "m" }], "rules": [{ "preset": "openai" }] }));
    check(
        &rules,
        &[
            ("POST", "/v1/chat/completions", "model? predict"),
            ("POST", "/v1/embeddings", "model? predict"),
            ("POST", "/v1/responses", "model? predict"),
            ("GET", "/v1/chat/completions", "unknown"),
            ("POST", "/v1/chat/completions/", "unknown"),
            ("POST", "/v1/audio/transcriptions", "unknown"),
            ("GET", "/v1/models", "catalogue/models list"),
            ("GET", "/v1/models/m", "model/m read"),
            ("GET", "/v1/models/n", "unlisted model/n read"),
            ("DELETE", "/v1/models/m", "unknown"),
        ],
    );
    assert!(rules.reads_bodies());
    let Resolution::NeedsBody(pending) = rules.resolve("POST", "/v1/completions", "") else { panic!("body") };
    assert_eq!(said(&rules.complete(&pending, "m")), "model/m predict");
    assert_eq!(said(&rules.complete(&pending, "n")), "unlisted model/n predict");
}

#[test]
fn kserve_v1_reads_the_model_from_the_path() {
    let rules = open(&json!([{ "preset": "kserve_v1" }]));
    check(
        &rules,
        &[
            ("GET", "/v1/models", "catalogue/models list"),
            ("GET", "/v1/models/m", "model/m read"),
            ("POST", "/v1/models/m:predict", "model/m predict"),
            ("POST", "/v1/models/m:explain", "model/m explain"),
            ("POST", "/v1/models/m", "unknown"),
            ("POST", "/v1/models/m%3Apredict", "unknown"),
            ("POST", "/v2/models/m/infer", "unknown"),
        ],
    );
    assert!(!rules.reads_bodies());
}

#[test]
fn a_rule_may_read_the_body_too() {
    let rule = json!([{ "match": { "methods": ["POST"], "path": "/llm/v1/completions" },
        "resource": { "type": "model", "id": "{body.model}" }, "action": "predict" }]);
    check(&open(&rule), &[("POST", "/llm/v1/completions", "model? predict")]);
    let (_, faults) = compile(&json!({ "unlisted": "allow", "rules": rule, "body": { "peek": "off" } }));
    assert_eq!(faults, ["/resources/rules/0"]);
    let (_, faults) = compile(&json!({ "rules": [{ "preset": "openai" }], "body": { "peek": "off" } }));
    assert_eq!(faults, ["/resources/rules/0"]);
}

#[test]
fn every_fault_is_reported_with_its_place() {
    let rule = |matches: Json, id: &str| json!({ "match": matches, "resource": { "type": "model", "id": id }, "action": "read" });
    let rows = [
        (json!({ "preset": "opanai" }), "/preset"),
        (json!({ "preset": "openai", "action": "read" }), ""),
        (json!({ "match": { "path": "/x" }, "action": "read" }), ""),
        (json!({}), ""),
        (rule(json!({ "methods": ["GET"] }), "listed"), "/match"),
        (rule(json!({ "path": "/x", "methods": [] }), "listed"), "/match/methods"),
        (rule(json!({ "path": "/x", "methods": ["GET", "get"] }), "listed"), "/match/methods/1"),
        (rule(json!({ "path": "x" }), "listed"), "/match/path"),
        (rule(json!({ "path": "/x/*" }), "listed"), "/match/path"),
        (rule(json!({ "path": "/x?y" }), "listed"), "/match/path"),
        (rule(json!({ "path": "/x%20y" }), "listed"), "/match/path"),
        (rule(json!({ "path": "/x/../y" }), "listed"), "/match/path"),
        (rule(json!({ "path": "/x//y" }), "listed"), "/match/path"),
        (rule(json!({ "path": "/é" }), "listed"), "/match/path"),
        (rule(json!({ "path": "/{a" }), "listed"), "/match/path"),
        (rule(json!({ "path": "/a}" }), "listed"), "/match/path"),
        (rule(json!({ "path": "/{}" }), "listed"), "/match/path"),
        (rule(json!({ "path": "/{A}" }), "{a}"), "/match/path"),
        (rule(json!({ "path": "/{a}{b}" }), "listed"), "/match/path"),
        (rule(json!({ "path": "/{a}/{a}" }), "listed"), "/match/path"),
        (rule(json!({ "path": "/{a}", "host": "{a}.x" }), "{a}"), "/match"),
        (rule(json!({ "host": "X.example" }), "listed"), "/match/host"),
        (rule(json!({ "host": "x.example:80" }), "listed"), "/match/host"),
        (rule(json!({ "host": "*.example" }), "listed"), "/match/host"),
        (rule(json!({ "path": "/{a}" }), "listed"), "/resource/id"),
        (rule(json!({ "path": "/x" }), "{a}"), "/resource/id"),
        (rule(json!({ "path": "/x" }), ""), "/resource/id"),
        (rule(json!({ "path": "/x" }), "not_listed"), "/resource/id"),
        (rule(json!({ "path": "/{a}" }), "x-{body.model}"), "/resource/id"),
        (
            json!({ "match": { "path": "/x" }, "resource": { "type": "", "id": "x" }, "action": "a" }),
            "/resource/type",
        ),
        (
            json!({ "match": { "path": "/x" }, "resource": { "type": "model", "id": "listed" }, "action": "a b" }),
            "/action",
        ),
    ];
    for (rule, place) in rows {
        let (_, faults) =
            compile(&json!({ "catalogue": [{ "type": "model", "id": "listed" }], "rules": [rule] }));
        assert_eq!(faults.first(), Some(&format!("/resources/rules/0{place}")), "{rule}: {faults:?}");
    }
    let (_, faults) = compile(&json!({
        "catalogue": [
            { "type": "model", "id": "a", "roles": [], "x": null },
            { "type": "model", "id": "a" },
            { "type": "mo del", "id": "" },
        ],
        "rules": [],
    }));
    let places = ["catalogue/0/x", "catalogue/1/id", "catalogue/2/type", "catalogue/2/id", "rules"];
    assert_eq!(faults, places.map(|place| format!("/resources/{place}")));
}

#[test]
fn every_preset_compiles_without_faults() {
    for name in presets::names() {
        rules(&json!({ "rules": [{ "preset": name }] }));
    }
}

proptest! {
    #[test]
    fn nothing_panics_and_ids_are_never_empty(path in "/[a-c/%:{}\\PC0-9]{0,16}|\\PC{0,8}", host in "[a-c.]{0,6}") {
        let rules = open(&json!([
            { "match": { "path": "/{a}/b-{c}" }, "resource": { "type": "m", "id": "{a}{c}" }, "action": "x" },
            { "match": { "path": "/{a}", "host": "{h}.b" }, "resource": { "type": "m", "id": "{a}/{h}" }, "action": "x" },
        ]));
        if let Resolution::Found { resource, .. } = rules.resolve("GET", &path, &host) {
            prop_assert!(!resource.id.is_empty());
        }
    }

    #[test]
    fn arbitrary_rules_compile_or_are_faults(path in "[/{}a-z:*%?.]{0,16}|\\PC{0,12}", id in "[{}a-z.]{0,12}") {
        compile(&json!({ "rules": [
            { "match": { "path": path, "host": id }, "resource": { "type": "m", "id": id }, "action": path },
        ] }));
    }

    #[test]
    fn a_plain_segment_is_captured_as_it_is(segment in "[A-Za-z0-9_~-]{1,20}") {
        let rules = open(&json!([{ "match": { "path": "/m/{m}" }, "resource": { "type": "m", "id": "{m}" }, "action": "x" }]));
        prop_assert_eq!(said(&rules.resolve("GET", &format!("/m/{segment}"), "")), format!("m/{segment} x"));
    }
}
