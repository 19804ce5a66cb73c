//! `[inference]` of the configuration: what computes, and how.

use openledger_inference::{BackendKind, KvFormat, LoraFormat, class_of, cpu_tier};
use serde::{Deserialize, Serialize};

/// What computes answers, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InferenceConfig {
    /// "cpu" for the fast kernels, or "reference" for the slow definition in 32 bits.
    pub backend: BackendChoice,
    /// What keys and values of running calls are kept in: "f32", "f16" or "q8"; fewer bits take
    /// less memory, and round more.
    pub kv: KvChoice,
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    /// 12-bit activations on the processor.
    #[default]
    Cpu,
    /// 32 bits on the processor.
    Reference,
}

/// What keys and values are kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvChoice {
    /// 32 bits.
    F32,
    /// 16 bits.
    #[default]
    F16,
    /// 8 bits, with a scale for each head of a position.
    Q8,
}

impl InferenceConfig {
    /// The backend class of what is computed so. Work is computed in the class that its rules
    /// compare, whatever is configured.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        let kv = match self.kv {
            KvChoice::F32 => KvFormat::F32,
            KvChoice::F16 => KvFormat::F16,
            KvChoice::Q8 => KvFormat::Q8,
        };
        class_of(self.kind(), kv, LoraFormat::Q8)
    }

    const fn kind(&self) -> BackendKind {
        match self.backend {
            BackendChoice::Cpu => BackendKind::Int12,
            BackendChoice::Reference => BackendKind::Reference,
        }
    }

    /// The same for people, with the kernels that this processor runs.
    #[must_use]
    pub fn view(&self) -> EngineView {
        EngineView {
            backend: self.kind().name().to_owned(),
            class: self.class().to_owned(),
            kernels: cpu_tier(),
        }
    }
}

/// What answers calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineView {
    /// The backend.
    pub backend: String,
    /// The class of its results.
    pub class: String,
    /// Which kernels this processor runs.
    pub kernels: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_their_class() {
        let class = |text: &str| toml::from_str::<InferenceConfig>(text).unwrap().class();
        assert_eq!(class(""), "cpu-int12-1");
        assert_eq!(class("kv = \"q8\""), "cpu-int12-1/kv-q8");
        assert_eq!(class("backend = \"reference\"\nkv = \"f32\""), "cpu-reference-1");
        let wrong = toml::from_str::<InferenceConfig>("backend = \"gpu\"").unwrap_err();
        assert!(wrong.to_string().contains("reference"), "{wrong}");
        let view = InferenceConfig::default().view();
        assert_eq!(view.backend, "cpu-int12");
        assert!(!view.kernels.is_empty());
    }
}
