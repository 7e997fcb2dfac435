//! The words of tokens.

use crate::config::shape::grammar::{ANY, CLAIM, CONSUMER, KEY_PART, LONG, NAME};
use crate::config::shape::words::{SECRETS, SOME_NAMES};
use crate::config::shape::{Choice, Field, Object, Rest, Shape, optional, required};
use crate::config::tree::MAX_INTEGER;

use Shape::{Bool, Duration, Either, Integer, List, Text};

/// `consumers/credentials/jwt`.
pub(super) static SUBJECT: Object = Object {
    fields: &[
        required("provider", Text(&NAME), "One of `authentication.jwt.providers`."),
        required("subject", Text(&CLAIM), "As the provider's `claims.subject` reads it."),
    ],
    rest: None,
};

/// `authentication.jwt`.
pub(super) static JWT: Object = Object {
    fields: &[
        required("providers", List { of: &Shape::Object(&PROVIDER), min: 1 }, "Trusted issuers."),
        optional(
            "signatures",
            Shape::Choice(&Choice { built: &["host", "host_or_wasm"], later: &[] }),
            "Who checks RSA and ECDSA: the proxy, or where it cannot the filter itself, at 1 ms and more a token.",
        ),
    ],
    rest: None,
};

/// What a word of `claims` names.
const CLAIM_PATH: Shape = Either(&[Text(&CLAIM), List { of: &Text(&CLAIM), min: 1 }]);
/// `scopes` of an issuer.
pub(super) const SCOPES: Shape =
    Shape::Object(&Object { fields: &[], rest: Some(Rest { names: &NAME, of: SOME_NAMES }) });
const CLAIM_PATHS: Shape =
    Shape::Object(&Object { fields: &[], rest: Some(Rest { names: &NAME, of: CLAIM_PATH }) });

static PROVIDER: Object = Object {
    fields: &[
        required("name", Text(&CONSUMER), "Part of its callers' ids: `jwt:<name>:<subject>`."),
        required("issuer", Text(&ANY), "`iss`, exactly."),
        required("audiences", List { of: &Text(&ANY), min: 1 }, "One of them must be in `aud`."),
        required(
            "algorithms",
            List { of: &ALGORITHM, min: 1 },
            "What its tokens may be signed with; PSS only beside `signatures: host_or_wasm`.",
        ),
        optional(
            "token_types",
            List { of: &TOKEN_TYPE, min: 1 },
            "`at+jwt`: what RFC 9068 calls an access token. `jwt`: what says nothing else. `id_token`: what says that it \
             is an ID token. Absent means the first two.",
        ),
        optional("local_jwks", Shape::Object(&JWKS), "Its public keys (RFC 7517 §5)."),
        optional(
            "remote_jwks",
            Shape::Object(&REMOTE_JWKS),
            "Instead of `local_jwks`: where they are published.",
        ),
        optional(
            "discovery",
            Shape::Object(&DISCOVERY),
            "Instead of `local_jwks`: the issuer's own document says where (OpenID Connect Discovery 1.0).",
        ),
        optional(
            "hmac_secrets",
            SECRETS,
            "Secrets that it shares with the gate, for HS256 (of 32 bytes and more), HS384 (48) and HS512 (64).",
        ),
        optional("clock_skew", Duration, "How far its clock and ours may differ; absent means 60s."),
        optional("scopes", SCOPES, "Actions by scope; absent means that scopes limit nothing."),
        optional("max_lifetime", Duration, "Longest time from `iat` to `exp`."),
        optional("claims", Shape::Object(&CLAIMS), "Where a token says what."),
        optional("forward", Bool, "Whether the token stays on the request to the upstream."),
    ],
    rest: None,
};

static ALGORITHM: Shape = Shape::Choice(&Choice {
    built: &[
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256",
        "HS384", "HS512",
    ],
    later: &[],
});

static TOKEN_TYPE: Shape = Shape::Choice(&Choice { built: &["at+jwt", "jwt", "id_token"], later: &[] });

static JWKS: Object = Object {
    fields: &[required("keys", List { of: &Shape::Object(&JWK), min: 1 }, "One for each that is in use.")],
    rest: None,
};

const TIMEOUT: Field = optional("timeout", Duration, "How long one fetch may take; absent means 2s.");
const CACHE_DURATION: Field =
    optional("cache_duration", Duration, "From a success to the next fetch; absent means 5m.");
const COOLDOWN: Field = optional(
    "cooldown",
    Duration,
    "From any fetch to one because of a token whose key is not known; absent means 10s.",
);
const FAILED_REFETCH: Field =
    optional("failed_refetch_duration", Duration, "From a failure to the next try; absent means 1s.");
const MAX_STALE: Field = optional(
    "max_stale",
    Duration,
    "For how long after the last success the keys are used; absent means 24h.",
);

static REMOTE_JWKS: Object = Object {
    fields: &[
        required("cluster", Text(&NAME), "Envoy's name of the cluster that serves them."),
        required("uri", Text(&ANY), "Where they are: `https://issuer.example/keys`."),
        TIMEOUT,
        CACHE_DURATION,
        COOLDOWN,
        FAILED_REFETCH,
        MAX_STALE,
    ],
    rest: None,
};

static DISCOVERY: Object = Object {
    fields: &[
        required("cluster", Text(&NAME), "Envoy's name of the cluster that serves the document."),
        optional("jwks_cluster", Text(&NAME), "And of the one that serves the keys; absent means the same."),
        optional(
            "uri",
            Text(&ANY),
            "Where the document is; absent means `<issuer>/.well-known/openid-configuration`.",
        ),
        TIMEOUT,
        CACHE_DURATION,
        COOLDOWN,
        FAILED_REFETCH,
        MAX_STALE,
    ],
    rest: None,
};

/// What else an issuer writes beside a key, such as a certificate; it is not read.
const MEMBER: Shape = Either(&[
    Text(&LONG),
    List { of: &Text(&LONG), min: 0 },
    Bool,
    Integer { min: -MAX_INTEGER, max: MAX_INTEGER },
]);

static JWK: Object = Object {
    fields: &[
        optional("kty", Text(&NAME), "`RSA`, `EC` or `OKP`."),
        optional("kid", Text(&CLAIM), "How tokens name it."),
        optional("alg", Text(&NAME), "The only algorithm that it may be used with."),
        optional("use", Text(&NAME), "`sig`."),
        optional("key_ops", List { of: &Text(&NAME), min: 0 }, "With `verify`."),
        optional("crv", Text(&NAME), "`P-256`, `P-384`, `P-521` or `Ed25519`."),
        optional("n", Text(&KEY_PART), "Modulus."),
        optional("e", Text(&KEY_PART), "Exponent."),
        optional("x", Text(&KEY_PART), "Coordinate."),
        optional("y", Text(&KEY_PART), "Coordinate."),
    ],
    rest: Some(Rest { names: &NAME, of: MEMBER }),
};

/// `claims` of an issuer.
pub(super) static CLAIMS: Object = Object {
    fields: &[
        optional("subject", CLAIM_PATH, "The caller's name; absent means `sub`."),
        optional("roles", CLAIM_PATH, "A text or a list of texts."),
        optional("scopes", CLAIM_PATH, "A text of words or a list of texts; absent means `scope`."),
        optional("tier", CLAIM_PATH, "A text."),
        optional("attributes", CLAIM_PATHS, "`principal.*` in policies, each by its claim."),
    ],
    rest: None,
};
