//! The connection's certificate becomes an [`Identity`], nothing, or a refusal (X.509, RFC 5280; X509-SVID).
//!
//! That a certificate was presented proves nothing: a listener may accept any (`ACCEPT_UNTRUSTED`). It counts once the
//! proxy says that it is valid (`peer_validation: attribute`), or once the operator asserts that the listener lets no
//! other in (`listener`). Then a consumer that names it is the caller; else a SPIFFE ID of a trusted domain is a caller
//! of its own, `mtls:<id>`; else it is as if none had been presented.
//!
//! A trusted hop is nobody itself: it speaks for whoever called it ([`forwarded`]).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::config::faults::Faults;
use crate::http::certificate::Names;
use crate::http::{PeerCertificate, RequestHead};
use crate::identity::bindings::Bindings;
use crate::identity::consumer::Consumer;
use crate::identity::spec::{AuthenticationSpec, CertificateSpec, ConsumerSpec, PeerValidation};
use crate::identity::{AuthenticationError, Credential, Identity};

pub mod forwarded;
pub mod spiffe;
pub mod subject;

use spiffe::SpiffeId;

/// Which certificates are whose.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    trust_domains: Vec<String>,
    /// `None`: certificates are not configured, and none counts.
    validation: Option<PeerValidation>,
    bound: BTreeMap<Name, Rc<Identity>>,
    hops: BTreeSet<Name>,
    bindings: Rc<Bindings>,
}

/// What a consumer names a certificate by, compared whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Uri(String),
    /// In lower case (RFC 4343).
    Dns(String),
    Subject(String),
    Common(String),
}

/// The longest name of a certificate that is looked up, in bytes.
const MAX_NAME: usize = spiffe::MAX_LENGTH;

// === impl Certificates ===

impl Certificates {
    /// Compiles `authentication.mtls` and what `consumers` say of certificates. The result may only be used when no
    /// fault was added.
    pub fn compile(
        consumers: &[ConsumerSpec],
        authentication: &AuthenticationSpec,
        bindings: &Rc<Bindings>,
        faults: &mut Faults,
    ) -> Self {
        let mut certificates = Self { bindings: Rc::clone(bindings), ..Self::default() };
        if let Some(spec) = &authentication.mtls {
            for (index, domain) in spec.trust_domains.iter().enumerate() {
                if !spiffe::is_trust_domain(domain) {
                    faults.at(
                        format!("/authentication/mtls/trust_domains/{index}"),
                        format!("`{domain}` is not a trust domain"),
                        "write lower-case letters, digits, `.`, `-` and `_`, without `spiffe://`",
                    );
                }
            }
            certificates.trust_domains.clone_from(&spec.trust_domains);
            certificates.validation = Some(spec.peer_validation);
            for (index, spec) in spec.trusted_hops.iter().enumerate() {
                let pointer = format!("/authentication/mtls/trusted_hops/{index}");
                certificates.hops.extend(certificates.name(spec, &pointer, faults));
            }
        }
        for (number, consumer) in consumers.iter().enumerate() {
            for (index, spec) in consumer.credentials.mtls.iter().enumerate() {
                let pointer = format!("/consumers/{number}/credentials/mtls/{index}");
                certificates.bind(consumer, spec, &pointer, faults);
            }
        }
        certificates
    }

    fn bind(&mut self, consumer: &ConsumerSpec, spec: &CertificateSpec, pointer: &str, faults: &mut Faults) {
        if self.validation.is_none() {
            faults.at(
                pointer,
                "certificates are not configured",
                "write `authentication.mtls`, and there who checks them (`peer_validation`)",
            );
        }
        let Some(name) = self.name(spec, pointer, faults) else { return };
        if self.hops.contains(&name) {
            faults.at(
                pointer,
                "this certificate is that of a trusted hop",
                "a hop speaks for others: give whoever calls there a certificate of their own",
            );
        }
        // What is wrong with the consumer itself was said where its keys were compiled.
        let known = Consumer::compile(consumer, &|_| true, "", &mut Faults::default());
        let mut identity = self.bindings.settle(Identity::anonymous(), Some(&known));
        identity.credential = credential(name.text());
        if let Some(other) = self.bound.insert(name, Rc::new(identity)) {
            faults.at(
                pointer,
                format!("this certificate is already that of `{}`", other.principal),
                "a certificate belongs to one consumer",
            );
        }
    }

    fn name(&self, spec: &CertificateSpec, pointer: &str, faults: &mut Faults) -> Option<Name> {
        let CertificateSpec { uri_san, dns_san, subject, common_name } = spec;
        let mut refuse = |word: &str, what: &str, remedy: &str| {
            faults.at(format!("{pointer}/{word}"), what, remedy);
            None
        };
        match (uri_san, dns_san, subject, common_name) {
            (Some(uri), None, None, None) if !spiffe::is_claimed(uri) => Some(Name::Uri(uri.clone())),
            (Some(uri), None, None, None) => match SpiffeId::parse(uri) {
                Err(_) => refuse(
                    "uri_san",
                    "this is not a SPIFFE ID",
                    "write `spiffe://<trust domain>/<path>` in lower case, without escapes",
                ),
                Ok(id) if self.is_foreign(id) => refuse(
                    "uri_san",
                    "its trust domain is not one of `authentication.mtls.trust_domains`",
                    "add the domain there",
                ),
                Ok(_) => Some(Name::Uri(uri.clone())),
            },
            (None, Some(dns), None, None) => Some(Name::Dns(dns.to_ascii_lowercase())),
            (None, None, Some(subject), None) if subject::attributes(subject).is_some() => {
                Some(Name::Subject(subject.clone()))
            }
            (None, None, Some(_), None) => refuse(
                "subject",
                "this is not a subject as RFC 2253 writes one",
                "write it as Envoy does, such as `CN=client-1,O=Acme\\, Inc.`",
            ),
            (None, None, None, Some(name)) => Some(Name::Common(name.clone())),
            _ => {
                faults.at(
                    pointer,
                    "a certificate is named in one way",
                    "write one of `uri_san`, `dns_san`, `subject` and `common_name`",
                );
                None
            }
        }
    }

    /// Whether certificates count at all.
    pub const fn is_configured(&self) -> bool {
        self.validation.is_some()
    }

    /// Whether some hop may speak for others.
    pub fn has_hops(&self) -> bool {
        !self.hops.is_empty()
    }

    /// Where the connection's certificate is that of a trusted hop, what counts is the certificate that the hop says its
    /// caller showed: none, where it says nothing. Whoever else sends the header is not heard.
    pub fn resolve(&self, head: &mut RequestHead) {
        let peer = &head.facts.peer;
        let counts = peer.presented && !peer.unreadable && self.is_valid(peer);
        let is_hop = || Self::names(&peer.names).any(|name| self.hops.contains(&name));
        if self.hops.is_empty()
            || !counts
            || matches!(self.foreign(&peer.names), Err(_) | Ok(true))
            || !is_hop()
        {
            return;
        }
        let mut written = head.headers.all(forwarded::HEADER);
        let caller = match (written.next(), written.next()) {
            (None, _) => PeerCertificate::default(),
            (Some(header), None) => match forwarded::read(header, peer.digest.as_deref()) {
                Ok(None) => PeerCertificate::default(),
                names => PeerCertificate {
                    presented: true,
                    valid: Some(true),
                    unreadable: names.is_err(),
                    names: names.ok().flatten().unwrap_or_default(),
                    hop: peer.names.uri_sans.clone(),
                    digest: None,
                },
            },
            (Some(_), Some(_)) => {
                PeerCertificate { presented: true, unreadable: true, ..PeerCertificate::default() }
            }
        };
        head.facts.peer = caller;
    }

    /// Whose certificate this is. `None`: nobody's, as if there were none.
    ///
    /// # Errors
    /// It is not valid, its SPIFFE ID is malformed, or it is two consumers' at once.
    pub fn authenticate(
        &self,
        certificate: &PeerCertificate,
    ) -> Result<Option<Rc<Identity>>, AuthenticationError> {
        if !self.is_configured() || !certificate.presented {
            return Ok(None);
        }
        if certificate.unreadable || !self.is_valid(certificate) {
            return Err(AuthenticationError::Invalid);
        }
        let names = &certificate.names;
        // another domain's authority can write any DNS name or subject it likes
        if self.foreign(names)? {
            return Ok(None);
        }
        if let Some(bound) = self.bound_to(names)? {
            return Ok(Some(bound));
        }
        let Some(uri) = names.uri_sans.first() else { return Ok(None) };
        let is_caller = SpiffeId::parse(uri).is_ok_and(|id| self.is_trusted(id) && !id.path.is_empty());
        Ok(is_caller.then(|| Rc::new(self.workload(uri))))
    }

    fn is_valid(&self, certificate: &PeerCertificate) -> bool {
        match self.validation {
            // a host that does not know the attribute has not said that the certificate is valid
            Some(PeerValidation::Attribute) => certificate.valid == Some(true),
            Some(PeerValidation::Listener) => true,
            None => false,
        }
    }

    /// Whether this is a workload of a domain that nobody trusts here.
    ///
    /// # Errors
    /// Its SPIFFE ID is malformed, or not its only URI SAN (X509-SVID §2).
    fn foreign(&self, names: &Names) -> Result<bool, AuthenticationError> {
        let Some(claimed) = names.uri_sans.iter().find(|uri| spiffe::is_claimed(uri)) else {
            return Ok(false);
        };
        if names.uri_sans.len() > 1 {
            return Err(AuthenticationError::Invalid);
        }
        let id = SpiffeId::parse(claimed).map_err(|_| AuthenticationError::Invalid)?;
        Ok(self.is_foreign(id))
    }

    fn bound_to(&self, names: &Names) -> Result<Option<Rc<Identity>>, AuthenticationError> {
        if self.bound.is_empty() {
            return Ok(None);
        }
        let mut found: Option<&Rc<Identity>> = None;
        for identity in Self::names(names).filter_map(|name| self.bound.get(&name)) {
            match found {
                Some(other) if other.principal != identity.principal => {
                    return Err(AuthenticationError::Invalid);
                }
                Some(_) => {}
                None => found = Some(identity),
            }
        }
        Ok(found.cloned())
    }

    /// What a certificate may be known by.
    fn names(names: &Names) -> impl Iterator<Item = Name> + use<'_> {
        let bounded = |text: &&String| text.len() <= MAX_NAME;
        let uris = names.uri_sans.iter().filter(bounded).cloned().map(Name::Uri);
        let dns = names.dns_sans.iter().filter(bounded).map(|name| Name::Dns(name.to_ascii_lowercase()));
        let subject = names.subject.iter().filter(bounded);
        let common = subject.clone().filter_map(|subject| subject::common_name(subject)).map(Name::Common);
        uris.chain(dns).chain(common).chain(subject.cloned().map(Name::Subject))
    }

    /// A caller that no consumer names.
    fn workload(&self, id: &str) -> Identity {
        let identity = Identity {
            principal: format!("mtls:{id}"),
            name: id.to_owned(),
            credential: credential(id),
            ..Identity::anonymous()
        };
        self.bindings.settle(identity, None)
    }

    fn is_trusted(&self, id: SpiffeId<'_>) -> bool {
        self.trust_domains.iter().any(|domain| domain == id.trust_domain)
    }

    fn is_foreign(&self, id: SpiffeId<'_>) -> bool {
        !self.trust_domains.is_empty() && !self.is_trusted(id)
    }
}

// === impl Name ===

impl Name {
    fn text(&self) -> &str {
        match self {
            Self::Uri(text) | Self::Dns(text) | Self::Subject(text) | Self::Common(text) => text,
        }
    }
}

fn credential(id: &str) -> Credential {
    Credential { method: String::from("mtls"), id: id.to_owned(), ..Credential::default() }
}

#[cfg(test)]
mod tests;
