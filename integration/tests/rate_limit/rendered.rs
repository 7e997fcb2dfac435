//! What `mlgate render limitador` writes does what the configuration says: each of its limits can be reached through the
//! published crate by the descriptor that the filter sends, and by no other one. The second half is the point: a service
//! says OK to what it does not know, so a limit whose name was misspelt looks like one that nobody has reached.

use anyhow::{Context, ensure};
use mlgate::config::{Format, load};
use mlgate::limits::remote::Counter;
use mlgate_integration::{RateLimitService, Redis, Stack};

use crate::scene;

type Entries = Vec<(String, String)>;

const LIMITS: &str = "
  - { name: alone, key: [principal], rates: { default: [{ limit: 1, window: 1h }] } }
  - name: fleet
    key: [principal.org, model]
    scope: global
    rates: { default: [{ limit: 3, window: 1h }], pro: [{ limit: 50, window: 1d }, { limit: 7, window: 90m }] }
  - { name: fleet.all, key: [], scope: global, rates: { default: [{ limit: 11, window: 1h }] } }
  - { name: \"1.0\", key: [tier, source], scope: global, rates: { default: [{ limit: 2, window: 30d }] } }";

fn document() -> String {
    scene::document(&[("caller00", "pro")], LIMITS, "timeout: 1s")
}

/// Every counter, as the filter knows them.
fn counters() -> anyhow::Result<Vec<Counter>> {
    let secret = |_: &str| Some("as long as a secret should at least be".to_owned());
    let config =
        load(document().as_bytes(), Format::Yaml, &secret).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    Ok(config.limits.counters().collect())
}

/// The descriptor of a counter for somebody; what is counted apart has `value`.
fn entries(counter: &Counter, value: &str) -> Entries {
    let entry = counter.entries.iter();
    entry.map(|entry| (entry.key.clone(), entry.value.clone().unwrap_or_else(|| value.to_owned()))).collect()
}

/// The proof that a limit is enforced: so many requests are admitted, and the next one is not.
async fn reach(
    service: &RateLimitService,
    domain: &str,
    call: &[Entries],
    requests: u64,
) -> anyhow::Result<()> {
    let requests = u32::try_from(requests)?;
    ensure!(!service.count(domain, call, requests).await?, "refused before {requests} requests");
    ensure!(service.count(domain, call, 1).await?, "the request after {requests} is admitted: {call:?}");
    Ok(())
}

async fn check_all(service: &RateLimitService, run: &str) -> anyhow::Result<()> {
    let counters = counters()?;
    assert_eq!(counters.len(), 5);
    for counter in &counters {
        let mine = entries(counter, &format!("{run}-one"));
        reach(service, "mlgate", std::slice::from_ref(&mine), counter.requests)
            .await
            .with_context(|| format!("alone in its call: {counter:?}"))?;
        let is_apart = counter.entries.iter().any(|entry| entry.value.is_none());
        if is_apart {
            // Another place in the call is the same counter, another value is not.
            let other = vec![("limit".to_owned(), "other".to_owned())];
            assert!(service.count("mlgate", &[other.clone(), mine.clone()], 1).await?, "{counter:?}");
            let call = [other, entries(counter, &format!("{run}-two"))];
            reach(service, "mlgate", &call, counter.requests).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn each_rendered_limit_is_reached() -> anyhow::Result<()> {
    let service = RateLimitService::in_memory(&scene::limits(&document())?).await?;
    check_all(&service, "memory").await
}

#[tokio::test]
async fn each_rendered_limit_is_reached_in_redis() -> anyhow::Result<()> {
    let stack = Stack::create("rendered-redis")?;
    let Some(redis) = Redis::start(&stack).await? else { return Ok(()) };
    let limits = scene::limits(&document())?;
    let service = RateLimitService::on_redis(&limits, &redis).await?;
    check_all(&service, "redis").await?;
    // Another process of the service counts on.
    let another = RateLimitService::on_redis(&limits, &redis).await?;
    for counter in &counters()? {
        assert!(another.count("mlgate", &[entries(counter, "redis-one")], 1).await?, "{counter:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_misspelt_descriptor_is_never_refused_and_the_proof_says_so() -> anyhow::Result<()> {
    let service = RateLimitService::in_memory(&scene::limits(&document())?).await?;
    let mut tried = 0;
    for counter in &counters()? {
        let right = entries(counter, "somebody");
        let mut wrong: Vec<(&str, Entries)> = vec![("mlgatee", right.clone())];
        for (index, entry) in counter.entries.iter().enumerate() {
            let mut misspelt = right.clone();
            misspelt[index].0.push('s');
            wrong.push(("mlgate", misspelt));
            if entry.value.is_some() {
                let mut misspelt = right.clone();
                misspelt[index].1.push('s');
                wrong.push(("mlgate", misspelt));
            }
            let mut shorter = right.clone();
            shorter.remove(index);
            wrong.push(("mlgate", shorter));
        }
        for (domain, call) in wrong {
            let failed = reach(&service, domain, &[call], counter.requests).await.unwrap_err().to_string();
            assert!(failed.contains("is admitted"), "{failed}");
            tried += 1;
        }
        reach(&service, "mlgate", &[right], counter.requests).await?;
    }
    assert!(tried >= 40, "{tried}");
    Ok(())
}
