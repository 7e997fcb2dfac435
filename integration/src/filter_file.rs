//! The first filter of a bootstrap as a file that Envoy watches (ECDS): a push of it reaches open connections too, and no
//! listener is drained.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::{Stack, envoy};

/// Where the filter stands in a bootstrap of one listener.
const FILTER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0";
/// The watched file.
const FILE: &str = "filter.json";

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
