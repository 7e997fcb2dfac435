//! The time that a command looks at, by its options.

use clap::Args;
use mlgate::audit::analysis::detect::Window;
use mlgate::config::values;
use mlgate::time::UnixTime;

use crate::Stop;
use crate::environment::now;

/// From when until when.
#[derive(Clone, Debug, Args)]
pub(super) struct Times {
    /// Begin so long before now (`24h`, `7d`), or at a time (RFC 3339); taken back to the full hour
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = Moment::parse)]
    since: Moment,
    /// End so long before now, or at a time
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    until: Option<Moment>,
    /// Take this for the present time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    now: Option<UnixTime>,
}

/// A time, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    At(UnixTime),
    /// Milliseconds.
    Ago(i64),
}

// === impl Times ===

impl Times {
    /// The window.
    pub(super) fn window(&self) -> Result<Window, Stop> {
        let now = self.now.unwrap_or_else(now).millis();
        let until = self.until.map_or(now, |until| until.millis(now));
        let since = self.since.millis(now);
        if since >= until {
            let (since, until) = (UnixTime::from_millis(since), UnixTime::from_millis(until));
            return Err(Stop::invalid(
                format_args!("--since {since} --until {until}"),
                "the window ends before it begins",
                "give an earlier --since",
            ));
        }
        Ok(Window::new(since, until))
    }

    /// The window that has no end yet.
    pub(super) fn open_window(&self) -> Window {
        Window::new(self.since.millis(now().millis()), i64::MAX)
    }
}

// === impl Moment ===

impl Moment {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(duration) = values::duration(text) {
            return i64::try_from(duration.as_millis()).map(Self::Ago).map_err(|_| String::from("too long"));
        }
        timestamp(text).map(Self::At).map_err(|_| {
            String::from(
                "write how long ago, such as `24h` or `7d`, or a time such as `2026-03-31T00:00:00Z`",
            )
        })
    }

    const fn millis(self, now: i64) -> i64 {
        match self {
            Self::At(time) => time.millis(),
            Self::Ago(millis) => now.saturating_sub(millis),
        }
    }
}

/// Reads a time of an option.
pub(super) fn timestamp(text: &str) -> Result<UnixTime, String> {
    UnixTime::parse(text).map_err(|_| String::from("write a time such as `2026-03-31T00:00:00Z`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        assert_eq!(Moment::parse("24h").unwrap().millis(100_000_000), 13_600_000);
        assert_eq!(Moment::parse("1970-01-01T00:00:01Z").unwrap().millis(9), 1000);
        assert!(Moment::parse("yesterday").is_err() && Moment::parse("").is_err());
    }
}
