//! A folder for one test's configuration and logs, and the processes that end with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{artifacts, background};

/// One test's folder under `build/stacks`. Cheap; make one per test.
#[derive(Debug)]
pub struct Stack {
    folder: PathBuf,
}

/// A child process whose output goes to a file; killed when dropped, and when this process ends in any way.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

// === impl Stack ===

impl Stack {
    /// Makes `build/stacks/<pid>-<n>-<name>` and prints its path, which the test harness shows when the test fails.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let stacks = artifacts::root().join("build/stacks");
        if number == 0 {
            prune(&stacks);
        }
        let folder = stacks.join(format!("{}-{number}-{name}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        say(&format!("stack `{name}`: logs in {}", folder.display()));
        Ok(Self { folder })
    }

    /// Where this stack's files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file into the stack's folder and gives its path. Written whole, then renamed, so that a watcher never
    /// reads half of it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        let draft = self.folder.join(format!(".{name}.draft"));
        fs::write(&draft, content).with_context(|| format!("cannot write {}", draft.display()))?;
        fs::rename(&draft, &path).with_context(|| format!("cannot rename to {}", path.display()))?;
        Ok(path)
    }

    /// Starts a process; its standard output and error go to `<name>.log` in the folder.
    pub fn run(&self, name: &str, command: &Command) -> anyhow::Result<Process> {
        let log = self.folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // Nothing of ours outlives the run, even one that is killed: the kernel sends the signal.
        let mut bound = Command::new("setpriv");
        bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => bound.env(key, value),
                None => bound.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            bound.current_dir(folder);
        }
        bound.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = background::start(bound)?;
        Ok(Process { child, name: name.to_owned(), log })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("logs kept in {}", self.folder.display()));
        }
    }
}

// === impl Process ===

impl Process {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that holds its output.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The memory that it holds, in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes.saturating_mul(1024))
    }

    /// Everything it has written so far.
    pub fn log(&self) -> anyhow::Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its end, if it has ended.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for a line that contains `text`, at most `bound`; gives that line.
    pub async fn wait_for_line(&mut self, text: &str, bound: Duration) -> anyhow::Result<String> {
        let start = Instant::now();
        loop {
            if let Some(line) = self.log()?.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = self.ended()? {
                bail!("{} ended with {status} before it wrote `{text}`\n{}", self.name, self.last_lines());
            }
            if start.elapsed() > bound {
                bail!("{} did not write `{text}` within {bound:?}\n{}", self.name, self.last_lines());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for its end, at most `bound`.
    pub async fn wait(&mut self, bound: Duration) -> anyhow::Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if start.elapsed() > bound {
                bail!("{} did not end within {bound:?}\n{}", self.name, self.last_lines());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to end (`SIGTERM`) and waits, at most `bound`; then it is killed.
    pub async fn stop(&mut self, bound: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(bound).await
    }

    /// Kills it at once (`SIGKILL`) and waits for the end.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// The end of its log with the log's path: what a failure shows.
    pub fn last_lines(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines.get(lines.len().saturating_sub(LINES_SHOWN)..).unwrap_or_default().join("\n");
        format!("{shown}\nwhole log: {}", self.log.display())
    }

    fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        // The child has not been waited for, so its id is still its own.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("not a process id")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("{}: log kept in {}", self.name, self.log.display()));
        }
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

const POLL: Duration = Duration::from_millis(10);
const LINES_SHOWN: usize = 25;
const STACKS_KEPT: usize = 300;

/// Removes the oldest folders, so that a machine that tests all day does not fill up.
fn prune(stacks: &Path) {
    let Ok(entries) = fs::read_dir(stacks) else { return };
    let mut folders: Vec<_> = entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .filter(|(_, path)| !is_running(path))
        .collect();
    folders.sort();
    let surplus = folders.len().saturating_sub(STACKS_KEPT);
    for (_, path) in folders.into_iter().take(surplus) {
        let _in_use = fs::remove_dir_all(path);
    }
}

fn is_running(folder: &Path) -> bool {
    let pid = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('-').next());
    pid.is_some_and(|pid| Path::new("/proc").join(pid).exists())
}

#[expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the test harness shows a failed test's output"
)]
fn say(line: &str) {
    // `println!` is captured per test and shown on failure; while panicking the capture may be gone.
    if std::thread::panicking() { eprintln!("{line}") } else { println!("{line}") }
}
