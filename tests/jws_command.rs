//! `mlgate jws-verify` as an outside suite drives it: published examples, and each of them broken in every way that a
//! lax verifier would take.

#![cfg(feature = "cli")]
#![expect(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a broken fixture should stop the test"
)]

use serde_json::{Value as Json, json};

#[path = "support/command.rs"]
mod command;

use command::{file, mlgate, text};

/// Examples of RFC 7515 appendices A and E, RFC 7520 §4, RFC 7797 §4.2 and RFC 8037 appendix A.4, each with its keys
/// and the reason that is expected.
const RFC: &str = include_str!("jws/rfc.jsonl");

fn examples() -> Vec<Json> {
    RFC.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Those whose signature is right.
fn right() -> Vec<Json> {
    examples().into_iter().filter(|example| example["reason"] == "verified").collect()
}

/// The answers to some lines, and how the command ended.
fn answers(arguments: &[&str], lines: &[String]) -> (Vec<Json>, i32) {
    let output = mlgate(&[&["jws-verify"], arguments].concat(), &(lines.join("\n") + "\n"));
    let printed = text(&output.stdout);
    assert_eq!(text(&output.stderr), "");
    (printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), output.status.code().unwrap())
}

/// The word before the colon.
fn word(answer: &Json) -> &str {
    let reason = answer["reason"].as_str().unwrap();
    assert_eq!(answer["ok"].as_bool(), Some(reason == "verified"), "{answer}");
    reason.split(':').next().unwrap()
}

/// One line, with its own id and some members changed.
fn line(id: usize, example: &Json, members: &Json) -> String {
    let mut line = example.clone();
    line["id"] = json!(id);
    for (name, value) in members.as_object().unwrap() {
        line[name] = value.clone();
    }
    line.to_string()
}

/// The answer to one line.
fn answer(example: &Json, members: &Json) -> String {
    let (answers, _) = answers(&["--allow-hmac"], &[line(1, example, members)]);
    word(&answers[0]).to_owned()
}

#[test]
fn published_examples_are_answered_as_published() {
    let lines: Vec<String> = RFC.lines().map(str::to_owned).collect();
    let (found, exit) = answers(&["--allow-hmac"], &lines);
    assert_eq!((found.len(), exit), (19, 2));
    for (example, answer) in examples().iter().zip(&found) {
        assert_eq!(answer["id"], example["id"]);
        assert_eq!(json!(word(answer)), example["reason"], "{answer}");
    }
    assert_eq!(right().len(), 9);
    let fine: Vec<String> = right().iter().map(Json::to_string).collect();
    assert_eq!(answers(&["--allow-hmac"], &fine).1, 0);
    assert_eq!(mlgate(&["jws-verify", "--allow-hmac", "tests/jws/rfc.jsonl"], "").status.code(), Some(2));
    assert_eq!(answers(&[], &[]), (Vec::new(), 0));
}

#[test]
fn shared_secrets_are_taken_only_where_it_is_said() {
    let lines: Vec<String> = right().iter().map(Json::to_string).collect();
    let (found, exit) = answers(&[], &lines);
    assert_eq!(exit, 2);
    for (example, answer) in right().iter().zip(&found) {
        let is_hmac = example["id"].as_str().unwrap().contains("HS");
        assert_eq!(answer["ok"], json!(!is_hmac), "{answer}");
    }
}

#[test]
fn every_broken_example_is_refused() {
    let mut lines = Vec::new();
    for example in right() {
        let jws = example["jws"].as_str().unwrap();
        let parts: Vec<&str> = jws.split('.').collect();
        let (head, payload, signature) = (parts[0], parts[1], parts[2]);
        let flipped = |part: &str, at: usize| {
            let other = if part[at..].starts_with('A') { "B" } else { "A" };
            format!("{}{other}{}", &part[..at], &part[at + 1..])
        };
        // a second spelling of the same last byte, where its letter has unused bits
        let respelt = |part: &str| {
            let (start, last) = part.split_at(part.len() - 1);
            format!("{start}{}", char::from(last.as_bytes()[0] + 1))
        };
        let unsigned = r#"{"alg":"none"}"#;
        for broken in [
            format!("{head}.{payload}.{}", flipped(signature, 0)),
            format!("{head}.{payload}.{}", flipped(signature, signature.len() / 2)),
            format!("{head}.{}.{signature}", flipped(payload, 0)),
            format!("{}.{payload}.{signature}", flipped(head, 5)),
            format!("{head}.{payload}."),
            format!("{head}.{payload}"),
            format!("{head}..{signature}"),
            format!(".{payload}.{signature}"),
            format!("{payload}.{signature}"),
            String::from(".."),
            String::new(),
            format!("{jws}."),
            format!("{jws}.AAAA"),
            format!("{jws}.AAAA.AAAA"),
            format!("{jws}="),
            format!("{jws} "),
            format!("{head}=.{payload}.{signature}"),
            format!("{head}.{payload}.{}", signature.replace(['-', '_'], "/") + "/"),
            format!("{head}.{payload}.{}", &signature[..signature.len() / 2]),
            format!("{head}.{payload}.AAAA{signature}"),
            format!("{}.{payload}.{signature}", base64url(unsigned)),
            format!("{}.{payload}.", base64url(unsigned)),
        ] {
            lines.push(line(lines.len(), &example, &json!({ "jws": broken })));
        }
        if signature.len() % 4 != 0 {
            let broken = format!("{head}.{payload}.{}", respelt(signature));
            lines.push(line(lines.len(), &example, &json!({ "jws": broken })));
        }
    }
    let (found, exit) = answers(&["--allow-hmac"], &lines);
    assert_eq!((found.len(), exit), (lines.len(), 2));
    for (asked, answer) in lines.iter().zip(&found) {
        assert_eq!(answer["ok"], false, "{answer}: {asked}");
    }
    assert!(found.len() > 200, "{}", found.len());
}

fn base64url(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

/// The example of this name.
fn example(name: &str) -> Json {
    examples().into_iter().find(|example| example["id"] == name).unwrap()
}

#[test]
fn a_key_is_chosen_by_its_id_and_its_algorithm() {
    let example = example("RFC 7520 4.1 RS256");
    let key = &example["jwks"]["keys"][0];
    let with = |changes: &[(&str, Json)]| {
        let mut key = key.clone();
        for (name, value) in changes {
            key[*name] = value.clone();
        }
        key
    };
    let asked = |keys: &[Json]| answer(&example, &json!({ "jwks": { "keys": keys } }));
    assert_eq!(asked(&[with(&[("alg", json!("RS256"))])]), "verified");
    assert_eq!(asked(&[with(&[("alg", json!("RS512"))])]), "key_unknown");
    assert_eq!(asked(&[with(&[("alg", json!("PS256"))])]), "key_unknown");
    assert_eq!(asked(&[with(&[("kid", json!("another"))])]), "key_unknown");
    assert_eq!(asked(&[with(&[("use", json!("enc"))])]), "keys_invalid");
    assert_eq!(asked(&[with(&[("key_ops", json!(["sign"]))])]), "keys_invalid");
    assert_eq!(asked(&[with(&[("e", json!("Aw"))])]), "keys_invalid");
    assert_eq!(asked(&[with(&[("d", json!("AQAB"))])]), "keys_invalid");
    assert_eq!(asked(&[]), "key_unknown");
    // one bad key does not spoil the others, in a set of any size
    let mut many: Vec<Json> = (0..500).map(|number| with(&[("kid", json!(format!("k{number}")))])).collect();
    many.push(json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" }));
    many.push(json!("no key"));
    many.push(key.clone());
    assert_eq!(asked(&many), "verified");
    assert_eq!(asked(&vec![key.clone(); 1001]), "keys_invalid");
}

#[test]
fn a_jws_that_names_no_key_is_tried_with_a_few() {
    let example = example("RFC 7515 A.2 RS256");
    let key = &example["jwks"]["keys"][0];
    let other = {
        let modulus = key["n"].as_str().unwrap();
        let mut other = key.clone();
        other["n"] = json!(format!("{}Z{}", &modulus[..100], &modulus[101..]));
        other
    };
    let set = |others: usize| {
        let mut keys = vec![other.clone(); others];
        keys.push(key.clone());
        // those of another kind are not tried
        keys.push(
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
        );
        answer(&example, &json!({ "jwks": { "keys": keys } }))
    };
    assert_eq!([set(0), set(1), set(3), set(4)], ["verified", "verified", "verified", "key_ambiguous"]);
}

#[test]
fn a_line_that_cannot_be_read_is_an_answer_and_ends_nothing() {
    let good = right()[1].to_string();
    let long = format!(r#"{{"id":"long","jws":"{}"}}"#, "x".repeat(1 << 20));
    let large = json!({ "id": "large", "jws": "x".repeat(300 << 10), "jwks": { "keys": [] } }).to_string();
    let twice = good.replacen("\"kty\"", "\"kty\":\"EC\",\"kty\"", 1);
    let deep =
        format!(r#"{{"id":"deep","jws":"a.b.c","jwks":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    let bad = [
        ("not JSON".to_owned(), json!(null), "line_invalid"),
        ("[]".to_owned(), json!(null), "line_invalid"),
        ("{}".to_owned(), json!(null), "line_invalid"),
        (r#"{"id":true,"jws":"a.b.c","jwks":{"keys":[]}}"#.to_owned(), json!(true), "line_invalid"),
        (r#"{"id":7,"jws":7,"jwks":{"keys":[]}}"#.to_owned(), json!(7), "line_invalid"),
        (r#"{"id":7,"jws":"a.b.c"}"#.to_owned(), json!(7), "keys_invalid"),
        (r#"{"id":7,"jws":"a.b.c","jwks":{"keys":{}}}"#.to_owned(), json!(7), "keys_invalid"),
        (format!("{good}{good}"), json!(null), "line_invalid"),
        (long, json!(null), "line_invalid"),
        (large, json!("large"), "too_large"),
        (twice, right()[1]["id"].clone(), "line_invalid"),
        (deep, json!(null), "line_invalid"),
        ("\u{0}\u{fffd}".to_owned(), json!(null), "line_invalid"),
    ];
    let mut lines = vec![String::new(), good.clone()];
    lines.extend(bad.iter().map(|(line, ..)| line.clone()));
    lines.push(good);
    let (found, exit) = answers(&["--allow-hmac"], &lines);
    assert_eq!((found.len(), exit), (bad.len() + 2, 2));
    assert_eq!((word(&found[0]), word(&found[bad.len() + 1])), ("verified", "verified"));
    for ((line, id, expected), answer) in bad.iter().zip(&found[1..]) {
        let shown: String = line.chars().take(60).collect();
        assert_eq!((&answer["id"], word(answer)), (id, *expected), "{shown}: {answer}");
    }
    // bytes that are no text
    let path = file("jws-bytes.jsonl", "");
    std::fs::write(&path, b"\xff\xfe\n{\"id\":1}\n").unwrap();
    let output = mlgate(&["jws-verify", path.to_str().unwrap()], "");
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(2), 2));
}

#[test]
fn what_is_no_input_is_refused_in_one_line() {
    for arguments in [["jws-verify", "/no/such.jsonl"], ["jws-verify", "--allow-none"]] {
        let output = mlgate(&arguments, "");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
    let help = text(&mlgate(&["jws-verify", "--help"], "").stdout);
    assert!(
        help.contains("\nExamples:\n  ") && help.contains("\nExit codes: 0 all signatures are right"),
        "{help}"
    );
}
