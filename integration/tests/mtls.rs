//! Real TLS: certificates that the test makes, through the real Envoy, to a caller or a refusal. And the direction of
//! a listener.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use mlgate_integration::{
    Cluster, Envoy, EnvoyBuilder, ModelServer, Plugin, Route, Stack, artifacts, client,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const WORKER: &str = "spiffe://acme.example/ns/batch/sa/worker";
const OTHER: &str = "spiffe://acme.example/ns/search/sa/indexer";
const SERVER: &str = "gate.example";

/// A change of a bootstrap.
type Edit = fn(&mut Value);

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Pair {
    certificate: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

/// What a client certificate says.
#[derive(Clone, Copy, Default)]
struct Says<'a> {
    uris: &'a [&'a str],
    names: &'a [&'a str],
    common_name: &'a str,
    expired: bool,
}

// === impl Authority ===

impl Authority {
    fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    fn issue(&self, says: Says<'_>) -> anyhow::Result<Pair> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !says.common_name.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, "Acme, Inc.");
            params.distinguished_name.push(DnType::CommonName, says.common_name);
        }
        for uri in says.uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into()?));
        }
        for name in says.names {
            params.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(if says.expired { 2021 } else { 2099 }, 1, 1);
        let certificate = params.signed_by(&key, &self.0)?;
        Ok(Pair { certificate: certificate.der().clone(), pem: certificate.pem(), key })
    }
}

// === a gate behind TLS ===

/// A gate, its upstream, and who may sign for callers.
struct Scene {
    envoy: Envoy,
    model: ModelServer,
    authority: Authority,
    rogue: Authority,
}

fn document(mtls: &Value) -> Value {
    json!({
        "version": 1,
        "name": "gate",
        "consumers": [
            {"name": "batch", "roles": ["any"], "credentials": {"mtls": [{"uri_san": WORKER}]}},
            {"name": "legacy", "roles": ["any"], "credentials": {"mtls": [{"common_name": "client-1"}, {"dns_san": "one.example"}]}},
            {"name": "exact", "roles": ["any"], "credentials": {"mtls": [{"subject": "CN=client-2,O=Acme\\, Inc."}]}},
            {"name": "second", "roles": ["any"], "credentials": {"mtls": [{"dns_san": "two.example"}]}},
        ],
        "bindings": [
            {"principal": {"id": "mtls:spiffe://acme.example/ns/{ns}/sa/{sa}"}, "roles": ["any"], "attributes": {"org": "{ns}"}},
        ],
        "authentication": {"mtls": mtls},
        "resources": {"unlisted": "allow", "rules": [{"preset": "openai"}]},
        "authorization": {"roles": {"any": {"permissions": ["list"]}}},
        "audit": {"collector": {"cluster": "audit"}, "chain": {"unkeyed": true}},
    })
}

fn builder(model: &ModelServer, document: &Value) -> anyhow::Result<EnvoyBuilder> {
    Ok(EnvoyBuilder::new()
        .plugin(Plugin::new("mlgate", artifacts::filter_wasm()?).configuration(document.to_string()))
        .cluster(Cluster::http1("model", model.address()))
        .cluster(Cluster::http1("audit", model.address()))
        .route(Route::prefix("/", "model")))
}

impl Scene {
    /// A listener that asks for certificates, and resumes no session.
    async fn start(name: &str, mtls: &Value, required: bool, verification: &str) -> anyhow::Result<Self> {
        Self::with_resumption(name, mtls, required, verification, false).await
    }

    async fn with_resumption(
        name: &str,
        mtls: &Value,
        required: bool,
        verification: &str,
        resumes: bool,
    ) -> anyhow::Result<Self> {
        let stack = Stack::create(name)?;
        let model = ModelServer::start().await?;
        let (authority, rogue) = (Authority::new("acme")?, Authority::new("acme")?);
        let server = authority.issue(Says { names: &[SERVER], ..Says::default() })?;
        let mut bootstrap = builder(&model, &document(mtls))?.bootstrap();
        let chain = bootstrap.pointer_mut("/static_resources/listeners/0/filter_chains/0");
        let chain = chain.and_then(Value::as_object_mut).context("no filter chain")?;
        chain.insert(
            "transport_socket".into(),
            json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "require_client_certificate": required,
                    "disable_stateless_session_resumption": !resumes,
                    "disable_stateful_session_resumption": !resumes,
                    "common_tls_context": {
                        "tls_certificates": [{
                            "certificate_chain": {"inline_string": server.pem},
                            "private_key": {"inline_string": server.key.serialize_pem()},
                        }],
                        "validation_context": {
                            "trusted_ca": {"inline_string": authority.0.pem()},
                            "trust_chain_verification": verification,
                        },
                    },
                },
            }),
        );
        let envoy = EnvoyBuilder::new().whole(bootstrap).start(&stack).await?;
        Ok(Self { envoy, model, authority, rogue })
    }

    fn client(&self, shows: Option<&Pair>) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.0.der().clone())?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        Ok(Arc::new(match shows {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let key = PrivatePkcs8KeyDer::from(pair.key.serialize_der());
                config.with_client_auth_cert(vec![pair.certificate.clone()], key.into())?
            }
        }))
    }

    /// The principal that the upstream saw, or the reason that the caller read.
    async fn outcome(&self, config: Arc<ClientConfig>) -> anyhow::Result<String> {
        self.model.clear();
        let (status, body) = call(self.envoy.address(), config).await?;
        if status != 200 {
            let problem: Value = serde_json::from_slice(&body)?;
            return Ok(format!(
                "{status} {}",
                problem.pointer("/reason").and_then(Value::as_str).unwrap_or("")
            ));
        }
        let seen = self.model.requests().into_iter().find(|request| request.path.starts_with("/v1/models"));
        let seen = seen.context("the upstream saw nothing")?;
        let org = seen.header("x-mlgate-org").map(|org| format!(" of {org}")).unwrap_or_default();
        Ok(format!("{}{org}", seen.header("x-mlgate-principal").unwrap_or_default()))
    }

    async fn shown(&self, pair: &Pair) -> anyhow::Result<String> {
        self.outcome(self.client(Some(pair))?).await
    }
}

async fn call(address: SocketAddr, config: Arc<ClientConfig>) -> anyhow::Result<(u16, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(config).connect(ServerName::try_from(SERVER)?, stream).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/v1/models").header("host", SERVER).body(Empty::<Bytes>::new())?;
    let answer = tokio::time::timeout(client::ANSWER_BOUND, sender.send_request(request)).await??;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok((status, body))
}

fn uris<'a>(uris: &'a [&'a str]) -> Says<'a> {
    Says { uris, ..Says::default() }
}

/// The first Envoy with `connection.peer_certificate_valid`: 1.39.
const WITH_VALIDITY: u32 = 39;

/// Whether the Envoy under test can say that a certificate is valid; where it cannot, what is left out is named.
#[expect(clippy::print_stdout, reason = "what is left out must be read by somebody")]
fn says_valid(what: &str) -> anyhow::Result<bool> {
    let minor = artifacts::envoy_minor()?;
    if minor < WITH_VALIDITY {
        println!(
            "left out in Envoy 1.{minor}: {what}: `connection.peer_certificate_valid` exists since 1.39"
        );
    }
    Ok(minor >= WITH_VALIDITY)
}

#[tokio::test]
async fn an_envoy_that_cannot_say_what_is_valid_lets_nobody_in_by_attribute() -> anyhow::Result<()> {
    if artifacts::envoy_minor()? >= WITH_VALIDITY {
        return Ok(());
    }
    let mtls = json!({"trust_domains": ["acme.example"], "peer_validation": "attribute"});
    let scene = Scene::start("mtls-old", &mtls, false, "ACCEPT_UNTRUSTED").await?;
    for authority in [&scene.authority, &scene.rogue] {
        assert_eq!(scene.shown(&authority.issue(uris(&[WORKER]))?).await?, "401 credential_invalid");
    }
    assert_eq!(scene.outcome(scene.client(None)?).await?, "401 credential_missing");
    scene.envoy.check_unharmed().await
}

#[tokio::test]
async fn where_the_listener_lets_anybody_in_only_what_the_proxy_verified_counts() -> anyhow::Result<()> {
    if !says_valid("each row of `peer_validation: attribute`")? {
        return Ok(());
    }
    let mtls = json!({"trust_domains": ["acme.example"], "peer_validation": "attribute"});
    let scene = Scene::start("mtls-attribute", &mtls, false, "ACCEPT_UNTRUSTED").await?;
    let ours = |says| scene.authority.issue(says);
    let workload = "mtls:spiffe://acme.example/ns/search/sa/indexer of search";
    for (what, pair, expected) in [
        ("valid", ours(uris(&[WORKER]))?, "batch"),
        ("valid, of the domain", ours(uris(&[OTHER]))?, workload),
        ("valid, of another domain", ours(uris(&["spiffe://evil.example/x"]))?, "401 credential_missing"),
        ("valid, malformed", ours(uris(&["spiffe://acme.example/x/"]))?, "401 credential_invalid"),
        ("several, the first counts", ours(uris(&[WORKER, OTHER]))?, "batch"),
        ("several, a later one does not", ours(uris(&["urn:x", WORKER]))?, "401 credential_missing"),
        (
            "DNS, the first counts",
            ours(Says { names: &["one.example", "two.example"], ..Says::default() })?,
            "legacy",
        ),
        (
            "DNS, a later one does not",
            ours(Says { names: &["x.example", "two.example"], ..Says::default() })?,
            "401 credential_missing",
        ),
        ("common name", ours(Says { common_name: "client-1", ..Says::default() })?, "legacy"),
        ("subject", ours(Says { common_name: "client-2", ..Says::default() })?, "exact"),
        (
            "common name in disguise",
            ours(Says { common_name: "x,CN=client-1", ..Says::default() })?,
            "401 credential_missing",
        ),
        ("expired", ours(Says { expired: true, ..uris(&[WORKER]) })?, "401 credential_invalid"),
        ("rogue", scene.rogue.issue(uris(&[WORKER]))?, "401 credential_invalid"),
        ("rogue, of nobody", scene.rogue.issue(uris(&["urn:x"]))?, "401 credential_invalid"),
    ] {
        assert_eq!(scene.shown(&pair).await?, expected, "{what}");
    }
    assert_eq!(scene.outcome(scene.client(None)?).await?, "401 credential_missing");
    scene.envoy.check_unharmed().await
}

#[tokio::test]
async fn the_proxy_calls_no_certificate_of_a_resumed_session_valid() -> anyhow::Result<()> {
    if !says_valid("sessions that are resumed under `peer_validation: attribute`")? {
        return Ok(());
    }
    let mtls = json!({"trust_domains": ["acme.example"], "peer_validation": "attribute"});
    for (resumes, later) in [(true, "401 credential_invalid"), (false, "batch")] {
        let scene = Scene::with_resumption("mtls-resumed", &mtls, false, "ACCEPT_UNTRUSTED", resumes).await?;
        let rogue = scene.client(Some(&scene.rogue.issue(uris(&[WORKER]))?))?;
        let valid = scene.client(Some(&scene.authority.issue(uris(&[WORKER]))?))?;
        for expected in ["batch", later, later] {
            assert_eq!(scene.outcome(Arc::clone(&rogue)).await?, "401 credential_invalid");
            assert_eq!(scene.outcome(Arc::clone(&valid)).await?, expected, "resumption: {resumes}");
        }
        let reused = scene.envoy.statistics("ssl.session_reused").await?;
        assert_eq!(reused.iter().any(|(_, count)| *count > 0), resumes, "{reused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_listener_that_verifies_can_be_taken_at_its_word() -> anyhow::Result<()> {
    let mtls = json!({"trust_domains": ["acme.example"], "peer_validation": "listener"});
    let scene = Scene::start("mtls-listener", &mtls, true, "VERIFY_TRUST_CHAIN").await?;
    assert_eq!(scene.shown(&scene.authority.issue(uris(&[WORKER]))?).await?, "batch");
    let refused = [
        scene.authority.issue(Says { expired: true, ..uris(&[WORKER]) })?,
        scene.rogue.issue(uris(&[WORKER]))?,
    ];
    for pair in &refused {
        assert!(scene.shown(pair).await.is_err(), "the handshake succeeded");
    }
    assert!(scene.outcome(scene.client(None)?).await.is_err(), "the handshake succeeded");
    scene.envoy.check_unharmed().await
}

#[tokio::test]
async fn where_the_operators_word_is_wrong_anybody_is_whom_he_says() -> anyhow::Result<()> {
    let mtls = json!({"trust_domains": ["acme.example"], "peer_validation": "listener"});
    let scene = Scene::start("mtls-trap", &mtls, false, "ACCEPT_UNTRUSTED").await?;
    // the reason why `attribute` is the default
    assert_eq!(scene.shown(&scene.rogue.issue(uris(&[WORKER]))?).await?, "batch");
    scene.envoy.check_unharmed().await
}

#[tokio::test]
async fn streams_that_leave_a_workload_are_refused_by_name() -> anyhow::Result<()> {
    fn outbound(bootstrap: &mut Value) {
        let listener = bootstrap.pointer_mut("/static_resources/listeners/0").unwrap();
        listener.as_object_mut().unwrap().insert("traffic_direction".into(), json!("OUTBOUND"));
    }
    fn inbound(bootstrap: &mut Value) {
        let listener = bootstrap.pointer_mut("/static_resources/listeners/0").unwrap();
        listener.as_object_mut().unwrap().insert("traffic_direction".into(), json!("INBOUND"));
    }
    fn gateway(bootstrap: &mut Value) {
        *bootstrap.pointer_mut("/node/id").unwrap() = json!("router~10.0.0.1~gateway-1.default~default.svc");
        outbound(bootstrap);
    }
    fn sidecar(bootstrap: &mut Value) {
        *bootstrap.pointer_mut("/node/id").unwrap() = json!("sidecar~10.0.0.1~router~.default~default.svc");
        outbound(bootstrap);
    }
    let stack = Stack::create("direction")?;
    let model = ModelServer::start().await?;
    let edits: [(Edit, u16, &str); 5] = [
        (|_| {}, 401, "credential_missing"),
        (inbound, 401, "credential_missing"),
        (gateway, 401, "credential_missing"),
        (outbound, 403, "access_denied"),
        (sidecar, 403, "access_denied"),
    ];
    for (edit, status, reason) in edits {
        let envoy = builder(&model, &document(&json!({})))?.edit(edit).start(&stack).await?;
        let answer = client::get(envoy.address(), "/v1/models").await?;
        let problem = answer.json()?;
        let read = problem.pointer("/reason").and_then(Value::as_str).unwrap_or_default();
        assert_eq!((answer.status, read), (status, reason));
        let refused = envoy.statistics("direction_refused").await?;
        assert_eq!(
            refused.iter().map(|(_, value)| value).sum::<u64>(),
            u64::from(status == 403),
            "{refused:?}"
        );
        envoy.check_unharmed().await?;
    }
    Ok(())
}
