//! An adapter's two matrices at one place of the model, repacked for the kernels.

use super::pack::{pack_f16, pack_f32, pack_q8};
use crate::fused::half::f32_of;
use crate::matrix::ShapeError;

/// Ranks side by side in matrix A.
pub(super) const PANEL: usize = 8;
/// Outputs side by side in matrix B.
pub(super) const WIDE: usize = 32;
/// Ranks that are worked on together.
pub(super) const RANKS: usize = 32;
/// Inputs that share a scale.
pub(super) const BLOCK: usize = 32;

/// How an adapter's numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoraFormat {
    /// As they were given.
    F32,
    /// Half precision; inputs stay in 32 bits.
    F16,
    /// Eight bits. A has a scale per rank and 32 inputs, the largest magnitude divided by 127,
    /// rounded up to 16 bits (the upper half of an `f32`); B has one per rank, not rounded. Inputs
    /// are used in 8 bits too.
    #[default]
    Q8,
}

/// Codes of eight ranks and 32 inputs, `[8 quads, 8 ranks, 4 inputs]`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(super) struct ACodes(pub(super) [[i8; 32]; 8]);

/// Codes of two ranks and 32 outputs, `[32 outputs, 2 ranks]`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(super) struct BCodes(pub(super) [[i8; 16]; 4]);

/// Both matrices in 32 or 16 bits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Floats<E> {
    /// `[panels of 8 ranks, cols, 8]`.
    pub(super) a: Vec<[E; 8]>,
    /// `[blocks of 32 ranks, panels of 32 outputs, ranks, 4, 8]`.
    pub(super) b: Vec<[E; 8]>,
}

/// Both matrices in 8 bits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Codes {
    /// `[panels of 8 ranks, cols / 32]`.
    pub(super) a: Vec<ACodes>,
    /// Upper halves of `f32`: `[panels of 8 ranks, cols / 32, 8]`.
    pub(super) a_scales: Vec<[u16; 8]>,
    /// `[blocks of 32 ranks, panels of 32 outputs, pairs of ranks]`.
    pub(super) b: Vec<BCodes>,
    /// `[panels of 8 ranks, 8]`.
    pub(super) b_scales: Vec<[f32; 8]>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Store {
    F32(Floats<f32>),
    F16(Floats<u16>),
    Q8(Codes),
}

/// The shape of both matrices, and where their numbers lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) rank: usize,
    pub(super) cols: usize,
    pub(super) rows: usize,
}

impl Sizes {
    pub(super) const fn panels(&self) -> usize {
        self.rank.div_ceil(PANEL)
    }

    /// Blocks of inputs.
    pub(super) const fn blocks(&self) -> usize {
        self.cols / BLOCK
    }

    /// Panels of outputs.
    pub(super) const fn wides(&self) -> usize {
        self.rows.div_ceil(WIDE)
    }

    /// Ranks in a block of ranks.
    pub(super) const fn ranks_of(&self, block: usize) -> usize {
        let left = self.rank.saturating_sub(block * RANKS);
        if left < RANKS { left } else { RANKS }
    }

    /// Where the ranks of a block start in B for a panel of outputs, in units of all its outputs
    /// for one rank.
    pub(super) const fn b_floats(&self, block: usize, wide: usize) -> usize {
        block * RANKS * self.wides() + wide * self.ranks_of(block)
    }

    /// The same in pairs of ranks.
    pub(super) const fn b_pairs(&self, block: usize, wide: usize) -> usize {
        block * RANKS / 2 * self.wides() + wide * self.ranks_of(block).div_ceil(2)
    }

    /// Chunks of eight numbers in A and in B.
    pub(super) const fn floats(&self) -> (usize, usize) {
        (self.panels() * self.cols, self.rank * self.wides() * WIDE / 8)
    }

    /// Elements of A's codes and of B's.
    pub(super) const fn codes(&self) -> (usize, usize) {
        (self.panels() * self.blocks(), self.rank.div_ceil(2) * self.wides())
    }
}

/// An adapter's matrices A, `[rank, cols]`, and B, `[rows, rank]`, at one place; immutable.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSite {
    pub(super) sizes: Sizes,
    pub(super) store: Store,
}

impl LoraSite {
    /// Repacks `a`, `[rank, cols]`, and `b`, `[rows, rank]`. `cols` is a multiple of 32.
    /// Numbers that are not finite make their scale NaN in 8 bits, so that results show it.
    ///
    /// # Errors
    /// Lengths that disagree.
    pub fn new(
        rank: usize,
        cols: usize,
        rows: usize,
        a: &[f32],
        b: &[f32],
        format: LoraFormat,
    ) -> Result<Self, ShapeError> {
        let what = "a row of an adapter's matrix A, in whole blocks of 32,";
        ShapeError::check(what, cols, cols / BLOCK * BLOCK)?;
        ShapeError::check("matrix A of an adapter", a.len(), rank.saturating_mul(cols))?;
        ShapeError::check("matrix B of an adapter", b.len(), rank.saturating_mul(rows))?;
        let sizes = Sizes { rank, cols, rows };
        let store = match format {
            LoraFormat::F32 => Store::F32(pack_f32(&sizes, a, b)),
            LoraFormat::F16 => Store::F16(pack_f16(&sizes, a, b)),
            LoraFormat::Q8 => Store::Q8(pack_q8(&sizes, a, b)),
        };
        Ok(Self { sizes, store })
    }

    /// The rank.
    #[must_use]
    pub const fn rank(&self) -> usize {
        self.sizes.rank
    }

    /// Outputs.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.sizes.rows
    }

    /// Inputs.
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.sizes.cols
    }

    /// How it is stored.
    #[must_use]
    pub const fn format(&self) -> LoraFormat {
        match self.store {
            Store::F32(_) => LoraFormat::F32,
            Store::F16(_) => LoraFormat::F16,
            Store::Q8(_) => LoraFormat::Q8,
        }
    }

    /// What its numbers take in memory, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        let ((a, b), (a_codes, b_codes)) = (self.sizes.floats(), self.sizes.codes());
        match self.store {
            Store::F32(_) => (a + b) * 32,
            Store::F16(_) => (a + b) * 16,
            Store::Q8(_) => a_codes * (256 + 16) + b_codes * 64 + self.sizes.panels() * 32,
        }
    }

    /// What is stored, as numbers: A, `[rank, cols]`, and B, `[rows, rank]`.
    #[must_use]
    pub fn matrices(&self) -> (Vec<f32>, Vec<f32>) {
        let sizes = &self.sizes;
        let mut a = vec![0.0; sizes.rank * sizes.cols];
        let mut b = vec![0.0; sizes.rank * sizes.rows];
        match &self.store {
            Store::F32(floats) => floats.read(sizes, &mut a, &mut b, |x| x),
            Store::F16(floats) => floats.read(sizes, &mut a, &mut b, f32_of),
            Store::Q8(codes) => codes.read(sizes, &mut a, &mut b),
        }
        (a, b)
    }
}

impl<E: Copy> Floats<E> {
    /// The chunk of B that holds a rank's output.
    const fn b_chunk(sizes: &Sizes, r: usize, o: usize) -> usize {
        (sizes.b_floats(r / RANKS, o / WIDE) + r % RANKS) * (WIDE / 8) + o % WIDE / 8
    }

    fn read(&self, sizes: &Sizes, a: &mut [f32], b: &mut [f32], value: impl Fn(E) -> f32) {
        for (r, row) in a.chunks_exact_mut(sizes.cols.max(1)).enumerate() {
            for (x, chunk) in row.iter_mut().zip(self.a.iter().skip(r / PANEL * sizes.cols)) {
                *x = value(chunk[r % PANEL]);
            }
        }
        for (o, row) in b.chunks_exact_mut(sizes.rank.max(1)).enumerate() {
            for (r, x) in row.iter_mut().enumerate() {
                *x = value(self.b[Self::b_chunk(sizes, r, o)][o % 8]);
            }
        }
    }
}

/// A number whose upper half this is.
pub(super) fn widened(upper: u16) -> f32 {
    f32::from_bits(u32::from(upper) << 16)
}

impl Codes {
    /// All zeros.
    pub(super) fn blank(sizes: &Sizes) -> Self {
        let (a, b) = sizes.codes();
        Self {
            a: vec![ACodes([[0; 32]; 8]); a],
            a_scales: vec![[0; 8]; a],
            b: vec![BCodes([[0; 16]; 4]); b],
            b_scales: vec![[0.0; 8]; sizes.panels()],
        }
    }

    /// Where a rank's output is in B.
    const fn b_place(sizes: &Sizes, r: usize, o: usize) -> (usize, usize, usize) {
        let at = sizes.b_pairs(r / RANKS, o / WIDE) + r % RANKS / 2;
        (at, o % WIDE / 8, o % 8 * 2 + r % 2)
    }

    fn read(&self, sizes: &Sizes, a: &mut [f32], b: &mut [f32]) {
        for (r, row) in a.chunks_exact_mut(sizes.cols.max(1)).enumerate() {
            for (k, x) in row.iter_mut().enumerate() {
                let at = r / PANEL * sizes.blocks() + k / BLOCK;
                let code = self.a[at].0[k % BLOCK / 4][r % PANEL * 4 + k % 4];
                *x = f32::from(code) * widened(self.a_scales[at][r % PANEL]);
            }
        }
        for (o, row) in b.chunks_exact_mut(sizes.rank.max(1)).enumerate() {
            for (r, x) in row.iter_mut().enumerate() {
                let (at, chunk, lane) = Self::b_place(sizes, r, o);
                let scale = self.b_scales[r / PANEL][r % PANEL];
                *x = f32::from(self.b[at].0[chunk][lane]) * scale;
            }
        }
    }
}
