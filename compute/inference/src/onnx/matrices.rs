//! A model's matrices as nodes of a graph.
//!
//! Quantised ones keep their bits (`MatMulNBits` with 32-bit activations: with 8-bit ones the
//! likeliest token is too often another), floats are kept in 32 bits.

use std::collections::BTreeMap;

use openledger_kernels::reference::dequantize;
use openledger_kernels::{Matrix, ShapeError};

use super::codes::{Plane, Row, cut, pack};
use super::error::OnnxError;
use super::graph::{Builder, MICROSOFT, whole};
use crate::backend::BackendError;

/// `accuracy_level` of 32-bit activations.
const ACCURACY: usize = 1;

/// Sums of the blocks of inputs, by the input's name: matrices that share one share them.
#[derive(Debug, Default)]
pub(super) struct Sums(BTreeMap<String, String>);

/// Adds `x` times a matrix, transposed: `[tokens, cols]` becomes `[tokens, rows]`.
pub(super) fn product(
    graph: &mut Builder,
    sums: &mut Sums,
    matrix: &Matrix<'_>,
    x: &str,
) -> Result<String, OnnxError> {
    let Some(cut) = cut(matrix.format()) else { return floats(graph, matrix, x) };
    let mut numbers = Numbers::default();
    let mut parts = Vec::new();
    for plane in Plane::of(matrix.format()) {
        parts.push(codes(graph, matrix, *plane, cut.block, x, &mut numbers)?);
    }
    if cut.offsets {
        let blocks = matrix.cols() / 32;
        let sums = block_sums(graph, sums, x, blocks)?;
        let offsets = offsets(graph, &numbers.offsets, matrix.rows(), blocks)?;
        parts.push(graph.standard("MatMul", &[&sums, &offsets])?);
    }
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_default();
    for part in parts {
        total = graph.standard("Add", &[&total, &part])?;
    }
    Ok(total)
}

/// What the first plane finds beside codes, of all rows.
#[derive(Default)]
struct Numbers {
    scales: Vec<f32>,
    offsets: Vec<f32>,
}

/// The product with one plane of a matrix's codes.
fn codes(
    graph: &mut Builder,
    matrix: &Matrix<'_>,
    plane: Plane,
    block: usize,
    x: &str,
    numbers: &mut Numbers,
) -> Result<String, OnnxError> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let blocks = cols / block;
    let is_first = numbers.scales.is_empty();
    let packed = graph.constant::<u8>("codes", &[rows, blocks, block / 2], |out| {
        let mut row = Row::default();
        for (number, out) in out.chunks_mut((cols / 2).max(1)).enumerate() {
            row.read(matrix.format(), matrix.row(number).unwrap_or_default());
            pack(&row.codes, plane, out);
            if is_first {
                numbers.scales.extend_from_slice(&row.scales);
                numbers.offsets.extend_from_slice(&row.offsets);
            }
        }
    })?;
    let scales = graph.constant::<f32>("scales", &[rows * blocks], |out| {
        for (out, scale) in out.iter_mut().zip(&numbers.scales) {
            *out = scale * plane.factor();
        }
    })?;
    let attributes = [
        whole("K", cols)?,
        whole("N", rows)?,
        whole("bits", 4)?,
        whole("block_size", block)?,
        whole("accuracy_level", ACCURACY)?,
    ];
    graph.node("MatMulNBits", MICROSOFT, &[x, &packed, &scales], attributes)
}

/// `[tokens, cols / 32]`, of an input that several matrices may share.
fn block_sums(
    graph: &mut Builder,
    sums: &mut Sums,
    x: &str,
    blocks: usize,
) -> Result<String, OnnxError> {
    if let Some(name) = sums.0.get(x) {
        return Ok(name.clone());
    }
    let shape = graph.constant::<i64>("shape", &[3], |out| {
        // Of 0: as many as there are.
        out.copy_from_slice(&[0, blocks as i64, 32]);
    })?;
    let folded = graph.standard("Reshape", &[x, &shape])?;
    let axis = graph.constant::<i64>("axis", &[1], |out| out.fill(2))?;
    let keep = [whole("keepdims", 0)?];
    let name = graph.node("ReduceSum", ort::editor::ONNX_DOMAIN, &[&folded, &axis], keep)?;
    sums.0.insert(x.to_owned(), name.clone());
    Ok(name)
}

/// What meets the sums, turned to `[cols / 32, rows]`.
fn offsets(
    graph: &mut Builder,
    offsets: &[f32],
    rows: usize,
    blocks: usize,
) -> Result<String, OnnxError> {
    graph.constant::<f32>("offsets", &[blocks, rows], |out| {
        for (number, own) in offsets.chunks(blocks.max(1)).enumerate() {
            let column = out.iter_mut().skip(number).step_by(rows.max(1));
            for (out, offset) in column.zip(own) {
                *out = *offset;
            }
        }
    })
}

/// The product with a matrix of floats.
fn floats(graph: &mut Builder, matrix: &Matrix<'_>, x: &str) -> Result<String, OnnxError> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let mut failed: Result<(), ShapeError> = Ok(());
    let weights = graph.constant::<f32>("weights", &[cols, rows], |out| {
        let mut numbers = vec![0.0; cols];
        for number in 0..rows {
            let bytes = matrix.row(number).unwrap_or_default();
            if let Err(error) = dequantize(matrix.format(), bytes, &mut numbers) {
                failed = Err(error);
            }
            let column = out.iter_mut().skip(number).step_by(rows.max(1));
            for (out, weight) in column.zip(&numbers) {
                *out = *weight;
            }
        }
    })?;
    failed.map_err(BackendError::from)?;
    graph.standard("MatMul", &[x, &weights])
}

#[cfg(test)]
mod tests {
    use openledger_kernels::reference::matmul;
    use openledger_kernels::{Format, Pool};
    use ort::value::TensorElementType::Float32;

    use super::super::graph::Binding;
    use super::super::provider::OnnxOptions;
    use super::*;

    fn bytes(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        (0..len).map(next).collect()
    }

    /// Blocks of ordinary size.
    fn packed(format: Format, blocks: usize) -> Vec<u8> {
        let mut all = bytes(blocks * format.block_bytes(), 7 + blocks as u64);
        for block in all.chunks_mut(format.block_bytes()) {
            let scales: &[usize] = match format {
                Format::F32 | Format::F16 | Format::Bf16 => &[],
                Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
                Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
                Format::Q6K => &[208],
            };
            for at in scales {
                block[at + 1] = block[at + 1] & 0x83 | 0x20;
            }
            if scales.is_empty() {
                let top = block.len() - 1;
                block[top] = block[top] & 0x80 | 0x3B;
            }
        }
        all
    }

    /// The library's product of a matrix.
    fn found(matrix: &Matrix<'_>, x: &[f32]) -> Vec<f32> {
        let path = std::env::var_os("OPENLEDGER_ONNXRUNTIME").unwrap();
        let mut builder = OnnxOptions::new(path).builder(1).unwrap();
        let mut graph = Builder::new().unwrap();
        let out = product(&mut graph, &mut Sums::default(), matrix, "x").unwrap();
        graph.node_as("Identity", ort::editor::ONNX_DOMAIN, &[&out], &["y"], []).unwrap();
        let (cols, rows) = (matrix.cols() as i64, matrix.rows() as i64);
        let inputs: [(&str, _, &[i64]); 1] = [("x", Float32, &[-1, cols])];
        let outputs: [(&str, _, &[i64]); 1] = [("y", Float32, &[-1, rows])];
        let mut session = graph.session(&inputs, &outputs, &mut builder).unwrap();
        let shape = [x.len() / matrix.cols(), matrix.cols()];
        let mut binding = Binding::new(&session, &["y"]).unwrap();
        binding.numbers("x", shape.to_vec(), x.to_vec()).unwrap();
        let outputs = session.run_binding(binding.inner()).unwrap();
        outputs.get("y").unwrap().try_extract_tensor::<f32>().unwrap().1.to_vec()
    }

    #[test]
    fn every_format_gives_the_products_of_the_reference() {
        let (rows, cols) = (48, 512);
        for format in Format::ALL {
            let packed = packed(format, rows * cols / format.block_len());
            let matrix = Matrix::new(format, rows, cols, &packed).unwrap();
            // One row, a few, and more than the library's kernels for few take.
            for tokens in [0, 1, 5, 40] {
                let x: Vec<f32> = bytes(tokens * cols, 3)
                    .into_iter()
                    .map(|byte| (f32::from(byte) - 128.0) / 64.0)
                    .collect();
                let mut expected = vec![0.0; tokens * rows];
                matmul(&matrix, &x, &mut expected, &Pool::new(1)).unwrap();
                let found = found(&matrix, &x);
                assert_eq!(found.len(), expected.len(), "{}", format.name());
                let size: f64 = expected.iter().map(|x| f64::from(*x).powi(2)).sum();
                let off: f64 =
                    expected.iter().zip(&found).map(|(a, b)| f64::from(a - b).powi(2)).sum();
                let relative = (off / size.max(1e-9)).sqrt();
                assert!(relative < 2e-6, "{} {tokens}: {relative}", format.name());
            }
        }
    }
}
