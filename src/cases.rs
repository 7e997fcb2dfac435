//! The one table of cases that every runner reads: what a request leads to, whoever decides it.
//!
//! ```yaml
//! config: ../config/gate.yaml          # beside this file; its keys are made anew for each run (see `gate`)
//! tokens:                              # signed when the gate starts, and good for five minutes
//!   alice: { provider: corp, claims: { sub: alice, roles: [admin] }, lifetime: 15m }
//! cases:
//!   - note: a matching deny wins over a matching allow
//!     now: +2s                         # after the case before; both clocks move. A runner on real time waits, or skips
//!     repeat: 3                        # the same request so many times; the last one is looked at
//!     source: 127.0.0.7                # the caller's address; absent: 127.0.0.1
//!     route: { name: chat, virtual_host: api, profile: partner, host_profile: public }
//!     request:
//!       method: POST                   # absent: GET, or POST with a body
//!       path: /v1/models/fraud:predict
//!       host: models.example
//!       http: 2                        # absent: 1
//!       headers: { x-api-key: "${key.alice001}", accept: [a, b] }     # a list: one field each
//!       body: { json: { model: fraud } }        # or a text, { text, chunks }, { repeat, times }, { depth }
//!       trailers: { x-end: "1" }
//!     answer: { status: 500, headers: {}, body: "…", chunks: [], trailers: {} }   # the upstream's; absent: 200
//!     expect:
//!       status: 403
//!       grpc_status: 7
//!       reason: access_denied          # the code, never the sentence; absent: the request went on
//!       headers: { retry-after: "*", server: null }
//!       upstream: untouched            # or headers_only, reached, { path, headers, body, trailers }
//!       because: [nobody-deletes]      # the determining policies
//!       audit: { user_id: alice, reason: explicit_deny }              # of the event, or `none`
//!     only: { runner: core, because: Envoy refuses it itself }
//!     envoy: { status: 400 }           # Envoy refuses it itself, before the filter
//! ```
//!
//! `tokens` are for issuers whose keys the document lists, with times of the runner's clock. Issuers with a shared secret
//! need no such list: `${jwt.<provider>.<subject>}` is a token of theirs, good until 2100.
//!
//! A value that is expected is a text in the language of patterns: `*` is anything, a trailing `*` a prefix; `3..5` is a
//! range of whole numbers, `null` is absence. Placeholders are in [`Gate::expand`].
//!
//! Global limits are counted on the core by a service that answers at once, as the configuration says
//! ([`crate::limits::remote::fake::FakeService`]); no service runs beside the table in Envoy.
//!
//! Limits live as long as their gate, and a runner may start one gate for all files of a configuration: cases about
//! limits use keys of their own.

pub mod check;
pub mod file;
pub mod files;
pub mod gate;
pub mod issuer;
pub mod lists;
mod token;

pub use check::{Observed, Seen};
pub use file::{Case, CaseFile};
pub use files::{Disk, Files};
pub use gate::Gate;
pub use issuer::TokenSpec;
