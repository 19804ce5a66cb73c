//! Models that a cheat would rather run: the file with some weights changed in place.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use half::f16;
use openledger_models::{Gguf, Model, TensorKind};

use crate::subject::Subject;

/// How a model is made cheaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spoil {
    /// The last third of the layers add nothing: they need not be run.
    Layers,
    /// Weights around zero instead of above a minimum: Q4_0's values in place of Q4_1's, a tenth
    /// fewer bytes.
    Bits,
}

/// Bytes of a Q4_1 block: scale, minimum, 32 codes of 4 bits.
const BLOCK: usize = 20;

/// The subject with a spoiled model.
pub(super) fn spoiled(subject: &Subject, spoil: Spoil) -> Result<Subject> {
    let mut bytes = std::fs::read(&subject.path).context("read the model")?;
    let gguf = Gguf::parse(&bytes).context("read the model")?;
    let layers = subject.model.config().layers;
    let mut changed = 0;
    for (name, tensor) in gguf.tensors() {
        let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
        let late = layer.and_then(|n| n.parse().ok()).is_some_and(|n: usize| 3 * n >= 2 * layers);
        let adds = name.ends_with("attn_output.weight") || name.ends_with("ffn_down.weight");
        let data = bytes.get_mut(tensor.range.clone()).context("read the model: a short file")?;
        match spoil {
            Spoil::Layers if late && adds => data.fill(0),
            Spoil::Bits if tensor.kind == TensorKind::Q4_1 => {
                data.as_chunks_mut::<BLOCK>().0.iter_mut().for_each(around_zero);
            }
            Spoil::Layers | Spoil::Bits => continue,
        }
        changed += 1;
    }
    ensure!(changed > 0, "spoil {}: it has no weights of that kind", subject.file_name());
    let folder = tempfile::tempdir().context("make a folder for a model")?;
    let path = folder.path().join("spoiled.gguf");
    std::fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
    let model = Model::open(&path).context("read the spoiled model")?;
    // Mapped files live on without a name.
    drop(folder);
    Ok(Subject { model: Arc::new(model), ..subject.clone() })
}

/// The block's numbers as Q4_0 would hold them: `d * (q - 8)`, `d` an eighth of the largest.
fn around_zero(block: &mut [u8; BLOCK]) {
    let half = |low: u8, high: u8| f16::from_le_bytes([low, high]).to_f32();
    let (scale, least) = (half(block[0], block[1]), half(block[2], block[3]));
    let [_, _, _, _, codes @ ..] = block;
    let values = codes.map(|code| [code & 15, code >> 4].map(|q| scale * f32::from(q) + least));
    let largest =
        values.iter().flatten().fold(0.0f32, |top, x| if x.abs() > top.abs() { *x } else { top });
    let step = f16::from_f32(largest / -8.0);
    let inverse = if step.to_f32() == 0.0 { 0.0 } else { 1.0 / step.to_f32() };
    for (code, pair) in codes.iter_mut().zip(values) {
        let [low, high] = pair.map(|x| (x * inverse + 8.5).clamp(0.0, 15.0) as u8);
        *code = low | high << 4;
    }
    let least = f16::from_f32(step.to_f32() * -8.0);
    block[..2].copy_from_slice(&step.to_le_bytes());
    block[2..4].copy_from_slice(&least.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spoiled_blocks_stay_near_what_they_were() {
        let mut block = [0; BLOCK];
        block[..2].copy_from_slice(&f16::from_f32(0.1).to_le_bytes());
        block[2..4].copy_from_slice(&f16::from_f32(-0.7).to_le_bytes());
        for (i, code) in block[4..].iter_mut().enumerate() {
            *code = (i * 37 % 255) as u8;
        }
        let value = |block: &[u8; BLOCK], i: usize| {
            let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
            let least = f16::from_le_bytes([block[2], block[3]]).to_f32();
            scale * f32::from(block[4 + i] & 15) + least
        };
        let before = block;
        around_zero(&mut block);
        assert_ne!(before, block);
        for i in 0..16 {
            assert!((value(&before, i) - value(&block, i)).abs() < 0.11);
        }
        let mut nothing = [0; BLOCK];
        around_zero(&mut nothing);
        assert!((0..16).all(|i| value(&nothing, i) == 0.0));
    }
}
