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
    /// [`crate::CpuBackend`]: activations in 12 and 8 bits, fast on any processor.
    #[default]
    Int12,
    /// The same with 12 bits of all activations, as it was at first.
    Int12Whole,
    /// [`crate::ReferenceBackend`]: everything in 32 bits, what others are measured against.
    Reference,
    /// A graphics processor, through wgpu.
    Wgpu,
    /// ONNX Runtime.
    Onnx,
}

impl BackendKind {
    /// All of them, for tables.
    pub const ALL: [Self; 5] =
        [Self::Int12, Self::Int12Whole, Self::Reference, Self::Wgpu, Self::Onnx];

    /// The backend's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int12 | Self::Int12Whole => "cpu-int12",
            Self::Reference => "cpu-reference",
            Self::Wgpu => "wgpu",
            Self::Onnx => "onnx",
        }
    }

    /// Whether its classes hold to the bit on any machine. The others round as the device or the
    /// library does: their answers are judged by fingerprints, within a tolerance.
    #[must_use]
    pub const fn exact(self) -> bool {
        matches!(self, Self::Int12 | Self::Int12Whole | Self::Reference)
    }
}

/// A class with each format of keys and values, and of adapters.
macro_rules! classes {
    ($kv:expr, $adapters:expr, $class:literal) => {
        match ($kv, $adapters) {
            (KvFormat::F16, LoraFormat::Q8) => $class,
            (KvFormat::F16, LoraFormat::F16) => concat!($class, "/lora-f16"),
            (KvFormat::F16, LoraFormat::F32) => concat!($class, "/lora-f32"),
            (KvFormat::F32, LoraFormat::Q8) => concat!($class, "/kv-f32"),
            (KvFormat::F32, LoraFormat::F16) => concat!($class, "/kv-f32/lora-f16"),
            (KvFormat::F32, LoraFormat::F32) => concat!($class, "/kv-f32/lora-f32"),
            (KvFormat::Q8, LoraFormat::Q8) => concat!($class, "/kv-q8"),
            (KvFormat::Q8, LoraFormat::F16) => concat!($class, "/kv-q8/lora-f16"),
            (KvFormat::Q8, LoraFormat::F32) => concat!($class, "/kv-q8/lora-f32"),
        }
    };
}

/// The class of an engine's results.
#[must_use]
pub const fn class_of(backend: BackendKind, kv: KvFormat, adapters: LoraFormat) -> &'static str {
    match backend {
        BackendKind::Reference => "cpu-reference-1",
        BackendKind::Int12 => classes!(kv, adapters, "cpu-int12-2"),
        BackendKind::Int12Whole => classes!(kv, adapters, "cpu-int12-1"),
        BackendKind::Wgpu => classes!(kv, adapters, "wgpu-1"),
        BackendKind::Onnx => classes!(kv, adapters, "onnx-1"),
    }
}

/// How an engine must compute to be of a class; nothing for a class that this build does not have.
#[must_use]
pub fn of_class(class: &str) -> Option<(BackendKind, KvFormat, LoraFormat)> {
    if class == class_of(BackendKind::Reference, KvFormat::F32, LoraFormat::F32) {
        return Some((BackendKind::Reference, KvFormat::F32, LoraFormat::F32));
    }
    let backends =
        [BackendKind::Int12, BackendKind::Int12Whole, BackendKind::Wgpu, BackendKind::Onnx];
    let each = backends.into_iter().flat_map(|backend| {
        [KvFormat::F32, KvFormat::F16, KvFormat::Q8].into_iter().flat_map(move |kv| {
            [LoraFormat::F32, LoraFormat::F16, LoraFormat::Q8].map(move |lora| (backend, kv, lora))
        })
    });
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
                for backend in BackendKind::ALL {
                    if backend == BackendKind::Reference {
                        continue;
                    }
                    let class = class_of(backend, kv, lora);
                    assert_eq!(of_class(class), Some((backend, kv, lora)));
                    // What the wire's field holds.
                    assert!(class.len() <= 32 && !classes.contains(&class), "{class}");
                    classes.push(class);
                }
                let reference = class_of(BackendKind::Reference, kv, lora);
                assert_eq!(reference, "cpu-reference-1", "it keeps 32 bits whatever is asked");
            }
        }
        let (reference, ..) = of_class("cpu-reference-1").unwrap();
        assert_eq!(reference, BackendKind::Reference);
        assert_eq!(of_class("gpu-1"), None);
        assert_eq!(EngineOptions::default().class(), "cpu-int12-2");
    }
}
