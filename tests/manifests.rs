//! `mlgate render istio` and `render gateway`: the shipped objects are what they write, the configuration inside them loads,
//! and what cannot be said is refused. What Envoy makes of them is shown in `integration/tests/manifests.rs`.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]

use std::collections::BTreeSet;
use std::path::Path;

use mlgate::config::{self, Format, tree::Tree};
use serde_json::Value as Json;

#[path = "support/command.rs"]
mod command;

use command::{ROOT, file, mlgate, text};

const KSERVE: &str = "envoy/config/kserve.yaml";
/// Of nothing: whoever takes an example writes its own.
const SHA256: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Each shipped file and what writes it.
const SHIPPED: [(&str, &[&str]); 5] = [
    (
        "envoy/istio/gate.yaml",
        &["istio", KSERVE, "--sha256", SHA256, "--profile", "health.ml.models.example:80/health=health"],
    ),
    (
        "envoy/istio/traffic-extension.yaml",
        &["istio", "envoy/config/small.yaml", "--kind", "traffic-extension", "--sha256", SHA256],
    ),
    (
        "envoy/istio/envoy-filter.yaml",
        &["istio", "envoy/config/small.yaml", "--kind", "envoy-filter", "--sha256", SHA256],
    ),
    ("envoy/istio/environment.yaml", &["istio", KSERVE, "--environment"]),
    ("envoy/gateway/gate.yaml", &["gateway", KSERVE, "--sha256", SHA256]),
];

fn render(arguments: &[&str], input: &str) -> String {
    let output = mlgate(&[&["render"], arguments].concat(), input);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
    text(&output.stdout)
}

fn objects(yaml: &str) -> Vec<Json> {
    yaml.split("\n---\n").map(|one| Tree::from_yaml(one.as_bytes()).unwrap().to_json()).collect()
}

fn refused(arguments: &[&str], input: &str) -> String {
    let output = mlgate(&[&["render"], arguments].concat(), input);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()), "{arguments:?}");
    text(&output.stderr)
}

/// The configuration in an object, where it has one.
fn configuration(object: &Json) -> Option<&Json> {
    let patch = "/spec/configPatches/0/patch/value/typed_config/config/configuration/value";
    ["/spec/pluginConfig", "/spec/wasm/pluginConfig", "/spec/wasm/0/config", patch]
        .into_iter()
        .find_map(|pointer| object.pointer(pointer))
}

#[test]
fn what_is_shipped_is_what_is_rendered() {
    for (path, arguments) in SHIPPED {
        let rendered = render(arguments, "");
        let path = Path::new(ROOT).join(path);
        if std::env::var_os("MLGATE_BLESS").is_some() {
            std::fs::write(&path, &rendered).unwrap();
        }
        let shipped = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(shipped, rendered, "set MLGATE_BLESS=1 to write {}", path.display());
    }
}

#[test]
fn the_configuration_inside_is_the_one_that_was_given() {
    for (path, arguments) in SHIPPED.iter().filter(|(path, _)| !path.ends_with("environment.yaml")) {
        let objects = objects(&std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap());
        let found: Vec<&Json> = objects.iter().filter_map(configuration).collect();
        let [found] = found.as_slice() else { panic!("{path}: {} configurations", found.len()) };
        let given = std::fs::read(Path::new(ROOT).join(arguments[1])).unwrap();
        assert_eq!(**found, Tree::from_yaml(&given).unwrap().to_json(), "{path}");
        let stand_in = |_: &str| Some("a value of thirty-two bytes and more".to_owned());
        config::load(found.to_string().as_bytes(), Format::Json, &stand_in).unwrap();
    }
}

#[test]
fn a_gateway_is_a_client_to_istio_and_a_sidecar_a_server() {
    for (attach, mode, context) in
        [("gateway", "CLIENT", "GATEWAY"), ("sidecar", "SERVER", "SIDECAR_INBOUND")]
    {
        let yaml = render(&["istio", KSERVE, "--sha256", SHA256, "--attach", attach], "");
        let objects = objects(&yaml);
        assert_eq!(objects[0]["spec"]["match"], serde_json::json!([{ "mode": mode }]));
        assert_eq!(objects[0]["spec"]["failStrategy"], "FAIL_RELOAD");
        let listener = objects.iter().find(|object| object["metadata"]["name"] == "mlgate-kserve-listener");
        assert_eq!(listener.unwrap()["spec"]["configPatches"][0]["match"]["context"], context);
    }
}

#[test]
fn secrets_come_from_a_secret_and_both_halves_name_the_same_variables() {
    let full = "envoy/config/full.yaml";
    let istio = objects(&render(&["istio", full, "--sha256", SHA256], ""));
    let names = |list: &Json| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let vm = names(&istio[0]["spec"]["vmConfig"]["env"]);
    let given = std::fs::read(Path::new(ROOT).join(full)).unwrap();
    let (document, _) = config::read(&given, Format::Yaml).unwrap();
    let wanted: BTreeSet<&str> =
        config::findings::variables(&document).into_iter().map(|(_, name)| name).collect();
    assert_eq!(vm.iter().map(String::as_str).collect::<BTreeSet<_>>(), wanted);
    assert_eq!(vm.len(), wanted.len(), "each once: {vm:?}");
    assert!(
        istio[0]["spec"]["vmConfig"]["env"].as_array().unwrap().iter().all(|one| one["valueFrom"] == "HOST")
    );
    let patch = objects(&render(&["istio", full, "--environment", "--secret", "gate-keys"], ""));
    let container = &patch[0]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(names(&container["env"]), vm);
    for variable in container["env"].as_array().unwrap() {
        let key = &variable["valueFrom"]["secretKeyRef"];
        assert_eq!((&key["name"], &key["key"]), (&"gate-keys".into(), &variable["name"]));
    }
    let gateway = objects(&render(&["gateway", full, "--sha256", SHA256], ""));
    let pod = &gateway[0]["spec"]["provider"]["kubernetes"]["envoyDeployment"]["container"]["env"];
    assert_eq!(names(pod), vm);
    assert_eq!(gateway[1]["spec"]["wasm"][0]["env"]["hostKeys"], serde_json::json!(vm));
}

#[test]
fn a_held_body_is_said_in_envoys_own_words() {
    let held = std::fs::read_to_string(Path::new(ROOT).join("envoy/config/full.yaml"))
        .unwrap()
        .replace("peek: stream", "peek: hold");
    let istio = objects(&render(&["istio", "-", "--sha256", SHA256], &held));
    assert_eq!(istio[0]["kind"], "EnvoyFilter");
    let plugin = &istio[0]["spec"]["configPatches"][0]["patch"]["value"]["typed_config"]["config"];
    assert_eq!(plugin["allow_on_headers_stop_iteration"], true);
    assert_eq!(plugin["vm_config"]["vm_id"], "mlgate-gate");
    let said = refused(&["istio", "-", "--kind", "wasm-plugin"], &held);
    assert!(
        said.contains("`peek: hold` needs a word that only an EnvoyFilter has: leave `--kind` out"),
        "{said}"
    );
    let gateway = render(&["gateway", "-", "--sha256", SHA256], &held);
    assert!(gateway.contains("path: typed_config/config/allow_on_headers_stop_iteration\n"), "{gateway}");
}

#[test]
fn each_cluster_that_is_named_is_added_but_for_those_of_the_mesh() {
    let full = std::fs::read_to_string(Path::new(ROOT).join("envoy/config/full.yaml")).unwrap();
    let clusters = |objects: Vec<Json>| -> Vec<String> {
        let patches = objects.iter().filter(|object| {
            object["metadata"]["name"].as_str().is_some_and(|name| name.ends_with("-clusters"))
        });
        patches
            .flat_map(|object| {
                let istio = object["spec"]["configPatches"].as_array().into_iter().flatten();
                let gateway = object["spec"]["jsonPatches"].as_array().into_iter().flatten();
                istio.map(|one| &one["patch"]["value"]).chain(gateway.map(|one| &one["operation"]["value"]))
            })
            .map(|cluster| cluster["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let (document, _) = config::read(full.as_bytes(), Format::Yaml).unwrap();
    let mut wanted: Vec<String> =
        mlgate::envoy::clusters::named(&document).iter().map(|one| one.name.to_owned()).collect();
    wanted.sort();
    wanted.dedup();
    for target in ["istio", "gateway"] {
        let mut added = clusters(objects(&render(&[target, "-", "--sha256", SHA256], &full)));
        added.sort();
        assert_eq!(added, wanted, "{target}");
    }
    let meshed = full.replace("cluster: audit", "cluster: \"outbound|4480||audit.ml.svc.cluster.local\"");
    let added = clusters(objects(&render(&["istio", "-", "--sha256", SHA256], &meshed)));
    assert_eq!(added.len() + 1, wanted.len(), "{added:?}");
}

#[test]
fn an_object_that_is_too_large_is_said_with_its_size() {
    let kserve = std::fs::read_to_string(Path::new(ROOT).join(KSERVE)).unwrap();
    for (models, said) in
        [(4_000, "`kubectl apply` takes it with `--server-side` alone"), (20_000, "etcd takes 1572864")]
    {
        let more: String = (0..models)
            .map(|number| format!("    - {{ type: model, id: model-{number}, org: acme, stage: production, note: \"{:040}\" }}\n", 0))
            .collect();
        let large =
            kserve.replace("resources:\n  catalogue:", &format!("resources:\n  catalogue:\n{more}   "));
        let large = large.replace("    # InferenceServices of the namespace `ml`\n", "");
        let path = file("large-manifest.yaml", &large);
        let output = mlgate(&["render", "istio", path.to_str().unwrap(), "--sha256", SHA256], "");
        let warned = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{warned}");
        assert!(warned.contains(said) && warned.contains("WasmPlugin `mlgate-kserve` has "), "{warned}");
    }
}

#[test]
fn what_is_not_pinned_is_said() {
    for target in ["istio", "gateway"] {
        let output = mlgate(&["render", target, KSERVE], "");
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stderr).contains("the module is not pinned"), "{target}");
    }
}

#[test]
fn what_an_object_cannot_say_is_refused() {
    for (arguments, said) in [
        (vec!["istio", KSERVE, "--profile", "a:80/b=nobody"], "no profile is called `nobody`"),
        (
            vec!["istio", KSERVE, "--kind", "envoy-filter", "--pull-secret", "s"],
            "an EnvoyFilter cannot name one",
        ),
        (vec!["gateway", KSERVE, "--url", "file:///f.wasm"], "delivers no file"),
        (vec!["istio", KSERVE, "--url", "registry.example/mlgate"], "not `oci://IMAGE`"),
        (vec!["istio", KSERVE, "--sha256", "00"], "not 64 of `0-9a-f`"),
        (vec!["istio", KSERVE, "--name", "Gate"], "not 1 to 63 of `a-z`"),
        (vec!["istio", KSERVE, "--profile", "a:80=health"], "not `HOST:PORT/ROUTE=PROFILE`"),
        (vec!["istio", KSERVE, "--selector", "istio"], "not `KEY=VALUE`"),
        (vec!["gateway", "-"], "see `mlgate check`"),
    ] {
        let error = refused(&arguments, "version: 1\n");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn all_objects_are_one_list_in_json() {
    for (path, arguments) in SHIPPED {
        let json = render(&[arguments, &["--format", "json"]].concat(), "");
        let json: Json = serde_json::from_str(&json).unwrap();
        assert_eq!(json["kind"], "List");
        let yaml = std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
        assert_eq!(json["items"], Json::from(objects(&yaml)), "{path}");
    }
}
