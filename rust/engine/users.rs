//! The users of a call: users of the model, or users given by their embeddings.

use std::borrow::Cow;
use std::ops::Range;

use crate::error::{Result, collected};
use crate::kernel::Lanes;
use crate::kernel::row_table::RowTable;

/// The embeddings of users, one row per user.
#[derive(Debug, Clone, PartialEq)]
pub struct UserVectors {
    /// The number of users.
    pub rows: usize,
    /// `[rows, G]`, if the model has a GMF block.
    pub gmf: Option<Vec<f32>>,
    /// `[rows, Mu]`, if the model has an MLP block.
    pub mlp: Option<Vec<f32>>,
}

/// New users, projected for queries; see [`Engine::project`](super::Engine::project).
#[derive(Debug)]
pub struct ProjectedUsers(pub(super) RowTable);

/// The users of a call, one per row.
#[derive(Debug, Clone, Copy)]
pub struct Users<'a> {
    pub(super) rows: &'a RowTable,
    pub(super) which: Which<'a>,
    pub(super) len: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    /// Row `r` is the user with index `users[r]`.
    Each(&'a [u32]),
    /// Every row is this user.
    Same(u32),
    /// Row `r` is projected user `r`, which is not in the model.
    Projected,
}

impl<'a> Users<'a> {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The index of the user of row `row`; `None` for a user that is not in the model.
    pub fn index(&self, row: usize) -> Option<u32> {
        match self.which {
            Which::Each(users) => Some(users[row]),
            Which::Same(user) => Some(user),
            Which::Projected => None,
        }
    }

    /// The positions of these rows' users in the table [`Users::rows`]; `None` if all rows are the same user.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn positions(&self, rows: Range<usize>) -> Result<Option<Cow<'a, [u32]>>> {
        Ok(match self.which {
            Which::Each(users) => Some(users[rows].into()),
            Which::Same(_) => None,
            Which::Projected => Some(collected("positions", rows.map(|row| row as u32))?.into()),
        })
    }

    pub(crate) fn rows(&self) -> &'a RowTable {
        self.rows
    }

    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [Lanes] {
        self.rows.row(match self.which {
            Which::Each(users) => users[row] as usize,
            Which::Same(user) => user as usize,
            Which::Projected => row,
        })
    }
}

impl ProjectedUsers {
    /// All the users, in the order of their vectors.
    pub fn users(&self) -> Users<'_> {
        Users { rows: &self.0, which: Which::Projected, len: self.0.count() }
    }
}
