//! The keys of an issuer that publishes them elsewhere: what is known of them in one worker, and what becomes of a token
//! whose key is not.
//!
//! ```text
//! kid ─▶ in the set? ─▶ verified with it
//!         │ no
//!         ├▶ a fetch is running, or may start ─▶ the request waits for it, and comes here again
//!         ├▶ a finished fetch did not have it ─▶ refused
//!         └▶ not looked for, and none may start before the cooldown is over ─▶ unavailable, for so long
//! ```
//!
//! Whoever sends tokens with keys of their own invention makes the issuer be asked once per cooldown, and nobody else
//! wait: known keys are found without it. Nothing comes here before everything else that can be said of a token
//! without its key has been said.
//!
//! A token without a `kid` is verified with whatever keys serve its algorithm. Where an issuer names none of its keys, a
//! new one is therefore noticed only with the next regular fetch, or where no key serves the algorithm at all.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::host::{CalloutId, Host};
use crate::identity::discovery::Discovery;
use crate::identity::jwks::set::{self, SetBounds};
use crate::identity::jwks::{Algorithm, KeySet};
use crate::remote::compile::Pace;
use crate::remote::keeper::{Keeper, Kind, Reply, Unreadable, Wanted};
use crate::remote::store::Store;
use crate::remote::uri::Uri;
use crate::remote::{Generation, shared_key};

pub mod spec;

#[cfg(test)]
mod tests;

/// Where the keys of an issuer are, as its provider is configured.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The provider's name.
    pub provider: String,
    /// Its issuer.
    pub issuer: String,
    /// Where they are, or who says it.
    pub place: Place,
    /// Envoy's name of the cluster that serves them.
    pub cluster: String,
    /// How often they are looked for.
    pub pace: Pace,
    /// How much of them is read.
    pub bounds: SetBounds,
    /// Bytes of a document.
    pub max_bytes: usize,
}

/// See [`Origin::place`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Here.
    Uri(Uri),
    /// Where the issuer's own document says (OpenID Connect Discovery 1.0).
    Discovery {
        /// Of the document.
        uri: Uri,
        /// Envoy's name of the cluster that serves it.
        cluster: String,
    },
}

/// Every keyring of one configuration in one worker, by the index of its provider.
#[derive(Debug, Default)]
pub struct Keyrings(Vec<Option<RefCell<Keyring>>>);

/// See the module.
#[derive(Debug)]
pub struct Keyring {
    origin: Origin,
    gate: String,
    store: Store,
    discovery: Option<Keeper<Discovery>>,
    keys: Option<Keeper<Set>>,
    /// The issuer's keys have moved, and nobody has read them there yet.
    moved: Option<Keeper<Set>>,
    /// Turns of keepers that are no more.
    past: u64,
    /// Key ids that requests wait for, and since which look at the keys.
    wanted: (u64, Vec<String>),
    /// Key ids that a finished fetch did not have, newest last.
    missing: VecDeque<String>,
}

/// A JWK Set.
#[derive(Clone, Copy, Debug)]
struct Set(SetBounds);

/// A wait for the keys of a provider: over when the keyring's turn is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysTicket {
    /// Index of the provider.
    pub provider: usize,
    turn: u64,
}

/// Why there are no keys for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKeys {
    /// The issuer has no such key.
    Unknown,
    /// They may come with the fetch that is about to end.
    Coming(KeysTicket),
    /// Nobody can say before this time has passed.
    After(Duration),
}

/// Key ids that a worker remembers an issuer not to have; the oldest is forgotten first.
pub const MAX_MISSING: usize = 256;

/// Key ids that requests may wait for at once; further ones wait too, and are looked for again afterwards.
const MAX_WANTED: usize = 128;

// === impl Keyrings ===

impl Keyrings {
    /// One for each provider whose keys are elsewhere.
    pub fn new<'a>(origins: impl Iterator<Item = Option<&'a Origin>>, gate: &str, store: &Store) -> Self {
        let ring = |origin: &Origin| RefCell::new(Keyring::new(origin.clone(), gate, store));
        Self(origins.map(|origin| origin.map(ring)).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &RefCell<Keyring>> {
        self.0.iter().flatten()
    }

    fn of(&self, provider: usize) -> Option<&RefCell<Keyring>> {
        self.0.get(provider)?.as_ref()
    }

    /// The keys of a provider among which a token's is.
    ///
    /// # Errors
    /// Why there are none.
    pub fn find(
        &self,
        provider: usize,
        id: Option<&str>,
        algorithm: Algorithm,
        host: &dyn Host,
    ) -> Result<Rc<KeySet>, NoKeys> {
        // INVARIANT: whoever asks for the keys of a provider has its keyring
        let ring = self.of(provider).ok_or(NoKeys::After(Duration::ZERO))?;
        ring.borrow_mut().find(id, algorithm, host).map_err(|error| match error {
            NoKeys::Coming(ticket) => NoKeys::Coming(KeysTicket { provider, ..ticket }),
            other => other,
        })
    }

    /// Which keys of a provider are in use: none where they are in the configuration. `None`: nobody may be let in by
    /// any.
    pub fn generation(&self, provider: usize, host: &dyn Host) -> Option<Generation> {
        self.of(provider).map_or(Some(Generation::NONE), |ring| ring.borrow_mut().generation(host))
    }

    /// Whether the keys of an issuer are used although newer ones could not be had in time.
    pub fn is_stale(&self, issuer: &str, host: &dyn Host) -> bool {
        self.iter().any(|ring| {
            let ring = ring.borrow();
            ring.origin.issuer == issuer && ring.is_stale(host)
        })
    }

    /// Whether what a request waits for has come, or will not.
    pub fn is_over(&self, ticket: KeysTicket) -> bool {
        self.of(ticket.provider).is_none_or(|ring| ring.borrow().turn() != ticket.turn)
    }

    /// Fetches what is due. Only the root may call this.
    pub fn tick(&self, host: &dyn Host) {
        self.iter().for_each(|ring| ring.borrow_mut().tick(host));
    }

    /// A callout was answered. Whether it was one of these. Only the root may call this.
    pub fn on_reply(&self, call: CalloutId, reply: &Reply<'_>, host: &dyn Host) -> bool {
        self.iter().any(|ring| ring.borrow_mut().on_reply(call, reply, host))
    }
}

// === impl Keyring ===

impl Keyring {
    fn new(origin: Origin, gate: &str, store: &Store) -> Self {
        let mut ring = Self {
            gate: gate.to_owned(),
            store: store.clone(),
            discovery: None,
            keys: None,
            moved: None,
            past: 0,
            wanted: (0, Vec::new()),
            missing: VecDeque::new(),
            origin,
        };
        match ring.origin.place.clone() {
            Place::Uri(uri) => ring.keys = Some(ring.keys_at(&uri)),
            Place::Discovery { uri, cluster } => {
                let Origin { provider, issuer, pace, max_bytes, .. } = &ring.origin;
                let source = pace.source(&cluster, &uri, *max_bytes);
                let key = shared_key(gate, "discovery", &[issuer, &place(&uri), &cluster]);
                let kind = Discovery { issuer: issuer.clone() };
                let about = format!("the document of the issuer of `{provider}`");
                ring.discovery = Some(Keeper::new(kind, about, source, key, store.clone()));
            }
        }
        ring
    }

    fn keys_at(&self, uri: &Uri) -> Keeper<Set> {
        let Origin { provider, issuer, cluster, pace, bounds, max_bytes, .. } = &self.origin;
        let source = pace.source(cluster, uri, *max_bytes);
        let key = shared_key(&self.gate, "jwks", &[issuer, &place(uri), cluster]);
        Keeper::new(Set(*bounds), format!("the keys of `{provider}`"), source, key, self.store.clone())
    }

    /// The provider's name.
    pub fn provider(&self) -> &str {
        &self.origin.provider
    }

    /// Since when nobody has said that the keys are the newest; `None` where there are none.
    pub fn age(&self, host: &dyn Host) -> Option<Duration> {
        self.keys.as_ref()?.age(host)
    }

    fn is_stale(&self, host: &dyn Host) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.is_stale(host))
    }

    fn generation(&mut self, host: &dyn Host) -> Option<Generation> {
        let keys = self.keys.as_mut()?;
        keys.document(host)?;
        Some(keys.generation())
    }

    fn turn(&self) -> u64 {
        let keys = [&self.keys, &self.moved].into_iter().flatten().map(Keeper::turn);
        let discovery = self.discovery.iter().map(Keeper::turn);
        keys.chain(discovery).fold(self.past, u64::saturating_add)
    }

    /// Rises when a fetch of the keys has ended; [`Self::turn`] does so too when one of the issuer's document has.
    fn looked(&self) -> u64 {
        self.past.saturating_add(self.keys.as_ref().map_or(0, Keeper::turn))
    }

    fn tick(&mut self, host: &dyn Host) {
        if let Some(discovery) = &mut self.discovery {
            discovery.tick(host);
        }
        self.follow(host);
        for keys in [&mut self.keys, &mut self.moved].into_iter().flatten() {
            keys.tick(host);
        }
        self.arrive(host);
        self.settle(host);
    }

    fn on_reply(&mut self, call: CalloutId, reply: &Reply<'_>, host: &dyn Host) -> bool {
        let discovered = self.discovery.as_mut().is_some_and(|keeper| keeper.on_reply(call, reply, host));
        let known = discovered
            || [&mut self.keys, &mut self.moved]
                .into_iter()
                .flatten()
                .any(|keeper| keeper.on_reply(call, reply, host));
        if known {
            self.follow(host);
            self.arrive(host);
            self.settle(host);
        }
        known
    }

    /// Goes where the issuer says its keys are.
    fn follow(&mut self, host: &dyn Host) {
        let Some(uri) = self.discovery.as_mut().and_then(|discovery| discovery.document(host)).cloned()
        else {
            return;
        };
        let is_at =
            |keys: &Keeper<Set>| keys.source().authority == uri.authority && keys.source().path == uri.path;
        if self.keys.as_ref().is_some_and(is_at) {
            self.retire_moved();
        } else if self.keys.is_none() {
            self.keys = Some(self.keys_at(&uri));
        } else if !self.moved.as_ref().is_some_and(is_at) {
            self.retire_moved();
            self.moved = Some(self.keys_at(&uri));
        }
    }

    /// Where keys have moved, those from before serve until somebody has read the new ones. What was read there long ago,
    /// before the issuer came back, is better than nothing alone.
    fn arrive(&mut self, host: &dyn Host) {
        let Some(moved) = &mut self.moved else { return };
        if moved.document(host).is_none() {
            return;
        }
        let is_fresh = moved.age(host).is_some_and(|age| age < moved.source().interval);
        if is_fresh || self.keys.as_mut().is_none_or(|keys| keys.document(host).is_none()) {
            let before = std::mem::replace(&mut self.keys, self.moved.take());
            self.retire(before);
        }
    }

    fn retire_moved(&mut self) {
        let Some(moved) = self.moved.take() else { return };
        self.retire(Some(moved));
        // nobody has looked for these where the keys are
        self.wanted.1.clear();
    }

    /// Turns never go back, whatever becomes of a keeper.
    fn retire(&mut self, keeper: Option<Keeper<Set>>) {
        if let Some(keeper) = keeper {
            self.past = self.past.saturating_add(keeper.turn()).saturating_add(1);
        }
    }

    /// What requests waited for and a fetch that succeeded did not bring is missing.
    fn settle(&mut self, host: &dyn Host) {
        if self.wanted.1.is_empty() || self.wanted.0 == self.looked() {
            return;
        }
        let (_, wanted) = std::mem::take(&mut self.wanted);
        // they may be where the keys are now
        let is_complete = self.moved.is_none();
        let Some(keys) = self.keys.as_mut().filter(|keys| is_complete && !keys.has_failed()) else { return };
        let Some(set) = keys.document(host).cloned() else { return };
        for id in wanted.into_iter().filter(|id| !set.knows(id)) {
            self.missing.retain(|known| *known != id);
            self.missing.push_back(id);
        }
        while self.missing.len() > MAX_MISSING {
            self.missing.pop_front();
        }
    }

    fn find(
        &mut self,
        id: Option<&str>,
        algorithm: Algorithm,
        host: &dyn Host,
    ) -> Result<Rc<KeySet>, NoKeys> {
        if self.keys.is_none() {
            self.follow(host);
        }
        let Some(keys) = &mut self.keys else { return Err(self.first(host)) };
        let has = |set: &Rc<KeySet>| match id {
            Some(id) => set.knows(id),
            None => set.serves(algorithm),
        };
        match keys.document(host).cloned() {
            Some(set) if has(&set) => return Ok(set),
            Some(_) => {}
            // once they are too old nobody waits for an issuer that may be away for long
            None if keys.age(host).is_some() => return Err(NoKeys::After(keys.retry_after(host))),
            None => return Err(self.first(host)),
        }
        let wanted = keys.want(host);
        // what others have fetched may be here only now
        self.arrive(host);
        if let Some(set) = self.keys.as_mut().and_then(|keys| keys.document(host)).cloned().filter(has) {
            return Ok(set);
        }
        self.settle(host);
        let name = id.unwrap_or_default();
        match wanted {
            Wanted::Coming => {
                // only how that ends says whether it is missing
                self.missing.retain(|known| known != name);
                Err(self.coming(Some(name)))
            }
            Wanted::After(_) if self.missing.iter().any(|known| known == name) => Err(NoKeys::Unknown),
            Wanted::After(wait) => Err(NoKeys::After(wait)),
        }
    }

    /// There are no keys yet: whoever comes waits for the first.
    fn first(&mut self, host: &dyn Host) -> NoKeys {
        let wanted = match (&mut self.keys, &mut self.discovery) {
            (Some(keys), _) => keys.want(host),
            (None, Some(discovery)) => discovery.want(host),
            // INVARIANT: an origin is one of the two
            (None, None) => Wanted::After(Duration::ZERO),
        };
        match wanted {
            Wanted::Coming => self.coming(None),
            Wanted::After(wait) => NoKeys::After(wait),
        }
    }

    fn coming(&mut self, id: Option<&str>) -> NoKeys {
        let (turn, looked) = (self.turn(), self.looked());
        if let Some(id) = id {
            if self.wanted.0 != looked {
                self.wanted = (looked, Vec::new());
            }
            if self.wanted.1.len() < MAX_WANTED && !self.wanted.1.iter().any(|known| known == id) {
                self.wanted.1.push(id.to_owned());
            }
        }
        NoKeys::Coming(KeysTicket { provider: 0, turn })
    }
}

// === impl Set ===

impl Kind for Set {
    type Document = KeySet;
    fn read(&self, body: &[u8]) -> Result<KeySet, Unreadable> {
        set::read(body, self.0).map_err(|error| Unreadable(error.to_string()))
    }
}

fn place(uri: &Uri) -> String {
    format!("{}{}", uri.authority, uri.path)
}
