//! One configured endpoint: how it is asked (RFC 7662 §2.1), and what its answers mean here.

use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::config::faults::Faults;
use crate::credentials::UnverifiedToken;
use crate::host::Callout;
use crate::identity::AuthenticationError;
use crate::identity::bindings::Bindings;
use crate::identity::introspection::{MAX_CACHE, MAX_TIMEOUT};
use crate::identity::jwt::claims::Claims;
use crate::identity::mapping::{Mapping, MappingWords};
use crate::identity::secret::Secret;
use crate::identity::spec::IntrospectionSpec;
use crate::remote::uri::Uri;

/// See the module.
#[derive(Clone, Debug)]
pub struct Endpoint {
    name: String,
    cluster: String,
    uri: Uri,
    /// The value of `Authorization`.
    credentials: Secret,
    timeout: Duration,
    cache_duration: Duration,
    clock_skew: Duration,
    issuer: Option<String>,
    audiences: Vec<String>,
    mapping: Mapping,
}

/// What stays as it is in `application/x-www-form-urlencoded`.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');

// === impl Endpoint ===

impl Endpoint {
    /// Compiles an endpoint, found at `pointer`; `None` where its address or its secret cannot be read.
    pub(super) fn compile(
        spec: &IntrospectionSpec,
        bindings: &Rc<Bindings>,
        environment: &dyn Fn(&str) -> Option<String>,
        pointer: &str,
        faults: &mut Faults,
    ) -> Option<Self> {
        for (word, value, longest, say) in [
            ("timeout", spec.timeout.0, MAX_TIMEOUT, "longer than 5s"),
            ("cache_duration", spec.cache_duration.0, MAX_CACHE, "longer than 5m"),
        ] {
            if value > longest {
                faults.at(format!("{pointer}/{word}"), say, "write a shorter one");
            }
        }
        let words = MappingWords {
            prefix: &format!("opaque:{}", spec.name),
            method: "introspection",
            issuer: spec.issuer.as_deref(),
            claims: &spec.claims,
            scopes: spec.scopes.as_ref(),
            forward: spec.forward,
        };
        let mapping = Mapping::compile(words, bindings, pointer, faults);
        let uri = Uri::parse(&spec.uri);
        if let Err(error) = &uri {
            faults.at(
                format!("{pointer}/uri"),
                format!("this is not a URI that can be asked: {error}"),
                "write it as the issuer's metadata has it (`introspection_endpoint`)",
            );
        }
        let secret = environment(&spec.client_secret_env).filter(|value| !value.is_empty());
        if secret.is_none() {
            faults.at(
                format!("{pointer}/client_secret_env"),
                format!("the environment variable `{}` is missing or empty", spec.client_secret_env),
                "pass it to the VM (`environment_variables` of the Wasm configuration), or to the command with `--env`",
            );
        }
        Some(Self {
            name: spec.name.clone(),
            cluster: spec.cluster.clone(),
            uri: uri.ok()?,
            credentials: basic(&spec.client_id, &secret?),
            timeout: spec.timeout.0,
            cache_duration: spec.cache_duration.0,
            clock_skew: spec.clock_skew.0,
            issuer: spec.issuer.clone(),
            audiences: spec.audiences.clone(),
            mapping,
        })
    }

    /// How the configuration calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long its answer may take.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// For how long an answer is believed.
    pub const fn cache_duration(&self) -> Duration {
        self.cache_duration
    }

    /// How far its clock and ours may differ.
    pub const fn clock_skew(&self) -> Duration {
        self.clock_skew
    }

    /// How its claims are read.
    pub(super) const fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The call that asks about a token.
    pub(super) fn callout(&self, token: &UnverifiedToken) -> Callout {
        let body = format!("token={}&token_type_hint=access_token", form(&token.0));
        Callout {
            cluster: self.cluster.clone(),
            path: self.uri.path.clone(),
            method: "POST",
            authority: self.uri.authority.clone(),
            headers: vec![
                ("content-type", String::from("application/x-www-form-urlencoded")),
                ("accept", String::from("application/json")),
                // INVARIANT: it was made of ASCII letters
                ("authorization", String::from_utf8_lossy(self.credentials.expose()).into_owned()),
            ],
            body: body.into_bytes(),
            timeout: self.timeout,
        }
    }

    /// Whether a token that holds is meant for us.
    ///
    /// # Errors
    /// [`AuthenticationError::Invalid`]: another issuer's, or for another audience.
    pub(super) fn check(&self, claims: &Claims<'_>) -> Result<(), AuthenticationError> {
        let issuer = match (&self.issuer, claims.issuer()) {
            (Some(ours), theirs) if !theirs.is_empty() => ours == theirs,
            _ => true,
        };
        let audience = self.audiences.is_empty()
            || claims.audiences().iter().any(|one| self.audiences.iter().any(|ours| ours == one));
        if issuer && audience { Ok(()) } else { Err(AuthenticationError::Invalid) }
    }
}

/// `Basic` credentials of an OAuth client: both parts are form-encoded first (RFC 6749 §2.3.1).
fn basic(id: &str, secret: &str) -> Secret {
    let pair = format!("{}:{}", form(id.as_bytes()), form(secret.as_bytes()));
    Secret::new(format!("Basic {}", STANDARD.encode(pair)))
}

/// `application/x-www-form-urlencoded` (WHATWG URL §5.2).
fn form(bytes: &[u8]) -> String {
    percent_encode(bytes, FORM).to_string().replace("%20", "+")
}
