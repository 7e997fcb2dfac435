//! From the root's `on_tick`: resuming, editing headers and replying through `proxy_set_effective_context`.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::probe::{PROTOCOLS, Protocol, assert_denied, assert_served, plugin, request, start};

const WAIT: Duration = Duration::from_millis(60);

#[tokio::test]
async fn a_tick_resumes_edits_and_refuses_what_waits_in_its_headers() -> anyhow::Result<()> {
    for protocol in PROTOCOLS {
        let setup = start("tick", protocol, plugin("")?).await?;
        for (method, body) in [("GET", ""), ("POST", "content")] {
            for act in ["resume", "edit", "deny"] {
                let what = format!("{protocol:?} {method} {act}");
                let id = format!("{method}-{act}");
                setup.upstream.clear();
                let sent = Instant::now();
                let asked =
                    request(method, &id, &format!("wait=60;do={act};trace")).body(Bytes::from(body))?;
                let answer = protocol.call(&setup, asked).await?;
                let statuses = setup.logged(&[&format!("trace {id} tick")]).await?;
                if act == "deny" {
                    assert_denied(&answer, &id, &what);
                    assert!(setup.upstream.requests().is_empty(), "{what}: {:?}", setup.upstream.requests());
                    assert!(statuses.ends_with("effective=0 reply=0"), "{statuses}");
                    continue;
                }
                assert_served(&answer, &id, &what);
                let (path, headers, event) = setup.forwarded().unwrap();
                assert!(event.at.duration_since(sent) >= WAIT, "{what}: reached the upstream too early");
                assert_eq!(setup.upstream.body_bytes(), body.len(), "{what}: the body came once");
                if act == "edit" {
                    assert_eq!(
                        (path.as_str(), headers["x-edited"].to_str()?),
                        ("/edited", id.as_str()),
                        "{what}"
                    );
                    assert_eq!(headers["x-replaced"], "new", "{what}");
                    assert!(!headers.contains_key("x-removed"), "{what}");
                    assert!(
                        statuses.ends_with("effective=0 add=0 replace=0 remove=0 path=0 resume=0"),
                        "{statuses}"
                    );
                } else {
                    assert_eq!((path.as_str(), headers.get("x-edited")), ("/asked", None), "{what}");
                    assert!(statuses.ends_with("effective=0 resume=0"), "{statuses}");
                }
            }
        }
        setup.envoy.check_unharmed().await?;
    }
    Ok(())
}

#[tokio::test]
async fn one_reply_with_both_statuses_serves_plain_and_grpc_callers() -> anyhow::Result<()> {
    let setup = start("grpc-reply", Protocol::Http2, plugin("")?).await?;
    for wait in ["", "wait=20;"] {
        for protocol in PROTOCOLS {
            let plain = request("POST", "p", &format!("{wait}do=deny")).body(Bytes::from("x"))?;
            let answer = protocol.call(&setup, plain).await?;
            assert_denied(&answer, "p", "plain");
            assert_eq!(answer.grpc_status(), None);
        }
        let grpc = request("POST", "g", &format!("{wait}do=deny")).header("content-type", "application/grpc");
        let answer = Protocol::Http2.call(&setup, grpc.body(Bytes::from_static(&[0; 5]))?).await?;
        assert_eq!((answer.status, answer.grpc_status()), (200, Some(7)), "{answer:?}");
        assert_eq!(answer.header("grpc-message").as_deref(), Some("denied g"));
        assert_eq!(answer.header("x-denied").as_deref(), Some("g"));
        assert!(answer.body.is_empty() && answer.trailers.is_none(), "trailers only: {answer:?}");
    }
    assert!(setup.upstream.requests().is_empty());
    setup.envoy.check_unharmed().await
}

#[tokio::test]
async fn a_refused_effective_context_leaves_the_previous_one_in_effect() -> anyhow::Result<()> {
    for protocol in PROTOCOLS {
        let setup = start("trap", protocol, plugin("")?).await?;
        // The trap: a stream that nobody meant to answer is answered.
        let victim = request("GET", "victim", "wait=20;do=errand;errand=trap").body(Bytes::new())?;
        let answer = protocol.call(&setup, victim).await?;
        assert_eq!((answer.status, answer.text().as_str()), (403, "WRONG STREAM"));
        let line = setup.logged(&["trap cured=false"]).await?;
        assert!(line.ends_with("first=0 second=2 back=0 reply=0"), "{line}");
        // The cure: the root is in effect again, and the reply, still status 0, hits nobody.
        let spared = request("GET", "spared", "wait=20;do=errand;errand=trap-cured").body(Bytes::new())?;
        assert_served(&protocol.call(&setup, spared).await?, "spared", "cured");
        let line = setup.logged(&["trap cured=true"]).await?;
        assert!(line.ends_with("first=0 second=2 back=0 reply=0"), "{line}");
        setup.envoy.check_unharmed().await?;
    }
    Ok(())
}

#[tokio::test]
async fn with_the_root_in_effect_resume_and_reply_do_nothing_and_say_ok() -> anyhow::Result<()> {
    let setup = start("as-root", Protocol::Http1, plugin("")?).await?;
    let asked = request("GET", "a", "wait=20;do=errand;errand=root").body(Bytes::new())?;
    let answer = Protocol::Http1.call(&setup, asked).await?;
    assert_eq!(answer.text(), "effective=0 resume=0 reply=0 edit=2 nobody=2");
    setup.envoy.check_unharmed().await
}

#[tokio::test]
async fn a_stream_ends_with_on_log_then_on_done_then_drop() -> anyhow::Result<()> {
    for protocol in PROTOCOLS {
        let setup = start("order", protocol, plugin("")?).await?;
        for (id, plan) in [
            ("forwarded", "do=resume;trace"),
            ("denied", "do=deny;trace"),
            ("by-tick", "wait=20;do=deny;trace"),
        ] {
            protocol.call(&setup, request("GET", id, plan).body(Bytes::new())?).await?;
            setup.logged(&[&format!("trace {id} drop")]).await?;
            let trace = setup.trace(id)?;
            // Request headers can be read again in on_log, and the answer's code is known.
            let ending = ["on_log header=0 code=0", "on_done", "drop"];
            assert!(trace.ends_with(&ending.map(str::to_owned)), "{protocol:?} {id}: {trace:#?}");
            assert!(trace.iter().any(|line| line.starts_with("response_headers")), "{trace:#?}");
        }
        // A caller that leaves while its request waits: the same three, and no answer passes the filter.
        let asked = request("GET", "left", "wait=30000;do=resume;trace").body(Bytes::new())?;
        tokio::select! {
            answer = protocol.call(&setup, asked) => panic!("answered although it waits: {answer:?}"),
            waits = setup.logged(&["trace left headers", "after=Waiting"]) => waits?,
        };
        setup.logged(&["trace left drop"]).await?;
        let trace = setup.trace("left")?;
        let kinds: Vec<&str> = trace.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(kinds, ["headers", "on_log", "on_done", "drop"], "{trace:#?}");
        assert_eq!(setup.envoy.statistic("wasmcustom.probe.left_while_waiting").await?, 1);
        setup.envoy.check_unharmed().await?;
    }
    Ok(())
}
