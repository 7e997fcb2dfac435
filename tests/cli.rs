//! The `mlgate` command as scripts see it: output, exit codes, and one clear line for bad input.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]

use std::path::Path;

use serde_json::Value as Json;

#[path = "support/command.rs"]
mod command;

use command::{ROOT, file, mlgate, text};

fn examples() -> Vec<String> {
    let entries = std::fs::read_dir(Path::new(ROOT).join("envoy/config")).unwrap();
    let mut paths: Vec<String> =
        entries.map(|entry| entry.unwrap().path().to_str().unwrap().to_owned()).collect();
    paths.retain(|path| path.ends_with(".yaml"));
    paths.sort();
    paths
}

const VARIABLES: &str = "# every variable of the examples\nMLGATE_PEPPER_1=pepper\n\nMLGATE_CHAIN_KEY_1=chain\n\
    MLGATE_DIGEST_KEY_1=digest\nMLGATE_SHARED_KEY_1=shared\nMLGATE_JWT_SECRET_1=0123456789abcdef0123456789abcdef\nMLGATE_INTROSPECTION_SECRET=i\n";

#[test]
fn every_example_has_no_fault() {
    let variables = file("examples.env", VARIABLES);
    let examples = examples();
    assert!(examples.len() >= 2, "{examples:?}");
    for example in examples {
        let output =
            mlgate(&["check", &example, "--env", variables.to_str().unwrap(), "--format", "json"], "");
        let report: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["faults"], serde_json::json!([]), "{example}");
        assert_eq!(report["policy_revision"].as_str().unwrap().len(), 64, "{example}");
    }
}

#[test]
fn each_example_has_the_findings_that_it_explains() {
    const ADMIN: &str = "/authorization/roles/admin/permissions/0";
    let variables = file("findings.env", VARIABLES);
    for example in examples() {
        let explained: &[&str] = match Path::new(&example).file_stem().unwrap().to_str().unwrap() {
            "demo" => &["/consumers/0/credentials/api_keys/1/not_after", ADMIN],
            "full" => &["/authentication/mtls/peer_validation", ADMIN],
            "small" => &[ADMIN],
            _ => &[],
        };
        let arguments = ["check", &example, "--env", variables.to_str().unwrap(), "--format", "json"];
        let output = mlgate(&arguments, "");
        let report: Json = serde_json::from_slice(&output.stdout).unwrap();
        let found = report["findings"].as_array().unwrap();
        let pointers: Vec<&Json> = found.iter().map(|finding| &finding["pointer"]).collect();
        assert_eq!(pointers, explained, "{example}");
        assert_eq!(output.status.code(), Some(if found.is_empty() { 0 } else { 2 }), "{example}");
    }
}

#[test]
fn the_quickstart_has_no_finding() {
    let variables = file("quickstart.env", VARIABLES);
    let output = mlgate(&["check", "envoy/config/quickstart.yaml", "--env", variables.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("quickstart.yaml: fine, policy revision "));
}

#[test]
fn a_missing_variable_is_a_finding() {
    let output = mlgate(&["check", "envoy/config/quickstart.yaml"], "");
    assert_eq!(output.status.code(), Some(2));
    let report = text(&output.stdout);
    assert!(
        report.contains("finding: /audit/chain/keys/0/env: the environment variable `MLGATE_CHAIN_KEY_1`"),
        "{report}"
    );
}

#[test]
fn faults_have_their_line_and_exit_3() {
    let quickstart = std::fs::read_to_string(Path::new(ROOT).join("envoy/config/quickstart.yaml")).unwrap();
    let broken = quickstart
        .replace("roles: [viewer]", "role: [viewer]")
        .replace("window: 1m }]\n      pro", "window: 1 }]\n      pro");
    let lines: Vec<usize> = (1..)
        .zip(broken.lines())
        .filter(|(_, line)| line.contains("role: [viewer]") || line.contains("window: 1 }"))
        .map(|(number, _)| number)
        .collect();
    let output = mlgate(&["check", "-"], &broken);
    assert_eq!(output.status.code(), Some(3));
    let report: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(report.len(), 3, "{report:#?}");
    assert_eq!(
        report[0],
        format!("-:{}: fault: /consumers/1/role: unknown word `role`: did you mean `roles`?", lines[0])
    );
    assert!(report[1].starts_with(&format!("-:{}: fault: /limits/0/rates/default/0/window: ", lines[1])));
    assert_eq!(report[2], "-: 2 faults");
}

#[test]
fn bad_input_is_one_line_with_place_and_remedy() {
    let folder = file("no-equals.env", "A=1\nsecret\n");
    for (arguments, line) in [
        (vec!["check", "/no/such/file.yaml"], "mlgate: /no/such/file.yaml: cannot be read: "),
        (vec!["check", "envoy"], "mlgate: envoy: cannot be read: "),
        (
            vec!["check", "envoy/config/full.yaml", "--env", folder.to_str().unwrap()],
            "no-equals.env:2: a line without `=`",
        ),
        (
            vec!["key", "new", "--consumer", "a:b"],
            "mlgate: --consumer: `a:b` is not a consumer's name: write ",
        ),
        (vec!["key", "new", "--consumer", "u", "--not-after", "2001-01-01T00:00:00Z"], "never be valid"),
        (vec!["key", "new", "--consumer", "u", "--not-after", "tomorrow"], "`tomorrow` is not a timestamp"),
        (vec!["key", "new", "--consumer", "u", "--pepper", "p1"], "`p1` is not `ID=ENV`"),
        (vec!["key", "new", "--consumer", "u", "--pepper", "p1=NONE"], "`NONE` is missing or empty"),
    ] {
        let output = mlgate(&arguments, "");
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let error = text(&output.stderr);
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(line), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn wrong_words_on_the_command_line_are_invalid_input() {
    for arguments in [&["chek"][..], &["check"], &["key", "new"], &["check", "x", "--format", "xml"]] {
        assert_eq!(mlgate(arguments, "").status.code(), Some(3), "{arguments:?}");
    }
}

#[test]
fn every_help_has_examples_and_exit_codes() {
    let commands = [
        "",
        "check",
        "explain",
        "schema",
        "test",
        "diff",
        "who-can",
        "can-what",
        "key new",
        "audit collect",
        "audit verify",
    ];
    for command in commands {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let output = mlgate(&arguments, "");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        let help = text(&output.stdout);
        assert!(help.contains("\nExamples:\n  ") && help.contains("\nExit codes: 0 "), "{help}");
    }
}

#[test]
fn the_committed_schema_is_current() {
    let output = mlgate(&["schema"], "");
    let committed = std::fs::read_to_string(Path::new(ROOT).join("envoy/schema/mlgate.schema.json")).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout),
        committed,
        "write it anew: mlgate schema > envoy/schema/mlgate.schema.json"
    );
}

#[test]
fn a_new_key_fits_into_a_configuration() {
    let quickstart = std::fs::read_to_string(Path::new(ROOT).join("envoy/config/quickstart.yaml")).unwrap();
    let (head, tail) = quickstart.split_once("consumers:\n").unwrap();
    let variables = file("new-key.env", VARIABLES);
    for pepper in [false, true] {
        let mut arguments = vec!["key", "new", "--consumer", "user_9", "--not-after", "2099-01-01T00:00:00Z"];
        let mut configuration = head.to_owned();
        if pepper {
            arguments.extend(["--pepper", "p1=PEPPER"]);
            configuration
                .push_str("authentication: { api_key: { peppers: [{ id: p1, env: MLGATE_PEPPER_1 }] } }\n");
        }
        let output = text(&mlgate(&arguments, "").stdout);
        let (key, lines) = output.split_once('\n').unwrap();
        assert!(key.starts_with("mlg_") && key.len() == 51, "{output}");
        let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
        configuration.push_str(&format!("consumers:\n{lines}{tail}"));
        let check = mlgate(&["check", "-", "--env", variables.to_str().unwrap()], &configuration);
        assert_eq!(check.status.code(), Some(0), "{}\n{configuration}", text(&check.stdout));
    }
}

#[test]
fn a_new_key_is_never_the_same() {
    let new = || {
        let output = mlgate(&["key", "new", "--consumer", "u", "--format", "json"], "");
        serde_json::from_slice::<Json>(&output.stdout).unwrap()
    };
    let (one, two) = (new(), new());
    for member in ["key", "id", "digest"] {
        assert_ne!(one[member], two[member]);
    }
    assert!(one["key"].as_str().unwrap().starts_with(&format!("mlg_{}_", one["id"].as_str().unwrap())));
}

/// What `explain` says of a request to the quickstart: exit code, reason, and what decided.
fn explained(request: &str) -> (Option<i32>, Json) {
    let arguments = ["explain", "envoy/config/quickstart.yaml", "--request", "-", "--format", "json"];
    let output = mlgate(&arguments, request);
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn a_request_is_explained_by_the_filter_itself() {
    const PREDICT: &str = "data-scientists-predict-in-their-org";
    let allowed = [
        ("{ method: POST, path: /predict, principal: user_1 }", PREDICT),
        ("{ method: GET, path: /v1/models, principal: user_2 }", "role:viewer"),
        (
            "{ method: POST, path: /v1/chat/completions, principal: user_1, body: { model: chat-small } }",
            PREDICT,
        ),
        ("{ method: POST, path: '/v1/models/fraud_detector_v2:predict', principal: user_1 }", PREDICT),
    ];
    for (request, because) in allowed {
        let (code, report) = explained(request);
        assert_eq!((code, &report["decision"]), (Some(0), &Json::from("allowed")), "{request}: {report:#}");
        assert_eq!(report["because"], serde_json::json!([because]), "{request}");
    }
    let long = format!(
        "{{ method: POST, path: /v1/completions, principal: user_1, body: {{ model: {} }} }}",
        "x".repeat(2 << 20)
    );
    let denied = [
        ("{ method: POST, path: /predict }", "credential_missing", 401),
        ("{ method: POST, path: /predict, headers: { x-api-key: wrong } }", "credential_invalid", 401),
        ("{ method: POST, path: /predict, principal: user_2 }", "role", 403),
        ("{ method: DELETE, path: /v1/models/chat-small, principal: user_1 }", "explicit_deny", 403),
        ("{ method: POST, path: '/v1/models/churn_v1:predict', principal: user_1 }", "no_match", 403),
        ("{ method: GET, path: /nowhere, principal: user_1 }", "resource_unknown", 403),
        ("{ method: GET, path: /v1/models, principal: user_1, profile: none }", "profile_unknown", 403),
        ("{ method: GET, path: /a/../b, principal: user_1 }", "path_ambiguous", 400),
        (
            "{ method: POST, path: /v1/completions, principal: user_1, body: { model: 7 } }",
            "body_ambiguous",
            400,
        ),
        ("{ method: POST, path: /v1/completions, principal: user_1, body: text }", "body_unreadable", 415),
        (long.as_str(), "body_too_large", 413),
    ];
    for (request, reason, status) in denied {
        let shown: String = request.chars().take(120).collect();
        let (code, report) = explained(request);
        assert_eq!((code, &report["reason"]), (Some(2), &Json::from(reason)), "{shown}");
        assert_eq!(report["answer"]["status"], Json::from(status), "{shown}");
    }
}

#[test]
fn an_explanation_shows_each_clause() {
    let request = "{ method: DELETE, path: /v1/models/chat-small, principal: user_1 }";
    let output = mlgate(&["explain", "envoy/config/quickstart.yaml", "--request", "-"], request);
    let lines = text(&output.stdout);
    for line in [
        "  caller    user_1, as the request says\n",
        "  resource  model `chat-small`; org: \"acme\"; stage: \"production\"\n",
        "  policy    nobody-deletes-production-models (deny) matches\n",
        "yes   environment.name is \"production\", wanted \"production\"\n",
        "no    action is \"delete\", wanted [\"predict\",\"explain\"]\n",
        "  flip      would be allowed if environment.name were \"something else\" (is \"production\")\n",
        "=> denied: explicit_deny, because of nobody-deletes-production-models; the caller reads 403 access_denied\n",
    ] {
        assert!(lines.contains(line), "{line}{lines}");
    }
}

#[test]
fn a_global_limit_is_explained_by_what_the_service_is_asked() {
    let variables = ["MLGATE_PEPPER_1", "MLGATE_CHAIN_KEY_1", "MLGATE_DIGEST_KEY_1", "MLGATE_SHARED_KEY_1"];
    let config = "envoy/config/full.yaml";
    let lines: String = variables.map(|name| format!("{name}={}\n", "k".repeat(32))).concat();
    let variables = file(
        "full.env",
        &format!("{lines}MLGATE_INTROSPECTION_SECRET=i\nMLGATE_JWT_SECRET_1={}\n", "k".repeat(32)),
    );
    let request = "{ method: POST, path: /predict, principal: user_1, source: 10.0.0.1 }";
    let variables = variables.to_str().unwrap();
    let output = mlgate(&["explain", config, "--request", "-", "--env", variables], request);
    let explained = text(&output.stdout);
    let service = "  service   the cluster `ratelimit` is asked of `mlgate`: [limit=fleet, principal.org=acme, rates=default, window=1m]\n";
    assert!(explained.contains(service) && explained.contains("=> allowed"), "{explained}");
    let output = mlgate(&["check", config, "--env", variables], "");
    let promise = "limit `fleet`, tier `default`: at most 2 x 10000 requests in any 1m over all Envoys, since services count fixed windows, for each `principal.org`\n";
    assert!(text(&output.stdout).contains(promise), "{}", text(&output.stdout));
}

#[test]
fn a_key_is_checked_at_the_time_of_the_request() {
    let output = mlgate(&["key", "new", "--consumer", "user_2", "--format", "json"], "");
    let made: Json = serde_json::from_slice(&output.stdout).unwrap();
    let member = |name: &str| made[name].as_str().unwrap().to_owned();
    let quickstart = std::fs::read_to_string(Path::new(ROOT).join("envoy/config/quickstart.yaml")).unwrap();
    let digest = quickstart.lines().filter(|line| line.contains("digest: \"sha256:")).nth(1).unwrap();
    let config = quickstart
        .replace("mn99lhuq", &member("id"))
        .replace(digest, &format!("          digest: \"{}\"", member("digest")));
    let config = file("with-key.yaml", &config);
    for (at, decision) in [("2098-12-31T23:59:59Z", "allowed"), ("2099-01-01T00:00:00Z", "denied")] {
        let request = format!("{{ method: GET, path: /v1/models, key: {}, at: '{at}' }}", member("key"));
        let arguments = ["explain", config.to_str().unwrap(), "--request", "-", "--format", "json"];
        let output = mlgate(&arguments, &request);
        let report: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["decision"], Json::from(decision), "{report:#}");
        assert!(!text(&output.stdout).contains(&member("key")));
    }
}

#[test]
fn a_faulty_request_is_invalid_input_and_its_key_is_not_repeated() {
    for (request, line) in [
        ("{ method: GET }", "/path (line 1): `path` is missing"),
        ("{ method: GET, path: /, pricipal: x }", "did you mean `principal`?"),
        ("{ method: GET, path: /, key: mlg_secret }", "/key (line 1): not well formed: write a whole key"),
        (
            "{ method: GET, path: /, principal: nobody }",
            "no consumer is called `nobody`: name one of `user_1`, `user_2`",
        ),
        ("[", "not a YAML document"),
    ] {
        let output = mlgate(&["explain", "envoy/config/quickstart.yaml", "--request", "-"], request);
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), error.lines().count()), (Some(3), 1), "{request}: {error}");
        assert!(error.contains(line), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
