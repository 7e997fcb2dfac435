//! A gate behind TLS, whoever signs for its callers, and a second Envoy before it.

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

pub(crate) const WORKER: &str = "spiffe://acme.example/ns/batch/sa/worker";
pub(crate) const OTHER: &str = "spiffe://acme.example/ns/search/sa/indexer";
pub(crate) const SERVER: &str = "gate.example";

/// A change of a bootstrap.
pub(crate) type Edit = fn(&mut Value);

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

/// What a client certificate says.
#[derive(Clone, Copy, Default)]
pub(crate) struct Says<'a> {
    pub(crate) uris: &'a [&'a str],
    pub(crate) names: &'a [&'a str],
    pub(crate) common_name: &'a str,
    pub(crate) expired: bool,
}

// === impl Authority ===

impl Authority {
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    pub(crate) fn issue(&self, says: Says<'_>) -> anyhow::Result<Pair> {
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
pub(crate) struct Scene {
    pub(crate) envoy: Envoy,
    pub(crate) model: ModelServer,
    pub(crate) authority: Authority,
    pub(crate) rogue: Authority,
}

pub(crate) fn document(mtls: &Value) -> Value {
    json!({
        "version": 1,
        "name": "gate",
        "consumers": [
            {"name": "batch", "roles": ["any"], "credentials": {"mtls": [{"uri_san": WORKER}]}},
            {"name": "legacy", "roles": ["any"], "credentials": {"mtls": [{"common_name": "client-1"}, {"dns_san": "one.example"}]}},
            {"name": "exact", "roles": ["any"], "credentials": {"mtls": [{"subject": "CN=client-2,O=Acme\\, Inc."}]}},
            {"name": "second", "roles": ["any"], "credentials": {"mtls": [{"dns_san": "two.example"}, {"uri_san": "urn:y"}]}},
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

pub(crate) fn builder(model: &ModelServer, document: &Value) -> anyhow::Result<EnvoyBuilder> {
    Ok(EnvoyBuilder::new()
        .plugin(Plugin::new("mlgate", artifacts::filter_wasm()?).configuration(document.to_string()))
        .cluster(Cluster::http1("model", model.address()))
        .cluster(Cluster::http1("audit", model.address()))
        .route(Route::prefix("/", "model")))
}

/// Puts the listener of a bootstrap behind TLS.
pub(crate) fn behind_tls(
    bootstrap: &mut Value,
    server: &Pair,
    authority: &Authority,
    required: bool,
    verification: &str,
    resumes: bool,
) -> anyhow::Result<()> {
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
                    "tls_certificates": [chain_of(server)],
                    "validation_context": {
                        "trusted_ca": {"inline_string": authority.0.pem()},
                        "trust_chain_verification": verification,
                    },
                },
            },
        }),
    );
    Ok(())
}

pub(crate) fn chain_of(pair: &Pair) -> Value {
    json!({
        "certificate_chain": {"inline_string": pair.pem},
        "private_key": {"inline_string": pair.key.serialize_pem()},
    })
}

/// What a listener does with `x-forwarded-client-cert`.
pub(crate) fn forwards(bootstrap: &mut Value, how: &str, set: &Value) -> anyhow::Result<()> {
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let manager = bootstrap.pointer_mut(manager).and_then(Value::as_object_mut).context("no manager")?;
    manager.insert("forward_client_cert_details".into(), json!(how));
    manager.insert("set_current_client_cert_details".into(), set.clone());
    Ok(())
}

impl Scene {
    /// A listener that asks for certificates, and resumes no session.
    pub(crate) async fn start(
        name: &str,
        mtls: &Value,
        required: bool,
        verification: &str,
    ) -> anyhow::Result<Self> {
        Self::with_resumption(name, mtls, required, verification, false).await
    }

    pub(crate) async fn with_resumption(
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
        behind_tls(&mut bootstrap, &server, &authority, required, verification, resumes)?;
        let envoy = EnvoyBuilder::new().whole(bootstrap).start(&stack).await?;
        Ok(Self { envoy, model, authority, rogue })
    }

    /// A listener that takes certificates of callers and of hops, and does so with what hops say.
    pub(crate) async fn behind_hops(name: &str, mtls: &Value, how: &str) -> anyhow::Result<Self> {
        let stack = Stack::create(name)?;
        let model = ModelServer::start().await?;
        let (authority, rogue) = (Authority::new("acme")?, Authority::new("acme")?);
        let server = authority.issue(Says { names: &[SERVER], ..Says::default() })?;
        let mut bootstrap = builder(&model, &document(mtls))?.bootstrap();
        behind_tls(&mut bootstrap, &server, &authority, false, "ACCEPT_UNTRUSTED", false)?;
        forwards(&mut bootstrap, how, &json!({"uri": true, "dns": true, "subject": true}))?;
        let envoy = EnvoyBuilder::new().whole(bootstrap).start(&stack).await?;
        Ok(Self { envoy, model, authority, rogue })
    }

    /// A second Envoy before the gate, whose own certificate says `uri`.
    pub(crate) async fn hop(&self, name: &str, uri: &str, how: &str, set: &Value) -> anyhow::Result<Envoy> {
        let stack = Stack::create(name)?;
        let server = self.authority.issue(Says { names: &[SERVER], ..Says::default() })?;
        let client = self.authority.issue(uris(&[uri]))?;
        let mut bootstrap = EnvoyBuilder::new()
            .cluster(Cluster::http1("gate", self.envoy.address()))
            .route(Route::prefix("/", "gate"))
            .bootstrap();
        behind_tls(&mut bootstrap, &server, &self.authority, false, "VERIFY_TRUST_CHAIN", true)?;
        forwards(&mut bootstrap, how, set)?;
        let clusters = bootstrap.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut);
        let gate = clusters.into_iter().flatten().find(|cluster| cluster["name"] == "gate");
        gate.and_then(Value::as_object_mut).context("no cluster")?.insert(
            "transport_socket".into(),
            json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": SERVER,
                    "common_tls_context": {
                        "tls_certificates": [chain_of(&client)],
                        "validation_context": {"trusted_ca": {"inline_string": self.authority.0.pem()}},
                    },
                },
            }),
        );
        EnvoyBuilder::new().whole(bootstrap).start(&stack).await
    }

    pub(crate) fn client(&self, shows: Option<&Pair>) -> anyhow::Result<Arc<ClientConfig>> {
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
    pub(crate) async fn outcome(&self, config: Arc<ClientConfig>) -> anyhow::Result<String> {
        self.outcome_at(self.envoy.address(), config, &[]).await
    }

    /// The same of a call that goes somewhere else first, or says something of itself.
    pub(crate) async fn outcome_at(
        &self,
        address: SocketAddr,
        config: Arc<ClientConfig>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        self.model.clear();
        let (status, body) = call(address, config, headers).await?;
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

    pub(crate) async fn shown(&self, pair: &Pair) -> anyhow::Result<String> {
        self.outcome(self.client(Some(pair))?).await
    }
}

pub(crate) async fn call(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    headers: &[(&str, &str)],
) -> anyhow::Result<(u16, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(config).connect(ServerName::try_from(SERVER)?, stream).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/v1/models").header("host", SERVER);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = tokio::time::timeout(client::ANSWER_BOUND, sender.send_request(request)).await??;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok((status, body))
}

pub(crate) fn uris<'a>(uris: &'a [&'a str]) -> Says<'a> {
    Says { uris, ..Says::default() }
}

/// The first Envoy with `connection.peer_certificate_valid`: 1.39.
pub(crate) const WITH_VALIDITY: u32 = 39;

/// The first Envoy that shows a whole certificate (`connection.peer_certificate`): 1.40.
pub(crate) const WITH_ALL_NAMES: u32 = 40;

/// Whether the Envoy under test can say that a certificate is valid; where it cannot, what is left out is named.
#[expect(clippy::print_stdout, reason = "what is left out must be read by somebody")]
pub(crate) fn says_valid(what: &str) -> anyhow::Result<bool> {
    let minor = artifacts::envoy_minor()?;
    if minor < WITH_VALIDITY {
        println!(
            "left out in Envoy 1.{minor}: {what}: `connection.peer_certificate_valid` exists since 1.39"
        );
    }
    Ok(minor >= WITH_VALIDITY)
}
