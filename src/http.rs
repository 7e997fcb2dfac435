//! What the proxy hands over, normalised once: a [`RequestHead`], canonical or refused.
//!
//! The header block is read in one host call as bytes, since a value need not be UTF-8 and the single-header getter
//! hides duplicates. Nothing here decides anything; a head that has more than one reading says so
//! (RFC 9110 §5.3, RFC 3986 §6.2).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::filter::refusal::Reason;

pub mod certificate;
pub mod pairs;
pub mod path;

use pairs::Pairs;

pub use certificate::PeerCertificate;

/// Which profile a route names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouteProfile {
    /// The metadata names one.
    Named(String),
    /// It names none.
    #[default]
    Absent,
    /// It could not be read: never the same as absent.
    Unreadable,
}

/// What the proxy says about a stream, beside its headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamFacts {
    /// `source.address`, with port.
    pub source_address: Option<String>,
    /// `xds.route_name`.
    pub route_name: String,
    /// `xds.virtual_host_name`, where it is [`Wanted`].
    pub virtual_host: String,
    /// `mlgate.profile` of the route's metadata.
    pub route_profile: RouteProfile,
    /// `mlgate.profile` of the virtual host's metadata.
    pub virtual_host_profile: RouteProfile,
    /// The client's certificate, where it is [`Wanted`].
    pub peer: PeerCertificate,
    /// Whether the stream leaves the workload that the proxy stands beside: such a stream is not ours to judge.
    pub outbound: bool,
    /// Whether the headers end the request.
    pub end_of_stream: bool,
}

/// Which facts of a stream a configuration looks at. Each costs a call of the host, about a microsecond, so those that
/// change no answer are not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The client's certificate: a profile takes certificates.
    pub certificate: bool,
    /// Its digest: some hop may speak for others.
    pub digest: bool,
    /// The virtual host's name: profiles or limits go by routes.
    pub virtual_host: bool,
}

/// The head of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// `:method`.
    pub method: String,
    /// `:path` as Envoy routed it, query included.
    pub target: String,
    /// `:authority` without port and final dot, lower case.
    pub host: String,
    /// The other headers, names in lower case.
    pub headers: Headers,
    /// The caller's address, where it can be trusted.
    pub source: Option<IpAddr>,
    /// Content type `application/grpc`, with or without a suffix.
    pub grpc: bool,
    /// Everything else.
    pub facts: StreamFacts,
}

/// Header fields in the order they came.
///
/// All names stand in one text and all values in another: a request has a dozen of them, and most are never looked at.
#[derive(Clone, Default)]
pub struct Headers {
    names: String,
    values: Vec<u8>,
    fields: Vec<Field>,
}

/// Where a field's name and value begin and end.
#[derive(Clone, Debug)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

/// Which address counts as the caller's.
pub use crate::identity::spec::SourceTrust;

// === impl Headers ===

impl Headers {
    /// From pairs whose names are in lower case.
    pub fn new(pairs: Vec<(String, Vec<u8>)>) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.push(&name, &value);
        }
        headers
    }

    fn with_capacity(bytes: usize, fields: usize) -> Self {
        Self {
            names: String::with_capacity(bytes),
            values: Vec::with_capacity(bytes),
            fields: Vec::with_capacity(fields),
        }
    }

    fn push(&mut self, name: &str, value: &[u8]) {
        let (from, at) = (self.names.len(), self.values.len());
        self.names.push_str(name);
        self.values.extend_from_slice(value);
        self.fields.push(Field { name: from..self.names.len(), value: at..self.values.len() });
    }

    /// Every value of a name.
    pub fn all<'a, 'b>(&'a self, name: &'b str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'b> {
        let is_it = move |field: &&Field| field.name.len() == name.len() && self.name(field) == name;
        self.fields.iter().filter(is_it).map(|field| self.value(field))
    }

    /// The only value of a name; `None` when absent, duplicated or not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (Some(value), None) => std::str::from_utf8(value).ok(),
            _ => None,
        }
    }

    /// How often a name occurs.
    pub fn count(&self, name: &str) -> usize {
        self.all(name).count()
    }

    /// Every field.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (self.name(field), self.value(field)))
    }

    // INVARIANT: ranges are of what was pushed

    fn name(&self, field: &Field) -> &str {
        self.names.get(field.name.clone()).unwrap_or_default()
    }

    fn value(&self, field: &Field) -> &[u8] {
        self.values.get(field.value.clone()).unwrap_or_default()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

// === impl RequestHead ===

impl RequestHead {
    /// Reads a header block. The head is given even when it is refused, since the refusal is recorded too.
    pub fn read(
        block: &[u8],
        facts: StreamFacts,
        trust: SourceTrust,
        limits: HeadLimits<'_>,
    ) -> (Self, Result<(), Reason>) {
        let mut head =
            Self { source: source(facts.source_address.as_deref(), trust), facts, ..Self::default() };
        let Ok(pairs) = Pairs::read(block) else {
            return (head, Err(Reason::HeadInvalid));
        };
        head.headers = Headers::with_capacity(block.len() >> 1, pairs.len());
        let mut verdict = Ok(());
        let mut bytes: usize = 0;
        let (mut paths, mut methods, mut authorities) = (0_u32, 0_u32, 0_u32);
        for (name, value) in pairs {
            bytes = bytes.saturating_add(name.len()).saturating_add(value.len());
            let Ok(name) = std::str::from_utf8(name) else {
                verdict = Err(Reason::HeadInvalid);
                continue;
            };
            let (field, seen) = match name {
                ":method" => (&mut head.method, &mut methods),
                ":path" => (&mut head.target, &mut paths),
                ":authority" => (&mut head.host, &mut authorities),
                _ => {
                    head.headers.push(name, value);
                    continue;
                }
            };
            *seen = seen.saturating_add(1);
            match std::str::from_utf8(value) {
                Ok(text) => text.clone_into(field),
                Err(_) => {
                    *field = String::from_utf8_lossy(value).into_owned();
                    verdict = Err(Reason::HeadInvalid);
                }
            }
        }
        head.headers.names.make_ascii_lowercase();
        head.grpc = head.headers.all("content-type").any(is_grpc);
        if head.host.bytes().any(ambiguous_in_host) {
            verdict = Err(Reason::HeadInvalid);
        }
        head.host.truncate(host_without_port(&head.host).len());
        head.host.make_ascii_lowercase();
        // `a.example.` is the same host (RFC 9110 §4.2.3 leaves it to DNS): it must meet the same rules
        if head.host.ends_with('.') {
            head.host.pop();
        }
        if bytes > limits.header_bytes || paths > 1 || methods != 1 || authorities > 1 {
            verdict = Err(Reason::HeadInvalid);
        }
        // Two `Host` fields come as one, joined by a comma (RFC 9110 §7.2), and nobody's name has a user (§4.2.4).
        if head.host.contains([',', '@', '/', '\\', '?', '#', ' ']) {
            verdict = Err(Reason::HeadInvalid);
        }
        if limits.single.iter().any(|name| head.headers.count(name) > 1) {
            verdict = Err(Reason::HeadInvalid);
        }
        // CONNECT without a path, `OPTIONS *`, and a path with two readings end the same way.
        verdict = verdict.and_then(|()| path::canonical(head.path()).map_err(|_| Reason::PathAmbiguous));
        (head, verdict)
    }

    /// The path without its query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The query without its question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}

/// What a head may not exceed.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits<'a> {
    /// Bytes of all names and values.
    pub header_bytes: usize,
    /// Names that may occur once: where credentials are read.
    pub single: &'a [String],
}

fn is_grpc(value: &[u8]) -> bool {
    let Some((start, rest)) = value.split_at_checked(b"application/grpc".len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(b"application/grpc") && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Bytes that servers read differently in an authority: before `@` stands a user (RFC 9110 §4.2.4), a comma joins two
/// of them, escapes are decoded or not, the others begin or end something else.
const fn ambiguous_in_host(byte: u8) -> bool {
    matches!(byte, b'@' | b',' | b'%' | b'/' | b'\\' | b'?' | b'#' | 0..=0x20 | 0x7f..)
}

/// `host:port` or `[v6]:port` without the port.
fn host_without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

/// An address with port 0 came out of a header, not from the connection.
fn source(address: Option<&str>, trust: SourceTrust) -> Option<IpAddr> {
    let address: SocketAddr = address?.parse().ok()?;
    match trust {
        SourceTrust::Peer if address.port() == 0 => None,
        SourceTrust::Peer | SourceTrust::Xff => Some(address.ip().to_canonical()),
    }
}

#[cfg(test)]
mod tests;
