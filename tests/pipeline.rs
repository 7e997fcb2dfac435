//! The commands of the example for GitHub Actions, run in a repository with a base and a change.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a pipeline that cannot run should stop the test"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mlgate::config::tree::Tree;
use serde_json::{Value as Json, json};

/// The root of the workspace.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

struct Repository(PathBuf);

// === impl Repository ===

impl Repository {
    /// The large organisation's policies, committed as what a pull request is based on.
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("policies/suites")).unwrap();
        let copy = |from: &str, to: &str| std::fs::copy(Path::new(ROOT).join(from), folder.join(to)).unwrap();
        copy("envoy/config/large.yaml", "policies/gate.yaml");
        copy("envoy/suites/large.yaml", "policies/suites/large.yaml");
        let secret = "not-a-secret-but-as-long-as-one-must-be";
        let variables = ["PEPPER", "CHAIN_KEY", "DIGEST_KEY", "SHARED_KEY"];
        let variables: String = variables.map(|name| format!("MLGATE_{name}_1={secret}-{name}\n")).concat();
        std::fs::write(folder.join("policies/ci.env"), variables).unwrap();
        let repository = Self(folder);
        for command in [
            "git init -q -b main",
            "git add policies",
            "git -c user.name=ci -c user.email=ci@localhost commit -qm base",
            "git update-ref refs/remotes/origin/main main",
        ] {
            let output = repository.run(command);
            assert!(output.status.success(), "{command}: {}", text(&output.stderr));
        }
        repository
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// As a runner does: `bash --noprofile --norc -eo pipefail`.
    fn run(&self, script: &str) -> Output {
        let command = Path::new(env!("CARGO_BIN_EXE_mlgate")).parent().unwrap();
        let workflow = workflow();
        let mut shell = Command::new("bash");
        shell
            .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script])
            .current_dir(&self.0)
            .env_clear();
        for (name, value) in workflow["jobs"]["review"]["env"].as_object().unwrap() {
            shell.env(name, value.as_str().unwrap());
        }
        shell
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", command.display()))
            .env("HOME", &self.0)
            .env("GITHUB_BASE_REF", "main")
            .env("GITHUB_STEP_SUMMARY", self.path("summary.md"))
            .output()
            .unwrap()
    }

    /// One step of the workflow.
    fn step(&self, name: &str) -> Output {
        let workflow = workflow();
        let steps = workflow["jobs"]["review"]["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["name"] == json!(name)).unwrap();
        self.run(step["run"].as_str().unwrap())
    }

    fn change(&self, from: &str, to: &str) {
        let path = self.path("policies/gate.yaml");
        let content = std::fs::read_to_string(&path).unwrap();
        assert!(content.contains(from), "{from}");
        std::fs::write(path, content.replace(from, to)).unwrap();
    }

    /// A week in which the retraining read the payments and trained.
    fn record(&self) {
        let revision = {
            let output = self.run("mlgate check \"$CONFIG\" --env \"$VARIABLES\" --format json");
            let report: Json = serde_json::from_slice(&output.stdout).unwrap();
            report["policy_revision"].as_str().unwrap().to_owned()
        };
        let event = |seq: u32, method: &str, path: &str, action: &str, kind: &str, id: &str, policy: &str| {
            json!({
                "v": 1, "type": "access", "chain": "large/0", "seq": seq, "timestamp": "2026-02-27T10:00:00.000Z",
                "decision_id": format!("{seq:032x}"), "policy_revision": revision, "profile": "default",
                "principal": "fraud_retraining", "user_id": "fraud_retraining", "roles": ["trainer"], "tier": "service",
                "credential": { "method": "jwt", "issuer": "https://kubernetes.default.svc" }, "status": "success",
                "method": method, "path": path, "host": "models", "action": action,
                "resource": { "type": kind, "id": id }, "policies": [policy],
                "attributes": { "principal": { "department": "risk", "kind": "service", "clearance": "high", "roles": ["trainer"] } },
            })
        };
        let cleared = "cleared-callers-use-what-is-sensitive";
        let log = format!(
            "{}\n{}\n",
            event(1, "GET", "/v1/datasets/card_payments", "read", "dataset", "card_payments", cleared),
            event(2, "POST", "/v1/training-jobs", "train", "training_job", "gpu_pool", "role:trainer")
        );
        std::fs::create_dir_all(self.path("audit")).unwrap();
        std::fs::write(self.path("audit/last-week.log"), log).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn workflow() -> Json {
    let bytes = std::fs::read(Path::new(ROOT).join("envoy/ci/github-actions.yaml")).unwrap();
    Tree::from_yaml(&bytes).unwrap().to_json()
}

#[test]
fn a_pull_request_that_changes_nothing_passes_each_step() {
    let repository = Repository::new("pipeline-same");
    repository.record();
    for step in ["recorded decisions", "check", "test", "diff"] {
        let output = repository.step(step);
        assert_eq!(output.status.code(), Some(0), "{step}: {}{}", text(&output.stdout), text(&output.stderr));
    }
    let summary = std::fs::read_to_string(repository.path("summary.md")).unwrap();
    assert!(
        summary.starts_with("2 decisions from old.yaml to policies/gate.yaml: 0 would flip"),
        "{summary}"
    );
    assert!(std::fs::read_to_string(repository.path("results.xml")).unwrap().contains("failures=\"0\""));
}

#[test]
fn a_pull_request_that_locks_somebody_out_is_told_whom_and_by_what() {
    let repository = Repository::new("pipeline-flip");
    repository.record();
    repository.step("recorded decisions");
    repository.change(
        "principal: { kind: [employee, service], clearance: high }",
        "principal: { kind: [employee], clearance: high }",
    );
    assert_eq!(repository.step("check").status.code(), Some(0));
    let tested = repository.step("test");
    assert_eq!(tested.status.code(), Some(1));
    assert!(text(&tested.stdout).contains("retraining, payments, read: denied"), "{}", text(&tested.stdout));
    let differed = repository.step("diff");
    assert_eq!(differed.status.code(), Some(2), "{}", text(&differed.stderr));
    let summary = std::fs::read_to_string(repository.path("summary.md")).unwrap();
    for line in [
        "cleared-callers-use-what-is-sensitive: 1 decisions\n",
        "fraud_retraining, read, dataset card_payments",
        "2 decisions",
        "1 would flip",
    ] {
        assert!(summary.contains(line), "{line}: {summary}");
    }
}

#[test]
fn a_faulty_document_ends_the_pipeline_at_its_first_step() {
    let repository = Repository::new("pipeline-fault");
    repository.change("effect: allow", "effect: alow");
    let output = repository.step("check");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("policies/gate.yaml:"), "{}", text(&output.stdout));
}
