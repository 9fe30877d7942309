//! Publishes a model directory atomically: at every moment its path refers to all the old files or all the new ones.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::system::{exchange, sync_directory};
use crate::error::{Error, Result};

/// Moves the finished directory `staging` to `target`, replacing a model directory there. The files are synced to disk
/// before the move, and the move before this returns. `target` may be absent, an empty directory, or a model directory,
/// which is exchanged for the new one atomically and then removed with all its contents; a symbolic link to one of
/// these is followed. Both must be on the same file system, and neither inside the other.
///
/// # Errors
/// [`Error::Argument`] if `staging` holds no `model.safetensors`, or if `target` is a file or a non-empty directory
/// that is not a model; [`Error::Io`] from the operating system, also if the file system cannot exchange directories.
/// Then nothing has changed. After [`Error::Published`] the new model stands, but a power failure may bring the old one
/// back, or the old one, now at `staging`, could not be removed.
pub fn publish(staging: &Path, target: &Path) -> Result<()> {
    if !staging.join("model.safetensors").is_file() {
        return Err(Error::Argument(format!("{}: no model.safetensors to publish", staging.display())));
    }
    let (staging, target) = (&resolve(staging)?, &resolve(target)?);
    if staging.starts_with(target) || target.starts_with(staging) {
        let (staging, target) = (staging.display(), target.display());
        return Err(Error::Argument(format!("{staging} cannot be published to {target}: one is inside the other")));
    }
    sync(staging)?;
    let replaced = replace(staging, target)?;
    for parent in [target, staging].into_iter().filter_map(|path| path.parent()) {
        sync_directory(parent).map_err(|source| published(target, "not yet durable: cannot sync", parent, source))?;
    }
    if replaced {
        match fs::remove_dir_all(staging) {
            // Another writer may have taken it for left by a kill.
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(published(target, "cannot remove the replaced model, now at", staging, source));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Moves `staging` to `target`; returns whether `staging` now holds the replaced model.
fn replace(staging: &Path, target: &Path) -> Result<bool> {
    loop {
        let occupant = occupant(target)?;
        let moved = match occupant {
            Occupant::Nothing => fs::rename(staging, target),
            Occupant::Model => exchange(staging, target),
        };
        match (moved, occupant) {
            (Ok(()), _) => return Ok(occupant == Occupant::Model),
            // Another process has published there meanwhile: replace its model.
            (Err(error), Occupant::Nothing) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            (Err(source), _) => return Err(failed("cannot publish to", target, source)),
        }
    }
}

/// What the target path holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occupant {
    /// Nothing, or an empty directory.
    Nothing,
    Model,
}

fn occupant(target: &Path) -> Result<Occupant> {
    let mut entries = match fs::read_dir(target) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Occupant::Nothing),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(Error::Argument(format!(
                "{}: expected a directory to publish to, got a file",
                target.display()
            )));
        }
        Err(source) => return Err(failed("cannot list", target, source)),
    };
    if target.join("model.safetensors").is_file() {
        return Ok(Occupant::Model);
    }
    match entries.next() {
        None => Ok(Occupant::Nothing),
        Some(_) => Err(Error::Argument(format!(
            "{}: holds other files but no model.safetensors; not overwritten",
            target.display()
        ))),
    }
}

/// Syncs a directory and everything below it to disk.
fn sync(path: &Path) -> Result<()> {
    let listed = fs::read_dir(path).map_err(|source| failed("cannot list", path, source))?;
    for entry in listed {
        let entry = entry.map_err(|source| failed("cannot list", path, source))?;
        let path = entry.path();
        if path.is_dir() {
            sync(&path)?;
        } else {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(|source| failed("cannot sync", &path, source))?;
        }
    }
    sync_directory(path).map_err(|source| failed("cannot sync", path, source))
}

/// The absolute path without symbolic links; the last component may be absent.
fn resolve(path: &Path) -> Result<PathBuf> {
    let resolved = match (fs::canonicalize(path), path.file_name()) {
        (Err(error), Some(name)) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::canonicalize(parent).map(|parent| parent.join(name))
        }
        (resolved, _) => resolved,
    };
    resolved.map_err(|source| failed("cannot resolve", path, source))
}

fn published(target: &Path, step: &str, path: &Path, source: io::Error) -> Error {
    Error::Published { doing: format!("{}: published; {step} {}", target.display(), path.display()), source }
}

fn failed(doing: &str, path: &Path, source: io::Error) -> Error {
    Error::Io { doing: format!("{doing} {}", path.display()), source }
}
