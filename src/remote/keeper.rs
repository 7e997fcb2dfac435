//! One document in one worker: what is known of it, when it is due, who fetches it.
//!
//! ```text
//!            tick, or a request while there is nothing
//! record ───────────────▶ look ──▶ a new digest? read the body, check it, parse it once
//!    ▲                      │
//!    │                      └────▶ due, and nobody has the lease? take it, dispatch
//!    └── seal ◀── parse ◀── answer (or none in time)
//! ```
//!
//! When a fetch is due: at once while there is nothing; `interval` after the last success; then after each failure
//! `failed_refetch` later; and where a request wants one, `cooldown` after the last fetch of whichever worker. A failed
//! fetch changes nothing but when the next one is due.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::host::{Body, Callout, CalloutId, Host, HostError, Level, Version};
use crate::remote::record::{Lease, MAX_ETAG, Outcome, Record, Success};
use crate::remote::store::Store;
use crate::remote::{Generation, MAX_BYTES, Source};
use crate::time::Monotonic;

#[cfg(test)]
mod tests;

/// A kind of document.
pub trait Kind {
    /// What its bytes become.
    type Document;
    /// Reads the bytes; what it gives is used until other bytes give something. A document that is of no use is
    /// unreadable: it must not take the place of one that is.
    ///
    /// # Errors
    /// Why these are not a document, in our own words: they are logged.
    fn read(&self, body: &[u8]) -> Result<Self::Document, Unreadable>;
}

/// Why bytes are not a document. Never holds any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

/// See the module.
pub struct Keeper<K: Kind> {
    kind: K,
    /// How lines of the log call it.
    about: String,
    source: Source,
    key: String,
    store: Store,
    /// What stands in the store, as far as it is believed.
    record: Record,
    /// The version of what stands there, believed or not; `None` before the first look.
    seen: Option<Version>,
    held: Option<Held<K::Document>>,
    /// The body that the record names is not there.
    is_broken: bool,
    flight: Option<Flight>,
    /// When this worker last began a fetch.
    began: Option<Monotonic>,
    /// Rises when a fetch has ended, of whichever worker.
    turn: u64,
    is_wanted: bool,
}

/// A document that is used, whatever becomes of the record.
struct Held<D> {
    document: Rc<D>,
    success: Success,
}

/// A fetch of this worker's.
#[derive(Clone, Copy, Debug)]
struct Flight {
    call: CalloutId,
    nonce: [u8; 16],
    deadline: Monotonic,
    /// The digest of the body that the source was asked to compare with.
    conditional: Option<[u8; 32]>,
}

/// An answer to a callout. Its body is read from the host when it is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// `:status`; `None` where there was no answer.
    pub status: Option<u16>,
    /// `ETag` (RFC 9110 §8.8.3).
    pub etag: Option<&'a str>,
    /// Bytes of the body.
    pub size: usize,
}

/// Whether waiting for a fetch is worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One is running, or the next tick starts one.
    Coming,
    /// None may start before this time has passed.
    After(Duration),
}

/// How a fetch ended.
enum End<D> {
    /// A body, and what it became.
    New { body: Vec<u8>, document: Rc<D>, digest: [u8; 32], etag: String },
    /// The source says that nothing has changed.
    Unchanged([u8; 32]),
    /// Why not, and for the log.
    Failed(Outcome, String),
}

/// After its timeout, how long a callout without an answer is waited for. Shorter than the lease's margin: the failure
/// must be recorded while the lease is held.
const GRACE: Duration = Duration::from_millis(500);

/// Tries to write what only the holder of the lease writes.
const ATTEMPTS: usize = 4;

// === impl Keeper ===

impl<K: Kind> Keeper<K> {
    /// A keeper that has not looked yet. `key` is of [`crate::remote::shared_key`], `about` what lines of the log call
    /// the document: `keys of corp`.
    pub fn new(kind: K, about: String, source: Source, key: String, store: Store) -> Self {
        Self {
            kind,
            about,
            source,
            key,
            store,
            record: Record::default(),
            seen: None,
            held: None,
            is_broken: false,
            flight: None,
            began: None,
            turn: 0,
            is_wanted: false,
        }
    }

    /// Where the document lives.
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// Looks, and fetches what is due. Only the root may call this.
    pub fn tick(&mut self, host: &dyn Host) {
        let now = host.monotonic();
        if let Some(flight) = self.flight.take_if(|flight| flight.deadline <= now) {
            self.end(flight.nonce, End::Failed(Outcome::NoAnswer, String::from("no answer in time")), host);
        }
        self.look(host);
        if self.flight.is_none() && self.is_due(host) {
            self.fetch(host);
        }
    }

    /// A callout was answered. Whether it was one of this keeper's. Only the root may call this.
    pub fn on_reply(&mut self, call: CalloutId, reply: &Reply<'_>, host: &dyn Host) -> bool {
        let Some(flight) = self.flight.take_if(|flight| flight.call == call) else { return false };
        let end = self.read_reply(&flight, reply, host);
        self.end(flight.nonce, end, host);
        true
    }

    /// The document, unless nothing is known of it or `max_stale` is over. A request may call this, and looks itself
    /// while there is nothing, so that none waits for a tick to find what others have fetched.
    pub fn document(&mut self, host: &dyn Host) -> Option<&Rc<K::Document>> {
        if self.held.is_none() {
            self.look(host);
        }
        let over = self.age(host).is_none_or(|age| age >= self.source.max_stale);
        self.held.as_ref().filter(|_| !over).map(|held| &held.document)
    }

    /// Which content [`Keeper::document`] has.
    pub fn generation(&self) -> Generation {
        self.held.as_ref().map_or(Generation::NONE, |held| Generation::of(&held.success.digest))
    }

    /// Since when nobody has said that the document is the newest; `None` where there is none.
    pub fn age(&self, host: &dyn Host) -> Option<Duration> {
        Some(self.held.as_ref()?.success.age(host.unix_time(), host.monotonic()))
    }

    /// Whether the document is used although a newer one could not be had in time.
    pub fn is_stale(&self, host: &dyn Host) -> bool {
        self.record.outcome.is_failure() && self.age(host).is_some_and(|age| age >= self.source.interval)
    }

    /// Rises when this keeper learns that a fetch has ended, of whichever worker. What a request waits for has come, or
    /// will not, when this is another than when it began.
    pub const fn turn(&self) -> u64 {
        self.turn
    }

    /// Whether the last of them failed.
    pub const fn has_failed(&self) -> bool {
        self.record.outcome.is_failure()
    }

    /// A request wants a fetch. It may wait for one, or is told when there may be another.
    pub fn want(&mut self, host: &dyn Host) -> Wanted {
        self.look(host);
        if self.flight.is_some() || self.is_leased(host) {
            return Wanted::Coming;
        }
        let wait = self.wait(true, host);
        if wait.is_zero() {
            self.is_wanted = true;
            Wanted::Coming
        } else {
            Wanted::After(wait)
        }
    }

    /// How long until the next fetch, for whoever cannot wait.
    pub fn retry_after(&self, host: &dyn Host) -> Duration {
        self.wait(false, host)
    }

    /// Looks whether the record has changed, and takes over a body that is new.
    pub fn look(&mut self, host: &dyn Host) {
        let Ok(read) = self.store.read(&self.key, host) else { return };
        let version = read.as_ref().map_or(Version::Absent, |read| read.version);
        if self.seen == Some(version) {
            return;
        }
        self.seen = Some(version);
        // what nobody with a key wrote counts as nothing, and so does what somebody wrote again that was there before
        let sealed = read.map(|read| read.value).unwrap_or_default();
        let before = self.record.attempts;
        let record = self.store.open(&self.key, &sealed).and_then(Record::read);
        self.record = record.filter(|record| !self.is_replayed(record)).unwrap_or_default();
        if self.record.attempts != before {
            self.turn = self.turn.saturating_add(1);
            self.is_wanted = false;
        }
        self.adopt(host);
    }

    /// Whether a record is older than the document: of one clock, whoever has the lease writes ever later times.
    fn is_replayed(&self, record: &Record) -> bool {
        match (&record.success, &self.held) {
            (Some(written), Some(held)) => written.since < held.success.since,
            _ => false,
        }
    }

    /// Makes the record's body the document, if it is another than before.
    fn adopt(&mut self, host: &dyn Host) {
        let Some(success) = &self.record.success else { return };
        if let Some(held) = self.held.as_mut().filter(|held| held.success.digest == success.digest) {
            held.success.clone_from(success);
            self.is_broken = false;
            return;
        }
        let body = self.store.read(&success.body_key(&self.key), host).ok().flatten();
        let body = body.map(|body| body.value).unwrap_or_default();
        // one that is gone is fetched again; one that is of no use to us was of use to somebody, and is not
        self.is_broken = <[u8; 32]>::from(Sha256::digest(&body)) != success.digest;
        if self.is_broken {
            return;
        }
        if let Ok(document) = self.kind.read(&body) {
            self.held = Some(Held { document: Rc::new(document), success: success.clone() });
        }
    }

    /// How long until a fetch may start; zero: now.
    fn wait(&self, is_wanted: bool, host: &dyn Host) -> Duration {
        let now = host.monotonic();
        let after = |wait: Duration| self.record.ended.plus(wait).since(now);
        if self.record.attempts == 0 {
            return Duration::ZERO;
        }
        let after_failure = after(self.source.failed_refetch);
        let Some(success) = self.record.success.as_ref().filter(|_| !self.is_broken) else {
            return after_failure;
        };
        let mut regular = self.source.interval.saturating_sub(success.age(host.unix_time(), now));
        if self.record.outcome.is_failure() {
            regular = regular.max(after_failure);
        }
        if is_wanted { regular.min(after(self.source.cooldown)) } else { regular }
    }

    fn is_due(&self, host: &dyn Host) -> bool {
        // whoever keeps spoiling the record must not make us ask and ask
        let least = self.source.interval.min(self.source.cooldown).min(self.source.failed_refetch);
        let is_early = self.began.is_some_and(|began| host.monotonic().since(began) < least);
        !is_early && !self.is_leased(host) && self.wait(self.is_wanted, host).is_zero()
    }

    fn is_leased(&self, host: &dyn Host) -> bool {
        self.record.is_leased(self.source.lease(), host.monotonic())
    }

    /// Takes the lease and asks the source. Whoever is slower finds another version and looks again at the next tick.
    fn fetch(&mut self, host: &dyn Host) {
        let Some(seen) = self.seen else { return };
        let now = host.monotonic();
        let mut nonce = [0; 16];
        if host.random(&mut nonce).is_err() {
            return;
        }
        self.record.lease = Some(Lease { nonce, expires: now.plus(self.source.lease()) });
        if self.write(seen, host).is_err() {
            self.seen = None;
            return;
        }
        self.seen = None;
        self.began = Some(now);
        let held = self.held.as_ref().filter(|_| !self.is_broken).map(|held| &held.success);
        let etag = held.filter(|held| !held.etag.is_empty() && self.record.success.as_ref() == Some(held));
        let mut headers = vec![("accept", String::from("application/json, */*;q=0.1"))];
        headers.extend(etag.map(|success| ("if-none-match", success.etag.clone())));
        let conditional = etag.map(|success| success.digest);
        let started = host.dispatch(&Callout {
            cluster: self.source.cluster.clone(),
            path: self.source.path.clone(),
            method: "GET",
            authority: self.source.authority.clone(),
            headers,
            body: Vec::new(),
            timeout: self.source.timeout,
        });
        match started {
            Ok(call) => {
                let deadline = now.plus(self.source.timeout.saturating_add(GRACE));
                self.flight = Some(Flight { call, nonce, deadline, conditional });
            }
            Err(error) => {
                let why = format!("the call could not be started: {error:?}");
                self.end(nonce, End::Failed(Outcome::NoAnswer, why), host);
            }
        }
    }

    fn read_reply(&self, flight: &Flight, reply: &Reply<'_>, host: &dyn Host) -> End<K::Document> {
        match (reply.status, flight.conditional) {
            (Some(200), _) => {}
            (Some(304), Some(digest)) => return End::Unchanged(digest),
            (Some(status), _) => return End::Failed(Outcome::Status, format!("the status was {status}")),
            (None, _) => return End::Failed(Outcome::NoAnswer, String::from("no answer")),
        }
        if reply.size > self.source.max_bytes.min(MAX_BYTES) {
            return End::Failed(Outcome::TooLarge, format!("a body of {} bytes", reply.size));
        }
        let Ok(body) = host.body(Body::Callout, 0, reply.size) else {
            return End::Failed(Outcome::NoAnswer, String::from("the body could not be read"));
        };
        let digest = Sha256::digest(&body).into();
        let etag = reply.etag.filter(|etag| is_etag(etag)).unwrap_or_default().to_owned();
        match self.kind.read(&body) {
            Ok(document) => End::New { body, document: Rc::new(document), digest, etag },
            Err(Unreadable(why)) => End::Failed(Outcome::Unreadable, why),
        }
    }

    /// Records how a fetch ended and gives the lease back. Without the lease nothing is recorded: whoever has it now
    /// knows better.
    fn end(&mut self, nonce: [u8; 16], end: End<K::Document>, host: &dyn Host) {
        for _ in 0..ATTEMPTS {
            self.seen = None;
            self.look(host);
            let Some(version) = self.seen.filter(|_| self.record.lease.is_some_and(|l| l.nonce == nonce))
            else {
                return;
            };
            let before = self.record.clone();
            if !self.conclude(&end, host) {
                // what is shared is as it was, and must be so when it is written next
                self.record = before;
                break;
            }
            match self.write(version, host) {
                Ok(()) => {
                    self.tell(&before, &end, host);
                    self.turn = self.turn.saturating_add(1);
                    self.is_wanted = false;
                    match (end, &self.record.success, &mut self.held) {
                        (End::New { document, .. }, Some(success), _) => {
                            self.held = Some(Held { document, success: success.clone() });
                            self.is_broken = false;
                        }
                        (End::Unchanged(_), Some(success), Some(held)) => held.success.clone_from(success),
                        _ => {}
                    }
                    break;
                }
                Err(HostError::Conflict) => self.record = before,
                Err(_) => break,
            }
        }
        // the version of what was just written is not known
        self.seen = None;
    }

    /// What the record becomes; a new body is written first. `false`: it could not be, and the lease ends by itself.
    fn conclude(&mut self, end: &End<K::Document>, host: &dyn Host) -> bool {
        let (at, since) = (host.unix_time(), host.monotonic());
        self.record.lease = None;
        self.record.attempts = self.record.attempts.saturating_add(1);
        self.record.ended = since;
        self.record.outcome = match end {
            End::Failed(outcome, _) => *outcome,
            End::New { .. } | End::Unchanged(_) => Outcome::Good,
        };
        match end {
            End::Failed(..) => {}
            End::Unchanged(digest) => match &mut self.record.success {
                Some(success) if success.digest == *digest => (success.at, success.since) = (at, since),
                _ => self.record.outcome = Outcome::Status,
            },
            End::New { body, digest, etag, .. } => {
                let known = self.record.success.take();
                let same = known.as_ref().is_some_and(|known| known.digest == *digest) && !self.is_broken;
                let generation = known.map_or(0, |known| known.generation);
                let success = Success {
                    generation: generation.saturating_add(u64::from(!same)),
                    at,
                    since,
                    digest: *digest,
                    length: u32::try_from(body.len()).unwrap_or(u32::MAX),
                    etag: etag.clone(),
                };
                if !same && !self.write_body(&success.body_key(&self.key), body, host) {
                    return false;
                }
                self.record.success = Some(success);
            }
        }
        true
    }

    fn write(&self, version: Version, host: &dyn Host) -> Result<(), HostError> {
        let sealed = self.store.seal(&self.key, self.record.write());
        self.store.write(&self.key, &sealed, version, host)
    }

    fn write_body(&self, key: &str, body: &[u8], host: &dyn Host) -> bool {
        (0..ATTEMPTS).any(|_| {
            let version = self.store.read(key, host).map(|read| read.map_or(Version::Absent, |r| r.version));
            version.is_ok_and(|version| self.store.write(key, body, version, host).is_ok())
        })
    }

    /// One line when fetches begin to fail and one when they do no longer, not one for each.
    fn tell(&self, before: &Record, end: &End<K::Document>, host: &dyn Host) {
        let about = &self.about;
        match end {
            End::Failed(outcome, why) if before.outcome != *outcome => {
                host.log(Level::Warn, &format!("mlgate: {about} could not be fetched: {why}"));
            }
            End::Failed(..) => {}
            End::New { .. } | End::Unchanged(_) if before.outcome.is_failure() => {
                host.log(Level::Info, &format!("mlgate: {about} can be fetched again"));
            }
            End::New { .. } | End::Unchanged(_) => {}
        }
    }
}

impl<K: Kind> fmt::Debug for Keeper<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("about", &self.about)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// Whether an entity tag can be sent back as it is (RFC 9110 §8.8.3), and is short enough to be kept.
fn is_etag(etag: &str) -> bool {
    let opaque = etag.strip_prefix("W/").unwrap_or(etag);
    let inside = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    etag.len() <= MAX_ETAG
        && inside.is_some_and(|tag| tag.bytes().all(|byte| byte == 0x21 || (0x23..=0x7e).contains(&byte)))
}
