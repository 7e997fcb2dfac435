//! `mlgate audit collect --serve-lists` over HTTP, as a gate asks it.

#![cfg(all(feature = "cli", unix))]
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(60);

/// A running collector; it ends with the test.
struct Collector {
    child: Child,
    address: String,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

// === impl Collector ===

impl Collector {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mlgate"))
            .args(["audit", "collect", "--listen", "127.0.0.1:0", "--log"])
            .arg(folder.with_extension("log"))
            .arg("--serve-lists")
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, address }
    }

    fn get(&self, path: &str, known: &str) -> Answer {
        self.ask("GET", path, known)
    }

    fn ask(&self, method: &str, path: &str, known: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let condition = if known.is_empty() { String::new() } else { format!("if-none-match: {known}\r\n") };
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: lists\r\n{condition}connection: close\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Answer ===

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A new folder with one list and, beside the folder, something that must not be served.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lists-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("inner.json")).unwrap();
    fs::write(folder.join("revoked.json"), "{\"version\":1}\n").unwrap();
    fs::write(folder.with_extension("json"), "outside").unwrap();
    folder
}

#[test]
fn a_list_has_a_tag_that_changes_with_it_and_is_not_sent_twice() {
    let folder = folder("tag");
    let collector = Collector::start(&folder);
    let first = collector.get("/lists/revoked.json", "");
    assert_eq!((first.status, first.body.as_str()), (200, "{\"version\":1}\n"));
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    assert_eq!(first.header("content-type"), Some("application/json"));
    let tag = first.header("etag").unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 32, "{tag}");
    for known in [tag.to_owned(), format!("\"other\", {tag}"), format!("W/{tag}"), String::from("*")] {
        let again = collector.get("/lists/revoked.json", &known);
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{known}");
        assert_eq!(again.header("etag"), Some(tag));
    }
    // of the same length and within the same second, by every way of changing a file
    fs::write(folder.join("revoked.json"), "{\"version\":2}\n").unwrap();
    let changed = collector.get("/lists/revoked.json", tag);
    assert_eq!((changed.status, changed.body.as_str()), (200, "{\"version\":2}\n"));
    assert_ne!(changed.header("etag"), Some(tag));
    fs::write(folder.join("new"), "{\"version\":3}\n").unwrap();
    fs::rename(folder.join("new"), folder.join("revoked.json")).unwrap();
    assert_eq!(collector.get("/lists/revoked.json", tag).body, "{\"version\":3}\n");
    let head = collector.ask("HEAD", "/lists/revoked.json", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn nothing_but_lists_of_the_folder_is_served() {
    let folder = folder("only");
    symlink(folder.with_extension("json"), folder.join("out.json")).unwrap();
    symlink("absent.json", folder.join("dangling.json")).unwrap();
    fs::write(folder.join(".hidden.json"), "hidden").unwrap();
    fs::write(folder.join("notes.txt"), "notes").unwrap();
    fs::write(folder.join("large.json"), vec![b' '; (16 << 20) + 1]).unwrap();
    let collector = Collector::start(&folder);
    for (path, status) in [
        ("/lists/", 404),
        ("/lists", 404),
        ("/lists/absent.json", 404),
        ("/lists/inner.json", 404),
        ("/lists/out.json", 404),
        ("/lists/dangling.json", 404),
        ("/lists/.hidden.json", 404),
        ("/lists/notes.txt", 404),
        ("/lists/%2e%2e%2flists-only.json", 404),
        ("/lists/..%2flists-only.json", 404),
        ("/lists/../lists-only.json", 404),
        ("/lists/inner.json/../revoked.json", 404),
        ("/lists/revoked.json%00", 404),
        ("/lists/large.json", 500),
        ("/lists/revoked.json", 200),
        ("/healthz", 200),
    ] {
        let answer = collector.get(path, "");
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(!answer.body.contains("outside") && !answer.body.contains("hidden"), "{path}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(collector.ask(method, "/lists/revoked.json", "").status, 405, "{method}");
    }
}

#[test]
fn a_link_within_the_folder_is_followed_as_a_mounted_map_needs_it() {
    let folder = folder("mounted");
    fs::create_dir(folder.join("..2026")).unwrap();
    fs::write(folder.join("..2026/keys.json"), "{}").unwrap();
    symlink("..2026", folder.join("..data")).unwrap();
    symlink("..data/keys.json", folder.join("keys.json")).unwrap();
    let collector = Collector::start(&folder);
    assert_eq!(collector.get("/lists/keys.json", "").status, 200);
}

#[test]
fn a_folder_that_cannot_be_served_is_said_before_anything_starts() {
    let folder = folder("absent");
    let output = Command::new(env!("CARGO_BIN_EXE_mlgate"))
        .args(["audit", "collect", "--listen", "127.0.0.1:0", "--log"])
        .arg(folder.with_extension("log"))
        .arg("--serve-lists")
        .arg(folder.join("no-such-folder"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!folder.with_extension("log").exists());
}
