//! A weight matrix as a file holds it, its lengths checked once.

use core::error::Error;
use core::fmt;

use crate::format::Format;

/// Why shapes were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShapeError {
    /// A row does not fill whole blocks of its format.
    Blocks {
        /// The format.
        format: Format,
        /// Elements in a row.
        cols: usize,
    },
    /// A slice has another length than the shapes say.
    Length {
        /// What the slice holds.
        what: &'static str,
        /// Its length, in elements or bytes.
        found: usize,
        /// The length that the shapes ask for.
        expected: usize,
    },
    /// A row of attention names more positions than its pages hold, or a page that is not there.
    Pages {
        /// Positions that the row attends to.
        positions: usize,
        /// Positions that its pages hold.
        held: usize,
    },
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocks { format, cols } => write!(
                f,
                "rows of {cols} elements do not fill {} blocks of {}",
                format.name(),
                format.block_len()
            ),
            Self::Length { what, found, expected } => {
                write!(f, "{what} has length {found}, its shape asks for {expected}")
            }
            Self::Pages { positions, held } => {
                write!(f, "{positions} positions asked for, the pages hold {held}")
            }
        }
    }
}

impl Error for ShapeError {}

impl ShapeError {
    pub(crate) const fn check(
        what: &'static str,
        found: usize,
        expected: usize,
    ) -> Result<(), Self> {
        if found == expected { Ok(()) } else { Err(Self::Length { what, found, expected }) }
    }
}

/// A matrix `[rows, cols]` of weights, row after row: it maps `cols` inputs to `rows` outputs.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    format: Format,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    data: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// Describes `data`.
    ///
    /// # Errors
    /// Rows that do not fill whole blocks; another number of bytes than the shape needs.
    pub fn new(
        format: Format,
        rows: usize,
        cols: usize,
        data: &'a [u8],
    ) -> Result<Self, ShapeError> {
        let row_bytes = format.bytes_of(cols).ok_or(ShapeError::Blocks { format, cols })?;
        let expected = row_bytes.saturating_mul(rows);
        ShapeError::check("the matrix", data.len(), expected)?;
        Ok(Self { format, rows, cols, row_bytes, data })
    }

    /// How elements are stored.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Outputs.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The bytes of one row, or nothing past the last.
    #[must_use]
    pub fn row(&self, row: usize) -> Option<&'a [u8]> {
        if row >= self.rows {
            return None;
        }
        let first = row.checked_mul(self.row_bytes)?;
        self.data.get(first..first.checked_add(self.row_bytes)?)
    }

    /// The bytes of all rows.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_checked_once_and_say_what_is_wrong() {
        let bytes = [0u8; 40];
        assert!(Matrix::new(Format::Q4_1, 2, 32, &bytes).is_ok());
        let short = Matrix::new(Format::Q4_1, 3, 32, &bytes).unwrap_err();
        assert_eq!(short.to_string(), "the matrix has length 40, its shape asks for 60");
        let ragged = Matrix::new(Format::Q4_1, 2, 31, &bytes).unwrap_err();
        assert_eq!(ragged.to_string(), "rows of 31 elements do not fill Q4_1 blocks of 32");
        assert!(Matrix::new(Format::F32, usize::MAX, 4, &bytes).is_err());
        let whole = Matrix::new(Format::Q4_1, 2, 32, &bytes).unwrap();
        assert_eq!(whole.row(1).map(<[u8]>::len), Some(20));
        assert_eq!(whole.row(2), None);
    }
}
