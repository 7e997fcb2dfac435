//! One line of a log becomes a [`Fact`]: the few members that analysis needs, borrowed from the line; the others are
//! skipped. The form is checked as far as it is read; whether the event is genuine is not.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, de};

use crate::audit::event::VERSION;
use crate::time::UnixTime;

/// Bytes of a name that are compared; a longer one is told apart by a digest of the whole.
pub const MAX_NAME_BYTES: usize = 192;

/// What one event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact<'a> {
    /// `<gate>/<nonce>`
    pub chain: Cow<'a, str>,
    /// Place in the chain.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub millis: i64,
    /// What kind it is.
    pub kind: FactKind<'a>,
}

/// `type`
#[expect(clippy::large_enum_variant, reason = "nearly all are decisions, and a box for each costs more")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FactKind<'a> {
    /// A decision and its outcome.
    Access(AccessFact<'a>),
    /// A declared loss of this many events.
    Gap(u64),
    /// Something about the chain itself.
    Other,
}

/// A decision and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessFact<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// Requests that this event stands for.
    pub count: u64,
    /// `principal`
    pub principal: Option<Cow<'a, str>>,
    /// `source`
    pub source: Option<Cow<'a, str>>,
    /// `credential`: the id of an API key.
    pub key: Option<Cow<'a, str>>,
    /// `model_id`
    pub model: Option<Cow<'a, str>>,
    /// `action`
    pub action: Option<Cow<'a, str>>,
    /// `team`
    pub team: Option<Cow<'a, str>>,
    /// `tier`
    pub tier: Option<Cow<'a, str>>,
    /// `profile`
    pub profile: Option<Cow<'a, str>>,
    /// `reason`
    pub reason: Option<Cow<'a, str>>,
    /// `input_bytes`
    pub input_bytes: u64,
    /// `output_bytes`
    pub output_bytes: u64,
    /// `duration_ms`
    pub duration_ms: u64,
}

/// `status`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The client left.
    Aborted,
    /// mlgate refused.
    Denied,
    /// The upstream failed.
    Error,
    /// Neither.
    Success,
}

/// Why a line is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableLine(String);

#[derive(Deserialize)]
struct Line<'a> {
    v: u64,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    chain: Text<'a>,
    seq: u64,
    #[serde(borrow)]
    timestamp: Text<'a>,
    #[serde(borrow)]
    status: Option<Text<'a>>,
    count: Option<u64>,
    #[serde(borrow)]
    principal: Option<Text<'a>>,
    #[serde(borrow)]
    source: Option<Text<'a>>,
    #[serde(borrow)]
    credential: Option<Credential<'a>>,
    #[serde(borrow)]
    model_id: Option<Text<'a>>,
    #[serde(borrow)]
    action: Option<Text<'a>>,
    #[serde(borrow)]
    team: Option<Text<'a>>,
    #[serde(borrow)]
    tier: Option<Text<'a>>,
    #[serde(borrow)]
    profile: Option<Text<'a>>,
    #[serde(borrow)]
    reason: Option<Text<'a>>,
    input_bytes: Option<u64>,
    output_bytes: Option<u64>,
    duration_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Credential<'a> {
    #[serde(borrow)]
    method: Option<Text<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
}

/// A text that is borrowed where it holds no escape; `Option<Cow<str>>` never is.
struct Text<'a>(Cow<'a, str>);

// === impl Fact ===

impl<'a> Fact<'a> {
    /// Reads one line, with or without its line break.
    pub fn parse(line: &'a [u8]) -> Result<Self, UnreadableLine> {
        let line: Line<'a> =
            serde_json::from_slice(line).map_err(|error| UnreadableLine(error.to_string()))?;
        if line.v != VERSION {
            return Err(UnreadableLine(format!("`v` is not {VERSION}")));
        }
        let millis = millis(&line.timestamp.0)
            .ok_or_else(|| UnreadableLine(String::from("`timestamp` is not RFC 3339")))?;
        let kind = match &*line.kind.0 {
            "access" => FactKind::Access(AccessFact::of(
                line.status,
                line.count,
                line.credential,
                [line.principal, line.source, line.model_id, line.action, line.team, line.tier],
                [line.profile, line.reason],
                [line.input_bytes, line.output_bytes, line.duration_ms],
            )?),
            "gap" => FactKind::Gap(line.count.unwrap_or(1)),
            "close" | "config" | "heartbeat" | "open" => FactKind::Other,
            _ => return Err(UnreadableLine(String::from("`type` is unknown"))),
        };
        Ok(Self { chain: line.chain.0, seq: line.seq, millis, kind })
    }
}

// === impl AccessFact ===

impl<'a> AccessFact<'a> {
    fn of(
        status: Option<Text<'a>>,
        count: Option<u64>,
        credential: Option<Credential<'a>>,
        [principal, source, model, action, team, tier]: [Option<Text<'a>>; 6],
        [profile, reason]: [Option<Text<'a>>; 2],
        [input_bytes, output_bytes, duration_ms]: [Option<u64>; 3],
    ) -> Result<Self, UnreadableLine> {
        let outcome = status
            .and_then(|status| Outcome::of(&status.0))
            .ok_or_else(|| UnreadableLine(String::from("`status` is missing or unknown")))?;
        let key = credential.and_then(|credential| {
            credential.id.filter(|_| credential.method.is_some_and(|method| method.0 == "api_key"))
        });
        let name = |text: Option<Text<'a>>| text.map(|text| shortened(text.0));
        Ok(Self {
            outcome,
            count: count.unwrap_or(1),
            principal: name(principal),
            source: name(source),
            key: name(key),
            model: name(model),
            action: name(action),
            team: name(team),
            tier: name(tier),
            profile: name(profile),
            reason: name(reason),
            input_bytes: input_bytes.unwrap_or(0),
            output_bytes: output_bytes.unwrap_or(0),
            duration_ms: duration_ms.unwrap_or(0),
        })
    }

    /// Whether somebody was authenticated.
    pub fn authenticated(&self) -> Option<&str> {
        self.principal.as_deref().filter(|principal| *principal != ANONYMOUS)
    }
}

// === impl Outcome ===

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Aborted, Self::Denied, Self::Error, Self::Success];

    /// As events carry it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Denied => "denied",
            Self::Error => "error",
            Self::Success => "success",
        }
    }

    /// Whether the caller did not get what it asked for, by its own or the upstream's fault.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Denied | Self::Error)
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

// === impl UnreadableLine ===

impl UnreadableLine {
    /// With this reason.
    pub const fn because(why: String) -> Self {
        Self(why)
    }

    /// A line that is longer than an event can be.
    pub fn too_long() -> Self {
        Self(String::from("longer than an event can be"))
    }
}

impl fmt::Display for UnreadableLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Text ===

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

/// The principal of a profile that authenticates nobody.
pub const ANONYMOUS: &str = "anonymous";

/// The form that the filter writes, `2026-02-27T10:00:00.000Z`, without a general parser: a third of the time of a
/// whole run was spent in it.
fn millis(text: &str) -> Option<i64> {
    own_form(text.as_bytes()).or_else(|| UnixTime::parse(text).ok().map(UnixTime::millis))
}

fn own_form(text: &[u8]) -> Option<i64> {
    let text: &[u8; 24] = text.try_into().ok()?;
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        o1,
        o2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        i1,
        i2,
        b':',
        s1,
        s2,
        b'.',
        m1,
        m2,
        m3,
        b'Z',
    ] = text
    else {
        return None;
    };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0_i64, |sum, digit| {
            digit.is_ascii_digit().then(|| sum.saturating_mul(10).saturating_add(i64::from(**digit & 15)))
        })
    };
    let (year, month, day) = (number(&[y1, y2, y3, y4])?, number(&[o1, o2])?, number(&[d1, d2])?);
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[i1, i2])?, number(&[s1, s2])?);
    // days that not every month has, and leap seconds, are the general parser's
    if !(1..=12).contains(&month) || !(1..=28).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_since_1970(year, month, day);
    let seconds = [(days, 24), (hour, 60), (minute, 60)]
        .into_iter()
        .fold(0_i64, |sum, (value, factor)| sum.saturating_add(value).saturating_mul(factor))
        .saturating_add(second);
    Some(seconds.saturating_mul(1000).saturating_add(number(&[m1, m2, m3])?))
}

/// Days of the Gregorian calendar; the year begins in March, so that the leap day is its last.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let month = if month <= 2 { month.saturating_add(9) } else { month.saturating_sub(3) };
    let leap = year.div_euclid(4).saturating_sub(year.div_euclid(100)).saturating_add(year.div_euclid(400));
    // 153 days in each five months from March
    let day_of_year = month.saturating_mul(153).saturating_add(2).div_euclid(5).saturating_add(day);
    year.saturating_mul(365).saturating_add(leap).saturating_add(day_of_year).saturating_sub(719_469)
}

/// A name of bounded length that is still its own.
fn shortened(name: Cow<'_, str>) -> Cow<'_, str> {
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    let digest = crate::audit::chain::hex(&<sha2::Sha256 as sha2::Digest>::digest(name.as_bytes()));
    let cut = name.floor_char_boundary(MAX_NAME_BYTES.saturating_sub(24));
    let start = name.get(..cut).unwrap_or_default();
    Cow::Owned(format!("{start}…{}", digest.get(..16).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(more: &str) -> String {
        format!(
            "{{\"chain\":\"g/0\",\"seq\":7,\"status\":\"denied\",\"timestamp\":\"2026-02-27T10:00:00.250Z\",\
             \"type\":\"access\",\"v\":1{more}}}"
        )
    }

    #[test]
    fn an_event_gives_its_facts_and_the_rest_is_skipped() {
        let line = line(
            ",\"credential\":{\"id\":\"k7f3a2b9\",\"method\":\"api_key\"},\"principal\":\"a\\u0062\",\
             \"attributes\":{\"x\":{\"y\":[\"}\"]}},\"count\":5,\"output_bytes\":9",
        );
        let fact = Fact::parse(line.as_bytes()).unwrap();
        assert_eq!((&*fact.chain, fact.seq, fact.millis), ("g/0", 7, 1_772_186_400_250));
        let FactKind::Access(access) = fact.kind else { panic!("no access") };
        assert_eq!((access.principal.as_deref(), access.key.as_deref()), (Some("ab"), Some("k7f3a2b9")));
        assert_eq!((access.count, access.output_bytes, access.outcome), (5, 9, Outcome::Denied));
        assert!(matches!(fact.chain, Cow::Borrowed(_)));
    }

    #[test]
    fn the_id_of_a_token_is_not_a_key() {
        let line = line(",\"credential\":{\"id\":\"x\",\"method\":\"jwt\"}");
        let FactKind::Access(access) = Fact::parse(line.as_bytes()).unwrap().kind else { panic!() };
        assert_eq!(access.key, None);
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for (from, to) in [
            ("\"v\":1", "\"v\":2"),
            ("\"status\":\"denied\"", "\"status\":\"granted\""),
            ("\"status\":\"denied\",", ""),
            ("\"type\":\"access\"", "\"type\":\"other\""),
            ("2026-02-27T", "2026-02-30T"),
            ("\"seq\":7", "\"seq\":-7"),
            ("\"seq\":7", "\"seq\":7,\"seq\":8"),
            ("}", ""),
        ] {
            assert!(Fact::parse(line("").replacen(from, to, 1).as_bytes()).is_err(), "{from} → {to}");
        }
        assert!(Fact::parse(b"").is_err() && Fact::parse(b"[1]").is_err() && Fact::parse(b"\xff").is_err());
    }

    #[test]
    fn our_own_times_are_those_of_the_general_parser() {
        for year in [1970, 1972, 1999, 2000, 2024, 2026, 2100, 2400, 9999] {
            for month in 1..=12 {
                for day in [1, 15, 28] {
                    let text = format!("{year:04}-{month:02}-{day:02}T23:59:58.123Z");
                    let general = UnixTime::parse(&text).unwrap().millis();
                    assert_eq!(own_form(text.as_bytes()), Some(general), "{text}");
                }
            }
        }
        let leap = "2024-02-29T00:00:00.000Z";
        assert_eq!(millis(leap), UnixTime::parse(leap).ok().map(UnixTime::millis));
        assert_eq!(millis("2026-02-27T11:00:00+01:00"), millis("2026-02-27T10:00:00.000Z"));
    }

    #[test]
    fn a_long_name_stays_its_own() {
        let long = |end: char| format!("{}{end}", "é".repeat(500));
        let (a, b) = (shortened(Cow::Owned(long('a'))), shortened(Cow::Owned(long('b'))));
        assert_ne!(a, b);
        assert!(a.len() <= MAX_NAME_BYTES && b.len() <= MAX_NAME_BYTES);
        assert_eq!(shortened(Cow::Borrowed("short")), "short");
    }
}
