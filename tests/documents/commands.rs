//! The command's `--help` is what the reference says, and the commands in documents run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use crate::{documents, root, table};

#[test]
fn each_subcommand_has_its_row() {
    let mut code = BTreeMap::new();
    describe(&[], &mut code);
    let mut document = BTreeMap::new();
    for row in table("The command") {
        let [command, options, exits, ..] = row.as_slice() else { panic!("a short row: {row:?}") };
        let words = |cell: &str| -> BTreeSet<String> {
            cell.split('`')
                .skip(1)
                .step_by(2)
                .map(|word| word.split(' ').next().unwrap_or(word).to_owned())
                .collect()
        };
        let name = command.split('`').nth(1).unwrap_or_default();
        let name: Vec<&str> =
            name.split(' ').filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase())).collect();
        let known = document.insert(name.join(" "), (words(options), exits.clone()));
        assert_eq!(known, None, "{command} twice");
    }
    assert_eq!(document, code, "left: docs/reference.md, right: --help");
}

/// The commands under `path` with their own options and exit codes.
fn describe(path: &[&str], found: &mut BTreeMap<String, (BTreeSet<String>, String)>) {
    let mut arguments = path.to_vec();
    arguments.push("--help");
    let help = String::from_utf8(run(&arguments).stdout).unwrap();
    let inner: Vec<String> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().map(str::to_owned))
        .filter(|name| !name.is_empty() && name != "help")
        .collect();
    for name in &inner {
        let mut path = path.to_vec();
        path.push(name);
        describe(&path, found);
    }
    if inner.is_empty() {
        let own = options_of(&help);
        let exits = help.lines().find_map(|line| line.strip_prefix("Exit codes: ")).unwrap_or_default();
        found.insert(format!("mlgate {}", path.join(" ")), (own, exits.to_owned()));
    }
}

/// Options in the list of options, but for those that all commands have.
fn options_of(help: &str) -> BTreeSet<String> {
    let list = help.lines().skip_while(|line| *line != "Options:").skip(1);
    list.take_while(|line| line.is_empty() || line.starts_with(' '))
        .filter_map(|line| {
            line.trim_start().split([' ', ',']).find(|word| !word.is_empty() && word.starts_with('-'))
        })
        .filter(|option| option.starts_with("--") && !["--help", "--format", "--version"].contains(option))
        .map(str::to_owned)
        .collect()
}

/// Lines that begin with `$` in blocks marked `console`, as a shell runs them where `mlgate` is on the path; `# exit N` at
/// the end says how one ends when that is not 0. A backslash continues a line.
#[test]
fn commands_in_documents_run() {
    let mut count: usize = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap().replace("\\\n", " ");
        for block in text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            for line in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
                let exit = line.split_once("# exit ").map_or("0", |(_, exit)| exit.trim());
                let output = shell(line);
                let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                assert_eq!(output.status.code(), exit.parse().ok(), "{}: {line}: {printed}", path.display());
                count = count.saturating_add(1);
            }
        }
    }
    assert!(count >= 5, "only {count} commands");
}

fn shell(line: &str) -> Output {
    let folder = Path::new(env!("CARGO_BIN_EXE_mlgate")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.display());
    Command::new("sh").args(["-c", line]).current_dir(root()).env_clear().env("PATH", path).output().unwrap()
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mlgate")).args(arguments).output().unwrap()
}
