//! What HTTP/2 allows nobody to send, and what it allows and nobody sends.

use mlgate_integration::frames::{END_HEADERS, END_STREAM, Frames};
use mlgate_integration::gate::Gate;

use super::{CHAT, SILENCE};

pub(super) async fn frames(gate: &Gate) -> anyhow::Result<usize> {
    let key = gate.key("alice001").to_owned();
    let basic: [(&[u8], &[u8]); 5] = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", CHAT.as_bytes()),
        (b":authority", b"x.example"),
        (b"x-api-key", key.as_bytes()),
    ];
    let json: (&[u8], &[u8]) = (b"content-type", b"application/json");
    let with = |more: &[(&'static [u8], &'static [u8])]| [basic.to_vec(), vec![json], more.to_vec()].concat();
    let without = |name: &[u8]| basic.iter().filter(|(known, _)| *known != name).copied().collect::<Vec<_>>();
    let replaced = |name: &[u8], value: &'static [u8]| {
        basic
            .iter()
            .map(|(known, old)| (*known, if *known == name { value } else { *old }))
            .collect::<Vec<_>>()
    };
    let ended = END_HEADERS | END_STREAM;
    let start = |flags: u8, fields: &[(&[u8], &[u8])]| Frames::new().headers(flags, 1, fields);
    let waits = with(&[]);
    let odd = vec![
        start(ended, &with(&[(b":path", b"/predict")])),
        start(ended, &with(&[(b":method", b"GET")])),
        start(ended, &with(&[(b":authority", b"y.example")])),
        start(ended, &with(&[(b"host", b"y.example")])),
        start(ended, &with(&[(b":unknown", b"1")])),
        start(ended, &with(&[(b"X-Upper", b"1")])),
        start(ended, &with(&[(b"connection", b"close")])),
        start(ended, &with(&[(b"transfer-encoding", b"chunked")])),
        start(ended, &with(&[(b"te", b"gzip")])),
        start(ended, &with(&[(b"x-a", b"a\0b")])),
        start(ended, &with(&[(b"x-a", b"a\r\nb: c")])),
        start(ended, &with(&[(b"", b"1")])),
        start(ended, &with(&[(b"x-a", b"\xC0\xA7\xFF")])),
        start(ended, &with(&[(b"content-length", b"5")])),
        start(ended, &without(b":path")),
        start(ended, &without(b":method")),
        start(ended, &without(b":authority")),
        start(ended, &without(b":scheme")),
        start(ended, &replaced(b":path", b"")),
        start(ended, &replaced(b":path", b"predict")),
        start(ended, &replaced(b":path", b"*")),
        start(ended, &replaced(b":path", b"/a\0b")),
        start(ended, &replaced(b":path", b"/a\xC0\xA7")),
        start(ended, &replaced(b":path", b"http://x.example/predict")),
        start(ended, &replaced(b":method", b"")),
        start(ended, &replaced(b":method", b"CONNECT")),
        start(ended, &replaced(b":scheme", b"javascript")),
        start(ended, &replaced(b":authority", b"root@x.example:99999")),
        start(END_HEADERS, &waits).reset(1),
        start(END_HEADERS, &waits).data(0, 1, b"{\"model\":").reset(1),
        start(END_HEADERS, &waits).data(0, 1, b"{\"model\":\"fraud\"}").data(END_STREAM, 1, b"").reset(1),
        start(END_HEADERS, &waits).data(END_STREAM, 1, b"{}").data(END_STREAM, 1, b"{}"),
        start(END_HEADERS, &waits).data(0, 1, b"{\"model\":\"fraud\"}").headers(
            ended,
            1,
            &[(b"x-end", b"1")],
        ),
        start(END_HEADERS, &waits).headers(ended, 1, &[(b"x-end", b"\xC0\xA7")]),
        start(END_HEADERS, &waits).headers(ended, 1, &[(b":path", b"/predict")]),
        start(END_HEADERS, &waits).headers(END_HEADERS, 1, &[(b"x-end", b"1")]),
        start(END_HEADERS, &with(&[(b"content-length", b"3")])).data(END_STREAM, 1, b"{\"model\":\"fraud\"}"),
        start(0, &waits),
        start(0, &waits).data(END_STREAM, 1, b"{}"),
        Frames::new().data(END_STREAM, 1, b"{}"),
        Frames::new().headers(ended, 2, &waits),
        Frames::new().headers(ended, 0, &waits),
        Frames::new().frame(0x9, END_HEADERS, 1, b"xx"),
        Frames::new().frame(0x8, 0, 0, &[0, 0, 0, 0]),
        Frames::new().frame(0xfa, 0xff, 7, &[1; 100]),
        Frames::new().frame(0x1, ended, 1, &[0xff; 64]),
        Frames::new().frame(0x4, 0, 0, &[0; 5]),
        Frames::new().frame(0x7, 0, 0, &[0; 8]).headers(ended, 1, &waits),
        (0..2000_u32).fold(start(END_HEADERS, &waits), |frames, _| frames.data(0, 1, b"")),
        (0..500_u32).fold(Frames::new(), |frames, number| {
            let stream = number.saturating_mul(2).saturating_add(1);
            frames.headers(END_HEADERS, stream, &waits).reset(stream)
        }),
        (0..300_u32).fold(start(END_HEADERS, &waits), |frames, _| frames.frame(0x6, 0, 0, &[0; 8])),
    ];
    for frames in &odd {
        frames.send(gate.envoy.address(), SILENCE).await?;
    }
    Ok(odd.len())
}
