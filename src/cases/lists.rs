//! Lists that are there and empty: what comes without a push is not known where a configuration is tried out.

use crate::filter::worker::Worker;
use crate::host::CalloutId;
use crate::host::fake::FakeHost;
use crate::remote::keeper::Reply;

/// A revocation list that takes nothing back.
const NOTHING_REVOKED: &str = r#"{"version":1}"#;

/// A list of no consumers.
const NOBODY_LISTED: &str = r#"{"version":1,"consumers":[]}"#;

/// Lets a worker poll its lists, and answers for their servers.
pub fn serve_empty(worker: &Worker, host: &FakeHost) {
    let before = host.callouts.borrow().len();
    worker.lists.tick(host);
    let asked: Vec<String> =
        host.callouts.borrow().iter().skip(before).map(|callout| callout.path.clone()).collect();
    let revocation = worker.config.lists.revocation.as_ref().map(|source| source.path.as_str());
    for (index, path) in (before..).zip(asked) {
        let body = if revocation == Some(path.as_str()) { NOTHING_REVOKED } else { NOBODY_LISTED };
        host.response_body.replace(body.as_bytes().to_vec());
        let reply = Reply { status: Some(200), etag: None, size: body.len() };
        let call = CalloutId(u32::try_from(index).unwrap_or(u32::MAX));
        worker.lists.on_reply(call, &reply, host);
    }
}
