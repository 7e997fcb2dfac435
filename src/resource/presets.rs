//! Built-in allow-lists of methods and paths. What a preset does not name stays unknown and is denied: multipart
//! endpoints (audio, image edits, files), whose model cannot be read safely, are left out on purpose.

use super::rules::BODY_MODEL;
use super::{CATALOGUE, MODEL};

/// One rule of a preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresetRule {
    /// The method.
    pub method: &'static str,
    /// The path, with captures.
    pub path: &'static str,
    /// The type of the resource.
    pub kind: &'static str,
    /// Its id, with captures.
    pub id: &'static str,
    /// The action.
    pub action: &'static str,
}

/// The rules of a preset; `None` when there is none of this name.
pub fn preset(name: &str) -> Option<&'static [PresetRule]> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, rules)| *rules)
}

/// The names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

const PRESETS: &[(&str, &[PresetRule])] = &[("kserve_v1", KSERVE_V1), ("openai", OPENAI)];

/// KServe's V1 data plane, which TensorFlow Serving shares: the model is in the path.
const KSERVE_V1: &[PresetRule] = &[
    LIST,
    READ,
    on_model("POST", "/v1/models/{model}:predict", "{model}", "predict"),
    on_model("POST", "/v1/models/{model}:explain", "{model}", "explain"),
];

/// The JSON endpoints of the OpenAI API, which vLLM, Ollama and others serve: the model is in the body.
const OPENAI: &[PresetRule] = &[
    on_model("POST", "/v1/chat/completions", BODY_MODEL, "predict"),
    on_model("POST", "/v1/completions", BODY_MODEL, "predict"),
    on_model("POST", "/v1/embeddings", BODY_MODEL, "predict"),
    on_model("POST", "/v1/moderations", BODY_MODEL, "predict"),
    on_model("POST", "/v1/responses", BODY_MODEL, "predict"),
    LIST,
    READ,
];

const LIST: PresetRule =
    PresetRule { method: "GET", path: "/v1/models", kind: CATALOGUE, id: "models", action: "list" };

const READ: PresetRule = on_model("GET", "/v1/models/{model}", "{model}", "read");

const fn on_model(
    method: &'static str,
    path: &'static str,
    id: &'static str,
    action: &'static str,
) -> PresetRule {
    PresetRule { method, path, kind: MODEL, id, action }
}
