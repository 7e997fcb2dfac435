//! `make demo`: the story as one table, then what the command says of the audit log. `make run` (`--keep`): the same stack, left running.
//! `make scenarios` (`--scenarios`): three incidents without the gate and with it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that people watch")]
#![expect(clippy::disallowed_methods, reason = "the outside world: arguments and a clock")]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use mlgate_integration::artifacts::{self, shown};
use mlgate_integration::demo::evidence::{self, Finding};
use mlgate_integration::demo::story::{self, Expected, STOLEN, dollars};
use mlgate_integration::demo::{Demo, guide, play, table};
use mlgate_integration::scenarios;

/// What is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Keep,
    Scenarios,
    Story,
}

fn main() -> ExitCode {
    let mode = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => Mode::Story,
        [flag] if flag == "--keep" => Mode::Keep,
        [flag] if flag == "--scenarios" => Mode::Scenarios,
        _ => {
            eprintln!("usage: mlgate-demo [--keep | --scenarios]");
            return ExitCode::from(3);
        }
    };
    match run(mode) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mlgate-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was as expected.
fn run(mode: Mode) -> anyhow::Result<bool> {
    // Before anything listens for Ctrl-C, so that it ends these as it ends any build.
    step("the filter", artifacts::filter_wasm)?;
    step("the command", artifacts::command)?;
    step("Envoy", artifacts::envoy)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            result = async {
                match mode {
                    Mode::Keep => leave_running().await,
                    Mode::Scenarios => tell_scenarios().await,
                    Mode::Story => tell().await,
                }
            } => result,
            interrupt = tokio::signal::ctrl_c() => {
                interrupt?;
                println!("\nstopped");
                Ok(mode == Mode::Keep)
            }
        }
    })
}

/// Plays the story and looks at its log.
async fn tell() -> anyhow::Result<bool> {
    let start = Instant::now();
    let demo = Demo::start("demo").await?;
    println!("sending the calls of the story to Envoy on {} …", demo.envoy.address());
    let mut parts = story::parts(&demo.keys)?;
    if let Some(token) = &demo.token {
        parts.extend(story::in_containers(&demo.keys, token)?);
    }
    let sections = play::play(&demo, parts).await?;
    demo.envoy.check_unharmed().await?;
    println!("\n{}", table::render(&sections, is_coloured()));
    if let Expected::Burst { sent, served } = STOLEN {
        println!(
            "The stolen key, if a call costs {}: the thief spends {} in this hour instead of {}.",
            dollars(1),
            dollars(served),
            dollars(sent)
        );
    }
    if let Some(containers) = demo.site.containers() {
        println!("Counters in Redis: {}", containers.inside("redis", &["redis-cli", "dbsize"])?.trim());
    }
    let rows: Vec<_> = sections.iter().flat_map(|section| &section.rows).collect();
    let wrong = rows.iter().filter(|row| row.wrong.is_some()).count();
    let (collector, stack) = demo.stop().await?;
    let findings = evidence::findings(&collector, &stack)?;
    findings.iter().for_each(print_finding);
    let proven = findings.iter().all(|finding| finding.expected);
    println!(
        "\n{}: {} of {} rows, audit log {}; {} s; logs in {}",
        if wrong == 0 && proven { "as expected" } else { "NOT as expected" },
        rows.len().saturating_sub(wrong),
        rows.len(),
        if proven { "verified and analysed" } else { "NOT as it should be" },
        start.elapsed().as_secs(),
        shown(stack.folder())
    );
    Ok(wrong == 0 && proven)
}

/// Plays the incidents.
async fn tell_scenarios() -> anyhow::Result<bool> {
    let start = Instant::now();
    let fine = scenarios::play(|report| println!("\n{}", report.render(is_coloured()))).await?;
    let verdict = if fine { "as expected" } else { "NOT as expected" };
    println!(
        "{verdict}; {} s; logs in {}",
        start.elapsed().as_secs(),
        shown(&artifacts::root().join("build/stacks"))
    );
    Ok(fine)
}

fn print_finding(finding: &Finding) {
    let Finding { title, verdict, expected } = finding;
    println!("\n{title}:\n$ {}", verdict.command);
    for line in verdict.text.lines() {
        println!("  {line}");
    }
    let exit = verdict.exit.map_or_else(|| "by a signal".to_owned(), |code| code.to_string());
    println!("  exit {exit}{}", if *expected { "" } else { "  UNEXPECTED" });
}

/// Starts the stack, says what to type, and waits for Ctrl-C.
async fn leave_running() -> anyhow::Result<bool> {
    let demo = Demo::start("run").await?;
    println!("{}", guide::lines(&demo)?);
    std::future::pending::<()>().await;
    Ok(true)
}

fn step<T>(what: &str, make: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    println!("making {what} …");
    let made = make()?;
    let seconds = start.elapsed().as_secs();
    if seconds > 0 {
        println!("making {what} … {seconds} s");
    }
    Ok(made)
}

fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
