use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

const DEPTH: u32 = 64;

fn model(body: impl AsRef<[u8]>) -> Result<String, BodyError> {
    model_of_body(body.as_ref(), DEPTH)
}

#[test]
fn the_one_top_level_model_is_found() {
    for body in [
        r#"{"model":"m"}"#,
        " {\n\t\"messages\": [{\"model\": \"other\"}], \"model\" : \"m\" , \"n\": 1e999 }\r\n",
        r#"{"x":{"model":"other"},"model":"\u006d"}"#,
        r#"{"mode\u006c":"m"}"#,
        r#"{"models":"a","mode":"b","model ":"c","model":"m","モデル":"d"}"#,
        r#"{"a":"\ud800","model":"m"}"#,
        r#"{"model":"m","temperature":0.1,"stop":null,"a":1,"a":2}"#,
    ] {
        assert_eq!(model(body).as_deref(), Ok("m"), "{body}");
    }
}

#[test]
fn none_two_variants_and_other_types_are_ambiguous() {
    for body in [
        "{}",
        r#"{"messages":[]}"#,
        r#"{"model":"m","model":"m"}"#,
        r#"{"model":"m","mode\u006c":"n"}"#,
        r#"{"model":"m","Model":"n"}"#,
        r#"{"MODEL":"n"}"#,
        r#"{"m\u004Fdel":"n"}"#,
        r#"{"model":1}"#,
        r#"{"model":-1}"#,
        r#"{"model":1.5}"#,
        r#"{"model":null}"#,
        r#"{"model":true}"#,
        r#"{"model":["m"]}"#,
        r#"{"model":{"model":"m"}}"#,
        r#"{"model":null,"model":"m"}"#,
        r#"{"model":""}"#,
    ] {
        assert_eq!(model(body), Err(BodyError::Ambiguous), "{body}");
    }
}

#[test]
fn what_is_not_one_json_object_is_malformed() {
    for body in [
        b"".as_slice(),
        b" ",
        b"null",
        b"[\"model\"]",
        b"\"model\"",
        b"{",
        b"{\"model\":\"m\"",
        b"{\"model\":\"m\"} {}",
        b"{\"model\":\"m\"}x",
        b"{\"model\":\"m\"}\0",
        b"{\"model\":\"m\",}",
        b"{\"model\":'m'}",
        b"{model:\"m\"}",
        b"{\"model\":\"m\" \"a\":1}",
        b"{\"model\":\"m\"}//",
        b"{\"model\":\"\\ud800\"}",
        b"{\"model\":\"a\nb\"}",
        b"{\"a\":\"a\nb\",\"model\":\"m\"}",
        b"{\"a\":01,\"model\":\"m\"}",
        b"{\"a\":NaN,\"model\":\"m\"}",
        b"{\"a\":[1,],\"model\":\"m\"}",
        b"{\"a\":tru,\"model\":\"m\"}",
        b"\xef\xbb\xbf{\"model\":\"m\"}",
        b"{\"model\":\"\xff\"}",
        b"{\"a\":\"\xc0\x80\",\"model\":\"m\"}",
        b"{\0\"\0m\0o\0d\0e\0l\0",
    ] {
        assert_eq!(model(body), Err(BodyError::Malformed), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn depth_is_counted_outside_texts_and_refused_before_parsing() {
    let nested = |depth: usize| format!(r#"{{"model":"m","a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(model(nested(63)).as_deref(), Ok("m"));
    assert_eq!(model(nested(64)), Err(BodyError::TooDeep));
    assert_eq!(model("[".repeat(10_000_000)), Err(BodyError::TooDeep));
    assert_eq!(model("{\"a\":".repeat(1_000_000)), Err(BodyError::TooDeep));
    assert_eq!(model(format!(r#"{{"model":"m","a":"\"{}"}}"#, "[".repeat(100))).as_deref(), Ok("m"));
    assert_eq!(model(format!(r#"{{"model":"m","a":[{}0]}}"#, "[],".repeat(100))).as_deref(), Ok("m"));
    // a limit beyond what any stack holds is kept too, since skipping does not recurse
    let deep = nested(200_000);
    assert_eq!(model_of_body(deep.as_bytes(), u32::MAX).as_deref(), Ok("m"));
}

#[test]
fn a_deep_model_is_refused_without_recursion() {
    let deep = format!(r#"{{"model":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(model_of_body(deep.as_bytes(), u32::MAX), Err(BodyError::Ambiguous));
}

#[test]
fn only_plain_json_in_utf8_is_readable() {
    let headers = |list: &[(&str, &str)]| {
        Headers::new(
            list.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect(),
        )
    };
    for media_type in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        "application/json; profile=x",
    ] {
        assert_eq!(readable(&headers(&[("content-type", media_type)])), Ok(()), "{media_type}");
    }
    let json = ("content-type", "application/json");
    assert_eq!(readable(&headers(&[json, ("content-encoding", "identity")])), Ok(()));
    let unreadable: [&[(&str, &str)]; 8] = [
        &[],
        &[("content-type", "")],
        &[("content-type", "text/plain")],
        &[("content-type", "application/jsonp")],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[("content-type", "application/json; charset=utf-16")],
        &[json, json],
        &[json, ("content-encoding", "identity"), ("content-encoding", "gzip")],
    ];
    for list in unreadable {
        assert_eq!(readable(&headers(list)), Err(BodyError::Unreadable), "{list:?}");
    }
}

/// A top-level object in which texts and `model` are frequent.
fn any_body() -> impl Strategy<Value = String> {
    object(prop_oneof![Just(String::from("\"m\"")), any_json()])
}

/// Text of JSON whose members may repeat, so that it is written by hand.
fn any_json() -> impl Strategy<Value = String> {
    let text = "[a-z\\PC]{0,6}".prop_map(|text| Json::from(text).to_string());
    let leaf = prop_oneof![
        Just(String::from("null")),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        text,
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| format!("[{}]", list.join(" ,"))),
            object(inner),
        ]
    })
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::vec((any_name(), value), 0..5).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("{name} : {value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just(r#""model""#.to_owned()),
        1 => prop::sample::select(vec![r#""Model""#, r#""mode\u006C""#, r#""\u004dodel""#, r#""models""#])
            .prop_map(str::to_owned),
        3 => "[a-z]{0,3}".prop_map(|name| Json::from(name).to_string()),
    ]
}

/// What a human would say: the members one by one, duplicates kept.
struct Members(Vec<(String, Json)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A number that the naive reader cannot hold, and that the scan skips: `1e309` is JSON all the same.
fn is_out_of_range(body: &str) -> bool {
    serde_json::from_str::<Json>(body)
        .is_err_and(|error| error.to_string().starts_with("number out of range"))
}

#[test]
fn a_number_too_large_for_a_reader_is_a_number() {
    let body = br#"{"model" : "m","" : 1E000000000309}"#;
    assert!(is_out_of_range(std::str::from_utf8(body).unwrap()));
    assert_eq!(model(body), Ok(String::from("m")));
}

fn naive(body: &str) -> Result<String, BodyError> {
    let Members(members) = serde_json::from_str(body).map_err(|_| BodyError::Malformed)?;
    let named: Vec<_> = members.iter().filter(|(name, _)| name.to_lowercase() == "model").collect();
    match named.as_slice() {
        [(name, Json::String(model))] if name == "model" && !model.is_empty() => Ok(model.clone()),
        _ => Err(BodyError::Ambiguous),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn it_agrees_with_a_naive_reader(body in any_body()) {
        prop_assert_eq!(model(&body), naive(&body));
    }

    #[test]
    fn a_broken_body_is_refused_or_names_what_a_naive_reader_names(
        body in any_body(),
        index in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = body.into_bytes();
        let index = index.index(bytes.len());
        bytes[index] = byte;
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(found) = model(&bytes)
            && !is_out_of_range(&text)
        {
            prop_assert_eq!(naive(&text), Ok(found));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), limit in any::<u32>()) {
        let _ = model_of_body(&bytes, limit);
    }
}

#[test]
fn a_model_in_the_query_beside_the_body_is_ambiguous() {
    for query in [
        "model=b",
        "a=1&model=b",
        "a=1;model=b",
        "model",
        "%6dodel=b",
        "MODEL=b",
        "model[]=b",
        "model%5B0%5D=b",
    ] {
        assert_eq!(left_to_body(Some(query)), Err(BodyError::Ambiguous), "{query}");
    }
    for query in [None, Some(""), Some("api-version=1"), Some("x=model"), Some("models=b"), Some("a&mode=1")]
    {
        assert_eq!(left_to_body(query), Ok(()), "{query:?}");
    }
}
