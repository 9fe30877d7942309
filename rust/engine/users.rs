//! The users of a call: users of the model, or users given by their embeddings.

use std::borrow::Cow;
use std::ops::Range;

use crate::kernel::Lanes;
use crate::kernel::row_table::RowTable;

/// The embeddings of some users, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct UserVectors {
    /// How many users.
    pub rows: usize,
    /// `[rows, G]`, in a model with a GMF part.
    pub gmf: Option<Vec<f32>>,
    /// `[rows, Mu]`, in a model with an MLP.
    pub mlp: Option<Vec<f32>>,
}

/// Users that are not in the model, projected for queries; see [`Engine::project`](super::Engine::project).
#[derive(Debug)]
pub struct ProjectedUsers(pub(super) RowTable);

/// The users of a call, one for each row of it.
#[derive(Debug, Clone, Copy)]
pub struct Users<'a> {
    pub(super) rows: &'a RowTable,
    pub(super) which: Which<'a>,
    pub(super) len: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    /// Row `r` is the user with the index `r` of these.
    Each(&'a [u32]),
    /// Every row is this user.
    Same(u32),
    /// Row `r` is projected user `r`, who is not in the model.
    Projected,
}

impl<'a> Users<'a> {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The index in the model of row `row`'s user; `None` for a user that is not in the model.
    pub fn index(&self, row: usize) -> Option<u32> {
        match self.which {
            Which::Each(users) => Some(users[row]),
            Which::Same(user) => Some(user),
            Which::Projected => None,
        }
    }

    /// The positions of these rows' users in the table that [`Users::rows`] gives; `None` where all are one user.
    pub(crate) fn positions(&self, rows: Range<usize>) -> Option<Cow<'a, [u32]>> {
        match self.which {
            Which::Each(users) => Some(users[rows].into()),
            Which::Same(_) => None,
            Which::Projected => Some(rows.map(|row| row as u32).collect()),
        }
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
    /// All of them, in the order of their vectors.
    pub fn users(&self) -> Users<'_> {
        Users { rows: &self.0, which: Which::Projected, len: self.0.count() }
    }
}
