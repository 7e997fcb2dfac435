//! What may be in the graph of crates: licences, sources, banned names, and how little the filter carries.

#![expect(clippy::unwrap_used, reason = "a broken workspace should stop the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, PackageId};

/// Licences that a dependency may be used under.
const LICENCES: [&str; 10] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// Under other licences that allow what is done with them: the other engines of the member `peers` need them, which is
/// built for comparisons and given to nobody. MPL-2.0, CC0-1.0.
const OF_PEERS: [&str; 2] = ["smartstring", "tiny-keccak"];

/// Where crates come from, workspace members aside.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Never in the graph of the filter or the command.
const BANNED: [&str; 5] = ["native-tls", "openssl", "openssl-sys", "ring", "serde_yaml"];

/// Never in the filter, besides [`BANNED`]: runtimes, parsers of languages, a second source of time or chance.
const BANNED_IN_FILTER: [&str; 14] = [
    "axum",
    "chrono",
    "clap",
    "futures",
    "getrandom",
    "hyper",
    "rand",
    "regex",
    "regex-automata",
    "saphyr-parser",
    "time",
    "tokio",
    "wasm-bindgen",
    "yaml-rust2",
];

/// The filter has fewer crates than this, itself included.
const MAX_FILTER_CRATES: usize = 60;

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .exec()
        .unwrap()
}

/// Names of what `mlgate` needs to run, itself included.
fn graph(metadata: &Metadata) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let needs: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, &node.deps)).collect();
    let root = metadata.packages.iter().find(|package| *package.name == "mlgate").unwrap();
    let mut open = vec![&root.id];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in needs.get(id).into_iter().copied().flatten() {
            if dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal) {
                open.push(&dependency.pkg);
            }
        }
    }
    metadata
        .packages
        .iter()
        .filter(|package| seen.contains(&package.id))
        .map(|package| package.name.to_string())
        .collect()
}

/// Whether an SPDX expression can be satisfied with [`LICENCES`]. `/` is the old way to write `OR`; an exception
/// (`WITH`) only permits more.
fn licensed(expression: &str) -> bool {
    type Words = std::iter::Peekable<std::vec::IntoIter<String>>;
    fn any(words: &mut Words) -> Option<bool> {
        let mut right = all(words)?;
        while words.next_if(|word| word == "OR").is_some() {
            right |= all(words)?;
        }
        Some(right)
    }
    fn all(words: &mut Words) -> Option<bool> {
        let mut right = one(words)?;
        while words.next_if(|word| word == "AND").is_some() {
            right &= one(words)?;
        }
        Some(right)
    }
    fn one(words: &mut Words) -> Option<bool> {
        let word = words.next()?;
        if word == "(" {
            let right = any(words);
            return words.next_if(|word| word == ")").and(right);
        }
        if words.next_if(|word| word == "WITH").is_some() {
            words.next()?;
        }
        Some(LICENCES.contains(&word.as_str()))
    }
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<String> = spaced.split_whitespace().map(str::to_owned).collect();
    let mut words = words.into_iter().peekable();
    any(&mut words) == Some(true) && words.next().is_none()
}

fn found_in<'a>(banned: &[&'a str], graph: &BTreeSet<String>) -> Vec<&'a str> {
    banned.iter().copied().filter(|name| graph.contains(*name)).collect()
}

/// Only crates.io, or a folder of this workspace.
fn foreign(source: Option<&str>) -> bool {
    source.is_some_and(|source| source != SOURCE)
}

/// Names of what the library is built with for a target, without features. Metadata would give the features that
/// other members of the workspace ask for too.
fn built(target: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", "mlgate", "--no-default-features", "--target", target])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn every_dependency_has_a_licence_and_a_source_that_we_accept() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let of_peers = OF_PEERS.contains(&package.name.as_str());
        if !of_peers && !licensed(package.license.as_deref().unwrap_or_default()) {
            wrong.push(format!("{}: licence {:?}", package.name, package.license));
        }
        if foreign(package.source.as_ref().map(|source| source.repr.as_str())) {
            wrong.push(format!("{}: source {:?}", package.name, package.source));
        }
    }
    println!("{} packages", metadata.packages.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(found_in(&OF_PEERS, &graph(&metadata)), [""; 0], "nothing that is given away needs them");
}

#[test]
fn the_command_has_no_banned_crate() {
    let graph = graph(&metadata());
    println!("the command: {} crates", graph.len());
    assert_eq!(found_in(&BANNED, &graph), [""; 0]);
}

#[test]
fn the_filter_is_small() {
    let graph = built("wasm32-wasip1");
    println!("the filter: {} crates", graph.len());
    assert!(graph.contains("proxy-wasm"), "{graph:?}");
    assert!(graph.len() < MAX_FILTER_CRATES, "{} crates: {graph:?}", graph.len());
    assert_eq!(found_in(&BANNED, &graph), [""; 0]);
    assert_eq!(found_in(&BANNED_IN_FILTER, &graph), [""; 0]);
}

#[test]
fn the_core_does_not_know_the_proxy() {
    let graph = built("x86_64-unknown-linux-gnu");
    assert!(graph.contains("serde"), "{graph:?}");
    assert!(!graph.contains("proxy-wasm"), "{graph:?}");
}

#[test]
fn a_planted_violation_is_found() {
    for right in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
    ] {
        assert!(licensed(right), "{right}");
    }
    for wrong in ["", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR LGPL-2.1) AND MIT", "MIT OR", "(MIT", "MIT)"]
    {
        assert!(!licensed(wrong), "{wrong}");
    }
    assert!(foreign(Some("git+https://example.invalid/crate")));
    assert!(foreign(Some("registry+https://example.invalid/index")));
    assert!(!foreign(None));
    let graph = BTreeSet::from([String::from("tokio"), String::from("serde")]);
    assert_eq!(found_in(&BANNED_IN_FILTER, &graph), ["tokio"]);
}
