//! The documented bootstrap and those that are rendered: what they allow the filter is what it uses, and Envoy takes them.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::Context;
use mlgate::envoy::CAPABILITIES;
use mlgate_integration::demo::setup;
use mlgate_integration::{EnvoyBuilder, Stack, artifacts};
use serde_json::Value;

/// Calls of the proxy that the SDK's dispatcher answers for every plugin.
const LIFE: [&str; 5] = [
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_done",
    "proxy_on_vm_start",
];

#[test]
fn the_capability_list_holds_what_the_filter_uses_and_nothing_else() -> anyhow::Result<()> {
    let module = Module::read(&fs::read(artifacts::filter_wasm()?)?).context("not a module")?;
    // The SDK imports every call that it knows; ours are those of one file, and what dispatches.
    let source = |name: &str| fs::read_to_string(artifacts::root().join("src/plugin").join(name));
    let mut asked: BTreeSet<String> = declared(&source("abi.rs")?).collect();
    for name in ["host.rs", "root_context.rs", "http_context.rs"] {
        let text = source(name)?;
        for (call, import) in [
            ("hostcalls::dispatch_http_call", "proxy_http_call"),
            ("hostcalls::dispatch_grpc_call", "proxy_grpc_call"),
        ] {
            if text.contains(call) {
                asked.insert(import.to_owned());
            }
        }
        asked.extend(answered(&text));
    }
    asked.extend(module.wasi);
    asked.extend(LIFE.map(str::to_owned));
    let missing: Vec<_> = asked.difference(&module.names).collect();
    assert!(missing.is_empty(), "neither imported nor exported: {missing:?}");
    let listed: BTreeSet<String> = CAPABILITIES.map(str::to_owned).into();
    assert_eq!(listed, asked, "left: `CAPABILITIES`, right: what the filter uses");
    Ok(())
}

#[test]
fn the_documented_bootstrap_has_that_list() -> anyhow::Result<()> {
    let bootstrap = setup::yaml(&artifacts::root().join(setup::BOOTSTRAP))?;
    let list = bootstrap
        .pointer(
            "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config\
             /vm_config/capability_restriction_config/allowed_capabilities",
        )
        .and_then(Value::as_object)
        .context("no list")?;
    let written: BTreeSet<&str> = list.keys().map(String::as_str).collect();
    assert_eq!(written, CAPABILITIES.into(), "left: envoy/envoy.yaml, right: `CAPABILITIES`");
    Ok(())
}

#[tokio::test]
async fn what_is_rendered_for_each_example_is_accepted() -> anyhow::Result<()> {
    let stack = Stack::create("rendered")?;
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["gate.example".to_owned()])?.self_signed(&key)?;
    let certificate = stack.write("tls.crt", certificate.pem())?;
    let key = stack.write("tls.key", key.serialize_pem())?;
    for name in ["small", "medium", "large", "full", "demo"] {
        let output = Command::new(artifacts::command()?)
            .args(["render", "envoy", &format!("envoy/config/{name}.yaml"), "--format", "json"])
            .arg("--filter")
            .arg(artifacts::filter_wasm()?)
            .args(
                ["--certificate", "--client-ca"]
                    .iter()
                    .flat_map(|flag| [(*flag).into(), certificate.clone()]),
            )
            .arg("--private-key")
            .arg(&key)
            .current_dir(artifacts::root())
            .output()?;
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let mut builder = EnvoyBuilder::new().whole(serde_json::from_slice(&output.stdout)?);
        for variable in [
            "MLGATE_CHAIN_KEY_1",
            "MLGATE_DIGEST_KEY_1",
            "MLGATE_SHARED_KEY_1",
            "MLGATE_PEPPER_1",
            "MLGATE_JWT_SECRET_1",
            "MLGATE_INTROSPECTION_SECRET",
        ] {
            builder = builder.environment(variable, "a secret of this test, which is longer than 32 bytes");
        }
        let (status, log) = builder.validate(&stack).await?;
        assert!(status.success() && log.contains("OK"), "{name}: {log}");
    }
    Ok(())
}

/// Functions that a Wasm module imports and exports.
#[derive(Default)]
struct Module {
    names: BTreeSet<String>,
    wasi: BTreeSet<String>,
}

impl Module {
    /// Reads a module (WebAssembly core specification §5.5); `None` where it is none.
    fn read(bytes: &[u8]) -> Option<Self> {
        const IMPORTS: u32 = 2;
        const EXPORTS: u32 = 7;
        let mut module = Self::default();
        let mut rest = bytes.strip_prefix(b"\0asm\x01\0\0\0")?;
        while !rest.is_empty() {
            let id = number(&mut rest)?;
            let length = usize::try_from(number(&mut rest)?).ok()?;
            let (mut section, after) = rest.split_at_checked(length)?;
            rest = after;
            if id != IMPORTS && id != EXPORTS {
                continue;
            }
            for _ in 0..number(&mut section)? {
                let from = if id == IMPORTS { text(&mut section)? } else { String::new() };
                let name = text(&mut section)?;
                // a function, by the index of its type or its own
                let (_function, _index) = (number(&mut section)?, number(&mut section)?);
                if from == "wasi_snapshot_preview1" {
                    module.wasi.insert(name.clone());
                }
                module.names.insert(name);
            }
        }
        Some(module)
    }
}

/// An unsigned LEB128.
fn number(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for shift in (0..32).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(number(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

/// Functions that a source file declares in blocks of externs.
fn declared(source: &str) -> impl Iterator<Item = String> + '_ {
    source
        .split("extern \"C\" {")
        .skip(1)
        .filter_map(|block| block.split("\n}").next())
        .flat_map(|block| block.split("fn ").skip(1))
        .filter_map(|declaration| declaration.split('(').next())
        .map(str::to_owned)
}

/// Calls of the proxy that a source file answers, by the names under which the module exports them.
fn answered(source: &str) -> impl Iterator<Item = String> + '_ {
    source.split("    fn on_").skip(1).filter_map(|method| method.split('(').next()).flat_map(|name| {
        match name {
            // a message, and an end without one
            "grpc_call_response" => {
                vec!["proxy_on_grpc_receive".to_owned(), "proxy_on_grpc_close".to_owned()]
            }
            "http_call_response" => vec!["proxy_on_http_call_response".to_owned()],
            name => vec![format!("proxy_on_{}", name.strip_prefix("http_").unwrap_or(name))],
        }
    })
}
