//! Sealed events on their way, and what a reply says of them.

use std::collections::VecDeque;

use crate::audit::chain::Seal;
use crate::host::CalloutId;
use crate::time::Monotonic;

/// Events of one batch.
pub const MAX_BATCH_EVENTS: usize = 1_000;

/// Bytes of one batch; the event that crosses it still belongs to it.
pub const MAX_BATCH_BYTES: usize = 1 << 20;

/// Events of one batch when the trail ends: at exit only a connection that is already there delivers, so
/// everything should go in one call. Collectors must take this much.
pub const MAX_LAST_BATCH_EVENTS: usize = 20_000;

/// Bytes of one batch when the trail ends.
pub const MAX_LAST_BATCH_BYTES: usize = 4 << 20;

/// Sealed events that are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) chain: String,
    pub(super) body: Vec<u8>,
    /// With the end of each event in `body`.
    pub(super) seals: VecDeque<(Seal, usize)>,
    pub(super) flight: Option<Flight>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) id: CalloutId,
    pub(super) deadline: Monotonic,
}

/// What a reply means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Everything up to this number is on disk.
    Acked(u64),
    /// The collector will never take this.
    Refused(u16),
    /// It may take it later.
    Failed,
}

// === impl Reply ===

impl Reply {
    pub(super) fn read(status: Option<u16>, body: &[u8], chain: &str) -> Self {
        match status {
            Some(200..=299) => serde_json::from_slice::<serde_json::Value>(body)
                .ok()
                .and_then(|reply| reply.get("acked")?.get(chain)?.as_u64())
                .map_or(Self::Failed, Self::Acked),
            None | Some(408 | 425 | 429 | 500..) => Self::Failed,
            Some(status) => Self::Refused(status),
        }
    }
}

// === impl Batch ===

impl Batch {
    pub(super) fn of(chain: &str) -> Self {
        Self { chain: chain.to_owned(), ..Self::default() }
    }

    pub(super) fn is_full(&self, last: bool) -> bool {
        let (events, bytes) = if last {
            (MAX_LAST_BATCH_EVENTS, MAX_LAST_BATCH_BYTES)
        } else {
            (MAX_BATCH_EVENTS, MAX_BATCH_BYTES)
        };
        self.seals.len() >= events || self.body.len() >= bytes
    }

    /// Forgets events up to `seq`; whether there were any.
    pub(super) fn acknowledge(&mut self, seq: u64) -> bool {
        let mut end = 0;
        while let Some((seal, at)) = self.seals.front()
            && seal.seq <= seq
        {
            end = *at;
            self.seals.pop_front();
        }
        self.body.drain(..end.min(self.body.len()));
        for (_, at) in &mut self.seals {
            *at = at.saturating_sub(end);
        }
        end > 0
    }
}
