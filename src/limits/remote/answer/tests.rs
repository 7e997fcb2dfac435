use super::*;
use crate::limits::remote::message::{CurrentLimit, HeaderValue, ProtoDuration};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What asks a limit `a` over a minute and, if `two`, a limit `b` over an hour.
fn question(two: bool) -> Question {
    let counted = |limit: &str, requests, window| Counted { limit: limit.to_owned(), requests, window };
    let mut question = Question::default();
    question.counted.push(counted("a", 10, MINUTE));
    if two {
        question.counted.push(counted("b", 100, HOUR));
    }
    question
}

fn status(code: Code, limit: u32, remaining: u32, reset: i64) -> Status {
    Status {
        code: i32::from(code),
        current_limit: Some(CurrentLimit { requests_per_unit: limit }),
        limit_remaining: remaining,
        duration_until_reset: Some(ProtoDuration { seconds: reset, nanos: 0 }),
    }
}

fn response(code: Code, statuses: Vec<Status>) -> RateLimitResponse {
    RateLimitResponse { overall_code: i32::from(code), statuses, ..RateLimitResponse::default() }
}

fn verdict(response: &RateLimitResponse, two: bool) -> Verdict {
    Answer::read(&response.encode_to_vec(), &question(two)).unwrap().verdict
}

fn refused(limit: Option<&str>, after: u64, quota: Option<(u64, u64, u64)>) -> Verdict {
    Verdict::Refused {
        limit: limit.map(str::to_owned),
        retry_after: Duration::from_secs(after),
        quota: quota.map(|(limit, remaining, reset)| Quota {
            limit,
            remaining,
            reset: Duration::from_secs(reset),
        }),
    }
}

#[test]
fn the_wait_is_that_of_the_counter_which_refuses_longest() {
    let ok = status(Code::Ok, 10, 5, 7);
    let over = |reset| status(Code::OverLimit, 100, 0, reset);
    assert_eq!(
        verdict(&response(Code::OverLimit, vec![ok, over(1800)]), true),
        refused(Some("b"), 1800, Some((100, 0, 1800)))
    );
    assert_eq!(
        verdict(&response(Code::OverLimit, vec![over(30), over(20)]), true),
        refused(Some("a"), 30, Some((100, 0, 30)))
    );
}

#[test]
fn a_wait_is_at_least_a_second_and_at_most_the_window() {
    for (reset, expected) in [(-5, 1), (0, 1), (i64::MAX, 60), (i64::MIN, 1), (59, 59)] {
        assert_eq!(
            verdict(&response(Code::OverLimit, vec![status(Code::OverLimit, 1, 0, reset)]), false),
            refused(Some("a"), expected, Some((1, 0, expected)))
        );
    }
    let odd = Status {
        duration_until_reset: Some(ProtoDuration { seconds: 1, nanos: i32::MIN }),
        ..status(Code::OverLimit, 1, 0, 0)
    };
    assert_eq!(verdict(&response(Code::OverLimit, vec![odd]), false), refused(Some("a"), 1, Some((1, 0, 1))));
}

#[test]
fn without_statuses_the_wait_is_of_the_headers_or_the_longest_window() {
    assert_eq!(
        verdict(&response(Code::OverLimit, Vec::new()), false),
        refused(Some("a"), 60, Some((10, 0, 60)))
    );
    assert_eq!(verdict(&response(Code::OverLimit, Vec::new()), true), refused(None, 3600, None));
    let header =
        |key: &str, value: &str| HeaderValue { key: key.into(), value: value.into(), raw_value: Vec::new() };
    let mut told = response(Code::OverLimit, Vec::new());
    told.response_headers_to_add = vec![
        header("X-RateLimit-Limit", "10, 10;w=60;name=\"a\", 100;w=3600"),
        header("X-RateLimit-Remaining", "0"),
        header("X-RateLimit-Reset", "41"),
    ];
    assert_eq!(verdict(&told, true), refused(None, 41, Some((10, 0, 41))));
    told.response_headers_to_add.push(header("Retry-After", "99999"));
    assert_eq!(verdict(&told, true), refused(None, 3600, Some((10, 0, 41))));
    told.overall_code = i32::from(Code::Ok);
    let read = Answer::read(&told.encode_to_vec(), &question(true)).unwrap();
    assert!(read.response_headers.headers.is_empty(), "they are sent once, by us");
    assert_eq!(
        read.verdict,
        Verdict::Admitted { quota: Some(Quota { limit: 10, remaining: 0, reset: Duration::from_secs(41) }) }
    );
}

#[test]
fn the_quota_of_an_admitted_request_is_that_nearest_refusal() {
    let statuses = vec![status(Code::Ok, 10, 5, 7), status(Code::Ok, 100, 2, 9)];
    let Verdict::Admitted { quota: Some(quota) } = verdict(&response(Code::Ok, statuses), true) else {
        panic!("refused")
    };
    assert_eq!((quota.limit, quota.remaining, quota.reset.as_secs()), (100, 2, 9));
    let unlimited = Status { code: i32::from(Code::Ok), ..Status::default() };
    assert_eq!(verdict(&response(Code::Ok, vec![unlimited]), false), Verdict::Admitted { quota: None });
}

#[test]
fn statuses_of_another_number_belong_to_no_limit() {
    let over = status(Code::OverLimit, 100, 0, 1800);
    assert_eq!(
        verdict(&response(Code::OverLimit, vec![over]), true),
        refused(None, 1800, Some((100, 0, 1800)))
    );
    let many = vec![status(Code::OverLimit, 1, 0, 5); 1000];
    assert_eq!(verdict(&response(Code::OverLimit, many), false), refused(Some("a"), 5, Some((1, 0, 5))));
}

#[test]
fn what_has_no_verdict_is_no_answer() {
    let long = RateLimitResponse {
        response_headers_to_add: vec![HeaderValue { key: vec![0; MAX_ANSWER], ..HeaderValue::default() }],
        ..response(Code::Ok, Vec::new())
    };
    let unknown = response(Code::Unknown, vec![status(Code::Ok, 1, 1, 1)]);
    for message in [
        Vec::new(),
        vec![0xff; 9],
        b"<html>".to_vec(),
        vec![8, 3],
        unknown.encode_to_vec(),
        long.encode_to_vec(),
    ] {
        assert_eq!(Answer::read(&message, &question(true)), Err(Garbage), "{:?}", message.get(..9));
    }
}

proptest::proptest! {
    #[test]
    fn whatever_is_said_is_bounded(
        code in 1_i32..3,
        statuses in proptest::collection::vec(
            (proptest::num::i32::ANY, proptest::num::u32::ANY, proptest::num::i64::ANY, proptest::num::i32::ANY), 0..5),
        noise in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
    ) {
        let statuses = statuses.into_iter().map(|(code, limit, seconds, nanos)| Status {
            code,
            current_limit: Some(CurrentLimit { requests_per_unit: limit }),
            limit_remaining: limit,
            duration_until_reset: Some(ProtoDuration { seconds, nanos }),
        });
        let response = RateLimitResponse { overall_code: code, statuses: statuses.collect(), ..RateLimitResponse::default() };
        let mut message = response.encode_to_vec();
        if let Verdict::Refused { retry_after, .. } = Answer::read(&message, &question(true)).unwrap().verdict {
            proptest::prop_assert!((Duration::from_secs(1)..=HOUR).contains(&retry_after));
        }
        message.extend(&noise);
        let _ = Answer::read(&message, &question(true));
        let _ = Answer::read(&noise, &question(true));
    }
}
