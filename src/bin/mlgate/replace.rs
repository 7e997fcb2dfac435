//! A file that others read while it changes: its next content is written beside it and renamed over it, and the folder
//! is locked meanwhile, so that of two who change it neither's work is lost.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Stop;

/// A file that nobody else changes as long as this lives.
#[derive(Debug)]
pub(crate) struct Replaceable {
    /// Where the file is; what a symbolic link leads to, not the link.
    path: PathBuf,
    folder: File,
}

/// How often it is looked whether somebody else is done: for ten seconds and more.
const LOCK_LOOKS: u32 = 500;

/// Between two looks.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

// === impl Replaceable ===

impl Replaceable {
    /// Waits for others, then keeps them away. The file need not exist, its folder must.
    pub(crate) fn open(path: &Path) -> Result<Self, Stop> {
        let unusable = |error: io::Error| {
            Stop::failure(
                path.display(),
                format_args!("cannot be used: {error}"),
                "name a file in a folder of yours",
            )
        };
        let path = match fs::canonicalize(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            found => found.map_err(unusable)?,
        };
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = File::open(folder).map_err(unusable)?;
        for _ in 0..LOCK_LOOKS {
            match folder.try_lock() {
                Ok(()) => return Ok(Self { path, folder }),
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            }
        }
        Err(Stop::failure(path.display(), "somebody else is changing it", "try again when they are done"))
    }

    /// What is in it; `None`: it does not exist.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>, Stop> {
        match self.path.try_exists() {
            Ok(false) => Ok(None),
            _ => crate::read_file(&self.path).map(Some),
        }
    }

    /// Replaces what is in it. Whoever reads it finds the one or the other, whole; afterwards it survives a crash.
    pub(crate) fn write(&self, content: &[u8]) -> Result<(), Stop> {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // one name is enough, since the folder is locked: what a crash left behind is of no use
        let beside = self.path.with_file_name(format!(".{name}.new"));
        self.written(&beside, content).map_err(|error| {
            // it may not even exist
            let _ = fs::remove_file(&beside);
            Stop::failure(
                self.path.display(),
                format_args!("cannot be written: {error}"),
                "check the disk and its rights",
            )
        })
    }

    fn written(&self, beside: &Path, content: &[u8]) -> io::Result<()> {
        match fs::remove_file(beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // a new file, never what somebody may have put there since
        let mut file = OpenOptions::new().write(true).create_new(true).open(beside)?;
        if let Ok(before) = fs::metadata(&self.path) {
            // first: whoever gives a file away takes rights off it
            keep_owner(&file, &before)?;
            file.set_permissions(before.permissions())?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(beside, &self.path)?;
        self.folder.sync_all()
    }
}

/// Gives a file to whom the one before belongs: a server that may read that must be able to read this.
#[cfg(unix)]
fn keep_owner(file: &File, before: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let own = file.metadata()?;
    let owner = Some(before.uid()).filter(|uid| *uid != own.uid());
    let group = Some(before.gid()).filter(|gid| *gid != own.gid());
    if owner.or(group).is_some() { fchown(file, owner, group) } else { Ok(()) }
}

#[cfg(not(unix))]
fn keep_owner(_: &File, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}
