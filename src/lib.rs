//! mlgate: the access gate for ML model servers.
//!
//! A request flows one way: head → credentials → identity → resource and action → decision → limits →
//! upstream → response → outcome → audit event. A stage takes values and gives a value; only
//! [`filter::transaction`] knows the order.
//!
//! | module | turns | into |
//! |---|---|---|
//! | [`http`] | what the proxy hands over | one [`http::RequestHead`], canonical or refused |
//! | [`credentials`] | a head | [`credentials::Credentials`] that nobody has verified yet |
//! | [`identity`] | credentials | an [`identity::Identity`] |
//! | [`resource`] | a head, and a body where a rule needs it | a [`resource::Resource`] and an action |
//! | [`policy`] | attributes | a [`policy::Decision`] with its reason |
//! | [`remote`] | what another server serves | one document in every worker |
//! | [`limits`] | an identity and a resource | a [`limits::Quota`] |
//! | [`audit`] | an outcome | a sealed [`audit::AuditEvent`] |
//! | [`config`] | one document | all of its faults, or the compiled gate |
//! | [`filter`] | events of one stream | steps for the proxy |
//!
//! Beside the flow: `review` asks a configuration (who can what, tables, recorded decisions) and `envoy` reads and
//! writes the proxy's documents, both for the command; `cases` is the golden table; `plugin` is the proxy's side.
//!
//! The core asks the proxy through [`host::Host`] alone and compiles without proxy-wasm.

pub mod audit;
#[cfg(feature = "cases")]
pub mod cases;
pub mod config;
pub mod credentials;
#[cfg(feature = "cli")]
pub mod envoy;
pub mod filter;
pub mod host;
pub mod http;
pub mod identity;
pub mod limits;
pub mod policy;
pub mod remote;
pub mod resource;
#[cfg(feature = "cli")]
pub mod review;
pub mod time;

#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
mod plugin;
