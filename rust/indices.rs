//! Bounds-checked indices: each index is checked here, once; the type [`Indices`] carries the proof to its users.

use std::borrow::Cow;

use crate::error::{Error, Result};

/// The bounds check of an argument's indices into a table of at most 2^31 rows.
#[derive(Debug, Clone, Copy)]
pub struct IndexCheck<'a> {
    /// The argument's name in errors, such as `users`.
    pub what: &'a str,
    /// The name of one row in errors, such as `user`.
    pub noun: &'a str,
    /// Rows of the table.
    pub bound: usize,
}

/// Indices that are all below [`Indices::bound`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indices<'a> {
    values: Cow<'a, [u32]>,
    bound: usize,
}

impl IndexCheck<'_> {
    /// Converts `value`, at position `at` of the argument, to an index.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if it is negative or not below the bound.
    pub fn one(&self, at: usize, value: i128) -> Result<u32> {
        match u32::try_from(value) {
            Ok(index) if (index as usize) < self.bound => Ok(index),
            _ => {
                let IndexCheck { what, noun, bound } = self;
                Err(Error::OutOfRange(format!(
                    "{what}[{at}]: {noun} index {value} is out of range for {bound} {noun}s"
                )))
            }
        }
    }

    /// Converts integers of any type to indices; the first of `values` is at position `first` of the argument.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for the first that is out of range.
    pub fn narrow<T: Copy + Into<i128>>(&self, first: usize, values: &[T], to: &mut [u32]) -> Result<()> {
        let mut any = 0;
        for (to, &value) in to.iter_mut().zip(values) {
            let bits = value.into() as u64;
            any |= bits;
            *to = bits as u32;
        }
        if any >> 32 != 0 || !all_below(to, self.bound) {
            self.each(first, values)?; // reports the first index out of range
        }
        Ok(())
    }

    /// Checks `values`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for the first that is out of range.
    pub fn all<'v>(&self, values: impl Into<Cow<'v, [u32]>>) -> Result<Indices<'v>> {
        let values = values.into();
        if !all_below(&values, self.bound) {
            self.each(0, &values)?;
        }
        Ok(Indices { values, bound: self.bound })
    }

    /// Wraps `values` that [`IndexCheck::one`] or [`IndexCheck::narrow`] produced, without another check.
    pub fn made(&self, values: Vec<u32>) -> Indices<'static> {
        debug_assert!(all_below(&values, self.bound), "{}: not bounds-checked", self.what);
        Indices { values: values.into(), bound: self.bound }
    }

    fn each<T: Copy + Into<i128>>(&self, first: usize, values: &[T]) -> Result<()> {
        (first..).zip(values).try_for_each(|(at, &value)| self.one(at, value.into()).map(drop))
    }
}

impl Indices<'_> {
    /// The indices.
    pub fn values(&self) -> &[u32] {
        &self.values
    }

    /// The indices, if their bounds check holds for a table of `rows` rows, named `what` in errors.
    ///
    /// # Errors
    /// [`Error::Argument`] if they were checked against more rows.
    pub(crate) fn below(&self, rows: usize, what: &str) -> Result<&[u32]> {
        let bound = self.bound;
        if bound > rows {
            return Err(Error::Argument(format!("{what}: checked against {bound} {what}, the model has {rows}")));
        }
        Ok(&self.values)
    }

    /// The number of indices.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no indices.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The number of rows of the table; every index is below it.
    pub fn bound(&self) -> usize {
        self.bound
    }

    /// The indices, owned.
    pub fn into_values(self) -> Vec<u32> {
        self.values.into_owned()
    }
}

/// Whether all indices are below `bound`, at most 2^31. It uses only operations that vectorise on every CPU: an index
/// `i` is out of range exactly if `i` or `bound - 1 - i` (wrapping) has its highest bit set.
fn all_below(indices: &[u32], bound: usize) -> bool {
    let last = (bound as u32).wrapping_sub(1);
    indices.iter().fold(0, |any, &i| any | i | last.wrapping_sub(i)) >> 31 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_index_out_of_range_is_named() {
        let check = IndexCheck { what: "items", noun: "item", bound: 5 };
        assert_eq!(check.all(&[0, 4][..]).unwrap().values(), [0, 4]);
        assert!(check.all(&[][..]).unwrap().is_empty());
        let error = check.all(&[0, 5, 6][..]).unwrap_err().to_string();
        assert_eq!(error, "items[1]: item index 5 is out of range for 5 items");
        for wrong in [-1, 5, 1 << 31, 1 << 32, i64::MIN] {
            let error = check.narrow(10, &[2, wrong], &mut [0; 2]).unwrap_err().to_string();
            assert_eq!(error, format!("items[11]: item index {wrong} is out of range for 5 items"));
        }
        let mut to = [0; 3];
        check.narrow(0, &[4i8, 0, 2], &mut to).unwrap();
        assert_eq!(check.made(to.to_vec()).into_values(), [4, 0, 2]);
        let empty = IndexCheck { bound: 0, ..check };
        assert!(empty.all(&[0][..]).is_err() && empty.all(&[][..]).is_ok());
    }
}
