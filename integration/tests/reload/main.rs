//! Configurations that change under load: what answers, what waits, what counts and what is told of it.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "the test measures how long things take, and may stop"
)]

mod documents;
mod load;

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use http::Request;
use mlgate::cases;
use mlgate::config::tree::Tree;
use mlgate_integration::client::{self, Answer, Http1, Http2};
use mlgate_integration::collector::{Collector, text};
use mlgate_integration::demo::setup;
use mlgate_integration::gate::Gate;
use mlgate_integration::{EnvoyBuilder, ModelServer, Stack, artifacts, filter_file};
use serde_json::{Value, json};

use documents::{CHAT, Documents, Which};

const BOUND: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// A gate under the first of two documents, and both.
struct Scene {
    gate: Gate,
    documents: Documents,
    _model: ModelServer,
}

// === impl Scene ===

impl Scene {
    async fn start(name: &str) -> anyhow::Result<Self> {
        let secrets = cases::Gate::of(documents::first()).map_err(anyhow::Error::msg)?;
        let documents = Documents::of(&secrets)?;
        let model = ModelServer::start().await?;
        let gate = Gate::watched(name, secrets, model.address()).await?;
        Ok(Self { gate, documents, _model: model })
    }

    fn request(&self, caller: &str) -> anyhow::Result<Request<Bytes>> {
        documents::get(self.gate.key(caller))
    }

    async fn call(&self, caller: &str) -> anyhow::Result<Answer> {
        client::call(self.gate.envoy.address(), self.request(caller)?).await
    }

    /// Pushes a document, and waits until it answers in every worker.
    async fn change(&self, to: Which) -> anyhow::Result<()> {
        ensure!(self.gate.update(self.documents.of_which(to)).await?, "refused\n{}", self.gate.envoy.log()?);
        self.settled(to).await
    }

    /// Envoy's main thread takes a configuration before its workers do.
    async fn settled(&self, to: Which) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut right = 0;
        while right < 10 {
            let answers = (self.call("first001").await?.status, self.call("second01").await?.status);
            right = if answers == to.answers() { right + 1 } else { 0 };
            ensure!(start.elapsed() < BOUND, "{answers:?} after {BOUND:?}");
        }
        Ok(())
    }

    /// The changes that the log tells, in the order of each chain: what was before, what is, what it says of itself.
    fn changes(&self) -> anyhow::Result<Vec<(Option<Which>, Which, Value)>> {
        let events = self.gate.collector.events()?;
        let changes = events.iter().filter(|event| text(event, "type") == "config");
        changes
            .map(|event| {
                let before = event.get("prev_policy_revision").and_then(Value::as_str);
                let before = before.map(|revision| self.documents.which(revision)).transpose()?;
                let now = self.documents.which(text(event, "policy_revision"))?;
                Ok((before, now, event.get("revision").cloned().unwrap_or_default()))
            })
            .collect()
    }
}

/// A status and a reason, as callers read them.
fn told(answer: &Answer) -> (u16, String) {
    (answer.status, answer.reason().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_push_is_refused_with_its_faults_and_changes_nothing() -> anyhow::Result<()> {
    let scene = Scene::start("reload-bad").await?;
    let mut kept = Http1::connect(scene.gate.envoy.address()).await?;
    assert_eq!(kept.call(scene.request("first001")?).await?.status, 200);
    let mut bad = scene.documents.of_which(Which::Second).clone();
    bad["limits"][0]["rates"]["small"][0]["window"] = json!("soon");
    assert!(!scene.gate.update(&bad).await?, "a bad document was taken");
    assert_eq!(filter_file::pushes(&scene.gate.envoy).await?.refused, 1);
    let log = scene.gate.envoy.log()?;
    assert!(log.contains("/limits/0/rates/small/0/window") && log.contains("`soon`"), "{log}");
    for _ in 0..10 {
        assert_eq!(kept.call(scene.request("first001")?).await?.status, 200);
        assert_eq!((scene.call("first001").await?.status, scene.call("second01").await?.status), (200, 403));
    }
    // what was refused has left nothing behind: the next one takes effect
    scene.change(Which::Second).await?;
    assert_eq!(told(&kept.call(scene.request("first001")?).await?), (403, "access_denied".to_owned()));
    scene.gate.check_one_life().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_up_stays_used_up() -> anyhow::Result<()> {
    let scene = Scene::start("reload-limits").await?;
    let left = |answer: &Answer| answer.header("x-ratelimit-remaining").unwrap_or_default();
    for rest in ["4", "3", "2"] {
        assert_eq!(left(&scene.call("spent001").await?), rest);
    }
    scene.change(Which::Second).await?;
    for rest in ["1", "0"] {
        assert_eq!(left(&scene.call("spent001").await?), rest);
    }
    for which in [Which::First, Which::Second, Which::First] {
        scene.change(which).await?;
        let refused = scene.call("spent001").await?;
        assert_eq!(told(&refused), (429, "rate_limited".to_owned()));
        let wait: u64 = refused.header("retry-after").context("no retry-after")?.parse()?;
        assert!((1..=720).contains(&wait), "{wait}");
    }
    scene.gate.check_one_life().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_request_is_decided_by_the_configuration_it_began_with() -> anyhow::Result<()> {
    let scene = Scene::start("reload-held").await?;
    let address = scene.gate.envoy.address();
    let head = |caller: &str| documents::post(scene.gate.key(caller));
    let (begin, end) = CHAT.split_at(8);
    let mut uploads = Vec::new();
    let mut streams = Vec::new();
    for caller in ["first001", "second01"] {
        let mut upload = Http1::connect(address).await?.upload(head(caller)?).await?;
        upload.send(begin).await?;
        uploads.push((caller, upload));
        let mut connection = Http2::connect(address).await?;
        let mut call = connection.open(head(caller)?, false).await?;
        call.send(begin, false)?;
        streams.push((caller, connection, call));
    }
    // nothing says when Envoy has read them: they must wait before the push
    tokio::time::sleep(Duration::from_millis(300)).await;
    scene.change(Which::Second).await?;
    let mut decided = Vec::new();
    for (caller, mut upload) in uploads {
        upload.send(end).await?;
        decided.push((caller, upload.answer().await?));
    }
    for (caller, connection, mut call) in streams {
        call.send(end, true)?;
        decided.push((caller, call.answer().await?));
        drop(connection);
    }
    let first = scene.documents.revision(Which::First);
    let decisions = decided.iter().filter_map(|(_, answer)| answer.header("x-mlgate-decision-id")).collect();
    let events = scene.gate.delivered(&decisions, BOUND).await?;
    for (caller, answer) in &decided {
        let wanted = if *caller == "first001" { (200, "") } else { (403, "access_denied") };
        assert_eq!(told(answer), (wanted.0, wanted.1.to_owned()), "{caller}");
        let decision = answer.header("x-mlgate-decision-id").context("no decision id")?;
        let event = events.iter().find(|event| text(event, "decision_id") == decision).context("no event")?;
        assert_eq!(text(event, "policy_revision"), first, "{caller}");
    }
    scene.gate.check_one_life().await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_in_the_trail_also_back_to_a_configuration_that_is_still_in_use() -> anyhow::Result<()>
{
    let scene = Scene::start("reload-trail").await?;
    scene.settled(Which::First).await?;
    // a request that stays on the first configuration for as long as it waits
    let mut upload = Http1::connect(scene.gate.envoy.address())
        .await?
        .upload(documents::post(scene.gate.key("first001"))?)
        .await?;
    upload.send("{").await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    scene.change(Which::Second).await?;
    scene.change(Which::First).await?;
    scene.change(Which::Second).await?;
    drop(upload);
    let wanted = [
        (None, Which::First),
        (Some(Which::First), Which::Second),
        (Some(Which::Second), Which::First),
        (Some(Which::First), Which::Second),
    ];
    let start = Instant::now();
    let changes = loop {
        let changes = scene.changes()?;
        // each of two workers tells them
        if changes.len() >= 2 * wanted.len() || start.elapsed() > BOUND {
            break changes;
        }
        tokio::time::sleep(POLL).await;
    };
    for change in wanted {
        let told: Vec<_> = changes.iter().filter(|(before, now, _)| (*before, *now) == change).collect();
        let times = wanted.iter().filter(|other| **other == change).count();
        assert_eq!(told.len(), 2 * times, "{change:?} in {changes:?}");
        assert!(told.iter().all(|(_, now, revision)| revision == &now.document_revision()), "{changes:?}");
    }
    let verdict = scene.gate.collector.verify()?;
    assert_eq!(verdict.exit, Some(0), "{}", verdict.text);
    scene.gate.check_one_life().await
}

/// The whole of `docs/reference.md` under «Changing a configuration»: the snippet, the file, the rename.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_file_is_changed_while_envoy_runs() -> anyhow::Result<()> {
    const DOCUMENT: &str = "/resources/0/typed_config/config/configuration/value";
    const FILTER: &str =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0";
    let stack = Stack::create("documented-ecds")?;
    let mut file = setup::yaml(&artifacts::root().join("envoy/ecds/filter.yaml"))?;
    let documented = file.pointer(DOCUMENT).context("no document")?.clone();
    let secrets = cases::Gate::of(documented).map_err(anyhow::Error::msg)?;
    *file.pointer_mut(DOCUMENT).context("no document")? = secrets.document.clone();
    let code = "/resources/0/typed_config/config/vm_config/code/local/filename";
    *file.pointer_mut(code).context("no code")? = json!(artifacts::filter_wasm()?);

    let reference = std::fs::read_to_string(artifacts::root().join("docs/reference.md"))?;
    let (_, snippet) = reference.split_once("<!-- watched -->\n```yaml\n").context("no snippet")?;
    let (snippet, _) = snippet.split_once("```").context("no end of the snippet")?;
    let path = stack.write("filter.yaml", file.to_string())?;
    let snippet = snippet.replace("/etc/envoy/filter.yaml", &path.display().to_string());
    let snippet = Tree::from_yaml(snippet.as_bytes()).map_err(|faults| anyhow!("{faults:?}"))?.to_json();

    let model = ModelServer::start().await?;
    let collector = Collector::start(&stack, &secrets.document, &secrets.environment).await?;
    let mut bootstrap = setup::bootstrap(
        &secrets.document,
        &artifacts::filter_wasm()?,
        model.address(),
        collector.address(),
    )?;
    *bootstrap.pointer_mut(FILTER).context("no filter")? = snippet.get(0).context("no filter")?.clone();
    let mut builder = EnvoyBuilder::new().concurrency(2).whole(bootstrap);
    for (name, value) in &secrets.environment {
        builder = builder.environment(name, value);
    }
    let envoy = builder.start(&stack).await?;
    let key = secrets.keys.values().next().context("no key")?;
    let mut kept = Http1::connect(envoy.address()).await?;
    let answer = kept.call(documents::get(key)?).await?;
    assert_eq!(answer.status, 200, "{}", answer.text());

    let permissions = format!("{DOCUMENT}/authorization/roles/data_scientist/permissions");
    *file.pointer_mut(&permissions).context("no permissions")? = json!(["read"]);
    stack.write("filter.yaml", file.to_string())?;
    let start = Instant::now();
    while kept.call(documents::get(key)?).await?.status != 403 {
        ensure!(start.elapsed() < BOUND, "not in effect after {BOUND:?}\n{}", envoy.log()?);
        tokio::time::sleep(POLL).await;
    }
    assert_eq!(filter_file::pushes(&envoy).await?.refused, 0);
    envoy.check_unharmed().await
}
