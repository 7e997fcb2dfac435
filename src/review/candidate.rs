//! A configuration under review: its words with their lines, and the gate that they compile to.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use serde_json::Value as Json;

use crate::config::compile::Environment;
use crate::config::document::Document;
use crate::config::faults::Faults;
use crate::config::tree::{Node, Tree};
use crate::config::{Config, Format, load, read};
use crate::filter::profile::Profile;
use crate::filter::refusal::Reason;
use crate::identity::Identity;
use crate::identity::bindings::Bindings;
use crate::identity::consumer::Consumer;
use crate::policy::Decision;
use crate::policy::attributes::{AttributeMap, Attributes};
use crate::resource::Resource;
use crate::resource::catalogue::Listing;
use crate::time::UnixTime;

/// See the module.
#[derive(Debug)]
pub struct Candidate {
    /// Its words.
    pub document: Document,
    /// The same with lines.
    pub tree: Tree,
    /// What they compile to.
    pub config: Config,
    consumers: BTreeMap<String, Consumer>,
    bindings: Bindings,
    /// Of each profile, which rules count.
    counts: OnceCell<Vec<Vec<bool>>>,
}

/// What policies are asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks; its scope counts.
    pub principal: &'a Identity,
    /// For what.
    pub resource: &'a Resource,
    /// Whether the catalogue lists it, or need not.
    pub listed: bool,
    /// To do what.
    pub action: &'a str,
    /// `environment.*` as far as it is written.
    pub environment: &'a AttributeMap,
    /// When.
    pub now: Option<UnixTime>,
    /// From where.
    pub source: Option<IpAddr>,
}

/// What the gate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// `None`: allowed.
    pub refused: Option<Reason>,
    /// The policies that decided.
    pub policies: Vec<String>,
}

// === impl Candidate ===

impl Candidate {
    /// Reads and compiles a document.
    ///
    /// # Errors
    /// Every fault of form and meaning, with its place.
    pub fn open(bytes: &[u8], format: Format, environment: Environment<'_>) -> Result<Self, Faults> {
        let config = load(bytes, format, environment)?;
        let (document, tree) = read(bytes, format)?;
        // INVARIANT: the whole has no fault, so neither have its parts
        let mut faults = Faults::default();
        let is_role = |role: &str| document.authorization.roles.contains_key(role);
        let bindings = Bindings::compile(&document.bindings, &is_role, "/bindings", &mut faults);
        let consumers = document
            .consumers
            .iter()
            .map(|spec| (spec.name.clone(), Consumer::compile(spec, &is_role, "/consumers", &mut faults)));
        let consumers = consumers.collect();
        Ok(Self { document, tree, config, consumers, bindings, counts: OnceCell::new() })
    }

    /// Whether a consumer is configured.
    pub fn has_consumer(&self, name: &str) -> bool {
        self.consumers.contains_key(name)
    }

    /// A caller as policies see it: what it `claims`, then bindings, then what is written of the consumer.
    pub fn settle(&self, claims: Identity, consumer: Option<&str>) -> Identity {
        self.bindings.settle(claims, consumer.and_then(|name| self.consumers.get(name)))
    }

    /// What is written of a consumer wins over what a caller claims and bindings give.
    pub fn prevail(&self, consumer: &str, identity: &mut Identity) {
        if let Some(consumer) = self.consumers.get(consumer) {
            consumer.prevail_over(identity);
        }
    }

    /// What the document writes at a JSON pointer.
    pub fn written(&self, pointer: &str) -> Option<Json> {
        self.tree.at(pointer).map(Node::to_json)
    }

    /// Which of [`crate::policy::PolicySet::rules`] count in a profile.
    pub fn counts(&self, profile: &Profile) -> impl Iterator<Item = bool> {
        let all = self.counts.get_or_init(|| {
            let nobody = Identity::anonymous();
            let nothing = Resource::none();
            let question = Question {
                principal: &nobody,
                resource: &nothing,
                listed: true,
                action: "",
                environment: &self.config.environment,
                now: None,
                source: None,
            };
            let traces = |profile: &Profile| {
                let traces = self.config.policies.explain(&profile.policies, &question.attributes());
                traces.into_iter().map(|trace| trace.counts).collect()
            };
            self.config.profiles.list.iter().map(traces).collect()
        });
        let index = self.config.profiles.list.iter().position(|known| known.name == profile.name);
        index.and_then(|index| all.get(index)).into_iter().flatten().copied()
    }

    /// A resource by type and id, and whether policies may decide about it.
    pub fn resource(&self, kind: &str, id: &str) -> (Rc<Resource>, bool) {
        match self.config.rules.catalogue().look_up(kind, id) {
            Listing::Known(resource) => (resource, true),
            Listing::Unlisted(resource) => (resource, false),
        }
    }

    /// A profile by its name.
    pub fn profile(&self, name: &str) -> Option<&Profile> {
        self.config.profiles.list.iter().find(|profile| profile.name == name)
    }

    /// The names of all profiles, the default first.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.config.profiles.list.iter().map(|profile| profile.name.as_str())
    }

    /// What the gate says once it knows the caller.
    pub fn decide(&self, profile: &Profile, question: &Question<'_>) -> Answer {
        question.ask(&self.config, profile)
    }
}

// === impl Question ===

impl<'a> Question<'a> {
    /// As policies are given it.
    pub const fn attributes(&self) -> Attributes<'a> {
        let Self { principal, resource, action, environment, now, source, .. } = *self;
        Attributes { principal, resource, action, environment, now, source }
    }

    /// What a configuration says; in the order of `filter::transaction`.
    pub fn ask(&self, config: &Config, profile: &Profile) -> Answer {
        if !profile.authorize {
            return Answer::default();
        }
        if !self.listed {
            return Answer { refused: Some(Reason::ResourceUnknown), policies: Vec::new() };
        }
        let within = self.principal.scope.allows(self.resource, self.action, self.source);
        let Decision { refused, policies, .. } =
            config.policies.decide(&profile.policies, &self.attributes(), within);
        Answer { refused, policies }
    }
}

// === impl Answer ===

impl Answer {
    /// Whether the request may go on.
    pub const fn is_allowed(&self) -> bool {
        self.refused.is_none()
    }

    /// The reason's inner word.
    pub fn reason(&self) -> Option<&'static str> {
        self.refused.map(|reason| reason.answer().inner)
    }
}

impl std::fmt::Display for Answer {
    /// `denied (explicit_deny, nobody-deletes)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut why: Vec<&str> = self.reason().into_iter().collect();
        why.extend(self.policies.iter().map(String::as_str));
        f.write_str(if self.is_allowed() { "allowed" } else { "denied" })?;
        if why.is_empty() { Ok(()) } else { write!(f, " ({})", why.join(", ")) }
    }
}
