//! The words of a suite.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::config::shape::grammar::{self, Grammar};
use crate::config::shape::{Choice, Object, Rest, Shape, optional, required};
use crate::config::values::TimestampText;

#[derive(Deserialize)]
pub(super) struct SuiteSpec {
    pub(super) principals: BTreeMap<String, PrincipalSpec>,
    pub(super) resources: BTreeMap<String, ResourceSpec>,
    pub(super) actions: Vec<String>,
    pub(super) tables: Vec<TableSpec>,
}

#[derive(Deserialize)]
pub(super) struct PrincipalSpec {
    pub(super) consumer: Option<String>,
    pub(super) key: Option<String>,
    pub(super) id: Option<String>,
    pub(super) profile: Option<String>,
    #[serde(default)]
    pub(super) roles: Vec<String>,
    pub(super) tier: Option<String>,
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, Json>,
}

#[derive(Deserialize)]
pub(super) struct ResourceSpec {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) attributes: Option<BTreeMap<String, Json>>,
}

#[derive(Deserialize)]
pub(super) struct TableSpec {
    #[serde(default)]
    pub(super) note: String,
    pub(super) principals: Option<Vec<String>>,
    pub(super) resources: Option<Vec<String>>,
    pub(super) actions: Option<Vec<String>>,
    pub(super) profile: Option<String>,
    pub(super) environment: Option<BTreeMap<String, Json>>,
    pub(super) at: Option<TimestampText>,
    pub(super) source: Option<IpAddr>,
    #[serde(default)]
    pub(super) allow: BTreeMap<String, BTreeMap<String, Json>>,
    #[serde(default)]
    pub(super) because: Vec<BecauseSpec>,
}

#[derive(Deserialize)]
pub(super) struct BecauseSpec {
    pub(super) principal: String,
    pub(super) resource: String,
    pub(super) action: String,
    pub(super) reason: Option<String>,
    pub(super) policies: Option<Vec<String>>,
}

const NAME: Shape = Shape::Text(&grammar::NAME);
const NAMES: Shape = Shape::List { of: &NAME, min: 1 };
const ATTRIBUTES: Shape =
    Shape::Object(&Object { fields: &[], rest: Some(Rest { names: &grammar::NAME, of: Shape::Value }) });

const fn named(of: &'static Object) -> Rest {
    Rest { names: &grammar::NAME, of: Shape::Object(of) }
}

pub(super) static WORDS: Shape = Shape::Object(&Object {
    fields: &[
        required("principals", Shape::Object(&Object { fields: &[], rest: Some(named(&PRINCIPAL)) }), ""),
        required("resources", Shape::Object(&Object { fields: &[], rest: Some(named(&RESOURCE)) }), ""),
        required("actions", NAMES, ""),
        required("tables", Shape::List { of: &Shape::Object(&TABLE), min: 1 }, ""),
    ],
    rest: None,
});

static PRINCIPAL: Object = Object {
    fields: &[
        optional("consumer", Shape::Text(&grammar::CONSUMER), ""),
        optional("key", Shape::Text(&grammar::KEY_ID), ""),
        optional("id", Shape::Text(&grammar::ANY), ""),
        optional("profile", NAME, ""),
        optional("roles", Shape::List { of: &NAME, min: 0 }, ""),
        optional("tier", NAME, ""),
        optional("attributes", ATTRIBUTES, ""),
    ],
    rest: None,
};

static RESOURCE: Object = Object {
    fields: &[
        required("type", NAME, ""),
        required("id", Shape::Text(&grammar::ANY), ""),
        optional("attributes", ATTRIBUTES, ""),
    ],
    rest: None,
};

static TABLE: Object = Object {
    fields: &[
        optional("note", Shape::Text(&grammar::ANY), ""),
        optional("principals", NAMES, ""),
        optional("resources", NAMES, ""),
        optional("actions", NAMES, ""),
        optional("profile", NAME, ""),
        optional("environment", ATTRIBUTES, ""),
        optional("at", Shape::Timestamp, ""),
        optional("source", Shape::Text(&ADDRESS), ""),
        optional("allow", Shape::Object(&Object { fields: &[], rest: Some(named(&ALLOWED)) }), ""),
        optional("because", Shape::List { of: &Shape::Object(&BECAUSE), min: 0 }, ""),
    ],
    rest: None,
};

static ALLOWED: Object = Object {
    fields: &[],
    rest: Some(Rest { names: &grammar::NAME, of: Shape::Either(&[Shape::Choice(&EVERY), NAMES]) }),
};

static EVERY: Choice = Choice { built: &["*"], later: &[] };

static BECAUSE: Object = Object {
    fields: &[
        required("principal", NAME, ""),
        required("resource", NAME, ""),
        required("action", NAME, ""),
        optional("reason", NAME, ""),
        optional("policies", Shape::List { of: &NAME, min: 0 }, ""),
    ],
    rest: None,
};

static ADDRESS: Grammar = Grammar {
    check: |text| text.parse::<IpAddr>().is_ok(),
    pattern: "",
    say: "an address such as `10.1.2.3`",
    secret: false,
};
