//! Configurations of the built filter in the real Envoy: good ones in both forms, and bad ones.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken fixture should stop the test")]

use mlgate::config::{self, Format};
use mlgate::identity::api_key::ApiKey;
use mlgate_integration::{Cluster, EnvoyBuilder, ModelServer, Plugin, Route, Stack, artifacts, client};
use serde_json::{Value, json};

fn key(seed: u8) -> ApiKey {
    ApiKey::generate(&[seed; 64]).unwrap()
}

fn document(key: &ApiKey) -> Value {
    json!({
        "version": 1,
        "name": "gate",
        "consumers": [{
            "name": "user_1",
            "roles": ["scientist"],
            "credentials": {"api_keys": [{"id": key.id().to_string(), "digest": key.digest().to_string()}]},
        }],
        "resources": {"unlisted": "allow", "rules": [
            {"match": {"path": "/predict"}, "resource": {"type": "model", "id": "m"}, "action": "predict"},
        ]},
        "authorization": {"roles": {"scientist": {"permissions": ["predict"]}}},
        "limits": [{"name": "l", "key": ["principal"], "rates": {"default": [{"limit": 10, "window": "1h"}]}}],
        "audit": {"collector": {"cluster": "audit"}, "chain": {"keys": [{"id": "c1", "env": "CHAIN_KEY"}]}},
    })
}

/// Three faults: an unknown word, a role that does not exist, a variable that is missing. Forms come before meanings.
fn bad(key: &ApiKey) -> [(Value, usize); 2] {
    let mut form = document(key);
    form["limits"][0]["rate"] = json!(1);
    form["audit"]["chain"]["keys"][0]["env"] = json!(7);
    let mut meaning = document(key);
    meaning["consumers"][0]["roles"] = json!(["nobody"]);
    meaning["audit"]["chain"]["keys"][0]["env"] = json!("MISSING");
    [(form, 2), (meaning, 2)]
}

fn faults(document: &Value) -> Vec<String> {
    let environment = |name: &str| (name == "CHAIN_KEY").then(|| String::from("secret"));
    let faults = config::load(document.to_string().as_bytes(), Format::Json, &environment).unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

fn builder(model: &ModelServer, document: &Value) -> EnvoyBuilder {
    let plugin = Plugin::new("mlgate", artifacts::filter_wasm().unwrap())
        .configuration(document.to_string())
        .environment("CHAIN_KEY", "secret");
    EnvoyBuilder::new()
        .concurrency(2)
        .plugin(plugin)
        .cluster(Cluster::http1("model", model.address()))
        .cluster(Cluster::http1("audit", model.address()))
        .route(Route::prefix("/", "model"))
}

async fn status(envoy: &mlgate_integration::Envoy, key: &ApiKey) -> u16 {
    let request =
        http::Request::get("/predict").header("x-api-key", key.expose()).body(bytes::Bytes::new()).unwrap();
    client::call(envoy.address(), request).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_does_not_start_on_a_bad_document_and_says_every_fault() -> anyhow::Result<()> {
    let stack = Stack::create("bad-configuration")?;
    let model = ModelServer::start().await?;
    for (document, count) in bad(&key(1)) {
        let expected = faults(&document);
        assert_eq!(expected.len(), count, "{expected:?}");
        let log = builder(&model, &document).start_refused(&stack).await?;
        for fault in expected {
            assert!(log.contains(&fault), "the log lacks `{fault}`:\n{log}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_push_changes_nothing_and_a_good_one_takes_effect() -> anyhow::Result<()> {
    let stack = Stack::create("pushed-configuration")?;
    let model = ModelServer::start().await?;
    let (first, second) = (key(1), key(2));
    let mut envoy = builder(&model, &document(&first)).updatable().start(&stack).await?;
    assert_eq!((status(&envoy, &first).await, status(&envoy, &second).await), (200, 401));
    for (document, _) in bad(&second) {
        let text = document.to_string();
        assert!(!envoy.update(|_| builder(&model, &document).updatable()).await?, "accepted: {text}");
        let log = envoy.log()?;
        for fault in faults(&document) {
            assert!(log.contains(&fault), "the log lacks `{fault}`");
        }
        assert_eq!((status(&envoy, &first).await, status(&envoy, &second).await), (200, 401));
    }
    assert!(envoy.update(|_| builder(&model, &document(&second)).updatable()).await?);
    assert_eq!((status(&envoy, &first).await, status(&envoy, &second).await), (401, 200));
    envoy.check_unharmed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_may_be_a_protobuf_struct() -> anyhow::Result<()> {
    let stack = Stack::create("struct-configuration")?;
    let model = ModelServer::start().await?;
    let key = key(1);
    let as_struct = |bootstrap: &mut Value| {
        let mut changed = 0;
        visit(bootstrap, &mut |plugin| {
            let text = plugin["configuration"]["value"].as_str().unwrap();
            let value: Value = serde_json::from_str(text).unwrap();
            plugin["configuration"] =
                json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": value});
            changed += 1;
        });
        assert_eq!(changed, 1);
    };
    let envoy = builder(&model, &document(&key)).edit(as_struct).start(&stack).await?;
    assert_eq!(status(&envoy, &key).await, 200);
    envoy.check_unharmed().await
}

/// Every object that has a `configuration`.
fn visit(value: &mut Value, act: &mut dyn FnMut(&mut Value)) {
    if value.get("configuration").is_some() {
        act(value);
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| visit(item, act)),
        Value::Object(members) => members.values_mut().for_each(|member| visit(member, act)),
        _ => {}
    }
}
