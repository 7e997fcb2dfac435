//! `mlgate revoke` as scripts see it: a list is changed whole or not at all, whoever else changes it.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]

use std::path::PathBuf;
use std::process::Output;

use mlgate::identity::revocation::list::{MAX_BYTES, RevocationList};
use serde_json::{Value as Json, json};

#[path = "support/command.rs"]
mod command;

use command::{file, mlgate, text};

const KEY: &str = "mlg_k7f3a2b9_0123456789ABCDEFGHIJKLMNOPQRSTUV2LJgwY";

/// An empty folder of this test's own, for a list.
fn list(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("revoke-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder.join("revoked.json")
}

fn revoke(list: &std::path::Path, arguments: &[&str]) -> Output {
    let list = list.to_str().unwrap();
    mlgate(&[&["revoke"], arguments, &["--list", list]].concat(), "")
}

fn read(list: &std::path::Path) -> RevocationList {
    RevocationList::read(&std::fs::read(list).unwrap()).unwrap()
}

#[test]
fn a_list_is_made_and_says_what_was_revoked() {
    let list = list("made");
    for arguments in [
        ["key", "k7f3a2b9", "--why", "in a public repository"].as_slice(),
        &["key", "aaaa0000"],
        &["principal", "jwt:corp:eve"],
        &["spiffe", "spiffe://acme.example/ns/batch/sa/worker"],
        &["token", "--issuer", "https://issuer.example", "--jti", "8f2c"],
    ] {
        let output = revoke(&list, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("is revoked ("), "{}", text(&output.stdout));
    }
    let read = read(&list);
    assert_eq!(read.keys, ["k7f3a2b9", "aaaa0000"]);
    assert_eq!(read.principals, ["jwt:corp:eve"]);
    assert_eq!(read.spiffe_ids, ["spiffe://acme.example/ns/batch/sa/worker"]);
    assert_eq!(
        (read.tokens[0].issuer.as_str(), read.tokens[0].jti.as_str()),
        ("https://issuer.example", "8f2c")
    );
    let [note] = read.notes.as_slice() else { panic!("{:?}", read.notes) };
    assert_eq!((note.entry.as_str(), note.why.as_str()), ("key k7f3a2b9", "in a public repository"));
    let left: Vec<_> =
        std::fs::read_dir(list.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [list]);
}

#[test]
fn what_was_revoked_can_be_taken_back_and_twice_is_once() {
    let list = list("undo");
    let said = |arguments: &[&str]| {
        let output = revoke(&list, &[arguments, &["--format", "json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let printed: Json = serde_json::from_slice(&output.stdout).unwrap();
        (printed["change"].as_str().unwrap().to_owned(), printed["entries"].as_u64().unwrap())
    };
    assert_eq!(said(&["key", "k7f3a2b9", "--why", "lost"]), ("added".into(), 1));
    let before = std::fs::read(&list).unwrap();
    // the whole key, where it leaked, stands for its public part
    assert_eq!(said(&["key", KEY]), ("unchanged".into(), 1));
    assert_eq!(std::fs::read(&list).unwrap(), before);
    assert_eq!(said(&["key", "aaaa0000", "--undo"]), ("unchanged".into(), 1));
    assert_eq!(said(&["key", "k7f3a2b9", "--undo"]), ("removed".into(), 0));
    assert_eq!(serde_json::to_value(read(&list)).unwrap(), json!({ "version": 1 }));
}

#[test]
fn a_file_that_is_no_list_is_left_as_it_is() {
    let list = list("refused");
    for content in [
        "",
        "not a list",
        "{\"version\":1,\"keys\":[\"k7f3a2b9\"",
        "{\"version\":2}",
        "{\"version\":1,\"key\":[]}",
        "{\"version\":1,\"keys\":[],\"keys\":[]}",
    ] {
        std::fs::write(&list, content).unwrap();
        let output = revoke(&list, &["key", "k7f3a2b9"]);
        assert_eq!(output.status.code(), Some(3), "{content}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
        assert_eq!(std::fs::read_to_string(&list).unwrap(), content);
    }
    let nowhere = list.parent().unwrap().join("absent/revoked.json");
    assert_eq!(revoke(&nowhere, &["key", "k7f3a2b9"]).status.code(), Some(1));
}

#[test]
fn what_is_no_entry_is_never_written_nor_repeated() {
    let list = list("wrong");
    let mistyped = KEY.replace("2LJgwY", "2LJgwZ");
    for arguments in [
        ["key", &mistyped].as_slice(),
        &["key", "K7F3A2B9"],
        &["principal", "anonymous"],
        &["principal", ""],
        &["principal", "a\nb"],
        &["spiffe", "https://acme.example/"],
        &["token", "--issuer", "", "--jti", "1"],
        &["token", "--issuer", "https://issuer.example"],
        &["key", "k7f3a2b9", "--undo", "--why", "both"],
    ] {
        let output = revoke(&list, arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {}", text(&output.stdout));
        assert!(!text(&output.stderr).contains("0123456789"), "{}", text(&output.stderr));
        assert!(!list.exists());
    }
}

#[test]
fn nobodys_change_is_lost_when_many_change_a_list_at_once() {
    const CHANGES: u32 = 12;
    let list = list("together");
    std::thread::scope(|scope| {
        for number in 0..CHANGES {
            let list = &list;
            scope.spawn(move || {
                let output = revoke(list, &["key", &format!("key{number:05}")]);
                assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
            });
        }
    });
    let mut keys = read(&list).keys;
    keys.sort();
    assert_eq!(keys, (0..CHANGES).map(|number| format!("key{number:05}")).collect::<Vec<_>>());
}

#[cfg(unix)]
#[test]
fn a_list_keeps_its_rights_and_a_link_its_target() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let list = list("rights");
    let target = file("revoke-rights-target.json", "{\"version\":1}\n");
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&target, &list).unwrap();
    assert_eq!(revoke(&list, &["key", "k7f3a2b9"]).status.code(), Some(0));
    assert!(list.is_symlink());
    assert_eq!(read(&target).keys, ["k7f3a2b9"]);
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
}

#[cfg(unix)]
#[test]
fn a_list_keeps_its_owner_and_what_lies_beside_it_is_not_written_through() {
    use std::os::unix::fs::{MetadataExt as _, chown, symlink};
    let list = list("owner");
    let victim = file("revoke-owner-victim", "untouched");
    let beside = list.with_file_name(".revoked.json.new");
    symlink(&victim, &beside).unwrap();
    assert_eq!(revoke(&list, &["key", "k7f3a2b9"]).status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(!list.is_symlink() && !beside.is_symlink());
    if chown(&list, Some(1234), Some(1235)).is_err() {
        println!("the owner is not tried: only root gives files away");
        return;
    }
    assert_eq!(revoke(&list, &["key", "aaaa0000"]).status.code(), Some(0));
    let after = std::fs::metadata(&list).unwrap();
    assert_eq!((after.uid(), after.gid()), (1234, 1235));
    assert_eq!(read(&list).keys, ["k7f3a2b9", "aaaa0000"]);
}

#[test]
fn a_list_never_becomes_larger_than_anybody_reads() {
    let list = list("large");
    // the last of them has so many letters
    let compact = |many: usize, letters: usize, last: usize| {
        let mut principals: Vec<String> = (0..many).map(|number| format!("{number:0letters$}")).collect();
        principals.push("x".repeat(last));
        json!({ "version": 1, "principals": principals }).to_string()
    };
    // each on a line of its own takes five bytes more
    let many = compact(220_000, 70, 1);
    assert!(many.len() < MAX_BYTES && many.len() + 5 * 220_000 > MAX_BYTES);
    std::fs::write(&list, &many).unwrap();
    assert_eq!(revoke(&list, &["key", "k7f3a2b9"]).status.code(), Some(0));
    assert_eq!(read(&list).keys, ["k7f3a2b9"]);
    let left = MAX_BYTES - compact(4_191, 4_000, 0).len();
    let full = compact(4_191, 4_000, left - 10);
    std::fs::write(&list, &full).unwrap();
    let output = revoke(&list, &["key", "k7f3a2b9"]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(3) && said.contains("larger than"), "{said}");
    assert_eq!(std::fs::read_to_string(&list).unwrap(), full);
}
