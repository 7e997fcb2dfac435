//! What `render istio` and `render gateway` share: names, the module, clusters, and what is said of objects that are too large.

use std::io::Write as _;

use clap::Args;
use mlgate::config::document::Document;
use mlgate::envoy::manifests::{
    Checksum, MAX_ANNOTATION, MAX_OBJECT, Manifest, Module, ModuleUrl, Place, json, yaml,
};
use mlgate::envoy::render::Address;

use super::{cluster, made_by};
use crate::{Exit, Format, Stop, print, print_json};

/// The objects and what they refer to.
#[derive(Debug, Args)]
pub(super) struct Objects {
    /// The name of the objects, alone or with an ending; `mlgate-` and the configuration's name where it is absent
    #[arg(long, value_parser = name)]
    name: Option<String>,
    /// The Secret that holds the gate's variables, each under its own name
    #[arg(long, value_name = "NAME", default_value = "mlgate", value_parser = name)]
    secret: String,
    /// The filter: `oci://IMAGE`, `https://…` or `file:///PATH` in the proxy's container
    #[arg(long, default_value = concat!("oci://registry.example/mlgate/filter:", env!("CARGO_PKG_VERSION")))]
    url: ModuleUrl,
    /// Its SHA-256: of an image its digest, else of the file
    #[arg(long, value_name = "HEX")]
    sha256: Option<Checksum>,
    /// The Secret that opens the image's registry
    #[arg(long, value_name = "NAME", value_parser = name)]
    pull_secret: Option<String>,
    /// Where a cluster is that the configuration names; once for each. Without it a Service of that name
    #[arg(long, value_name = "NAME=HOST:PORT", value_parser = cluster)]
    cluster: Vec<(String, Address)>,
    /// Who signs for servers whose answers decide who gets in: a file in the proxy's container
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    server_ca: String,
}

// === impl Objects ===

impl Objects {
    /// Says that the module is not pinned, where it is not.
    pub(super) fn warn_unpinned(&self) {
        if self.sha256.is_none() && !matches!(self.url, ModuleUrl::File(_)) {
            warn("the module is not pinned, so whoever serves it decides what runs: give its `--sha256`");
        }
    }

    /// The place of the objects.
    pub(super) fn place(&self, document: &Document, namespace: &str) -> Place {
        Place {
            name: self.name.clone().unwrap_or_else(|| format!("mlgate-{}", document.name.replace('_', "-"))),
            namespace: namespace.to_owned(),
            secret: self.secret.clone(),
            module: Module {
                url: self.url.clone(),
                sha256: self.sha256.clone(),
                pull_secret: self.pull_secret.clone(),
            },
            clusters: self.cluster.clone(),
            server_ca: self.server_ca.clone(),
        }
    }
}

/// Prints them, and says which are too large.
pub(super) fn write(target: &str, manifests: &[Manifest], format: Format) -> Result<Exit, Stop> {
    for manifest in manifests {
        let (title, bytes) = (manifest.title(), manifest.bytes());
        if bytes > MAX_OBJECT {
            warn(&format!(
                "{title} has {bytes} bytes, and etcd takes {MAX_OBJECT} unless told otherwise: split the gate in two, or move \
                 callers to an identity provider"
            ));
        } else if bytes > MAX_ANNOTATION {
            warn(&format!(
                "{title} has {bytes} bytes: `kubectl apply` takes it with `--server-side` alone, since its copy in an annotation may \
                 have {MAX_ANNOTATION}"
            ));
        }
    }
    match format {
        Format::Human => print(&format!("{}{}", made_by(target), yaml(manifests)))?,
        Format::Json => print_json(&json(manifests))?,
    }
    Ok(Exit::Fine)
}

/// A name as Kubernetes takes it for any object (RFC 1123 label).
pub(super) fn name(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(inner) && text.bytes().last().is_some_and(inner);
    if ends && text.len() <= 63 && text.bytes().all(|byte| inner(byte) || byte == b'-') {
        return Ok(text.to_owned());
    }
    Err(String::from("not 1 to 63 of `a-z`, `0-9` and `-`, with none of the last at its ends"))
}

fn warn(line: &str) {
    // nobody may be left to tell
    let _ = writeln!(std::io::stderr(), "mlgate: {line}");
}
