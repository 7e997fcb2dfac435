//! Every word of a document: what works, and what is reserved.
//!
//! The specs say what serde reads; this says what a person may write. A test holds the two together.

use crate::config::shape::grammar::{
    ANY, CONSUMER, ENV, GATE, HEADER, KEY_DIGEST, KEY_ID, METHOD, NAME, PATH, RANGE, SECRET_ID, TOKEN,
};
use crate::config::shape::{Choice, Object, Rest, Shape, later, optional, required};

mod authorization;
mod certificates;
mod introspection;
mod jwt;
mod limits;

pub use authorization::{OPERATORS, WHEN};

use Shape::{Bool, Duration, Either, Integer, List, Pattern, Size, Text, Timestamp, Value};

/// The whole document.
pub static DOCUMENT: Shape = Shape::Object(&Object {
    fields: &[
        required("version", Integer { min: 1, max: 1 }, "Version of this language: 1."),
        required("name", Text(&GATE), "Prefixes shared data, audit chains and metrics."),
        optional(
            "revision",
            Shape::Object(&REVISION),
            "Goes into the audit trail when the document takes effect.",
        ),
        optional("environment", ATTRIBUTES, "`environment.*` in policies."),
        optional(
            "consumers",
            List { of: &Shape::Object(&CONSUMER_WORDS), min: 0 },
            "Callers known to the gate.",
        ),
        optional(
            "bindings",
            List { of: &Shape::Object(&certificates::BINDING), min: 0 },
            "Roles, tier and attributes for callers by pattern; the first that matches wins.",
        ),
        optional("authentication", Shape::Object(&AUTHENTICATION), "Who is calling."),
        required("resources", Shape::Object(&RESOURCES), "What is asked for."),
        required("authorization", Shape::Object(&authorization::AUTHORIZATION), "What callers may do."),
        optional("limits", List { of: &Shape::Object(&limits::LIMIT), min: 0 }, "How often."),
        optional(
            "rate_limit_service",
            Shape::Object(&limits::SERVICE),
            "Whom limits with `scope: global` are asked of.",
        ),
        required("audit", Shape::Object(&AUDIT), "What is kept of it."),
        optional("shared_data", Shape::Object(&SHARED_DATA), "Keys of values that workers share."),
        optional("responses", Shape::Object(&RESPONSES), "Choices of the answers."),
        optional("bounds", Shape::Object(&BOUNDS), "Limits of the gate itself."),
        optional("profiles", PROFILES, "Per-route configuration; absent means one `default`."),
        optional("routes", ROUTES, "`<virtual host>/<route name>` to profile; a trailing `*` is a prefix."),
    ],
    rest: None,
});

const NAMES: Shape = List { of: &Text(&NAME), min: 0 };
const TEXTS: Shape = List { of: &Text(&ANY), min: 1 };
const SOME_NAMES: Shape = List { of: &Text(&NAME), min: 1 };
const NONE: Shape = Shape::Choice(&Choice { built: &["none"], later: &[] });
const NONE_OR_NAMES: Shape = Either(&[NONE, SOME_NAMES]);
const SECRETS: Shape = List { of: &Shape::Object(&SECRET), min: 0 };
const COUNT: Shape = Integer { min: 1, max: 1_000_000 };
const ATTRIBUTES: Shape =
    Shape::Object(&Object { fields: &[], rest: Some(Rest { names: &NAME, of: Value }) });
const PATTERNS: Shape =
    Shape::Object(&Object { fields: &[], rest: Some(Rest { names: &NAME, of: Pattern }) });
const PROFILES: Shape =
    Shape::Object(&Object { fields: &[], rest: Some(Rest { names: &NAME, of: Shape::Object(&PROFILE) }) });
const ROUTES: Shape =
    Shape::Object(&Object { fields: &[], rest: Some(Rest { names: &ANY, of: Text(&NAME) }) });

static FAILURES: Object = Object {
    fields: &[
        optional("limit", COUNT, "Wrong credentials of one source (IPv6 by /64); absent means 20."),
        optional("window", Duration, "In which time; absent means 1m."),
        optional(
            "block",
            Duration,
            "For how long tokens of that source are not verified then; absent means 5m, at most 24h.",
        ),
    ],
    rest: None,
};

static REVISION: Object = Object {
    fields: &[
        optional("id", Text(&ANY), "For instance a commit."),
        optional("change", Text(&ANY), "For instance a change request."),
        optional("approved_by", List { of: &Text(&ANY), min: 0 }, "Who approved it."),
    ],
    rest: None,
};

/// A secret that the environment holds.
static SECRET: Object = Object {
    fields: &[
        required("id", Text(&SECRET_ID), "How digests and events name it."),
        required("env", Text(&ENV), "The environment variable that holds it; missing or empty is a fault."),
    ],
    rest: None,
};

static CONSUMER_WORDS: Object = Object {
    fields: &[
        required("name", Text(&CONSUMER), "The principal's id."),
        optional("attributes", ATTRIBUTES, "`principal.*` in policies: `org`, `team`, …"),
        optional("roles", NAMES, "Names of `authorization.roles`."),
        optional("tier", Text(&NAME), "Which rates of a limit apply; absent means `default`."),
        optional("credentials", Shape::Object(&CREDENTIALS), "What the caller may present."),
    ],
    rest: None,
};

static CREDENTIALS: Object = Object {
    fields: &[
        optional("api_keys", List { of: &Shape::Object(&API_KEY), min: 0 }, "Keys, by digest."),
        optional("mtls", List { of: &Shape::Object(&certificates::CERTIFICATE), min: 0 }, "Certificates."),
        optional("jwt", List { of: &Shape::Object(&jwt::SUBJECT), min: 0 }, "Subjects of tokens."),
    ],
    rest: None,
};

static API_KEY: Object = Object {
    fields: &[
        required("id", Text(&KEY_ID), "Public part of `mlg_<id>_<secret>`."),
        required("digest", Text(&KEY_DIGEST), "Of the whole key."),
        optional("not_before", Timestamp, "Not valid before."),
        optional("not_after", Timestamp, "Not valid from then on."),
        optional("models", TEXTS, "Models it may be used for; a trailing `*` is a prefix."),
        optional("actions", SOME_NAMES, "Actions it may be used for."),
        optional("source_ranges", List { of: &Text(&RANGE), min: 1 }, "Addresses it may be used from."),
    ],
    rest: None,
};

static AUTHENTICATION: Object = Object {
    fields: &[
        optional("source", Shape::Object(&SOURCE), "Whose address a request comes from."),
        optional("api_key", Shape::Object(&API_KEY_WORDS), "Where keys are read."),
        optional("revocation", Shape::Object(&REVOCATION), "What was taken back before its end."),
        optional("jwt", Shape::Object(&jwt::JWT), "Whose tokens are believed."),
        optional(
            "mtls",
            Shape::Object(&certificates::MTLS),
            "Which certificates are believed; absent: none.",
        ),
        optional(
            "introspection",
            List { of: &Shape::Object(&introspection::ENDPOINT), min: 1 },
            "Who is asked about opaque tokens (RFC 7662), in this order.",
        ),
        optional(
            "credentials_list",
            Shape::Object(&CREDENTIALS_LIST_WORDS),
            "A list of consumers and keys that comes without a push.",
        ),
        optional(
            "failures",
            Shape::Object(&FAILURES),
            "What becomes of sources of wrong credentials; absent: nothing.",
        ),
    ],
    rest: None,
};

static REVOCATION: Object = Object {
    fields: &[
        optional("keys", List { of: &Text(&KEY_ID), min: 0 }, "Public parts of keys, configured or not."),
        optional("principals", List { of: &Text(&ANY), min: 0 }, "Ids of principals, whatever they show."),
        optional(
            "spiffe_ids",
            List { of: &Text(&ANY), min: 0 },
            "SPIFFE IDs of certificates, whoever they belong to.",
        ),
        optional("tokens", List { of: &Shape::Object(&REVOKED_TOKEN), min: 0 }, "Tokens by issuer and id."),
        optional("cluster", Text(&NAME), "Envoy's cluster that serves a list beside these."),
        optional("uri", Text(&ANY), "The list's whole URI."),
        optional("interval", Duration, "From one look at it to the next; absent means 5s."),
        optional("timeout", Duration, "How long one look may take; absent means 1s."),
        optional(
            "max_stale",
            Duration,
            "Without an answer for so long, every credential is refused; absent means 15m.",
        ),
    ],
    rest: None,
};

static CREDENTIALS_LIST_WORDS: Object = Object {
    fields: &[
        required("cluster", Text(&NAME), "Envoy's cluster that serves it."),
        required("uri", Text(&ANY), "Its whole URI."),
        optional("interval", Duration, "From one look at it to the next; absent means 5s."),
        optional("timeout", Duration, "How long one look may take; absent means 1s."),
        optional(
            "max_stale",
            Duration,
            "Without an answer for so long, keys that are not configured are refused; absent means 1h.",
        ),
    ],
    rest: None,
};

/// A list of consumers from elsewhere: in the words of the document, as far as a list may say it.
pub static CREDENTIALS_LIST: Shape = Shape::Object(&Object {
    fields: &[
        required("version", Integer { min: 1, max: 1 }, "Version of this form: 1."),
        required(
            "consumers",
            List { of: &Shape::Object(&LISTED_CONSUMER), min: 0 },
            "Callers and their keys.",
        ),
    ],
    rest: None,
});

static LISTED_CONSUMER: Object = Object {
    fields: &[
        required("name", Text(&CONSUMER), "The principal's id."),
        optional("attributes", ATTRIBUTES, "`principal.*` in policies."),
        optional("roles", NAMES, "Names of `authorization.roles`."),
        optional("tier", Text(&NAME), "Which rates of a limit apply."),
        optional("credentials", Shape::Object(&LISTED_CREDENTIALS), "What the caller may present."),
    ],
    rest: None,
};

static LISTED_CREDENTIALS: Object = Object {
    fields: &[optional("api_keys", List { of: &Shape::Object(&API_KEY), min: 0 }, "Keys, by digest.")],
    rest: None,
};

static REVOKED_TOKEN: Object = Object {
    fields: &[
        required("issuer", Text(&ANY), "Its `iss`."),
        required("jti", Text(&ANY), "Its `jti`, which is unique for its issuer."),
    ],
    rest: None,
};

static SOURCE: Object = Object {
    fields: &[optional(
        "trust",
        Shape::Choice(&Choice { built: &["peer", "xff"], later: &[] }),
        "`peer`: the connection's address; `xff`: what Envoy made of `x-forwarded-for`.",
    )],
    rest: None,
};

static API_KEY_WORDS: Object = Object {
    fields: &[
        optional("extract_from", Shape::Object(&EXTRACT_FROM), "Where to look; absent means both headers."),
        optional("peppers", SECRETS, "Keys of `hmac-sha256` digests."),
        optional("forward", Bool, "Whether the credential stays on the request to the upstream."),
    ],
    rest: None,
};

static EXTRACT_FROM: Object = Object {
    fields: &[
        optional("headers", List { of: &Text(&HEADER), min: 0 }, "Header names, lower case."),
        optional("params", List { of: &Text(&TOKEN), min: 0 }, "Query parameters."),
        optional("cookies", List { of: &Text(&TOKEN), min: 0 }, "Cookies."),
    ],
    rest: None,
};

static RESOURCES: Object = Object {
    fields: &[
        optional(
            "catalogue",
            List { of: &Shape::Object(&CATALOGUE), min: 0 },
            "Known resources and their attributes.",
        ),
        optional(
            "unlisted",
            Shape::Choice(&Choice { built: &["deny", "allow"], later: &[] }),
            "A resource that is not in the catalogue: refused, or decided without attributes.",
        ),
        optional(
            "rules",
            List { of: &Shape::Object(&RULE), min: 0 },
            "First match wins; what none names is denied.",
        ),
        optional("body", Shape::Object(&BODY), "How bodies are looked into."),
    ],
    rest: None,
};

static CATALOGUE: Object = Object {
    fields: &[
        required("type", Text(&NAME), "`model`, `dataset`, `training_job`, …"),
        required("id", Text(&ANY), "Unique within its type."),
    ],
    rest: Some(Rest { names: &NAME, of: Value }),
};

static RULE: Object = Object {
    fields: &[
        optional(
            "preset",
            Shape::Choice(&Choice { built: &["openai", "kserve_v1"], later: &[] }),
            "A built-in list of methods and paths, instead of the other words.",
        ),
        optional("match", Shape::Object(&MATCH), "What a request must look like."),
        optional("resource", Shape::Object(&RULE_RESOURCE), "What it is then about."),
        optional("action", Text(&NAME), "And what it does."),
    ],
    rest: None,
};

static MATCH: Object = Object {
    fields: &[
        optional("methods", List { of: &Text(&METHOD), min: 1 }, "HTTP methods; absent means any."),
        optional("path", Text(&PATH), "A path; `{x}` captures within one segment."),
        optional("host", Text(&NAME), "A host without port; `{x}` captures within one label."),
    ],
    rest: None,
};

static RULE_RESOURCE: Object = Object {
    fields: &[
        required("type", Text(&NAME), "Its type."),
        required("id", Text(&ANY), "Its id; `{x}` is what was captured."),
    ],
    rest: None,
};

static BODY: Object = Object {
    fields: &[optional(
        "peek",
        Shape::Choice(&Choice { built: &["stream", "hold", "off"], later: &[] }),
        "When a body is read for its model; quote \"off\".",
    )],
    rest: None,
};

static AUDIT: Object = Object {
    fields: &[
        required("collector", Shape::Object(&COLLECTOR), "Where events go."),
        required("chain", Shape::Object(&CHAIN), "Who seals them."),
        optional("digest", Shape::Object(&DIGEST), "Digests of bodies."),
        optional("queue", Shape::Object(&QUEUE), "What waits."),
    ],
    rest: None,
};

static COLLECTOR: Object = Object {
    fields: &[
        required("cluster", Text(&NAME), "Envoy's cluster name."),
        optional("path", Text(&PATH), "Path of the `POST`."),
        optional(
            "format",
            Shape::Choice(&Choice { built: &["mlgate"], later: &["otlp"] }),
            "NDJSON that is acknowledged by chain and sequence number.",
        ),
    ],
    rest: None,
};

static CHAIN: Object = Object {
    fields: &[
        optional("keys", SECRETS, "First signs, all verify."),
        optional("unkeyed", Bool, "Instead of keys: order and content can be checked, the writer cannot."),
    ],
    rest: None,
};

static DIGEST: Object = Object {
    fields: &[
        optional(
            "algorithm",
            Shape::Choice(&Choice { built: &["sha256"], later: &["blake3"] }),
            "Of bodies.",
        ),
        optional("keys", SECRETS, "First is used; absent means digests that are guessable for small inputs."),
        optional("max_bytes", Size, "What is digested of a body; beyond it the digest is marked `partial`."),
        optional("inputs", Bool, "Whether request bodies are."),
        optional("outputs", Bool, "Whether response bodies are."),
    ],
    rest: None,
};

static QUEUE: Object = Object {
    fields: &[
        optional("max_events", COUNT, "Events that may wait in one worker."),
        optional(
            "on_full",
            Shape::Choice(&Choice { built: &["drop_oldest", "deny"], later: &[] }),
            "Beyond it: forget the oldest and say how many, or refuse.",
        ),
    ],
    rest: None,
};

static SHARED_DATA: Object =
    Object { fields: &[optional("keys", SECRETS, "First is used, all are accepted.")], rest: None };

static RESPONSES: Object = Object {
    fields: &[optional(
        "invalid_credential_status",
        Integer { min: 401, max: 403 },
        "401, or 403 for a wrong credential.",
    )],
    rest: None,
};

static BOUNDS: Object = Object {
    fields: &[
        optional("header_bytes", Size, "All header names and values of a request."),
        optional("body_held", Size, "A body that is held for its model."),
        optional("waiting", COUNT, "Requests that wait, per worker."),
        optional("wait", Duration, "How long one waits."),
        optional("json_depth", Integer { min: 1, max: 128 }, "Nesting of a body that is read."),
        optional("principal_slots", COUNT, "Slots of limits by principal."),
        optional(
            "source_slots",
            COUNT,
            "Slots of limits by source, and as many of sources of wrong credentials.",
        ),
        optional("cas_retries", Integer { min: 1, max: 64 }, "Attempts of one charge."),
        optional("audit_queue", Size, "Bytes of events that wait in one worker."),
        optional("metric_series", COUNT, "Different series of metrics."),
        optional("token_bytes", Size, "A token."),
        optional("verified_tokens", COUNT, "Verified tokens that one worker remembers."),
        optional("decisions", COUNT, "Decisions that one worker remembers."),
        optional("jwks_bytes", Size, "A document of keys that an issuer publishes, at most 16MiB."),
        optional("jwks_keys", Integer { min: 1, max: 1000 }, "Keys of one issuer."),
    ],
    rest: None,
};

static PROFILE: Object = Object {
    fields: &[
        optional(
            "authenticate",
            Either(&[NONE, Shape::Object(&AUTHENTICATE)]),
            "`none`, or who is accepted.",
        ),
        optional("authorize", NONE, "`none`; absent means that policies decide."),
        optional("limits", NONE_OR_NAMES, "`none`, or names of limits; absent means all."),
        optional(
            "policies",
            NONE_OR_NAMES,
            "`none`, or names of policies and `role:<role>`; absent means all.",
        ),
        optional(
            "combining",
            Shape::Choice(&Choice {
                built: &["deny_overrides", "first_applicable", "permit_unless_deny"],
                later: &[],
            }),
            "How they combine; absent means as `authorization.combining` says.",
        ),
        optional(
            "match",
            Shape::Object(&MATCH),
            "What a request must also look like where nobody is authenticated.",
        ),
        optional(
            "audit",
            Shape::Choice(&Choice { built: &["all", "denials"], later: &[] }),
            "Which decisions are recorded.",
        ),
        later("paths"),
    ],
    rest: None,
};

static AUTHENTICATE: Object = Object {
    fields: &[
        optional("any", List { of: &METHODS, min: 1 }, "The first credential presented, in this order."),
        optional("all", List { of: &METHODS, min: 1 }, "Instead of `any`: every one of these."),
        optional(
            "principal",
            METHODS,
            "Of `all`, whose identity decides; absent means that all must show the same caller.",
        ),
    ],
    rest: None,
};

const METHODS: Shape =
    Shape::Choice(&Choice { built: &["api_key", "jwt", "introspection", "mtls"], later: &[] });
