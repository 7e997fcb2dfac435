//! The `mlgate` command as scripts see it: output, exit codes, and one clear line for bad input.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value as Json;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs the command in the root of the workspace without any variables.
fn mlgate(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mlgate"))
        .args(arguments)
        .current_dir(ROOT)
        .env_clear()
        .env("PEPPER", "salt")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // a command that does not read its input closes it
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A file of this test run.
fn file(name: &str, content: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn examples() -> Vec<String> {
    let entries = std::fs::read_dir(Path::new(ROOT).join("envoy/config")).unwrap();
    let mut paths: Vec<String> =
        entries.map(|entry| entry.unwrap().path().to_str().unwrap().to_owned()).collect();
    paths.sort();
    paths
}

const VARIABLES: &str = "# every variable of the examples\nMLGATE_PEPPER_1=pepper\n\nMLGATE_CHAIN_KEY_1=chain\n\
    MLGATE_DIGEST_KEY_1=digest\nMLGATE_SHARED_KEY_1=shared\n";

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
    for arguments in [&["--help"][..], &["check", "--help"], &["schema", "--help"], &["key", "new", "--help"]]
    {
        let output = mlgate(arguments, "");
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
