//! The words of `limits` and of the service that counts the global ones.

use crate::config::shape::grammar::NAME;
use crate::config::shape::words::NAMES;
use crate::config::shape::{Choice, Object, Rest, Shape, later, optional, required};

use Shape::{Duration, Integer, List, Text};

pub(super) static LIMIT: Object = Object {
    fields: &[
        required("name", Text(&NAME), "Unique; how events and metrics name it."),
        required("key", NAMES, "What is counted apart; an empty list counts all callers together."),
        optional(
            "scope",
            Shape::Choice(&Choice { built: &["local", "global"], later: &[] }),
            "Who counts: this Envoy, or the rate limit service for all of them.",
        ),
        optional(
            "when",
            Shape::When,
            "Conditions on attributes by their full name; the limit is asked where all hold.",
        ),
        required("rates", RATES, "Rates by tier; `default` for tiers without rates of their own."),
        later("penalty"),
        later("adaptive"),
        later("concurrent"),
        later("cost"),
        later("reserve"),
    ],
    rest: None,
};

static RATE: Object = Object {
    fields: &[
        required("limit", Integer { min: 1, max: 1_000_000_000 }, "Requests."),
        required("window", Duration, "In which time."),
        optional("burst", Integer { min: 1, max: 1_000_000_000 }, "How many at once; absent means `limit`."),
    ],
    rest: None,
};

pub(super) static SERVICE: Object = Object {
    fields: &[
        required("cluster", Text(&NAME), "Envoy's name of a cluster that speaks HTTP/2."),
        required("domain", Text(&NAME), "What tells these limits from those of the service's other users."),
        optional("timeout", Duration, "How long one call may take; absent means 50ms."),
        optional(
            "failure_mode",
            Shape::Choice(&Choice { built: &["local", "allow", "deny"], later: &[] }),
            "Without an answer: enforce the same rates here, admit, or refuse with `limiter_unavailable`.",
        ),
    ],
    rest: None,
};

const RATES: Shape = Shape::Object(&Object {
    fields: &[],
    rest: Some(Rest { names: &NAME, of: List { of: &Shape::Object(&RATE), min: 1 } }),
});
