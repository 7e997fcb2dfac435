//! Charges of callers become values in shared data: a table of fixed size, so that a million identities take no more
//! memory than a few. It knows tags and rates, not who stands behind them.
//!
//! Shared data never forgets a key, so keys name buckets, not callers: `mlgate/1/<gate>/<kind>/<bucket, hex>`. A bucket
//! has [`WAYS`] entries of [`ENTRY_BYTES`]: the 128-bit tag of a caller at a limit and its TATs. An entry passes to
//! another caller only when all of its TATs lie in the past, which is the same as never charged: nobody who is over a
//! limit is ever forgotten. When every way of a bucket is live, newcomers of one limit and tier share an overflow entry
//! of that bucket, and whoever then gets a way of its own begins with what stands there. So a full table only ever
//! makes limits stricter, it never admits more.
//!
//! Memory (`Table::max_bytes`): buckets × (key + 1 + 48 × (8 + one for each tier's rates of each limit in the
//! table)). With the default 65,536 and 16,384 slots and five limits each: 5.4 MB and 1.4 MB, plus the host's own
//! overhead for 10,240 keys.

use std::cell::Cell;

use crate::host::{Host, HostError, Version};
use crate::limits::gcra::{self, Rate, Tats, Verdict};

use bucket::Bucket;
pub(crate) use bucket::Place;
pub use bucket::{ENTRY_BYTES, WAYS};

mod bucket;

/// A caller at a limit, as a keyed 128-bit digest.
pub(crate) type Tag = [u8; 16];

/// One table of slots.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    prefix: String,
    buckets: u64,
    overflow: usize,
    attempts: u32,
}

/// What is charged in one compare-and-set.
#[derive(Clone, Copy)]
pub(crate) struct Bill<'a> {
    /// Who is charged.
    pub(crate) tag: Tag,
    /// Who is charged where no slot is left; only asked where it matters.
    pub(crate) overflow: &'a dyn Fn() -> Tag,
    /// By which rates.
    pub(crate) rates: &'a [Rate],
    /// Requests.
    pub(crate) cost: u64,
}

/// Where a charge went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Charged {
    /// In which bucket.
    pub(crate) bucket: u64,
    /// To whom; the overflow's where there was no slot.
    pub(crate) tag: Tag,
    /// When, in nanoseconds of the monotonic clock.
    pub(crate) at: u64,
}

/// Nobody could say: compare-and-set kept failing, or shared data did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// What was worse than it should be while charging.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// No slot was left.
    pub(crate) overflow: Cell<bool>,
    /// A value was not ours, and counts as never written.
    pub(crate) corrupt: Cell<bool>,
}

// === impl Table ===

impl Table {
    /// A table of at most `slots` callers, and at most one key for each [`WAYS`] of them. `overflow` is how many
    /// different rates charge to it, `attempts` the bound of each charge.
    pub(crate) fn new(gate: &str, kind: &str, slots: u32, overflow: usize, attempts: u32) -> Self {
        let ways = u32::try_from(WAYS).unwrap_or(1);
        Self {
            prefix: format!("mlgate/1/{gate}/{kind}/"),
            buckets: u64::from(slots.checked_div(ways).unwrap_or(1).max(1)),
            overflow,
            attempts: attempts.max(1),
        }
    }

    /// The most that keys and values can hold, in bytes, without the host's overhead for each key.
    pub(crate) fn max_bytes(&self) -> u64 {
        let entries = WAYS.saturating_add(self.overflow);
        let value = ENTRY_BYTES.saturating_mul(entries).saturating_add(1);
        let key = self.key(self.buckets).len();
        self.buckets.saturating_mul(u64::try_from(value.saturating_add(key)).unwrap_or(u64::MAX))
    }

    /// The most keys there can be.
    pub(crate) const fn max_keys(&self) -> u64 {
        self.buckets
    }

    /// Charges a bill: one read and one compare-and-set unless another worker comes between; a refusal only reads.
    pub(crate) fn charge(
        &self,
        bill: &Bill<'_>,
        host: &dyn Host,
        trouble: &Trouble,
    ) -> Result<(Verdict, Charged), Unavailable> {
        self.update(&bill.tag, bill.overflow, host, trouble, |place, now| {
            trouble.overflow.set(trouble.overflow.get() || place.shared);
            let verdict = gcra::charge(&place.tats, bill.rates, now, bill.cost);
            let tats = match verdict {
                Verdict::Admitted { tats, .. } => Some(tats),
                Verdict::Refused { .. } => None,
            };
            (tats, verdict)
        })
    }

    /// Looks at the entry of a tag and, where `change` says so, writes what it becomes, in one compare-and-set.
    pub(crate) fn update<T>(
        &self,
        tag: &Tag,
        overflow: &dyn Fn() -> Tag,
        host: &dyn Host,
        trouble: &Trouble,
        change: impl Fn(&Place, u64) -> (Option<Tats>, T),
    ) -> Result<(T, Charged), Unavailable> {
        let bucket = self.bucket_of(tag);
        let key = self.key(bucket);
        for _ in 0..self.attempts {
            let (mut entries, version) = read(&key, host, trouble)?;
            // the clock is read after the value: whoever wrote it took its time before, so none of it is ahead of ours
            let now = host.monotonic().nanos();
            let place = entries.place(tag, overflow, self.overflow, now);
            let charged = Charged { bucket, tag: place.tag, at: now };
            let (tats, told) = change(&place, now);
            let Some(tats) = tats else { return Ok((told, charged)) };
            entries.put(place.index, &place.tag, &tats);
            if write(&key, &entries, version, host)? {
                return Ok((told, charged));
            }
        }
        Err(Unavailable)
    }

    /// Gives a charge back. Where it fails the caller is charged for what it did not get, never the other way round.
    pub(crate) fn refund(
        &self,
        charged: &Charged,
        prices: &Tats,
        host: &dyn Host,
        trouble: &Trouble,
    ) -> Result<(), Unavailable> {
        let key = self.key(charged.bucket);
        for _ in 0..self.attempts {
            let (mut entries, version) = read(&key, host, trouble)?;
            let elapsed = host.monotonic().nanos().saturating_sub(charged.at);
            // an entry that passed to somebody else had been paid off
            let Some((index, mut tats)) = entries.find(&charged.tag) else { return Ok(()) };
            gcra::refund(&mut tats, prices, elapsed);
            entries.put(index, &charged.tag, &tats);
            if write(&key, &entries, version, host)? {
                return Ok(());
            }
        }
        Err(Unavailable)
    }

    /// The tag is compared whole, so its bits may choose the bucket too: two callers share an entry only if all 128
    /// are equal.
    fn bucket_of(&self, tag: &Tag) -> u64 {
        let [low, ..] = *tag.as_chunks::<8>().0 else { return 0 };
        u64::from_le_bytes(low).checked_rem(self.buckets).unwrap_or(0)
    }

    fn key(&self, bucket: u64) -> String {
        format!("{}{bucket:x}", self.prefix)
    }
}

fn read(key: &str, host: &dyn Host, trouble: &Trouble) -> Result<(Bucket, Version), Unavailable> {
    let Some(read) = host.shared(key).map_err(|_| Unavailable)? else {
        return Ok((Bucket::default(), Version::Absent));
    };
    let bucket = Bucket::read(read.value).unwrap_or_else(|_| {
        trouble.corrupt.set(true);
        Bucket::default()
    });
    Ok((bucket, read.version))
}

/// Whether it was written; `false`: somebody else was faster.
fn write(key: &str, bucket: &Bucket, version: Version, host: &dyn Host) -> Result<bool, Unavailable> {
    match host.compare_and_set(key, bucket.bytes(), version) {
        Ok(()) => Ok(true),
        Err(HostError::Conflict) => Ok(false),
        Err(_) => Err(Unavailable),
    }
}

#[cfg(test)]
#[expect(clippy::as_conversions, reason = "counts of a test are small")]
mod tests;
