//! Bytes of one shared value become entries, and back: a layout byte, then entries of one size.

use crate::limits::gcra::{MAX_RATES, Tats, is_ahead};
use crate::limits::slots::Tag;

/// Callers that one bucket tells apart.
pub const WAYS: usize = 8;

/// A tag and the TATs, little endian.
pub const ENTRY_BYTES: usize = 16 + 8 * MAX_RATES;

/// The first [`WAYS`] entries belong to callers, those behind them to newcomers that found no way free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    bytes: Vec<u8>,
}

/// Bytes of another layout, or cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidBucket;

/// Which entry a caller may charge to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its index; may be one past the last.
    pub(crate) index: usize,
    /// Whose it is then: the caller's, or the overflow's.
    pub(crate) tag: Tag,
    /// What stands there for this caller.
    pub(crate) tats: Tats,
    /// Whether it is the overflow's.
    pub(crate) shared: bool,
}

// === impl Bucket ===

impl Bucket {
    /// Takes over what was read; an empty value is one that was removed.
    pub(super) fn read(bytes: Vec<u8>) -> Result<Self, InvalidBucket> {
        match bytes.split_first() {
            None => Ok(Self::default()),
            Some((&LAYOUT, entries)) if entries.as_chunks::<ENTRY_BYTES>().1.is_empty() => Ok(Self { bytes }),
            Some(_) => Err(InvalidBucket),
        }
    }

    /// What is written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Finds the entry of `tag`, else a free one, else the one of `overflow`, of which there are at most `cap`.
    pub(super) fn place(&self, tag: &Tag, overflow: &dyn Fn() -> Tag, cap: usize, now: u64) -> Place {
        let entries = self.entries();
        let (ways, shared) = entries.split_at_checked(WAYS).unwrap_or((entries, &[]));
        let mut free = None;
        for (index, entry) in ways.iter().enumerate() {
            let (owner, tats) = decode(entry);
            if owner == *tag {
                return Place { index, tag: owner, tats, shared: false };
            }
            if free.is_none() && !is_live(&tats, now) {
                free = Some(index);
            }
        }
        if free.is_none() && ways.len() < WAYS {
            free = Some(ways.len());
        }
        if let (Some(index), []) = (free, shared) {
            return Place { index, tag: *tag, tats: Tats::default(), shared: false };
        }
        let overflow = overflow();
        let known = shared.iter().map(decode).enumerate().find(|(_, (owner, _))| *owner == overflow);
        let tats = known.map_or_else(Tats::default, |(_, (_, tats))| tats);
        if let Some(index) = free {
            // it may have charged to the overflow a moment ago: a way of its own is no fresh start
            return Place { index, tag: *tag, tats, shared: false };
        }
        let index = match known {
            Some((index, _)) => index,
            None if shared.len() < cap => shared.len(),
            // only rates of an earlier configuration can have filled it: the entry that is over soonest goes
            None => soonest(shared, now),
        };
        Place { index: index.saturating_add(WAYS), tag: overflow, tats, shared: true }
    }

    /// The entry of a tag.
    pub(super) fn find(&self, tag: &Tag) -> Option<(usize, Tats)> {
        self.entries()
            .iter()
            .map(decode)
            .enumerate()
            .find_map(|(index, (owner, tats))| if owner == *tag { Some((index, tats)) } else { None })
    }

    /// Writes an entry, as the last one if there is none at `index`.
    pub(super) fn put(&mut self, index: usize, tag: &Tag, tats: &Tats) {
        let fresh = encode(tag, tats);
        let entries = self.bytes.split_at_mut_checked(1).map_or(&mut [][..], |(_, entries)| entries);
        match entries.as_chunks_mut::<ENTRY_BYTES>().0.get_mut(index) {
            Some(entry) => *entry = fresh,
            None => self.bytes.extend_from_slice(&fresh),
        }
    }

    fn entries(&self) -> &[[u8; ENTRY_BYTES]] {
        self.bytes.split_first().map_or(&[], |(_, entries)| entries.as_chunks().0)
    }
}

impl Default for Bucket {
    fn default() -> Self {
        Self { bytes: vec![LAYOUT] }
    }
}

fn decode(entry: &[u8; ENTRY_BYTES]) -> (Tag, Tats) {
    let mut tag = Tag::default();
    let mut tats = Tats::default();
    if let Some((owner, numbers)) = entry.split_first_chunk() {
        tag = *owner;
        for (tat, number) in tats.iter_mut().zip(numbers.as_chunks().0) {
            *tat = u64::from_le_bytes(*number);
        }
    }
    (tag, tats)
}

fn encode(tag: &Tag, tats: &Tats) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    let from = tag.iter().copied().chain(tats.iter().flat_map(|tat| tat.to_le_bytes()));
    for (to, from) in entry.iter_mut().zip(from) {
        *to = from;
    }
    entry
}

fn is_live(tats: &Tats, now: u64) -> bool {
    tats.iter().any(|tat| is_ahead(*tat, now))
}

fn soonest(entries: &[[u8; ENTRY_BYTES]], now: u64) -> usize {
    let until = |entry| decode(entry).1.into_iter().filter(|tat| is_ahead(*tat, now)).max();
    entries.iter().enumerate().min_by_key(|(_, entry)| until(entry)).map_or(0, |(index, _)| index)
}

/// The first byte of every value of this form.
const LAYOUT: u8 = 1;
