//! What an incident happens on: an Envoy with a host that the gate stands in front of and one that it does not, a
//! collector, a model server, and a month of generated history that says what is normal.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Request;
use mlgate::time::UnixTime;
use serde_json::{Value, json};

use crate::analysis::{Analysis, analyze, text};
use crate::client::{self, ANSWER_BOUND};
use crate::collector::Collector;
use crate::demo::setup::Keys;
use crate::demo::story::{KEY, PREDICTION, predict};
use crate::history::{self, History};
use crate::model_server::Capacity;
use crate::scenarios::report::Report;
use crate::scenarios::traffic::{self, Outcomes, Pace};
use crate::site::Site;
use crate::{Envoy, Stack, filter_file};

/// Everything that runs; it ends with this value.
#[derive(Debug)]
pub struct Stage {
    /// The proxy.
    pub envoy: Envoy,
    /// Where audit events go.
    pub collector: Collector,
    /// What stands around the gate.
    pub site: Site,
    stack: Stack,
    keys: Keys,
    document: Value,
    month: PathBuf,
}

/// Whether the gate stands in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It does.
    With,
    /// The same Envoy, the same key, nobody looks at it.
    Without,
}

/// Whom an analysis should find, and what is done then.
#[derive(Clone, Copy, Debug)]
pub struct Suspect<'a> {
    /// Who.
    pub principal: &'a str,
    /// The alerts that are due.
    pub rules: &'a [&'a str],
    /// What is revoked.
    pub take_back: TakeBack,
}

/// What is revoked of what an alert suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeBack {
    /// The keys that were used.
    Keys,
    /// The caller, whatever it shows.
    Principals,
}

/// Somebody who has nothing to do with it.
pub const OTHER: &str = "card_payments";
/// What a caller reads whose key or name was taken back.
pub const REVOKED: &str = "credential_revoked";
/// Calls that may be served while a push that Envoy has taken is still on its way to a worker.
pub const ON_THE_WAY: usize = 5;
const DOCUMENT: &str = "integration/src/scenarios/gate.yaml";
/// The host that the gate does not stand in front of.
const UNGATED: &str = "ungated.example";
/// How long Envoy may take to end.
const STOP_BOUND: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

// === impl Stage ===

impl Stage {
    /// Starts everything.
    pub async fn start(name: &str, capacity: Option<Capacity>) -> anyhow::Result<Self> {
        let stack = Stack::create(name)?;
        let keys = Keys::make(DOCUMENT, json!({}))?;
        let document = keys.document().clone();
        let (site, collector) = Site::prepare(&stack, &document, keys.environment(), capacity).await?;
        let mut bootstrap = site.bootstrap(&document, &collector)?;
        add_ungated_host(&mut bootstrap)?;
        filter_file::take_out(&stack, &mut bootstrap)?;
        let envoy = site.start(&stack, bootstrap, keys.environment()).await?;
        // A watched filter that was refused does not keep Envoy from starting.
        let nobody = client::post(envoy.address(), "/predict", "", "").await?;
        if nobody.status != 401 {
            bail!("no gate answers: {}\n{}", nobody.status, envoy.log()?);
        }
        let month = write_month(&stack)?;
        Ok(Self { envoy, collector, site, stack, keys, document, month })
    }

    /// Sends calls of a consumer.
    pub async fn send(&self, consumer: &str, gate: Gate, pace: Pace) -> anyhow::Result<Outcomes> {
        traffic::send(self.envoy.address(), &self.call(consumer, gate)?, pace).await
    }

    fn call(&self, consumer: &str, gate: Gate) -> anyhow::Result<Request<Bytes>> {
        let mut call = predict("/predict").header(KEY, self.keys.of(consumer)?);
        if gate == Gate::Without {
            call = call.header("host", UNGATED);
        }
        Ok(call.body(Bytes::from_static(PREDICTION.as_bytes()))?)
    }

    /// How many calls of a principal are in the audit log, once there are `wanted` or nothing more is to be hoped for.
    pub async fn logged(&self, principal: &str, wanted: usize) -> anyhow::Result<usize> {
        let start = Instant::now();
        loop {
            let mut logged: u64 = 0;
            for event in self.collector.events()? {
                if event.get("principal").and_then(Value::as_str) == Some(principal) {
                    logged = logged.saturating_add(event.get("count").and_then(Value::as_u64).unwrap_or(1));
                }
            }
            let logged = usize::try_from(logged)?;
            if logged >= wanted || start.elapsed() > ANSWER_BOUND {
                return Ok(logged);
            }
            tokio::time::sleep(POLL.saturating_mul(5)).await;
        }
    }

    /// Looks for suspicious callers in the log of this run, with the generated month before it.
    pub fn analyze(&self) -> anyhow::Result<Analysis> {
        analyze(&[&self.month, self.collector.log()], &[])
    }

    /// Writes a generated history beside the logs.
    pub fn write_history(
        &self,
        name: &str,
        history: &History,
    ) -> anyhow::Result<(PathBuf, Vec<history::Label>)> {
        write_history(&self.stack, name, history)
    }

    /// Looks for `principal`, pushes what the alert suggests, sends the calls that come `after`, and tells all that.
    pub async fn answer_to(
        &mut self,
        report: &mut Report,
        suspect: &Suspect<'_>,
        after: Pace,
        began: Instant,
    ) -> anyhow::Result<Outcomes> {
        let Suspect { principal, rules, take_back } = *suspect;
        let analysis = self.analyze()?;
        let alerts = analysis.of(principal);
        let found: Vec<&str> = alerts.iter().map(|alert| text(alert, "/rule")).collect();
        let mut told = format!("`mlgate audit analyze`: {} for `{principal}`", found.join(" and "));
        if let Some(alert) = alerts.last() {
            told.push_str(&format!("\nseen:   {}", text(alert, "/text/seen")));
            told.push_str(&format!("\nnormal: {} (generated history)", text(alert, "/text/normal")));
        }
        let only = analysis.exit == Some(2) && alerts.len() == analysis.all().len();
        let wanted = format!("{} for `{principal}` and no other alert", rules.join(" and "));
        report.step(began.elapsed(), told, only && found == rules, &wanted);

        let Some(alert) = alerts.first() else { return Ok(Outcomes::default()) };
        let word = take_back.word();
        let suggested = alert.pointer(&format!("/revocation/{word}")).context("no suggestion")?.clone();
        let pushed = Instant::now();
        self.push_revocation(word, &suggested).await?;
        let told = format!("pushed, as the alert says: authentication.revocation.{word}: {suggested}");
        report.step(began.elapsed(), told, true, "");
        let mut outcomes = Outcomes::default();
        let mut rest = after;
        // One by one until the push has reached a worker, which it has nearly always, and then all others.
        while rest.count > 0 && !outcomes.refused().contains_key(REVOKED) {
            outcomes.extend(self.send(principal, Gate::With, Pace::as_fast_as(1, 1)).await?);
            rest.count = rest.count.saturating_sub(1);
        }
        let (number, took) = (outcomes.count(), pushed.elapsed().as_millis());
        let which =
            if number == 1 { "the next call".to_owned() } else { format!("call {number} from then on") };
        let told = format!("{which}: 401 {REVOKED}, {took} ms after the push");
        report.step(began.elapsed(), told, outcomes.refused().contains_key(REVOKED), "a refusal");
        outcomes.extend(self.send(principal, Gate::With, rest).await?);
        Ok(outcomes)
    }

    /// Another caller is served, no plugin has died, and the log is whole.
    pub async fn finish(mut self, report: &mut Report) -> anyhow::Result<()> {
        let others = self.send(OTHER, Gate::With, Pace::as_fast_as(1, 1)).await?;
        let told = format!("`{OTHER}`, after all this: 200");
        report.step(None, told, others.served() == 1, "another caller is served");
        self.envoy.check_unharmed().await?;
        self.envoy.stop(STOP_BOUND).await?;
        self.collector.stop().await?;
        let verdict = self.collector.verify()?;
        let told = "`mlgate audit verify`: the log of this is intact".to_owned();
        report.step(None, told, verdict.exit == Some(0), &verdict.text);
        Ok(())
    }

    /// Pushes it and waits until Envoy has taken it.
    async fn push_revocation(&mut self, word: &str, suggested: &Value) -> anyhow::Result<()> {
        let fields = self.document.as_object_mut().context("no document")?;
        fields.insert("revision".into(), json!({"id": "scenarios-2", "change": "INC-1"}));
        fields.insert("authentication".into(), json!({"revocation": {word: suggested}}));
        let bootstrap = self.site.bootstrap(&self.document, &self.collector)?;
        if !filter_file::update(&self.envoy, &self.stack, &bootstrap).await? {
            bail!("the push was refused\n{}", self.envoy.log()?);
        }
        Ok(())
    }
}

// === impl TakeBack ===

impl TakeBack {
    const fn word(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Principals => "principals",
        }
    }
}

fn add_ungated_host(bootstrap: &mut Value) -> anyhow::Result<()> {
    let hosts =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts";
    let hosts = bootstrap.pointer_mut(hosts).and_then(Value::as_array_mut).context("no virtual hosts")?;
    hosts.push(json!({
        "name": "ungated",
        "domains": [UNGATED],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "model", "timeout": "0s"}}],
        "typed_per_filter_config": {"mlgate": {
            "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
            "disabled": true,
        }},
    }));
    Ok(())
}

/// What was normal in the month before the last 24 hours.
fn write_month(stack: &Stack) -> anyhow::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let day = Duration::from_secs(24 * 3600);
    let until = UnixTime::from_millis(i64::try_from(now.saturating_sub(day).as_millis())?);
    Ok(write_history(stack, "generated-month.log", &History::clean(until))?.0)
}

fn write_history(
    stack: &Stack,
    name: &str,
    history: &History,
) -> anyhow::Result<(PathBuf, Vec<history::Label>)> {
    let path = stack.folder().join(name);
    let labels = history.write(&mut BufWriter::new(File::create(&path)?))?;
    Ok((path, labels))
}
