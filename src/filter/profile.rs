//! Which rules apply to a route: the route names a profile, a profile names what applies.

use crate::config::document::ProfileAuditSpec;
use crate::filter::refusal::Reason;
use crate::http::{RequestHead, RouteProfile};
use crate::identity::{Accepted, Method};
use crate::limits;
use crate::policy::PolicySelection;
use crate::resource::rules::HeadMatch;

/// A compiled profile.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name in the configuration.
    pub name: String,
    /// Who must be shown.
    pub authenticate: Authenticate,
    /// Whether policies decide; `false` only where the configuration says `authorize: none`.
    pub authorize: bool,
    /// Policies that apply here.
    pub policies: PolicySelection,
    /// Limits that apply here.
    pub limits: limits::Selection,
    /// Which decisions are recorded.
    pub audit: ProfileAuditSpec,
}

/// `authenticate` of a profile.
#[derive(Clone, Debug)]
pub enum Authenticate {
    /// A caller with these credentials.
    Caller(Accepted),
    /// Nobody, for requests that also look like this.
    Nobody(HeadMatch),
}

/// All profiles, and the map from routes to them.
#[derive(Clone, Debug)]
pub struct Profiles {
    /// The `default` is always the first.
    pub list: Vec<Profile>,
    /// Route patterns in the order of the configuration: exact ones before prefixes.
    pub routes: Vec<(RoutePattern, usize)>,
}

/// `<virtual host>/<route name>`, a trailing `*` is a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutePattern {
    /// The whole name.
    Exact(String),
    /// How names begin.
    Prefix(String),
}

/// The profile that applies where nothing else is named.
pub const DEFAULT: &str = "default";

// === impl Profile ===

impl Profile {
    /// Whether a certificate can let somebody in here.
    pub fn takes_certificates(&self) -> bool {
        match &self.authenticate {
            Authenticate::Caller(Accepted::Any(methods) | Accepted::All { methods, .. }) => {
                methods.contains(&Method::Mtls)
            }
            Authenticate::Nobody(_) => false,
        }
    }
}

// === impl Profiles ===

impl Profiles {
    /// Route metadata wins over the virtual host's, that over the map, and all over `default`. What is named and
    /// not known, or cannot be read, denies: whoever edits routes cannot open anything by a misspelling.
    pub fn of(&self, head: &RequestHead) -> Result<usize, Reason> {
        let named = match (&head.facts.route_profile, &head.facts.virtual_host_profile) {
            (RouteProfile::Unreadable, _) | (RouteProfile::Absent, RouteProfile::Unreadable) => {
                return Err(Reason::ProfileUnknown);
            }
            (RouteProfile::Named(name), _) | (RouteProfile::Absent, RouteProfile::Named(name)) => {
                let index = self.list.iter().position(|profile| profile.name == *name);
                index.ok_or(Reason::ProfileUnknown)?
            }
            (RouteProfile::Absent, RouteProfile::Absent) => self.mapped(head).unwrap_or(0),
        };
        match self.list.get(named).map(|profile| &profile.authenticate) {
            Some(Authenticate::Nobody(only)) if !only.matches(&head.method, head.path(), &head.host) => Ok(0),
            _ => Ok(named),
        }
    }

    fn mapped(&self, head: &RequestHead) -> Option<usize> {
        if self.routes.is_empty() {
            return None;
        }
        let route = route_of(head);
        self.routes.iter().find(|(pattern, _)| pattern.matches(&route)).map(|(_, profile)| *profile)
    }
}

/// How the map and limits name a route.
pub fn route_of(head: &RequestHead) -> String {
    format!("{}/{}", head.facts.virtual_host, head.facts.route_name)
}

// === impl RoutePattern ===

impl RoutePattern {
    /// Reads a pattern of `routes`.
    pub fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Exact(text.to_owned()),
        }
    }

    /// Sorts exact patterns before prefixes, and longer ones before shorter ones.
    pub fn precedence(&self) -> (bool, std::cmp::Reverse<usize>) {
        match self {
            Self::Exact(whole) => (false, std::cmp::Reverse(whole.len())),
            Self::Prefix(prefix) => (true, std::cmp::Reverse(prefix.len())),
        }
    }

    /// Whether it names this route, given as `<virtual host>/<route name>`.
    pub fn matches(&self, route: &str) -> bool {
        match self {
            Self::Exact(whole) => whole == route,
            Self::Prefix(prefix) => route.starts_with(prefix.as_str()),
        }
    }
}
