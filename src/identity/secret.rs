//! Secret keys of the environment: peppers, chain keys, digest keys, keys of shared values.

use std::fmt;

use crate::config::faults::Faults;
use crate::identity::spec::EnvKeySpec;

/// Bytes that no log, event or error may show: the only way to them is [`Secret::expose`].
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// A secret and the id by which digests and events name it.
#[derive(Clone, Debug)]
pub struct NamedSecret {
    /// 1 to 32 of `[0-9A-Za-z_-]`.
    pub id: String,
    /// The key itself.
    pub secret: Secret,
}

/// The longest id of a key, in bytes.
pub const MAX_KEY_ID: usize = 32;

// === impl Secret ===

impl Secret {
    /// Takes the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for a MAC. Never pass them on.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Compiles a list of keys, found at `pointer`, whose values `environment` holds. Duplicate or malformed ids and
/// variables that are missing or empty are faults; those at fault are left out.
pub fn compile_keys(
    specs: &[EnvKeySpec],
    environment: &dyn Fn(&str) -> Option<String>,
    pointer: &str,
    faults: &mut Faults,
) -> Vec<NamedSecret> {
    let mut keys: Vec<NamedSecret> = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let id = format!("{pointer}/{index}/id");
        if !is_key_id(&spec.id) {
            faults.at(
                id,
                format!("`{}` is not the id of a key", spec.id),
                "write 1 to 32 letters, digits, `_` and `-`",
            );
        } else if specs.iter().take(index).any(|earlier| earlier.id == spec.id) {
            faults.at(id, format!("a second key has the id `{}`", spec.id), "give each key its own id");
        }
        match environment(&spec.env).filter(|value| !value.is_empty()) {
            Some(value) => keys.push(NamedSecret { id: spec.id.clone(), secret: Secret::new(value) }),
            None => faults.at(
                format!("{pointer}/{index}/env"),
                format!("the environment variable `{}` is missing or empty", spec.env),
                "pass it to the VM (`environment_variables` of the Wasm configuration), or to the command with `--env`",
            ),
        }
    }
    keys
}

fn is_key_id(id: &str) -> bool {
    (1..=MAX_KEY_ID).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: &str, env: &str) -> EnvKeySpec {
        EnvKeySpec { id: id.into(), env: env.into() }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let key = NamedSecret { id: String::from("p1"), secret: Secret::new("hunter2") };
        assert_eq!(format!("{key:?}"), r#"NamedSecret { id: "p1", secret: Secret(..) }"#);
    }

    #[test]
    fn missing_empty_doubled_and_malformed_keys_are_faults() {
        let environment = |name: &str| match name {
            "GOOD" => Some(String::from("k")),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let specs =
            [spec("a", "GOOD"), spec("b", "EMPTY"), spec("a", "GOOD"), spec("c:d", "GOOD"), spec("e", "NO")];
        let mut faults = Faults::default();
        let keys = compile_keys(&specs, &environment, "/k", &mut faults);
        let places: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(places, ["/k/1/env", "/k/2/id", "/k/3/id", "/k/4/env"]);
        assert_eq!(keys.first().map(|key| key.secret.expose()), Some(b"k".as_slice()));
    }
}
