//! One line of an audit log becomes a [`Record`]: what was asked and what the gate said, as far as it was written down.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::audit::analysis::fact::UnreadableLine;
use crate::audit::event::VERSION;
use crate::filter::refusal::Reason;
use crate::policy::attributes::{self, AttributeMap, Value};
use crate::time::UnixTime;

use super::candidate::Answer;

/// A recorded decision.
#[derive(Clone, Debug)]
pub struct Record {
    /// The caller has it too.
    pub decision_id: String,
    /// Place in its chain, to know it when it comes again.
    pub place: (String, u64),
    /// When it was made.
    pub timestamp: UnixTime,
    /// Requests that it stands for.
    pub count: u64,
    /// The caller's id; `None` where nobody was authenticated.
    pub principal: Option<String>,
    /// The caller's bare name.
    pub name: String,
    /// Of the caller.
    pub roles: Vec<String>,
    /// Which rates applied.
    pub tier: Option<String>,
    /// Attributes of the caller, as far as they were written down.
    pub attributes: AttributeMap,
    /// Scopes of a token.
    pub scopes: Vec<String>,
    /// How the caller was shown.
    pub credential: RecordedCredential,
    /// Type and id of what was asked for.
    pub resource: Option<(String, String)>,
    /// What it would do.
    pub action: Option<String>,
    /// HTTP method.
    pub method: String,
    /// `:authority`, as it was written.
    pub host: String,
    /// Without the query.
    pub path: String,
    /// Which profile applied.
    pub profile: Option<String>,
    /// From where.
    pub source: Option<IpAddr>,
    /// The configuration that decided.
    pub policy_revision: String,
    /// Whether the event was too large and lost its lists and attributes.
    pub cut: bool,
    /// Why it was refused, whoever refused it.
    pub reason: Option<String>,
    /// What the policies said; `None` where they were not asked.
    pub said: Option<Answer>,
}

/// `credential` of an event.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RecordedCredential {
    /// `api_key`, `jwt`, `mtls`, …
    pub method: String,
    /// The public part of a key, the name in a certificate.
    pub id: Option<String>,
    /// `iss` of a token.
    pub issuer: Option<String>,
    /// `jti` of a token.
    pub jti: Option<String>,
}

/// What a line is.
#[derive(Debug)]
pub enum Recorded {
    /// A decision.
    Decision(Box<Record>),
    /// Another event.
    Other,
}

#[derive(Deserialize)]
struct Line {
    v: u64,
    #[serde(rename = "type")]
    kind: String,
    chain: String,
    seq: u64,
    timestamp: String,
    #[serde(default)]
    decision_id: String,
    count: Option<u64>,
    principal: Option<String>,
    user_id: Option<String>,
    org: Option<String>,
    team: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    tier: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    credential: RecordedCredential,
    resource: Option<LineResource>,
    action: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, BTreeMap<String, Json>>,
    #[serde(default)]
    method: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    path: String,
    profile: Option<String>,
    source: Option<String>,
    #[serde(default)]
    policy_revision: String,
    #[serde(default)]
    degraded: Vec<String>,
    reason: Option<String>,
    #[serde(default)]
    policies: Vec<String>,
}

#[derive(Deserialize)]
struct LineResource {
    #[serde(rename = "type")]
    kind: String,
    id: String,
}

/// What an event that was too large says in `degraded`.
const CUT: &str = "event_cut";

// === impl Recorded ===

impl Recorded {
    /// Reads one line, with or without its line break.
    ///
    /// # Errors
    /// Why it is no event.
    pub fn parse(line: &[u8]) -> Result<Self, UnreadableLine> {
        let line: Line =
            serde_json::from_slice(line).map_err(|error| UnreadableLine::because(error.to_string()))?;
        if line.v != VERSION {
            return Err(UnreadableLine::because(format!("`v` is not {VERSION}")));
        }
        if line.kind != "access" {
            return Ok(Self::Other);
        }
        let timestamp = UnixTime::parse(&line.timestamp)
            .map_err(|_| UnreadableLine::because(String::from("`timestamp` is not RFC 3339")))?;
        Ok(Self::Decision(Box::new(Record::of(line, timestamp))))
    }
}

// === impl Record ===

impl Record {
    fn of(line: Line, timestamp: UnixTime) -> Self {
        let said = said(&line);
        let mut known = AttributeMap::new();
        for (name, text) in [("org", line.org), ("team", line.team)] {
            known.extend(text.map(|text| (name.to_owned(), Value::Text(text))));
        }
        let written = line.attributes.get("principal").into_iter().flatten();
        known.extend(written.filter_map(|(name, json)| Some((name.clone(), attributes::value(json)?))));
        ["id", "roles", "tier"].iter().for_each(|name| drop(known.remove(*name)));
        Self {
            decision_id: line.decision_id,
            place: (line.chain, line.seq),
            timestamp,
            count: line.count.unwrap_or(1),
            name: line.user_id.or_else(|| line.principal.clone()).unwrap_or_default(),
            principal: line.principal,
            roles: line.roles,
            tier: line.tier,
            attributes: known,
            scopes: line.scopes,
            credential: line.credential,
            resource: line.resource.map(|resource| (resource.kind, resource.id)),
            action: line.action,
            method: line.method,
            host: line.host,
            path: line.path,
            profile: line.profile,
            source: line.source.and_then(|source| source.parse().ok()),
            policy_revision: line.policy_revision,
            cut: line.degraded.iter().any(|what| what == CUT),
            reason: line.reason,
            said,
        }
    }
}

/// What the policies said, from how the request ended: what a later stage refused, they had allowed.
fn said(line: &Line) -> Option<Answer> {
    line.principal.as_ref()?;
    let reason =
        line.reason.as_ref().map(|word| Reason::ALL.into_iter().find(|reason| reason.answer().inner == word));
    let policies = line.policies.clone();
    match reason {
        Some(Some(
            reason @ (Reason::ExplicitDeny
            | Reason::NoMatch
            | Reason::PolicyError
            | Reason::Role
            | Reason::Scope
            | Reason::ResourceUnknown),
        )) => Some(Answer { refused: Some(reason), policies }),
        // a success, or what was refused after the decision
        _ => line.resource.is_some().then_some(Answer { refused: None, policies }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> Record {
        let line = format!(
            "{{\"chain\":\"g/0\",\"decision_id\":\"d\",\"principal\":\"u\",\"resource\":{{\"id\":\"m\",\"type\":\"model\"}},\
             \"seq\":7,\"timestamp\":\"2026-02-27T10:00:00.250Z\",\"type\":\"access\",\"v\":1{more}}}"
        );
        match Recorded::parse(line.as_bytes()).unwrap() {
            Recorded::Decision(record) => *record,
            Recorded::Other => panic!("{line}"),
        }
    }

    #[test]
    fn what_the_policies_said_follows_from_how_the_request_ended() {
        for (more, said) in [
            ("", Some(None)),
            (",\"reason\":\"rate_limited\"", Some(None)),
            (",\"reason\":\"no_match\"", Some(Some(Reason::NoMatch))),
            (",\"reason\":\"scope\"", Some(Some(Reason::Scope))),
        ] {
            assert_eq!(read(more).said.map(|answer| answer.refused), said, "{more}");
        }
    }

    #[test]
    fn attributes_come_from_all_members_that_hold_any() {
        let record = read(
            ",\"team\":\"risk\",\"attributes\":{\"principal\":{\"kind\":\"employee\",\"roles\":[\"x\"]},\
             \"resource\":{\"stage\":\"production\"}}",
        );
        let names: Vec<&str> = record.attributes.keys().map(String::as_str).collect();
        assert_eq!(names, ["kind", "team"]);
    }

    #[test]
    fn other_events_are_no_decisions() {
        let line = br#"{"chain":"g/0","seq":0,"timestamp":"2026-02-27T10:00:00Z","type":"open","v":1}"#;
        assert!(matches!(Recorded::parse(line), Ok(Recorded::Other)));
        assert!(Recorded::parse(b"nonsense").is_err());
    }
}
