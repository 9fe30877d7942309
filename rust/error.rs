//! The crate's error type: a variant for each kind of cause; a message says what, where, expected and got.

use std::any::Any;
use std::{fmt, io};

/// What can go wrong.
#[derive(Debug)]
pub enum Error {
    /// A model file or directory that violates its specification (`format/README.md`).
    Format(String),
    /// An invalid argument: a wrong shape, length, value or combination.
    Argument(String),
    /// An index that is out of range for its table.
    OutOfRange(String),
    /// An allocation failed.
    Memory(String),
    /// The operating system returned an error.
    Io {
        /// The operation that failed, and its path.
        doing: String,
        /// The operating system's own error.
        source: io::Error,
    },
    /// A model was published and stands, but a later step failed.
    Published {
        /// What is published, and the step that failed.
        doing: String,
        /// The operating system's own error.
        source: io::Error,
    },
    /// The caller's interrupt check asked to stop.
    Interrupted,
    /// A bug of this crate.
    Internal(String),
}

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Format(text)
            | Error::Argument(text)
            | Error::OutOfRange(text)
            | Error::Memory(text)
            | Error::Internal(text) => f.write_str(text),
            Error::Io { doing, source } | Error::Published { doing, source } => write!(f, "{doing}: {source}"),
            Error::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl Error {
    /// [`Error::Internal`] with the message of a caught panic.
    #[must_use]
    pub fn from_panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        Error::Internal(format!("a bug in neuralcf: {}", text.unwrap_or("a panic without a message")))
    }

    /// The same error, its message prefixed with where it happened: a file, an argument.
    #[must_use]
    pub(crate) fn within(self, place: impl fmt::Display) -> Self {
        match self {
            Error::Format(text) => Error::Format(format!("{place}: {text}")),
            Error::Argument(text) => Error::Argument(format!("{place}: {text}")),
            Error::OutOfRange(text) => Error::OutOfRange(format!("{place}: {text}")),
            Error::Memory(text) => Error::Memory(format!("{place}: {text}")),
            Error::Internal(text) => Error::Internal(format!("{place}: {text}")),
            Error::Io { doing, source } => Error::Io { doing: format!("{place}: {doing}"), source },
            Error::Published { doing, source } => Error::Published { doing: format!("{place}: {doing}"), source },
            Error::Interrupted => Error::Interrupted,
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } | Error::Published { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// An empty vector with capacity for `len` elements.
///
/// # Errors
/// [`Error::Memory`] naming `what` it was for.
pub fn reserve<T>(what: &str, len: usize) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(len).map_err(|_| {
        let bytes = len as u128 * size_of::<T>() as u128;
        Error::Memory(format!("{what}: cannot reserve {bytes} bytes"))
    })?;
    Ok(vec)
}

/// The elements of `iter`.
///
/// # Errors
/// [`Error::Memory`] naming `what` they are for.
pub(crate) fn collected<T>(what: &str, iter: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>> {
    let mut vec = reserve(what, iter.len())?;
    vec.extend(iter);
    Ok(vec)
}

/// [`collected`] for elements that may fail.
///
/// # Errors
/// [`Error::Memory`] naming `what` they are for; the first error of an element.
pub(crate) fn try_collected<T>(what: &str, iter: impl ExactSizeIterator<Item = Result<T>>) -> Result<Vec<T>> {
    let mut vec = reserve(what, iter.len())?;
    for element in iter {
        vec.push(element?);
    }
    Ok(vec)
}

/// Appends `value` to `vec`, which grows as by `Vec::push`.
///
/// # Errors
/// [`Error::Memory`] naming `what` it is for; `vec` is as before.
pub fn push<T>(what: &str, vec: &mut Vec<T>, value: T) -> Result<()> {
    vec.try_reserve(1)
        .map_err(|_| Error::Memory(format!("{what}: cannot reserve memory for more than {}", vec.len())))?;
    vec.push(value);
    Ok(())
}

/// An empty string with room for `bytes`.
///
/// # Errors
/// [`Error::Memory`] naming `what` it is for.
pub(crate) fn with_room(what: &str, bytes: usize) -> Result<String> {
    let mut text = String::new();
    text.try_reserve_exact(bytes).map_err(|_| Error::Memory(format!("{what}: cannot reserve {bytes} bytes")))?;
    Ok(text)
}

/// A copy of `text`.
///
/// # Errors
/// [`Error::Memory`] naming `what` it is for.
pub(crate) fn copied(what: &str, text: &str) -> Result<String> {
    let mut copy = with_room(what, text.len())?;
    copy.push_str(text);
    Ok(copy)
}

/// `len` copies of `value`.
///
/// # Errors
/// [`Error::Memory`] naming `what` they were for.
pub fn filled<T: Clone>(what: &str, len: usize, value: T) -> Result<Vec<T>> {
    let mut vec = reserve(what, len)?;
    vec.resize(len, value);
    Ok(vec)
}
