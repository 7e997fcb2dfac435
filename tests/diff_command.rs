//! `mlgate diff` and `mlgate explain --decision` on recorded decisions.

#![expect(
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a command that cannot run should stop the test"
)]

use serde_json::{Value as Json, json};

use command::{file, mlgate, text};

#[path = "support/command.rs"]
mod command;

/// A gate with a key, tokens and a role; tests change a line of it.
const GATE: &str = r#"
version: 1
name: gate
environment: { name: production }
consumers:
  - name: shop
    attributes: { team: sales }
    roles: [user]
    credentials: { api_keys: [{ id: w9xfhmfn, digest: "sha256:83103bb5e2e98ca30312ff41ccd4ef2cfdd77db6aba9bae304d0bd0e9f5060f2" }] }
  - { name: ana, roles: [user], credentials: { jwt: [{ provider: corp, subject: "1" }] } }
authentication:
  jwt:
    providers:
      - name: corp
        issuer: https://id.example
        audiences: [models]
        algorithms: [ES256]
        local_jwks: { keys: [{ kty: EC, crv: P-256, x: niAZnnmSls07te1m20Yo4GJkdKK24wRyi_gEjcMpDZ8, y: lcRte6ynxI1istiakhHFBAul8d5xY8yBgF3bOSSeaJo }] }
        claims: { roles: groups, attributes: { team: team, clearance: clearance } }
resources:
  catalogue:
    - { type: model, id: fraud, team: risk, stage: production }
    - { type: model, id: chat, team: sales, stage: staging }
  rules: [{ preset: kserve_v1 }, { preset: openai }]
authorization:
  roles: { user: { permissions: [read] } }
  policies:
    - { name: teams-predict, effect: allow, principal: { team: "{principal.team}" }, resource: { team: "{principal.team}" }, action: [predict] }
audit: { collector: { cluster: audit }, chain: { unkeyed: true } }
"#;

struct Gate {
    path: String,
    revision: String,
}

fn gate(name: &str, content: &str) -> Gate {
    let path = file(name, content).to_str().unwrap().to_owned();
    let report = mlgate(&["check", &path, "--format", "json"], "");
    let report: Json = serde_json::from_slice(&report.stdout).unwrap();
    Gate {
        path,
        revision: report["policy_revision"].as_str().unwrap_or_else(|| panic!("{report:#}")).to_owned(),
    }
}

/// The gate with one text replaced by another.
fn changed(name: &str, from: &str, to: &str) -> Gate {
    assert!(GATE.contains(from), "{from}");
    gate(name, &GATE.replace(from, to))
}

/// Events as the filter writes them, without what they are sealed with.
fn log(name: &str, revision: &str, decisions: &[Json]) -> String {
    let mut lines = format!(
        "{}\n",
        json!({ "v": 1, "type": "open", "chain": "g/0", "seq": 0, "timestamp": "2026-02-27T10:00:00Z" })
    );
    for (seq, decision) in (1..).zip(decisions) {
        let mut event = json!({
            "v": 1, "type": "access", "chain": "g/0", "seq": seq, "timestamp": "2026-02-27T10:00:00.250Z",
            "decision_id": format!("{seq:032x}"), "policy_revision": revision, "profile": "default",
            "host": "models.example", "source": "10.1.2.3", "status": "success", "tier": "default",
        });
        let members = event.as_object_mut().unwrap();
        members.extend(decision.as_object().unwrap().clone());
        lines.push_str(&format!("{event}\n"));
    }
    file(name, &lines).to_str().unwrap().to_owned()
}

/// A decision on `POST /v1/models/<model>:predict`.
fn predict(principal: &str, credential: Json, model: &str) -> Json {
    json!({
        "principal": principal, "user_id": principal, "credential": credential, "roles": ["user"],
        "method": "POST", "path": format!("/v1/models/{model}:predict"), "action": "predict",
        "resource": { "type": "model", "id": model }, "model_id": model, "policies": ["teams-predict"],
    })
}

fn key() -> Json {
    json!({ "method": "api_key", "id": "w9xfhmfn" })
}

fn token() -> Json {
    json!({ "method": "jwt", "issuer": "https://id.example" })
}

fn with(mut decision: Json, more: Json) -> Json {
    decision.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    decision
}

/// A token's caller of the team risk, and its allowed prediction on `fraud`.
fn bob() -> Json {
    with(
        predict("jwt:corp:2", token(), "fraud"),
        json!({ "team": "risk", "attributes": { "principal": { "team": "risk", "roles": ["user"] } } }),
    )
}

fn differ(old: &Gate, new: &Gate, log: &str) -> (Option<i32>, Json) {
    let output = mlgate(&["diff", &old.path, &new.path, "--log", log, "--format", "json"], "");
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// Each flip as `because: principal from -> to`.
fn flips(report: &Json, of: &str) -> Vec<String> {
    let mut found = Vec::new();
    for group in report[of].as_array().unwrap() {
        for row in group["list"].as_array().unwrap() {
            let word = |name: &str| row[name].as_str().unwrap().to_owned();
            let because = group["because"].as_str().unwrap();
            found.push(format!(
                "{because}: {} {} -> {} x{}",
                word("principal"),
                word("from"),
                word("to"),
                row["decisions"]
            ));
        }
    }
    found
}

#[test]
fn what_does_not_change_does_not_flip() {
    let old = gate("same-old.yaml", GATE);
    let log = log("same.log", &old.revision, &[predict("shop", key(), "chat"), bob()]);
    let (code, report) = differ(&old, &old, &log);
    assert_eq!(
        (code, &report["decisions"], &report["decisions_flipped"]),
        (Some(0), &json!(2), &json!(0)),
        "{report:#}"
    );
    assert_eq!(report["decisions_undecided"], 0, "{report:#}");
}

#[test]
fn flips_are_listed_by_the_policy_responsible() {
    let old = gate("flip-old.yaml", GATE);
    let denied = with(
        predict("shop", key(), "fraud"),
        json!({ "status": "denied", "reason": "no_match", "policies": [], "count": 4 }),
    );
    let log = log("flip.log", &old.revision, &[predict("shop", key(), "chat"), denied, bob(), bob()]);
    for (name, from, to, expected) in [
        (
            "flip-deny.yaml",
            "  policies:\n",
            "  policies:\n    - { name: no-staging, effect: deny, resource: { stage: staging }, action: [predict] }\n",
            vec!["no-staging: shop allowed (teams-predict) -> denied (explicit_deny, no-staging) x1"],
        ),
        (
            "flip-allow.yaml",
            "  policies:\n",
            "  policies:\n    - { name: all-predict, effect: allow, principal: { team: sales }, action: [predict] }\n",
            vec!["all-predict: shop denied (no_match) -> allowed (all-predict) x4"],
        ),
        (
            "flip-off.yaml",
            "effect: allow, principal",
            "mode: \"off\", effect: allow, principal",
            vec![
                "teams-predict: shop allowed (teams-predict) -> denied (role) x1",
                "teams-predict: jwt:corp:2 allowed (teams-predict) -> denied (role) x2",
            ],
        ),
        (
            "flip-catalogue.yaml",
            "{ type: model, id: fraud, team: risk",
            "{ type: model, id: fraud, team: sales",
            vec![
                "teams-predict: shop denied (no_match) -> allowed (teams-predict) x4",
                "teams-predict: jwt:corp:2 allowed (teams-predict) -> denied (no_match) x2",
            ],
        ),
        (
            "flip-consumer.yaml",
            "attributes: { team: sales }",
            "attributes: { team: risk }",
            vec![
                "teams-predict: shop denied (no_match) -> allowed (teams-predict) x4",
                "teams-predict: shop allowed (teams-predict) -> denied (no_match) x1",
            ],
        ),
        (
            "flip-key.yaml",
            "id: w9xfhmfn,",
            "id: w9xfhmfn, models: [fraud],",
            vec!["credentials: shop allowed (teams-predict) -> denied (scope) x1"],
        ),
        (
            "flip-gone.yaml",
            "id: w9xfhmfn,",
            "id: aaaaaaaa,",
            vec!["credentials: shop allowed (teams-predict) -> denied (credential_invalid) x1"],
        ),
        (
            "flip-revoked.yaml",
            "authentication:\n",
            "authentication:\n  revocation: { principals: [\"jwt:corp:2\"] }\n",
            vec!["revocation: jwt:corp:2 allowed (teams-predict) -> denied (credential_revoked) x2"],
        ),
        (
            "flip-rules.yaml",
            "rules: [{ preset: kserve_v1 }, ",
            "rules: [",
            vec![
                "resources: jwt:corp:2 allowed (teams-predict) -> denied (resource_unknown) x2",
                "resources: shop allowed (teams-predict) -> denied (resource_unknown) x1",
            ],
        ),
    ] {
        let (code, report) = differ(&old, &changed(name, from, to), &log);
        let mut found = flips(&report, "flips");
        found.sort();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!((code, found), (Some(2), expected.into_iter().map(str::to_owned).collect()), "{name}");
        assert_eq!((&report["decisions"], &report["decisions_undecided"]), (&json!(7), &json!(0)), "{name}");
    }
}

#[test]
fn what_was_not_recorded_is_named_and_not_guessed() {
    let old = gate("undecided-old.yaml", GATE);
    let new = changed(
        "undecided-new.yaml",
        "  policies:\n",
        "  policies:\n    - { name: cleared-only, effect: deny, principal: { clearance: low }, resource: { stage: production } }\n",
    );
    // the key's caller claims nothing, so nothing of it is unknown; chat is in staging, so the deny does not reach it
    let log = log("undecided.log", &old.revision, &[predict("shop", key(), "chat"), bob(), bob()]);
    let (code, report) = differ(&old, &new, &log);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(
        flips(&report, "undecided"),
        ["principal.clearance: jwt:corp:2 allowed (teams-predict) -> not decided x2"]
    );
    let output = mlgate(&["diff", &old.path, &new.path, "--log", &log], "");
    let shown = text(&output.stdout);
    assert!(
        shown.starts_with("cannot be decided, not recorded: principal.clearance: 2 decisions\n"),
        "{shown}"
    );
    assert!(shown.contains("0 would flip, 2 cannot be decided"), "{shown}");
}

#[test]
fn roles_that_the_old_configuration_gave_are_no_claims() {
    let old = gate("roles-old.yaml", GATE);
    let read = |principal: &str| {
        json!({
            "principal": principal, "user_id": principal, "credential": token(), "roles": ["user"], "method": "GET",
            "path": "/v1/models/chat", "action": "read", "resource": { "type": "model", "id": "chat" },
            "policies": ["role:user"],
        })
    };
    let log = log("roles.log", &old.revision, &[read("ana"), read("jwt:corp:2")]);
    let new = changed("roles-new.yaml", "{ name: ana, roles: [user],", "{ name: ana,");
    let (code, report) = differ(&old, &new, &log);
    // ana's token may have named a role, which the old configuration wrote over; the other's did
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(flips(&report, "undecided"), ["principal.roles: ana allowed (role:user) -> not decided x1"]);
    let without = changed("roles-none.yaml", "claims: { roles: groups, ", "claims: { ");
    let (code, report) = differ(&old, &without, &log);
    assert_eq!(code, Some(2), "{report:#}");
    assert_eq!(flips(&report, "flips"), ["role:user: jwt:corp:2 allowed (role:user) -> denied (role) x1"]);
}

#[test]
fn a_record_of_another_configuration_is_decided_by_the_old_one() {
    let old = gate("other-old.yaml", GATE);
    let denied = with(bob(), json!({ "status": "denied", "reason": "no_match", "policies": [] }));
    let log = log("other.log", "0000", &[denied, predict("shop", key(), "chat")]);
    let new = changed("other-new.yaml", "effect: allow, principal", "effect: deny, principal");
    let (code, report) = differ(&old, &new, &log);
    assert_eq!((code, &report["recorded_otherwise"]), (Some(2), &json!(1)), "{report:#}");
    assert_eq!(report["decisions_flipped"], 2, "{report:#}");
}

#[test]
fn refusals_before_policies_are_counted_and_lines_that_are_no_events_named() {
    let old = gate("before-old.yaml", GATE);
    let refused = json!({ "status": "denied", "reason": "credential_missing", "count": 7 });
    let log = log("before.log", &old.revision, &[refused, bob()]);
    std::fs::write(&log, std::fs::read_to_string(&log).unwrap() + "nonsense\n").unwrap();
    let output = mlgate(&["diff", &old.path, &old.path, "--log", &log, "--format", "json"], "");
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["decisions"], &report["decisions_not_asked"]), (&json!(1), &json!(7)));
    assert!(text(&output.stderr).contains("before.log:4: "), "{}", text(&output.stderr));
    let empty = file("before-empty.log", "").to_str().unwrap().to_owned();
    assert_eq!(mlgate(&["diff", &old.path, &old.path, "--log", &empty], "").status.code(), Some(1));
    assert_eq!(mlgate(&["diff", &old.path, &old.path], "").status.code(), Some(3));
}

#[test]
fn what_comes_again_counts_once() {
    let old = gate("again-old.yaml", GATE);
    let log = log("again.log", &old.revision, &[bob()]);
    let output =
        mlgate(&["diff", &old.path, &old.path, "--log", &log, "--log", &log, "--format", "json"], "");
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["decisions"], 1);
}

#[test]
fn a_recorded_decision_is_explained_clause_by_clause() {
    let gate = gate("explain.yaml", GATE);
    let denied = with(
        predict("jwt:corp:2", token(), "chat"),
        json!({
            "status": "denied", "reason": "no_match", "policies": [], "team": "risk",
            "attributes": { "principal": { "team": "risk", "roles": ["user"] } },
        }),
    );
    let log = log("explain.log", &gate.revision, &[bob(), denied]);
    let explain = |path: &str, id: u32| {
        mlgate(&["explain", path, "--decision", &format!("{id:032x}"), "--log", &log], "")
    };
    let output = explain(&gate.path, 2);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{shown}{}", text(&output.stderr));
    for line in [
        "POST /v1/models/chat:predict\n",
        "  recorded  denied (no_match)\n",
        "  caller    jwt:corp:2, by jwt \n",
        "no    resource.team is \"sales\", wanted \"{principal.team}\"\n",
        "=> denied: no_match; the caller reads 403 access_denied\n",
    ] {
        assert!(shown.contains(line), "{line}{shown}");
    }
    assert!(!shown.contains("revision"), "{shown}");
    assert_eq!(explain(&gate.path, 1).status.code(), Some(0));
    assert_eq!(explain(&gate.path, 9).status.code(), Some(3));
    let other = changed("explain-other.yaml", "id: chat, team: sales", "id: chat, team: risk");
    let shown = text(&explain(&other.path, 2).stdout);
    assert!(shown.contains(&format!("recorded under {}", gate.revision)), "{shown}");
    assert!(shown.contains("=> allowed, because of teams-predict\n"), "{shown}");
}
