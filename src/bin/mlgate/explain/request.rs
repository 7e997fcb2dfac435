//! The request of `explain`: a small document of its own, read like a configuration.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use mlgate::config::faults::Faults;
use mlgate::config::shape::grammar::{self, Grammar};
use mlgate::config::shape::{self, Object, Rest, Shape, optional, required};
use mlgate::config::tree::{Kind, Member, Node, Tree};
use mlgate::http::{PeerCertificate, RouteProfile, StreamFacts};
use mlgate::identity::api_key::ApiKey;
use mlgate::time::UnixTime;

use crate::{Stop, format_of, read_file};

/// A request as a person describes it.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// `:method`, `:path`, `:authority` and the other headers, in written order.
    pub(super) headers: Vec<(String, String)>,
    /// The caller's name, where no key is shown.
    pub(super) principal: Option<String>,
    /// Whether the key that it shows was made for a `principal`.
    pub(super) assumed: bool,
    /// The caller's key.
    pub(super) key: Option<String>,
    /// What the proxy would say of the stream.
    pub(super) facts: StreamFacts,
    /// The body.
    pub(super) body: Vec<u8>,
    /// When; absent means now.
    pub(super) at: Option<UnixTime>,
}

/// Words of a request; the help of `explain` shows them.
static WORDS: Shape = Shape::Object(&Object {
    fields: &[
        required("method", Shape::Text(&grammar::METHOD), ""),
        required("path", Shape::Text(&TARGET), ""),
        optional("host", Shape::Text(&grammar::NAME), ""),
        optional("headers", HEADERS, ""),
        optional("principal", Shape::Text(&grammar::CONSUMER), ""),
        optional("key", Shape::Text(&KEY), ""),
        optional("certificate", Shape::Object(&CERTIFICATE), ""),
        optional("source", Shape::Text(&ADDRESS), ""),
        optional("route", Shape::Text(&grammar::ANY), ""),
        optional("profile", Shape::Text(&grammar::NAME), ""),
        // of any shape: see `body`
        optional("body", Shape::Bool, ""),
        optional("at", Shape::Timestamp, ""),
    ],
    rest: None,
});

/// What the proxy would say of the connection's certificate, which it calls valid.
static CERTIFICATE: Object = Object {
    fields: &[
        optional("uri_san", SANS, ""),
        optional("dns_san", SANS, ""),
        optional("subject", Shape::Text(&grammar::LONG), ""),
    ],
    rest: None,
};

/// Several are a list.
const SANS: Shape =
    Shape::Either(&[Shape::Text(&grammar::LONG), Shape::List { of: &Shape::Text(&grammar::LONG), min: 1 }]);

/// A header that comes twice is a list.
const HEADERS: Shape = Shape::Object(&Object {
    fields: &[],
    rest: Some(Rest {
        names: &grammar::HEADER,
        of: Shape::Either(&[Shape::Text(&VALUE), Shape::List { of: &Shape::Text(&VALUE), min: 1 }]),
    }),
});

static TARGET: Grammar =
    text(|text| text.starts_with('/') && !text.contains(char::is_control), "a path, perhaps with a query");

static VALUE: Grammar = text(|text| !text.contains(['\0', '\r', '\n']), "a header value of one line");

static KEY: Grammar =
    text(|text| ApiKey::parse(text.as_bytes()).is_ok(), "a whole key, as `mlgate key new` printed it");

static ADDRESS: Grammar = text(|text| text.parse::<IpAddr>().is_ok(), "an address such as `10.1.2.3`");

/// The port of a caller: any but 0, which says that an address came from a header.
const PORT: u16 = 40_000;

/// Credentials stand in headers and keys: no fault repeats a text.
const fn text(check: fn(&str) -> bool, say: &'static str) -> Grammar {
    Grammar { check, pattern: "", say, secret: true }
}

// === impl Request ===

impl Request {
    /// Reads one, YAML or JSON.
    pub(super) fn open(path: &Path) -> Result<Self, Stop> {
        let bytes = read_file(path)?;
        Self::read(&bytes, format_of(path)).map_err(|faults| {
            let faults: Vec<String> = faults.into_vec().iter().map(ToString::to_string).collect();
            Stop::invalid(path.display(), faults.join("; "), "see `mlgate explain --help`")
        })
    }

    fn read(bytes: &[u8], format: mlgate::config::Format) -> Result<Self, Faults> {
        let tree = Tree::read(bytes, format)?;
        let mut root = tree.root().clone();
        let body = body(&mut root);
        let faults = shape::check(&WORDS, &root);
        match root.kind {
            Kind::Object(members) if faults.is_empty() => Ok(Self::of(members, body)),
            _ => Err(faults),
        }
    }

    /// INVARIANT: the members have the shape of [`WORDS`]
    fn of(members: Vec<Member>, body: Option<(Vec<u8>, bool)>) -> Self {
        let mut request = Self::default();
        let (mut method, mut target, mut host) = (String::new(), String::new(), String::from("localhost"));
        for Member { name, node } in members {
            match (name.as_str(), node.kind) {
                ("method", Kind::Text(text)) => method = text,
                ("path", Kind::Text(text)) => target = text,
                ("host", Kind::Text(text)) => host = text,
                ("headers", Kind::Object(headers)) => {
                    headers.into_iter().for_each(|header| request.header(header))
                }
                ("principal", Kind::Text(text)) => request.principal = Some(text),
                ("key", Kind::Text(text)) => request.key = Some(text),
                ("certificate", Kind::Object(names)) => request.facts.peer = certificate(names),
                ("source", Kind::Text(text)) => {
                    let address = text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT));
                    request.facts.source_address = address.map(|address| address.to_string());
                }
                ("route", Kind::Text(text)) => {
                    let (host, route) = text.split_once('/').unwrap_or(("", &text));
                    request.facts.virtual_host = host.to_owned();
                    request.facts.route_name = route.to_owned();
                }
                ("profile", Kind::Text(text)) => request.facts.route_profile = RouteProfile::Named(text),
                ("at", Kind::Text(text)) => request.at = UnixTime::parse(&text).ok(),
                _ => {}
            }
        }
        let pseudo = [(":method", method), (":path", target), (":authority", host)];
        request.headers.splice(0..0, pseudo.map(|(name, value)| (name.to_owned(), value)));
        if let Some((bytes, json)) = body {
            if json && !request.headers.iter().any(|(name, _)| name == "content-type") {
                request.headers.push((String::from("content-type"), String::from("application/json")));
            }
            request.body = bytes;
        }
        request.facts.end_of_stream = request.body.is_empty();
        request
    }

    fn header(&mut self, Member { name, node }: Member) {
        match node.kind {
            Kind::Text(value) => self.headers.push((name, value)),
            Kind::List(values) => {
                values.into_iter().for_each(|node| self.header(Member { name: name.clone(), node }))
            }
            _ => {}
        }
    }
}

fn certificate(names: Vec<Member>) -> PeerCertificate {
    let mut shown = PeerCertificate { presented: true, valid: Some(true), ..PeerCertificate::default() };
    for Member { name, node } in names {
        match (name.as_str(), node.kind) {
            ("uri_san", kind) => shown.names.uri_sans = texts(kind),
            ("dns_san", kind) => shown.names.dns_sans = texts(kind),
            ("subject", Kind::Text(text)) => shown.names.subject = Some(text),
            _ => {}
        }
    }
    shown
}

/// One text, or several.
fn texts(kind: Kind) -> Vec<String> {
    match kind {
        Kind::Text(text) => vec![text],
        Kind::List(nodes) => nodes.into_iter().flat_map(|node| texts(node.kind)).collect(),
        _ => Vec::new(),
    }
}

/// Takes the body out, leaving what any body is for the check: its bytes, and whether they were made JSON here.
fn body(root: &mut Node) -> Option<(Vec<u8>, bool)> {
    let Kind::Object(members) = &mut root.kind else { return None };
    let mut body = None;
    for member in members.iter_mut().filter(|member| member.name == "body") {
        body = Some(match std::mem::replace(&mut member.node.kind, Kind::Bool(true)) {
            Kind::Text(text) => (text.into_bytes(), false),
            kind => (Node { line: member.node.line, kind }.to_json().to_string().into_bytes(), true),
        });
    }
    body
}
