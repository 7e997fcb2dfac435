//! Our own externs beside the SDK's dispatcher: reads, shared data, foreign functions, replies and the effective
//! context may be ours; dispatching must be the SDK's.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use mlgate_integration::{Cluster, Envoy, EnvoyBuilder, ModelServer, Route, Stack, client};
use serde_json::json;

use crate::probe::{PROTOCOLS, plugin, request, start};

/// An Envoy with the probe, a model server behind it, and the same server as the cluster `called`.
struct Calling {
    envoy: Envoy,
    called: ModelServer,
    _stack: Stack,
}

impl Calling {
    async fn start(name: &str, configuration: &str) -> anyhow::Result<Self> {
        let stack = Stack::create(name)?;
        let called = ModelServer::start().await?;
        let envoy = EnvoyBuilder::new()
            .plugin(plugin(configuration)?)
            .cluster(Cluster::http1("called", called.address()))
            .cluster(Cluster::http1("refusing", SocketAddr::from(([127, 0, 0, 1], 1))))
            .cluster(Cluster::http1("empty", called.address()))
            .cluster(Cluster::http1("full", called.address()))
            .edit(|bootstrap| {
                bootstrap["static_resources"]["clusters"][2]["load_assignment"]["endpoints"] = json!([]);
                let none = json!({"max_connections": 0, "max_pending_requests": 0, "max_requests": 0});
                bootstrap["static_resources"]["clusters"][3]["circuit_breakers"]["thresholds"] =
                    json!([none]);
            })
            .route(Route::prefix("/", "called"))
            .start(&stack)
            .await?;
        Ok(Self { envoy, called, _stack: stack })
    }

    async fn ask(&self, plan: &str) -> anyhow::Result<String> {
        let asked = request("GET", "a", plan).header("x-empty", "").body(Bytes::new())?;
        let answer = client::call(self.envoy.address(), asked).await?;
        anyhow::ensure!(answer.status == 200, "{plan}: {answer:?}");
        Ok(answer.text())
    }
}

#[tokio::test]
async fn reads_shared_data_and_foreign_functions_work_by_our_own_externs() -> anyhow::Result<()> {
    let reads =
        "present=0:a absent=1 empty=0:0 response_header=2 no_map=2 path=0:/asked no_property=1 body=0:0";
    let shared = "absent=1 create=0 again=8 read=0:one swap=0 stale=8 last=three";
    for protocol in PROTOCOLS {
        let setup = start("own-externs", protocol, plugin("")?).await?;
        for (errand, report) in
            [("reads", reads), ("shared", shared), ("foreign", "unknown=1 bad=2 good=0:true")]
        {
            let plan = format!("do=errand;errand={errand}");
            let asked = request("GET", "a", &plan).header("x-empty", "").body(Bytes::new())?;
            assert_eq!(protocol.call(&setup, asked).await?.text(), report, "{protocol:?}");
        }
        setup.envoy.check_unharmed().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_call_by_the_sdk_is_answered_to_whoever_the_dispatcher_thinks_made_it() -> anyhow::Result<()> {
    let setup = Calling::start("sdk-calls", "").await?;
    // From a stream's callback: its own `on_http_call_response`.
    assert_eq!(setup.ask("do=errand;errand=sdk-call:called").await?, "callback=stream status=200");
    // From the root's tick: the root's, which then answers the stream.
    assert_eq!(setup.ask("wait=20;do=errand;errand=sdk-call:called").await?, "callback=root status=200");
    // From the root's tick while a stream is in effect: still the root's, for it is the dispatcher's active context.
    let report = setup.ask("wait=20;do=errand;errand=sdk-call-as-stream:called").await?;
    assert_eq!(report, "callback=root status=200");
    assert_eq!(setup.called.count(), 3);
    setup.envoy.check_unharmed().await
}

#[tokio::test]
async fn a_call_that_cannot_start_is_an_error_and_harms_nobody() -> anyhow::Result<()> {
    let setup = Calling::start("bad-calls", "").await?;
    for wait in ["", "wait=20;"] {
        let unknown = setup.ask(&format!("{wait}do=errand;errand=sdk-call:nowhere")).await?;
        assert_eq!(unknown, "dispatch=Err(BadArgument)", "an unknown cluster");
        let bare = setup.ask(&format!("{wait}do=errand;errand=sdk-call-bare:called")).await?;
        assert_eq!(bare, "dispatch=Err(BadArgument)", "no :path");
    }
    let raw = setup.ask("do=errand;errand=raw-call:nowhere").await?;
    assert_eq!(raw, "status=2");
    setup.envoy.check_unharmed().await
}

#[tokio::test]
async fn a_call_that_fails_at_once_is_an_error_or_comes_back_as_503() -> anyhow::Result<()> {
    let setup = Calling::start("failing-calls", "").await?;
    for (wait, by) in [("", "stream"), ("wait=20;", "root")] {
        let refused = setup.ask(&format!("{wait}do=errand;errand=sdk-call:refusing")).await?;
        assert_eq!(refused, format!("callback={by} status=503"), "nobody listens");
        for cluster in ["empty", "full"] {
            let failed = setup.ask(&format!("{wait}do=errand;errand=sdk-call:{cluster}")).await?;
            assert_eq!(failed, "dispatch=Err(InternalFailure)", "{cluster}: and no callback comes");
        }
    }
    // Had a callback come for a call that was never registered, the VM would be dead.
    setup.envoy.check_unharmed().await
}

#[tokio::test]
async fn a_call_by_our_own_extern_kills_the_vm_with_its_answer() -> anyhow::Result<()> {
    for wait in ["", "wait=20;"] {
        let setup = Calling::start("raw-call", "").await?;
        let plan = format!("{wait}do=errand;errand=raw-call:called");
        let asked = tokio::time::timeout(Duration::from_secs(2), setup.ask(&plan));
        assert!(!matches!(asked.await, Ok(Ok(_))), "the dispatcher knew the token");
        assert_eq!(setup.called.count(), 1, "the call itself went out");
        let harm = setup.envoy.check_unharmed().await.unwrap_err().to_string();
        assert!(harm.contains("panicked"), "{harm}");
        assert!(setup.envoy.log()?.contains("invalid token_id"), "{harm}");
        let after = client::get(setup.envoy.address(), "/").await?;
        assert_eq!(after.status, 503, "a dead VM lets nobody through");
    }
    Ok(())
}

#[tokio::test]
async fn a_caller_that_leaves_takes_the_call_of_its_stream_along() -> anyhow::Result<()> {
    let setup = Calling::start("left-call", "").await?;
    for (number, wait, id) in [(1, "", "stream"), (2, "wait=20;", "root")] {
        let plan = format!("{wait}do=errand;errand=sdk-call-slow:called;trace");
        let call = client::call(setup.envoy.address(), request("GET", id, &plan).body(Bytes::new())?);
        let under_way = async {
            while setup.called.count() < number {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = call => panic!("answered before the call was: {answer:?}"),
            () = under_way => {}
        }
    }
    for _ in 0..500 {
        if setup.envoy.log()?.contains("root callback") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let log = setup.envoy.log()?;
    assert!(!log.contains("trace stream callback"), "a stream that is gone was called: {log}");
    let line = log.lines().find(|line| line.contains("root callback")).unwrap_or_default();
    assert!(line.contains("status=200"), "the root is always called: {log}");
    setup.envoy.check_unharmed().await
}

#[tokio::test]
async fn a_last_call_from_on_done_arrives_when_the_connection_is_warm() -> anyhow::Result<()> {
    for warm in [true, false] {
        let mut arrived = 0;
        for _ in 0..LAST_CALLS {
            let mut setup = Calling::start("on-done", "on_done=called").await?;
            if warm {
                assert_eq!(
                    setup.ask("wait=20;do=errand;errand=sdk-call:called").await?,
                    "callback=root status=200"
                );
            }
            setup.called.clear();
            setup.envoy.process().stop(Duration::from_secs(10)).await?;
            let dispatched = setup.envoy.log()?.matches("on_done dispatched=Ok(").count();
            assert!(dispatched >= 2, "the worker's root and the main thread's: {}", setup.envoy.log()?);
            // On a busy machine the server may be late to read what has long been sent.
            for _ in 0..50 {
                if setup.called.count() > 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            arrived += setup.called.count();
        }
        // Warm: the bytes are in the socket before the process ends. Cold: there is nobody left to connect.
        assert_eq!(arrived, if warm { LAST_CALLS } else { 0 }, "warm={warm}");
    }
    Ok(())
}

const LAST_CALLS: usize = 5;

#[tokio::test]
async fn no_callback_of_ours_runs_when_a_route_disables_the_filter() -> anyhow::Result<()> {
    let stack = Stack::create("disabled")?;
    let disabled = serde_json::json!({"probe": {
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true,
    }});
    let route = Route::direct("/", 200, "open").field("typed_per_filter_config", disabled);
    let envoy = EnvoyBuilder::new().plugin(plugin("")?).route(route).start(&stack).await?;
    let asked = request("GET", "a", "do=deny;trace").body(Bytes::new())?;
    assert_eq!(client::call(envoy.address(), asked).await?.text(), "open");
    assert!(!envoy.log()?.contains("trace a"), "{}", envoy.log()?);
    Ok(())
}
