//! Links lead somewhere, paths exist, `make` knows its targets.

use std::collections::BTreeSet;

use crate::{documents, read, root};

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let linked = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            assert!(linked.exists(), "{}: `{target}` leads nowhere", path.display());
            if !anchor.is_empty() {
                let headings = headings(&std::fs::read_to_string(&linked).unwrap());
                assert!(headings.contains(anchor), "{}: no heading `{target}`", path.display());
            }
        }
    }
}

#[test]
fn paths_in_backticks_exist() {
    let folders: Vec<String> =
        ["src", "tests", "envoy", "docs", "integration", "peers", "."].map(String::from).into();
    for path in documents() {
        for named in in_backticks(&std::fs::read_to_string(&path).unwrap()) {
            let first = named.split('/').next().unwrap_or_default();
            let is_path = named.contains('/')
                && folders.iter().any(|folder| folder == first)
                && !named.contains(['*', ' ', '<', '{', '…']);
            if is_path {
                assert!(root().join(&named).exists(), "{}: there is no `{named}`", path.display());
            }
        }
    }
}

#[test]
fn make_knows_the_targets_that_are_named() {
    let makefile = read("Makefile");
    let targets: BTreeSet<&str> =
        makefile.lines().filter_map(|line| line.split_once(':')).map(|(target, _)| target).collect();
    let mut named = BTreeSet::new();
    for path in documents() {
        for code in in_backticks(&std::fs::read_to_string(&path).unwrap()) {
            if let Some(target) = code.strip_prefix("make ") {
                assert!(targets.contains(target), "{}: make has no target `{target}`", path.display());
                named.insert(target.to_owned());
            }
        }
    }
    assert!(named.contains("demo") && named.contains("run"), "the two commands are not named: {named:?}");
}

#[test]
fn the_map_of_folders_is_whole() {
    let readme = read("README.md");
    let named: BTreeSet<String> = in_backticks(&readme).collect();
    for entry in std::fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let ours = !name.starts_with('.') && !["target", "build", "dist"].contains(&name.as_str());
        if entry.file_type().unwrap().is_dir() && ours {
            assert!(named.contains(&format!("{name}/")), "README.md does not name `{name}/`");
        }
    }
}

/// As GitHub makes anchors of headings.
fn headings(text: &str) -> BTreeSet<String> {
    let lines = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let anchor = |heading: &str| {
        let kept = heading
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .collect::<String>();
        kept.replace(' ', "-")
    };
    lines.map(anchor).collect()
}

/// Inline code outside fenced blocks.
fn in_backticks(text: &str) -> impl Iterator<Item = String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found.into_iter()
}
