//! HTTP/2 by hand: frames that no well-behaved client sends (RFC 9113 §4, RFC 7541 §6.2.2).

use std::net::SocketAddr;
use std::time::Duration;

use crate::client;

/// The bytes of one connection, after the preface and an empty SETTINGS frame.
#[derive(Clone, Debug, Default)]
pub struct Frames(Vec<u8>);

/// `END_STREAM`.
pub const END_STREAM: u8 = 0x1;
/// `END_HEADERS`.
pub const END_HEADERS: u8 = 0x4;

// === impl Frames ===

impl Frames {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Any frame at all.
    #[must_use]
    pub fn frame(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.0.extend_from_slice(length.get(1..).unwrap_or_default());
        self.0.extend_from_slice(&[kind, flags]);
        self.0.extend_from_slice(&stream.to_be_bytes());
        self.0.extend_from_slice(payload);
        self
    }

    /// HEADERS, each field a literal without indexing.
    #[must_use]
    pub fn headers(self, flags: u8, stream: u32, fields: &[(&[u8], &[u8])]) -> Self {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            string(&mut block, name);
            string(&mut block, value);
        }
        self.frame(0x1, flags, stream, &block)
    }

    /// DATA.
    #[must_use]
    pub fn data(self, flags: u8, stream: u32, payload: &[u8]) -> Self {
        self.frame(0x0, flags, stream, payload)
    }

    /// RST_STREAM with `CANCEL`.
    #[must_use]
    pub fn reset(self, stream: u32) -> Self {
        self.frame(0x3, 0, stream, &8_u32.to_be_bytes())
    }

    /// Sends all of it on a new connection; whatever comes back until there is silence.
    pub async fn send(&self, address: SocketAddr, silence: Duration) -> anyhow::Result<Vec<u8>> {
        let settings = Self::new().frame(0x4, 0, 0, &[]);
        client::raw(
            address,
            &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings.0.as_slice(), &self.0].concat(),
            silence,
        )
        .await
    }
}

/// A string without Huffman coding; its length has a 7-bit prefix (RFC 7541 §5.1).
fn string(block: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text.len();
    if let Some(more) = rest.checked_sub(0x7f) {
        block.push(0x7f);
        rest = more;
        while rest >= 0x80 {
            block.push(0x80 | u8::try_from(rest & 0x7f).unwrap_or_default());
            rest >>= 7;
        }
    }
    block.push(u8::try_from(rest).unwrap_or_default());
    block.extend_from_slice(text);
}
