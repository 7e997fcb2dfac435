//! `mlgate who-can` and `can-what`, held against asking each combination.

#![expect(clippy::unwrap_used, reason = "a command that cannot run should stop the test")]

use std::collections::BTreeSet;

use mlgate::config::Format;
use mlgate::identity::Identity;
use mlgate::identity::api_key::table::scope_of;
use mlgate::review::Candidate;
use mlgate::review::candidate::Question;
use mlgate::time::UnixTime;
use serde_json::{Value as Json, json};

use command::{ROOT, file, mlgate, text};

#[path = "support/command.rs"]
mod command;

const EXAMPLES: [&str; 5] = ["demo", "large", "medium", "quickstart", "small"];

fn rows(arguments: &[&str]) -> (Option<i32>, Vec<Json>) {
    let output = mlgate(&[arguments, &["--format", "json"]].concat(), "");
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn both_say_what_asking_each_combination_says() {
    let mut asked = 0;
    for example in EXAMPLES {
        let path = format!("envoy/config/{example}.yaml");
        let bytes = std::fs::read(std::path::Path::new(ROOT).join(&path)).unwrap();
        let candidate = Candidate::open(&bytes, Format::Yaml, &|_| Some("x".repeat(40))).unwrap();
        for consumer in &candidate.document.consumers {
            let (_, found) = rows(&["can-what", &path, "--principal", &consumer.name]);
            // what has expired is no way in
            let far = UnixTime::parse("2090-01-01T00:00:00Z").unwrap();
            let keys = consumer.credentials.api_keys.iter();
            for key in keys.filter(|key| key.not_after.is_none_or(|until| until.0 > far)) {
                let credential = format!("key {}", key.id);
                let said: BTreeSet<String> = found
                    .iter()
                    .filter(|row| row["credential"] == json!(credential))
                    .map(|row| format!("{} {} {} {}", row["profile"], row["type"], row["id"], row["action"]))
                    .collect();
                let mut expected = BTreeSet::new();
                for profile in &candidate.config.profiles.list {
                    if format!("{:?}", profile.authenticate).contains("Nobody")
                        || !format!("{:?}", profile.authenticate).contains("ApiKey")
                    {
                        continue;
                    }
                    let mut identity = candidate.settle(Identity::anonymous(), Some(&consumer.name));
                    identity.scope = scope_of(key, "", &mut mlgate::config::faults::Faults::default());
                    identity.scope.source_ranges = None;
                    for (resource, listed) in candidate.resources() {
                        for (_, action) in
                            candidate.offered().iter().filter(|(kind, _)| *kind == resource.kind)
                        {
                            asked += 1;
                            let question = Question {
                                principal: &identity,
                                resource: &resource,
                                listed,
                                action,
                                environment: &candidate.config.environment,
                                now: None,
                                source: None,
                            };
                            if candidate.decide(profile, &question).is_allowed() {
                                expected.insert(format!(
                                    "{:?} {:?} {:?} {action:?}",
                                    profile.name, resource.kind, resource.id
                                ));
                            }
                        }
                    }
                }
                assert_eq!(said, expected, "{example}: {}", consumer.name);
                for row in found.iter().filter(|row| row["credential"] == json!(credential)) {
                    let of = |name: &str| row[name].as_str().unwrap();
                    let resource = format!("{}/{}", of("type"), of("id"));
                    let (_, who) =
                        rows(&["who-can", &path, "--action", of("action"), "--resource", &resource]);
                    assert!(who.contains(row), "{resource}: {row} in {who:#?}");
                }
            }
        }
    }
    assert!(asked > 100, "{asked}");
}

#[test]
fn what_a_claim_the_time_or_the_address_decides_is_said_to_depend_on_it() {
    let path = "envoy/config/large.yaml";
    let (code, who) = rows(&["who-can", path, "--action", "predict", "--resource", "model/demand_forecast"]);
    let of = |principal: &str| who.iter().find(|row| row["principal"] == json!(principal)).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(of("gears")["depends_on"], json!(["source in 203.0.113.0/24, 127.0.0.0/8"]));
    assert_eq!(of("gears")["policies"], json!(["partners-predict-on-what-is-shared"]));
    assert_eq!(
        of("jwt:corp:*")["depends_on"],
        json!(["principal.department", "principal.id", "principal.kind", "scope models:use"])
    );
    assert_eq!(of("anonymous")["depends_on"], json!(["a request like GET /healthz"]));
    assert!(!who.iter().any(|row| row["principal"] == "fraud_retraining"), "{who:#?}");
    let night = std::fs::read_to_string(std::path::Path::new(ROOT).join("envoy/config/small.yaml")).unwrap().replace(
        "    viewer: { permissions: [list, read] }\n",
        "    viewer: { permissions: [list, { actions: [read], when: { environment.time: { gte: \"08:00\" } } }] }\n",
    );
    let night = file("night.yaml", &night).to_str().unwrap().to_owned();
    let (_, who) = rows(&["who-can", &night, "--action", "read", "--resource", "model/x"]);
    let viewer = who.iter().find(|row| row["principal"] == "user_3").unwrap();
    assert_eq!((&viewer["depends_on"], &viewer["policies"]), (&json!(["environment.time"]), &json!([])));
    let admin = who.iter().find(|row| row["principal"] == "user_1").unwrap();
    assert_eq!(admin.get("depends_on"), None);
}

/// Who can do it in `small.yaml` with other words, as `principal, credential`.
fn who(name: &str, old: &str, new: &str, action: &str) -> (BTreeSet<String>, Vec<Json>) {
    let small = std::fs::read_to_string(std::path::Path::new(ROOT).join("envoy/config/small.yaml")).unwrap();
    assert!(small.contains(old), "{old}");
    let path = file(name, &small.replacen(old, new, 1)).to_str().unwrap().to_owned();
    let (_, rows) = rows(&["who-can", &path, "--action", action, "--resource", "model/x"]);
    let of = |row: &Json, name: &str| row[name].as_str().unwrap().to_owned();
    (rows.iter().map(|row| format!("{}, {}", of(row, "principal"), of(row, "credential"))).collect(), rows)
}

#[test]
fn a_token_that_an_endpoint_is_asked_about_is_a_way_in() {
    let endpoint = "authentication:
  introspection:
    - { name: idp, cluster: idp, uri: \"https://idp.example/introspect\", client_id: gate, client_secret_env: SECRET,
        scopes: { \"models:read\": [read] }, claims: { roles: roles } }
";
    let (callers, rows) = who("opaque.yaml", "authentication:\n", endpoint, "read");
    assert!(callers.contains("opaque:idp:*, token of idp"), "{callers:?}");
    let opaque = rows.iter().find(|row| row["principal"] == json!("opaque:idp:*")).unwrap();
    assert_eq!(opaque["depends_on"], json!(["principal.roles", "scope models:read"]));
    let (callers, _) = who("opaque-no-scope.yaml", "authentication:\n", endpoint, "delete");
    assert!(!callers.contains("opaque:idp:*, token of idp"), "{callers:?}");
}

#[test]
fn of_all_the_credential_that_decides_says_who_comes_in() {
    let both = |principal: &str| {
        format!(
            "profiles: {{ default: {{ authenticate: {{ all: [api_key, jwt]{principal} }} }} }}\nresources:\n"
        )
    };
    let of = |name: &str, principal: &str| who(name, "resources:\n", &both(principal), "predict").0;
    // nobody has a key and a token
    assert_eq!(of("all.yaml", ""), BTreeSet::new());
    let by_key = of("all-by-key.yaml", ", principal: api_key");
    assert_eq!(by_key, BTreeSet::from([String::from("web_shop, key w9xfhmfn")]));
    let by_token = of("all-by-token.yaml", ", principal: jwt");
    assert_eq!(by_token, ["user_1", "user_2"].map(|user| format!("{user}, token of login")).into());
}

#[test]
fn nobody_and_nothing_are_exit_2_and_unknown_names_exit_3() {
    let path = "envoy/config/small.yaml";
    let no_admin = std::fs::read_to_string(std::path::Path::new(ROOT).join(path))
        .unwrap()
        .replace("[admin]", "[viewer]");
    let no_admin = file("no-admin.yaml", &no_admin).to_str().unwrap().to_owned();
    let (code, who) = rows(&["who-can", &no_admin, "--action", "delete", "--resource", "model/x"]);
    assert_eq!((code, who.len()), (Some(2), 0));
    let (code, _) = rows(&["can-what", "envoy/config/medium.yaml", "--principal", "nightly_scoring"]);
    assert_eq!(code, Some(0));
    for (arguments, line) in [
        (
            vec!["who-can", path, "--action", "destroy", "--resource", "model/x"],
            "ask for one of: delete of model",
        ),
        (vec!["who-can", path, "--action", "read", "--resource", "model"], "is not a type and an id"),
        (vec!["can-what", path, "--principal", "nobody"], "name one of `jwt:login:*`, `user_1`"),
        (vec!["can-what", path, "--principal", "user_1", "--profile", "none"], "there is no profile `none`"),
    ] {
        let output = mlgate(&arguments, "");
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), error.lines().count()), (Some(3), 1), "{error}");
        assert!(error.contains(line), "{error}");
    }
}
