//! The clusters and variables that a configuration asks of the proxy, and what it trusts them with.

use crate::config::document::Document;

/// One use of a cluster. A new word that names a cluster gets its line in [`named`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCluster<'a> {
    /// Its name in Envoy.
    pub name: &'a str,
    /// The word that names it.
    pub pointer: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// What hangs on its answers.
    pub trust: Trust,
}

/// How a cluster is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2.
    Grpc,
    /// Either version.
    Http,
}

/// What hangs on a cluster's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Who gets in: keys, revocation, introspection. Its server must be verified.
    Access,
    /// How often, or what is kept: nobody gets in by it.
    Service,
}

/// Every cluster that a configuration names, in the order of its words.
pub fn named(document: &Document) -> Vec<NamedCluster<'_>> {
    let service = document.rate_limit_service.as_ref().map(|service| NamedCluster {
        name: &service.cluster,
        pointer: String::from("/rate_limit_service/cluster"),
        protocol: Protocol::Grpc,
        trust: Trust::Service,
    });
    let providers = document.authentication.jwt.providers.iter().enumerate();
    let keys = providers.flat_map(|(index, provider)| {
        let of =
            move |name, word: &str| access(name, format!("/authentication/jwt/providers/{index}/{word}"));
        let remote = provider.remote_jwks.iter();
        let remote = remote.map(move |remote| of(&remote.cluster, "remote_jwks/cluster"));
        let discovery = provider.discovery.iter().flat_map(move |discovery| {
            let document = of(&discovery.cluster, "discovery/cluster");
            let keys = discovery.jwks_cluster.iter();
            std::iter::once(document).chain(keys.map(move |name| of(name, "discovery/jwks_cluster")))
        });
        remote.chain(discovery)
    });
    let collector = NamedCluster {
        name: &document.audit.collector.cluster,
        pointer: String::from("/audit/collector/cluster"),
        protocol: Protocol::Http,
        trust: Trust::Service,
    };
    let asked = document.authentication.introspection.iter().enumerate();
    let asked = asked.map(|(index, endpoint)| {
        access(&endpoint.cluster, format!("/authentication/introspection/{index}/cluster"))
    });
    let list = |name, word: &str| access(name, format!("/authentication/{word}/cluster"));
    let authentication = &document.authentication;
    let revocation = authentication.revocation.cluster.as_deref();
    let credentials = authentication.credentials_list.as_ref().map(|list| list.cluster.as_str());
    let lists = revocation
        .map(|name| list(name, "revocation"))
        .into_iter()
        .chain(credentials.map(|name| list(name, "credentials_list")));
    asked.chain(keys).chain(service).chain(lists).chain([collector]).collect()
}

/// One that gives access.
const fn access(name: &str, pointer: String) -> NamedCluster<'_> {
    NamedCluster { name, pointer, protocol: Protocol::Http, trust: Trust::Access }
}
