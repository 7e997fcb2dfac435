//! Rates and what was charged to them become a verdict: the generic cell rate algorithm (ITU-T I.371 §A.1) in its
//! virtual scheduling form, as whole nanoseconds.
//!
//! Each rate keeps one number, the theoretical arrival time (TAT): when everything charged so far is paid off at one
//! request per increment. A request is admitted while that lies at most a full burst ahead of now. This file is pure
//! arithmetic: it knows neither clocks nor where the numbers are kept.

use std::fmt;
use std::time::Duration;

/// How many rates one limit may have for one tier.
pub const MAX_RATES: usize = 4;

/// The longest `window`.
pub const MAX_WINDOW: Duration = Duration::from_secs(31 * 24 * 3600);

/// The longest that an emptied burst may take to be full again.
pub const MAX_REFILL: Duration = Duration::from_secs(366 * 24 * 3600);

/// The least time between two requests that a rate may express; finer ones would lose precision to whole nanoseconds.
pub const MIN_INCREMENT: Duration = Duration::from_micros(1);

/// TATs of one caller at one limit, in nanoseconds of the monotonic clock; those without a rate are zero. A TAT that
/// does not lie ahead of now says the same as zero.
pub type Tats = [u64; MAX_RATES];

/// `limit` requests in each `window`, at most `burst` of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    limit: u64,
    window: Duration,
    burst: u64,
    /// Nanoseconds that one request costs: window / limit, rounded up so that rounding never admits more.
    increment: u64,
    /// Nanoseconds that a whole burst costs: how far ahead of now an honest TAT can lie.
    full: u64,
}

/// What is wrong with the numbers of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidRate {
    /// A burst of nothing admits nobody.
    BurstZero,
    /// A limit of nothing admits nobody.
    LimitZero,
    /// More than [`MAX_REFILL`] to refill.
    RefillTooLong,
    /// More than one request per [`MIN_INCREMENT`].
    TooFast,
    /// More than [`MAX_WINDOW`].
    WindowTooLong,
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The rate's `limit`.
    pub limit: u64,
    /// Requests that would be admitted at once.
    pub remaining: u64,
    /// After how long without requests the whole burst is there again.
    pub reset: Duration,
}

/// The answer to one charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every rate admits it.
    Admitted {
        /// What to keep instead.
        tats: Tats,
        /// Of the rate nearest refusal; `None` without rates.
        quota: Option<Quota>,
    },
    /// Some rate refuses it, and none is charged.
    Refused {
        /// After how long it would be admitted if nobody else came; the longest there is if it costs more than a burst.
        retry_after: Duration,
        /// Of the rate that takes longest.
        quota: Quota,
    },
}

// === impl Rate ===

impl Rate {
    /// Checks the numbers.
    pub fn new(limit: u64, window: Duration, burst: u64) -> Result<Self, InvalidRate> {
        if limit == 0 {
            return Err(InvalidRate::LimitZero);
        }
        if burst == 0 {
            return Err(InvalidRate::BurstZero);
        }
        if window > MAX_WINDOW {
            return Err(InvalidRate::WindowTooLong);
        }
        if nanos(MIN_INCREMENT).saturating_mul(limit) > nanos(window) {
            return Err(InvalidRate::TooFast);
        }
        let increment = nanos(window).div_ceil(limit);
        match increment.checked_mul(burst) {
            Some(full) if full <= nanos(MAX_REFILL) => Ok(Self { limit, window, burst, increment, full }),
            _ => Err(InvalidRate::RefillTooLong),
        }
    }

    /// Requests per window.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// In which time.
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// The most that any half-open window admits: a full burst, and one per increment of what follows.
    pub const fn promise(&self) -> u64 {
        self.limit.saturating_add(self.burst).saturating_sub(1)
    }

    /// What holds where a service counts it in fixed windows: one window's worth at the end of one, another at the
    /// beginning of the next.
    pub(crate) fn global_promise(&self) -> String {
        let (limit, window) = (self.limit, span(self.window));
        format!(
            "at most 2 x {limit} requests in any {window} over all Envoys, since services count fixed windows"
        )
    }

    /// What a request of this cost adds to the TAT.
    pub(crate) const fn price(&self, cost: u64) -> u64 {
        self.increment.saturating_mul(cost)
    }

    /// The TAT to add to. One further ahead than charges could have brought it comes of a clock that went back, or of
    /// rates that were looser before a reload: it is set to where this very request is still admitted and leaves
    /// nothing over, so that it is overwritten and nobody stays locked out.
    const fn tat(&self, stored: u64, now: u64, cost: u64) -> u64 {
        if stored.saturating_sub(now) > self.full.saturating_add(CLOCK_SLACK) {
            now.saturating_add(self.full.saturating_sub(self.price(cost)))
        } else if stored > now {
            stored
        } else {
            now
        }
    }

    const fn quota(&self, tat: u64, now: u64) -> Quota {
        let left = self.full.saturating_sub(tat.saturating_sub(now));
        let remaining = match left.checked_div(self.increment) {
            Some(remaining) => remaining,
            None => 0,
        };
        Quota { limit: self.limit, remaining, reset: Duration::from_nanos(tat.saturating_sub(now)) }
    }
}

/// The sentence that `check` prints of a rate.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at most {} requests in any {} per Envoy, {} of them at once",
            self.promise(),
            span(self.window),
            self.burst
        )
    }
}

// === impl InvalidRate ===

impl InvalidRate {
    /// The word of the configuration that is to blame.
    pub const fn field(self) -> &'static str {
        match self {
            Self::BurstZero | Self::RefillTooLong => "burst",
            Self::LimitZero | Self::TooFast => "limit",
            Self::WindowTooLong => "window",
        }
    }

    /// What would be right.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::BurstZero => "write at least 1, or leave it out to admit `limit` at once",
            Self::LimitZero => "write at least 1; to forbid something write a deny policy",
            Self::RefillTooLong => "write a smaller burst: refilled at this rate it takes more than 366 days",
            Self::TooFast => "write at most one request for each microsecond of the window",
            Self::WindowTooLong => "write at most 31d",
        }
    }
}

impl fmt::Display for InvalidRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BurstZero => "a burst of 0 admits nobody",
            Self::LimitZero => "a limit of 0 admits nobody",
            Self::RefillTooLong => "the burst is too large for the rate",
            Self::TooFast => "the rate is finer than it can be counted",
            Self::WindowTooLong => "the window is too long",
        })
    }
}

// === impl Quota ===

impl Quota {
    /// The one of two that refuses sooner: less left, and of equals the one that takes longer to recover.
    pub fn nearer(self, other: Self) -> Self {
        let rank = |quota: &Self| (quota.remaining, std::cmp::Reverse(quota.reset));
        if rank(&other) < rank(&self) { other } else { self }
    }
}

/// Charges `cost` requests to every rate, or to none. The TATs come in the order of the rates.
pub fn charge(stored: &Tats, rates: &[Rate], now: u64, cost: u64) -> Verdict {
    let mut tats = Tats::default();
    let mut nearest: Option<Quota> = None;
    let mut refusal: Option<(u64, Quota)> = None;
    for ((new, stored), rate) in tats.iter_mut().zip(stored).zip(rates) {
        let tat = rate.tat(*stored, now, cost);
        *new = tat.saturating_add(rate.price(cost));
        let over = new.saturating_sub(now).saturating_sub(rate.full);
        if over == 0 {
            let quota = rate.quota(*new, now);
            nearest = Some(nearest.map_or(quota, |known| known.nearer(quota)));
        } else {
            // what is over now is paid off in as much time, unless it never fits into a burst
            let wait = if cost > rate.burst { u64::MAX } else { over };
            if refusal.is_none_or(|(known, _)| known < wait) {
                refusal = Some((wait, rate.quota(tat, now)));
            }
        }
    }
    match refusal {
        Some((wait, quota)) => Verdict::Refused { retry_after: Duration::from_nanos(wait), quota },
        None => Verdict::Admitted { tats, quota: nearest },
    }
}

/// Gives back what was charged, less the time that has passed since: that much may have been paid off by idle time
/// which others have used meanwhile, and giving it back twice would admit more than the rate promises.
pub fn refund(tats: &mut Tats, prices: &Tats, elapsed: u64) {
    for (tat, price) in tats.iter_mut().zip(prices) {
        *tat = tat.saturating_sub(price.saturating_sub(elapsed));
    }
}

/// Whether a TAT still says something. One further ahead than any rate allows says nothing: its clock is gone.
pub(crate) fn is_ahead(tat: u64, now: u64) -> bool {
    tat > now && tat.saturating_sub(now) <= nanos(MAX_REFILL).saturating_add(CLOCK_SLACK)
}

/// A duration as the configuration writes it.
pub(crate) fn span(duration: Duration) -> String {
    let millis = duration.as_millis();
    [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
        .into_iter()
        .find_map(|(unit, word)| {
            let whole = millis.checked_div(unit).filter(|whole| *whole > 0 && millis.is_multiple_of(unit))?;
            Some(format!("{whole}{word}"))
        })
        .unwrap_or_else(|| format!("{millis}ms"))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Another worker may have charged at a time that a cached clock has not reached yet.
pub(crate) const CLOCK_SLACK: u64 = 1_000_000_000;

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "an overflow should stop the test"
)]
mod tests;
