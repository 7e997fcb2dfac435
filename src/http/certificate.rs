//! The client's certificate: what the connection says of it, and the names that it was signed for
//! (RFC 5280 §4.2.1.6).
//!
//! The proxy's attributes show one URI SAN and one DNS SAN. Where it shows the whole certificate
//! (`connection.peer_certificate`, Envoy 1.40), all of them are read from there, with a strict DER reader.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// What the connection says of the client's certificate. Presence alone proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// `connection.mtls`: a certificate was presented.
    pub presented: bool,
    /// `connection.peer_certificate_valid`; `None` on hosts before Envoy 1.39.
    pub valid: Option<bool>,
    /// What it says, as far as the proxy shows it.
    pub names: Names,
    /// What is shown of it cannot be read.
    pub unreadable: bool,
    /// `connection.sha256_peer_certificate_digest`, where it is [`Wanted`](super::Wanted).
    pub digest: Option<String>,
    /// URI SANs of the hop that spoke for it, where it is not the connection's own.
    pub hop: Vec<String>,
}

/// What a certificate says of whom it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// URI SANs: all of them, or the first.
    pub uri_sans: Vec<String>,
    /// DNS SANs: all of them, or the first.
    pub dns_sans: Vec<String>,
    /// RFC 2253 subject.
    pub subject: Option<String>,
}

/// A certificate that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCertificate;

/// The largest certificate that is read, in bytes as the proxy writes it.
pub const MAX_ENCODED: usize = 64 << 10;

/// A certificate with more subject alternative names is not read.
pub const MAX_SANS: usize = 256;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The DER of a certificate as Envoy writes it: PEM (RFC 7468 §5), then percent-encoded.
///
/// # Errors
/// It is too long, or not one certificate.
pub fn decode(encoded: &[u8]) -> Result<Vec<u8>, InvalidCertificate> {
    if encoded.len() > MAX_ENCODED {
        return Err(InvalidCertificate);
    }
    let pem = percent_decode(encoded).decode_utf8().map_err(|_| InvalidCertificate)?;
    let inner = pem.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let text: String = inner.ok_or(InvalidCertificate)?.split_ascii_whitespace().collect();
    STANDARD.decode(text).map_err(|_| InvalidCertificate)
}

// === impl Names ===

impl Names {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is not DER, its alternative names are written twice or wrongly, or there are more than [`MAX_SANS`].
    pub fn read(der: &[u8]) -> Result<Self, InvalidCertificate> {
        let certificate = CertificateInner::<Raw>::from_der(der).map_err(|_| InvalidCertificate)?;
        let certificate = certificate.tbs_certificate();
        let mut names = Self::default();
        let sans = certificate.get_extension::<SubjectAltName>().map_err(|_| InvalidCertificate)?;
        if let Some((_, SubjectAltName(sans))) = sans {
            if sans.len() > MAX_SANS {
                return Err(InvalidCertificate);
            }
            for san in sans {
                match san {
                    GeneralName::UniformResourceIdentifier(uri) => names.uri_sans.push(uri.to_string()),
                    GeneralName::DnsName(name) => names.dns_sans.push(name.to_string()),
                    _ => {}
                }
            }
        }
        let mut subject = String::new();
        // a value that cannot be written again must not end the VM, as `to_string` would
        write!(subject, "{}", certificate.subject()).map_err(|_| InvalidCertificate)?;
        names.subject = Some(subject);
        Ok(names)
    }
}
