//! The clusters and variables that a configuration asks of the proxy, and what it trusts them with.

use crate::config::document::Document;

/// One use of a cluster. A new word that names a cluster gets its line in [`named`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedCluster<'a> {
    /// Its name in Envoy.
    pub name: &'a str,
    /// The word that names it.
    pub pointer: &'static str,
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
        pointer: "/rate_limit_service/cluster",
        protocol: Protocol::Grpc,
        trust: Trust::Service,
    });
    let keys = document.authentication.jwt.providers.iter().flat_map(|provider| {
        let of =
            |name, pointer| NamedCluster { name, pointer, protocol: Protocol::Http, trust: Trust::Access };
        let remote = provider.remote_jwks.iter();
        let remote = remote.map(move |r| of(&r.cluster, "/authentication/jwt/providers/remote_jwks/cluster"));
        let discovery = provider.discovery.iter().flat_map(move |discovery| {
            let document = of(&discovery.cluster, "/authentication/jwt/providers/discovery/cluster");
            let keys = discovery.jwks_cluster.iter();
            let keys = keys.map(move |name| of(name, "/authentication/jwt/providers/discovery/jwks_cluster"));
            std::iter::once(document).chain(keys)
        });
        remote.chain(discovery)
    });
    let collector = NamedCluster {
        name: &document.audit.collector.cluster,
        pointer: "/audit/collector/cluster",
        protocol: Protocol::Http,
        trust: Trust::Service,
    };
    let asked = document.authentication.introspection.iter().map(|endpoint| NamedCluster {
        name: &endpoint.cluster,
        pointer: "/authentication/introspection/cluster",
        protocol: Protocol::Http,
        trust: Trust::Access,
    });
    let list = |name, pointer| NamedCluster { name, pointer, protocol: Protocol::Http, trust: Trust::Access };
    let authentication = &document.authentication;
    let revocation = authentication.revocation.cluster.as_deref();
    let credentials = authentication.credentials_list.as_ref().map(|list| list.cluster.as_str());
    let lists = revocation
        .map(|name| list(name, "/authentication/revocation/cluster"))
        .into_iter()
        .chain(credentials.map(|name| list(name, "/authentication/credentials_list/cluster")));
    asked.chain(keys).chain(service).chain(lists).chain([collector]).collect()
}
