//! A table of expectations becomes a [`Suite`]: principals x resources x actions, of which those that are listed are
//! allowed and all others are denied.
//!
//! ```yaml
//! principals:                          # rows: consumers of the configuration, or callers written out as claims say it
//!   shop: { consumer: web_shop, key: w9xfhmfn }      # with `key` what that key is limited to counts too
//!   analyst: { id: "jwt:corp:ana", roles: [viewer], attributes: { team: risk, kind: employee } }
//!   partner: { consumer: gears, profile: partner }   # absent: the table's profile, else `default`
//! resources:                           # what the catalogue lists has its attributes
//!   fraud: { type: model, id: fraud_detector_v2 }
//!   draft: { type: model, id: any, attributes: { stage: staging } }     # what it would be, if it were listed
//! actions: [read, predict, delete]     # columns
//! tables:
//!   - note: who uses what
//!     principals: [analyst, shop]      # absent: all; so for `resources` and `actions`
//!     environment: { name: staging }   # absent: the configuration's
//!     at: "2026-02-27T10:00:00Z"
//!     source: 10.1.2.3
//!     profile: default
//!     allow:
//!       analyst: { fraud: [read, predict], draft: "*" }                 # `"*"`: every action of the table
//!     because:                         # and why, where it matters
//!       - { principal: shop, resource: fraud, action: delete, reason: role, policies: [] }
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use serde_json::Value as Json;

use crate::config::Format;
use crate::config::faults::{Faults, segment};
use crate::config::shape;
use crate::config::tree::Tree;
use crate::filter::profile::DEFAULT;
use crate::filter::refusal::Reason;
use crate::identity::api_key::table::scope_of;
use crate::identity::{DEFAULT_TIER, Identity};
use crate::policy::attributes::{self, AttributeMap, Category};
use crate::resource::Resource;
use crate::time::UnixTime;

use super::Candidate;
use words::{BecauseSpec, PrincipalSpec, ResourceSpec, SuiteSpec, TableSpec, WORDS};

mod words;

/// Everything that one file expects of a configuration.
#[derive(Debug)]
pub struct Suite {
    /// In written order.
    pub tables: Vec<Table>,
}

/// One table.
#[derive(Debug)]
pub struct Table {
    /// What it shows.
    pub note: String,
    /// `environment.*`.
    pub environment: AttributeMap,
    /// When.
    pub now: Option<UnixTime>,
    /// From where.
    pub source: Option<IpAddr>,
    /// Its columns.
    pub actions: Vec<String>,
    /// Its rows, principal by principal.
    pub rows: Vec<Row>,
    /// Where the row of a principal and a resource is.
    places: BTreeMap<(String, String), usize>,
}

/// One row: a principal and a resource.
#[derive(Debug)]
pub struct Row {
    /// The principal's name in the file.
    pub principal: String,
    /// The resource's name in the file.
    pub resource: String,
    /// Who.
    pub identity: Rc<Identity>,
    /// Where it calls.
    pub profile: String,
    /// What it asks for.
    pub about: Rc<Resource>,
    /// Whether policies may decide about it.
    pub listed: bool,
    /// One for each action.
    pub expected: Vec<Expected>,
}

/// What is expected of one cell.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Allowed, or denied.
    pub allowed: bool,
    /// The inner reason of a denial, where it is said.
    pub reason: Option<&'static str>,
    /// The determining policies, where they are said.
    pub policies: Option<Vec<String>>,
    /// The line that says so.
    pub line: Option<u32>,
}

/// Cells that all suites of one run may have.
pub const MAX_CELLS: usize = 1_000_000;

// === impl Suite ===

impl Suite {
    /// Reads a file of expectations of `candidate`. No more than `room` cells.
    ///
    /// # Errors
    /// Every fault with its place.
    pub fn read(bytes: &[u8], format: Format, candidate: &Candidate, room: usize) -> Result<Self, Faults> {
        let tree = Tree::read(bytes, format)?;
        let mut faults = shape::check(&WORDS, tree.root());
        if faults.is_empty() {
            match serde_json::from_value::<SuiteSpec>(tree.to_json()) {
                Ok(spec) => {
                    let suite = Reading { candidate, tree: &tree, faults: &mut faults, room }.suite(&spec);
                    if faults.is_empty() {
                        return Ok(suite);
                    }
                }
                // INVARIANT: as of a configuration, what has the form can be read
                Err(error) => faults.at("", format!("cannot be read: {error}"), "correct what is named"),
            }
        }
        faults.locate(|pointer| tree.line_of(pointer));
        Err(faults)
    }

    /// How many cells it has.
    pub fn cells(&self) -> usize {
        self.tables.iter().map(Table::cells).sum()
    }
}

// === impl Table ===

impl Table {
    /// How many cells it has.
    pub fn cells(&self) -> usize {
        self.rows.len().saturating_mul(self.actions.len())
    }
}

struct Reading<'a> {
    candidate: &'a Candidate,
    tree: &'a Tree,
    faults: &'a mut Faults,
    room: usize,
}

struct Caller {
    identity: Rc<Identity>,
    profile: Option<String>,
}

struct Thing {
    about: Rc<Resource>,
    listed: bool,
}

// === impl Reading ===

impl Reading<'_> {
    fn suite(mut self, spec: &SuiteSpec) -> Suite {
        let mut callers = BTreeMap::new();
        for (name, principal) in &spec.principals {
            let caller = self.caller(name, principal, &format!("/principals/{}", segment(name)));
            callers.insert(name.as_str(), caller);
        }
        let mut things = BTreeMap::new();
        for (name, resource) in &spec.resources {
            things.insert(name.as_str(), self.thing(resource, &format!("/resources/{}", segment(name))));
        }
        let mut tables = Vec::new();
        for (index, table) in spec.tables.iter().enumerate() {
            tables.push(self.table(table, spec, &callers, &things, &format!("/tables/{index}")));
        }
        Suite { tables }
    }

    fn caller(&mut self, name: &str, spec: &PrincipalSpec, pointer: &str) -> Caller {
        let mut identity = Identity {
            principal: spec.id.clone().unwrap_or_else(|| name.to_owned()),
            name: name.to_owned(),
            roles: spec.roles.clone(),
            tier: spec.tier.clone().unwrap_or_else(|| String::from(DEFAULT_TIER)),
            attributes: attributes::compile(
                &spec.attributes,
                Category::Principal,
                &format!("{pointer}/attributes"),
                self.faults,
            ),
            ..Identity::anonymous()
        };
        if let Some(consumer) = spec.consumer.as_ref().filter(|name| !self.candidate.has_consumer(name)) {
            self.faults.at(
                format!("{pointer}/consumer"),
                format!("no consumer is called `{consumer}`"),
                "name one of the configuration, or write the caller out",
            );
        }
        if spec.consumer.is_some() && spec.id.is_some() {
            self.faults.at(format!("{pointer}/id"), "a consumer's id is its name", "leave one of them out");
        }
        if let Some(key) = &spec.key {
            let consumers = self.candidate.document.consumers.iter();
            let mut keys = consumers
                .filter(|consumer| Some(&consumer.name) == spec.consumer.as_ref())
                .flat_map(|consumer| &consumer.credentials.api_keys);
            match keys.find(|known| known.id == *key) {
                Some(known) => identity.scope = scope_of(known, pointer, self.faults),
                None => self.faults.at(
                    format!("{pointer}/key"),
                    "the consumer has no key with this id",
                    "write the id of one of its `credentials.api_keys`",
                ),
            }
        }
        self.profile(spec.profile.as_deref(), &format!("{pointer}/profile"));
        let identity = self.candidate.settle(identity, spec.consumer.as_deref());
        Caller { identity: Rc::new(identity), profile: spec.profile.clone() }
    }

    fn profile(&mut self, name: Option<&str>, pointer: &str) {
        if let Some(name) = name.filter(|name| self.candidate.profile(name).is_none()) {
            self.faults.at(
                pointer,
                format!("there is no profile `{name}`"),
                "name a profile of the configuration",
            );
        }
    }

    fn thing(&mut self, spec: &ResourceSpec, pointer: &str) -> Thing {
        let (about, listed) = self.candidate.resource(&spec.kind, &spec.id);
        let Some(written) = &spec.attributes else { return Thing { about, listed } };
        let pointer = format!("{pointer}/attributes");
        if self.candidate.config.rules.catalogue().contains(&spec.kind, &spec.id) {
            self.faults.at(
                &pointer,
                format!("the catalogue says what {} `{}` is", spec.kind, spec.id),
                "leave the attributes out, or write an id that is not listed",
            );
        }
        let attributes = attributes::compile(written, Category::Resource, &pointer, self.faults);
        let about = Resource { kind: spec.kind.clone(), id: spec.id.clone(), attributes };
        Thing { about: Rc::new(about), listed: true }
    }

    fn table(
        &mut self,
        spec: &TableSpec,
        suite: &SuiteSpec,
        callers: &BTreeMap<&str, Caller>,
        things: &BTreeMap<&str, Thing>,
        pointer: &str,
    ) -> Table {
        self.profile(spec.profile.as_deref(), &format!("{pointer}/profile"));
        let chosen = |list: &Option<Vec<String>>, all: Vec<String>| list.clone().unwrap_or(all);
        let principals = chosen(&spec.principals, suite.principals.keys().cloned().collect());
        let resources = chosen(&spec.resources, suite.resources.keys().cloned().collect());
        let actions = chosen(&spec.actions, suite.actions.clone());
        self.known(&principals, |name| callers.contains_key(name), &format!("{pointer}/principals"));
        self.known(&resources, |name| things.contains_key(name), &format!("{pointer}/resources"));
        self.once(&actions, &format!("{pointer}/actions"));
        let environment = match &spec.environment {
            Some(written) => {
                let pointer = format!("{pointer}/environment");
                attributes::compile(written, Category::Environment, &pointer, self.faults)
            }
            None => self.candidate.config.environment.clone(),
        };
        let mut table = Table {
            note: spec.note.clone(),
            environment,
            now: spec.at.map(|at| at.0),
            source: spec.source,
            actions,
            rows: Vec::new(),
            places: BTreeMap::new(),
        };
        let cells = principals.len().saturating_mul(resources.len()).saturating_mul(table.actions.len());
        let Some(room) = self.room.checked_sub(cells) else {
            self.faults.at(pointer, format!("more than {MAX_CELLS} cells in all"), "ask less at once");
            return table;
        };
        self.room = room;
        let line = self.tree.line_of(pointer);
        let expected = vec![Expected { line, ..Expected::default() }; table.actions.len()];
        for principal in &principals {
            for resource in &resources {
                let (Some(caller), Some(thing)) =
                    (callers.get(principal.as_str()), things.get(resource.as_str()))
                else {
                    continue;
                };
                table.places.insert((principal.clone(), resource.clone()), table.rows.len());
                let profile = caller.profile.as_ref().or(spec.profile.as_ref());
                table.rows.push(Row {
                    principal: principal.clone(),
                    resource: resource.clone(),
                    identity: Rc::clone(&caller.identity),
                    profile: profile.cloned().unwrap_or_else(|| String::from(DEFAULT)),
                    about: Rc::clone(&thing.about),
                    listed: thing.listed,
                    expected: expected.clone(),
                });
            }
        }
        self.allow(spec, &mut table, pointer);
        self.because(spec, &mut table, pointer);
        table
    }

    fn allow(&mut self, spec: &TableSpec, table: &mut Table, pointer: &str) {
        for (principal, resources) in &spec.allow {
            for (resource, actions) in resources {
                let pointer = format!("{pointer}/allow/{}/{}", segment(principal), segment(resource));
                let actions: Vec<String> = match actions {
                    Json::Array(list) => list.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
                    _ => table.actions.clone(),
                };
                for action in &actions {
                    let line = self.tree.line_of(&pointer);
                    if let Some(cell) = self.cell(table, principal, resource, action, &pointer) {
                        *cell = Expected { allowed: true, line, ..Expected::default() };
                    }
                }
            }
        }
    }

    fn because(&mut self, spec: &TableSpec, table: &mut Table, pointer: &str) {
        for (index, because) in spec.because.iter().enumerate() {
            let pointer = format!("{pointer}/because/{index}");
            let reason = because.reason.as_ref().and_then(|word| {
                let known =
                    Reason::ALL.iter().map(|reason| reason.answer().inner).find(|known| known == word);
                if known.is_none() {
                    self.faults.at(
                        format!("{pointer}/reason"),
                        format!("`{word}` is not a reason"),
                        "write one of docs/reference.md, such as `explicit_deny` or `no_match`",
                    );
                }
                known
            });
            let line = self.tree.line_of(&pointer);
            let BecauseSpec { principal, resource, action, .. } = because;
            let Some(cell) = self.cell(table, principal, resource, action, &pointer) else { continue };
            let twice = cell.allowed && reason.is_some();
            *cell = Expected { allowed: cell.allowed, reason, policies: sorted(&because.policies), line };
            if twice {
                self.faults.at(
                    format!("{pointer}/reason"),
                    "what is allowed has no reason",
                    "take it out of `allow`, or leave the reason out",
                );
            }
        }
    }

    fn cell<'t>(
        &mut self,
        table: &'t mut Table,
        principal: &str,
        resource: &str,
        action: &str,
        pointer: &str,
    ) -> Option<&'t mut Expected> {
        let column = table.actions.iter().position(|known| known == action);
        let place = table.places.get(&(principal.to_owned(), resource.to_owned())).copied();
        let row = place.and_then(|place| table.rows.get_mut(place));
        let cell = row.and_then(|row| row.expected.get_mut(column?));
        if cell.is_none() {
            self.faults.at(
                pointer,
                format!("`{principal}`, `{resource}`, `{action}` is no cell of this table"),
                "name its own principals, resources and actions",
            );
        }
        cell
    }

    fn known(&mut self, names: &[String], is_known: impl Fn(&str) -> bool, pointer: &str) {
        self.once(names, pointer);
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !is_known(name)) {
            self.faults.at(
                format!("{pointer}/{index}"),
                format!("`{name}` is not described"),
                "describe it at the head of the file, or correct the name",
            );
        }
    }

    fn once(&mut self, names: &[String], pointer: &str) {
        for (index, name) in names.iter().enumerate() {
            if names.iter().take(index).any(|other| other == name) {
                self.faults.at(format!("{pointer}/{index}"), format!("`{name}` twice"), "name it once");
            }
        }
    }
}

fn sorted(names: &Option<Vec<String>>) -> Option<Vec<String>> {
    let mut names = names.clone()?;
    names.sort_unstable();
    Some(names)
}
