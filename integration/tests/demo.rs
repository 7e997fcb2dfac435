//! The story of `make demo` as a test, and what stands beside it: the documented table, metrics, bootstrap and client.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};
use mlgate_integration::demo::{Demo, evidence, guide, play, setup, story, table};
use mlgate_integration::{Stack, artifacts, client, envoy};

/// The client that callers of OpenAI's API have.
const OPENAI: &str = "openai==3.54.0";

#[tokio::test(flavor = "multi_thread")]
async fn the_story_ends_as_the_readme_shows_it() -> anyhow::Result<()> {
    let demo = Demo::start("story").await?;
    let sections = play::play(&demo, story::parts(&demo.keys)?).await?;
    let told = table::render(&sections, false);
    let wrong: Vec<_> =
        sections.iter().flat_map(|section| &section.rows).filter(|row| row.wrong.is_some()).collect();
    assert!(wrong.is_empty(), "{told}");
    let readme = fs::read_to_string(artifacts::root().join("README.md"))?;
    assert!(readme.contains(told.trim_end()), "README.md does not show this table:\n{told}");

    let metrics = demo.envoy.admin_get("/stats/prometheus").await?;
    let refused =
        r#"mlgate_requests_total{gate="demo",decision="denied",reason="explicit_deny",profile="default"} 1"#;
    assert!(metrics.contains(refused), "{}", lines_with(&metrics, "mlgate_"));
    let in_effect =
        metrics.lines().filter(|line| line.starts_with(r#"mlgate_config_info{gate="demo",revision="#));
    assert!(
        in_effect.clone().count() == 1 && in_effect.clone().all(|line| line.ends_with(" 1")),
        "{metrics}"
    );
    demo.envoy.check_unharmed().await?;

    let (collector, stack) = demo.stop().await?;
    for finding in evidence::findings(&collector, &stack)? {
        assert!(finding.expected, "{}: {:?}", finding.title, finding.verdict);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_to_type_work_as_they_are_printed() -> anyhow::Result<()> {
    let demo = Demo::start("guide").await?;
    let lines = guide::lines(&demo)?;
    // The lines of one command follow each other with a backslash; what they should answer stands before them.
    let joined = lines.replace(" \\\n", " ");
    let mut wanted = None;
    let mut typed: usize = 0;
    for line in joined.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("# ") {
            wanted = comment.rsplit_once(": ").map(|(_, status)| status.to_owned());
        } else if line.starts_with("curl ") || line.starts_with("MLGATE_CHAIN_KEY_1=") {
            let output = Command::new("sh")
                .args(["-c", &format!("{line} 2>&1")])
                .current_dir(artifacts::root())
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{line}: {text}");
            if let Some(wanted) = wanted.take() {
                assert!(text.contains(&format!("HTTP/1.1 {wanted} ")), "{line}: {text}");
            }
            typed = typed.saturating_add(1);
        }
    }
    assert!(typed >= 7, "only {typed} of {lines}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unmodified_openai_client_works() -> anyhow::Result<()> {
    let python = openai_python()?;
    let demo = Demo::start("openai").await?;
    let script = artifacts::root().join("integration/src/demo/openai_client.py");
    let base_url = format!("http://{}/v1", demo.envoy.address());
    let output = Command::new(python).arg(script).args([&base_url, &demo.keys.of("user_1")?]).output()?;
    let (told, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let wanted = "whole: Hello from the sample model.\n\
        stream: word0 word1 word2 word3 word4 \n\
        models: ['sample']\n\
        refused: 403 access_denied\n";
    assert_eq!(told, wanted, "{failed}");
    Ok(())
}

#[tokio::test]
async fn the_documented_bootstrap_is_accepted_as_it_is() -> anyhow::Result<()> {
    let stack = Stack::create("documented-bootstrap")?;
    // Its path of the filter is relative to the root.
    artifacts::filter_wasm()?;
    let status =
        validate(&stack, "envoy", &fs::read_to_string(artifacts::root().join("envoy/envoy.yaml"))?).await?;
    assert!(status.contains("OK"), "{status}");
    Ok(())
}

#[tokio::test]
async fn faults_of_a_struct_have_their_pointers() -> anyhow::Result<()> {
    let stack = Stack::create("faulty-struct")?;
    artifacts::filter_wasm()?;
    let bootstrap = fs::read_to_string(artifacts::root().join("envoy/envoy.yaml"))?;
    let faulty = bootstrap
        .replace("default: [{ limit: 10, window: 1m }]", "default: [{ limit: 10, window: soon }]")
        .replace("preset: openai", "preset: opened");
    let log = validate(&stack, "faulty", &faulty).await.expect_err("accepted").to_string();
    for fault in
        ["/limits/0/rates/default/0/window: `soon`", "/resources/rules/4/preset: unknown choice `opened`"]
    {
        assert!(log.contains(fault), "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn the_readmes_snippet_fits_into_an_envoy() -> anyhow::Result<()> {
    let stack = Stack::create("documented-snippet")?;
    artifacts::filter_wasm()?;
    let readme = fs::read_to_string(artifacts::root().join("README.md"))?;
    let block = |mark: &str| -> anyhow::Result<String> {
        let rest = readme
            .split_once(&format!("<!-- {mark} -->\n```yaml\n"))
            .with_context(|| format!("no {mark}"))?
            .1;
        Ok(rest.split_once("```").context("not closed")?.0.to_owned())
    };
    let indented = |text: &str, by: usize| -> String {
        text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
    };
    let whole = format!(
        r#"static_resources:
  listeners:
    - name: yours
      address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: yours
                use_remote_address: true
                route_config: {{ virtual_hosts: [] }}
                http_filters:
{}                  - name: envoy.filters.http.router
                    typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
{}"#,
        indented(&block("filter")?, 18),
        indented(&block("cluster")?, 4)
    );
    let status = validate(&stack, "yours", &whole).await?;
    assert!(status.contains("OK"), "{status}");
    Ok(())
}

/// Runs `envoy --mode validate` at the root, which configures the filter too.
async fn validate(stack: &Stack, name: &str, bootstrap: &str) -> anyhow::Result<String> {
    let mut bootstrap = setup::yaml(&stack.write(&format!("{name}.yaml"), bootstrap)?)?;
    envoy::for_this_envoy(&mut bootstrap)?;
    let path = stack.write(&format!("{name}.json"), bootstrap.to_string())?;
    let mut command = Command::new(artifacts::envoy()?);
    command.args(["--mode", "validate", "--config-path"]).arg(path).current_dir(artifacts::root());
    for name in ["MLGATE_CHAIN_KEY_1", "MLGATE_DIGEST_KEY_1", "MLGATE_SHARED_KEY_1"] {
        command.env(name, "a secret of this test");
    }
    let mut process = stack.run(name, &command)?;
    let status = process.wait(client::ANSWER_BOUND).await?;
    if !status.success() {
        bail!("{status}: {}", process.last_lines());
    }
    process.log()
}

/// A Python with the client, in a venv under `build/`.
fn openai_python() -> anyhow::Result<PathBuf> {
    let home = artifacts::root().join("build").join(OPENAI.replace("==", "-"));
    let python = home.join("bin/python");
    let has_client = |python: &PathBuf| {
        Command::new(python)
            .args(["-c", "import openai"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !has_client(&python) {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&home).status()?;
        let installed = Command::new(home.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", OPENAI])
            .status()?;
        if !made.success() || !installed.success() {
            bail!("cannot install {OPENAI} into {}", home.display());
        }
    }
    Ok(python)
}

fn lines_with(text: &str, part: &str) -> String {
    text.lines().filter(|line| line.contains(part)).collect::<Vec<_>>().join("\n")
}
