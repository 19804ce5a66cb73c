//! Classes of results: which engines compute the same bits.
//!
//! Two engines of one class give the same bits for the same model, adapters and tokens, on any
//! processor. Two classes do not: the logits of the fast backend round otherwise than those of the
//! reference, so tokens of one class say nothing about an engine of another. Whatever changes a
//! bit (a backend's arithmetic, what keys, values or adapters are kept in) is part of the class,
//! and a new arithmetic is a new number.

use openledger_kernels::fused::{KvFormat, LoraFormat};

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// [`crate::CpuBackend`]: 12-bit activations, fast on any processor.
    #[default]
    Int12,
    /// [`crate::ReferenceBackend`]: everything in 32 bits, what others are measured against.
    Reference,
}

impl BackendKind {
    /// The backend's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int12 => "cpu-int12",
            Self::Reference => "cpu-reference",
        }
    }
}

/// The class of an engine's results.
#[must_use]
pub const fn class_of(backend: BackendKind, kv: KvFormat, adapters: LoraFormat) -> &'static str {
    use {KvFormat as Kv, LoraFormat as Lora};
    match (backend, kv, adapters) {
        (BackendKind::Reference, _, _) => "cpu-reference-1",
        (BackendKind::Int12, Kv::F16, Lora::Q8) => "cpu-int12-1",
        (BackendKind::Int12, Kv::F16, Lora::F16) => "cpu-int12-1/lora-f16",
        (BackendKind::Int12, Kv::F16, Lora::F32) => "cpu-int12-1/lora-f32",
        (BackendKind::Int12, Kv::F32, Lora::Q8) => "cpu-int12-1/kv-f32",
        (BackendKind::Int12, Kv::F32, Lora::F16) => "cpu-int12-1/kv-f32/lora-f16",
        (BackendKind::Int12, Kv::F32, Lora::F32) => "cpu-int12-1/kv-f32/lora-f32",
        (BackendKind::Int12, Kv::Q8, Lora::Q8) => "cpu-int12-1/kv-q8",
        (BackendKind::Int12, Kv::Q8, Lora::F16) => "cpu-int12-1/kv-q8/lora-f16",
        (BackendKind::Int12, Kv::Q8, Lora::F32) => "cpu-int12-1/kv-q8/lora-f32",
    }
}

/// How an engine must compute to be of a class; nothing for a class that this build does not have.
#[must_use]
pub fn of_class(class: &str) -> Option<(BackendKind, KvFormat, LoraFormat)> {
    if class == class_of(BackendKind::Reference, KvFormat::F32, LoraFormat::F32) {
        return Some((BackendKind::Reference, KvFormat::F32, LoraFormat::F32));
    }
    let formats = [LoraFormat::F32, LoraFormat::F16, LoraFormat::Q8];
    let each = [KvFormat::F32, KvFormat::F16, KvFormat::Q8]
        .into_iter()
        .flat_map(|kv| formats.map(|lora| (BackendKind::Int12, kv, lora)));
    each.into_iter().find(|(backend, kv, lora)| class == class_of(*backend, *kv, *lora))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::EngineOptions;

    #[test]
    fn a_class_names_everything_that_changes_a_bit() {
        let mut classes = Vec::new();
        for kv in [KvFormat::F32, KvFormat::F16, KvFormat::Q8] {
            for lora in [LoraFormat::F32, LoraFormat::F16, LoraFormat::Q8] {
                let class = class_of(BackendKind::Int12, kv, lora);
                assert_eq!(of_class(class), Some((BackendKind::Int12, kv, lora)));
                // What the wire's field holds.
                assert!(class.len() <= 32 && !classes.contains(&class), "{class}");
                classes.push(class);
                let reference = class_of(BackendKind::Reference, kv, lora);
                assert_eq!(reference, "cpu-reference-1", "it keeps 32 bits whatever is asked");
            }
        }
        let (reference, ..) = of_class("cpu-reference-1").unwrap();
        assert_eq!(reference, BackendKind::Reference);
        assert_eq!(of_class("gpu-1"), None);
        assert_eq!(EngineOptions::default().class(), "cpu-int12-1");
    }
}
