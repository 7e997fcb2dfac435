//! What reaches the upstream before the decision: with `peek: hold` nothing, with `peek: stream` the headers and no
//! body byte, in every shape of body, whoever decides, whatever the decision.

use std::time::{Duration, Instant};

use mlgate_integration::recorder::Seen;
use tokio::task::JoinSet;

use crate::probe::{SHAPES, Setup, Shape, assert_denied, assert_served, plugin, request, start};

/// How long the request pauses in the middle, and again before a tick decides.
const PAUSE: Duration = Duration::from_millis(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peek {
    Headers,
    Hold,
    Stream,
}

#[tokio::test]
async fn hold_lets_nothing_reach_the_upstream_before_the_decision() -> anyhow::Result<()> {
    every_shape(Peek::Hold, true).await
}

#[tokio::test]
async fn stream_lets_only_headers_reach_the_upstream_before_the_decision() -> anyhow::Result<()> {
    every_shape(Peek::Stream, false).await
}

#[tokio::test]
async fn stream_holds_the_body_with_allow_on_headers_stop_iteration_too() -> anyhow::Result<()> {
    every_shape(Peek::Stream, true).await
}

#[tokio::test]
async fn a_wait_in_the_headers_holds_everything() -> anyhow::Result<()> {
    every_shape(Peek::Headers, false).await
}

#[tokio::test]
async fn a_wait_in_the_headers_holds_everything_with_allow_on_headers_stop_iteration_too()
-> anyhow::Result<()> {
    every_shape(Peek::Headers, true).await
}

#[tokio::test]
async fn stream_cannot_edit_headers_any_more() -> anyhow::Result<()> {
    for shape in SHAPES {
        let setup = start("late-edit", shape.protocol(), plugin("")?).await?;
        for wait in ["", "wait=20;"] {
            setup.upstream.clear();
            let mut sending =
                shape.open(&setup, request("POST", "e", &format!("when=stream;{wait}do=edit;trace"))).await?;
            sending.first_piece(shape).await?;
            sending.last_piece(shape).await?;
            assert_served(&sending.answer().await?, "e", &format!("{shape:?}"));
            let (path, headers, _) = setup.forwarded().unwrap();
            assert_eq!((path.as_str(), headers.get("x-edited")), ("/asked", None), "{shape:?}");
        }
        let statuses = setup.logged(&["trace e tick"]).await?;
        assert!(
            statuses.ends_with("effective=0 add=2 replace=2 remove=2 path=2 resume=0"),
            "{shape:?}: {statuses}"
        );
        let statuses = setup.logged(&["trace e decided"]).await?;
        assert!(statuses.contains("add=2 replace=2 remove=2 path=2"), "{shape:?}: {statuses}");
    }
    Ok(())
}

/// All shapes side by side, each in an Envoy of its own.
async fn every_shape(peek: Peek, stop_iteration: bool) -> anyhow::Result<()> {
    let mut shapes = JoinSet::new();
    for shape in SHAPES {
        shapes.spawn(every_decision(peek, stop_iteration, shape));
    }
    while let Some(ended) = shapes.join_next().await {
        ended??;
    }
    Ok(())
}

async fn every_decision(peek: Peek, stop_iteration: bool, shape: Shape) -> anyhow::Result<()> {
    let plugin = plugin("")?.stop_iteration(stop_iteration);
    let setup = start(&format!("{peek:?}-{shape:?}").to_lowercase(), shape.protocol(), plugin).await?;
    for by_tick in [false, true] {
        for act in ["resume", "edit", "deny"] {
            if peek == Peek::Headers && !by_tick || peek == Peek::Stream && act == "edit" {
                continue;
            }
            let what = format!("{peek:?} flag={stop_iteration} {shape:?} tick={by_tick} {act}");
            check(&setup, peek, shape, by_tick, act, &what).await?;
        }
    }
    setup.envoy.check_unharmed().await
}

async fn check(
    setup: &Setup,
    peek: Peek,
    shape: Shape,
    by_tick: bool,
    act: &str,
    what: &str,
) -> anyhow::Result<()> {
    setup.upstream.clear();
    let when = format!("{peek:?}").to_lowercase();
    // In the headers phase the wait begins with the headers and has to outlast the body.
    let wait = if peek == Peek::Headers { PAUSE * 4 } else { PAUSE };
    let wait_word = if by_tick { format!("wait={};", wait.as_millis()) } else { String::new() };
    let id = format!("{when}-{act}-{by_tick}");
    let opened = Instant::now();
    let mut sending =
        shape.open(setup, request("POST", &id, &format!("when={when};{wait_word}do={act};trace"))).await?;
    sending.first_piece(shape).await?;
    tokio::time::sleep(PAUSE).await;
    if peek != Peek::Headers {
        // There the clock of the wait is running already; the times are compared below.
        assert_nothing_early(setup, peek, &format!("{what}, half way"));
    }

    let ended = Instant::now();
    sending.last_piece(shape).await?;
    let answer = sending.answer().await?;
    let decided = if peek == Peek::Headers {
        opened + wait
    } else if by_tick {
        ended + wait
    } else {
        ended
    };
    let trace = setup.trace(&id)?;

    if act == "deny" {
        assert_denied(&answer, &id, what);
        // Time for something wrong to arrive.
        tokio::time::sleep(PAUSE / 2).await;
        assert_nothing_early(setup, peek, &format!("{what}, denied: {trace:#?}"));
        if peek == Peek::Stream && setup.forwarded().is_some() {
            setup
                .upstream
                .wait_for("the reset of a refused request", |seen| matches!(seen, Seen::Reset(_)))
                .await?;
        }
        return Ok(());
    }
    assert_served(&answer, &id, what);
    let (path, headers, event) = setup.forwarded().unwrap();
    if peek != Peek::Stream {
        assert!(event.at >= decided, "{what}: headers were early: {trace:#?}");
    }
    if act == "edit" {
        assert_eq!((path.as_str(), headers["x-edited"].to_str()?), ("/edited", id.as_str()), "{what}");
    }
    let events = setup.upstream.requests();
    for event in &events {
        let is_head = matches!(event.what, Seen::Headers { .. });
        assert!(is_head || event.at >= decided, "{what}: {event:?} was early: {trace:#?}");
    }
    assert!(shape.body_bytes().contains(&setup.upstream.body_bytes()), "{what}: {events:#?}");
    let trailers = events
        .iter()
        .filter(|event| matches!(&event.what, Seen::Trailers(all) if all["etag"] == "end"))
        .count();
    assert_eq!(
        trailers,
        usize::from(matches!(shape, Shape::Trailers | Shape::TrailersOnly)),
        "{what}: {events:#?}"
    );
    Ok(())
}

fn assert_nothing_early(setup: &Setup, peek: Peek, what: &str) {
    let events = setup.upstream.requests();
    if peek == Peek::Stream {
        assert_eq!(setup.upstream.body_bytes(), 0, "{what}: {events:#?}");
        let early = events.iter().any(|event| matches!(event.what, Seen::End | Seen::Trailers(_)));
        assert!(!early, "{what}: {events:#?}");
    } else {
        assert!(events.is_empty(), "{what}: {events:#?}");
    }
}
