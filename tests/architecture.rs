//! What may know what. The order of stages is one file's business, the proxy another's; nobody else may learn of
//! either by accident.

#![expect(clippy::unwrap_used, reason = "a broken workspace should stop the test")]

use std::path::Path;

/// One rule: files under `of` may not mention `words`, but for `except`.
struct Wall {
    of: &'static [&'static str],
    words: &'static [&'static str],
    except: &'static [&'static str],
    why: &'static str,
}

const STAGES: &[&str] =
    &["audit", "credentials", "host", "http", "identity", "limits", "policy", "remote", "resource", "time"];

const WALLS: &[Wall] = &[
    Wall {
        of: STAGES,
        words: &["crate::filter", "crate::plugin"],
        except: &["crate::filter::refusal", "crate::filter::step"],
        why: "a stage does not know who calls it",
    },
    Wall {
        of: STAGES,
        words: &["crate::config"],
        except: &["crate::config::faults", "crate::config::values", "crate::config::document::BoundsSpec"],
        why: "a stage knows its own words of the document alone",
    },
    Wall {
        of: &["time", "http", "host"],
        words: &[
            "crate::audit",
            "crate::credentials",
            "crate::identity",
            "crate::limits",
            "crate::policy",
            "crate::resource",
        ],
        except: &["crate::identity::spec::SourceTrust"],
        why: "values of the proxy come before all stages",
    },
    Wall {
        of: &["config", "filter"],
        words: &["crate::plugin"],
        except: &[],
        why: "the core does not know the proxy",
    },
    Wall {
        of: &["config"],
        words: &["crate::filter"],
        except: &["crate::filter::profile", "crate::filter::refusal"],
        why: "a document does not know who uses it",
    },
];

/// Longest file, in lines.
const MAX_LINES: usize = 500;

/// The one file of the product that may hold unsafe code, and its like in a filter that only tries the host out.
const UNSAFE: [&str; 2] = ["src/plugin/abi.rs", "integration/probe/src/host.rs"];

/// Functions of the SDK that do not panic: its dispatcher must know their tokens.
const DISPATCH: &[&str] = &["hostcalls::dispatch_http_call", "hostcalls::dispatch_grpc_call"];

/// Helpers of the SDK's traits; each unwraps or panics on statuses that the host really returns.
const SDK_HELPERS: &[&str] = &[
    "self.add_http_",
    "self.close_",
    "self.continue_",
    "self.done(",
    "self.get_buffer",
    "self.get_configuration",
    "self.get_current_time",
    "self.get_grpc_",
    "self.get_http_",
    "self.get_plugin_configuration",
    "self.get_property",
    "self.get_shared_data",
    "self.get_vm_configuration",
    "self.remove_http_",
    "self.reset_http_",
    "self.resume_",
    "self.send_http_response",
    "self.set_http_",
    "self.set_property",
    "self.set_shared_data",
    "self.set_tick_period",
];

/// What one file does wrong. `path` is from the root of the workspace.
fn wrong(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |line: usize, why: &str| found.push(format!("{path}:{line}: {why}"));
    let lines = text.lines().count();
    if lines > MAX_LINES {
        say(lines, "too long: split it");
    }
    let inside = path.strip_prefix("src/").unwrap_or_default();
    let module = inside.split(['/', '.']).next().unwrap_or_default();
    let in_plugin = module == "plugin";
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index.saturating_add(1), line)) {
        let code = line.split("//").next().unwrap_or_default();
        if code.contains("unsafe ") && !UNSAFE.contains(&path) {
            say(number, "unsafe code outside src/plugin/abi.rs");
        }
        if inside.is_empty() {
            continue;
        }
        if !in_plugin && (code.contains("proxy_wasm") || code.contains("extern \"C\"")) {
            say(number, "the proxy is known to src/plugin alone");
        }
        if in_plugin {
            let calls = code.matches("hostcalls::").count();
            let dispatches: usize = DISPATCH.iter().map(|name| code.matches(name).count()).sum();
            if calls > dispatches || SDK_HELPERS.iter().any(|helper| code.contains(helper)) {
                say(number, "the SDK's own calls panic on statuses that occur: use src/plugin/abi.rs");
            }
        }
        if module != "bin" && code.contains("crate::{") {
            say(number, "one line per module, so that walls are seen");
        }
        for wall in WALLS.iter().filter(|wall| wall.of.contains(&module)) {
            let without = wall.except.iter().fold(code.to_owned(), |code, except| code.replace(except, ""));
            if wall.words.iter().any(|word| without.contains(word)) {
                say(number, wall.why);
            }
        }
    }
    found
}

/// Every Rust file below `folder`, by its path from the root.
fn files(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.ends_with("target") {
            files(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn the_walls_stand() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "tests", "integration", "peers"] {
        files(root, &root.join(folder), &mut found);
    }
    assert!(found.len() > 30, "{} files", found.len());
    let this = Path::new(file!()).file_name().unwrap().to_str().unwrap();
    let wrong: Vec<String> = found
        .iter()
        .filter(|(path, _)| !path.ends_with(this))
        .flat_map(|(path, text)| wrong(path, text))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_planted_violation_is_found() {
    for (path, text) in [
        ("src/limits/gcra.rs", "use crate::filter::transaction::Transaction;"),
        ("src/policy.rs", "use crate::config::document::Document;"),
        ("src/policy.rs", "fn f(host: &crate::plugin::host::ProxyHost) {}"),
        ("src/http.rs", "use crate::policy::Decision;"),
        ("src/filter/transaction.rs", "use crate::plugin::abi;"),
        ("src/config/compile.rs", "use crate::filter::step::Step;"),
        ("src/identity/api_key.rs", "use proxy_wasm::hostcalls;"),
        ("src/host.rs", "let x = unsafe { y() };"),
        ("src/bin/mlgate/main.rs", "unsafe extern \"C\" {}"),
        ("src/plugin/host.rs", "hostcalls::get_property(vec![])"),
        ("src/plugin/host.rs", "hostcalls::dispatch_http_call(); hostcalls::log()"),
        ("src/plugin/http_context.rs", "self.send_http_response(403, vec![], None)"),
        ("src/audit.rs", "use crate::{filter::step, host};"),
        ("integration/src/lib.rs", "let x = unsafe { y() };"),
        ("tests/cli.rs", &"\n".repeat(MAX_LINES.saturating_add(1))),
    ] {
        assert!(!wrong(path, text).is_empty(), "{path}: {text}");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    for (path, text) in [
        ("src/policy.rs", "use crate::filter::refusal::Reason;"),
        ("src/policy/spec.rs", "use crate::config::values::DurationText;"),
        ("src/filter/transaction.rs", "use crate::limits::Quota;"),
        ("src/plugin/abi.rs", "unsafe extern \"C\" {}"),
        ("src/plugin/host.rs", "proxy_wasm::hostcalls::dispatch_http_call()"),
        ("src/host.rs", "// not unsafe { } at all, see crate::filter::step"),
        ("tests/cli.rs", "use mlgate::plugin;"),
        ("src/lib.rs", &"\n".repeat(MAX_LINES)),
    ] {
        assert!(wrong(path, text).is_empty(), "{:?}", wrong(path, text));
    }
}
