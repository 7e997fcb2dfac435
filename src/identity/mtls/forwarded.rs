//! What a trusted hop says of its caller's certificate: the header `x-forwarded-client-cert` becomes its names.
//!
//! Envoy writes `By=…;Hash=…;Cert="…";Subject="…";URI=…;DNS=…`, and writes names as they stand in the certificate: a URI
//! SAN may contain `;` or `,` and so say whatever its owner likes. What comes before `URI` cannot be chosen by a caller,
//! and `Cert` is percent-encoded. So names are read from `Cert` alone, directly after `Hash`, whose digest it must have.

use sha2::{Digest, Sha256};

use crate::http::certificate::{InvalidCertificate, Names, decode};

/// The header, as Envoy names it.
pub const HEADER: &str = "x-forwarded-client-cert";

/// Values of `By` in one element: a hop's certificate has few URI SANs.
const MAX_BY: usize = 16;

/// Reads what a hop wrote that sets the header afresh (`SANITIZE_SET`, with `cert`). This listener may have added an
/// element of its own (`APPEND_FORWARD`), which is known by the digest of the connection's certificate. `None`: the hop
/// says of no certificate.
///
/// # Errors
/// It is written otherwise: then a caller may have had a say in it.
pub fn read(header: &[u8], connection: Option<&str>) -> Result<Option<Names>, InvalidCertificate> {
    let text = std::str::from_utf8(header).map_err(|_| InvalidCertificate)?;
    let mut reader = Reader { rest: text };
    let hash = reader.hash()?;
    let is_own = |hash: &str| connection.is_some_and(|digest| hash.eq_ignore_ascii_case(digest));
    if is_own(hash) {
        reader.skip_element()?;
        return if reader.rest.is_empty() { Ok(None) } else { Err(InvalidCertificate) };
    }
    let (name, encoded) = reader.pair()?;
    if !name.eq_ignore_ascii_case("cert") {
        return Err(InvalidCertificate);
    }
    let der = decode(encoded.as_bytes())?;
    let digest: String = Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect();
    if !hash.eq_ignore_ascii_case(&digest) {
        return Err(InvalidCertificate);
    }
    reader.skip_element()?;
    if !reader.rest.is_empty() {
        // the other element can only be this listener's, of the hop itself
        let own = reader.hash()?;
        if !is_own(own) {
            return Err(InvalidCertificate);
        }
        reader.skip_element()?;
        if !reader.rest.is_empty() {
            return Err(InvalidCertificate);
        }
    }
    Names::read(&der).map(Some)
}

/// What is left of the header: from the start of an element, of a pair, or at an end.
struct Reader<'a> {
    rest: &'a str,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// The digest that an element begins with, after who wrote it.
    fn hash(&mut self) -> Result<&'a str, InvalidCertificate> {
        for _ in 0..=MAX_BY {
            let (name, value) = self.pair()?;
            if name.eq_ignore_ascii_case("hash") {
                return Ok(value);
            }
            if !name.eq_ignore_ascii_case("by") {
                break;
            }
        }
        Err(InvalidCertificate)
    }

    /// The next pair of an element; what follows it stays: `;` is taken, `,` is not.
    fn pair(&mut self) -> Result<(&'a str, &'a str), InvalidCertificate> {
        let (name, after) = self.rest.split_once('=').ok_or(InvalidCertificate)?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let end = end_of_quoted(quoted).ok_or(InvalidCertificate)?;
                let (value, after) = quoted.split_at_checked(end).ok_or(InvalidCertificate)?;
                (value, after.strip_prefix('"').ok_or(InvalidCertificate)?)
            }
            None => after
                .split_at_checked(after.find([';', ',']).unwrap_or(after.len()))
                .ok_or(InvalidCertificate)?,
        };
        self.rest = match after.strip_prefix(';') {
            Some(rest) => rest,
            None if after.is_empty() || after.starts_with(',') => after,
            None => return Err(InvalidCertificate),
        };
        Ok((name, value))
    }

    /// Goes to the next element, or to the end.
    fn skip_element(&mut self) -> Result<(), InvalidCertificate> {
        while !self.rest.is_empty() {
            if let Some(next) = self.rest.strip_prefix(',') {
                self.rest = next;
                return if next.is_empty() { Err(InvalidCertificate) } else { Ok(()) };
            }
            self.pair()?;
        }
        Ok(())
    }
}

/// Where a quoted value ends: a `"` without `\` before it.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests;
