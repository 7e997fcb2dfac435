//! What the command says of the proxy's document, as scripts see it.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]

use std::path::Path;

use serde_json::Value as Json;

#[path = "support/command.rs"]
mod command;

use command::{ROOT, file, mlgate, text};

const QUICKSTART: &str = "envoy/config/quickstart.yaml";
const VARIABLES: &str = "MLGATE_CHAIN_KEY_1=chain\nMLGATE_DIGEST_KEY_1=digest\n";

fn bootstrap() -> String {
    std::fs::read_to_string(Path::new(ROOT).join("envoy/envoy.yaml")).unwrap()
}

/// Checks the quickstart with a proxy's document.
fn check(envoy: &str, more: &[&str]) -> std::process::Output {
    let variables = file("envoy-command.env", VARIABLES);
    let mut arguments = vec!["check", QUICKSTART, "--env", variables.to_str().unwrap(), "--envoy", envoy];
    arguments.extend(more);
    mlgate(&arguments, "")
}

#[test]
fn our_own_bootstrap_is_fine() {
    let output = check("envoy/envoy.yaml", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("quickstart.yaml: fine, policy revision "));
}

#[test]
fn a_danger_is_one_line_with_its_place_and_exit_2() {
    let planted = bootstrap().replace("failure_policy: FAIL_RELOAD", "failure_policy: FAIL_OPEN");
    let line = planted.lines().position(|line| line.ends_with("failure_policy: FAIL_OPEN")).unwrap() + 1;
    let path = file("fail-open.yaml", &planted);
    let output = check(path.to_str().unwrap(), &[]);
    assert_eq!(output.status.code(), Some(2));
    let report = text(&output.stdout);
    let found = report.lines().next().unwrap();
    assert!(
        found.starts_with(&format!("{}:{line}: finding (fail_open): /static_resources/", path.display())),
        "{found}"
    );
    assert!(
        found.contains("/failure_policy: the policy is `FAIL_OPEN`: write `failure_policy: FAIL_RELOAD`"),
        "{found}"
    );
    let output = check(path.to_str().unwrap(), &["--format", "json"]);
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    let finding = &report["envoy"]["findings"][0];
    assert_eq!(
        (&finding["rule"], &finding["in"], &finding["line"]),
        (&"fail_open".into(), &"envoy".into(), &line.into())
    );
    assert_eq!(report["findings"], serde_json::json!([]));
    assert_eq!(report["envoy"]["not_checked"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_seen_is_named_and_no_finding() {
    let planted = bootstrap()
        .replace("static_resources:", "dynamic_resources: { cds_config: { ads: {} } }\nstatic_resources:");
    let path = file("with-cds.yaml", &planted);
    let output = check(path.to_str().unwrap(), &[]);
    assert_eq!(output.status.code(), Some(0));
    let report = text(&output.stdout);
    assert!(report.contains("not checked: clusters, delivered from elsewhere"), "{report}");
}

#[test]
fn a_configuration_with_certificates_asks_for_the_proxys_document() {
    let variables = file(
        "certificates.env",
        &format!(
            "{VARIABLES}MLGATE_PEPPER_1=p\nMLGATE_SHARED_KEY_1=s\nMLGATE_JWT_SECRET_1=0123456789abcdef0123456789abcdef\nMLGATE_INTROSPECTION_SECRET=i\n"
        ),
    );
    let full = std::fs::read_to_string(Path::new(ROOT).join("envoy/config/full.yaml")).unwrap();
    for (validation, what) in [("attribute", "needs Envoy 1.39"), ("listener", "nobody but the operator")] {
        let changed = full.replace("peer_validation: attribute", &format!("peer_validation: {validation}"));
        let output = mlgate(&["check", "-", "--env", variables.to_str().unwrap()], &changed);
        let report = text(&output.stdout);
        let found =
            report.lines().find(|line| line.contains(": finding: /authentication/mtls/peer_validation: "));
        assert!(found.unwrap().contains(what), "{report}");
    }
}

#[test]
fn a_document_that_cannot_be_read_is_invalid_input() {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let anchored = "static_resources: &all {}\nadmin: *all\n";
    for (name, content, what) in [
        ("deep.yaml", deep.as_str(), "nested more than 72 deep"),
        ("deep.json", deep.as_str(), "nested more than 72 deep"),
        ("anchors.yaml", anchored, "anchors.yaml:1: an anchor (`&name`): leave it out"),
        ("other.yaml", "a: b\n", "neither a bootstrap"),
        ("torn.json", "{", "not a JSON document"),
    ] {
        let path = file(name, content);
        let output = check(path.to_str().unwrap(), &[]);
        assert_eq!(output.status.code(), Some(3), "{name}");
        assert!(output.stdout.is_empty(), "{name}");
        let error = text(&output.stderr);
        assert!(error.contains(what) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn nothing_is_found_in_what_is_rendered_for_each_example() {
    for name in ["demo", "full", "large", "medium", "quickstart", "small"] {
        let example = format!("envoy/config/{name}.yaml");
        let rendered =
            mlgate(&["render", "envoy", &example, "--cluster", "audit=collector.internal:4480"], "");
        assert_eq!(rendered.status.code(), Some(0), "{}", text(&rendered.stderr));
        let yaml = text(&rendered.stdout);
        assert!(
            yaml.starts_with("# made by `mlgate render envoy`")
                && yaml.contains("address: collector.internal")
        );
        let path = file(&format!("rendered-{name}.yaml"), &yaml);
        let output = mlgate(&["check", &example, "--envoy", path.to_str().unwrap(), "--format", "json"], "");
        let report: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["envoy"]["findings"], serde_json::json!([]), "{name}");
    }
    let output = mlgate(&["render", "envoy", "-"], "version: 1");
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
}
