//! Small grammars of the document: durations, sizes, timestamps.

use std::time::Duration;

use serde::Deserialize;

use crate::time::UnixTime;

/// A duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DurationText(pub Duration);

/// A size in bytes: a whole number, alone or with one of `B`, `KiB`, `MiB`, `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SizeForm")]
pub struct SizeText(pub u64);

/// An RFC 3339 timestamp with a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TimestampText(pub UnixTime);

#[derive(Deserialize)]
#[serde(untagged)]
enum SizeForm {
    Number(u64),
    Text(String),
}

/// Reads a duration such as `50ms` or `1h`; `None` for anything else, and for zero.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).filter(|millis| *millis > 0).map(Duration::from_millis)
}

/// Reads a size such as `64KiB`; `None` for anything else.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let bytes: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}

impl TryFrom<String> for DurationText {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        duration(&text).map(Self).ok_or("not a duration such as `50ms`, `10s`, `5m`, `1h`, `1d`")
    }
}

impl TryFrom<String> for TimestampText {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        UnixTime::parse(&text).map(Self).map_err(|_| "not an RFC 3339 timestamp with a zone")
    }
}

impl TryFrom<SizeForm> for SizeText {
    type Error = &'static str;
    fn try_from(form: SizeForm) -> Result<Self, Self::Error> {
        match form {
            SizeForm::Number(bytes) => Some(bytes),
            SizeForm::Text(text) => size(&text),
        }
        .map(Self)
        .ok_or("not a size such as `64KiB` or `1MiB`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit_and_are_not_zero() {
        assert_eq!(duration("50ms"), Some(Duration::from_millis(50)));
        assert_eq!(duration("1d"), Some(Duration::from_secs(86_400)));
        for wrong in ["", "5", "ms", "1.5s", "-1s", "0s", "1 s", "18446744073709551615d", "1h30m"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("7"), Some(7));
        for wrong in ["", "KiB", "1KB", "1.5MiB", "99999999999999GiB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
