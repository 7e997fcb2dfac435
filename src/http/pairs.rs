//! The host's serialisation of header maps, read within its bounds.
//!
//! `u32 count`, then per pair `u32 name length, u32 value length`, then per pair `name NUL value NUL`; little endian.
//! The SDK's own reader traps on what it does not expect.

/// A block whose lengths do not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPairs;

/// An iterator over the pairs of a block that was checked as a whole.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    lengths: &'a [u8],
    data: &'a [u8],
}

/// `:status` of the header block of a response; `None` where there is none that is a number.
pub fn status(block: &[u8]) -> Option<u16> {
    let (_, value) = Pairs::read(block).into_iter().flatten().find(|(name, _)| *name == b":status")?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// More pairs than this are refused; the host's own bound is 1024.
pub const MAX_PAIRS: usize = 1024;

const LENGTHS: usize = 8;

// === impl Pairs ===

impl<'a> Pairs<'a> {
    /// Checks every length of a block. An empty block has no pairs.
    pub fn read(block: &'a [u8]) -> Result<Self, InvalidPairs> {
        if block.is_empty() {
            return Ok(Self { lengths: &[], data: &[] });
        }
        let (count, rest) = number(block).ok_or(InvalidPairs)?;
        if count > MAX_PAIRS {
            return Err(InvalidPairs);
        }
        let (lengths, data) = rest.split_at_checked(count.saturating_mul(LENGTHS)).ok_or(InvalidPairs)?;
        let pairs = Self { lengths, data };
        if pairs.clone().count() == count { Ok(pairs) } else { Err(InvalidPairs) }
    }

    /// How many pairs are left.
    pub const fn len(&self) -> usize {
        self.lengths.len() / LENGTHS
    }

    /// Whether none is left.
    pub const fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Writes pairs in the same form.
    pub fn write(pairs: &[(&str, &str)]) -> Vec<u8> {
        fn length(text: &str) -> [u8; 4] {
            u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes()
        }
        let mut block = Vec::new();
        block.extend(u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (name, value) in pairs {
            block.extend(length(name));
            block.extend(length(value));
        }
        for (name, value) in pairs {
            block.extend(name.as_bytes());
            block.push(0);
            block.extend(value.as_bytes());
            block.push(0);
        }
        block
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_length, rest) = number(self.lengths)?;
        let (value_length, lengths) = number(rest)?;
        let (name, rest) = field(self.data, name_length)?;
        let (value, data) = field(rest, value_length)?;
        self.lengths = lengths;
        self.data = data;
        Some((name, value))
    }
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

fn field(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (field, rest) = bytes.split_at_checked(length)?;
    let (nul, rest) = rest.split_first()?;
    (*nul == 0).then_some((field, rest))
}
