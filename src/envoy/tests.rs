//! Each planted danger is found where it was planted, and our own bootstrap has none.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::config::tree::Tree;
use crate::config::{self, Format};
use crate::envoy::render::{self, Address, Settings, TlsFiles};
use crate::envoy::review::{Review, review};
use crate::envoy::rule::{File, Rule};

mod planted;

/// What stands for long pointers: the listener, its filter chain, the manager, the filter, the plugin, its VM, the routes.
const SHORT: [(&str, &str); 7] = [
    ("V", "P/vm_config"),
    ("P", "F/typed_config/config"),
    ("F", "M/http_filters/0"),
    ("R", "M/route_config/virtual_hosts/0/routes"),
    ("M", "C/filters/0/typed_config"),
    ("C", "L/filter_chains/0"),
    ("L", "/static_resources/listeners/0"),
];

/// Changes of our own bootstrap, and pointers of what is then named.
type Case<'a> = (&'a [(&'a str, Json)], &'a [&'a str]);

fn file(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy").join(name);
    Tree::from_yaml(&std::fs::read(path).unwrap()).unwrap().to_json()
}

/// A pointer in full.
fn full(short: &str) -> String {
    SHORT.iter().fold(short.to_owned(), |pointer, (letter, whole)| match pointer.strip_prefix(letter) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{whole}{rest}"),
        _ => pointer,
    })
}

/// Writes a value, or takes out what stands there where it is `null`; the holder must be there.
fn put(holder: &mut Json, short: &str, value: Json) {
    let pointer = full(short);
    let (before, name) = pointer.rsplit_once('/').unwrap();
    let name = name.replace("~1", "/");
    match holder.pointer_mut(before).unwrap_or_else(|| panic!("nothing at {before}")) {
        Json::Object(members) if value.is_null() => drop(members.remove(&name).unwrap()),
        Json::Object(members) => drop(members.insert(name, value)),
        Json::Array(items) if name == "-" => items.push(value),
        Json::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        other => panic!("{other} at {before}"),
    }
}

fn looked_at(configuration: &Json, envoy: &Json) -> Review {
    let (document, tree) = config::read(configuration.to_string().as_bytes(), Format::Json).unwrap();
    let envoy = Tree::of_proxy(envoy.to_string().as_bytes(), Format::Json).unwrap();
    review(&envoy, &document, &tree).unwrap()
}

fn found(review: &Review) -> Vec<(Rule, String)> {
    review.findings.iter().map(|finding| (finding.rule, finding.fault.pointer.clone())).collect()
}

#[test]
fn our_own_bootstrap_has_no_danger() {
    let review = looked_at(&file("config/quickstart.yaml"), &file("envoy.yaml"));
    assert_eq!(found(&review), []);
    assert_eq!(review.not_checked, []);
}

#[test]
fn each_planted_danger_is_found_where_it_was_planted() {
    let mut seen = BTreeSet::new();
    for planted in planted::all() {
        let (mut configuration, mut envoy) = (file("config/quickstart.yaml"), file("envoy.yaml"));
        for (pointer, value) in planted.configuration {
            put(&mut configuration, pointer, value);
        }
        // what the configuration says is what the bootstrap runs, unless that is the danger
        put(&mut envoy, "P/configuration/value", configuration.clone());
        for (pointer, value) in planted.envoy {
            put(&mut envoy, pointer, value);
        }
        let mut wanted: Vec<(Rule, String)> =
            planted.found.iter().map(|(rule, pointer)| (*rule, full(pointer))).collect();
        let mut found = found(&looked_at(&configuration, &envoy));
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted, "{}", planted.what);
        seen.extend(found.into_iter().map(|(rule, _)| rule));
    }
    // nothing that a configuration names today is trusted so; see the test of clusters
    seen.insert(Rule::ClusterUnverified);
    // a document of JSON values cannot say something twice; see below
    seen.insert(Rule::Twice);
    assert_eq!(seen, Rule::ALL.into());
}

#[test]
fn what_is_not_in_the_file_is_named() {
    let rds = json!({"route_config_name": "r", "config_source": {"ads": {}}});
    let discovery = json!({"config_source": {"ads": {}}, "type_urls": []});
    let cases: [Case<'_>; 6] = [
        (&[("M/route_config", Json::Null), ("M/rds", rds)], &["M/rds", "", ""]),
        (
            &[("M/route_config", Json::Null), ("M/scoped_routes", json!({"name": "s"}))],
            &["M/scoped_routes", "", ""],
        ),
        (&[("F/typed_config", Json::Null), ("F/config_discovery", discovery)], &["F/config_discovery"]),
        (
            &[("/dynamic_resources", json!({"lds_config": {"ads": {}}}))],
            &["/dynamic_resources/lds_config", ""],
        ),
        (
            &[
                ("/dynamic_resources", json!({"cds_config": {"ads": {}}})),
                ("/static_resources/clusters/1/name", json!("x")),
            ],
            &["/dynamic_resources/cds_config", ""],
        ),
        (&[("M/route_config/vhds", json!({"config_source": {"ads": {}}}))], &["M/route_config/vhds", ""]),
    ];
    for (envoy, notes) in cases {
        let mut bootstrap = file("envoy.yaml");
        for (pointer, value) in envoy {
            put(&mut bootstrap, pointer, value.clone());
        }
        let review = looked_at(&file("config/quickstart.yaml"), &bootstrap);
        assert_eq!(found(&review), [], "{notes:?}");
        let named: BTreeSet<String> = review.not_checked.iter().map(|note| note.pointer.clone()).collect();
        assert_eq!(named, notes.iter().map(|note| full(note)).collect(), "{:#?}", review.not_checked);
    }
}

#[test]
fn a_dump_is_looked_into_as_a_bootstrap_is() {
    let mut bootstrap = file("envoy.yaml");
    put(&mut bootstrap, "P/fail_open", json!(true));
    let part = |kind: &str, fields: Json| {
        let mut part = fields;
        put(&mut part, "/@type", json!(format!("type.googleapis.com/envoy.admin.v3.{kind}")));
        part
    };
    let listener = bootstrap.pointer(&full("L")).unwrap().clone();
    let clusters: Vec<Json> = bootstrap
        .pointer("/static_resources/clusters")
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|cluster| json!({"cluster": cluster}))
        .collect();
    let dump = json!({"configs": [
        part("BootstrapConfigDump", json!({"bootstrap": bootstrap})),
        part("ClustersConfigDump", json!({"static_clusters": clusters})),
        part("ListenersConfigDump", json!({"dynamic_listeners": [{"name": "l", "active_state": {"listener": listener}}]})),
    ]});
    let review = looked_at(&file("config/quickstart.yaml"), &dump);
    let at = "/configs/2/dynamic_listeners/0/active_state/listener/filter_chains/0/filters/0/typed_config/http_filters/0\
              /typed_config/config/fail_open";
    assert_eq!(found(&review), [(Rule::FailOpen, at.to_owned())]);
    assert_eq!(review.not_checked, []);
}

#[test]
fn a_file_of_resources_is_looked_into_and_the_rest_is_named() {
    let mut listener = file("envoy.yaml").pointer(&full("L")).unwrap().clone();
    put(&mut listener, "/@type", json!("type.googleapis.com/envoy.config.listener.v3.Listener"));
    put(&mut listener, "/filter_chains/0/filters/0/typed_config/normalize_path", json!(false));
    let review = looked_at(&file("config/quickstart.yaml"), &json!({"resources": [listener]}));
    let at = "/resources/0/filter_chains/0/filters/0/typed_config/normalize_path";
    assert_eq!(found(&review), [(Rule::PathNotNormalized, at.to_owned())]);
    assert_eq!(review.not_checked.len(), 2, "{:#?}", review.not_checked);
}

#[test]
fn what_stands_twice_is_found_under_either_name() {
    let text = "static_resources: {}\nadmin:\n  profile_path: a\n  profilePath: b\nadmin: {}\n";
    let envoy = Tree::of_proxy(text.as_bytes(), Format::Yaml).unwrap();
    let (document, tree) =
        config::read(file("config/quickstart.yaml").to_string().as_bytes(), Format::Json).unwrap();
    let review = review(&envoy, &document, &tree).unwrap();
    let twice: Vec<&str> = review
        .findings
        .iter()
        .filter(|finding| finding.rule == Rule::Twice)
        .map(|finding| finding.fault.pointer.as_str())
        .collect();
    assert_eq!(twice, ["/admin", "/admin/profilePath"]);
}

#[test]
fn findings_have_their_line_in_the_right_file() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy/envoy.yaml")).unwrap();
    let broken = text
        .replace("normalize_path: true", "normalize_path: false")
        .replace("name: healthz", "name: health");
    let line = broken.lines().position(|line| line.contains("normalize_path: false")).unwrap();
    let quickstart =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy/config/quickstart.yaml")).unwrap();
    let route =
        String::from_utf8_lossy(&quickstart).lines().position(|line| line.starts_with("routes:")).unwrap();
    let envoy = Tree::of_proxy(broken.as_bytes(), Format::Yaml).unwrap();
    let (document, tree) = config::read(&quickstart, Format::Yaml).unwrap();
    let review = review(&envoy, &document, &tree).unwrap();
    let places: Vec<(File, Option<usize>)> = review
        .findings
        .iter()
        .map(|finding| (finding.file, finding.fault.line.map(|line| usize::try_from(line).unwrap() - 1)))
        .collect();
    assert_eq!(places, [(File::Configuration, Some(route)), (File::Envoy, Some(line))]);
}

#[test]
fn findings_are_counted_where_they_are_too_many() {
    let mut envoy = file("envoy.yaml");
    let route =
        json!({"match": {"prefix": "/"}, "route": {"cluster": "model", "internal_redirect_policy": {}}});
    put(&mut envoy, "R", json!(vec![route; 300]));
    let review = looked_at(&file("config/quickstart.yaml"), &envoy);
    assert_eq!((review.findings.len(), review.more), (200, 101));
}

#[test]
fn rules_are_named_as_results_name_them() {
    for rule in Rule::ALL {
        assert_eq!(serde_json::to_value(rule).unwrap(), rule.name());
    }
    let names: Vec<&str> = Rule::ALL.into_iter().map(Rule::name).collect();
    assert!(names.is_sorted(), "{names:?}");
}

#[test]
fn what_is_not_of_envoy_is_refused() {
    let (document, tree) =
        config::read(file("config/quickstart.yaml").to_string().as_bytes(), Format::Json).unwrap();
    for text in ["{}", "[]", "a: b", "static: {}"] {
        let envoy = Tree::of_proxy(text.as_bytes(), Format::Yaml).unwrap();
        assert!(review(&envoy, &document, &tree).is_err(), "{text}");
    }
}

#[test]
fn nothing_is_found_in_what_is_rendered() {
    let held = json!({"body_held": "4MiB"});
    let changes: [&[(&str, Json)]; 8] = [
        &[],
        &[("/resources/body", json!({"peek": "hold"}))],
        &[("/authentication", json!({"mtls": {"peer_validation": "attribute"}}))],
        &[("/authentication", json!({"mtls": {"peer_validation": "listener"}, "source": {"trust": "xff"}}))],
        &[("/bounds", held)],
        &[("/routes", json!({}))],
        &[(
            "/routes",
            json!({"a/b": "public", "a/c*": "default", "b/b": "public", "b*": "default", "*": "default", "B/*": "default", "models/all": "default"}),
        )],
        &[
            ("/rate_limit_service", json!({"cluster": "model", "domain": "mlgate"})),
            ("/limits/0/scope", json!("global")),
            ("/limits/0/rates", json!({"default": [{"limit": 10, "window": "1m"}]})),
        ],
    ];
    let names = ["quickstart", "small", "medium", "large", "full", "demo"];
    let examples = names.map(|name| file(&format!("config/{name}.yaml")));
    let changed = changes.map(|changes| {
        let mut configuration = file("config/quickstart.yaml");
        changes.iter().for_each(|(pointer, value)| put(&mut configuration, pointer, value.clone()));
        configuration
    });
    for configuration in examples.into_iter().chain(changed) {
        let (document, tree) = config::read(configuration.to_string().as_bytes(), Format::Json).unwrap();
        let yaml = render::bootstrap(&document, &tree, &settings()).unwrap();
        let envoy = Tree::of_proxy(yaml.as_bytes(), Format::Yaml).unwrap();
        let review = review(&envoy, &document, &tree).unwrap();
        assert_eq!(found(&review), [], "{yaml}");
        let notes: Vec<&str> = review.not_checked.iter().map(|note| note.what.as_str()).collect();
        assert!(notes.iter().all(|note| note.starts_with("which Envoy runs this")), "{notes:?}");
    }
}

fn settings() -> Settings {
    let path = || String::from("/f");
    Settings {
        listen: "0.0.0.0:8080".parse().unwrap(),
        admin: "[::1]:9901".parse().unwrap(),
        upstream: "models.internal:8000".parse().unwrap(),
        filter: path(),
        clusters: Vec::new(),
        tls: TlsFiles { certificate: path(), private_key: path(), client_ca: path(), server_ca: path() },
    }
}

#[test]
fn an_address_is_a_host_and_a_port() {
    for good in ["a:1", "10.0.0.1:65535", "[::1]:80", "models.ml_team.internal:8000"] {
        assert!(good.parse::<Address>().is_ok(), "{good}");
    }
    for bad in ["", "a", ":1", "a:", "a:65536", "::1:80", "[a]:1", "a b:1", "a:-1", "[::1:80", "http://a:1"] {
        assert!(bad.parse::<Address>().is_err(), "{bad}");
    }
}
