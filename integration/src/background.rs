//! What outlives a single test: one runtime for servers (so that several tests can share a stack) and one thread
//! that starts processes; and the loop that every server has.

use std::future::Future;
use std::io;
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

/// Runs a server's task on the runtime that lives as long as the process.
pub(crate) fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("servers")
            .enable_all()
            .build()
            .ok()
    });
    match runtime {
        Some(runtime) => runtime.spawn(task),
        // No threads left: run on the caller's runtime, which is worse only when stacks are shared between tests.
        None => tokio::spawn(task),
    }
}

/// Accepts until it is aborted; every connection ends with it.
pub(crate) async fn accept<F>(listener: TcpListener, mut serve: impl FnMut(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else { continue };
        let _slower = stream.set_nodelay(true);
        connections.spawn(serve(stream));
    }
}

type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts `command` from a thread that never ends, since a parent-death signal follows the parent *thread*: tests
/// are threads, and a stack that several tests share must not die with the first.
pub(crate) fn start(command: Command) -> anyhow::Result<Child> {
    static STARTER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                // The caller waits for exactly this answer; if it is gone, so is its wish.
                let _gone = answer.send(command.spawn());
            }
        });
        jobs
    });
    let program = command.get_program().to_string_lossy().into_owned();
    let (answer, started) = mpsc::channel();
    starter.send((command, answer)).ok().context("the thread that starts processes is gone")?;
    started.recv()?.with_context(|| format!("cannot start `{program}`"))
}
