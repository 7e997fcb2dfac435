//! The files of a folder, for gates that poll them: an answer for each `<name>.json`, with a strong entity tag (RFC 9110
//! §8.8.3), and 304 where the caller has it already.
//!
//! A file is read for each request, so that a change is served at once. Nothing but such files is served: no folder, no
//! hidden file, nothing that a symbolic link leads out of the folder for.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as Name, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use mlgate::audit::chain::hex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::Stop;

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Lists {
    folder: Arc<Path>,
    reading: Arc<Semaphore>,
}

/// A list as it is now.
struct List {
    bytes: Vec<u8>,
    tag: String,
}

/// Bytes of a list.
const MAX_LIST_BYTES: u64 = 16 << 20;

/// Bytes of a list's name.
const MAX_NAME: usize = 128;

/// Lists that are read at the same time; others wait.
const MAX_READING: usize = 4;

/// How lists are named.
const EXTENSION: &str = ".json";

// === impl Lists ===

impl Lists {
    /// A folder that exists.
    pub(super) fn open(folder: &Path) -> Result<Self, Stop> {
        let stop = |error: io::Error| {
            Stop::invalid(
                folder.display(),
                format_args!("cannot be served: {error}"),
                "name a folder that can be read",
            )
        };
        let folder = std::fs::canonicalize(folder).map_err(stop)?;
        std::fs::read_dir(&folder).map_err(stop)?;
        Ok(Self { folder: folder.into(), reading: Arc::new(Semaphore::new(MAX_READING)) })
    }

    /// Under `/lists/`.
    pub(super) fn router(self) -> Router {
        Router::new().route("/lists/{name}", get(serve)).with_state(self)
    }

    /// The file of this name, if it is one that is served.
    fn read(&self, name: &str) -> io::Result<Option<List>> {
        if !is_name(name) {
            return Ok(None);
        }
        let Some(path) = existing(std::fs::canonicalize(self.folder.join(name)))? else { return Ok(None) };
        // of links within the folder, as a mounted ConfigMap has them, the target counts
        if !path.starts_with(&self.folder) || !std::fs::metadata(&path)?.is_file() {
            return Ok(None);
        }
        let Some(file) = existing(File::open(path))? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(MAX_LIST_BYTES.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_LIST_BYTES {
            return Err(io::Error::other(format!("larger than {MAX_LIST_BYTES} bytes")));
        }
        let tag = format!("\"{}\"", hex(&Sha256::digest(&bytes)));
        Ok(Some(List { bytes, tag }))
    }
}

async fn serve(State(lists): State<Lists>, Name(name): Name<String>, headers: HeaderMap) -> Response {
    let Ok(place) = Arc::clone(&lists.reading).acquire_owned().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let read = tokio::task::spawn_blocking(move || {
        let read =
            lists.read(&name).inspect_err(|error| super::say(format_args!("the list {name}: {error}")));
        drop(place);
        read
    });
    let list = match read.await {
        Ok(Ok(Some(list))) => list,
        Ok(Ok(None)) => return (StatusCode::NOT_FOUND, "no such list\n").into_response(),
        Ok(Err(_)) | Err(_) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, "the list cannot be read\n").into_response();
        }
    };
    let common = [(header::ETAG, list.tag.clone()), (header::CACHE_CONTROL, String::from("no-cache"))];
    if has_it(&headers, &list.tag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, "application/json")], list.bytes).into_response()
}

/// `If-None-Match` compares weakly (RFC 9110 §13.1.2).
fn has_it(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    known
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// A plain name: nothing that a path could be made of, and nothing hidden.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= MAX_NAME
        && name.ends_with(EXTENSION)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(plain)
}

fn existing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_served() {
        for name in ["revoked.json", "a.json", "a-b_c.2.json", "0.json"] {
            assert!(is_name(name), "{name}");
        }
        let long = format!("{}.json", "a".repeat(MAX_NAME));
        for name in [
            "",
            ".json",
            "..json",
            ".a.json",
            "a",
            "a.JSON",
            "a.json.bak",
            "../a.json",
            "a/b.json",
            "a\\b.json",
            "a\0.json",
            "ä.json",
            &long,
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
