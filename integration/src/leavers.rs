//! Callers that leave before their answer, each after a time of its own: the same in every run.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{self, Http2};

/// How they come and go.
#[derive(Clone, Copy, Debug)]
pub struct Leavers {
    /// Where they call.
    pub address: SocketAddr,
    /// Connections at the same time.
    pub at_once: usize,
    /// The longest that one of them stays.
    pub longest: Duration,
}

/// A request, and what of its body is sent at once; `None`: it has none.
pub type Asked = (Request<()>, Option<Bytes>);

/// xorshift64.
struct Random(u64);

const SEED: u64 = 0x6d6c_6761_7465;

// === impl Leavers ===

impl Leavers {
    /// One connection for each of these requests in HTTP/1.1; about half end by RST, the others by FIN.
    pub async fn over_http1(self, requests: Vec<Asked>) -> anyhow::Result<()> {
        let mut texts = Vec::with_capacity(requests.len());
        for (request, body) in requests {
            let mut text =
                format!("{} {} HTTP/1.1\r\nhost: a\r\n", request.method(), request.uri()).into_bytes();
            for (name, value) in request.headers() {
                text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
            }
            text.extend_from_slice(b"\r\n");
            text.extend_from_slice(&body.unwrap_or_default());
            texts.push(text);
        }
        let mut lanes = JoinSet::new();
        for (lane, texts) in dealt(texts, self.at_once).into_iter().enumerate() {
            lanes.spawn(async move {
                let mut random = Random::seeded(lane);
                for text in texts {
                    let reset = random.below(2) == 0;
                    client::abandon(self.address, &text, random.stay(self.longest), reset).await?;
                }
                anyhow::Ok(())
            });
        }
        join(lanes).await
    }

    /// So many of these requests on each connection in HTTP/2: their streams are reset one by one, and every third
    /// connection closes with all that are left of them.
    pub async fn over_http2(self, requests: Vec<Asked>, streams: usize) -> anyhow::Result<()> {
        let mut requests = requests.into_iter();
        let mut batches = Vec::new();
        loop {
            let batch: Vec<Asked> = requests.by_ref().take(streams.max(1)).collect();
            if batch.is_empty() {
                break;
            }
            batches.push(batch);
        }
        let mut lanes = JoinSet::new();
        for (lane, batches) in dealt(batches, self.at_once).into_iter().enumerate() {
            lanes.spawn(async move {
                let mut random = Random::seeded(lane.saturating_add(usize::from(u16::MAX)));
                for (number, batch) in batches.into_iter().enumerate() {
                    self.connection(batch, number.is_multiple_of(3), &mut random).await?;
                }
                anyhow::Ok(())
            });
        }
        join(lanes).await
    }

    async fn connection(self, batch: Vec<Asked>, closes: bool, random: &mut Random) -> anyhow::Result<()> {
        let mut connection = Http2::connect(self.address).await?;
        let mut streams = JoinSet::new();
        for (request, body) in batch {
            let mut call = connection.open(request, body.is_none()).await?;
            if let Some(body) = body {
                call.send(body, false)?;
            }
            let stay = random.stay(self.longest);
            streams.spawn(async move {
                sleep(stay).await;
                drop(call);
                anyhow::Ok(())
            });
        }
        if closes {
            sleep(random.stay(self.longest)).await;
            drop(connection);
            return join(streams).await;
        }
        join(streams).await
    }
}

// === impl Random ===

impl Random {
    fn seeded(lane: usize) -> Self {
        let lane = u64::try_from(lane).unwrap_or(0).wrapping_add(1);
        Self(SEED ^ lane.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11).checked_rem(bound).unwrap_or(0)
    }

    fn stay(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(longest.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// What each of so many lanes does.
fn dealt<T>(work: Vec<T>, lanes: usize) -> Vec<Vec<T>> {
    let lanes = lanes.max(1);
    let mut dealt: Vec<Vec<T>> = std::iter::repeat_with(Vec::new).take(lanes).collect();
    for (number, one) in work.into_iter().enumerate() {
        if let Some(lane) = number.checked_rem(lanes).and_then(|lane| dealt.get_mut(lane)) {
            lane.push(one);
        }
    }
    dealt
}

async fn join(mut tasks: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}
