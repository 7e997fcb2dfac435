//! The words of `authorization`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

/// `authorization`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationSpec {
    /// Role name to permissions.
    #[serde(default)]
    pub roles: BTreeMap<String, RoleSpec>,
    /// How policies combine.
    #[serde(default)]
    pub combining: CombiningSpec,
    /// Attribute-based policies.
    #[serde(default)]
    pub policies: Vec<PolicySpec>,
    /// Types of attributes, by full name.
    #[serde(default)]
    pub attributes: BTreeMap<String, AttributeSpec>,
}

/// What is declared of one attribute.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeSpec {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: TypeSpec,
    /// Whether testing it is an error where it is missing.
    #[serde(default)]
    pub required: bool,
}

/// The type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypeSpec {
    /// A text that is an IP address.
    Address,
    /// `true` or `false`.
    Boolean,
    /// A list of texts.
    List,
    /// A whole number.
    Number,
    /// A text.
    Text,
    /// A text that is a moment (RFC 3339).
    Time,
    /// A text that is a time of day: `18:00`, `18:00:00`.
    TimeOfDay,
}

/// `authorization.combining`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CombiningSpec {
    /// A deny wins whatever the order (XACML 3.0 §C.2).
    #[default]
    DenyOverrides,
    /// The first policy that says something decides (XACML 3.0 §C.8).
    FirstApplicable,
}

/// `combining` of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileCombiningSpec {
    /// As in `authorization`.
    DenyOverrides,
    /// As in `authorization`.
    FirstApplicable,
    /// What no deny forbids is allowed (XACML 3.0 §C.7).
    PermitUnlessDeny,
}

/// One role.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSpec {
    /// Roles whose permissions it has too.
    #[serde(default)]
    pub inherits: Vec<String>,
    /// Each an action (`*` is any), or an object of [`PermissionSpec`]'s fields.
    #[serde(default)]
    pub permissions: Vec<Json>,
}

/// A permission in its long form.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionSpec {
    /// Actions; `*` is any.
    pub actions: Vec<String>,
    /// Conditions on `resource.*`.
    #[serde(default)]
    pub resource: BTreeMap<String, Json>,
    /// Conditions on attributes by their full name, `environment.name`, and `all`, `any`, `not`.
    #[serde(default)]
    pub when: BTreeMap<String, Json>,
}

/// One policy. Each map goes from an attribute to what is asked of it: a value, a list of values, a text with a
/// trailing `*` or a `{principal.x}`, or an object of operators.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// Unique; how events and `explain` name it.
    pub name: String,
    /// What it does when it matches.
    pub effect: EffectSpec,
    /// Conditions on `principal.*`.
    #[serde(default)]
    pub principal: BTreeMap<String, Json>,
    /// Conditions on `resource.*`.
    #[serde(default)]
    pub resource: BTreeMap<String, Json>,
    /// Actions; absent means any.
    pub action: Option<Vec<String>>,
    /// Conditions on attributes by their full name, and `all`, `any`, `not`.
    #[serde(default)]
    pub when: BTreeMap<String, Json>,
    /// Whether it counts.
    #[serde(default)]
    pub mode: ModeSpec,
    /// What must be done where it lets a request pass.
    pub obligations: Option<ObligationsSpec>,
}

/// `obligations` of a policy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObligationsSpec {
    /// Headers for the upstream.
    #[serde(default)]
    pub add_headers: BTreeMap<String, String>,
    /// The tier whose rates are charged.
    pub charge_tier: Option<String>,
    /// Whether the event must have a digest of the request's body.
    #[serde(default)]
    pub audit_inputs: bool,
}

/// `effect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectSpec {
    /// Grants.
    Allow,
    /// Forbids.
    Deny,
}

/// `mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeSpec {
    /// It counts.
    #[default]
    Enforce,
    /// It is evaluated, and recorded where it would have turned the answer.
    Shadow,
    /// It is not evaluated.
    Off,
}
