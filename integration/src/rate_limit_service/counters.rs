//! Which limits a request meets, and how often each has been met: by the published `limitador`, counting in its own
//! memory or in Redis.
//!
//! `limitador` looks and counts in two steps, in its own memory as in its driver for Redis, and may so admit more than
//! the limit. A test of exactness needs a service that is exact: in memory one request is counted after the other, and
//! for Redis the crate says which counters a request meets, and one script checks and counts all of them at once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use limitador::RateLimiter;
use limitador::counter::Counter;
use limitador::limit::{Context, Limit, Namespace};
use mlgate::config::tree::Tree;
use tokio::net::ToSocketAddrs;

use crate::redis;

/// All limits, and where they are counted.
pub(super) struct Counters {
    limiter: RateLimiter,
    /// Held from the look to the count.
    one_by_one: Mutex<()>,
    redis: Option<redis::Connection>,
}

/// What came of one request.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) over: bool,
    /// Every counter that the request met; none is an answer too: limitador says OK to what it does not know.
    pub(super) counters: Vec<Counter>,
}

// === impl Counters ===

impl Counters {
    /// `limits` is the file that Limitador reads.
    pub(super) fn in_memory(limits: &str) -> anyhow::Result<Self> {
        let limiter = RateLimiter::new(MOST_COUNTERS);
        for limit in read(limits)? {
            limiter.add_limit(limit);
        }
        Ok(Self { limiter, one_by_one: Mutex::default(), redis: None })
    }

    pub(super) async fn on_redis(limits: &str, redis: impl ToSocketAddrs) -> anyhow::Result<Self> {
        Ok(Self { redis: Some(redis::Connection::open(redis).await?), ..Self::in_memory(limits)? })
    }

    /// Counts `hits` where every limit that the descriptors meet allows it, and nothing otherwise.
    pub(super) async fn count(
        &self,
        domain: &str,
        descriptors: Vec<HashMap<String, String>>,
        hits: u64,
    ) -> anyhow::Result<Tally> {
        let namespace = Namespace::from(domain);
        let met = |descriptors| {
            let mut context = Context::default();
            context.list_binding("descriptors".into(), descriptors);
            context
        };
        let Some(redis) = &self.redis else {
            let _turn = self.one_by_one.lock().unwrap_or_else(PoisonError::into_inner);
            let result = self.limiter.check_rate_limited_and_update(&namespace, &met(descriptors), hits);
            let result = result.map_err(|error| anyhow!("{error}"))?;
            return Ok(Tally { over: result.limited, counters: result.counters });
        };
        let counters = {
            // not held over an await: the context of an expression stays on its thread
            let context = met(descriptors);
            let limits = self.limiter.get_limits(&namespace);
            let applying = limits.into_iter().filter(|limit| limit.applies(&context));
            let counters = applying.map(|limit| Counter::new(limit, &context));
            let counters: Result<Vec<_>, _> = counters.filter_map(Result::transpose).collect();
            // its error is not `Send`
            counters.map_err(|error| anyhow!("{error}"))?
        };
        count_in_redis(redis, counters, hits).await
    }
}

async fn count_in_redis(
    redis: &redis::Connection,
    mut counters: Vec<Counter>,
    hits: u64,
) -> anyhow::Result<Tally> {
    let mut command = vec!["EVAL".to_owned(), SCRIPT.to_owned(), counters.len().to_string()];
    command.extend(counters.iter().map(key));
    command.push(hits.to_string());
    for counter in &counters {
        command.push(counter.max_value().to_string());
        command.push(counter.window().as_secs().to_string());
    }
    let mut numbers = redis.numbers(&command).await?.into_iter();
    let over = numbers.next().context("an empty answer")? != 0;
    for counter in &mut counters {
        let (Some(count), Some(left_ms)) = (numbers.next(), numbers.next()) else {
            bail!("an answer without a count for each counter")
        };
        counter.set_remaining(counter.max_value().saturating_sub(u64::try_from(count)?));
        counter.set_expires_in(Duration::from_millis(u64::try_from(left_ms).unwrap_or_default()));
    }
    Ok(Tally { over, counters })
}

/// The limits of Limitador's file.
fn read(limits: &str) -> anyhow::Result<Vec<Limit>> {
    let tree = Tree::from_yaml(limits.as_bytes()).map_err(|faults| anyhow!("{faults:?}"))?;
    serde_json::from_value(tree.to_json()).context("these are no limits of Limitador")
}

/// One text for each counter: the limit, its window, and the values that it counts apart.
fn key(counter: &Counter) -> String {
    let limit = counter.limit();
    let mut conditions: Vec<String> = limit.conditions().into_iter().collect();
    conditions.sort_unstable();
    format!("{:?}", (counter.namespace().as_ref(), limit.seconds(), conditions, counter.set_variables()))
}

/// Either every counter has room and all are raised, or none is touched. A window begins with its first hit.
const SCRIPT: &str = "\
local hits, over = tonumber(ARGV[1]), 0
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or 0) + hits > tonumber(ARGV[2 * i]) then over = 1 end
end
local answer = {over}
for i, key in ipairs(KEYS) do
  if over == 0 then
    redis.call('INCRBY', key, hits)
    redis.call('EXPIRE', key, ARGV[2 * i + 1], 'NX')
  end
  answer[2 * i] = tonumber(redis.call('GET', key) or 0)
  answer[2 * i + 1] = redis.call('PTTL', key)
end
return answer";

const MOST_COUNTERS: u64 = 100_000;
