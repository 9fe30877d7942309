//! What the format needs of the operating system beside plain files: directories held open, and their exchange.

#[cfg(not(unix))]
pub(super) use other::{Directory, exchange, open_file, sync_directory};
#[cfg(unix)]
pub(super) use unix::{Directory, exchange, open_file, sync_directory};

#[cfg(unix)]
mod unix {
    use std::{
        fs::{self, File, OpenOptions},
        io::{self, ErrorKind},
        os::unix::fs::{MetadataExt, OpenOptionsExt},
        path::Path,
    };

    use rustix::{
        fs::{CWD, Mode, OFlags, RenameFlags},
        io::Errno,
    };

    /// An open directory.
    pub(in super::super) struct Directory(File);

    impl Directory {
        /// The directory that `opened` is, or the file that it is.
        pub(in super::super) fn from_opened(opened: File) -> io::Result<Result<Self, File>> {
            Ok(if opened.metadata()?.is_dir() { Ok(Directory(opened)) } else { Err(opened) })
        }

        /// Opens the file `name` of this directory, which may have been moved; `None` if there is none.
        pub(in super::super) fn open_file(&self, name: &str) -> io::Result<Option<File>> {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            match rustix::fs::openat(&self.0, name, flags, Mode::empty()) {
                Ok(file) => Ok(Some(File::from(file))),
                Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }

        /// Whether `path` still refers to this directory, whose inode cannot be reused while it is open.
        pub(in super::super) fn is_at(&self, path: &Path) -> bool {
            match (self.0.metadata(), fs::metadata(path)) {
                (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
                _ => false,
            }
        }
    }

    /// Opens a file or a directory; does not block if it is a pipe without a writer.
    pub(in super::super) fn open_file(path: &Path) -> io::Result<Result<Directory, File>> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        Directory::from_opened(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
    }

    /// Exchanges two directories atomically.
    pub(in super::super) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
        rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).map_err(|errno| match errno {
            Errno::INVAL | Errno::NOSYS | Errno::NOTSUP => io::Error::new(ErrorKind::Unsupported, super::NO_EXCHANGE),
            other => other.into(),
        })
    }

    pub(in super::super) fn sync_directory(path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// Windows: a directory cannot be held open, nor synced or exchanged. A mix of two generations is refused by the ids
/// and digests of its files, and a model is published to a new path only.
#[cfg(not(unix))]
mod other {
    use std::{
        fs::{self, File},
        io::{self, ErrorKind},
        path::{Path, PathBuf},
    };

    /// A directory, by its path.
    pub(in super::super) struct Directory(PathBuf);

    impl Directory {
        pub(in super::super) fn open_file(&self, name: &str) -> io::Result<Option<File>> {
            match File::open(self.0.join(name)) {
                Ok(file) => Ok(Some(file)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        }

        pub(in super::super) fn is_at(&self, path: &Path) -> bool {
            self.0 == path
        }
    }

    pub(in super::super) fn open_file(path: &Path) -> io::Result<Result<Directory, File>> {
        if fs::metadata(path)?.is_dir() { Ok(Ok(Directory(path.to_owned()))) } else { File::open(path).map(Err) }
    }

    pub(in super::super) fn exchange(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::Error::new(ErrorKind::Unsupported, super::NO_EXCHANGE))
    }

    pub(in super::super) fn sync_directory(_: &Path) -> io::Result<()> {
        Ok(())
    }
}

const NO_EXCHANGE: &str = "this file system cannot exchange two directories atomically, so the existing model cannot be \
                           replaced safely; publish to a new path";
