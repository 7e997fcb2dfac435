//! What the tests share: a document, the service that counts its global limits, callers.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use mlgate_integration::artifacts;

/// A whole document: callers by their key's id with their tiers, the lines under `limits`, and `rate_limit_service`.
pub(crate) fn document(callers: &[(&str, &str)], limits: &str, service: &str) -> String {
    let digest = "0".repeat(64);
    let caller = |(id, tier): &(&str, &str)| {
        format!(
            "  - {{ name: {id}, tier: {tier}, roles: [any], credentials: {{ api_keys: [{{ id: {id}, digest: \"sha256:{digest}\" }}] }} }}\n"
        )
    };
    let callers: String = callers.iter().map(caller).collect();
    format!(
        r#"
version: 1
name: gate
consumers:
{callers}
resources:
  unlisted: allow
  rules: [{{ match: {{ path: "/v1/m/{{model}}" }}, resource: {{ type: model, id: "{{model}}" }}, action: read }}, {{ preset: openai }}]
authorization: {{ roles: {{ any: {{ permissions: ["*"] }} }} }}
limits:
{limits}
rate_limit_service: {{ cluster: ratelimit, domain: mlgate, {service} }}
audit: {{ collector: {{ cluster: audit }}, chain: {{ keys: [{{ id: c1, env: MLGATE_CHAIN_KEY_1 }}] }} }}
shared_data: {{ keys: [{{ id: s1, env: MLGATE_SHARED_KEY_1 }}] }}
"#
    )
}

/// What Limitador reads for this document: what the command makes of it.
pub(crate) fn limits(document: &str) -> anyhow::Result<String> {
    let mut child = Command::new(artifacts::command()?)
        .args(["render", "limitador", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run mlgate render")?;
    // A command that does not read its input closes it, and says why.
    let _closed = child.stdin.take().context("no input")?.write_all(document.as_bytes());
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("mlgate render limitador: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
