//! A case file becomes [`Case`]s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

use super::files::{self, Disk, Files};
use super::issuer::TokenSpec;
use crate::config::tree::{Kind, Node, Tree};
use crate::config::values;

/// One file.
#[derive(Clone, Debug)]
pub struct CaseFile {
    /// Where it is, from the folder of cases on.
    pub name: String,
    /// The configuration that its cases run on.
    pub config: PathBuf,
    /// Tokens that the cases show, by name.
    pub tokens: BTreeMap<String, TokenSpec>,
    /// In order.
    pub cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSpec {
    config: PathBuf,
    #[serde(default)]
    tokens: BTreeMap<String, TokenSpec>,
    cases: Vec<Case>,
}

/// One request and what becomes of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is shown, as a sentence.
    pub note: String,
    /// How long after the case before.
    now: Option<String>,
    /// How many times.
    #[serde(default = "once")]
    pub repeat: u32,
    /// The caller's address.
    #[serde(default = "loopback")]
    pub source: String,
    /// Where Envoy routes it.
    #[serde(default)]
    pub route: Route,
    /// What the connection says of the caller's certificate.
    pub certificate: Option<Certificate>,
    /// Whether the stream leaves the workload beside the proxy.
    #[serde(default)]
    pub outbound: bool,
    /// What is sent.
    pub request: Request,
    /// What the upstream answers.
    #[serde(default)]
    pub answer: Answer,
    /// What is seen.
    pub expect: Expect,
    /// The one runner that it is for.
    only: Option<Only>,
    /// Envoy answers it before the filter.
    pub envoy: Option<EnvoyItself>,
}

/// What the proxy says of the route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The virtual host's name; empty: `default`.
    #[serde(default)]
    pub virtual_host: String,
    /// `mlgate.profile` of the route's metadata: any value, since people write any.
    pub profile: Option<Json>,
    /// `mlgate.profile` of the virtual host's metadata.
    pub host_profile: Option<Json>,
}

/// A certificate as Envoy describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Certificate {
    /// URI SANs, as far as it shows them.
    #[serde(deserialize_with = "one_or_more")]
    pub uri_san: Vec<String>,
    /// DNS SANs, likewise.
    #[serde(deserialize_with = "one_or_more")]
    pub dns_san: Vec<String>,
    /// RFC 2253.
    pub subject: Option<String>,
    /// `connection.peer_certificate_valid`; absent: an Envoy that does not know it.
    pub valid: Option<bool>,
}

fn one_or_more<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(name) => vec![name],
        OneOrMore::More(names) => names,
    })
}

/// A request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    method: Option<String>,
    /// Path and query.
    pub path: String,
    /// The authority.
    #[serde(default = "example_host")]
    pub host: String,
    /// The protocol's version: 1 or 2.
    #[serde(default = "http_1")]
    pub http: u8,
    /// Names to one value or several.
    #[serde(default)]
    headers: BTreeMap<String, OneOrMore>,
    body: Option<BodySpec>,
    /// Trailers.
    #[serde(default)]
    pub trailers: BTreeMap<String, String>,
}

/// An upstream's answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// The body in one piece.
    pub body: String,
    /// The body in pieces.
    pub chunks: Vec<String>,
    /// Trailers.
    pub trailers: BTreeMap<String, String>,
}

/// What is expected.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The status that the caller reads.
    pub status: u16,
    /// The gRPC status that the caller reads.
    pub grpc_status: Option<u32>,
    /// The public reason; `None`: the request went on.
    pub reason: Option<String>,
    /// Headers of the answer.
    #[serde(default)]
    pub headers: BTreeMap<String, Json>,
    /// What reached the upstream: a word, or an [`UpstreamSpec`].
    pub upstream: Option<Json>,
    /// The determining policies.
    pub because: Option<Vec<String>>,
    /// Fields of the event, or `none`.
    pub audit: Option<Json>,
}

/// What the upstream saw.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamSpec {
    /// Path and query.
    pub path: Option<String>,
    /// Headers.
    pub headers: BTreeMap<String, Json>,
    /// The whole body; absent: the body that was sent.
    pub body: Option<String>,
    /// Trailers.
    pub trailers: BTreeMap<String, Json>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Only {
    runner: String,
    because: String,
}

/// What Envoy answers before the filter sees anything.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvoyItself {
    /// The status.
    pub status: u16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum BodySpec {
    Text(String),
    Made(MadeBody),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MadeBody {
    json: Option<Json>,
    text: Option<String>,
    repeat: Option<String>,
    times: Option<usize>,
    depth: Option<usize>,
    #[serde(default = "one_piece")]
    chunks: usize,
}

/// A body as it is sent, placeholders not yet replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The whole text.
    pub text: String,
    /// In how many pieces; not more than it has bytes.
    pub chunks: usize,
}

// === impl CaseFile ===

impl CaseFile {
    /// Every case file under a folder of this machine.
    ///
    /// # Errors
    /// As [`Self::all_of`].
    pub fn all(folder: &Path) -> Result<Vec<Self>, String> {
        Self::all_of(&Disk, folder)
    }

    /// Every case file under a folder, in the order of their names. The folder `config` holds none.
    ///
    /// # Errors
    /// The first file that cannot be read, with its place.
    pub fn all_of(files: &dyn Files, folder: &Path) -> Result<Vec<Self>, String> {
        let paths = files::below(files, folder)?;
        paths.iter().map(|path| Self::read(files, folder, path)).collect()
    }

    fn read(files: &dyn Files, folder: &Path, path: &Path) -> Result<Self, String> {
        let name = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        let bytes = files.read(path)?;
        let tree = Tree::from_yaml(&bytes).map_err(|faults| format!("{name}: {faults:?}"))?;
        if let Some((line, member)) = duplicate(tree.root()) {
            return Err(format!("{name}:{line}: `{member}` twice"));
        }
        let spec: FileSpec =
            serde_json::from_value(tree.to_json()).map_err(|error| format!("{name}: {error}"))?;
        let config = files::without_dots(&path.parent().unwrap_or(folder).join(spec.config));
        for case in &spec.cases {
            case.check().map_err(|error| format!("{name}: `{}`: {error}", case.note))?;
        }
        Ok(Self { name, config, tokens: spec.tokens, cases: spec.cases })
    }
}

// === impl Case ===

impl Case {
    /// How long after the case before it happens.
    pub fn wait(&self) -> Duration {
        let text = self.now.as_deref().and_then(|text| text.strip_prefix('+')).unwrap_or("0s");
        values::duration(text).unwrap_or_default()
    }

    /// Why a runner should not run it.
    pub fn skipped_by(&self, runner: &str) -> Option<String> {
        self.only.as_ref().filter(|only| only.runner != runner).map(|only| only.because.clone())
    }

    fn check(&self) -> Result<(), String> {
        let wait = self.now.as_deref().map(|text| text.strip_prefix('+').and_then(values::duration));
        if wait == Some(None) {
            return Err("`now` is not like `+2s`".to_owned());
        }
        if !matches!(self.request.http, 1 | 2) || self.repeat == 0 {
            return Err("`http` is 1 or 2, `repeat` at least 1".to_owned());
        }
        if self.only.as_ref().is_some_and(|only| !matches!(only.runner.as_str(), "core" | "envoy")) {
            return Err("a runner is `core` or `envoy`".to_owned());
        }
        let beside = self.certificate.is_some() || self.outbound;
        if beside && self.only.as_ref().is_none_or(|only| only.runner != "core") {
            return Err("a certificate or direction is for the runner `core` alone".to_owned());
        }
        if self.expect.reason.is_none() && self.expect.upstream.as_ref().is_some_and(Json::is_string) {
            return Err("a request that goes on reaches its upstream: say what it saw, or nothing".to_owned());
        }
        self.expect.seen().map(|_| ())?;
        self.request.body().map(|_| ())
    }
}

// === impl Request ===

impl Request {
    /// The method.
    pub fn method(&self) -> &str {
        match &self.method {
            Some(method) => method,
            None if self.body.is_some() => "POST",
            None => "GET",
        }
    }

    /// Name and value of each field, placeholders not yet replaced. A JSON body brings its type.
    pub fn headers(&self) -> Vec<(&str, &str)> {
        let mut fields: Vec<(&str, &str)> = Vec::new();
        for (name, values) in &self.headers {
            match values {
                OneOrMore::One(value) => fields.push((name, value)),
                OneOrMore::More(values) => {
                    fields.extend(values.iter().map(|value| (name.as_str(), value.as_str())))
                }
            }
        }
        let json =
            matches!(&self.body, Some(BodySpec::Made(made)) if made.json.is_some() || made.depth.is_some());
        if json && !self.headers.contains_key("content-type") {
            fields.push(("content-type", "application/json"));
        }
        fields
    }

    /// The body; `None` where the headers end the request.
    ///
    /// # Errors
    /// A body that is not said in exactly one way.
    pub fn body(&self) -> Result<Option<Body>, String> {
        let made = match &self.body {
            None => return Ok(None),
            Some(BodySpec::Text(text)) => return Ok(Some(Body { text: text.clone(), chunks: 1 })),
            Some(BodySpec::Made(made)) => made,
        };
        let text = match made {
            MadeBody { json: Some(json), text: None, repeat: None, times: None, depth: None, .. } => {
                json.to_string()
            }
            MadeBody { json: None, text: Some(text), repeat: None, times: None, depth: None, .. } => {
                text.clone()
            }
            MadeBody {
                json: None, text: None, repeat: Some(text), times: Some(times), depth: None, ..
            } => text.repeat(*times),
            MadeBody { json: None, text: None, repeat: None, times: None, depth: Some(depth), .. } => {
                let (open, close) = ("[".repeat(*depth), "]".repeat(*depth));
                format!(r#"{{"model":"fraud","input":{open}{close}}}"#)
            }
            _ => {
                return Err(
                    "a body is a text, or one of `json`, `text`, `repeat` with `times`, `depth`".to_owned()
                );
            }
        };
        Ok(Some(Body { text, chunks: made.chunks.max(1) }))
    }
}

// === impl Answer ===

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: 200,
            headers: BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]),
            body: r#"{"predictions":[0.93]}"#.to_owned(),
            chunks: Vec::new(),
            trailers: BTreeMap::new(),
        }
    }
}

impl Answer {
    /// The pieces of the body.
    pub fn pieces(&self) -> Vec<&str> {
        match self.chunks.as_slice() {
            [] if self.body.is_empty() => Vec::new(),
            [] => vec![&self.body],
            chunks => chunks.iter().map(String::as_str).collect(),
        }
    }
}

/// What of a request the upstream may see.
#[derive(Clone, Debug)]
pub enum Reach {
    /// Nothing.
    Untouched,
    /// Headers at most: no byte of the body, and no end.
    HeadersOnly,
    /// All of it, like this.
    Reached(Box<UpstreamSpec>),
}

// === impl Expect ===

impl Expect {
    /// What the upstream sees.
    ///
    /// # Errors
    /// Neither a word nor an object of the form.
    pub fn seen(&self) -> Result<Reach, String> {
        match (&self.upstream, &self.reason) {
            (None, Some(_)) => Ok(Reach::Untouched),
            (None, None) => Ok(Reach::Reached(Box::default())),
            (Some(Json::String(word)), _) => match word.as_str() {
                "untouched" => Ok(Reach::Untouched),
                "headers_only" => Ok(Reach::HeadersOnly),
                "reached" => Ok(Reach::Reached(Box::default())),
                _ => Err(format!("`{word}` says nothing of the upstream")),
            },
            (Some(fields), _) => serde_json::from_value(fields.clone())
                .map(|spec| Reach::Reached(Box::new(spec)))
                .map_err(|error| format!("upstream: {error}")),
        }
    }
}

fn once() -> u32 {
    1
}

fn one_piece() -> usize {
    1
}

fn http_1() -> u8 {
    1
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

fn example_host() -> String {
    "models.example".to_owned()
}

/// The first member that is written twice, since the later one would silently win.
fn duplicate(node: &Node) -> Option<(u32, &str)> {
    match &node.kind {
        Kind::List(nodes) => nodes.iter().find_map(duplicate),
        Kind::Object(members) => members
            .iter()
            .enumerate()
            .find(|(index, member)| members.iter().take(*index).any(|earlier| earlier.name == member.name))
            .map(|(_, member)| (member.node.line, member.name.as_str()))
            .or_else(|| members.iter().find_map(|member| duplicate(&member.node))),
        _ => None,
    }
}
