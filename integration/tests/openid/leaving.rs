//! Callers that leave in each wait: for keys, for introspection, for the rest of their body, for the rate limit service.
//! Nothing of them stays, and whoever comes next is served.
//!
//! `MLGATE_LEAVERS=1000000` sends as many; `make test` sends fewer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Request;
use jsonwebtoken::Algorithm;
use mlgate_integration::client;
use mlgate_integration::gate::Gate;
use mlgate_integration::leavers::{Asked, Leavers};
use mlgate_integration::rate_limit_service::Answers;
use mlgate_integration::relay::Manner;
use mlgate_integration::{Cluster, ModelServer, RateLimitService, Relay};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::pairs::ed25519;
use crate::scene::{self, CLIENT_SECRET, KEYED, POLL, Pace, SLACK};

/// Callers, all waits together, where this variable says so.
const LEAVERS: &str = "MLGATE_LEAVERS";
/// How many otherwise.
const FEW: usize = 20_000;
/// Connections of HTTP/1 at once; connections of HTTP/2 at once, and streams on each.
const LANES: usize = 40;
const CONNECTIONS: usize = 4;
const STREAMS: usize = 20;
/// What is asked thinks so long, and callers leave within twice that: about half of them before their answer.
const THINKS: Duration = Duration::from_millis(25);
const LONGEST_STAY: Duration = Duration::from_millis(50);
/// Issuers whose keys never come: while one of them may not be asked, others may.
const ISSUERS: usize = 8;
const SETTLE_BOUND: Duration = Duration::from_secs(20);

/// Failed fetches follow each other as closely as they may.
const PACE: Pace = Pace { cache_duration: "1s", cooldown: "1s", failed_refetch: "1s", max_stale: "1h" };

/// What a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Keys,
    Introspection,
    Body,
    Quota,
}

const WAITS: [Wait; 4] = [Wait::Keys, Wait::Introspection, Wait::Body, Wait::Quota];

struct Scene {
    gate: Gate,
    /// Keys and introspection.
    idp: Relay,
    /// What introspection says, when it has thought.
    oracle: Relay,
    service: RateLimitService,
    _model: ModelServer,
}

fn issuer(number: usize) -> String {
    format!("https://issuer-{number}.example")
}

fn document() -> Value {
    let providers = (0..ISSUERS).map(|number| {
        let uri = format!("https://idp.example/jwks/{number}");
        json!({
            "name": format!("p{number}"), "issuer": issuer(number), "audiences": ["model-gateway"], "algorithms": ["EdDSA"],
            "remote_jwks": PACE.on(json!({ "cluster": "idp", "uri": uri })), "claims": { "roles": ["roles"] },
        })
    });
    json!({
        "version": 1,
        "name": "gate",
        "consumers": scene::consumers(),
        "authentication": {
            "jwt": { "providers": providers.collect::<Vec<_>>() },
            "introspection": [{
                "name": "opaque", "cluster": "idp", "uri": "https://idp.example/introspect", "client_id": "gate",
                "client_secret_env": CLIENT_SECRET, "timeout": "1s", "cache_duration": "1s",
                "claims": { "roles": ["roles"] },
            }],
        },
        "resources": { "unlisted": "allow", "rules": [{ "preset": "openai" }] },
        "authorization": { "roles": { "reader": { "permissions": ["list", "predict"] } } },
        "limits": [{ "name": "fleet", "key": ["principal"], "scope": "global",
            "rates": { "default": [{ "limit": 100_000_000, "window": "1h" }] } }],
        "rate_limit_service": { "cluster": "ratelimit", "domain": "mlgate", "timeout": "1s", "failure_mode": "deny" },
        "audit": {
            "collector": { "cluster": "audit" },
            "chain": { "keys": [{ "id": "c1", "env": "MLGATE_CHAIN_KEY_1" }] },
        },
        "shared_data": { "keys": [{ "id": "s1", "env": "MLGATE_SHARED_KEY_1" }] },
        "bounds": { "waiting": 1000 },
        "profiles": { "default": { "authenticate": { "any": ["api_key", "jwt", "introspection"] } } },
    })
}

/// A token of an issuer.
fn token(number: usize) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let claims = json!({
        "iss": issuer(number), "aud": "model-gateway", "sub": "worker", "roles": ["reader"],
        "iat": now.as_secs(), "exp": now.as_secs() + 3_000, "jti": now.as_nanos().to_string(),
    });
    Ok(ed25519().token(Algorithm::EdDSA, &claims))
}

// === impl Scene ===

impl Scene {
    async fn start() -> anyhow::Result<Self> {
        let secrets = scene::secrets(document())?;
        // it allows what it has no limit for
        let service = RateLimitService::in_memory("[]").await?;
        let oracle = Relay::alone().await?;
        oracle.treat(Manner::ok("application/json", r#"{"active":false}"#));
        let idp = Relay::before(oracle.address()).await?;
        idp.treat_at("/introspect", Manner::Late(THINKS));
        idp.treat_at("/jwks/", Manner::Endless { head: Bytes::new(), piece: Bytes::new() });
        service.answer(Answers::Late(THINKS));
        let model = ModelServer::start().await?;
        let upstream = Cluster::http1("model", model.address());
        let clusters = [Cluster::http1("idp", idp.address()), Cluster::http2("ratelimit", service.address())];
        let gate = Gate::start("leaving", secrets, upstream, |builder| {
            clusters.into_iter().fold(builder, mlgate_integration::EnvoyBuilder::cluster)
        });
        Ok(Self { gate: gate.await?, idp, oracle, service, _model: model })
    }

    /// A request that will wait, and what of its body is sent at once.
    fn request(&self, wait: Wait, number: usize) -> anyhow::Result<Asked> {
        let request = match wait {
            Wait::Body => Request::post("/v1/chat/completions")
                .header("content-type", "application/json")
                .header("content-length", BODY.len()),
            _ => Request::get("/v1/models"),
        };
        let request = match wait {
            Wait::Keys => request.header("authorization", format!("Bearer {}", token(number % ISSUERS)?)),
            Wait::Introspection => request.header("authorization", format!("Bearer opaque-{number}")),
            Wait::Body | Wait::Quota => request.header("x-api-key", self.gate.key(KEYED)),
        };
        Ok((request.body(())?, (wait == Wait::Body).then_some(Bytes::from_static(HALF))))
    }

    /// Nothing of the departed is left in Envoy, neither their requests nor what was asked for them.
    async fn settle(&self) -> anyhow::Result<()> {
        let active = ["http.ingress.downstream_rq_active", "cluster.ratelimit.upstream_rq_active"];
        let start = Instant::now();
        loop {
            let mut left = Vec::new();
            for name in active {
                left.push(self.gate.envoy.statistic(name).await?);
            }
            if left == [0, 0] {
                return Ok(());
            }
            if start.elapsed() > SETTLE_BOUND {
                bail!("still active: {active:?} {left:?}");
            }
            sleep(POLL).await;
        }
    }

    /// Whoever comes next, and stays.
    async fn serves(&self, wait: Wait) -> anyhow::Result<()> {
        let (request, body) = self.request(wait, 0)?;
        let mut request = request.map(|()| body.map_or_else(Bytes::new, |_| Bytes::from_static(BODY)));
        if wait == Wait::Introspection {
            let fresh = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
            let value = format!("Bearer next-{fresh}");
            request.headers_mut().insert("authorization", value.parse()?);
        }
        let answer = client::call(self.gate.envoy.address(), request).await?;
        anyhow::ensure!(answer.status == 200, "{wait:?}: {} {}", answer.status, answer.text());
        Ok(())
    }
}

const BODY: &[u8] = br#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
const HALF: &[u8] = br#"{"model":"m","mess"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_leave_in_any_wait_leave_nothing_behind() -> anyhow::Result<()> {
    let count = match std::env::var(LEAVERS) {
        Ok(count) => count.parse()?,
        Err(_) => FEW,
    };
    let scene = Scene::start().await?;
    let each = count / WAITS.len() / 2;
    let leavers = Leavers { address: scene.gate.envoy.address(), at_once: LANES, longest: LONGEST_STAY };
    for wait in WAITS {
        let start = Instant::now();
        let before = scene.gate.envoy.statistic("http.ingress.downstream_rq_rx_reset").await?;
        let asked = |from: usize| (from..from + each).map(|number| scene.request(wait, number)).collect();
        let asked: [anyhow::Result<Vec<_>>; 2] = [asked(0), asked(each)];
        let [http1, http2] = asked;
        leavers.over_http1(http1?).await.context(format!("{wait:?}, HTTP/1"))?;
        Leavers { at_once: CONNECTIONS, ..leavers }
            .over_http2(http2?, STREAMS)
            .await
            .context(format!("{wait:?}, HTTP/2"))?;
        scene.settle().await.context(format!("{wait:?}"))?;
        let left = scene.gate.envoy.statistic("http.ingress.downstream_rq_rx_reset").await? - before;
        println!(
            "{wait:?}: {} callers in {:.1?}, {left} resets by callers counted",
            2 * each,
            start.elapsed()
        );
        assert!(left > u64::try_from(each)? / 4, "too few left in time to prove anything");
        scene.gate.envoy.check_unharmed().await?;
    }

    // keys come, introspection knows the token, and nobody's lease stands in their way
    scene.service.answer(Answers::Full);
    let until = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 300;
    let active = json!({ "active": true, "sub": "next", "roles": ["reader"], "exp": until });
    scene.oracle.treat(Manner::ok("application/json", active.to_string()));
    scene
        .idp
        .treat_at("/jwks/", Manner::ok("application/json", json!({ "keys": [ed25519().jwk] }).to_string()));
    for wait in WAITS {
        let start = Instant::now();
        let served = async {
            while let Err(error) = scene.serves(wait).await {
                // the last fetch that nobody answered holds its lease to its end
                if wait != Wait::Keys {
                    return Err(error);
                }
                sleep(POLL).await;
            }
            for _ in 0..20 {
                scene.serves(wait).await?;
            }
            Ok(())
        };
        timeout(Duration::from_secs(3) + SLACK, served)
            .await
            .context(format!("{wait:?}: nobody is served"))??;
        println!("{wait:?}: the next callers were served after {:.2?}", start.elapsed());
    }
    scene.settle().await?;
    scene.gate.check_one_life().await
}
