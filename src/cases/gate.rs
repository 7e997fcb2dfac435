//! A configuration becomes a gate whose secrets were made for this run, or from a seed: for each API key that the
//! document lists by its id a new key, its digest written in place of the documented one, a value for each variable that
//! it names, and for each issuer a key that signs the tokens of a case file.

use std::collections::BTreeMap;
#[cfg(feature = "cli")]
use std::path::Path;

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::audit::chain::hex;
use crate::cases::issuer::{self, Issuer, TokenSpec};
use crate::cases::token::Wanted;
use crate::config::tree::Tree;
use crate::identity::api_key::{ApiKey, RANDOM_BYTES};
use crate::identity::secret::Secret;
use crate::time::UnixTime;

/// What all secrets of a gate are made from.
pub type Seed = [u8; 32];

/// See the module.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The document, with the digests of [`Self::keys`].
    pub document: Json,
    /// Key id to the whole key.
    pub keys: BTreeMap<String, String>,
    /// Variables of the VM.
    pub environment: BTreeMap<String, String>,
    /// Tokens of the case file, by name.
    pub tokens: BTreeMap<String, String>,
    issuers: Vec<Issuer>,
    seed: Seed,
}

// === impl Gate ===

impl Gate {
    /// Reads a configuration in YAML and makes secrets that nobody else has.
    ///
    /// # Errors
    /// What cannot be read. What the document means is the filter's to judge.
    #[cfg(feature = "cli")]
    pub fn read(config: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(config).map_err(|error| format!("{}: {error}", config.display()))?;
        Self::parse(&bytes, random()?).map_err(|error| format!("{}: {error}", config.display()))
    }

    /// Makes secrets of a document that nobody else has.
    ///
    /// # Errors
    /// A key whose id is none, or no randomness.
    #[cfg(feature = "cli")]
    pub fn of(document: Json) -> Result<Self, String> {
        Self::seeded(document, random()?)
    }

    /// Reads a configuration in YAML and makes the secrets of a seed.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn parse(yaml: &[u8], seed: Seed) -> Result<Self, String> {
        let tree = Tree::from_yaml(yaml).map_err(|faults| format!("{faults:?}"))?;
        Self::seeded(tree.to_json(), seed)
    }

    /// Makes the secrets of a document: the same seed, the same secrets.
    ///
    /// # Errors
    /// A key whose id is none.
    pub fn seeded(document: Json, seed: Seed) -> Result<Self, String> {
        let mut gate = Self {
            document,
            keys: BTreeMap::new(),
            environment: BTreeMap::new(),
            tokens: BTreeMap::new(),
            issuers: Vec::new(),
            seed,
        };
        let mut names = Vec::new();
        variables(&gate.document, &mut names);
        for name in names {
            let value = hex(&gate.derived::<32>(&format!("env {name}")));
            gate.environment.insert(name, value);
        }
        let peppers = peppers(&gate.document);
        let mut document = std::mem::take(&mut gate.document);
        let consumers = document.pointer_mut("/consumers").and_then(Json::as_array_mut);
        let keys = consumers
            .into_iter()
            .flatten()
            .filter_map(|consumer| consumer.pointer_mut("/credentials/api_keys").and_then(Json::as_array_mut))
            .flatten();
        for spec in keys {
            let id = spec.get("id").and_then(Json::as_str).unwrap_or_default().to_owned();
            let key = gate.key(&id, "right")?;
            let documented = spec.get("digest").and_then(Json::as_str).unwrap_or_default();
            let pepper = documented.strip_prefix("hmac-sha256:").and_then(|rest| rest.split(':').next());
            let digest = match pepper {
                None => key.digest(),
                Some(pepper) => {
                    let value = peppers.get(pepper).and_then(|name| gate.environment.get(name));
                    let value = value.ok_or_else(|| format!("no pepper is called `{pepper}`"))?;
                    key.keyed_digest(pepper, &Secret::new(value.as_bytes()))
                }
            };
            if let Json::Object(fields) = spec {
                fields.insert("digest".to_owned(), Json::String(digest.to_string()));
            }
            gate.keys.insert(id, key.expose().to_owned());
        }
        let providers = document.pointer_mut("/authentication/jwt/providers").and_then(Json::as_array_mut);
        for (number, provider) in providers.into_iter().flatten().enumerate() {
            let secret = gate.derived(&format!("issuer {number}"));
            gate.issuers.extend(Issuer::join(provider, secret));
        }
        gate.document = document;
        Ok(gate)
    }

    /// Signs what a case file says of its tokens, as of `now`.
    ///
    /// # Errors
    /// A token of a provider that the gate does not know by a local JWK Set.
    pub fn sign(&mut self, specs: &BTreeMap<String, TokenSpec>, now: UnixTime) -> Result<(), String> {
        for (name, spec) in specs {
            let issuer = self.issuers.iter().find(|issuer| issuer.name == spec.provider);
            let issuer = issuer.ok_or_else(|| format!("no tokens of `{}` can be signed", spec.provider))?;
            self.tokens.insert(name.clone(), issuer.sign(spec, now)?);
        }
        Ok(())
    }

    /// Replaces placeholders: `${key.<id>}` a key of the configuration, `${wrong.<id>}` a well-formed key with that id
    /// and another secret, `${typo.<id>}` that key with its last digit changed, `${stranger}` a well-formed key that nobody
    /// knows, `${token.<name>}` a token of the case file, `${jwt.<provider>.<subject>.<claims>}` a token (see `token`; the
    /// claims may be left out), `${forged.…}` either of them signed by somebody else, `${unsigned.<name>}` a token of the case file made to say
    /// that it needs no signature, `${expired.…}` a token (see `token`) too late,
    /// `${bytes.<hex>}` bytes that YAML cannot say, `${repeat.<times>.<text>}`.
    ///
    /// # Errors
    /// An unknown placeholder.
    pub fn expand(&self, text: &str) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.extend_from_slice(before.as_bytes());
            let (word, after) = after.split_once('}').ok_or_else(|| format!("`{text}` has no end"))?;
            out.extend_from_slice(&self.placeholder(word)?);
            rest = after;
        }
        out.extend_from_slice(rest.as_bytes());
        Ok(out)
    }

    fn placeholder(&self, word: &str) -> Result<Vec<u8>, String> {
        let unknown = || format!("`${{{word}}}` stands for nothing");
        let known = |id: &str| self.keys.get(id).ok_or_else(unknown);
        let (kind, rest) = word.split_once('.').unwrap_or((word, ""));
        let token = || self.tokens.get(rest).ok_or_else(unknown);
        match kind {
            "key" => Ok(known(rest)?.clone().into_bytes()),
            "wrong" => known(rest).and_then(|_| Ok(self.key(rest, "wrong")?.expose().as_bytes().to_vec())),
            "typo" => {
                let mut key = known(rest)?.clone().into_bytes();
                if let Some(last) = key.last_mut() {
                    *last = if *last == b'0' { b'1' } else { b'0' };
                }
                Ok(key)
            }
            "token" => Ok(token()?.clone().into_bytes()),
            "forged" if token().is_ok() => Ok(issuer::forged(token()?, self.derived("forger")).into_bytes()),
            "unsigned" => Ok(issuer::unsigned(token()?).into_bytes()),
            "stranger" => Ok(self.key("stranger", "right")?.expose().as_bytes().to_vec()),
            "jwt" | "expired" | "forged" => {
                let token = Wanted::read(rest, &self.document, &self.environment).ok_or_else(unknown)?;
                let token = match kind {
                    "jwt" => token.right(),
                    "expired" => token.expired(),
                    _ => token.forged(),
                };
                Ok(token.into_bytes())
            }
            "bytes" => unhex(rest).ok_or_else(unknown),
            "repeat" => {
                let (times, text) = rest.split_once('.').ok_or_else(unknown)?;
                Ok(text.repeat(times.parse().map_err(|_| unknown())?).into_bytes())
            }
            _ => Err(unknown()),
        }
    }

    /// The key with this id for one purpose. The first random bytes choose the id's digits, so any id can be asked for.
    fn key(&self, id: &str, purpose: &str) -> Result<ApiKey, String> {
        let mut random = self.derived::<{ RANDOM_BYTES * 2 }>(&format!("{purpose} key {id}"));
        for (to, digit) in random.iter_mut().zip(id.bytes()) {
            *to = match digit {
                b'0'..=b'9' => digit.wrapping_sub(b'0'),
                b'a'..=b'z' => digit.wrapping_sub(b'a').wrapping_add(10),
                _ => return Err(format!("`{id}` is not the id of a key")),
            };
        }
        let key = ApiKey::generate(&random).map_err(|error| format!("{error:?}"))?;
        if key.id().to_string() == id { Ok(key) } else { Err(format!("`{id}` is not the id of a key")) }
    }

    /// Bytes that nobody can tell without the seed, different for each purpose.
    fn derived<const N: usize>(&self, purpose: &str) -> [u8; N] {
        let mut bytes = [0; N];
        for (part, number) in bytes.chunks_mut(32).zip(0_u8..) {
            let digest = Sha256::new().chain_update(self.seed).chain_update([number]).chain_update(purpose);
            for (to, from) in part.iter_mut().zip(digest.finalize()) {
                *to = from;
            }
        }
        bytes
    }

    /// A secret of this gate that `bytes` show, by its public part. Nothing that leaves may show one.
    pub fn leaked_in(&self, bytes: &[u8]) -> Option<&str> {
        let shows = |secret: &str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        let key = self.keys.iter().find(|(_, key)| shows(key));
        let variable = self.environment.iter().find(|(_, value)| shows(value));
        let token = self.tokens.iter().find(|(_, token)| shows(token));
        key.or(variable).or(token).map(|(name, _)| name.as_str())
    }
}

#[cfg(feature = "cli")]
fn random() -> Result<Seed, String> {
    let mut seed = Seed::default();
    getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
    Ok(seed)
}

/// Every name under the word `env`, whose value is the name of a variable.
fn variables(json: &Json, names: &mut Vec<String>) {
    match json {
        Json::Array(list) => list.iter().for_each(|element| variables(element, names)),
        Json::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Json::String(variable) if name == "env" || name.ends_with("_env") => {
                        names.push(variable.clone())
                    }
                    value => variables(value, names),
                }
            }
        }
        _ => {}
    }
}

/// Id to variable.
fn peppers(document: &Json) -> BTreeMap<String, String> {
    let list = document.pointer("/authentication/api_key/peppers").and_then(Json::as_array);
    let text = |pepper: &Json, name: &str| pepper.get(name).and_then(Json::as_str).map(str::to_owned);
    list.into_iter()
        .flatten()
        .filter_map(|pepper| Some((text(pepper, "id")?, text(pepper, "env")?)))
        .collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(pair).collect())?
}
