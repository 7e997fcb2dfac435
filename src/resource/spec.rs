//! The words of `resources`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

/// `resources`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourcesSpec {
    /// Known resources and their attributes.
    #[serde(default)]
    pub catalogue: Vec<CatalogueSpec>,
    /// What happens to a resource that is not in the catalogue.
    #[serde(default)]
    pub unlisted: UnlistedSpec,
    /// First match wins; what none names is denied.
    #[serde(default)]
    pub rules: Vec<RuleSpec>,
    /// How bodies are looked into.
    #[serde(default)]
    pub body: BodySpec,
}

/// One entry of the catalogue: `type`, `id`, and any attributes.
#[derive(Clone, Debug, Deserialize)]
pub struct CatalogueSpec {
    /// `model`, `dataset`, `training_job`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Unique within its type.
    pub id: String,
    /// Everything else: text, whole number, boolean or a list of text.
    #[serde(flatten)]
    pub attributes: BTreeMap<String, Json>,
}

/// `resources.unlisted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnlistedSpec {
    /// Decided by policies alone, without attributes.
    Allow,
    /// Refused as `resource_unknown`.
    #[default]
    Deny,
}

/// One rule: either `preset`, or `match`, `resource` and `action`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// A built-in allow-list of methods and paths: `openai`, `kserve_v1`.
    pub preset: Option<String>,
    /// What a request must look like.
    #[serde(rename = "match")]
    pub matches: Option<MatchSpec>,
    /// What it is then about.
    pub resource: Option<RuleResourceSpec>,
    /// And what it does.
    pub action: Option<String>,
}

/// `match` of a rule or a profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchSpec {
    /// HTTP methods; absent means any.
    pub methods: Option<Vec<String>>,
    /// A path; `{x}` captures one segment or a part of one.
    pub path: Option<String>,
    /// A host without port; `{x}` captures one label.
    pub host: Option<String>,
}

/// `resource` of a rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleResourceSpec {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id: a text with captures.
    pub id: String,
}

/// `resources.body`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodySpec {
    /// When a body is read for its model.
    #[serde(default)]
    pub peek: PeekSpec,
}

/// `resources.body.peek`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeekSpec {
    /// Headers and body are held; needs `allow_on_headers_stop_iteration` on the plugin.
    Hold,
    /// No rule may need the body.
    Off,
    /// Headers go on, the body is held until the decision.
    #[default]
    Stream,
}
