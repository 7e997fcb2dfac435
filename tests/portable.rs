//! Stages on input made by chance, the same chance in each run: natively the answers are kept, on Wasm (`make test-wasm`)
//! they must be the same. What the right answer is, unit tests say; here a 32-bit `usize` or another library must not
//! matter.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a broken fixture should stop the test"
)]

use std::path::Path;
use std::time::Duration;

use mlgate::audit::canonical::{Canonical, Tree};
use mlgate::audit::chain::{Chain, MacKey, Signer};
use mlgate::cases::Files as _;
use mlgate::config::{self, Format, values};
use mlgate::host::Host as _;
use mlgate::host::fake::FakeHost;
use mlgate::http::path;
use mlgate::identity::api_key::{ApiKey, KeyDigest, RANDOM_BYTES};
use mlgate::identity::secret::Secret;
use mlgate::limits::gcra::{self, Rate, Verdict};
use mlgate::resource::scan;
use mlgate::time::UnixTime;

use ground::{Here, Witness};

#[path = "support/ground.rs"]
mod ground;

/// The same numbers in each run.
struct Chance(FakeHost);

// === impl Chance ===

impl Chance {
    fn new() -> Self {
        Self(FakeHost::default())
    }

    fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.random(&mut bytes).unwrap();
        bytes
    }

    /// Any number, of any length in bits.
    fn number(&self) -> u64 {
        let bits = self.bytes::<1>()[0] % 64;
        u64::from_le_bytes(self.bytes()) >> bits
    }

    fn below(&self, end: usize) -> usize {
        usize::try_from(u64::from_le_bytes(self.bytes()) % u64::try_from(end).unwrap()).unwrap()
    }

    fn one<'a, T: ?Sized>(&self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// Up to `most` words in a row.
    fn text(&self, words: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| self.one(words)).collect()
    }

    /// A few bytes changed, taken out or doubled.
    fn mutated(&self, text: &[u8]) -> Vec<u8> {
        let mut bytes = text.to_vec();
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len().max(1)).min(bytes.len());
            let end = (at + self.below(6)).min(bytes.len());
            match self.below(4) {
                0 => bytes.drain(at..end).for_each(drop),
                1 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
                2 => bytes.insert(at, self.one(&[b"{", b"\"", b"\\", b":", b"\n", b"0", b"\xc3", b"]"])[0]),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = self.bytes::<1>()[0]),
            }
        }
        bytes
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn charges_are_the_same_everywhere() {
    let (chance, mut witness) = (Chance::new(), Witness::new("charges"));
    let mut admitted = 0;
    for history in 0..200 {
        let number = |end: usize| u64::try_from(chance.below(end)).unwrap();
        let rates: Vec<_> = (0..=chance.below(gcra::MAX_RATES))
            .map(|_| Rate::new(number(30), Duration::from_millis(number(60_000)), number(20)))
            .collect();
        let valid: Vec<Rate> = rates.iter().flatten().copied().collect();
        let (mut tats, mut now) = (gcra::Tats::default(), chance.number());
        let mut verdicts = Vec::new();
        for _ in 0..50 {
            now = now.saturating_add(number(2_000_000_000));
            let verdict = gcra::charge(&tats, &valid, now, number(3));
            if let Verdict::Admitted { tats: kept, .. } = verdict {
                (tats, admitted) = (kept, admitted + 1);
            }
            verdicts.push(verdict);
        }
        witness.saw(&format!("history {history}"), (rates, verdicts));
    }
    assert!((100..9900).contains(&admitted), "{admitted}");
    witness.compare();
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn bodies_name_the_same_model_everywhere() {
    let (chance, mut witness) = (Chance::new(), Witness::new("bodies"));
    let words = [
        "{",
        "}",
        "[",
        "]",
        "\"model\"",
        "\"Model\"",
        ":",
        ",",
        "\"fraud\"",
        "\\u0061",
        "1e9",
        "null",
        "\"ä\"",
    ];
    let mut named = 0;
    for body in 0..3000 {
        let bytes = if body % 3 == 0 {
            chance.text(&words, 12).into_bytes()
        } else {
            chance.mutated(br#"{"messages":[{"role":"user","n":1.5}],"model":"fr\u0061ud","x":{"model":1}}"#)
        };
        let found = scan::model_of_body(&bytes, u32::try_from(chance.below(5)).unwrap());
        named += usize::from(found.is_ok());
        witness.saw(&format!("body {body}"), (bytes, found));
    }
    assert!((100..2900).contains(&named), "{named}");
    witness.compare();
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn paths_are_read_the_same_everywhere() {
    let (chance, mut witness) = (Chance::new(), Witness::new("paths"));
    let words =
        ["/", "v1", "/models", "%2f", "%41", "%", ".", "..", ";", "\\", "ä", "\0", "a", ":predict", "?"];
    let mut clear = 0;
    for number in 0..3000 {
        let text = format!("/{}", chance.text(&words, 5));
        let found = path::canonical(&text);
        clear += usize::from(found.is_ok());
        witness.saw(&format!("path {number}"), (text, found));
    }
    assert!((100..2900).contains(&clear), "{clear}");
    witness.compare();
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn keys_and_their_digests_are_the_same_everywhere() {
    let (chance, mut witness) = (Chance::new(), Witness::new("keys"));
    for number in 0..300 {
        let key = ApiKey::generate(&chance.bytes::<{ RANDOM_BYTES * 2 }>()).unwrap();
        let digests = [key.digest(), key.keyed_digest("p1", &Secret::new(chance.bytes::<32>()))];
        let texts = digests.map(|digest| digest.to_string());
        let read = texts.each_ref().map(|text| KeyDigest::parse(text));
        let presented = chance.mutated(key.expose().as_bytes());
        let parsed = ApiKey::parse(&presented).map(|key| key.expose().to_owned());
        witness.saw(&format!("key {number}"), (key.expose(), texts, read, presented, parsed));
    }
    witness.compare();
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn events_are_the_same_bytes_everywhere() {
    let (chance, mut witness) = (Chance::new(), Witness::new("events"));
    let words = ["a", "\"", "\\", "\u{1}", "é", "€", "😀", "\u{7f}", "0123456789abcdef"];
    for number in 0..1000 {
        let mut line = Canonical::with_capacity(64);
        line.open();
        line.count("count", chance.number());
        line.integer("integer", i64::from_le_bytes(chance.bytes()));
        line.list("list", &(0..chance.below(70)).map(|_| chance.text(&words, 3)).collect::<Vec<_>>());
        line.text("text", &chance.text(&words, 400));
        line.close();
        let line = line.into_bytes();
        let read = Tree::parse(&chance.mutated(&line)).map(|tree| tree.canonical());
        witness.saw(&format!("event {number}"), (line, read));
    }
    let key = MacKey::chain("k1", &chance.bytes::<32>()).unwrap();
    witness.saw("a tag", key.tag(&[b"mlgate", &chance.bytes::<100>()]));
    let chain = Chain::new("gate", chance.bytes());
    witness.saw("a chain", (chain.id(), Signer::Keyed(key).is_keyed()));
    witness.compare();
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn configurations_have_the_same_faults_everywhere() {
    let (chance, mut witness) = (Chance::new(), Witness::new("configurations"));
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy/config/full.yaml");
    let full = Here.read(&full).unwrap_or_else(|error| panic!("{error}"));
    let mut good = 0;
    for number in 0..150 {
        let document = chance.mutated(&full);
        let loaded = config::load(&document, Format::Yaml, &|name| Some(format!("the value of {name}")));
        good += usize::from(loaded.is_ok());
        witness.saw(&format!("document {number}"), loaded.map(|config| config.revision));
    }
    assert!((10..140).contains(&good), "{good}");
    witness.compare();
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn values_are_read_the_same_everywhere() {
    let (chance, mut witness) = (Chance::new(), Witness::new("values"));
    let words = ["1", "9", "0", "99999999999", "s", "ms", "m", "h", "d", "KiB", "MiB", "B", ".", "-"];
    for number in 0..2000 {
        let text = chance.text(&words, 4);
        let date = chance.mutated(b"2026-02-28T23:59:59.999Z");
        let time = UnixTime::parse(&String::from_utf8_lossy(&date)).map(UnixTime::millis);
        let shown = UnixTime::from_millis(i64::from_le_bytes(chance.bytes())).to_string();
        witness.saw(
            &format!("value {number}"),
            (&text, values::duration(&text), values::size(&text), date, time, shown),
        );
    }
    witness.compare();
}
