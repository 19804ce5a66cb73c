//! `[inference]` of the configuration: what computes, and how.

use std::path::PathBuf;

use openledger_inference::{BackendKind, KvFormat, LoraFormat, class_of};
use openledger_wire::Text;
use openledger_wire::worker::DeviceSetup;
use serde::{Deserialize, Serialize};

/// What computes answers, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InferenceConfig {
    /// "auto" for a usable GPU, else ONNX Runtime where its library is named, else the processor;
    /// or "gpu", "onnx", "cpu", or "reference" for the slow definition in 32 bits.
    pub backend: BackendChoice,
    /// What keys and values of running calls are kept in: "f32", "f16" or "q8"; fewer bits take
    /// less memory, and round more.
    pub kv: KvChoice,
    /// Which GPU, and how much of it.
    pub gpu: GpuConfig,
    /// ONNX Runtime.
    pub onnx: OnnxConfig,
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    /// The best that works here.
    #[default]
    Auto,
    /// 12-bit activations on the processor.
    Cpu,
    /// A graphics processor; the processor where it fails.
    Gpu,
    /// ONNX Runtime; the processor where it fails.
    Onnx,
    /// 32 bits on the processor.
    Reference,
}

impl BackendChoice {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Onnx => "onnx",
            Self::Reference => "reference",
        }
    }
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

/// Which GPU, and how much of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GpuConfig {
    /// Its name or a part of it, or its number; empty for the best.
    pub device: String,
    /// Memory of the device that may be used, in MiB; 0 for what there is.
    pub memory_max_mb: u64,
    /// Whether a device that is a program on the processor may be used, too. It is slower than the
    /// processor's own kernels: for tests.
    pub allow_software: bool,
}

/// ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnnxConfig {
    /// Its library, such as `libonnxruntime.so`; without it, there is none.
    pub library: PathBuf,
    /// What it shall compute on: "cpu", "cuda", "coreml", "directml" or "webgpu".
    pub provider: String,
}

impl Default for OnnxConfig {
    fn default() -> Self {
        Self { library: PathBuf::new(), provider: "cpu".to_owned() }
    }
}

/// What ONNX Runtime may compute on.
const PROVIDERS: [&str; 5] = ["cpu", "cuda", "coreml", "directml", "webgpu"];

impl InferenceConfig {
    /// What may compute, the best first. What follows the first is used where that fails.
    #[must_use]
    pub fn candidates(&self) -> Vec<BackendKind> {
        let has_onnx = !self.onnx.library.as_os_str().is_empty();
        match self.backend {
            BackendChoice::Auto if has_onnx => {
                vec![BackendKind::Wgpu, BackendKind::Onnx, BackendKind::Int12]
            }
            BackendChoice::Auto | BackendChoice::Gpu => {
                vec![BackendKind::Wgpu, BackendKind::Int12]
            }
            BackendChoice::Onnx => vec![BackendKind::Onnx, BackendKind::Int12],
            BackendChoice::Cpu => vec![BackendKind::Int12],
            BackendChoice::Reference => vec![BackendKind::Reference],
        }
    }

    /// The backend class of what such a backend computes here.
    #[must_use]
    pub const fn class_on(&self, kind: BackendKind) -> &'static str {
        let kv = match self.kv {
            KvChoice::F32 => KvFormat::F32,
            KvChoice::F16 => KvFormat::F16,
            KvChoice::Q8 => KvFormat::Q8,
        };
        class_of(kind, kv, LoraFormat::Q8)
    }

    /// The class of what the processor computes so, to the bit the same on any other. Work is
    /// computed in the class that its rules compare, whatever is configured.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self.backend {
            BackendChoice::Reference => self.class_on(BackendKind::Reference),
            _ => self.class_on(BackendKind::Int12),
        }
    }

    /// What a worker with such a backend is told of its device; `cache` is a folder for what is
    /// compiled for it.
    #[must_use]
    pub fn device(&self, kind: BackendKind, cache: &str) -> Option<DeviceSetup> {
        match kind {
            BackendKind::Wgpu => Some(DeviceSetup::Gpu {
                device: Text::clipped(&self.gpu.device),
                memory_bytes_max: self.gpu.memory_max_mb << 20,
                allow_software: self.gpu.allow_software,
                cache: Text::clipped(cache),
            }),
            BackendKind::Onnx => Some(DeviceSetup::Onnx {
                library: Text::clipped(&self.onnx.library.display().to_string()),
                provider: Text::clipped(&self.onnx.provider),
            }),
            _ => None,
        }
    }

    /// What does not make sense: key, value and remedy.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), (&'static str, String, String)> {
        let Self { backend, gpu, onnx, .. } = self;
        if *backend == BackendChoice::Onnx && onnx.library.as_os_str().is_empty() {
            let remedy = "name the file of ONNX Runtime, such as /usr/lib/libonnxruntime.so";
            return Err(("inference.onnx.library", "\"\"".to_owned(), remedy.to_owned()));
        }
        if !onnx.library.as_os_str().is_empty() && !onnx.library.is_absolute() {
            let remedy = "name it from the root on: workers have another folder".to_owned();
            return Err(("inference.onnx.library", format!("{:?}", onnx.library), remedy));
        }
        if !PROVIDERS.contains(&onnx.provider.as_str()) {
            let remedy = format!("use one of {}", PROVIDERS.join(", "));
            return Err(("inference.onnx.provider", format!("{:?}", onnx.provider), remedy));
        }
        if gpu.memory_max_mb > 1 << 22 {
            let remedy = "use 0 (all) to 4194304".to_owned();
            return Err(("inference.gpu.memory_max_mb", gpu.memory_max_mb.to_string(), remedy));
        }
        if gpu.device.len() > 128 {
            let remedy = "name it by a part of its name".to_owned();
            return Err(("inference.gpu.device", format!("{:?}", gpu.device), remedy));
        }
        Ok(())
    }
}

/// What answers calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineView {
    /// What the owner chose.
    pub asked: String,
    /// The backend.
    pub backend: String,
    /// The class of its results.
    pub class: String,
    /// Which kernels this processor runs.
    pub kernels: String,
    /// What it computes on, once that is known.
    pub device: String,
    /// Why a better one that was chosen does not serve.
    pub fallback: Option<String>,
    /// The same, where nothing is wrong: there is no such device.
    pub absent: Option<String>,
    /// The model that is being loaded.
    pub loading: Option<LoadingView>,
}

/// How far the loading of a model is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadingView {
    /// The model.
    pub name: String,
    /// Bytes that are loaded.
    pub done: u64,
    /// Bytes in all; 0 if not known.
    pub total: u64,
}

impl std::fmt::Display for EngineView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.backend)?;
        if self.backend.starts_with("cpu") {
            write!(f, " with {} kernels", self.kernels)?;
        } else if !self.device.is_empty() {
            write!(f, " on {}", self.device)?;
        }
        write!(f, " (class {})", self.class)?;
        if let Some(absent) = &self.absent {
            write!(f, "; {absent}")?;
        }
        if let Some(LoadingView { name, done, total }) = &self.loading {
            match done.saturating_mul(100).checked_div(*total) {
                Some(percent) => write!(f, "; loading {name}, {percent} %")?,
                None => write!(f, "; loading {name}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> InferenceConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn settings_name_their_class_and_what_may_compute() {
        use BackendKind::{Int12, Onnx, Reference, Wgpu};
        let class = read("").class();
        assert_eq!(class, class_of(Int12, KvFormat::F16, LoraFormat::Q8));
        assert_eq!(read("kv = \"q8\"").class(), format!("{class}/kv-q8"));
        assert_eq!(read("backend = \"reference\"\nkv = \"f32\"").class(), "cpu-reference-1");
        assert_eq!(read("backend = \"gpu\"").class_on(Wgpu), "wgpu-1");
        let library = "[onnx]\nlibrary = \"/lib/x.so\"";
        for (text, candidates) in [
            ("", vec![Wgpu, Int12]),
            (library, vec![Wgpu, Onnx, Int12]),
            ("backend = \"gpu\"", vec![Wgpu, Int12]),
            ("backend = \"cpu\"", vec![Int12]),
            ("backend = \"reference\"", vec![Reference]),
        ] {
            assert_eq!(read(text).candidates(), candidates, "{text}");
        }
        let wrong = toml::from_str::<InferenceConfig>("backend = \"tpu\"").unwrap_err();
        assert!(wrong.to_string().contains("reference"), "{wrong}");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, key) in [
            ("backend = \"onnx\"", "inference.onnx.library"),
            ("[onnx]\nlibrary = \"x.so\"", "inference.onnx.library"),
            ("[onnx]\nprovider = \"tpu\"", "inference.onnx.provider"),
            ("[gpu]\nmemory_max_mb = 999999999", "inference.gpu.memory_max_mb"),
        ] {
            assert_eq!(read(text).check().unwrap_err().0, key);
        }
        assert_eq!(read("").check(), Ok(()));
    }

    #[test]
    fn people_read_what_serves_and_what_loads() {
        let view = EngineView {
            backend: "cpu-int12".to_owned(),
            class: "cpu-int12-1".to_owned(),
            kernels: "avx2".to_owned(),
            absent: Some("no usable GPU".to_owned()),
            loading: Some(LoadingView { name: "smol".to_owned(), done: 30, total: 120 }),
            ..EngineView::default()
        };
        let text = view.to_string();
        let wanted =
            "cpu-int12 with avx2 kernels (class cpu-int12-1); no usable GPU; loading smol, 25 %";
        assert_eq!(text, wanted);
        let view = EngineView {
            backend: "wgpu".to_owned(),
            class: "wgpu-1".to_owned(),
            device: "a card".to_owned(),
            ..EngineView::default()
        };
        assert_eq!(view.to_string(), "wgpu on a card (class wgpu-1)");
    }
}
