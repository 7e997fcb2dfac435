//! `mlgate test` as a script sees it.

#![expect(clippy::unwrap_used, reason = "a command that cannot run should stop the test")]

use std::path::Path;

use serde_json::Value as Json;

use command::{ROOT, file, mlgate, text};

#[path = "support/command.rs"]
mod command;

const CONFIG: &str = "envoy/config/small.yaml";

/// A suite of one table on the small organisation; `{ALLOW}` is what it allows.
const SUITE: &str = "principals:
  admin: { consumer: user_1 }
  viewer: { consumer: user_3 }
resources:
  model: { type: model, id: any }
actions: [read, delete]
tables:
  - note: one
    allow: {ALLOW}
";

fn suite(name: &str, allow: &str) -> String {
    file(name, &SUITE.replace("{ALLOW}", allow)).to_str().unwrap().to_owned()
}

#[test]
fn the_suites_of_the_examples_cover_every_clause_and_leave_no_mutant_alive() {
    let mut ran = 0;
    for entry in std::fs::read_dir(Path::new(ROOT).join("envoy/suites")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".equivalent.yaml") {
            continue;
        }
        let (config, suite) = (format!("envoy/config/{name}"), format!("envoy/suites/{name}"));
        let equivalent = suite.replace(".yaml", ".equivalent.yaml");
        let mut arguments = vec!["test", &config, &suite, "--min-coverage", "100", "--mutants"];
        if Path::new(ROOT).join(&equivalent).exists() {
            arguments.extend(["--equivalent", &equivalent]);
        }
        let output = mlgate(&arguments, "");
        assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
        ran += 1;
    }
    assert!(ran >= 3, "{ran} suites");
}

#[test]
fn a_clause_that_no_case_tries_is_named_with_its_line() {
    let thin = suite("thin.yaml", "{ admin: { model: \"*\" }, viewer: { model: [read] } }");
    let output = mlgate(&["test", CONFIG, &thin, "--min-coverage", "100"], "");
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(
        shown.contains(
            "envoy/config/small.yaml:39: role:developer: has the role `developer` was never true\n"
        ),
        "{shown}"
    );
    assert!(shown.contains("role:developer: action \"explain\" was never asked\n"), "{shown}");
    assert_eq!(mlgate(&["test", CONFIG, &thin, "--min-coverage", "20"], "").status.code(), Some(0));
    assert_eq!(mlgate(&["test", CONFIG, &thin, "--min-coverage", "101"], "").status.code(), Some(3));
}

#[test]
fn a_mutant_that_no_case_notices_survives_unless_it_is_listed_with_a_reason() {
    let thin = suite("survivors.yaml", "{ admin: { model: \"*\" }, viewer: { model: [read] } }");
    let output = mlgate(&["test", CONFIG, &thin, "--mutants", "--format", "json"], "");
    assert_eq!(output.status.code(), Some(1));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    let survivors = report["mutants"]["survivors"].as_array().unwrap();
    let names: Vec<&str> = survivors.iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert!(names.contains(&"role:developer: permissions: without `predict`"), "{names:?}");
    assert!(survivors.iter().all(|one| one["line"].is_u64()), "{survivors:?}");
    let mut list = String::from("equivalent:\n");
    names
        .iter()
        .for_each(|name| list.push_str(&format!("  - {{ mutant: \"{name}\", because: nobody has it }}\n")));
    let run = |list: &str| {
        let path = file("survivors.equivalent.yaml", list);
        mlgate(&["test", CONFIG, &thin, "--mutants", "--equivalent", path.to_str().unwrap()], "")
    };
    let output = run(&list);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let output = run(&format!(
        "{list}  - {{ mutant: \"role:viewer: permissions: without `read`\", because: guessed }}\n"
    ));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("listed as equivalent, and no survivor: role:viewer"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(run("equivalent: [{ mutant: x }]\n").status.code(), Some(3));
}

#[test]
fn what_is_not_listed_is_expected_denied() {
    let right = suite("right.yaml", "{ admin: { model: \"*\" }, viewer: { model: [read] } }");
    assert_eq!(mlgate(&["test", CONFIG, &right], "").status.code(), Some(0));
    let wrong = suite("wrong.yaml", "{ admin: { model: [read] }, viewer: { model: [read, delete] } }");
    let output = mlgate(&["test", CONFIG, &wrong], "");
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    for line in [
        "one (4 cases, 2 failed)\n",
        "  admin   model  yes   YES!\n",
        "  viewer  model  yes   NO!\n",
        "wrong.yaml:8: admin, model, delete: allowed (role:admin), expected denied\n",
        "wrong.yaml:9: viewer, model, delete: denied (role), expected allowed\n",
        "envoy/config/small.yaml: 4 cases, 2 otherwise than expected\n",
    ] {
        assert!(shown.contains(line), "{line}{shown}");
    }
}

#[test]
fn a_reason_can_be_expected_too() {
    let because = |reason: &str| {
        format!(
            "{{ admin: {{ model: \"*\" }}, viewer: {{ model: [read] }} }}
    because: [{{ principal: viewer, resource: model, action: delete, reason: {reason} }}]"
        )
    };
    let right = suite("because.yaml", &because("role"));
    assert_eq!(mlgate(&["test", CONFIG, &right], "").status.code(), Some(0));
    let output = mlgate(&["test", CONFIG, &suite("because-not.yaml", &because("scope"))], "");
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(shown.contains("WHY!"), "{shown}");
    assert!(
        shown.contains(":10: viewer, model, delete: denied (role), expected denied (scope)\n"),
        "{shown}"
    );
}

#[test]
fn the_result_is_json_and_junit_too() {
    let wrong = suite("formats.yaml", "{ admin: { model: \"*\" } }");
    let junit = file("junit.xml", "");
    let arguments = ["test", CONFIG, &wrong, "--format", "json", "--junit", junit.to_str().unwrap()];
    let output = mlgate(&arguments, "");
    assert_eq!(output.status.code(), Some(1));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["cases"], &report["files"][0]["failed"]), (&Json::from(4), &Json::from(1)));
    let failed = &report["failed"][0];
    assert_eq!((failed["principal"].as_str(), failed["line"].as_u64()), (Some("viewer"), Some(8)));
    let xml = std::fs::read_to_string(junit).unwrap();
    assert!(xml.contains("tests=\"4\" failures=\"1\""), "{xml}");
    assert!(xml.contains("<failure message=\"allowed (role:viewer), expected denied\">"), "{xml}");
}

#[test]
fn a_faulty_suite_is_invalid_input_with_place_and_remedy() {
    for (name, content, wanted) in [
        ("f1.yaml", SUITE.replace("{ALLOW}", "{ nobody: { model: [read] } }"), "is no cell of this table"),
        (
            "f2.yaml",
            SUITE.replace("{ALLOW}", "{ admin: { model: [write] } }"),
            "/tables/0/allow/admin/model (line 9): ",
        ),
        (
            "f3.yaml",
            SUITE.replace("user_1", "user_9"),
            "/principals/admin/consumer (line 2): no consumer is called `user_9`",
        ),
        ("f4.yaml", SUITE.replace("note: one", "nots: one"), "did you mean `note`?"),
        ("f5.yaml", SUITE.replace("actions: [read", "actions: [read, read"), "`read` twice"),
        ("f6.yaml", SUITE.replace("note: one", "profile: none"), "there is no profile `none`"),
        (
            "f7.yaml",
            SUITE.replace("{ALLOW}", "{ admin: { model: 7 } }"),
            "/tables/0/allow/admin/model (line 9): ",
        ),
        (
            "f8.yaml",
            SUITE.replace("consumer: user_1", "consumer: user_1, key: abcdefgh"),
            "has no key with this id",
        ),
        ("f9.yaml", String::from("["), "not a YAML document"),
    ] {
        let content = content.replace("{ALLOW}", "{}");
        let output = mlgate(&["test", CONFIG, file(name, &content).to_str().unwrap()], "");
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), error.lines().count()), (Some(3), 1), "{name}: {error}");
        assert!(error.contains(wanted), "{name}: {error}");
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-tables");
    std::fs::create_dir_all(&folder).unwrap();
    for path in [folder.to_str().unwrap(), "/no/such/file.yaml"] {
        let output = mlgate(&["test", CONFIG, path], "");
        assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(3), 1));
    }
}

#[test]
fn more_cells_than_a_run_may_have_are_refused() {
    let many = |word: &str, of: &str| (0..300).map(|n| format!("  {word}{n}: {of}\n")).collect::<String>();
    let actions: Vec<String> = (0..12).map(|n| format!("a{n}")).collect();
    let content = format!(
        "principals:\n{}resources:\n{}actions: [{}]\ntables:\n  - note: too many\n",
        many("p", "{}"),
        many("r", "{ type: model, id: x }"),
        actions.join(", ")
    );
    let output = mlgate(&["test", CONFIG, file("many.yaml", &content).to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("more than 1000000 cells in all"), "{}", text(&output.stderr));
}
