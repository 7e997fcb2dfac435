//! `mlgate explain`: one request goes through the filter's own transaction; beside it, what each stage saw.

use std::cell::RefCell;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;
use mlgate::audit::export::Trail;
use mlgate::cases::lists::serve_empty;
use mlgate::config::document::Document;
use mlgate::config::faults::Faults;
use mlgate::config::{self, Config, Format as Form};
use mlgate::credentials::AUTHORIZATION;
use mlgate::filter::refusal::Reason;
use mlgate::filter::step::{LocalReply, Step};
use mlgate::filter::transaction::Transaction;
use mlgate::filter::worker::Worker;
use mlgate::host::fake::FakeHost;
use mlgate::host::{CalloutId, Host as _};
use mlgate::http::pairs::Pairs;
use mlgate::limits::remote::fake::FakeService;
use mlgate::policy::ROLE_PREFIX;
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::environment::{Environment, now};
use crate::{Exit, Format, Stop, format_of, key, print, print_json, read_file};

mod decision;
mod flip;
mod request;
mod stages;

use decision::Recorded;
use request::Request;
use stages::Stages;

/// Explain what the gate does with a request, stage by stage and clause by clause
///
/// The request is a YAML or JSON file with `method` and `path`, and any of `host`, `headers`, `source` (the caller's
/// address), `route` (`<virtual host>/<route name>`), `profile` (named by the route), `body` (a text, or what becomes
/// JSON), `at` (a timestamp), `certificate` (valid, with `uri_san`, `dns_san`, `subject`), and `key` (the caller's API key) or `principal` (a consumer's name, for whom a key
/// without limits is assumed). Limits count from zero. Roles that the caller does not have are shown in JSON only.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ExplainCommand {
    /// YAML, or JSON where the name ends in `.json`
    config: PathBuf,
    /// The request; `-` is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "decision", conflicts_with = "decision")]
    request: Option<PathBuf>,
    /// Instead: the id of a recorded decision, as its caller was told it
    #[arg(long, value_name = "ID", requires = "log")]
    decision: Option<String>,
    /// Logs in which the decision is; `-` is standard input
    #[arg(long, value_name = "FILE", requires = "decision")]
    log: Vec<PathBuf>,
    /// Take environment variables from a file of lines `NAME=value` instead of the command's own
    #[arg(long, value_name = "FILE")]
    env: Option<PathBuf>,
}

const HELP: &str = help!(
    "  echo '{ method: POST, path: /predict, principal: user_1 }' |
    mlgate explain envoy/config/quickstart.yaml --request -
  echo '{ method: POST, path: /v1/chat/completions, principal: user_2, body: { model: chat-small } }' |
    mlgate explain envoy/config/quickstart.yaml --request - --format json
  mlgate explain gate.yaml --decision 8f14e45fceea167a5a36dedd4bea2543 --log audit.log"
);

/// What `explain` prints.
#[derive(Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<Recorded>,
    #[serde(flatten)]
    stages: Stages,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// What the caller reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
}

/// What the caller reads.
#[derive(Serialize)]
struct Answer {
    status: u16,
    reason: &'static str,
}

/// Explains.
pub(crate) fn run(command: &ExplainCommand, format: Format) -> Result<Exit, Stop> {
    let environment = Environment::open(command.env.as_deref())?;
    let Some(path) = &command.request else {
        return decision::run(command, &environment, format);
    };
    let bytes = read_file(&command.config)?;
    let mut request = Request::open(path)?;
    let config = load(command, path, &bytes, &environment, &mut request)?;
    let host = FakeHost::at(request.at.unwrap_or_else(now));
    let pairs: Vec<(&str, &str)> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let block = Pairs::write(&pairs);
    let stages = Stages::of(&request, &block, &config, &host);
    let reply = transact(&request, &block, config, &host);
    let report = Report {
        recorded: None,
        stages,
        decision: if reply.is_none() { "allowed" } else { "denied" },
        reason: reply.as_ref().map(|reply| reply.details),
        answer: reply.as_ref().map(|reply| Answer { status: reply.status, reason: public(reply.details) }),
    };
    match format {
        Format::Human => print(&human(&report))?,
        Format::Json => print_json(&report)?,
    }
    Ok(if reply.is_none() { Exit::Fine } else { Exit::Findings })
}

/// The word that the caller reads for an inner one.
fn public(inner: &'static str) -> &'static str {
    let mut rows = Reason::ALL.iter().map(|reason| reason.answer());
    rows.find(|row| row.inner == inner).map_or(inner, |row| row.public)
}

/// The compiled configuration. The request then shows the credential that it names.
fn load(
    command: &ExplainCommand,
    path: &Path,
    bytes: &[u8],
    environment: &Environment,
    request: &mut Request,
) -> Result<Config, Stop> {
    let stop = |faults: Faults| Stop::refused(command.config.display(), &faults);
    let form = format_of(&command.config);
    let value = |name: &str| environment.value_or_stand_in(name);
    let (document, tree) = config::read(bytes, form).map_err(stop)?;
    let compiled = config::load(bytes, form, &value).map_err(stop)?;
    let place = path.display();
    let key = match (request.principal.take(), request.key.take()) {
        (None, None) => return Ok(compiled),
        (Some(_), Some(_)) => {
            return Err(Stop::invalid(place, "both `principal` and `key`", "keep one of them"));
        }
        (None, Some(key)) => key,
        (Some(principal), None) => {
            let names = || document.consumers.iter().map(|consumer| consumer.name.as_str());
            let index = names().position(|name| name == principal).ok_or_else(|| {
                let known = names().take(MAX_NAMES).collect::<Vec<_>>().join("`, `");
                Stop::invalid(
                    &place,
                    format_args!("no consumer is called `{principal}`"),
                    format_args!("name one of `{known}`"),
                )
            })?;
            let key = key::generate()?;
            request.assumed = true;
            let added = json!({ "id": key.id().to_string(), "digest": key.digest().to_string() });
            let bytes = with_key(tree.to_json(), index, added).to_string();
            show(request, &document, key.expose(), &place)?;
            return config::load(bytes.as_bytes(), Form::Json, &value).map_err(stop);
        }
    };
    show(request, &document, &key, &place)?;
    Ok(compiled)
}

/// No more names than this are listed in a remedy.
const MAX_NAMES: usize = 20;

/// The document in which one consumer has one key more.
fn with_key(mut document: Json, consumer: usize, key: Json) -> Json {
    // INVARIANT: the place is in the document, since it was read from there; were it not, nobody would gain a key
    let place = document.pointer_mut(&format!("/consumers/{consumer}")).and_then(Json::as_object_mut);
    let credentials = place.map(|consumer| consumer.entry("credentials").or_insert_with(|| json!({})));
    let keys = credentials.and_then(Json::as_object_mut);
    if let Some(Json::Array(keys)) = keys.map(|keys| keys.entry("api_keys").or_insert_with(|| json!([]))) {
        keys.push(key);
    }
    document
}

/// Puts a key where the configuration reads keys.
fn show(request: &mut Request, document: &Document, key: &str, place: &dyn Display) -> Result<(), Stop> {
    let header = document.authentication.api_key.extract_from.headers.first().ok_or_else(|| {
        Stop::invalid(place, "no header is read for keys", "write the key into `path` or a cookie instead")
    })?;
    let value = if header == AUTHORIZATION { format!("Bearer {key}") } else { key.to_owned() };
    request.headers.push((header.clone(), value));
    Ok(())
}

/// Sends the request through a transaction, as the filter would; gives the answer in the upstream's place.
fn transact(request: &Request, block: &[u8], config: Config, host: &FakeHost) -> Option<LocalReply> {
    let service = FakeService::of(&config.limits);
    let trail = Rc::new(RefCell::new(Trail::new(config.trail_settings())));
    let worker = Rc::new(Worker::new(Rc::new(config), trail));
    // what comes without a push is not known here
    serve_empty(&worker, host);
    let mut transaction = Transaction::new(worker);
    let mut step = transaction.on_request_headers(block, request.facts.clone(), host);
    if transaction.waits_until().is_some() && host.calls.borrow().is_empty() {
        host.request_body.replace(request.body.clone());
        step = transaction.on_request_body(request.body.len(), true, host);
    }
    // A service whose counters are at zero, too.
    let asked = host.calls.borrow().first().cloned();
    if let Some(message) = asked {
        let answer = service.answer(&message, host.unix_time());
        let size = answer.len();
        host.grpc_body.replace(answer);
        step = transaction.on_call_answered(CalloutId(0), 0, size, host).unwrap_or(step);
    }
    // nobody else is asked from here
    if transaction.waits_until().is_some() {
        step = transaction.on_deadline(host);
    }
    match step {
        Step::Reply(reply) => Some(reply),
        Step::Forward(_) | Step::Await => None,
    }
}

fn human(report: &Report) -> String {
    let stages = &report.stages;
    let mut text = format!("{}\n", stages.request);
    let mut say = |stage: &str, line: &str| text.push_str(&format!("  {stage:<9} {line}\n"));
    for (stage, line) in report.recorded.iter().flat_map(Recorded::lines) {
        say(stage, &line);
    }
    if let Some(profile) = &stages.profile {
        say("profile", profile);
    }
    if let Some(caller) = &stages.caller {
        let shown = match (caller.method.as_str(), caller.credential.as_str()) {
            ("none", _) => String::new(),
            ("assumed", _) => String::from(", as the request says"),
            (method, id) => format!(", by {method} {id}"),
        };
        let roles = if caller.roles.is_empty() { String::from("none") } else { caller.roles.join(", ") };
        say("caller", &format!("{}{shown}", caller.principal));
        say("", &format!("roles: {roles}; tier: {}{}", caller.tier, listed(&caller.attributes)));
    }
    if let Some(asked) = &stages.resource {
        let known = if asked.listed { "" } else { ", which is not in the catalogue" };
        say("resource", &format!("{} `{}`{known}{}", asked.kind, asked.id, listed(&asked.attributes)));
        say("action", &asked.action);
    }
    let held = |policy: &&stages::Policy| match (policy.name.strip_prefix(ROLE_PREFIX), &stages.caller) {
        (Some(role), Some(caller)) => caller.roles.iter().any(|held| held == role),
        _ => true,
    };
    for policy in stages.policies.iter().filter(held) {
        let counts = if policy.counts { "" } else { ", and does not count here" };
        let matches = match policy.matches {
            "yes" => "matches",
            "no" => "does not match",
            _ => "cannot be evaluated",
        };
        say("policy", &format!("{} ({}) {matches}{counts}", policy.name, policy.effect));
        for clause in &policy.clauses {
            let seen = clause.seen.as_ref().map_or_else(|| String::from("absent"), Json::to_string);
            say(
                "",
                &format!("  {:<5} {} is {seen}, wanted {}", clause.matches, clause.attribute, clause.pattern),
            );
        }
    }
    if stages.within_scope == Some(false) {
        say("scope", "the credential itself may not be used for this, or not from here");
    }
    if let Some(flip) = &stages.flip {
        say("flip", &flip.to_string());
    }
    for limit in &stages.limits {
        say("limit", limit);
    }
    if let Some(service) = &stages.service {
        say("service", service);
    }
    let because = match stages.because.as_slice() {
        [] => String::new(),
        names => format!(", because of {}", names.join(", ")),
    };
    let verdict = match (&report.answer, report.reason) {
        (Some(answer), Some(inner)) if answer.reason != inner => {
            format!("denied: {inner}{because}; the caller reads {} {}", answer.status, answer.reason)
        }
        (Some(answer), _) => format!("denied: the caller reads {} {}", answer.status, answer.reason),
        (None, _) => format!("{}{because}", report.decision),
    };
    text.push_str(&format!("=> {verdict}\n"));
    text
}

/// Attributes after a semicolon.
fn listed(attributes: &Json) -> String {
    attributes.as_object().into_iter().flatten().map(|(name, value)| format!("; {name}: {value}")).collect()
}
