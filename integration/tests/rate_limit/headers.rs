//! Headers that the service wants added: passed on once each, or not at all.

use anyhow::Context;
use http::Request;
use mlgate_integration::client::{self, Answer};
use mlgate_integration::rate_limit_service::Additions;
use serde_json::Value;

use crate::scene::{self, Scene};

const CALLERS: [(&str, &str); 2] = [("caller00", "any"), ("caller01", "any")];

/// What may be passed on: the second `x-twice` is one too many.
const FINE: [(&str, &str); 3] = [("x-plan", "gold"), ("X-Twice", "a"), ("x-twice", "b")];

/// What may not, whoever asks for it.
const HOSTILE: [(&[u8], &[u8]); 22] = [
    (b"", b"v"),
    (b":path", b"/elsewhere"),
    (b":status", b"200"),
    (b":authority", b"elsewhere"),
    (b"a b", b"v"),
    (b"x-split\r\nx-evil", b"1"),
    (b"x-crlf", b"1\r\nx-evil: 1"),
    (b"x-lf", b"1\nx-evil: 1"),
    (b"x-nul", b"1\0"),
    (b"host", b"elsewhere"),
    (b"connection", b"x-api-key"),
    (b"content-length", b"7"),
    (b"transfer-encoding", b"chunked"),
    (b"upgrade", b"websocket"),
    (b"te", b"trailers"),
    (b"x-mlgate-principal", b"admin"),
    (b"x-mlgate-decision-id", b"0"),
    (b"x_mlgate_roles", b"admin"),
    (b"X-Mlgate-Tier", b"gold"),
    (b"grpc-status", b"0"),
    (b"authorization", b"Bearer x"),
    (b"set-cookie", b"session=1"),
];

fn pairs(fine: &[(&str, &str)], hostile: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let fine = fine.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    let hostile = HOSTILE.iter().filter(|_| hostile).map(|(name, value)| (name.to_vec(), value.to_vec()));
    // between them, so that what comes after a bad one is passed on as well
    let mut pairs: Vec<_> = fine.collect();
    pairs.splice(1..1, hostile);
    pairs
}

async fn scene(name: &str) -> anyhow::Result<Scene> {
    let limits = "
  - { name: fleet, key: [principal], scope: global, rates: { default: [{ limit: 4, window: 1h }] } }";
    Scene::start(name, &scene::document(&CALLERS, limits, "timeout: 5s, failure_mode: deny"), 1).await
}

/// The answer, and what the upstream got.
async fn asked(scene: &Scene, caller: &str) -> anyhow::Result<(Answer, Value)> {
    let (mut head, body) = scene::request(scene.gate(), caller, "m")?.into_parts();
    head.headers.insert("x-sample-echo", "1".parse()?);
    let answer = client::call(scene.gate().envoy.address(), Request::from_parts(head, body)).await?;
    let received = answer.json()?["received"].take();
    Ok((answer, received))
}

fn values(answer: &Answer, name: &str) -> Vec<String> {
    let values = answer.headers.get_all(name).into_iter();
    values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

#[tokio::test]
async fn headers_of_the_service_are_passed_on_once() -> anyhow::Result<()> {
    let scene = scene("additions").await?;
    for raw in [false, true] {
        let additions = pairs(&FINE, false);
        scene.service.add(Additions { response: additions.clone(), request: additions, raw });
        let (answer, received) = asked(&scene, "caller00").await?;
        assert_eq!(answer.status, 200);
        assert_eq!(
            (values(&answer, "x-plan"), values(&answer, "x-twice")),
            (vec!["gold".into()], vec!["a".into()])
        );
        assert_eq!(received["headers"]["x-plan"], serde_json::json!(["gold"]));
        assert_eq!(received["headers"]["x-twice"], serde_json::json!(["a"]));
    }
    // A refused caller gets the answer's headers too.
    let mut refused = None;
    for _ in 0..3 {
        refused = Some(scene::call(scene.gate(), "caller00", "m").await?);
    }
    let refused = refused.context("never called")?;
    assert_eq!((refused.status, values(&refused, "x-plan")), (429, vec!["gold".to_owned()]));
    // Of the limit's own words there is one each, whatever the service says of them.
    scene.service.add(Additions {
        response: pairs(
            &[("X-RateLimit-Limit", "77"), ("retry-after", "1"), ("x-ratelimit-remaining", "7")],
            false,
        ),
        ..Additions::default()
    });
    let refused = scene::call(scene.gate(), "caller00", "m").await?;
    assert_eq!((refused.status, values(&refused, "x-ratelimit-limit")), (429, vec!["4".to_owned()]));
    assert_eq!(values(&refused, "x-ratelimit-remaining"), ["0"]);
    assert_eq!(values(&refused, "retry-after").len(), 1);
    scene.check().await
}

#[tokio::test]
async fn hostile_headers_of_the_service_are_dropped() -> anyhow::Result<()> {
    let scene = scene("hostile-additions").await?;
    let (plain, received) = asked(&scene, "caller00").await?;
    let names = |headers: &Value| headers.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
    for raw in [false, true] {
        let additions = pairs(&FINE, true);
        scene.service.add(Additions { response: additions.clone(), request: additions, raw });
        let (answer, hostile) = asked(&scene, "caller01").await?;
        assert_eq!(answer.status, 200);
        assert_eq!(values(&answer, "x-plan"), ["gold"]);
        assert_eq!(hostile["headers"]["x-mlgate-principal"], serde_json::json!(["caller01"]));
        let expected: Vec<String> = {
            let mut names = names(&received["headers"]).context("no headers")?;
            names.extend(["x-plan".to_owned(), "x-twice".to_owned()]);
            names.sort();
            names
        };
        assert_eq!(names(&hostile["headers"]).context("no headers")?, expected, "nothing else is new");
        assert_eq!(hostile["path"], received["path"]);
        let mut new: Vec<&str> = answer.headers.keys().map(http::HeaderName::as_str).collect();
        new.retain(|name| !plain.headers.contains_key(*name));
        new.sort_unstable();
        assert_eq!(new, ["x-plan", "x-twice"], "raw {raw}");
        assert_eq!(values(&answer, "x-mlgate-decision-id").len(), 1);
        assert_ne!(values(&answer, "x-mlgate-decision-id"), ["0"]);
    }
    scene.check().await
}
