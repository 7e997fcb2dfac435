//! The root: its tick decides for waiting streams through `proxy_set_effective_context`.

use proxy_wasm::traits::{Context, RootContext};
use proxy_wasm::types::ContextType;

use crate::errands::{self, Outcome};
use crate::host::{self, OK};
use crate::plan::{Act, word};
use crate::stream;
use crate::waiters::{self, State, Waiter};

pub struct Root {
    id: u32,
    on_done: Option<String>,
}

impl Root {
    pub fn new(id: u32) -> Self {
        Self { id, on_done: None }
    }

    fn decide(&self, context: u32, waiter: &Waiter) {
        // An errand that calls out does so as the root, before any stream is in effect.
        if let Act::Errand(errand) = &waiter.plan.act {
            match errands::run(errand, context, self.id) {
                Outcome::Calling(token) => {
                    waiters::called(token, context);
                    // Back on the table, so that its end takes it off: nobody decides it but the callback.
                    let mut waiter = waiter.clone();
                    waiter.plan.wait = None;
                    waiters::insert(context, waiter);
                }
                Outcome::Report(report) => {
                    if errand.starts_with("trap") {
                        return; // has answered, or left the stream waiting for another tick
                    }
                    answer(context, self.id, &report);
                }
            }
            return;
        }
        let effective = host::set_effective_context(context);
        if effective == OK {
            let statuses = stream::act(&waiter.plan, &waiter.state, true);
            if waiter.plan.trace {
                host::log(&format!("trace {} tick effective={effective} {statuses}", waiter.plan.id));
            }
            host::add(waiters::settings().decided, 1);
        } else {
            // The previous context is still in effect: whatever we did now would hit another stream.
            host::add(waiters::settings().dead, 1);
        }
        host::set_effective_context(self.id);
    }
}

/// Answers a waiting stream from the root with a report.
fn answer(context: u32, root: u32, report: &str) {
    if host::set_effective_context(context) == OK {
        host::reply(200, &[("x-answered-by", "root")], report, -1);
    }
    host::set_effective_context(root);
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, body: usize, _trailers: usize) {
        let (_, status) = host::header(host::CALL_HEADERS, ":status");
        let status = String::from_utf8_lossy(&status).into_owned();
        let known = waiters::answered(token);
        host::log(&format!(
            "root callback token={token} status={status} body={body} waiter={}",
            known.is_some()
        ));
        if let Some(context) = known
            && let Some(waiter) = waiters::remove(context)
        {
            waiter.state.set(State::Answered);
            answer(context, self.id, &format!("callback=root status={status}"));
        }
    }

    fn on_done(&mut self) -> bool {
        if let Some(cluster) = &self.on_done {
            let result = errands::sdk_call(cluster, "/on_done");
            host::log(&format!("root {} on_done dispatched={result:?}", self.id));
        }
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        let configuration = String::from_utf8_lossy(&configuration).into_owned();
        waiters::configure(word(&configuration, "forget").is_some());
        self.on_done = word(&configuration, "on_done").map(str::to_owned);
        let tick = word(&configuration, "tick").and_then(|ms| ms.parse().ok()).unwrap_or(10);
        host::set_tick_period(tick) == OK
    }

    fn on_tick(&mut self) {
        for (context, waiter) in waiters::due(self.id) {
            self.decide(context, &waiter);
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
