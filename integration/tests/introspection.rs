//! Opaque tokens in a real Envoy: the issuer is asked while the request waits, and nothing of the request goes on before
//! its answer, whatever comes meanwhile and whoever leaves.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{HeaderMap, Request};
use mlgate::cases;
use mlgate_integration::client::{self, Answer, Http1, Http2};
use mlgate_integration::gate::Gate;
use mlgate_integration::relay::Manner;
use mlgate_integration::{Cluster, EnvoyBuilder, ModelServer, Recorder, Relay};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

const ALICE: &str =
    r#"{"active":true,"sub":"alice","iss":"https://idp.example","roles":["reader"],"jti":"t1"}"#;
const INACTIVE: &str = r#"{"active":false}"#;
const PATH: &str = "/introspect";
const SECRET: &str = "MLGATE_INTROSPECTION_SECRET";
const BOUND: Duration = Duration::from_secs(20);

/// Callers that leave, of each protocol, and how many of them are there at a time.
const CALLERS: usize = 600;
const AT_ONCE: usize = 20;

/// The issuer thinks so long, and callers leave within twice that.
const THINKS: Duration = Duration::from_millis(30);

fn document(change: impl FnOnce(&mut Json)) -> Json {
    let mut document = json!({
        "version": 1,
        "name": "gate",
        "authentication": { "introspection": [{
            "name": "idp",
            "issuer": "https://idp.example",
            "cluster": "idp",
            "uri": "https://idp.example/introspect",
            "client_id": "gate",
            "client_secret_env": SECRET,
            "timeout": "500ms",
            "claims": { "roles": "roles" },
        }] },
        "resources": {
            "rules": [{ "preset": "openai" }],
            "catalogue": [{ "type": "model", "id": "chat-small" }],
        },
        "authorization": { "roles": { "reader": { "permissions": ["*"] } } },
        "audit": {
            "collector": { "cluster": "audit" },
            "chain": { "keys": [{ "id": "c1", "env": "MLGATE_CHAIN_KEY_1" }] },
        },
    });
    change(&mut document);
    document
}

async fn gate(
    name: &str,
    document: Json,
    upstream: Cluster,
    issuer: &Relay,
    edit: impl FnOnce(EnvoyBuilder) -> EnvoyBuilder,
) -> anyhow::Result<Gate> {
    let secrets = cases::Gate::of(document).map_err(anyhow::Error::msg)?;
    let idp = Cluster::http1("idp", issuer.address());
    Gate::start(name, secrets, upstream, |builder| edit(builder.cluster(idp))).await
}

fn list(token: &str) -> anyhow::Result<Request<Bytes>> {
    let request = Request::get("/v1/models").header("authorization", format!("Bearer {token}"));
    Ok(request.body(Bytes::new())?)
}

async fn call(gate: &Gate, token: &str) -> anyhow::Result<Answer> {
    client::call(gate.envoy.address(), list(token)?).await
}

fn says(body: &str) -> Manner {
    Manner::ok("application/json", body)
}

#[tokio::test]
async fn an_issuer_decides_who_is_calling_and_what_it_cannot_say_is_nobodys_fault() -> anyhow::Result<()> {
    let (model, issuer) = (ModelServer::start().await?, Relay::alone().await?);
    let upstream = Cluster::http1("model", model.address());
    let document = document(|_| {});
    let gate = gate("introspection", document, upstream, &issuer, |builder| builder.concurrency(1)).await?;

    issuer.treat(says(ALICE));
    for _ in 0..5 {
        assert_eq!(call(&gate, "token-of-alice").await?.status, 200);
    }
    assert_eq!(issuer.count(PATH), 1, "its answer is believed for a while");
    let upstream = model.last().context("nothing came")?;
    assert_eq!(upstream.header("x-mlgate-principal").as_deref(), Some("opaque:idp:alice"));
    assert_eq!(upstream.header("authorization"), None, "the token stays here");
    let asked = issuer.asked(PATH).pop().context("nobody was asked")?;
    assert_eq!(asked.method, "POST");
    assert!(asked.head.contains("authorization: Basic "), "{}", asked.head);
    assert!(!asked.head.contains("token-of-alice"), "it is in the body alone");

    let slow = Manner::Endless {
        head: Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n"),
        piece: Bytes::from_static(b" "),
    };
    let large = format!(r#"{{"active":true,"sub":"alice","x":"{}"}}"#, "x".repeat(200_000));
    let expired = ALICE.replace("\"jti\"", "\"exp\":1000,\"jti\"");
    let foreign = ALICE.replace("idp.example", "evil.example");
    let reached = model.count();
    let table = [
        (says(INACTIVE), 401, "credential_invalid"),
        (says(&expired), 401, "credential_expired"),
        (says(&foreign), 401, "credential_invalid"),
        (says("<html>"), 503, "introspection_unavailable"),
        (says(&large), 503, "introspection_unavailable"),
        (says(r#"{"active":"true","sub":"alice"}"#), 503, "introspection_unavailable"),
        (Manner::answer("401 Unauthorized", "", b""), 503, "introspection_unavailable"),
        (Manner::answer("500 Internal Server Error", "", ALICE.as_bytes()), 503, "introspection_unavailable"),
        (Manner::Closed, 503, "introspection_unavailable"),
        (slow, 503, "introspection_unavailable"),
        (Manner::Bytes(Bytes::from_static(b"not http\r\n\r\n")), 503, "introspection_unavailable"),
    ];
    for (number, (manner, status, reason)) in table.into_iter().enumerate() {
        // a good answer between them keeps the breaker closed
        issuer.treat(says(ALICE));
        assert_eq!(call(&gate, &format!("good-{number}")).await?.status, 200);
        issuer.treat(manner.clone());
        let answer = call(&gate, &format!("token-{number}")).await?;
        assert_eq!(
            (answer.status, answer.reason().as_deref()),
            (status, Some(reason)),
            "{number}: {manner:?}"
        );
        assert_eq!(answer.header("retry-after").is_some(), status == 503, "{number}");
    }
    assert_eq!(model.count(), reached + 11, "refusals do not reach the upstream");
    assert_eq!(call(&gate, "token-of-alice").await?.status, 200, "known callers do not notice");

    let log = gate.envoy.log()?;
    assert!(log.contains("introspection `idp`: the endpoint refuses `client_id`"), "{log}");
    let dump = client::get(gate.envoy.admin(), "/config_dump").await?.text();
    let secret = gate.secrets.environment.get(SECRET).context("no secret")?;
    let events = serde_json::to_string(&gate.collector.events()?)?;
    for (what, text) in [("log", &log), ("events", &events)] {
        assert!(!text.contains(secret.as_str()) && !text.contains("token-"), "{what}");
    }
    assert!(dump.contains(SECRET), "named, and no more");
    gate.check_one_life().await
}

#[tokio::test]
async fn an_issuer_without_any_host_refuses_and_no_vm_dies() -> anyhow::Result<()> {
    let (model, issuer) = (ModelServer::start().await?, Relay::alone().await?);
    let upstream = Cluster::http1("model", model.address());
    let gate =
        gate("nobody", document(|_| {}), upstream, &issuer, |builder| builder.edit(without_hosts)).await?;
    for number in 0..20 {
        let answer = call(&gate, &format!("token-{number}")).await?;
        assert_eq!((answer.status, answer.reason().as_deref()), (503, Some("introspection_unavailable")));
    }
    assert_eq!(model.count(), 0);
    gate.check_one_life().await
}

fn without_hosts(bootstrap: &mut Json) {
    let clusters = bootstrap.pointer_mut("/static_resources/clusters").and_then(Json::as_array_mut);
    for cluster in clusters.into_iter().flatten().filter(|cluster| cluster["name"] == "idp") {
        if let Some(assignment) = cluster.get_mut("load_assignment").and_then(Json::as_object_mut) {
            assignment.insert("endpoints".to_owned(), json!([]));
        }
    }
}

/// Lets Envoy show bodies while the headers are held.
fn stop_iteration(bootstrap: &mut Json) {
    const PLUGIN: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
    if let Some(Json::Object(config)) = bootstrap.pointer_mut(PLUGIN) {
        config.insert("allow_on_headers_stop_iteration".to_owned(), json!(true));
    }
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Http1,
    Http2,
    Trailers,
}

/// Sends a body in two pieces, both while the issuer is still thinking.
async fn chat(gate: &Gate, shape: Shape, model: &str, token: &str) -> anyhow::Result<Answer> {
    let body = format!(r#"{{"model": "{model}", "messages": []}}"#);
    let (first, last) = body.split_at(body.len() / 2);
    let (first, last) = (first.to_owned(), last.to_owned());
    let request = Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("x-id", "answer")
        .body(())?;
    match shape {
        Shape::Http1 => {
            let mut upload = Http1::connect(gate.envoy.address()).await?.upload(request).await?;
            upload.send(first).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            upload.send(last).await?;
            upload.answer().await
        }
        Shape::Http2 | Shape::Trailers => {
            let mut connection = Http2::connect(gate.envoy.address()).await?;
            let mut call = connection.open(request, false).await?;
            call.send(first, false)?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Shape::Trailers = shape {
                call.send(last, false)?;
                let mut trailers = HeaderMap::new();
                trailers.insert("x-end", "1".parse()?);
                call.trailers(trailers)?;
            } else {
                call.send(last, true)?;
            }
            call.answer().await
        }
    }
}

#[tokio::test]
async fn no_byte_of_a_body_passes_before_caller_and_model_are_known() -> anyhow::Result<()> {
    for (peek, shown) in [("stream", false), ("stream", true), ("hold", true)] {
        let (inner, upstream) = (Relay::alone().await?, Recorder::http2().await?);
        let issuer = Relay::before(inner.address()).await?;
        inner.treat(says(ALICE));
        issuer.treat(Manner::Late(Duration::from_millis(500)));
        let document = document(|document| {
            document["resources"]["body"] = json!({ "peek": peek });
            document["authentication"]["introspection"][0]["timeout"] = json!("5s");
        });
        let cluster = Cluster::http2("model", upstream.address());
        let gate = gate("bodies", document, cluster, &issuer, |builder| {
            if shown { builder.edit(stop_iteration) } else { builder }
        })
        .await?;
        let mut passed = 0;
        for (number, shape) in [Shape::Http1, Shape::Http2, Shape::Trailers].into_iter().enumerate() {
            let what = format!("{peek} {shown} {shape:?}");
            let early = async {
                issuer.wait_for(PATH, number * 2 + 1, BOUND).await?;
                tokio::time::sleep(Duration::from_millis(60)).await;
                anyhow::Ok((upstream.requests().len(), upstream.body_bytes()))
            };
            let before = (settled(&upstream).await, passed);
            let token = format!("a{number}");
            let (answer, early) = tokio::join!(chat(&gate, shape, "chat-small", &token), early);
            assert_eq!((answer?.status, early?), (200, before), "{what}");
            passed = passed.saturating_add(r#"{"model": "chat-small", "messages": []}"#.len());
            assert_eq!(
                upstream.body_bytes(),
                passed,
                "{what}: the whole body, once: {:?}",
                upstream.requests()
            );

            let answer = chat(&gate, shape, "not-listed", &format!("b{number}")).await?;
            assert_eq!((answer.status, answer.reason().as_deref()), (403, Some("access_denied")), "{what}");
            assert_eq!(upstream.body_bytes(), passed, "{what}: nothing of what is refused");
        }
        gate.check_one_life().await?;
    }
    Ok(())
}

/// How many heads the upstream has seen: under `peek: stream` that of a refused call may come after its answer.
async fn settled(upstream: &Recorder) -> usize {
    let mut seen = upstream.requests().len();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = upstream.requests().len();
        if now == seen {
            break;
        }
        seen = now;
    }
    seen
}

/// Nothing of the departed is left in Envoy.
async fn settle(gate: &Gate) -> anyhow::Result<()> {
    let start = tokio::time::Instant::now();
    loop {
        let left = gate.envoy.statistic("http.ingress.downstream_rq_active").await?;
        if left == 0 {
            return Ok(());
        }
        if start.elapsed() > BOUND {
            bail!("{left} requests are still active");
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_leave_while_the_issuer_is_asked_leave_nothing_behind() -> anyhow::Result<()> {
    let (model, inner) = (ModelServer::start().await?, Relay::alone().await?);
    let issuer = Relay::before(inner.address()).await?;
    inner.treat(says(ALICE));
    issuer.treat(Manner::Late(THINKS));
    let document = document(|document| {
        document["authentication"]["introspection"][0]["timeout"] = json!("5s");
        document["bounds"] = json!({ "waiting": 1000 });
    });
    let upstream = Cluster::http1("model", model.address());
    let gate = gate("departures", document, upstream, &issuer, |builder| builder).await?;
    let address = gate.envoy.address();
    let stay = |number: u32| Duration::from_micros(u64::from(number.wrapping_mul(7919) % 60_000));

    let mut lanes = JoinSet::new();
    for lane in 0..AT_ONCE {
        lanes.spawn(async move {
            for number in (lane..CALLERS).step_by(AT_ONCE) {
                // every third has a token that another has too
                let token = if number % 3 == 0 { number / 30 } else { number };
                let bytes =
                    format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer h1-{token}\r\n\r\n");
                client::abandon(address, bytes.as_bytes(), stay(u32::try_from(number)?), number % 2 == 0)
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    for batch in 0..CALLERS / AT_ONCE {
        let mut connection = Http2::connect(address).await?;
        let mut streams = JoinSet::new();
        for number in 0..AT_ONCE {
            let (head, _) = list(&format!("h2-{batch}-{}", number / 2))?.into_parts();
            let call = connection.open(Request::from_parts(head, ()), true).await?;
            let stay = stay(u32::try_from(batch * AT_ONCE + number)?);
            streams.spawn(async move {
                tokio::time::sleep(stay).await;
                drop(call);
            });
        }
        while let Some(ended) = streams.join_next().await {
            ended?;
        }
    }
    settle(&gate).await?;
    issuer.treat(Manner::Pass);
    for number in 0..20 {
        assert_eq!(call(&gate, &format!("stays-{number}")).await?.status, 200);
    }
    gate.check_one_life().await?;
    let total = usize::try_from(gate.envoy.statistic("http.ingress.downstream_rq_total").await?)?;
    println!("{total} requests, {} questions", issuer.count(PATH));
    if total < CALLERS {
        return Err(anyhow!("{total} requests are too few"));
    }
    Ok(())
}
