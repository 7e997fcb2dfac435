//! `mlgate audit serve` as a browser sees it: by hand over HTTP, and in a real headless Chromium where there is one.

#![cfg(all(feature = "cli", unix))]
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use history::{History, Incident};
use mlgate::audit::chain::{Chain, Signer};
use mlgate::audit::event::{AccessEvent, AuditEvent, OpenEvent, Status};
use mlgate::time::UnixTime;

#[path = "support/history.rs"]
pub mod history;

/// What a caller may call itself.
const EVIL: &str = "\"><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";

const NOW: &str = "2026-03-31T00:00:00Z";

/// How long an answer may take.
const BOUND: Duration = Duration::from_secs(60);

/// Between two looks at a page.
const LOOK: Duration = Duration::from_millis(100);

/// Looks at a page that is waited for.
const LOOKS: u32 = 600;

/// A running page; it ends with the test.
struct Page {
    child: Child,
    address: String,
}

// === impl Page ===

impl Page {
    fn of(logs: &[&Path], more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mlgate"))
            .args(["audit", "serve", "--now", NOW])
            .args(more)
            .args(logs)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("listening on http://").unwrap().trim_end_matches('/').to_owned();
        Self { child, address }
    }

    /// Head and body of the answer.
    fn ask(&self, method: &str, path: &str, host: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    }

    fn get(&self, path: &str) -> String {
        let (head, body) = self.ask("GET", path, &self.address);
        assert!(head.starts_with("http/1.1 200"), "{head}");
        body
    }

    /// The page as soon as it is as wanted.
    fn when(&self, is_it: impl Fn(&str) -> bool) -> String {
        let page = (0..LOOKS).find_map(|_| {
            std::thread::sleep(LOOK);
            Some(self.get("/")).filter(|page| is_it(page))
        });
        page.unwrap()
    }

    /// The page once the chains have been checked.
    fn checked(&self) -> String {
        self.when(|page| !page.contains("Being checked"))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // most likely it still runs
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder that is empty when the test begins.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{name}"));
    // most likely it is not there
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A log of what can go wrong with few requests, written by the generator.
fn story(folder: &Path) -> PathBuf {
    let until = UnixTime::parse(NOW).unwrap();
    let few = [Incident::AddressProbing, Incident::Probing, Incident::QuietInsider, Incident::Reconnaissance];
    let history = History { days: 7, ..History::with(until, &few) };
    let path = folder.join("story.log");
    history.write(&mut fs::File::create(&path).map(std::io::BufWriter::new).unwrap()).unwrap();
    path
}

/// A log of somebody who writes markup wherever a caller can write.
fn evil(folder: &Path) -> PathBuf {
    let mut chain = Chain::new("gate", [1; 16]);
    let timestamp = UnixTime::parse("2026-03-30T12:00:00Z").unwrap();
    let access = AccessEvent {
        timestamp,
        principal: Some(EVIL.to_owned()),
        model_id: Some(EVIL.to_owned()),
        source: Some(EVIL.to_owned()),
        status: Status::Denied,
        reason: Some("no_match"),
        ..AccessEvent::default()
    };
    let mut log = Vec::new();
    let mut seal = |event: AuditEvent| {
        chain.seal(&event.draft("gate"), &Signer::Unkeyed, &mut log);
        log.push(b'\n');
    };
    seal(AuditEvent::Open(OpenEvent { timestamp, ..OpenEvent::default() }));
    (0..40).for_each(|_| seal(AuditEvent::Access(Box::new(access.clone()))));
    let path = folder.join("evil<b>.log");
    fs::write(&path, log).unwrap();
    path
}

/// What a headless Chromium makes of a page; nothing where there is none, and the reason is said.
#[expect(clippy::print_stdout, reason = "whoever runs the tests should know")]
fn chromium(folder: &Path, arguments: &[&str]) -> Option<(String, String)> {
    let found =
        ["/usr/bin/chromium", "/usr/bin/chromium-browser"].into_iter().find(|path| Path::new(path).exists());
    let Some(browser) = found else {
        println!("skipped: no chromium (integration/install-chromium.sh installs it where it may)");
        return None;
    };
    let profile = folder.join("profile");
    let output = Command::new("timeout")
        .args(["120", browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--disable-background-networking", "--disable-component-update", "--no-first-run"])
        // whatever the page wants from elsewhere is not there
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .args(["--enable-logging=stderr", "--virtual-time-budget=2000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .env("HOME", folder)
        .output()
        .unwrap();
    let [out, log] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{log}");
    Some((out, log))
}

#[test]
fn the_page_is_for_this_machine_alone() {
    let folder = folder("local");
    let page = Page::of(&[&evil(&folder)], &[]);
    let port = page.address.rsplit_once(':').unwrap().1;
    for (host, status) in [
        (page.address.clone(), "200"),
        (format!("localhost:{port}"), "200"),
        (format!("evil.example:{port}"), "421"),
        (String::from("127.0.0.1"), "421"),
    ] {
        let (head, _) = page.ask("GET", "/", &host);
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{host}: {head}");
    }
    assert!(page.ask("POST", "/", &page.address).0.starts_with("http/1.1 405"));
    assert!(page.ask("GET", "/etc/passwd", &page.address).0.starts_with("http/1.1 404"));
    assert!(
        page.ask("GET", &format!("/?model={}", "x".repeat(3000)), &page.address)
            .0
            .starts_with("http/1.1 414")
    );
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let output = Command::new(env!("CARGO_BIN_EXE_mlgate"))
            .args(["audit", "serve", "--listen", listen, "Cargo.toml"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{listen}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("this machine alone"), "{listen}");
    }
}

#[test]
fn every_answer_forbids_scripts_and_frames() {
    let folder = folder("policy");
    let page = Page::of(&[&evil(&folder)], &[]);
    for path in ["/", "/style.css", "/nowhere"] {
        let (head, _) = page.ask("GET", path, &page.address);
        for header in [
            "content-security-policy: default-src 'none'; style-src 'self'; form-action 'self'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(head.contains(header), "{path}: {header}\n{head}");
        }
    }
}

#[test]
fn the_page_says_what_the_commands_say() {
    let folder = folder("story");
    let log = story(&folder);
    let page = Page::of(&[&log], &[]);
    let text = page.checked();
    for part in [
        "<b>✓ intact</b>",
        "HIGH_REQUEST_VOLUME</span> <a href=\"/?since=24h&amp;principal=user%5F4\">user_4</a>",
        "400 of them in the hour from 2026-03-30T20:00:00.000Z",
        "MULTI_MODEL_ACCESS",
        "from `198.51.100.7`",
        "<th scope=\"row\"><code>no_match</code></th>",
        "keys: [&quot;gen00004&quot;]",
    ] {
        assert!(text.contains(part), "{part}");
    }
    let one = page.get("/?since=7d&principal=user_3");
    assert!(one.contains("user_3 · ") && !one.contains("user_4 · "));
    // an event is taken out while the page runs
    let lines = fs::read_to_string(&log).unwrap();
    let cut: Vec<&str> = lines.lines().enumerate().filter(|(n, _)| *n != 500).map(|(_, line)| line).collect();
    fs::write(&log, cut.join("\n")).unwrap();
    page.when(|page| page.contains("<b>✗ tampered</b>"));
}

#[test]
fn markup_in_a_log_stays_text_in_a_browser() {
    let folder = folder("evil");
    let page = Page::of(&[&evil(&folder)], &[]);
    let url = format!("http://{}/?since=all", page.address);
    let Some((dom, log)) = chromium(&folder, &["--dump-dom", &url]) else { return };
    assert!(dom.contains("<title>mlgate audit</title>"), "a script ran");
    assert!(dom.contains("&lt;script&gt;") && dom.contains("HIGH_ERROR_RATE"), "{dom}");
    for forbidden in ["<script", "<img", "style=", "href=\"http"] {
        assert!(!dom.contains(forbidden), "{forbidden}");
    }
    assert!(!log.contains("Content Security Policy"), "the page itself breaks its policy: {log}");
}

#[test]
fn a_browser_draws_the_page_light_and_dark() {
    let folder = folder("browser");
    let page = Page::of(&[&story(&folder)], &[]);
    page.checked();
    let url = format!("http://{}/", page.address);
    let Some((dom, _)) = chromium(&folder, &["--dump-dom", &url]) else { return };
    for (part, at_least) in [("<svg", 3), ("<rect", 100), ("<table", 4), ("<article", 4), ("role=\"img\"", 2)]
    {
        assert!(dom.matches(part).count() >= at_least, "{part}: {}", dom.matches(part).count());
    }
    let shot = |name: &str, scheme: &str| {
        let file = folder.join(name);
        let screenshot = format!("--screenshot={}", file.display());
        chromium(&folder, &["--window-size=1200,3400", scheme, &screenshot, &url]).unwrap();
        println!("{}", file.display());
        fs::read(file).unwrap()
    };
    let light = shot("light.png", "--blink-settings=preferredColorScheme=1");
    let dark = shot("dark.png", "--blink-settings=preferredColorScheme=0");
    assert!(light.len() > 100_000 && dark.len() > 100_000, "{} and {} bytes", light.len(), dark.len());
    assert_ne!(light, dark);
}
