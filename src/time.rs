//! The two clocks: wall time for tokens and records, monotonic time for limits and waits.

use std::fmt;
use std::time::Duration;

/// Wall-clock time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

/// Monotonic time of the host process, in nanoseconds from an arbitrary origin that all workers share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(u64);

/// A time of each day, in milliseconds since midnight UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay(u32);

/// A text that is not an RFC 3339 timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTimestamp;

// === impl UnixTime ===

impl UnixTime {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Parses an RFC 3339 timestamp with a zone; what is finer than a millisecond is cut off.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        let parsed: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp)?;
        Ok(Self(parsed.as_millisecond()))
    }

    /// The time of its day, in UTC.
    pub fn time_of_day(self) -> TimeOfDay {
        TimeOfDay(u32::try_from(self.0.rem_euclid(DAY)).unwrap_or_default())
    }

    /// Its day of the week in UTC: `monday` to `sunday`.
    pub fn weekday(self) -> &'static str {
        let days = usize::try_from(self.0.div_euclid(DAY).rem_euclid(7)).unwrap_or_default();
        // 1970-01-01 was a Thursday
        WEEKDAYS.iter().cycle().skip(3).nth(days).copied().unwrap_or_default()
    }

    /// This time moved by `duration`; saturates at the ends.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for UnixTime {
    /// RFC 3339 in UTC with milliseconds, as audit events carry it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.3}"),
            Err(_) => f.write_str("9999-12-31T23:59:59.999Z"),
        }
    }
}

// === impl TimeOfDay ===

impl TimeOfDay {
    /// Parses `HH:MM`, `HH:MM:SS` or `HH:MM:SS.mmm`.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        let (clock, fraction) = text.split_once('.').unwrap_or((text, "000"));
        let mut parts = clock.split(':');
        let mut digits = |most: u32, wanted: bool| match parts.next() {
            None if !wanted => Ok(0),
            Some(part) if part.len() == 2 => {
                number(part).filter(|number| *number <= most).ok_or(InvalidTimestamp)
            }
            _ => Err(InvalidTimestamp),
        };
        let fractional = clock.len() < text.len();
        let (hours, minutes, seconds) = (digits(23, true)?, digits(59, true)?, digits(59, fractional)?);
        let millis = number(fraction).filter(|_| fraction.len() == 3).ok_or(InvalidTimestamp)?;
        if parts.next().is_some() {
            return Err(InvalidTimestamp);
        }
        let seconds =
            hours.saturating_mul(3600).saturating_add(minutes.saturating_mul(60)).saturating_add(seconds);
        Ok(Self(seconds.saturating_mul(1000).saturating_add(millis)))
    }
}

impl fmt::Display for TimeOfDay {
    /// `HH:MM:SS.mmm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.div_euclid(1000), self.0.rem_euclid(1000));
        let (minutes, seconds) = (seconds.div_euclid(60), seconds.rem_euclid(60));
        write!(f, "{:02}:{:02}:{seconds:02}.{millis:03}", minutes.div_euclid(60), minutes.rem_euclid(60))
    }
}

/// A number of nothing but digits.
fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// A day, in milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// Days of a week, in lower case.
pub const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

// === impl Monotonic ===

impl Monotonic {
    /// From nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// This time moved by `duration`; saturates.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_survives_text() {
        let time = UnixTime::parse("2026-02-27T10:00:00.25Z").unwrap();
        assert_eq!(time.to_string(), "2026-02-27T10:00:00.250Z");
        assert_eq!(UnixTime::parse(&time.to_string()), Ok(time));
        assert_eq!(UnixTime::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_moment_has_a_time_of_day_and_a_weekday_in_utc() {
        for (text, time, weekday) in [
            ("1970-01-01T00:00:00Z", "00:00:00.000", "thursday"),
            ("1969-12-31T23:59:59.999Z", "23:59:59.999", "wednesday"),
            ("2026-11-23T01:02:03.004+05:00", "20:02:03.004", "sunday"),
            ("2000-02-29T12:00:00Z", "12:00:00.000", "tuesday"),
        ] {
            let moment = UnixTime::parse(text).unwrap();
            assert_eq!(
                (moment.time_of_day().to_string().as_str(), moment.weekday()),
                (time, weekday),
                "{text}"
            );
            assert_eq!(TimeOfDay::parse(time), Ok(moment.time_of_day()));
        }
    }

    #[test]
    fn a_time_of_day_has_one_form() {
        assert_eq!(TimeOfDay::parse("09:30"), TimeOfDay::parse("09:30:00.000"));
        for wrong in [
            "",
            "9:30",
            "24:00",
            "09:60",
            "09:30:60",
            "09:30.5",
            "09:30.500",
            "+9:30",
            "09:30:00:00",
            "09:30:00.5",
        ] {
            assert_eq!(TimeOfDay::parse(wrong), Err(InvalidTimestamp), "{wrong}");
        }
    }

    #[test]
    fn a_time_without_zone_is_refused() {
        assert_eq!(UnixTime::parse("2026-02-27T10:00:00"), Err(InvalidTimestamp));
    }
}
