//! The service's message becomes an [`Answer`] to a [`Question`]. Whatever it says, it says nothing about anybody else's
//! connection: numbers are bounded by what was asked, headers by [`headers`].

use std::time::Duration;

use prost::Message as _;

use crate::limits::Quota;
use crate::limits::remote::headers::{self, Passed};
use crate::limits::remote::message::{Code, HeaderValue, RateLimitResponse, Status};
use crate::limits::remote::question::{Counted, Question};

/// What the service says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its verdict.
    pub verdict: Verdict,
    /// Headers for the caller's response.
    pub response_headers: Passed,
    /// Headers for the upstream's request.
    pub request_headers: Passed,
}

/// The service's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every counter admits the request, and it is counted.
    Admitted {
        /// Of the counter nearest refusal, where the service says it.
        quota: Option<Quota>,
    },
    /// Some counter refuses it.
    Refused {
        /// The limit's name, where the service says which.
        limit: Option<String>,
        /// After how long the windows that refuse it are over.
        retry_after: Duration,
        /// Of the counter that refuses longest, where it is known.
        quota: Option<Quota>,
    },
}

/// A message that answers nothing: not readable, or without a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage;

/// The longest message that is read, in bytes.
pub const MAX_ANSWER: usize = 64 << 10;

/// Headers by which services say what is left, in the fields of draft-polli-ratelimit-headers-03. They become a
/// [`Quota`], so that each is sent once.
const QUOTA_HEADERS: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

/// Seconds until another try (RFC 9110 §10.2.3).
const RETRY_AFTER: &str = "retry-after";

// === impl Answer ===

impl Answer {
    /// Reads the answer to a question.
    ///
    /// # Errors
    /// [`Garbage`]: whoever asked has no answer.
    pub fn read(message: &[u8], question: &Question) -> Result<Self, Garbage> {
        if message.len() > MAX_ANSWER {
            return Err(Garbage);
        }
        let response = RateLimitResponse::decode(message).map_err(|_| Garbage)?;
        let seen = Seen::of(&response, question);
        let verdict = match Code::try_from(response.overall_code) {
            Ok(Code::Ok) => Verdict::Admitted { quota: seen.nearest },
            Ok(Code::OverLimit) => seen.refused(question),
            Ok(Code::Unknown) | Err(_) => return Err(Garbage),
        };
        Ok(Self {
            verdict,
            response_headers: headers::pass(&response.response_headers_to_add),
            request_headers: headers::pass(&response.request_headers_to_add),
        })
    }
}

/// What a message says beside its verdict.
struct Seen<'a> {
    /// Of the counter nearest refusal.
    nearest: Option<Quota>,
    /// The counter that refuses longest.
    over: Option<(Option<&'a Counted>, Duration, Option<Quota>)>,
    /// Of the headers.
    hint: Option<Duration>,
}

// === impl Seen ===

impl<'a> Seen<'a> {
    fn of(response: &RateLimitResponse, question: &'a Question) -> Self {
        let asked = &question.counted;
        // statuses come in the order of the descriptors; other numbers of them say nothing about which is which
        let matched = response.statuses.len() == asked.len();
        let mut seen = Self { nearest: None, over: None, hint: None };
        for (index, status) in response.statuses.iter().take(asked.len()).enumerate() {
            let counted = asked.get(index).filter(|_| matched);
            let window = counted.map_or(question.longest(), |counted| counted.window);
            let reset = reset_of(status, window);
            let quota = quota_of(status, reset.unwrap_or(window));
            seen.nearest = match (seen.nearest, quota) {
                (Some(known), Some(quota)) => Some(known.nearer(quota)),
                (known, quota) => known.or(quota),
            };
            let wait = reset.unwrap_or(window);
            if status.code == i32::from(Code::OverLimit)
                && seen.over.is_none_or(|(_, longest, _)| longest < wait)
            {
                seen.over = Some((counted, wait, quota));
            }
        }
        if response.statuses.is_empty() {
            seen.read_headers(response, question);
        }
        seen
    }

    /// A service that gives no statuses may give the same in headers.
    fn read_headers(&mut self, response: &RateLimitResponse, question: &Question) {
        let number = |name: &str| {
            let headers = response.response_headers_to_add.iter().map(HeaderValue::texts);
            let text =
                headers.filter(|(known, _)| known.as_deref() == Some(name)).find_map(|(_, text)| text)?;
            // the limit may be followed by all policies: `10, 10;w=60`
            text.split([',', ';']).next()?.trim().parse::<u64>().ok()
        };
        let bounded = |seconds| Duration::from_secs(seconds).clamp(SHORTEST, question.longest());
        let [limit, remaining, reset] = QUOTA_HEADERS.map(number);
        self.hint = number(RETRY_AFTER).or(reset).map(bounded);
        if let (Some(limit), Some(remaining), Some(reset)) = (limit, remaining, reset) {
            self.nearest = Some(Quota { limit, remaining, reset: bounded(reset) });
        }
    }

    fn refused(self, question: &Question) -> Verdict {
        let (counted, wait, quota) = self.over.unwrap_or((None, Duration::ZERO, None));
        let retry_after = if self.over.is_some() { wait } else { self.hint.unwrap_or(question.longest()) };
        // where one counter was asked it is the one that refuses
        let counted = match question.counted.as_slice() {
            [only] => Some(only),
            _ => counted,
        };
        let full = |counted: &Counted| Quota { limit: counted.requests, remaining: 0, reset: retry_after };
        let mut limits = question.limits();
        let only = limits.next().filter(|_| limits.next().is_none());
        Verdict::Refused {
            limit: counted.map(|counted| counted.limit.as_str()).or(only).map(str::to_owned),
            retry_after,
            quota: quota.or(self.nearest).or(counted.map(full)),
        }
    }
}

/// Whether a header is ours to send.
pub(super) fn is_of_the_answer(name: &str) -> bool {
    name == RETRY_AFTER || QUOTA_HEADERS.contains(&name)
}

/// When the window is over: at least a second, since a caller that comes back within it would only ask again, and at
/// most `window`, since fixed windows last no longer.
fn reset_of(status: &Status, window: Duration) -> Option<Duration> {
    let reset = status.duration_until_reset?;
    let seconds = Duration::from_secs(u64::try_from(reset.seconds).unwrap_or(0));
    let nanos = Duration::from_nanos(u64::try_from(reset.nanos).unwrap_or(0));
    Some(seconds.saturating_add(nanos).clamp(SHORTEST, window))
}

fn quota_of(status: &Status, reset: Duration) -> Option<Quota> {
    let limit = u64::from(status.current_limit.as_ref()?.requests_per_unit);
    Some(Quota { limit, remaining: u64::from(status.limit_remaining), reset })
}

/// The least that a caller is told to wait. No global window is shorter.
const SHORTEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
