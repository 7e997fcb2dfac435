//! The ground a test stands on, natively or on Wasm under Node: where its files are, and a witness of what it observed
//! natively, to which the same test on Wasm is held.

use std::fmt::Debug;
use std::path::Path;

use mlgate::audit::chain::hex;
use sha2::{Digest as _, Sha256};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use mlgate::cases::Disk as Here;
#[cfg(target_arch = "wasm32")]
pub(crate) use node::Node as Here;

/// What a test observes, one line each: a digest, and what it is of. Natively it is kept, on Wasm it is compared.
#[derive(Debug)]
pub(crate) struct Witness {
    name: &'static str,
    lines: String,
}

// === impl Witness ===

impl Witness {
    /// Of the test with this name.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, lines: String::new() }
    }

    /// Adds what was observed.
    pub(crate) fn saw(&mut self, what: &str, observed: impl Debug) {
        let digest = Sha256::digest(format!("{observed:?}"));
        self.lines.push_str(&format!("{} {what}\n", hex(&digest)));
    }

    /// Keeps the lines.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn compare(self) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("native");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(self.name), self.lines).unwrap();
    }

    /// Holds the lines to the native ones.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn compare(self) {
        use mlgate::cases::Files as _;

        // a target of its own has a folder of its own, two below the native one's
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../../tmp/native").join(self.name);
        let native = Here.read(&kept).unwrap_or_else(|error| panic!("run the native test first: {error}"));
        let native = String::from_utf8(native).unwrap();
        let mut pairs = native.lines().zip(self.lines.lines());
        let first = pairs.find(|(native, wasm)| native != wasm);
        let others = pairs.filter(|(native, wasm)| native != wasm).count();
        if let Some((native, _)) = first {
            let what = native.split_once(' ').map_or(native, |(_, what)| what);
            panic!("another answer than natively, here and {others} more times: {what}");
        }
        assert_eq!(native.lines().count(), self.lines.lines().count(), "as many answers as natively");
    }
}

#[cfg(target_arch = "wasm32")]
mod node {
    use std::path::Path;

    use mlgate::cases::Files;
    use wasm_bindgen::JsValue;
    use wasm_bindgen::prelude::wasm_bindgen;

    #[wasm_bindgen(module = "fs")]
    extern "C" {
        #[wasm_bindgen(catch, js_name = readdirSync)]
        fn read_dir(path: &str) -> Result<Vec<String>, JsValue>;

        #[wasm_bindgen(catch, js_name = readFileSync)]
        fn read_file(path: &str) -> Result<Vec<u8>, JsValue>;
    }

    /// The files that Node sees.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Node;

    impl Files for Node {
        fn names(&self, folder: &Path) -> Option<Vec<String>> {
            read_dir(folder.to_str()?).ok()
        }

        fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
            let place = path.display().to_string();
            read_file(&place).map_err(|error| format!("{place}: {error:?}"))
        }
    }
}
