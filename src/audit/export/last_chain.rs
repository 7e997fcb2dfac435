//! The chain that was opened before, by whichever worker: a chain that is missing altogether leaves a dangling name.

use sha2::{Digest, Sha256};

use crate::audit::chain::hex;
use crate::audit::export::TrailSettings;
use crate::host::{Host, HostError, Version};

/// Tries to enter the chain into shared data.
const MAX_CONFLICTS: u32 = 8;

/// First byte of the shared value.
const LAYOUT: u8 = 1;

/// Enters a new chain into shared data and gives the one that stood there. Best effort: a chain without predecessor is a
/// chain all the same.
pub(super) fn exchange(settings: &TrailSettings, id: &str, host: &dyn Host) -> Option<String> {
    let collector = Sha256::digest(format!("{}\0{}", settings.cluster, settings.path));
    let key = format!("mlgate/1/{}/chain/{}", settings.gate, hex(&collector));
    let value = [&[LAYOUT], id.as_bytes()].concat();
    for _ in 0..MAX_CONFLICTS {
        let known = host.shared(&key).ok()?;
        let version = known.as_ref().map_or(Version::Absent, |known| known.version);
        match host.compare_and_set(&key, &value, version) {
            Ok(()) => {
                let known = known?;
                let (layout, id) = known.value.split_first()?;
                let id = std::str::from_utf8(id).ok()?;
                let ours = id.strip_prefix(&settings.gate)?.strip_prefix('/')?;
                let nonce = ours.len() == 32 && ours.bytes().all(|byte| byte.is_ascii_hexdigit());
                return (*layout == LAYOUT && nonce).then(|| id.to_owned());
            }
            Err(HostError::Conflict) => {}
            Err(_) => return None,
        }
    }
    None
}
