//! `mlgate audit collect` and `mlgate audit verify` as their users see them.

#![cfg(all(feature = "cli", unix))]
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use mlgate::audit::canonical::Tree;
use mlgate::audit::chain::{Chain, MacKey, Signer};
use mlgate::audit::event::{AccessEvent, AuditEvent, GapEvent, GapReason, OpenEvent};
use mlgate::time::UnixTime;

const SECRET: &str = "the key of the chain";

/// A folder that is empty when the test begins.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // most likely it is not there
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn mlgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mlgate"));
    command.arg("audit").args(arguments).env("CHAIN_KEY", SECRET);
    command
}

fn signer() -> Signer {
    Signer::Keyed(MacKey::chain("c1", SECRET.as_bytes()).unwrap())
}

/// A chain of `open`, `count` decisions and `close`, as lines.
fn lines_of(nonce: u8, signer: &Signer, count: u64) -> Vec<String> {
    let mut chain = Chain::new("gate", [nonce; 16]);
    let mut seal = |event: &AuditEvent| {
        let mut line = Vec::new();
        chain.seal(&event.draft("gate"), signer, &mut line);
        line.push(b'\n');
        String::from_utf8(line).unwrap()
    };
    let mut lines = vec![seal(&AuditEvent::Open(OpenEvent::default()))];
    for id in 1..=count {
        let event = AccessEvent { decision_id: format!("{id:032x}"), ..AccessEvent::default() };
        lines.push(seal(&AuditEvent::Access(Box::new(event))));
    }
    lines.push(seal(&AuditEvent::Close(UnixTime::from_millis(0))));
    lines
}

fn verify(log: &Path, more: &[&str]) -> (i32, String) {
    let output = mlgate(&["verify", log.to_str().unwrap()]).args(more).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// A collector on a free port; it ends with the test.
struct Collector {
    child: Child,
    address: String,
}

impl Collector {
    fn start(log: &Path, more: &[&str]) -> Self {
        Self::of(Self::spawn(log, more))
    }

    /// Waits for its address.
    fn of(mut child: Child) -> Self {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        assert!(!address.is_empty(), "{line:?} {:?}", child.wait_with_output());
        Self { child, address }
    }

    fn spawn(log: &Path, more: &[&str]) -> Child {
        mlgate(&["collect", "--listen", "127.0.0.1:0", "--log", log.to_str().unwrap()])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn request(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: audit\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // a body that is too large is answered before it is read
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn post(&self, lines: &[String]) -> (u16, String) {
        self.request("POST", "/v1/audit", lines.concat().as_bytes())
    }

    /// Ends it in the orderly way and gives what it said.
    fn stop(mut self) -> Output {
        self.signal("TERM");
        let mut stderr = Vec::new();
        self.child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        Output { status, stdout: Vec::new(), stderr }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // it may have ended
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn beside(log: &Path, what: &str) -> PathBuf {
    PathBuf::from(format!("{}.{what}", log.display()))
}

#[test]
fn what_is_acknowledged_is_in_the_log_once_and_verifies() {
    let log = folder("kept").join("audit.log");
    let collector = Collector::start(&log, &["--chain-key", "c1=CHAIN_KEY"]);
    let lines = lines_of(1, &signer(), 10);
    let chain = "gate/01010101010101010101010101010101";
    assert_eq!(collector.post(&lines[..8]), (200, format!("{{\"acked\":{{\"{chain}\":7}}}}\n")));
    assert_eq!(read(&log).lines().count(), 8);
    assert_eq!(collector.post(&lines), (200, format!("{{\"acked\":{{\"{chain}\":11}}}}\n")));
    assert_eq!(read(&log).lines().count(), 12);
    for line in read(&log).lines() {
        let mut tree = Tree::parse(line.as_bytes()).unwrap();
        assert_eq!(tree.canonical(), line.as_bytes());
        assert!(matches!(tree.remove("received_at"), Some(Tree::Text(_))));
        assert!(lines.contains(&(String::from_utf8(tree.canonical()).unwrap() + "\n")));
    }
    assert_eq!(collector.request("GET", "/healthz", b"").0, 200);
    assert!(collector.stop().status.success());
    let (exit, text) = verify(&log, &["--chain-key", "c1=CHAIN_KEY"]);
    assert_eq!(exit, 0, "{text}");
    assert!(text.contains("intact: 12 events in 1 chains") && text.contains("MACs right, closed"), "{text}");
}

#[test]
fn after_a_crash_the_log_is_repaired_and_events_are_known_again() {
    let log = folder("crash").join("audit.log");
    let lines = lines_of(1, &signer(), 4);
    let collector = Collector::start(&log, &[]);
    collector.post(&lines[..3]);
    drop(collector); // SIGKILL
    let torn = lines[3].get(..40).unwrap();
    fs::OpenOptions::new().append(true).open(&log).unwrap().write_all(torn.as_bytes()).unwrap();
    assert_eq!(verify(&log, &[]).0, 2, "a torn line is unreadable");
    let collector = Collector::start(&log, &[]);
    assert_eq!(read(&beside(&log, "torn")), format!("{torn}\n"));
    assert_eq!(collector.post(&lines).0, 200);
    let output = collector.stop();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not written to its end") && said.contains("audit.log.torn"), "{said}");
    assert_eq!(read(&log).lines().count(), 6);
    assert_eq!(verify(&log, &[]).0, 0);
}

#[test]
fn a_fork_is_kept_and_said_aloud() {
    let log = folder("fork").join("audit.log");
    let collector = Collector::start(&log, &[]);
    let mut lines = lines_of(1, &Signer::Unkeyed, 3);
    collector.post(&lines);
    lines[2] = lines[2].replace("\"status\":\"denied\"", "\"status\":\"success\"");
    assert_eq!(collector.post(&lines).0, 200);
    assert_eq!(collector.post(&lines).0, 200);
    assert_eq!(read(&log).lines().count(), 6, "both are kept, each once");
    let said = String::from_utf8(collector.stop().stderr).unwrap();
    assert_eq!(
        said.matches("FORK: gate/01010101010101010101010101010101 has two events of seq 2").count(),
        1,
        "{said}"
    );
    let (exit, text) = verify(&log, &[]);
    assert_eq!(exit, 1);
    assert!(text.contains("seq 2: another event has the same number"), "{text}");
}

#[test]
fn what_the_keys_do_not_prove_is_set_apart_and_never_lost() {
    let log = folder("apart").join("audit.log");
    let collector = Collector::start(&log, &["--chain-key", "c1=CHAIN_KEY"]);
    let forged = Signer::Keyed(MacKey::chain("c1", b"another").unwrap());
    let (good, bad) = (lines_of(1, &signer(), 1), lines_of(2, &forged, 1));
    let mixed = [good, bad, lines_of(3, &Signer::Unkeyed, 1), vec![String::from("not json\n")]].concat();
    let (status, body) = collector.post(&mixed);
    assert_eq!(status, 200);
    assert!(body.ends_with(",\"rejected\":7}\n"), "{body}");
    assert_eq!(read(&log).lines().count(), 3);
    let apart = read(&beside(&log, "rejected"));
    assert_eq!(apart.lines().count(), 7);
    for what in ["the MAC is wrong: gate/0202", "unkeyed, and keys are asked for: gate/0303", "not json"] {
        assert!(apart.contains(what), "{apart}");
    }
    let unknown = Signer::Keyed(MacKey::chain("c2", b"new").unwrap());
    let (status, body) = collector.post(&lines_of(4, &unknown, 1));
    assert_eq!((status, body.as_str()), (503, "the chain key `c2` is unknown: add --chain-key c2=ENV\n"));
    let (status, body) = collector.request("POST", "/v1/audit", b"hello\n");
    assert_eq!(status, 422);
    assert!(body.starts_with("line 1 is no event: "), "{body}");
    assert_eq!(read(&log).lines().count(), 3);
}

#[test]
fn bad_requests_are_refused_and_the_next_one_is_taken() {
    let log = folder("requests").join("audit.log");
    let collector = Collector::start(&log, &[]);
    assert_eq!(collector.request("POST", "/v1/audit", &vec![b'\n'; 9 << 20]).0, 413);
    assert_eq!(collector.request("POST", "/v1/audit", &vec![b'x'; 1 << 20]).0, 413);
    assert_eq!(collector.request("POST", "/v1/audit", &b"x\n".repeat(40_000)).0, 413);
    assert_eq!(collector.request("GET", "/v1/audit", b"").0, 405);
    assert_eq!(collector.request("GET", "/", b"").0, 404);
    assert_eq!(collector.request("POST", "/v1/audit", b"").1, "{\"acked\":{}}\n");
    assert_eq!(collector.post(&lines_of(1, &signer(), 1)).0, 200);
    // a gate's last batch fits
    assert_eq!(collector.post(&lines_of(2, &signer(), 19_998)).0, 200);
    assert_eq!(read(&log).lines().count(), 3 + 20_000);
}

#[test]
fn many_at_once_share_the_wait_for_the_disk() {
    let log = folder("many").join("audit.log");
    let collector = Collector::start(&log, &[]);
    std::thread::scope(|scope| {
        for nonce in 0..16 {
            let collector = &collector;
            scope.spawn(move || {
                for batch in lines_of(nonce, &signer(), 98).chunks(10) {
                    assert_eq!(collector.post(batch).0, 200);
                }
            });
        }
    });
    assert!(collector.stop().status.success());
    let (exit, text) = verify(&log, &["--chain-key", "c1=CHAIN_KEY"]);
    assert_eq!(exit, 0, "{text}");
    assert!(text.contains("1600 events in 16 chains"), "{text}");
}

#[test]
fn a_last_batch_whose_sender_is_gone_is_kept() {
    let log = folder("last-batch").join("audit.log");
    let collector = Collector::start(&log, &[]);
    for nonce in 0..20 {
        let body = lines_of(nonce, &signer(), 1).concat();
        let head =
            format!("POST /v1/audit HTTP/1.1\r\nhost: audit\r\ncontent-length: {}\r\n\r\n", body.len());
        // as a proxy that exits: data and end arrive together, and nobody waits for the answer
        let mut stream = TcpStream::connect(&collector.address).unwrap();
        stream.write_all([head, body].concat().as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    assert!(collector.stop().status.success());
    assert_eq!(read(&log).lines().count(), 60);
}

#[test]
fn a_file_that_is_no_log_or_has_a_writer_is_left_alone() {
    let folder = folder("foreign");
    let foreign = folder.join("notes.txt");
    fs::write(&foreign, "my notes\nand more").unwrap();
    let output = Collector::spawn(&foreign, &[]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("notes.txt: not an audit log: "));
    assert_eq!(read(&foreign), "my notes\nand more");

    let log = folder.join("audit.log");
    let _first = Collector::start(&log, &[]);
    let output = Collector::spawn(&log, &[]).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("another collector writes it"));
}

#[test]
fn what_does_not_fit_on_the_disk_is_never_acknowledged_and_leaves_no_trace() {
    let log = folder("full").join("audit.log");
    // a file may grow to 8 or 16 KiB, as the shell counts
    let limited = "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args([
        "-c",
        limited,
        env!("CARGO_BIN_EXE_mlgate"),
        "audit",
        "collect",
        "--listen",
        "127.0.0.1:0",
    ]);
    let child = command.arg("--log").arg(&log).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let collector = Collector::of(child);
    let lines = lines_of(1, &signer(), 100);
    assert_eq!(collector.post(&lines[..3]).0, 200);
    let before = read(&log);
    assert_eq!(collector.post(&lines), (503, String::from("the log cannot be written\n")));
    assert_eq!(collector.request("GET", "/healthz", b"").0, 503);
    assert_eq!(read(&log), before);
    assert_eq!(collector.post(&lines[..5]).0, 200);
    assert_eq!(read(&log).lines().count(), 5, "what was not kept is not taken for known");
    assert_eq!(collector.request("GET", "/healthz", b"").0, 200);
}

#[test]
fn the_exit_code_is_the_verdict() {
    let folder = folder("verdicts");
    let log = folder.join("audit.log");
    let keyed = ["--chain-key", "c1=CHAIN_KEY"];
    let write = |lines: &[String]| fs::write(&log, lines.concat()).unwrap();

    let mut lines = lines_of(1, &signer(), 5);
    write(&lines);
    assert_eq!(verify(&log, &keyed).0, 0);
    write(&lines[..3]);
    let (exit, text) = verify(&log, &keyed);
    assert_eq!(exit, 0);
    assert!(text.contains("not closed"), "{text}");

    lines[2] = lines[2].replace("denied", "aborted");
    write(&lines);
    let (exit, text) = verify(&log, &keyed);
    assert_eq!(exit, 1);
    assert!(
        text.contains("first bad seq 2") && text.contains("audit.log:3: seq 2: the MAC is wrong"),
        "{text}"
    );

    let mut chain = Chain::new("gate", [9; 16]);
    let gap =
        GapEvent { timestamp: UnixTime::from_millis(0), count: 7, reason: GapReason::Overflow, range: None };
    let mut gapped = Vec::new();
    for event in [AuditEvent::Open(OpenEvent::default()), AuditEvent::Gap(gap)] {
        chain.seal(&event.draft("gate"), &signer(), &mut gapped);
        gapped.push(b'\n');
    }
    fs::write(&log, gapped).unwrap();
    let (exit, text) = verify(&log, &keyed);
    assert_eq!(exit, 3);
    assert!(text.contains("gap at seq 1: 7 events lost: overflow"), "{text}");

    for arguments in [
        ["verify", "no/such/file", "--format", "human"],
        ["verify", "audit.log", "--chain-key", "c1=NOT_SET"],
        ["verify", "audit.log", "--chain-key", "c1"],
        ["verify", "audit.log", "--no-such-option", "1"],
    ] {
        let output = mlgate(&arguments).current_dir(&folder).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
    assert_eq!(mlgate(&["verify", "--help"]).output().unwrap().status.code(), Some(0));
}

#[test]
fn a_report_for_programs_names_file_line_chain_and_number() {
    let log = folder("report").join("audit.log");
    let mut lines = lines_of(1, &Signer::Unkeyed, 5);
    lines.remove(2);
    lines.push(String::from("{}\n"));
    fs::write(&log, lines.concat()).unwrap();
    let output = mlgate(&["verify", log.to_str().unwrap(), "--format", "json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"], "tampered");
    let chain = &report["chains"][0];
    assert_eq!(chain["chain"], "gate/01010101010101010101010101010101");
    assert_eq!(
        (&chain["first_bad_seq"], &chain["closed"], &chain["keyed"]),
        (&2.into(), &true.into(), &false.into())
    );
    assert_eq!(chain["faults"]["first"][0]["kind"], "missing");
    assert_eq!(report["unreadable"]["first"][0]["line"], 7);
    assert_eq!(output.status.code(), Some(1));
}
