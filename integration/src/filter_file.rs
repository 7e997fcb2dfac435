//! The first filter of a bootstrap as a file that Envoy watches (ECDS): a push of it reaches open connections too, and no
//! listener is drained.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::{Envoy, Stack, envoy};

/// How often Envoy has taken and refused a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushes {
    /// `config_reload`: in effect since.
    pub taken: u64,
    /// `config_fail`: the one before goes on.
    pub refused: u64,
}

/// Where the filter stands in a bootstrap of one listener.
const FILTER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0";
/// The watched file.
const FILE: &str = "filter.json";
/// What Envoy's statistics of a watched filter have in common.
const STATISTICS: &str = "extension_config_discovery.http_filter.";
const BOUND: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// Takes the filter out of the bootstrap into a file, and leaves the file's name there.
pub fn take_out(stack: &Stack, bootstrap: &mut Value) -> anyhow::Result<()> {
    let path = push(stack, bootstrap)?;
    *bootstrap.pointer_mut(FILTER).context("no filter")? = json!({
        "name": "mlgate",
        "config_discovery": {
            "config_source": {"path_config_source": {"path": path}, "resource_api_version": "V3"},
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
        },
    });
    Ok(())
}

/// Gives the filter of a bootstrap another document.
pub fn configure(bootstrap: &mut Value, document: &Value) -> anyhow::Result<()> {
    let plugin = bootstrap.pointer_mut(&format!("{FILTER}/typed_config/config")).context("no filter")?;
    let text =
        json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": document.to_string()});
    plugin.as_object_mut().context("no plugin")?.insert("configuration".to_owned(), text);
    Ok(())
}

/// Pushes the filter of another bootstrap.
pub fn push(stack: &Stack, bootstrap: &Value) -> anyhow::Result<Box<Path>> {
    let mut bootstrap = bootstrap.clone();
    envoy::for_this_envoy(&mut bootstrap)?;
    let filter = bootstrap.pointer(FILTER).context("no filter")?;
    let resource = json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "mlgate",
        "typed_config": filter.get("typed_config").context("no typed configuration")?,
    });
    Ok(stack.write(FILE, serde_json::to_vec(&json!({"resources": [resource]}))?)?.into())
}

/// Pushes it and waits until Envoy has taken it (`Ok(true)`) or refused it (`Ok(false)`).
pub async fn update(envoy: &Envoy, stack: &Stack, bootstrap: &Value) -> anyhow::Result<bool> {
    let (before, start) = (pushes(envoy).await?, Instant::now());
    push(stack, bootstrap)?;
    while start.elapsed() < BOUND {
        let now = pushes(envoy).await?;
        if now != before {
            return Ok(now.refused == before.refused);
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("the push was neither taken nor refused within {BOUND:?}\n{}", envoy.log()?)
}

/// What Envoy has counted.
pub async fn pushes(envoy: &Envoy) -> anyhow::Result<Pushes> {
    let counted = envoy.statistics(STATISTICS).await?;
    let sum = |what: &str| {
        let named = counted.iter().filter(|(name, _)| name.ends_with(what));
        named.fold(0_u64, |sum, (_, count)| sum.saturating_add(*count))
    };
    Ok(Pushes { taken: sum(".config_reload"), refused: sum(".config_fail") })
}
