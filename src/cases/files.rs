//! A folder of case files becomes paths, wherever the files are.

use std::path::{Component, Path, PathBuf};

/// Where files are. The core on Wasm has no file system, but whoever runs it has one.
pub trait Files {
    /// What is in a folder; `None` where the path is no folder.
    fn names(&self, folder: &Path) -> Option<Vec<String>>;
    /// A whole file.
    ///
    /// # Errors
    /// The path, and why it cannot be read.
    fn read(&self, path: &Path) -> Result<Vec<u8>, String>;
}

/// The files of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

// === impl Disk ===

impl Files for Disk {
    fn names(&self, folder: &Path) -> Option<Vec<String>> {
        let entries = std::fs::read_dir(folder).ok()?;
        Some(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// Every YAML file below a folder, sorted. Folders called `config` hold no cases.
pub(super) fn below(files: &dyn Files, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    collect(files, folder, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(files: &dyn Files, folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let names = files.names(folder).ok_or_else(|| format!("{}: not a folder", folder.display()))?;
    for name in names {
        let path = folder.join(&name);
        if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        } else if name != "config" && files.names(&path).is_some() {
            collect(files, &path, found)?;
        }
    }
    Ok(())
}

/// The same place without `.` and `..`. One place has one name: cases of one configuration are found by it.
pub(super) fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}
