//! Sends the same call many times at a pace, and measures each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Http1;
use crate::demo::play;

/// How calls follow each other.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many.
    pub count: u32,
    /// From one to the next; none: as fast as they are answered.
    pub every: Duration,
    /// How many wait for an answer at most.
    pub at_once: usize,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The status.
    pub status: u16,
    /// The reason, where the gate refused.
    pub reason: Option<String>,
    /// When it was answered, since the first was sent.
    pub at: Duration,
    /// How long the answer took.
    pub took: Duration,
}

/// Outcomes in the order of their answers.
#[derive(Clone, Debug, Default)]
pub struct Outcomes(Vec<Outcome>);

/// Kept connections that nobody uses at the moment.
type Idle = Arc<Mutex<Vec<Http1>>>;

// === impl Pace ===

impl Pace {
    /// The next call when one of `connections` is free.
    pub const fn as_fast_as(connections: usize, count: u32) -> Self {
        Self { count, every: Duration::ZERO, at_once: connections }
    }

    /// So many a second for a time, whether they are answered or not.
    pub fn steady(a_second: u32, time: Duration) -> Self {
        let every = Duration::from_secs(1).checked_div(a_second).unwrap_or_default();
        let count = u32::try_from(time.as_secs()).unwrap_or_default().saturating_mul(a_second);
        Self { count, every, at_once: usize::try_from(count).unwrap_or_default() }
    }

    /// How many.
    pub fn calls(self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }
}

/// Sends; a call that is not answered at all is an error.
pub async fn send(address: SocketAddr, request: &Request<Bytes>, pace: Pace) -> anyhow::Result<Outcomes> {
    let start = Instant::now();
    let idle = Idle::default();
    let places = Arc::new(Semaphore::new(pace.at_once.max(1)));
    let mut calls = JoinSet::new();
    for number in 0..pace.count {
        if let Some(due) = start.checked_add(pace.every.saturating_mul(number)) {
            tokio::time::sleep_until(due).await;
        }
        let place = Arc::clone(&places).acquire_owned().await?;
        let (idle, request) = (Arc::clone(&idle), request.clone());
        calls.spawn(async move {
            let outcome = one(address, request, &idle, start).await;
            drop(place);
            outcome
        });
    }
    let mut outcomes = Vec::new();
    while let Some(outcome) = calls.join_next().await {
        outcomes.push(outcome??);
    }
    outcomes.sort_by_key(|outcome| outcome.at);
    Ok(Outcomes(outcomes))
}

async fn one(
    address: SocketAddr,
    request: Request<Bytes>,
    idle: &Idle,
    start: Instant,
) -> anyhow::Result<Outcome> {
    let sent = Instant::now();
    let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut connection = match kept {
        Some(connection) => connection,
        None => Http1::connect(address).await?,
    };
    let answer = connection.call(request).await?;
    let (at, took) = (start.elapsed(), sent.elapsed());
    if !answer.closes() {
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
    Ok(Outcome { status: answer.status, reason: answer.reason(), at, took })
}

// === impl Outcomes ===

impl Outcomes {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many the model server answered.
    pub fn served(&self) -> usize {
        self.0.iter().filter(|outcome| outcome.status == 200).count()
    }

    /// How often each reason came.
    pub fn refused(&self) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        for reason in self.0.iter().filter_map(|outcome| outcome.reason.clone()) {
            play::count(&mut counted, reason);
        }
        counted
    }

    /// The first that was refused, and which one it was.
    pub fn first_refused(&self) -> Option<(usize, &Outcome)> {
        (1..).zip(&self.0).find(|(_, outcome)| outcome.status != 200)
    }

    /// Later ones too.
    pub fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// When the last was answered, since the first was sent.
    pub fn lasted(&self) -> Duration {
        self.0.last().map(|outcome| outcome.at).unwrap_or_default()
    }

    /// The time within which so many of a hundred were answered (nearest rank).
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut took: Vec<Duration> = self.0.iter().map(|outcome| outcome.took).collect();
        took.sort();
        let rank = took.len().saturating_mul(percent).div_ceil(100);
        took.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_calls_the_99th_is_the_99th_percentile() {
        let outcome = |took| Outcome { status: 200, reason: None, at: Duration::ZERO, took };
        let outcomes = Outcomes((1..=100).rev().map(|ms| outcome(Duration::from_millis(ms))).collect());
        assert_eq!(outcomes.percentile(50), Duration::from_millis(50));
        assert_eq!(outcomes.percentile(99), Duration::from_millis(99));
        assert_eq!(Outcomes::default().percentile(99), Duration::ZERO);
    }
}
