//! One request: holds what its plan says to hold, then decides or waits for the tick.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::errands::{self, Outcome};
use crate::host;
use crate::plan::{Act, Plan, When};
use crate::waiters::{self, State, Waiter};

pub struct Stream {
    id: u32,
    root: u32,
    plan: Option<Plan>,
    state: Rc<Cell<State>>,
}

/// Carries out a plan in the context that is in effect and tells the statuses. `wake`: the stream is paused.
pub fn act(plan: &Plan, state: &Cell<State>, wake: bool) -> String {
    let mut statuses = String::new();
    if plan.act == Act::Deny {
        state.set(State::Answered);
        let reply = host::reply(403, &[("x-denied", &plan.id)], &format!("denied {}", plan.id), 7);
        return format!("reply={reply}");
    }
    if plan.act == Act::Edit {
        let add = host::add_header("x-edited", &plan.id);
        let replace = host::replace_header("x-replaced", "new");
        let remove = host::remove_header("x-removed");
        let path = host::replace_header(":path", "/edited");
        statuses = format!("add={add} replace={replace} remove={remove} path={path} ");
    }
    state.set(State::Forwarded);
    if wake {
        statuses += &format!("resume={}", host::resume_request());
    }
    statuses
}

impl Stream {
    pub fn new(id: u32, root: u32) -> Self {
        Self { id, root, plan: None, state: Rc::new(Cell::new(State::Deciding)) }
    }

    /// One more part of the request is there; `end`: it was the last.
    fn proceed(&mut self, part: &str, end: bool) -> Action {
        let Some(plan) = &self.plan else { return Action::Continue };
        let before = self.state.get();
        let action = match before {
            State::Forwarded => Action::Continue,
            State::Answered | State::Waiting => Action::Pause,
            State::Deciding if end || plan.when == When::Headers => self.decide(plan),
            State::Deciding if plan.when == When::Stream && part.starts_with("headers") => Action::Continue,
            State::Deciding => Action::Pause,
        };
        self.trace(&format!(
            "{part} end={end} before={before:?} after={:?} action={action:?}",
            self.state.get()
        ));
        action
    }

    fn decide(&self, plan: &Plan) -> Action {
        if plan.wait.is_some() {
            self.state.set(State::Waiting);
            self.enter_table(plan);
            return Action::Pause;
        }
        if let Act::Errand(errand) = &plan.act {
            match errands::run(errand, self.id, self.root) {
                Outcome::Calling(_) => self.state.set(State::Waiting),
                Outcome::Report(report) => {
                    self.state.set(State::Answered);
                    host::reply(200, &[], &report, -1);
                }
            }
            return Action::Pause;
        }
        let statuses = act(plan, &self.state, false);
        self.trace(&format!("decided {statuses}"));
        if self.state.get() == State::Forwarded { Action::Continue } else { Action::Pause }
    }

    fn enter_table(&self, plan: &Plan) {
        let state = Rc::clone(&self.state);
        waiters::insert(
            self.id,
            Waiter { root: self.root, plan: plan.clone(), since: Instant::now(), state },
        );
    }

    fn trace(&self, line: &str) {
        if let Some(plan) = self.plan.as_ref().filter(|plan| plan.trace) {
            host::log(&format!("trace {} {line}", plan.id));
        }
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, _body: usize, _trailers: usize) {
        let (_, status) = host::header(host::CALL_HEADERS, ":status");
        let report = format!("callback=stream status={}", String::from_utf8_lossy(&status));
        self.trace(&format!("callback token={token} {report}"));
        self.state.set(State::Answered);
        host::reply(200, &[], &report, -1);
    }

    fn on_done(&mut self) -> bool {
        self.trace("on_done");
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, end: bool) -> Action {
        let (status, text) = host::header(host::REQUEST_HEADERS, "x-plan");
        if status == host::OK {
            let (_, id) = host::header(host::REQUEST_HEADERS, "x-id");
            let (text, id) = (String::from_utf8_lossy(&text), String::from_utf8_lossy(&id).into_owned());
            self.plan = Some(Plan::parse(&text, id));
        }
        self.proceed("headers", end)
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        self.proceed(&format!("body size={size}"), end)
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        // The body that was held until here can still be read.
        let (status, body) = host::body(host::REQUEST_BODY, usize::MAX);
        self.proceed(&format!("trailers body_status={status} body_size={}", body.len()), true)
    }

    fn on_http_response_headers(&mut self, _count: usize, end: bool) -> Action {
        self.trace(&format!("response_headers end={end}"));
        Action::Continue
    }

    fn on_log(&mut self) {
        let (header, _) = host::header(host::REQUEST_HEADERS, "x-id");
        let (code, _) = host::property(&["response", "code"]);
        self.trace(&format!("on_log header={header} code={code}"));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.trace("drop");
        if !waiters::settings().forget && waiters::remove(self.id).is_some() {
            host::add(waiters::settings().left, 1);
        }
    }
}
