//! Objects of Kubernetes, shipped and rendered: names and types of fields against our schemas, and what they say of Envoy by
//! the real one, put together as Istio and Envoy Gateway do.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, anyhow, bail};
use mlgate::config::tree::Tree;
use mlgate::config::{self, Format};
use mlgate_integration::{EnvoyBuilder, Stack, artifacts, client};
use serde_json::{Map, Value, json};

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const MANAGER: &str = "envoy.filters.network.http_connection_manager";
const SHA256: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn what_is_shipped_has_the_fields_and_types_of_its_kind() -> anyhow::Result<()> {
    let mut count: usize = 0;
    for folder in ["istio", "gateway"] {
        for entry in fs::read_dir(artifacts::root().join("envoy").join(folder))? {
            let path = entry?.path();
            for object in fs::read_to_string(&path)?.split("\n---\n") {
                let tree = Tree::from_yaml(object.as_bytes()).map_err(|faults| anyhow!("{faults:?}"))?;
                check(&tree.to_json()).with_context(|| path.display().to_string())?;
                count = count.saturating_add(1);
            }
        }
    }
    assert!(count > 20, "only {count} objects");
    Ok(())
}

#[test]
fn a_field_that_no_kind_has_is_found() -> anyhow::Result<()> {
    let gate = rendered(&["istio", "envoy/config/small.yaml"])?;
    for (pointer, name, value) in [
        ("/0/spec", "failStrateg", json!("FAIL_RELOAD")),
        ("/0/spec", "failStrategy", json!("RELOAD")),
        ("/0/spec", "sha256", json!("sha256:00")),
        ("/0/spec/vmConfig/env/0", "value", json!("in the open")),
        ("/1/spec/configPatches/0/patch", "operation", json!("INSERT_FIRST")),
        ("/1/spec/configPatches/0", "apply_to", json!("CLUSTER")),
        ("/2/metadata", "name", json!("A Gate")),
    ] {
        let mut broken = Value::from(gate.clone());
        *member(&mut broken, pointer, name)? = value;
        let objects = broken.as_array().context("no list")?;
        assert!(objects.iter().any(|object| check(object).is_err()), "{pointer}/{name} is not found");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_rendered_is_accepted_as_istio_delivers_it() -> anyhow::Result<()> {
    let stack = Stack::create("istio")?;
    let authority = stack.write("ca.crt", authority()?)?;
    let authority = authority.to_str().context("a path of text")?;
    for (config, more) in [
        ("kserve", vec!["--profile", "models.example:80/rest=health"]),
        ("full", vec![]),
        ("full", vec!["--attach", "sidecar"]),
        ("small", vec!["--kind", "traffic-extension"]),
        ("medium", vec!["--kind", "envoy-filter"]),
        ("large", vec!["--kind", "envoy-filter", "--url", "file:///opt/mlgate.wasm"]),
        ("demo", vec!["--attach", "sidecar", "--kind", "envoy-filter"]),
        ("hold", vec![]),
    ] {
        let path = config_of(&stack, config)?;
        let objects = rendered(&[&["istio", &path, "--server-ca", authority], more.as_slice()].concat())?;
        for object in &objects {
            check(object).with_context(|| format!("{config} {more:?}"))?;
        }
        let (bootstrap, discovered) = istio(&stack, &objects)?;
        accepted(&stack, &format!("{config} {more:?}"), bootstrap).await?;
        if let Some(discovered) = discovered {
            accepted(&stack, &format!("{config} {more:?}, discovered"), discovered).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_rendered_is_accepted_as_envoy_gateway_delivers_it() -> anyhow::Result<()> {
    let stack = Stack::create("gateway")?;
    let authority = stack.write("ca.crt", authority()?)?;
    let authority = authority.to_str().context("a path of text")?;
    for (config, more) in [
        ("kserve", vec![]),
        ("full", vec!["--listener", "http", "--listener", "https"]),
        ("hold", vec!["--url", "https://files.example/mlgate.wasm"]),
    ] {
        let path = config_of(&stack, config)?;
        let objects = rendered(&[&["gateway", &path, "--server-ca", authority], more.as_slice()].concat())?;
        for object in &objects {
            check(object).with_context(|| format!("{config} {more:?}"))?;
        }
        let bootstrap = gateway(&objects)?;
        let plugin = bootstrap.pointer(&format!("{FILTERS}/0")).context("no filter")?;
        let word = |name: &str| plugin.pointer(&format!("/typed_config/config/{name}"));
        assert_eq!(word("failure_policy"), Some(&json!("FAIL_RELOAD")), "{config}");
        assert_eq!(word("allow_on_headers_stop_iteration").is_some(), config == "hold");
        assert_eq!(plugin.get("disabled"), Some(&json!(false)), "{config}: a route could switch it off");
        accepted(&stack, &format!("{config} {more:?}"), bootstrap).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_of_istio_decides_and_counts() -> anyhow::Result<()> {
    let stack = Stack::create("istio-runs")?;
    let objects = rendered(&[
        "istio",
        "envoy/config/kserve.yaml",
        "--cluster",
        "audit=127.0.0.1:9",
        "--profile",
        "models.example:80/health=health",
    ])?;
    let (bootstrap, _) = istio(&stack, &objects)?;
    let envoy = with_variables(EnvoyBuilder::new().whole(bootstrap))?.start(&stack).await?;
    let path = "/v1/models/fraud-detector:predict";
    let refused = client::post(envoy.address(), path, "application/json", "{}").await?;
    assert_eq!(refused.status, 401, "{}", refused.text());
    let healthy = client::get(envoy.address(), "/healthz").await?;
    assert_eq!(
        (healthy.status, healthy.text()),
        (200, "fine".to_owned()),
        "the route's profile does not apply"
    );
    let metrics = envoy.admin_get("/stats/prometheus").await?;
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("mlgate_requests_total{") && line.contains("credential_missing"));
    let counted = counted.with_context(|| format!("no metric in {metrics}"))?;
    for label in ["gate=\"kserve\"", "decision=\"denied\"", "profile=\"default\""] {
        assert!(counted.contains(label), "{counted}");
    }
    envoy.check_unharmed().await
}

// === what is rendered ===

fn rendered(arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
    let output = Command::new(artifacts::command()?)
        .arg("render")
        .args(arguments)
        .args(["--sha256", SHA256, "--format", "json"])
        .current_dir(artifacts::root())
        .output()?;
    if !output.status.success() {
        bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let list: Value = serde_json::from_slice(&output.stdout)?;
    list.get("items").and_then(Value::as_array).cloned().context("no list")
}

/// The path of an example; `hold` is the full one that holds bodies.
fn config_of(stack: &Stack, name: &str) -> anyhow::Result<String> {
    if name != "hold" {
        return Ok(format!("envoy/config/{name}.yaml"));
    }
    let full = fs::read_to_string(artifacts::root().join("envoy/config/full.yaml"))?;
    let path = stack.write("hold.yaml", full.replace("peek: stream", "peek: hold"))?;
    Ok(path.to_str().context("a path of text")?.to_owned())
}

/// Holds an object to the schema of its kind.
fn check(object: &Value) -> anyhow::Result<()> {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or("patch");
    let path = artifacts::root().join(format!("envoy/schema/kubernetes/{kind}.schema.json"));
    let schema: Value =
        serde_json::from_slice(&fs::read(&path).with_context(|| path.display().to_string())?)?;
    let validator = jsonschema::validator_for(&schema).map_err(|error| anyhow!("{kind}: {error}"))?;
    let faults: Vec<String> =
        validator.iter_errors(object).map(|error| format!("{}: {error}", error.instance_path())).collect();
    if !faults.is_empty() {
        bail!("{kind}: {}", faults.join("\n"));
    }
    Ok(())
}

// === what becomes of it ===

const FILTERS: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";

/// A proxy as Istio and Envoy Gateway make them, before anything of ours: a gateway's listener is outbound to Istio.
fn proxy() -> Value {
    json!({
        "node": {"id": "router~10.0.0.1~gateway.istio-system~istio-system.svc.cluster.local", "cluster": "gateway"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "stats_config": {"stats_tags": [{"tag_name": "cluster_name", "regex": "^cluster\\.((.+?(\\..+?\\.svc\\.cluster\\.local)?)\\.)"}]},
        "static_resources": {
            "clusters": [],
            "listeners": [{
                "name": "0.0.0.0_8080",
                "traffic_direction": "OUTBOUND",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                "filter_chains": [{"filters": [{
                    "name": MANAGER,
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "outbound_0.0.0.0_8080",
                        "use_remote_address": true,
                        "normalize_path": true,
                        "http_filters": [{
                            "name": "envoy.filters.http.router",
                            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                        }],
                        "route_config": {"name": "http.8080", "virtual_hosts": [{
                            "name": "models.example:80",
                            "domains": ["*"],
                            "routes": [
                                {"name": "health", "match": {"path": "/healthz"},
                                 "direct_response": {"status": 200, "body": {"inline_string": "fine"}}},
                                {"name": "rest", "match": {"prefix": "/"}, "direct_response": {"status": 204}},
                            ],
                        }]},
                    },
                }]}],
            }],
        },
    })
}

/// What Istio makes of its objects: a bootstrap, and a second one where the filter is discovered.
fn istio(stack: &Stack, objects: &[Value]) -> anyhow::Result<(Value, Option<Value>)> {
    let mut whole = proxy();
    let mut discovered = None;
    let mut extension = None;
    for object in objects {
        let spec = object.get("spec").context("no spec")?;
        if object.get("kind") != Some(&json!("EnvoyFilter")) {
            let plugin = spec.get("wasm").unwrap_or(spec);
            insert(&mut whole, 0, plugin_of_istio(plugin)?)?;
            continue;
        }
        for patch in spec.get("configPatches").and_then(Value::as_array).into_iter().flatten() {
            let value = patch.pointer("/patch/value").context("no value")?;
            let named = |pointer: &str| patch.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            match named("/applyTo") {
                "CLUSTER" => list(&mut whole, "/static_resources/clusters")?.push(value.clone()),
                "LISTENER" => merge(at(&mut whole, "/static_resources/listeners/0")?, value),
                "NETWORK_FILTER" => {
                    let filter = at(&mut whole, "/static_resources/listeners/0/filter_chains/0/filters/0")?;
                    assert_eq!(named("/match/listener/filterChain/filter/name"), MANAGER);
                    merge(filter, value);
                }
                "HTTP_ROUTE" => {
                    let hosts = FILTERS.replace("http_filters", "route_config/virtual_hosts");
                    let host =
                        named_in(at(&mut whole, &hosts)?, named("/match/routeConfiguration/vhost/name"))?;
                    let routes = host.get_mut("routes").context("no routes")?;
                    merge(named_in(routes, named("/match/routeConfiguration/vhost/route/name"))?, value);
                }
                "BOOTSTRAP" => merge(&mut whole, value),
                "EXTENSION_CONFIG" => {
                    let mut value = value.clone();
                    *at(&mut value, "/typed_config/config/vm_config/code")? = local()?;
                    extension = Some(value);
                }
                "HTTP_FILTER" => {
                    let found = extension.clone().context("the filter comes before its place")?;
                    assert_eq!(found.get("name"), value.get("name"));
                    insert(&mut whole, 0, found.clone())?;
                    let mut place = value.clone();
                    *at(&mut place, "/config_discovery/config_source")? = json!({"path_config_source": {"path": extension_file(stack, &found)?}, "resource_api_version": "V3"});
                    discovered = Some(place);
                }
                other => bail!("nothing is known of {other}"),
            }
        }
    }
    let second = discovered
        .map(|place| {
            let mut second = whole.clone();
            *at(&mut second, &format!("{FILTERS}/0"))? = place;
            anyhow::Ok(second)
        })
        .transpose()?;
    Ok((whole, second))
}

/// As Istio's control plane translates a plugin.
fn plugin_of_istio(plugin: &Value) -> anyhow::Result<Value> {
    let mut keys = Vec::new();
    for variable in plugin.pointer("/vmConfig/env").and_then(Value::as_array).into_iter().flatten() {
        assert_eq!(variable.get("valueFrom"), Some(&json!("HOST")));
        keys.push(variable.get("name").context("no name")?.clone());
    }
    Ok(json!({"name": "istio-system.gate", "typed_config": {"@type": WASM, "config": {
        "name": "istio-system.gate",
        "root_id": plugin.get("pluginName"),
        "failure_policy": plugin.get("failStrategy"),
        "configuration": string(plugin.get("pluginConfig").context("no configuration")?),
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": local()?,
            "environment_variables": {"host_env_keys": keys},
        },
    }}}))
}

/// What Envoy Gateway makes of its objects.
fn gateway(objects: &[Value]) -> anyhow::Result<Value> {
    let of =
        |kind: &'static str| objects.iter().filter(move |object| object.get("kind") == Some(&json!(kind)));
    let mut whole = proxy();
    let policy = of("EnvoyExtensionPolicy").next().context("no policy")?;
    let name = |field: &str| {
        policy.pointer(&format!("/metadata/{field}")).and_then(Value::as_str).unwrap_or_default()
    };
    let extension = format!("envoyextensionpolicy/{}/{}/wasm/0", name("namespace"), name("name"));
    let wasm = policy.pointer("/spec/wasm/0").context("no module")?;
    let filter = format!("envoy.filters.http.wasm/{extension}");
    insert(
        &mut whole,
        0,
        json!({"name": filter, "disabled": true, "typed_config": {"@type": WASM, "config": {
            "name": wasm.get("name"),
            "root_id": wasm.get("rootID"),
            "configuration": string(wasm.get("config").context("no configuration")?),
            "vm_config": {
                "vm_id": extension,
                "runtime": "envoy.wasm.runtime.v8",
                "code": local()?,
                "environment_variables": {"host_env_keys": wasm.pointer("/env/hostKeys")},
            },
        }}}),
    )?;
    let select = format!("..http_filters[?(@.name=='{filter}')]");
    for object in of("EnvoyPatchPolicy") {
        for patch in object.pointer("/spec/jsonPatches").and_then(Value::as_array).into_iter().flatten() {
            let field = |pointer: &str| patch.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let value = patch.pointer("/operation/value").context("no value")?.clone();
            assert_eq!(field("/operation/op"), "add");
            if field("/type").ends_with("cluster.v3.Cluster") {
                assert_eq!((Some(&json!(field("/name"))), field("/operation/path")), (value.get("name"), ""));
                list(&mut whole, "/static_resources/clusters")?.push(value);
                continue;
            }
            assert_eq!(field("/operation/jsonPath"), select);
            let (holder, word) =
                field("/operation/path").rsplit_once('/').unwrap_or(("", field("/operation/path")));
            let holder = if holder.is_empty() { String::new() } else { format!("/{holder}") };
            *member(&mut whole, &format!("{FILTERS}/0{holder}"), word)? = value;
        }
    }
    let proxy = of("EnvoyProxy").next().context("no proxy")?;
    let text = proxy.pointer("/spec/bootstrap/value").and_then(Value::as_str).context("no bootstrap")?;
    let more = Tree::from_yaml(text.as_bytes()).map_err(|faults| anyhow!("{faults:?}"))?;
    merge(&mut whole, &more.to_json());
    Ok(whole)
}

async fn accepted(stack: &Stack, what: &str, bootstrap: Value) -> anyhow::Result<()> {
    let (status, log) = with_variables(EnvoyBuilder::new().whole(bootstrap))?.validate(stack).await?;
    assert!(status.success() && log.contains("OK"), "{what}: {log}");
    Ok(())
}

/// With a value for each variable of the example that has every word.
fn with_variables(builder: EnvoyBuilder) -> anyhow::Result<EnvoyBuilder> {
    let full = fs::read(artifacts::root().join("envoy/config/full.yaml"))?;
    let (document, _) = config::read(&full, Format::Yaml).map_err(|faults| anyhow!("{faults:?}"))?;
    let names = config::findings::variables(&document).into_iter().map(|(_, name)| name);
    Ok(names.fold(builder, |builder, name| {
        builder.environment(name, "a secret of this test, which is longer than 32 bytes")
    }))
}

fn authority() -> anyhow::Result<String> {
    let key = rcgen::KeyPair::generate()?;
    Ok(rcgen::CertificateParams::new(vec!["ca.example".to_owned()])?.self_signed(&key)?.pem())
}

/// The module as an agent leaves it for Envoy.
fn local() -> anyhow::Result<Value> {
    Ok(json!({"local": {"filename": artifacts::filter_wasm()?}}))
}

fn string(configuration: &Value) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration.to_string()})
}

fn extension_file(stack: &Stack, extension: &Value) -> anyhow::Result<Box<Path>> {
    let mut resource = json!({"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"});
    merge(&mut resource, extension);
    Ok(stack.write("extension.json", json!({"resources": [resource]}).to_string())?.into())
}

// === trees ===

fn at<'a>(tree: &'a mut Value, pointer: &str) -> anyhow::Result<&'a mut Value> {
    tree.pointer_mut(pointer).with_context(|| format!("nothing at {pointer}"))
}

fn list<'a>(tree: &'a mut Value, pointer: &str) -> anyhow::Result<&'a mut Vec<Value>> {
    at(tree, pointer)?.as_array_mut().with_context(|| format!("no list at {pointer}"))
}

/// A member, made where there is none.
fn member<'a>(tree: &'a mut Value, pointer: &str, name: &str) -> anyhow::Result<&'a mut Value> {
    let holder = at(tree, pointer)?.as_object_mut().with_context(|| format!("no object at {pointer}"))?;
    Ok(holder.entry(name).or_insert(Value::Null))
}

fn named_in<'a>(items: &'a mut Value, name: &str) -> anyhow::Result<&'a mut Value> {
    let mut items = items.as_array_mut().context("no list")?.iter_mut();
    items
        .find(|item| item.get("name") == Some(&json!(name)))
        .with_context(|| format!("nothing is called {name}"))
}

fn insert(whole: &mut Value, place: usize, filter: Value) -> anyhow::Result<()> {
    list(whole, FILTERS)?.insert(place, filter);
    Ok(())
}

/// As protobuf merges: lists grow, objects grow together, the rest is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            let from: &Map<String, Value> = from;
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}
