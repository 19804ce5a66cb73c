//! Products of quantised matrices with rows of activations.

use std::sync::Mutex;

use super::lanes::dots;
use crate::dequantize::blocks;
use crate::format::Format;
use crate::isa::{Isa, kernel};
use crate::matrix::{Matrix, ShapeError};
use crate::pool::Pool;

/// Weight rows dequantised at a time: few enough that they stay in the first-level cache while
/// all rows of activations pass, and that the sums of a tile stay in registers.
const TILE: usize = 4;

/// Products below this number of multiplications are done by the caller alone: sharing them costs
/// more than doing them.
const SHARED_MIN: usize = 1 << 16;

/// Dequantises whole blocks.
///
/// # Errors
/// `data` that is not as long as `out` needs in this format.
pub fn dequantize(format: Format, data: &[u8], out: &mut [f32]) -> Result<(), ShapeError> {
    let expected =
        format.bytes_of(out.len()).ok_or(ShapeError::Blocks { format, cols: out.len() })?;
    ShapeError::check("the data", data.len(), expected)?;
    dequantize_blocks(Isa::detect(), format, data, out);
    Ok(())
}

kernel! {
    fn dequantize_blocks(format: Format, data: &[u8], out: &mut [f32]) {
        blocks(format, data, out);
    }
}

/// `out = x * matrix^T`: `x` is `[n, cols]`, `out` is `[n, rows]`.
///
/// A tile of weight rows is dequantised once and serves all `n` rows of `x`, so a larger batch
/// costs less per row.
///
/// # Errors
/// Lengths of `x` and `out` that do not agree with the matrix.
pub fn matmul(
    matrix: &Matrix<'_>,
    x: &[f32],
    out: &mut [f32],
    pool: &Pool,
) -> Result<(), ShapeError> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    if rows == 0 || cols == 0 {
        out.fill(0.0);
        return Ok(());
    }
    let n = x.len() / cols;
    ShapeError::check("the input of a product", x.len(), n * cols)?;
    ShapeError::check("the output of a product", out.len(), n * rows)?;
    let parts = if rows * x.len() < SHARED_MIN { 1 } else { pool.threads() };
    let height = rows.div_ceil(parts).next_multiple_of(TILE);
    let mut slices: Vec<Vec<&mut [f32]>> = (0..parts).map(|_| Vec::with_capacity(n)).collect();
    for row in out.chunks_mut(rows) {
        for (slices, part) in slices.iter_mut().zip(row.chunks_mut(height)) {
            slices.push(part);
        }
    }
    // Each part takes its own slices once; the lock is never waited for.
    let slices: Vec<Mutex<Vec<&mut [f32]>>> = slices.into_iter().map(Mutex::new).collect();
    let isa = Isa::detect();
    pool.run(parts, &|part| {
        if let Some(Ok(mut out)) = slices.get(part).map(Mutex::lock) {
            product(isa, matrix, part * height, x, &mut out);
        }
    });
    Ok(())
}

kernel! {
    /// The outputs that start at the weight row `first`: `out` holds one slice per row of `x`.
    fn product(matrix: &Matrix<'_>, first: usize, x: &[f32], out: &mut [&mut [f32]]) {
        let cols = matrix.cols();
        let height = out.first().map_or(0, |slice| slice.len());
        let mut weights = vec![0.0; TILE * cols];
        let mut done = 0;
        while done < height {
            let tile = TILE.min(height - done);
            for (t, weights) in weights.chunks_mut(cols).take(tile).enumerate() {
                if let Some(row) = matrix.row(first + done + t) {
                    blocks(matrix.format(), row, weights);
                }
            }
            for (x, out) in x.chunks(cols).zip(out.iter_mut()) {
                let out = &mut out[done..done + tile];
                if tile == TILE {
                    out.copy_from_slice(&dots::<TILE>(&weights, x));
                } else {
                    for (out, weights) in out.iter_mut().zip(weights.chunks(cols)) {
                        [*out] = dots::<1>(weights, x);
                    }
                }
            }
            done += tile;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values between -1 and 1 from a fixed sequence.
    fn values(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// A matrix of a format: arbitrary bytes with scales of ordinary size.
    fn data(format: Format, rows: usize, cols: usize) -> Vec<u8> {
        let blocks = rows * cols / format.block_len();
        let mut data = Vec::new();
        for (i, value) in values(blocks * format.block_bytes(), 3).into_iter().enumerate() {
            let at = i % format.block_bytes();
            let scale = match format {
                Format::F32 => at == 3,
                Format::F16 | Format::Bf16 => at == 1,
                Format::Q6K => at == 209,
                Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => at == 1,
                _ => at == 1 || at == 3,
            };
            let byte = (value * 128.0) as i8 as u8;
            let exponent = if matches!(format, Format::F32 | Format::Bf16) { 0x3B } else { 0x24 };
            data.push(if scale { byte & 0x80 | exponent } else { byte });
        }
        data
    }

    #[test]
    fn products_are_those_of_the_dequantised_matrix_in_every_format() {
        let pool = Pool::new(2);
        let (n, rows, cols) = (3, 13, 512);
        let x = values(n * cols, 1);
        for format in Format::ALL {
            let data = data(format, rows, cols);
            let matrix = Matrix::new(format, rows, cols, &data).unwrap();
            let mut weights = vec![0.0; rows * cols];
            dequantize(format, &data, &mut weights).unwrap();
            let mut out = vec![f32::NAN; n * rows];
            matmul(&matrix, &x, &mut out, &pool).unwrap();
            for (i, &found) in out.iter().enumerate() {
                let terms = weights[i % rows * cols..][..cols].iter().zip(&x[i / rows * cols..]);
                let terms: Vec<f64> = terms.map(|(w, x)| f64::from(*w) * f64::from(*x)).collect();
                let size: f64 = terms.iter().map(|term| term.abs()).sum();
                let expected: f64 = terms.iter().sum();
                assert!((f64::from(found) - expected).abs() <= 1e-6 * size, "{format:?}");
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_any_batch_on_any_threads_and_in_either_copy() {
        let (n, rows, cols) = (9, 70, 288);
        for format in [Format::Q4_1, Format::Q8_0, Format::F32] {
            let data = data(format, rows, cols);
            let matrix = Matrix::new(format, rows, cols, &data).unwrap();
            let x = values(n * cols, 2);
            let mut batch = vec![0.0; n * rows];
            matmul(&matrix, &x, &mut batch, &Pool::new(1)).unwrap();
            for threads in 2..5 {
                let mut out = vec![0.0; n * rows];
                matmul(&matrix, &x, &mut out, &Pool::new(threads)).unwrap();
                assert_eq!(out, batch);
            }
            for (x, expected) in x.chunks(cols).zip(batch.chunks(rows)) {
                let mut out = vec![0.0; rows];
                matmul(&matrix, x, &mut out, &Pool::new(2)).unwrap();
                assert_eq!(out, expected);
                out.fill(0.0);
                product(Isa::Baseline, &matrix, 0, x, &mut [&mut out]);
                assert_eq!(out, expected, "the baseline's copy");
            }
        }
    }

    #[test]
    fn a_tail_that_fills_no_lane_is_counted_too() {
        let cols = 21;
        let weights: Vec<u8> = (0..cols).flat_map(|c| (c as f32).to_le_bytes()).collect();
        let matrix = Matrix::new(Format::F32, 1, cols, &weights).unwrap();
        let mut out = [0.0];
        matmul(&matrix, &vec![1.0; cols], &mut out, &Pool::new(1)).unwrap();
        assert_eq!(out, [210.0]);
    }

    #[test]
    fn lengths_that_disagree_are_refused() {
        let weights = [0u8; 64];
        let matrix = Matrix::new(Format::F32, 2, 8, &weights).unwrap();
        let pool = Pool::new(1);
        assert!(matmul(&matrix, &[0.0; 9], &mut [0.0; 2], &pool).is_err());
        let error = matmul(&matrix, &[0.0; 16], &mut [0.0; 3], &pool).unwrap_err();
        assert_eq!(error.to_string(), "the output of a product has length 3, its shape asks for 4");
        assert!(dequantize(Format::Q4_0, &[0; 18], &mut [0.0; 31]).is_err());
        assert!(dequantize(Format::Q4_0, &[0; 17], &mut [0.0; 32]).is_err());
    }
}
