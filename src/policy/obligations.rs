//! What must be done where a policy lets a request pass (XACML 3.0 §7.18): headers for the upstream, another tier, a
//! digest of what was sent.

use super::spec::{EffectSpec, ObligationsSpec};
use crate::config::faults::{Faults, segment};

/// The obligations of one policy, or of all that let a request pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obligations {
    /// Headers that the upstream is to read; names in lower case, sorted, each once.
    pub headers: Vec<(String, String)>,
    /// The tier that is charged in place of the caller's.
    pub tier: Option<String>,
    /// The event needs a digest of the request's body, whatever `audit.digest.inputs` says.
    pub inputs: bool,
}

/// How many headers one policy may add.
pub const MAX_HEADERS: usize = 16;

/// Headers that mean something to proxies on the way (RFC 9110 §7.6.1), frame a message or show who is calling.
const FORBIDDEN: [&str; 15] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
];

// === impl Obligations ===

impl Obligations {
    /// Compiles what a policy writes, at `pointer`.
    pub(super) fn compile(
        spec: &ObligationsSpec,
        effect: EffectSpec,
        pointer: &str,
        faults: &mut Faults,
    ) -> Self {
        if effect == EffectSpec::Deny {
            faults.at(pointer, "what is denied goes nowhere", "write obligations of a policy that allows");
        }
        if spec.add_headers.len() > MAX_HEADERS {
            faults.at(
                format!("{pointer}/add_headers"),
                format!("{} headers", spec.add_headers.len()),
                format!("add at most {MAX_HEADERS}"),
            );
        }
        for (name, value) in &spec.add_headers {
            let pointer = format!("{pointer}/add_headers/{}", segment(name));
            let dashed = name.replace('_', "-");
            let forwarded =
                dashed == "forwarded" || dashed.starts_with("x-forwarded-") || dashed.starts_with("x-envoy-");
            if dashed.starts_with("x-mlgate-") || FORBIDDEN.contains(&dashed.as_str()) || forwarded {
                faults.at(
                    &pointer,
                    format!("`{name}` has its own meaning on the way to the upstream"),
                    "add a header of another name",
                );
            }
            if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) || value.trim() != value {
                faults.at(&pointer, "this is not the value of a header", "write printable ASCII");
            }
        }
        Self {
            headers: spec.add_headers.clone().into_iter().collect(),
            tier: spec.charge_tier.clone(),
            inputs: spec.audit_inputs,
        }
    }

    /// These and those of another policy. Of two tiers the first one stays; values of one header stand beside each
    /// other (RFC 9110 §5.3), each once.
    pub(super) fn join(&mut self, other: &Self) {
        for (name, value) in &other.headers {
            match self.headers.binary_search_by(|(known, _)| known.cmp(name)) {
                Ok(at) => {
                    if let Some((_, known)) = self.headers.get_mut(at)
                        && !known.split(", ").any(|known| known == value)
                    {
                        *known = format!("{known}, {value}");
                    }
                }
                Err(at) => self.headers.insert(at, (name.clone(), value.clone())),
            }
        }
        if self.tier.is_none() {
            self.tier.clone_from(&other.tier);
        }
        self.inputs |= other.inputs;
    }
}
