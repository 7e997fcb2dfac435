//! Heads over HTTP/1, byte by byte: fields, paths, keys.

use anyhow::ensure;
use bytes::Bytes;
use http::Request;
use mlgate_integration::client;
use mlgate_integration::gate::Gate;

use super::SILENCE;

pub(super) async fn heads(gate: &Gate) -> anyhow::Result<usize> {
    let key = format!("x-api-key: {}", gate.key("alice001")).into_bytes();
    let key = key.as_slice();
    let long = |length: usize| [b"x-long: ".as_slice(), &vec![b'a'; length]].concat();
    let many =
        |count: usize| (0..count).map(|number| format!("x-{number}: 1").into_bytes()).collect::<Vec<_>>();
    let (few, lots) = (many(80), many(5000));
    let with_key = |fields: &[Vec<u8>]| {
        let all: Vec<&[u8]> = std::iter::once(key).chain(fields.iter().map(Vec::as_slice)).collect();
        raw("GET /predict", &all, b"")
    };
    let (long_ok, long_bad) = (long(50_000), long(61_440));
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("a value that is not UTF-8", raw("GET /predict", &[key, b"x-a: \xC0\xA7"], b""), &[200]),
        (
            "more of them",
            raw("GET /predict", &[key, b"x-a: \xFF\xFE\x80", b"user-agent: \xF0\x28\x8C\x28"], b""),
            &[200],
        ),
        ("a key that is not UTF-8", raw("GET /predict", &[b"x-api-key: \xC0\xA7"], b""), &[401]),
        (
            "a bearer that is not UTF-8",
            raw("GET /predict", &[b"authorization: Bearer mlg_\xC0\xA7"], b""),
            &[401],
        ),
        ("a cookie that is not UTF-8", raw("GET /predict", &[key, b"cookie: \xC0\xA7=\xFF"], b""), &[200]),
        (
            "a content type that is not UTF-8",
            raw("POST /v1/chat/completions", &[key, b"content-type: \xC0\xA7", b"content-length: 0"], b""),
            &[400, 415],
        ),
        (
            "a forwarded address that is not UTF-8",
            raw("GET /predict", &[key, b"x-forwarded-for: \xC0\xA7"], b""),
            &[200],
        ),
        (
            "a request id that is not UTF-8",
            raw("GET /predict", &[key, b"x-request-id: \xC0\xA7", b"traceparent: \xC0\xA7"], b""),
            &[200],
        ),
        ("the key twice", raw("GET /predict", &[key, key], b""), &[400]),
        ("the host twice", raw("GET /predict", &[key, b"host: y"], b""), &[400]),
        (
            "the length twice",
            raw("POST /predict", &[key, b"content-length: 1", b"content-length: 2"], b"ab"),
            &[400],
        ),
        (
            "length and chunks",
            raw("POST /predict", &[key, b"content-length: 1", b"transfer-encoding: chunked"], b"0\r\n\r\n"),
            &[400],
        ),
        ("a length that is none", raw("POST /predict", &[key, b"content-length: -1"], b""), &[400]),
        (
            "a length beyond all numbers",
            raw(
                "POST /v1/chat/completions",
                &[key, b"content-type: application/json", b"content-length: 99999999999999999999"],
                b"",
            ),
            &[400],
        ),
        (
            "the largest length",
            raw(
                "POST /v1/chat/completions",
                &[key, b"content-type: application/json", b"content-length: 18446744073709551615"],
                b"",
            ),
            &[400, 413],
        ),
        (
            "an encoding twice",
            raw(
                "POST /v1/chat/completions",
                &[
                    key,
                    b"content-encoding: gzip",
                    b"content-encoding: identity",
                    b"content-type: application/json",
                    b"content-length: 2",
                ],
                b"{}",
            ),
            &[415],
        ),
        ("fifty thousand bytes in a field", raw("GET /predict", &[key, &long_ok], b""), &[200]),
        ("sixty KiB in a field", raw("GET /predict", &[key, &long_bad], b""), &[431]),
        ("eighty fields", with_key(&few), &[200]),
        ("five thousand fields", with_key(&lots), &[431]),
        (
            "names with underscores",
            raw("GET /predict", &[key, b"x_api_key: a", b"x_mlgate_principal: root", b"_: a"], b""),
            &[200],
        ),
        ("a name without letters", raw("GET /predict", &[key, b": a"], b""), &[400]),
        ("a space before the colon", raw("GET /predict", &[key, b"x-a : a"], b""), &[400]),
        ("a NUL in a value", raw("GET /predict", &[key, b"x-a: a\0b"], b""), &[400]),
        ("a control in a value", raw("GET /predict", &[key, b"x-a: a\x01b\x7f"], b""), &[200, 400]),
        ("a folded field", raw("GET /predict", &[key, b"x-a: a", b" b"], b""), &[200, 400]),
        ("a line end in a value", raw("GET /predict", &[key, b"x-a: a\rb"], b""), &[200, 400]),
        (
            "CONNECT",
            b"CONNECT x.example:443 HTTP/1.1\r\nhost: x.example:443\r\n\r\n".to_vec(),
            &[400, 403, 404],
        ),
        ("CONNECT to a path", raw("CONNECT /predict", &[key], b""), &[400, 403, 404]),
        ("OPTIONS of everything", raw("OPTIONS *", &[key], b""), &[400, 403, 404]),
        ("TRACE", raw("TRACE /v1/models", &[key], b""), &[400, 403, 405]),
        ("a method of its own", raw("FETCH /v1/models", &[key], b""), &[400, 403]),
        ("a method in NUL", raw("G\0T /v1/models", &[key], b""), &[400]),
        (
            "an upgrade",
            raw("GET /predict", &[key, b"connection: upgrade", b"upgrade: websocket"], b""),
            &[200, 400, 403, 426],
        ),
        ("a whole URI", raw("GET http://x.example/predict", &[key], b""), &[200, 400, 403]),
        (
            "a whole URI with a user",
            raw("GET http://root:x@x.example/predict", &[key], b""),
            &[200, 400, 403],
        ),
        ("HTTP/1.0", b"GET /predict HTTP/1.0\r\n\r\n".to_vec(), &[400, 426]),
        ("HTTP/0.9", b"GET /predict\r\n\r\n".to_vec(), &[0, 400, 426]),
        ("no request", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[0, 400]),
        ("nothing", b"\r\n\r\n\r\n".to_vec(), &[0, 400]),
        (
            "an expectation",
            raw("POST /predict", &[key, b"expect: 100-continue", b"content-length: 2"], b"{}"),
            &[100],
        ),
    ];
    let mut wrong = Vec::new();
    for (what, bytes, allowed) in &cases {
        expect(gate, what, bytes, allowed, &mut wrong).await?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(cases.len())
}

pub(super) async fn paths(gate: &Gate) -> anyhow::Result<usize> {
    let key = format!("x-api-key: {}", gate.key("alice001")).into_bytes();
    let hostile: &[&[u8]] = &[
        b"/predict/../predict",
        b"/./predict",
        b"//predict",
        b"/predict//",
        b"/predict%2f",
        b"/%2e%2e/predict",
        b"/predict%2e",
        b"/predict;v=1",
        b"/predict\\..",
        b"/predict%00",
        b"/predict\0",
        b"/predict%",
        b"/predict%zz",
        b"/predict%c0%a7",
        b"/predict\xC0\xA7",
        b"/predict#x",
        b"/predict%0d%0ax: y",
        b"/%252e%252e",
        b"predict",
        b"*",
        b"/\x7f",
        b"/\x01",
        b"/predict%u0041",
        b"/predict?\xC0\xA7",
        b"/..%2f..%2fetc/passwd",
        b"/..;/predict",
        b"/predict/..%00/",
        b"/%5c",
        b"/%3b",
        b"/%3f",
        b"/%23",
    ];
    let mut wrong = Vec::new();
    let long = [b"/".as_slice(), &b"a/".repeat(20_000)].concat();
    for path in hostile.iter().copied().chain([long.as_slice()]) {
        let bytes =
            [b"GET ", path, b" HTTP/1.1\r\nhost: x.example\r\n", key.as_slice(), b"\r\n\r\n"].concat();
        expect(gate, &String::from_utf8_lossy(path), &bytes, &[400, 403], &mut wrong).await?;
    }
    // A query is nobody's path.
    let bytes =
        [b"GET /predict?/../%2f;\\ HTTP/1.1\r\nhost: x.example\r\n", key.as_slice(), b"\r\n\r\n"].concat();
    expect(gate, "a query", &bytes, &[200], &mut wrong).await?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(hostile.len() + 2)
}

/// Keys of chance, each on its own: a wrong one is 401, whatever it is made of.
pub(super) async fn keys(gate: &Gate) -> anyhow::Result<usize> {
    let mut connection = client::Http1::connect(gate.envoy.address()).await?;
    let good = gate.key("alice001").as_bytes().to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap_or_default()
    };
    for round in 0..400_u32 {
        let mut key = good.clone();
        if round % 2 == 0 {
            let place = next() % key.len();
            key[place] = b"aZ09_-. ~\xC0\xFF\t"[next() % 12];
            key.truncate(if round % 4 == 0 { place.max(1) } else { key.len() });
        } else {
            let length = next() % 300;
            key = (0..length)
                .map(|_| u8::try_from(0x20 + next() % 0xdf).unwrap_or(b'x'))
                .filter(|byte| *byte != 0x7f)
                .collect();
        }
        let is_good = key.trim_ascii() == good;
        let request = Request::get("/predict").header("x-api-key", http::HeaderValue::from_bytes(&key)?);
        let answer = connection.call(request.body(Bytes::new())?).await?;
        let right = if is_good { answer.status == 200 } else { answer.status == 401 };
        ensure!(right, "a key of chance is answered {}: {key:?}", answer.status);
    }
    Ok(400)
}

/// The statuses of the answers in what came back over HTTP/1.
fn statuses(received: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(received);
    text.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
}

/// A request in HTTP/1 whose head is written out.
fn raw(line: &str, fields: &[&[u8]], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{line} HTTP/1.1\r\nhost: x.example\r\n").into_bytes();
    for field in fields {
        bytes.extend([*field, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// Sends and expects one of these statuses; 0 is a connection that closes without a word. Adds to `wrong` what differs.
async fn expect(
    gate: &Gate,
    what: &str,
    bytes: &[u8],
    allowed: &[u16],
    wrong: &mut Vec<String>,
) -> anyhow::Result<()> {
    let received = client::raw(gate.envoy.address(), bytes, SILENCE).await?;
    let status = statuses(&received).first().copied().unwrap_or_default();
    if !allowed.contains(&status) {
        wrong
            .push(format!("{what}: {status} instead of {allowed:?}: {}", String::from_utf8_lossy(&received)));
    }
    Ok(())
}
