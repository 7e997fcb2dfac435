//! An Envoy document becomes its listeners, clusters, route tables and extensions, and what it only points to.
//!
//! Three forms are read: a bootstrap, the answer of the admin interface to `/config_dump`, and a file of resources that
//! Envoy watches (`resources: [...]`).

use crate::config::tree::Tree;
use crate::envoy::place::Place;

/// What a document holds.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    pub(super) listeners: Vec<Place<'a>>,
    pub(super) clusters: Vec<Place<'a>>,
    /// Route tables that stand apart from their listeners.
    pub(super) tables: Vec<Place<'a>>,
    /// Filters that stand apart (`TypedExtensionConfig`).
    pub(super) extensions: Vec<Place<'a>>,
    pub(super) admin: Option<Place<'a>>,
    pub(super) node: Option<Place<'a>>,
    /// What comes from elsewhere: the pointer, and what it is.
    pub(super) unseen: Vec<(String, &'static str)>,
    /// Whether `clusters` is all of them.
    pub(super) all_clusters: bool,
}

// === impl Parts ===

impl<'a> Parts<'a> {
    /// Takes a document apart; `None` where it is none of the three forms.
    pub(super) fn of(tree: &'a Tree) -> Option<Self> {
        let root = Place::root(tree.root());
        let mut parts = Self::default();
        if let Some(configs) = root.get("configs") {
            parts.dump(&configs);
        } else if let Some(resources) = root.get("resources") {
            for resource in resources.items() {
                parts.resource(&resource);
            }
            parts.unseen.push((String::new(), "the bootstrap that watches this file, with its clusters"));
        } else if root.get("static_resources").is_some() || root.get("dynamic_resources").is_some() {
            parts.bootstrap(&root, true);
        } else {
            return None;
        }
        Some(parts)
    }

    fn bootstrap(&mut self, root: &Place<'a>, with_resources: bool) {
        self.admin = root.get("admin");
        self.node = root.get("node");
        if !with_resources {
            return;
        }
        if let Some(resources) = root.get("static_resources") {
            self.listeners.extend(resources.list("listeners"));
            self.clusters.extend(resources.list("clusters"));
        }
        self.all_clusters = true;
        for (name, what) in [("lds_config", "listeners"), ("cds_config", "clusters")] {
            if let Some(place) = root.at(&["dynamic_resources", name]) {
                self.unseen.push((place.pointer, what));
                self.all_clusters &= what != "clusters";
            }
        }
    }

    fn dump(&mut self, configs: &Place<'a>) {
        // a listener may be there in several states; the active one counts
        let within = |place: &Place<'a>, state: &str, name: &str| {
            place.get(state).and_then(|state| state.get(name)).or_else(|| place.get(name))
        };
        for config in configs.items() {
            let Some((kind, fields)) = config.typed() else { continue };
            let each =
                |names: [&str; 2]| names.into_iter().flat_map(|name| fields.list(name)).collect::<Vec<_>>();
            match kind {
                "BootstrapConfigDump" => {
                    if let Some(root) = fields.get("bootstrap") {
                        self.bootstrap(&root, false);
                    }
                }
                "ListenersConfigDump" => {
                    let all = each(["static_listeners", "dynamic_listeners"]);
                    self.listeners
                        .extend(all.iter().filter_map(|one| within(one, "active_state", "listener")));
                }
                "ClustersConfigDump" => {
                    let all = each(["static_clusters", "dynamic_active_clusters"]);
                    self.clusters.extend(all.iter().filter_map(|one| one.get("cluster")));
                    self.all_clusters = true;
                }
                "RoutesConfigDump" => {
                    let all = each(["static_route_configs", "dynamic_route_configs"]);
                    self.tables.extend(all.iter().filter_map(|one| one.get("route_config")));
                }
                "EcdsConfigDump" => {
                    self.extensions
                        .extend(fields.list("ecds_filters").iter().filter_map(|one| one.get("ecds_filter")));
                }
                _ => {}
            }
        }
    }

    fn resource(&mut self, resource: &Place<'a>) {
        // a resource may be wrapped, with its version
        let inner = match resource.typed() {
            Some(("Resource", fields)) => fields.get("resource"),
            _ => Some(resource.clone()),
        };
        match inner.as_ref().and_then(Place::typed) {
            Some(("Listener", fields)) => self.listeners.push(fields),
            Some(("Cluster", fields)) => self.clusters.push(fields),
            Some(("RouteConfiguration", fields)) => self.tables.push(fields),
            Some(("TypedExtensionConfig", fields)) => self.extensions.push(fields),
            _ => self.unseen.push((resource.pointer.clone(), "a resource of a kind that nothing here reads")),
        }
    }
}
