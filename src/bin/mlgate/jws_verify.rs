//! `mlgate jws-verify`: the filter's own verifier, for suites that other people wrote.
//!
//! Lines of JSON become lines of JSON. What is judged is the signature of a JWS in compact form (RFC 7515 §7.1): what
//! its payload says, and whether it is a token, is not.

use std::fs::File;
use std::io::{BufRead, BufReader, LineWriter, Write, stdin};
use std::path::{Path, PathBuf};

use clap::Args;
use mlgate::host::signature::{SignatureCheck, software};
use mlgate::identity::jwks::{InvalidJwk, Key, KeySet};
use mlgate::identity::jwt::TokenError;
use mlgate::identity::jwt::claims::object;
use mlgate::identity::jwt::jws::Jws;
use serde_json::{Map, Value as Json, json};

use crate::audit::lines::{self, Line};
use crate::{Exit, Stop};

/// Verify signatures as the filter does: lines of {"id", "jws", "jwks"} become lines of {"id", "ok", "reason"}
///
/// `jws` is a text of three parts, `jwks` a JWK Set. The header's `alg` must be one that the key is for. Claims are not
/// looked at. Keys that the filter would refuse are left out; a line that cannot be read is refused and ends nothing.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct JwsVerifyCommand {
    /// A file of lines; `-` is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Take shared secrets (`"kty": "oct"`) for HS256, HS384 and HS512
    #[arg(long)]
    allow_hmac: bool,
}

const HELP: &str = "Examples:
  mlgate jws-verify --allow-hmac tests/jws/rfc.jsonl
  mlgate jws-verify < suite.jsonl | jq -r 'select(.ok | not) | .reason'

Exit codes: 0 all signatures are right, 1 failure, 2 a line was refused, 3 invalid input";

/// The longest line, in bytes.
const MAX_LINE: usize = 1 << 20;

/// The most lines of one run.
const MAX_LINES: u64 = 1_000_000;

/// The longest JWS, in bytes.
const MAX_JWS: usize = 256 << 10;

/// The most keys of one line.
const MAX_KEYS: usize = 1000;

/// One line that was asked.
struct Question {
    jws: String,
    keys: KeySet,
    /// Why the first of the keys that were left out was.
    left_out: Option<InvalidJwk>,
}

/// Answers every line.
pub(crate) fn run(command: &JwsVerifyCommand) -> Result<Exit, Stop> {
    let failed = |error: std::io::Error| {
        Stop::invalid(
            command.file.display(),
            format!("cannot be read: {error}"),
            "name a file that can be read",
        )
    };
    let mut input: Box<dyn BufRead> = if command.file == Path::new("-") {
        Box::new(stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(&command.file).map_err(failed)?))
    };
    // a suite may wait for each answer
    let mut output = LineWriter::new(std::io::stdout().lock());
    let mut buffer = Vec::new();
    let mut exit = Exit::Fine;
    for number in 1_u64.. {
        let line = lines::next_within(MAX_LINE, &mut *input, &mut buffer, &mut 0).map_err(failed)?;
        let (id, answer) = match line {
            Line::End => break,
            _ if number > MAX_LINES => {
                let what = format!("more than {MAX_LINES} lines");
                return Err(Stop::invalid(command.file.display(), what, "split it"));
            }
            Line::Torn | Line::Whole if buffer.iter().all(u8::is_ascii_whitespace) => continue,
            Line::TooLong => {
                (Json::Null, Err(format!("line_invalid: line {number} is longer than {MAX_LINE} bytes")))
            }
            Line::Torn | Line::Whole => {
                (id_of(&buffer), read(&buffer, command.allow_hmac).and_then(|question| question.answer()))
            }
        };
        let (ok, reason) = match answer {
            Ok(()) => (true, String::from("verified")),
            Err(reason) => (false, reason),
        };
        if !ok {
            exit = Exit::Findings;
        }
        writeln!(output, "{}", json!({ "id": id, "ok": ok, "reason": reason }))
            .map_err(|error| Stop::failure("standard output", error, "give it a reader that stays"))?;
    }
    Ok(exit)
}

/// The name of a line, as far as it can be told.
fn id_of(line: &[u8]) -> Json {
    let line: Option<Json> = serde_json::from_slice(line).ok();
    line.and_then(|mut line| line.get_mut("id").map(Json::take)).unwrap_or_default()
}

fn read(line: &[u8], allow_hmac: bool) -> Result<Question, String> {
    let invalid = |what: &str| format!("line_invalid: {what}");
    let line =
        object(line).ok_or_else(|| invalid("it is not one JSON object without members that occur twice"))?;
    if !line.get("id").is_some_and(|id| id.is_string() || id.is_number()) {
        return Err(invalid("`id` is not a text or a number"));
    }
    let jws = match line.get("jws") {
        Some(Json::String(jws)) if jws.len() <= MAX_JWS => jws.clone(),
        Some(Json::String(_)) => return Err(format!("too_large: `jws` is longer than {MAX_JWS} bytes")),
        Some(Json::Object(_)) => {
            return Err(String::from(
                "malformed: `jws` is a JSON serialization, and only the compact one is read",
            ));
        }
        _ => return Err(invalid("`jws` is not a text")),
    };
    let (keys, left_out) = keys(&line, allow_hmac)?;
    Ok(Question { jws, keys, left_out })
}

/// Every key that the filter would take.
fn keys(line: &Map<String, Json>, allow_hmac: bool) -> Result<(KeySet, Option<InvalidJwk>), String> {
    let invalid = |what: String| format!("keys_invalid: {what}");
    let Some(Json::Array(listed)) = line.get("jwks").and_then(|jwks| jwks.get("keys")) else {
        return Err(invalid(String::from("`jwks` is not a JWK Set with `keys`")));
    };
    if listed.len() > MAX_KEYS {
        return Err(invalid(format!("more than {MAX_KEYS} keys")));
    }
    let mut keys = KeySet::empty();
    let mut left_out = None;
    for jwk in listed {
        let is_secret = allow_hmac && jwk.get("kty").is_some_and(|kind| kind == "oct");
        match if is_secret { Key::from_secret_jwk(jwk) } else { Key::from_jwk(jwk) } {
            Ok(key) => drop(keys.insert(key)),
            Err(error) => {
                left_out.get_or_insert(error);
            }
        }
    }
    match left_out {
        Some(error) if keys.is_empty() => Err(invalid(format!("no key can be used: {error}"))),
        left_out => Ok((keys, left_out)),
    }
}

// === impl Question ===

impl Question {
    fn answer(&self) -> Result<(), String> {
        let verified = Jws::read(self.jws.as_bytes()).and_then(|jws| {
            let algorithm = jws.algorithm.ok_or(TokenError::AlgorithmRefused { algorithm: None })?;
            jws.verify(algorithm, &self.keys, |check: &SignatureCheck<'_>| Ok(software::verify(check)))
        });
        verified.map_err(|error| match (&error, self.left_out) {
            (TokenError::KeyUnknown, Some(why)) => {
                format!("{}: {error}; one was left out: {why}", error.word())
            }
            _ => format!("{}: {error}", error.word()),
        })
    }
}
