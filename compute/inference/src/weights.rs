//! From a model's tensors and shape to the kernels' matrices and angles.

use openledger_kernels::reference::{RopeAngles, RopePairs, dequantize};
use openledger_kernels::{Format, Matrix, ShapeError};
use openledger_models::{Model, ModelConfig, Rope, RopeLayout, Tensor, TensorKind, Weight};

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

/// The angles of a model's turning; a model may have two kinds, see [`ModelConfig::rope_of`].
pub(crate) fn angles(config: &ModelConfig, rope: &Rope) -> RopeAngles {
    RopeAngles::new(config.rope_dim, rope.base, rope.scale, rope.factors.as_deref())
        .with_magnitude(rope.magnitude)
}

/// Which elements of a head turn together.
pub(crate) const fn pairs(config: &ModelConfig) -> RopePairs {
    match config.rope_layout {
        RopeLayout::Interleaved => RopePairs::Interleaved,
        RopeLayout::Halves => RopePairs::Halves,
    }
}
