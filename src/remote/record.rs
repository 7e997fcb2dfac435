//! What is shared about one document: a small head in one value, its bodies in two others.
//!
//! The head names the body by its digest and is sealed; the body lies under the head's key and `/0` or `/1`, in turn,
//! so that the one that a head names is whole while the next is being written. Looking whether anything changed reads
//! the head alone, whatever the size of the body.
//!
//! ```text
//! layout 1 │ generation u64 │ attempts u64 │ ended u64 │ outcome u8 │ lease: nonce 16, expiry u64
//!          │ fetched: wall i64, monotonic u64, digest 32, length u32 │ etag: length u8, bytes │ (seal)
//! ```
//!
//! Numbers are little endian, times monotonic nanoseconds but for the wall clock's milliseconds. A `generation` of 0 is
//! a document that was never fetched.

use std::time::Duration;

use crate::time::{Monotonic, UnixTime};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Fetches that ended, however.
    pub attempts: u64,
    /// When the last of them ended.
    pub ended: Monotonic,
    /// And how.
    pub outcome: Outcome,
    /// Who is fetching.
    pub lease: Option<Lease>,
    /// The last success.
    pub success: Option<Success>,
}

/// A body that was read and found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success {
    /// Rises with each new body; never zero.
    pub generation: u64,
    /// When its source last said that it is the newest, by the wall clock.
    pub at: UnixTime,
    /// The same by the monotonic clock.
    pub since: Monotonic,
    /// SHA-256 of the body.
    pub digest: [u8; 32],
    /// Bytes of the body.
    pub length: u32,
    /// `ETag`, as it came; empty where there was none.
    pub etag: String,
}

/// The right to fetch: one fetch at a time per process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it: random.
    pub nonce: [u8; 16],
    /// When it ends by itself.
    pub expires: Monotonic,
}

/// How the last fetch ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// None has ended.
    #[default]
    None,
    /// A body that is used, or the same as before.
    Good,
    /// The call could not be started, or nobody answered.
    NoAnswer,
    /// An answer of another status.
    Status,
    /// A body larger than may be.
    TooLarge,
    /// A body that says nothing usable.
    Unreadable,
}

/// First byte of a head.
const LAYOUT: u8 = 1;

/// The longest `ETag` that is kept, in bytes.
pub const MAX_ETAG: usize = 255;

// === impl Record ===

impl Record {
    /// As bytes.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = vec![LAYOUT];
        let success = self.success.as_ref();
        bytes.extend(success.map_or(0, |success| success.generation).to_le_bytes());
        bytes.extend(self.attempts.to_le_bytes());
        bytes.extend(self.ended.nanos().to_le_bytes());
        bytes.push(self.outcome.code());
        let lease = self.lease.unwrap_or(Lease { nonce: [0; 16], expires: Monotonic::default() });
        bytes.extend(lease.nonce);
        bytes.extend(lease.expires.nanos().to_le_bytes());
        bytes.extend(success.map_or(0, |success| success.at.millis()).to_le_bytes());
        bytes.extend(success.map_or(0, |success| success.since.nanos()).to_le_bytes());
        bytes.extend(success.map_or([0; 32], |success| success.digest));
        bytes.extend(success.map_or(0, |success| success.length).to_le_bytes());
        let etag = success.map_or("", |success| success.etag.as_str());
        // INVARIANT: nobody keeps a longer one
        bytes.push(u8::try_from(etag.len()).unwrap_or(0));
        bytes.extend_from_slice(etag.as_bytes().get(..etag.len().min(MAX_ETAG)).unwrap_or_default());
        bytes
    }

    /// What was written; `None` for anything else.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        if rest.take::<1>()? != [LAYOUT] {
            return None;
        }
        let generation = rest.number()?;
        let attempts = rest.number()?;
        let ended = Monotonic::from_nanos(rest.number()?);
        let [outcome] = rest.take()?;
        let outcome = Outcome::ALL.into_iter().find(|known| known.code() == outcome)?;
        let nonce = rest.take()?;
        let expires = Monotonic::from_nanos(rest.number()?);
        let at = UnixTime::from_millis(i64::from_le_bytes(rest.take()?));
        let since = Monotonic::from_nanos(rest.number()?);
        let digest = rest.take()?;
        let length = u32::from_le_bytes(rest.take()?);
        let [size] = rest.take()?;
        let etag = rest.0;
        if etag.len() != usize::from(size) {
            return None;
        }
        let etag = String::from_utf8(etag.to_vec()).ok()?;
        let lease = (expires != Monotonic::default()).then_some(Lease { nonce, expires });
        let success = (generation != 0).then_some(Success { generation, at, since, digest, length, etag });
        Some(Self { attempts, ended, outcome, lease, success })
    }

    /// Whether somebody is fetching. A lease that would end later than one can is no lease: `longest` is what its taker
    /// may have asked for.
    pub fn is_leased(&self, longest: Duration, now: Monotonic) -> bool {
        self.lease.is_some_and(|lease| now < lease.expires && lease.expires <= now.plus(longest))
    }
}

// === impl Success ===

impl Success {
    /// How old it is by whichever clock says more: neither a clock that is set back nor a machine that slept makes a
    /// document younger.
    pub fn age(&self, wall: UnixTime, now: Monotonic) -> Duration {
        let wall = wall.millis().saturating_sub(self.at.millis());
        now.since(self.since).max(Duration::from_millis(u64::try_from(wall).unwrap_or(0)))
    }

    /// Key of its body in shared data.
    pub(super) fn body_key(&self, key: &str) -> String {
        format!("{key}/{}", self.generation & 1)
    }
}

// === impl Outcome ===

impl Outcome {
    const ALL: [Self; 6] =
        [Self::None, Self::Good, Self::NoAnswer, Self::Status, Self::TooLarge, Self::Unreadable];

    const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Good => 1,
            Self::NoAnswer => 2,
            Self::Status => 3,
            Self::TooLarge => 4,
            Self::Unreadable => 5,
        }
    }

    /// Whether the last fetch failed.
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::None | Self::Good)
    }
}

/// Bytes that are taken off one by one.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Record {
        Record {
            attempts: 7,
            ended: Monotonic::from_nanos(5),
            outcome: Outcome::TooLarge,
            lease: Some(Lease { nonce: [9; 16], expires: Monotonic::from_nanos(11) }),
            success: Some(Success {
                generation: 3,
                at: UnixTime::from_millis(1_000),
                since: Monotonic::from_nanos(4),
                digest: [8; 32],
                length: 77,
                etag: String::from("W/\"x\""),
            }),
        }
    }

    #[test]
    fn a_record_survives_its_bytes_and_nothing_else_is_one() {
        for record in [Record::default(), full(), Record { success: None, ..full() }] {
            let bytes = record.write();
            assert_eq!(Record::read(&bytes), Some(record));
            for length in 0..bytes.len() {
                assert_eq!(Record::read(&bytes[..length]), None, "{length}");
            }
            assert_eq!(Record::read(&[&bytes[..], &[0]].concat()), None);
            assert_eq!(Record::read(&[&[2], &bytes[1..]].concat()), None);
        }
    }

    #[test]
    fn a_lease_ends_and_none_is_longer_than_allowed() {
        let longest = Duration::from_nanos(10);
        let at = Monotonic::from_nanos;
        assert!(full().is_leased(longest, at(10)));
        assert!(!full().is_leased(longest, at(11)));
        assert!(!full().is_leased(longest, at(0)), "it would end in 11");
        assert!(!Record::default().is_leased(longest, at(0)));
    }

    #[test]
    fn an_age_is_what_the_later_clock_says() {
        let success = full().success.unwrap();
        let (wall, now) = (UnixTime::from_millis, Monotonic::from_nanos);
        assert_eq!(success.age(wall(0), now(9)), Duration::from_nanos(5));
        assert_eq!(success.age(wall(3_000), now(9)), Duration::from_secs(2));
    }
}
