//! Single questions to the host; each reports the statuses it got, in the form `what=status`, joined by spaces.
//!
//! | errand | asks |
//! |---|---|
//! | `reads` | header, property and body calls, in and out of their phase |
//! | `shared` | creation with the sentinel, conflicts, absence |
//! | `foreign` | an unknown function, a bad argument, a good call |
//! | `root` | resume, reply and header edit while the root is in effect |
//! | `trap`, `trap-cured` | a reply after a failed `set_effective_context`, without and with setting back to the root |
//! | `sdk-call:<cluster>`, `raw-call:<cluster>` | an HTTP call by the SDK's function, by our own extern |
//! | `sdk-call-as-stream:<cluster>` | the same while a stream is in effect |
//! | `sdk-call-slow:<cluster>` | is answered a second later |
//! | `sdk-call-bare:<cluster>` | without `:path` |

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

use crate::host;

/// What became of an errand.
pub enum Outcome {
    /// A call is under way; its callback answers.
    Calling(u32),
    /// This is the answer.
    Report(String),
}

pub fn run(errand: &str, context: u32, root: u32) -> Outcome {
    let (name, cluster) = errand.split_once(':').unwrap_or((errand, ""));
    match name {
        "sdk-call" => outcome(sdk_call(cluster, "/errand")),
        "sdk-call-as-stream" => {
            let effective = host::set_effective_context(context);
            let result = sdk_call(cluster, "/errand");
            host::set_effective_context(root);
            host::log(&format!("called as stream effective={effective} result={result:?}"));
            outcome(result)
        }
        // The sample server takes its time when it is told so.
        "sdk-call-slow" => {
            let headers = vec![
                (":method", "GET"),
                (":path", "/errand"),
                (":authority", "probe"),
                ("x-sample-delay-ms", "1000"),
            ];
            outcome(hostcalls::dispatch_http_call(cluster, headers, None, vec![], TIMEOUT))
        }
        "sdk-call-bare" => {
            outcome(hostcalls::dispatch_http_call(cluster, vec![(":method", "GET")], None, vec![], TIMEOUT))
        }
        "raw-call" => {
            let headers = [(":method", "POST"), (":path", "/errand"), (":authority", "probe")];
            let (status, token) = host::raw_http_call(cluster, &headers, 2000);
            if status == host::OK {
                Outcome::Calling(token)
            } else {
                Outcome::Report(format!("status={status}"))
            }
        }
        "reads" => Outcome::Report(reads()),
        "shared" => Outcome::Report(shared()),
        "foreign" => Outcome::Report(foreign()),
        "root" => Outcome::Report(as_root(root)),
        "trap" => Outcome::Report(trap(context, root, false)),
        "trap-cured" => Outcome::Report(trap(context, root, true)),
        unknown => Outcome::Report(format!("no errand `{unknown}`")),
    }
}

const TIMEOUT: Duration = Duration::from_secs(2);

/// No context of this VM has this id.
const NOBODY: u32 = 4_000_000_000;

/// The sentinel: absent → creates, present → conflict.
const CREATE: u32 = u32::MAX;

/// An HTTP call by the SDK's function, whose dispatcher then knows the token.
pub fn sdk_call(cluster: &str, path: &str) -> Result<u32, Status> {
    let headers = vec![(":method", "POST"), (":path", path), (":authority", "probe")];
    hostcalls::dispatch_http_call(cluster, headers, Some(b"content"), vec![], TIMEOUT)
}

fn outcome(result: Result<u32, Status>) -> Outcome {
    match result {
        Ok(token) => Outcome::Calling(token),
        Err(status) => Outcome::Report(format!("dispatch=Err({status:?})")),
    }
}

fn reads() -> String {
    const RESPONSE_HEADERS: u32 = 2;
    const NO_SUCH_MAP: u32 = 99;
    let (present, value) = host::header(host::REQUEST_HEADERS, "x-id");
    let (absent, _) = host::header(host::REQUEST_HEADERS, "x-absent");
    let (empty, nothing) = host::header(host::REQUEST_HEADERS, "x-empty");
    let (response, _) = host::header(RESPONSE_HEADERS, ":status");
    let (map, _) = host::header(NO_SUCH_MAP, "x");
    let (path, text) = host::property(&["request", "url_path"]);
    let (property, _) = host::property(&["no", "such"]);
    let (body, bytes) = host::body(host::REQUEST_BODY, usize::MAX);
    format!(
        "present={present}:{} absent={absent} empty={empty}:{} response_header={response} no_map={map} path={path}:{} \
         no_property={property} body={body}:{}",
        String::from_utf8_lossy(&value),
        nothing.len(),
        String::from_utf8_lossy(&text),
        bytes.len(),
    )
}

fn shared() -> String {
    let key = "probe/1/errand";
    let (absent, _, _) = host::shared("probe/1/never written");
    let create = host::set_shared(key, b"one", CREATE);
    let again = host::set_shared(key, b"two", CREATE);
    let (read, value, cas) = host::shared(key);
    let swap = host::set_shared(key, b"three", cas);
    let stale = host::set_shared(key, b"four", cas);
    let (_, last, _) = host::shared(key);
    format!(
        "absent={absent} create={create} again={again} read={read}:{} swap={swap} stale={stale} last={}",
        String::from_utf8_lossy(&value),
        String::from_utf8_lossy(&last),
    )
}

fn foreign() -> String {
    let (unknown, _) = host::foreign("no_such_function", b"");
    let (bad, _) = host::foreign("verify_signature", b"\xff\xff");
    let (good, packed) =
        host::foreign("compress", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    format!("unknown={unknown} bad={bad} good={good}:{}", !packed.is_empty())
}

fn as_root(root: u32) -> String {
    let effective = host::set_effective_context(root);
    let resume = host::resume_request();
    let reply = host::reply(403, &[], "for nobody", -1);
    let edit = host::add_header("x", "y");
    let nobody = host::set_effective_context(NOBODY);
    format!("effective={effective} resume={resume} reply={reply} edit={edit} nobody={nobody}")
}

/// Looks at one stream, fails to switch to another, and answers: whom does it hit?
fn trap(context: u32, root: u32, cured: bool) -> String {
    let first = host::set_effective_context(context);
    let second = host::set_effective_context(NOBODY);
    let back = if cured { host::set_effective_context(root) } else { host::OK };
    let reply = host::reply(403, &[], "WRONG STREAM", -1);
    let report = format!("first={first} second={second} back={back} reply={reply}");
    host::log(&format!("trap cured={cured} {report}"));
    if cured {
        // Nobody was hit, so the stream still waits: let it go.
        host::set_effective_context(context);
        host::resume_request();
    }
    host::set_effective_context(root);
    report
}
