//! Lines of a log of any size, one at a time and none longer than an event can be.

use std::io::{self, BufRead};

use mlgate::audit::sealed::MAX_LINE_BYTES;

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Nothing is left.
    End,
    /// Longer than it may be: it was skipped.
    TooLong,
    /// The last line has no line break: it was not written to its end, or it is being written.
    Torn,
    /// A line, in the buffer, without its break.
    Whole,
}

/// Reads the next line of a log into `buffer`, and adds the bytes it took to `taken`.
pub(crate) fn next(input: &mut dyn BufRead, buffer: &mut Vec<u8>, taken: &mut u64) -> io::Result<Line> {
    next_within(MAX_LINE_BYTES, input, buffer, taken)
}

/// The same for lines of at most `max` bytes.
pub(crate) fn next_within(
    max: usize,
    input: &mut dyn BufRead,
    buffer: &mut Vec<u8>,
    taken: &mut u64,
) -> io::Result<Line> {
    buffer.clear();
    let mut too_long = false;
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(match (buffer.is_empty(), too_long) {
                (_, true) => Line::TooLong,
                (true, false) => Line::End,
                (false, false) => Line::Torn,
            });
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or(chunk);
        too_long |= buffer.len().saturating_add(part.len()) > max;
        if !too_long {
            buffer.extend_from_slice(part);
        }
        let used = part.len().saturating_add(usize::from(end.is_some()));
        input.consume(used);
        *taken = taken.saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
        if end.is_some() {
            return Ok(if too_long { Line::TooLong } else { Line::Whole });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_their_breaks_and_none_is_too_long() {
        let long = vec![b'x'; MAX_LINE_BYTES + 1];
        let log = [b"a\n\n".as_slice(), &long, b"\nb"].concat();
        for capacity in [1, 7, 1 << 20] {
            let mut input = io::BufReader::with_capacity(capacity, log.as_slice());
            let (mut buffer, mut taken) = (Vec::new(), 0);
            let mut read = || (next(&mut input, &mut buffer, &mut taken).unwrap(), buffer.clone(), taken);
            assert_eq!(read(), (Line::Whole, b"a".to_vec(), 2));
            assert_eq!(read(), (Line::Whole, Vec::new(), 3));
            assert_eq!(read().0, Line::TooLong);
            assert_eq!(read(), (Line::Torn, b"b".to_vec(), u64::try_from(log.len()).unwrap()));
            assert_eq!(read().0, Line::End);
        }
    }
}
