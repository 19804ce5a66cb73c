//! The numbers of an adapter at one place of the model, stored as a backend reads them.

use openledger_kernels::ShapeError;
use openledger_kernels::fused::{LoraFormat, LoraSite};

/// How a backend wants adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterStorage {
    /// In 32 bits, row after row: for the reference backend.
    Rows,
    /// Repacked for the kernels.
    Packed(LoraFormat),
}

/// Both matrices in 32 bits, row after row; immutable.
#[derive(Debug)]
pub struct LowRank {
    /// `[rank, in]`.
    a: Vec<f32>,
    /// B transposed, `[rank, out]`.
    b: Vec<f32>,
    rank: usize,
}

impl LowRank {
    /// The matrix A, `[rank, in]`.
    #[must_use]
    pub fn a(&self) -> &[f32] {
        &self.a
    }

    /// The matrix B transposed, `[rank, out]`.
    #[must_use]
    pub fn b(&self) -> &[f32] {
        &self.b
    }
}

/// What an adapter adds to one matrix.
#[derive(Debug)]
pub(super) enum Update {
    Rows(LowRank),
    Packed(LoraSite),
}

impl Update {
    /// Stores `a`, `[rank, cols]`, and `b`, `[rows, rank]`, whose lengths were checked; takes `a` if
    /// it can be kept as it is.
    pub(super) fn new(
        (rank, rows, cols): (usize, usize, usize),
        a: &mut Vec<f32>,
        b: &[f32],
        storage: AdapterStorage,
    ) -> Result<Self, ShapeError> {
        Ok(match storage {
            AdapterStorage::Rows => {
                Self::Rows(LowRank { a: core::mem::take(a), b: turned(b, rank), rank })
            }
            AdapterStorage::Packed(format) => {
                Self::Packed(LoraSite::new(rank, cols, rows, a, b, format)?)
            }
        })
    }

    /// Rank, outputs and inputs.
    pub(super) const fn shape(&self) -> (usize, usize, usize) {
        match self {
            Self::Rows(LowRank { a, b, rank }) => match *rank {
                0 => (0, 0, 0),
                rank => (rank, b.len() / rank, a.len() / rank),
            },
            Self::Packed(site) => (site.rank(), site.rows(), site.cols()),
        }
    }

    /// What it takes in memory, in bytes.
    pub(super) const fn bytes(&self) -> usize {
        let numbers = match self {
            Self::Rows(LowRank { a, b, .. }) => (a.len() + b.len()) * size_of::<f32>(),
            Self::Packed(site) => site.bytes(),
        };
        numbers + size_of::<Self>()
    }

    /// The matrices A, `[rank, cols]`, and B, `[rows, rank]`.
    pub(super) fn matrices(&self) -> (Vec<f32>, Vec<f32>) {
        match self {
            Self::Rows(LowRank { a, b, rank }) => (a.clone(), turned(b, b.len() / (*rank).max(1))),
            Self::Packed(site) => site.matrices(),
        }
    }
}

/// `[rows, cols]` as `[cols, rows]`.
fn turned(matrix: &[f32], cols: usize) -> Vec<f32> {
    let column = |c: usize| matrix.iter().skip(c).step_by(cols.max(1)).copied();
    (0..cols).flat_map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back() {
        let (rank, rows, cols) = (3, 40, 64);
        let a: Vec<f32> = (0..rank * cols).map(|i| (i % 17) as f32 / 4.0).collect();
        let b: Vec<f32> = (0..rank * rows).map(|i| (i % 13) as f32 / 8.0).collect();
        let formats = [LoraFormat::F32, LoraFormat::F16].map(AdapterStorage::Packed);
        for storage in [[AdapterStorage::Rows].as_slice(), &formats].concat() {
            let update = Update::new((rank, rows, cols), &mut a.clone(), &b, storage).unwrap();
            assert_eq!(update.shape(), (rank, rows, cols));
            assert_eq!(update.matrices(), (a.clone(), b.clone()), "{storage:?}");
            assert!(update.bytes() > rank * (rows + cols) * 2);
        }
    }
}
