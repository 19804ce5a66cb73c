//! What a backend computes on: looked for in this process, which may die of a driver, and before a
//! model is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openledger_inference::gpu::{Device, DeviceInfo, Gpu};
use openledger_inference::{
    Backend, BackendError, BackendKind, Engine, EngineError, EngineOptions, GpuBackend, GpuOptions,
    OnnxBackend, OnnxOptions, Progress, Provider, onnx_library, usable_gpu,
};
use openledger_models::Model;
use openledger_wire::call::CallFailure;
use openledger_wire::worker::DeviceSetup;

use super::child::limit_memory;
use crate::serving::{codes, failure};

fn absent(why: &dyn std::fmt::Display) -> CallFailure {
    failure(codes::NO_DEVICE, &why.to_string(), 0)
}

/// What such a backend would compute on, in words.
///
/// # Errors
/// That there is nothing, and why.
pub(super) fn look(kind: BackendKind, device: Option<&DeviceSetup>) -> Result<String, CallFailure> {
    match (kind, device) {
        (BackendKind::Wgpu, Some(DeviceSetup::Gpu { device, allow_software, .. })) => {
            gpu(device, *allow_software).map(|found| found.to_string())
        }
        (BackendKind::Wgpu, _) => gpu("", false).map(|found| found.to_string()),
        (BackendKind::Onnx, Some(DeviceSetup::Onnx { library, provider })) => {
            let onnx = onnx(library, provider)?;
            onnx.check().map_err(|error| absent(&format!("failed to {error}")))?;
            let library = onnx_library(&onnx.library);
            let library = library.map_err(|error| absent(&format!("failed to {error}")))?;
            Ok(format!("ONNX Runtime {}, {}", library.version(), onnx.provider))
        }
        (BackendKind::Onnx, _) => Err(absent(&"no library of ONNX Runtime is configured")),
        _ => Ok("the processor".to_owned()),
    }
}

/// The GPU that is meant: by its number, a part of its name, or the best.
fn gpu(named: &str, allow_software: bool) -> Result<DeviceInfo, CallFailure> {
    if named.is_empty() && !allow_software {
        return usable_gpu().ok_or_else(|| absent(&"no usable GPU"));
    }
    let all = Gpu::list();
    let is_it = |info: &&DeviceInfo| match (named, named.parse::<usize>()) {
        ("", _) => true,
        (_, Ok(index)) => info.index == index,
        (name, Err(_)) => info.name.to_lowercase().contains(&name.to_lowercase()),
    };
    match all.iter().find(is_it) {
        Some(found) if found.usable() || allow_software => Ok(found.clone()),
        Some(found) => Err(absent(&format!(
            "{found} is a program on the processor and slower than its own kernels; set inference.gpu.allow_software to use it all the same"
        ))),
        None if all.is_empty() => Err(absent(&"no usable GPU")),
        None => {
            let names: Vec<String> = all.iter().map(ToString::to_string).collect();
            let names = names.join(", ");
            Err(absent(&format!("no GPU is called {named:?}; there are {names}")))
        }
    }
}

fn onnx(library: &str, provider: &str) -> Result<OnnxOptions, CallFailure> {
    let provider: Provider = provider.parse().map_err(|error| absent(&error))?;
    Ok(OnnxOptions { provider, ..OnnxOptions::new(library) })
}

/// Makes the engine of a backend that [`look`] found something for.
///
/// # Errors
/// What is told to who wanted it: of a backend on a device another one may be made.
pub(super) fn engine(
    model: Arc<Model>,
    options: EngineOptions,
    device: Option<&DeviceSetup>,
    file: &Path,
    progress: &mut Progress<'_>,
) -> Result<Engine, CallFailure> {
    let own = Arc::clone(&model);
    let unfit = |error: &dyn std::fmt::Display| {
        let message = format!("failed to {error} (file {})", file.display());
        let code = if options.backend.exact() { codes::BAD_FILE } else { codes::UNFIT };
        failure(code, &message, 0)
    };
    let made: Result<Box<dyn Backend>, BackendError> = match (options.backend, device) {
        (
            BackendKind::Wgpu,
            Some(DeviceSetup::Gpu { device, memory_bytes_max, allow_software, cache }),
        ) => {
            let gpus = GpuOptions {
                devices: if device.is_empty() { Vec::new() } else { vec![named(device)] },
                allow_software: *allow_software,
                memory_max: Some(*memory_bytes_max).filter(|bytes| *bytes > 0),
                cache: Some(PathBuf::from(&**cache)).filter(|path| !path.as_os_str().is_empty()),
                ..GpuOptions::default()
            };
            GpuBackend::new(own, &options, &gpus, progress)
                .map(|made| Box::new(made) as Box<dyn Backend>)
        }
        (BackendKind::Onnx, Some(DeviceSetup::Onnx { library, provider })) => {
            let made = OnnxBackend::new(own, &options, &onnx(library, provider)?, progress);
            Ok(Box::new(made.map_err(|error| unfit(&error))?))
        }
        _ => {
            return Engine::load(model, options, progress)
                .map_err(|error: EngineError| unfit(&error));
        }
    };
    let made = made.map_err(|error| unfit(&error))?;
    Engine::with_backend(model, options, made).map_err(|error| unfit(&error))
}

fn named(device: &str) -> Device {
    device.parse().map_or_else(|_| Device::Named(device.to_owned()), Device::Index)
}

/// Bounds this process's memory, where that is possible: drivers of devices take addresses for all
/// of the machine's and the device's memory, whatever they use.
pub(super) fn bound(kind: BackendKind, bytes_max: u64) {
    match kind {
        BackendKind::Int12 | BackendKind::Int12Whole | BackendKind::Reference => {
            limit_memory(bytes_max)
        }
        BackendKind::Wgpu | BackendKind::Onnx => limit_memory(u64::MAX),
    }
}
