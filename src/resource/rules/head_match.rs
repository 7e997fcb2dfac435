//! What a request must look like: methods, a path and a host with captures.
//!
//! A path is matched in two readings, as it came and with its escapes decoded, since model servers differ in which
//! they act on. Both must say the same; otherwise whoever writes `/v1/models/%61dmin` could walk past the rule for
//! `/v1/models/admin` into one for `/v1/models/{model}` (RFC 3986 §6.2.2.2).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::pattern::{Captures, Pattern};
use crate::config::faults::Faults;
use crate::http::path::canonical;
use crate::resource::spec::MatchSpec;

/// The compiled `match` of a rule or a profile.
#[derive(Clone, Debug)]
pub struct HeadMatch {
    /// `None`: any.
    methods: Option<Vec<String>>,
    path: Option<Pattern>,
    host: Option<Pattern>,
}

/// What a request looks like to a [`HeadMatch`].
pub(super) enum Likeness<'p, 't> {
    /// It matches, in every reading.
    Same(Captures<'p, 't>),
    /// It does not.
    Other,
    /// Its readings differ.
    Ambiguous,
}

/// A canonical path, split into segments.
pub(super) struct PathReadings<'t> {
    raw: Vec<&'t str>,
    /// `None`: there are no escapes, so that the raw segments are the only reading.
    decoded: Option<Vec<Cow<'t, str>>>,
}

// === impl HeadMatch ===

impl HeadMatch {
    /// Compiles `spec`, which stands at `pointer`.
    pub fn compile(spec: &MatchSpec, pointer: &str, faults: &mut Faults) -> Self {
        if spec.path.is_none() && spec.host.is_none() {
            faults.at(pointer, "this matches every path of every host", "write a `path` or a `host`");
        }
        check_methods(spec, pointer, faults);
        let path = spec.path.as_ref().and_then(|path| {
            let pointer = format!("{pointer}/path");
            let compiled = Pattern::compile(path, '/', &pointer, faults)?;
            check_path(path, &compiled, &pointer, faults);
            Some(compiled)
        });
        let host = spec.host.as_ref().and_then(|host| {
            let pointer = format!("{pointer}/host");
            let port = !host.starts_with('[') && host.contains(':');
            if host.is_empty() || port || host.contains(['/', '*']) || host.chars().any(char::is_uppercase) {
                faults.at(
                    &pointer,
                    format!("`{host}` is not a host as requests are compared with it"),
                    "write it in lower case, without scheme, port or `*`; `{x}` captures one label",
                );
            }
            Pattern::compile(host, '.', &pointer, faults)
        });
        if let (Some(path), Some(host)) = (&path, &host)
            && let Some(twice) = path.names().find(|name| host.names().any(|known| known == *name))
        {
            faults.at(pointer, format!("`{twice}` is captured twice"), "give each capture its own name");
        }
        Self { methods: spec.methods.clone(), path, host }
    }

    /// Whether a request looks like this. `path` is canonical and without query, `host` in lower case without port.
    pub fn matches(&self, method: &str, path: &str, host: &str) -> bool {
        PathReadings::of(path)
            .is_some_and(|path| matches!(self.compare(method, &path, host), Likeness::Same(_)))
    }

    pub(super) fn compare<'p, 't>(
        &'p self,
        method: &str,
        path: &'t PathReadings<'t>,
        host: &'t str,
    ) -> Likeness<'p, 't> {
        if self.methods.as_ref().is_some_and(|methods| !methods.iter().any(|known| known == method)) {
            return Likeness::Other;
        }
        let mut captures = Captures::new();
        if !self.host.as_ref().is_none_or(|pattern| pattern.matches(host.split('.'), &mut captures)) {
            return Likeness::Other;
        }
        let Some(pattern) = &self.path else { return Likeness::Same(captures) };
        let mut as_it_came = Captures::new();
        let raw = pattern.matches(path.raw.iter().copied(), &mut as_it_came);
        let Some(decoded) = &path.decoded else {
            captures.append(&mut as_it_came);
            return if raw { Likeness::Same(captures) } else { Likeness::Other };
        };
        let from = captures.len();
        let decoded = pattern.matches(decoded.iter().map(|segment| &**segment), &mut captures);
        match (raw, decoded) {
            (false, false) => Likeness::Other,
            (true, true) if alike(captures.iter().skip(from), as_it_came.iter()) => Likeness::Same(captures),
            _ => Likeness::Ambiguous,
        }
    }

    /// The names it captures.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.path.iter().chain(&self.host).flat_map(Pattern::names)
    }
}

// === impl PathReadings ===

impl<'t> PathReadings<'t> {
    /// `None` when what the escapes stand for is not UTF-8.
    pub(super) fn of(path: &'t str) -> Option<Self> {
        let raw: Vec<&str> = path.split('/').collect();
        let decoded = if path.contains('%') {
            Some(raw.iter().map(|segment| decode(segment)).collect::<Option<Vec<_>>>()?)
        } else {
            None
        };
        Some(Self { raw, decoded })
    }
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

/// Whether decoding before and after the split gives the same captures.
fn alike<'a>(
    decoded: impl Iterator<Item = &'a (&'a str, &'a str)>,
    raw: impl Iterator<Item = &'a (&'a str, &'a str)>,
) -> bool {
    decoded.map(|(_, text)| Some(Cow::Borrowed(*text))).eq(raw.map(|(_, text)| decode(text)))
}

fn check_methods(spec: &MatchSpec, pointer: &str, faults: &mut Faults) {
    let Some(methods) = &spec.methods else { return };
    if methods.is_empty() {
        faults.at(
            format!("{pointer}/methods"),
            "an empty list matches nothing",
            "list methods, or leave the word out for any",
        );
    }
    for (index, method) in methods.iter().enumerate() {
        let word = (1..=MAX_METHOD).contains(&method.len())
            && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        if !word {
            faults.at(
                format!("{pointer}/methods/{index}"),
                format!("`{method}` is not a method"),
                "write it in capitals, such as `POST`",
            );
        }
    }
}

/// A path that no canonical request can have would never match, which in an allow-list is surely a mistake.
fn check_path(path: &str, compiled: &Pattern, pointer: &str, faults: &mut Faults) {
    if path.contains('*') {
        faults.at(
            pointer,
            format!("`{path}` has a `*`, which is not special in paths"),
            "capture a segment with `{x}`",
        );
    }
    if path.contains(['%', '?']) || canonical(&compiled.sample()).is_err() {
        faults.at(
            pointer,
            format!("`{path}` can match no request, since paths with more than one reading are refused"),
            "write an absolute path in plain ASCII, without escapes, dot segments, `//`, `;` or a query",
        );
    }
}

/// The longest method, in bytes.
const MAX_METHOD: usize = 32;
