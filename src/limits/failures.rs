//! Wrong credentials become a block of their source, so that neither guessing nor forging is worth its while: after
//! `limit` of them in a `window` nothing costly is done for that source for the time of `block`.
//!
//! Sources are counted apart in a slot table of their own, all workers of one Envoy together and exactly: each failure is
//! one compare-and-set of one value. Unlike a limit, this one never makes anybody pay for others: a source that finds no
//! slot is not counted, and one that is not known neither. It protects the proxy's time and opens nothing by itself, so
//! that without shared data everything goes on as if it were not configured, and says so.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::document::BoundsSpec;
use crate::config::faults::Faults;
use crate::host::Host;
use crate::identity::spec::FailuresSpec;
use crate::limits::Degraded;
use crate::limits::gcra::{self, CLOCK_SLACK, Rate, Tats, Verdict};
use crate::limits::key::{Agreed, Network, source_tag};
use crate::limits::slots::{Table, Trouble, Unavailable};

/// See the module.
#[derive(Debug)]
pub struct Failures {
    rate: Rate,
    block: u64,
    table: Table,
    hash_key: Agreed,
}

/// What is known of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// For how much longer nothing costly is done for it; `None`: it is as good as any.
    pub blocked: Option<Duration>,
    /// Why nobody could say, or what was said could not be kept.
    pub degraded: Option<Degraded>,
}

/// The longest `block`.
pub const MAX_BLOCK: Duration = Duration::from_secs(24 * 3600);

const POINTER: &str = "/authentication/failures";

/// The `<kind>` of the keys of its table.
const KIND: &str = "failure_slots";

/// Nobody shares an entry.
const NO_OVERFLOW: usize = 0;

/// Which of an entry's numbers counts failures, and which is the end of the block, both in nanoseconds of the monotonic
/// clock: an entry is free when both have passed.
type Entry = (u64, u64);

// === impl Failures ===

impl Failures {
    /// Compiles `authentication.failures` of the gate called `gate`. `shared_key` is the first of
    /// `shared_data.keys`. `None` where there is none, or where it is at fault.
    pub fn compile(
        spec: Option<&FailuresSpec>,
        gate: &str,
        bounds: &BoundsSpec,
        shared_key: Option<&[u8]>,
        faults: &mut Faults,
    ) -> Option<Self> {
        let spec = spec?;
        if spec.block.0 > MAX_BLOCK {
            faults.at(format!("{POINTER}/block"), "the block is too long", "write at most 24h");
        }
        let rate = Rate::new(spec.limit, spec.window.0, spec.limit);
        let rate = rate.map_err(|invalid| {
            faults.at(format!("{POINTER}/{}", invalid.field()), invalid.to_string(), invalid.remedy());
        });
        Some(Self {
            rate: rate.ok()?,
            block: u64::try_from(spec.block.0.as_nanos()).unwrap_or(u64::MAX),
            table: Table::new(gate, KIND, bounds.source_slots, NO_OVERFLOW, bounds.cas_retries),
            hash_key: Agreed::new(gate, bounds.cas_retries, shared_key),
        })
    }

    /// Whether something costly may be done for a source.
    pub fn look(&self, source: Option<IpAddr>, host: &dyn Host) -> Standing {
        source.map_or_else(Standing::default, |source| self.ask(source, host, |_, _| None))
    }

    /// Counts a wrong credential. A source that is blocked already is not counted, and its block is not prolonged: what it
    /// was told of its end stays true.
    pub fn count(&self, source: Option<IpAddr>, host: &dyn Host) -> Standing {
        let Some(source) = source else {
            return Standing { blocked: None, degraded: Some(Degraded::FailureSource) };
        };
        self.ask(source, host, |(tat, _), now| {
            let stored = [tat, 0, 0, 0];
            let Verdict::Admitted { tats: [tat, ..], quota } =
                gcra::charge(&stored, std::slice::from_ref(&self.rate), now, 1)
            else {
                // a look-up between two blocks of which the first was shorter than the window
                return Some((tat, now.saturating_add(self.block)));
            };
            let is_last = quota.is_some_and(|quota| quota.remaining == 0);
            Some((tat, if is_last { now.saturating_add(self.block) } else { 0 }))
        })
    }

    /// The most keys it leaves in shared data.
    pub const fn max_keys(&self) -> u64 {
        self.table.max_keys()
    }

    /// The most bytes of keys and values it leaves in shared data.
    pub fn max_bytes(&self) -> u64 {
        self.table.max_bytes()
    }

    /// Looks at a source's entry, and changes it where it is not blocked.
    fn ask(&self, source: IpAddr, host: &dyn Host, change: impl Fn(Entry, u64) -> Option<Entry>) -> Standing {
        let trouble = Trouble::default();
        let asked = self.hash_key.find(host).and_then(|hash_key| {
            let tag = source_tag(hash_key, "authentication.failures", Network::of(source));
            self.table.update(&tag, &|| tag, host, &trouble, |place, now| {
                // behind the last way there is nobody's entry
                let [tat, until, ..] = if place.shared { Tats::default() } else { place.tats };
                let left = until.saturating_sub(now);
                // one further ahead comes of a clock that went back, or of a longer block before a reload
                if left > 0 && left <= self.block.saturating_add(CLOCK_SLACK) {
                    return (None, Standing { blocked: Some(Duration::from_nanos(left)), degraded: None });
                }
                match change((tat, until), now) {
                    Some(_) if place.shared => {
                        (None, Standing { blocked: None, degraded: Some(Degraded::FailureSlots) })
                    }
                    Some((tat, until)) => (Some([tat, until, 0, 0]), Standing::default()),
                    None => (None, Standing::default()),
                }
            })
        });
        match asked {
            Ok((standing, _)) if trouble.corrupt.get() => {
                Standing { degraded: standing.degraded.or(Some(Degraded::Corrupt)), ..standing }
            }
            Ok((standing, _)) => standing,
            Err(Unavailable) => Standing { blocked: None, degraded: Some(Degraded::Failures) },
        }
    }
}

#[cfg(test)]
mod tests;
