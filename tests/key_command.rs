//! `mlgate key` as scripts see it: keys are hashed, rotated and reviewed, and never shown where they need not be.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]

use mlgate::identity::api_key::{ApiKey, KeyDigest};
use mlgate::identity::secret::Secret;
use serde_json::{Value as Json, json};

#[path = "support/command.rs"]
mod command;

use command::{file, mlgate, text};

const KEY: &str = "mlg_k7f3a2b9_0123456789ABCDEFGHIJKLMNOPQRSTUV2LJgwY";
const DIGEST: &str = "sha256:f43e348ab0d7ecb0cdc83da67e3cefa55ac4f006b72eb151ca886f3bb4b3ec61";

/// A configuration with these keys of `user_1`, in YAML.
fn configuration(keys: &str, revoked: &str) -> String {
    format!(
        "version: 1
name: gate
consumers:
  - name: user_1
    credentials:
      api_keys:
{keys}authentication:
  api_key: {{ peppers: [{{ id: p1, env: PEPPER }}] }}
  revocation: {{ keys: [{revoked}] }}
resources: {{ rules: [{{ preset: openai }}] }}
authorization: {{ roles: {{ any: {{ permissions: [read] }} }} }}
audit: {{ collector: {{ cluster: audit }}, chain: {{ unkeyed: true }} }}
"
    )
}

const OLD: &str = "      - id: k7f3a2b9
        digest: \"sha256:f43e348ab0d7ecb0cdc83da67e3cefa55ac4f006b72eb151ca886f3bb4b3ec61\"
        models: [\"fraud_*\"]
        actions: [predict]
        source_ranges: [10.0.0.0/8]
";

#[test]
fn a_key_from_standard_input_is_hashed_as_the_gate_does() {
    let key = ApiKey::parse(KEY.as_bytes()).unwrap();
    let keyed = key.keyed_digest("p1", &Secret::new("pepper")).to_string();
    let saved = file("hash.txt", &format!("{KEY}\n"));
    for (arguments, input, digest) in [
        (vec!["key", "hash"], KEY.to_owned(), DIGEST),
        (vec!["key", "hash", "-"], format!("{KEY}\r\n"), DIGEST),
        (vec!["key", "hash", saved.to_str().unwrap()], String::new(), DIGEST),
        (vec!["key", "hash", "--pepper", "p1=PEPPER"], format!("{KEY}\n"), &keyed),
    ] {
        let output = mlgate(&arguments, &input);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(
            text(&output.stdout),
            format!("id: \"k7f3a2b9\"\ndigest: \"{digest}\"\n"),
            "{arguments:?}"
        );
    }
    let output = mlgate(&["key", "hash", "--format", "json"], KEY);
    let printed: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, json!({ "id": "k7f3a2b9", "digest": DIGEST }));
}

#[test]
fn no_fault_repeats_a_key() {
    let config = file("no-fault.yaml", &configuration(OLD, ""));
    let config = config.to_str().unwrap();
    let pasted = configuration(OLD, KEY);
    let instead = configuration(&OLD.replace("k7f3a2b9", KEY), "");
    for (arguments, input) in [
        (vec!["key", "hash", KEY], ""),
        (vec!["key", "hash"], KEY.strip_suffix('Y').unwrap()),
        (vec!["key", "hash"], &format!("{KEY} {KEY}")),
        (vec!["key", "rotate", config, "--id", KEY], ""),
        (vec!["key", "lint", "-"], &pasted),
        (vec!["check", "-"], &pasted),
        (vec!["check", "-"], &instead),
    ] {
        let output = mlgate(&arguments, input);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!said.is_empty() && !said.contains("0123456789ABCDEF"), "{said}");
    }
}

/// Applies what `rotate` printed to the entries it is about.
fn patched(printed: &str) -> String {
    let lines = printed.lines().filter(|line| line.starts_with([' ', '+']));
    lines.map(|line| format!("      {}\n", line.get(2..).unwrap())).collect()
}

#[test]
fn a_rotated_key_has_a_successor_with_its_scope() {
    let ends = OLD.replace("        models", "        not_after: \"2099-01-01T00:00:00Z\"\n        models");
    for (name, old, arguments) in [
        ("endless", OLD.to_owned(), vec![]),
        ("ending", ends, vec!["--not-after", "2098-01-01T00:00:00Z", "--overlap", "36h"]),
        ("keyed", OLD.to_owned(), vec!["--pepper", "p1=PEPPER"]),
    ] {
        let config = file(&format!("rotate-{name}.yaml"), &configuration(&old, ""));
        let config = config.to_str().unwrap();
        let before = std::fs::read_to_string(config).unwrap();
        let mut all = vec!["key", "rotate", config, "--id", "k7f3a2b9"];
        all.extend(&arguments);
        let output = mlgate(&all, "");
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        let printed = text(&output.stdout);
        let (key, rest) = printed.split_once('\n').unwrap();
        assert!(rest.contains(&format!("{config}:7, the keys of `user_1`")), "{rest}");
        assert_eq!(printed.matches(key).count(), 1, "the key is shown once");
        assert_eq!(std::fs::read_to_string(config).unwrap(), before, "the file is left as it is");

        let after = configuration(&patched(rest), "");
        let check = mlgate(&["check", "-", "--format", "json"], &after);
        let report: Json = serde_json::from_slice(&check.stdout).unwrap();
        assert_eq!(report["faults"], json!([]), "{after}");
        let lint = mlgate(&["key", "lint", "-", "--format", "json"], &after);
        let report: Json = serde_json::from_slice(&lint.stdout).unwrap();
        assert!(
            report["findings"].as_array().unwrap().iter().any(|finding| finding["kind"] == "overlap"),
            "{report}"
        );
    }
}

#[test]
fn a_rotation_is_ready_for_programs() {
    let old = OLD.replace("        models", "        not_before: \"2020-01-01T00:00:00Z\"\n        models");
    let config = file("rotate-json.yaml", &configuration(&old, ""));
    let output =
        mlgate(&["key", "rotate", config.to_str().unwrap(), "--id", "k7f3a2b9", "--format", "json"], "");
    let rotation: Json = serde_json::from_slice(&output.stdout).unwrap();
    let scope = |entry: &Json| ["models", "actions", "source_ranges"].map(|word| entry[word].clone());
    let (old, new) = (&rotation["old"], &rotation["new"]);
    assert_eq!(scope(old), [json!(["fraud_*"]), json!(["predict"]), json!(["10.0.0.0/8"])]);
    assert_eq!(scope(new), scope(old));
    assert_eq!((&old["digest"], &old["not_before"]), (&json!(DIGEST), &json!("2020-01-01T00:00:00.000Z")));
    let key = ApiKey::parse(rotation["key"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(new["digest"], key.digest().to_string());
    assert_eq!(new["id"], key.id().to_string());
    let time = |entry: &Json, word: &str| {
        mlgate::time::UnixTime::parse(entry[word].as_str().unwrap()).unwrap().millis()
    };
    assert_eq!(time(old, "not_after") - time(new, "not_before"), 7 * 86_400_000);
    assert_eq!(rotation["pointer"], "/consumers/0/credentials/api_keys/0");
}

#[test]
fn the_successor_of_a_peppered_key_is_peppered() {
    let digest = ApiKey::parse(KEY.as_bytes()).unwrap().keyed_digest("p1", &Secret::new("pepper"));
    let config = file("rotate-peppered.yaml", &configuration(&OLD.replace(DIGEST, &digest.to_string()), ""));
    let config = config.to_str().unwrap();
    let output = mlgate(&["key", "rotate", config, "--id", "k7f3a2b9", "--format", "json"], "");
    let rotation: Json = serde_json::from_slice(&output.stdout).unwrap();
    let new = KeyDigest::parse(rotation["new"]["digest"].as_str().unwrap()).unwrap();
    let key = ApiKey::parse(rotation["key"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(new, key.keyed_digest("p1", &Secret::new("pepper")));
    let other = file("other.env", "OTHER=1\n");
    let output = mlgate(&["key", "rotate", config, "--id", "k7f3a2b9", "--env", other.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("`PEPPER` is missing or empty"));
}

#[test]
fn what_cannot_be_rotated_is_refused_in_one_line() {
    let with = |word: &str, value: &str| {
        configuration(
            &OLD.replace("        models", &format!("        {word}: \"{value}\"\n        models")),
            "",
        )
    };
    let plain = configuration(OLD, "");
    for (config, arguments, line) in [
        (&plain, vec!["--id", "nobodys0"], "no key in - has this id"),
        (&configuration(OLD, "k7f3a2b9"), vec![], "of `user_1` was revoked"),
        (&with("not_after", "2020-01-01T00:00:00Z"), vec![], "expired at 2020-01-01T00:00:00.000Z"),
        (&with("not_after", "2099-01-01T00:00:00Z"), vec![], "say when the new key ends"),
        (&with("not_before", "2098-01-01T00:00:00Z"), vec![], "is not valid before 2098-01-01T00:00:00.000Z"),
        (&plain, vec!["--overlap", "7"], "`7` is not a duration"),
        (&plain, vec!["--not-after", "2020-01-01T00:00:00Z"], "would end before the overlap does"),
        (&plain, vec!["--pepper", "p9=PEPPER"], "no pepper has the id `p9`"),
        (&plain, vec!["--pepper", "p1=NONE"], "`NONE` is missing or empty"),
        (&plain.replace("version: 1", "version: 2"), vec![], "see `mlgate check`"),
    ] {
        let mut all = vec!["key", "rotate", "-"];
        if !arguments.contains(&"--id") {
            all.extend(["--id", "k7f3a2b9"]);
        }
        all.extend(arguments);
        let output = mlgate(&all, config);
        assert_eq!(output.status.code(), Some(3), "{all:?}");
        assert!(output.stdout.is_empty());
        let error = text(&output.stderr);
        assert!(error.lines().count() == 1 && error.contains(line), "{all:?}: {error}");
    }
}

#[test]
fn lint_tells_what_to_do_with_its_place_and_what_logs_say() {
    let old = OLD.replace("        models", "        not_after: \"2099-01-01T00:00:00Z\"\n        models");
    let digest =
        ApiKey::parse(KEY.as_bytes()).unwrap().keyed_digest("p1", &Secret::new("pepper")).to_string();
    let config = configuration(&old.replace(DIGEST, &digest), "gone0000");
    let fine = mlgate(&["key", "lint", "-"], &config);
    assert_eq!((fine.status.code(), text(&fine.stdout)), (Some(0), String::from("-: fine\n")));

    let soon = mlgate(&["key", "lint", "-", "--within", "36500d"], &config);
    assert_eq!(soon.status.code(), Some(2));
    assert_eq!(
        text(&soon.stdout),
        "-:9: expiring: /consumers/0/credentials/api_keys/0/not_after: the key `k7f3a2b9` of `user_1` expires at \
         2099-01-01T00:00:00.000Z: replace it with `mlgate key rotate --id k7f3a2b9`\n-: 1 finding\n"
    );

    let event = r#"{"type":"access","timestamp":"2026-02-01T00:00:00Z","credential":{"id":"k7f3a2b9","method":"api_key"},"source":"10.0.0.1"}"#;
    let log = file("lint.jsonl", &format!("{event}\nnot an event\n"));
    let logged = mlgate(&["key", "lint", "-", "--log", log.to_str().unwrap()], &config);
    assert_eq!(logged.status.code(), Some(0));
    assert_eq!(
        text(&logged.stdout),
        "key `k7f3a2b9` of `user_1`: last used at 2026-02-01T00:00:00.000Z by 10.0.0.1\n\
         1 lines of the log are no events\n-: fine\n"
    );
    let empty = file("lint-empty.jsonl", "");
    let unused = mlgate(&["key", "lint", "-", "--log", empty.to_str().unwrap(), "--format", "json"], &config);
    assert_eq!(unused.status.code(), Some(2));
    let report: Json = serde_json::from_slice(&unused.stdout).unwrap();
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["kind"], &finding["key"], &finding["consumer"], &finding["line"]),
        (&json!("unused"), &json!("k7f3a2b9"), &json!("user_1"), &json!(7))
    );
    assert_eq!(report["keys"][0], json!({ "key": "k7f3a2b9", "consumer": "user_1", "sources": [] }));

    for (arguments, line) in [
        (["--within", "soon"], "`soon` is not a duration"),
        (["--log", "/no/such.jsonl"], "/no/such.jsonl: cannot be read"),
    ] {
        let output = mlgate(&[&["key", "lint", "-"], &arguments[..]].concat(), &config);
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains(line), "{}", text(&output.stderr));
    }
}

#[test]
fn every_help_has_examples_and_exit_codes() {
    for command in ["hash", "lint", "new", "rotate"] {
        let help = text(&mlgate(&["key", command, "--help"], "").stdout);
        assert!(help.contains("\nExamples:\n  ") && help.contains("\nExit codes: 0 "), "{help}");
    }
}
