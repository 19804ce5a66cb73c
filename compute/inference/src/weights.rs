//! From a model file's tensors to the kernels' matrices.

use openledger_kernels::reference::dequantize;
use openledger_kernels::{Format, Matrix, ShapeError};
use openledger_models::{Model, Tensor, TensorKind, Weight};

/// The kernels' name of a format.
pub(crate) const fn format(kind: TensorKind) -> Format {
    match kind {
        TensorKind::F32 => Format::F32,
        TensorKind::F16 => Format::F16,
        TensorKind::Bf16 => Format::Bf16,
        TensorKind::Q4_0 => Format::Q4_0,
        TensorKind::Q4_1 => Format::Q4_1,
        TensorKind::Q5_0 => Format::Q5_0,
        TensorKind::Q5_1 => Format::Q5_1,
        TensorKind::Q8_0 => Format::Q8_0,
        TensorKind::Q4K => Format::Q4K,
        TensorKind::Q5K => Format::Q5K,
        TensorKind::Q6K => Format::Q6K,
    }
}

/// A weight as a matrix, its bytes still in the file.
pub(crate) fn matrix(model: &Model, weight: Weight) -> Result<Matrix<'_>, ShapeError> {
    let Tensor { kind, rows, cols, bytes } = model.tensor(weight);
    Matrix::new(format(kind), rows, cols, bytes)
}

/// A small weight (a norm, a bias) as numbers; empty where the model has none.
pub(crate) fn vector(model: &Model, weight: Weight) -> Result<Vec<f32>, ShapeError> {
    let Tensor { kind, rows, cols, bytes } = model.tensor(weight);
    let mut numbers = vec![0.0; rows * cols];
    dequantize(format(kind), bytes, &mut numbers)?;
    Ok(numbers)
}
