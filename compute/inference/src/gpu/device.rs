//! Which devices a backend uses.

use std::path::PathBuf;
use std::sync::OnceLock;

use openledger_gpu::{Arithmetic, Device, DeviceChoice, DeviceInfo, Gpu, GpuError, Without};

/// Which devices serve, and what of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// The devices, each of which takes some of the layers, in this order; none named is the best
    /// there is.
    pub devices: Vec<Device>,
    /// Whether one that is really the processor will do: for tests, it is slower than the backend
    /// of the processor.
    pub allow_software: bool,
    /// What may be taken of each device's memory, in bytes: weights, keys and values, adapters and
    /// buffers. Nothing for all that the device gives.
    pub memory_max: Option<u64>,
    /// A folder that keeps compiled shaders, so that the next start does not wait for them.
    pub cache: Option<PathBuf>,
    /// How weights are multiplied.
    pub arithmetic: Arithmetic,
    /// For tests of what poorer devices do.
    pub without: Without,
}

impl GpuOptions {
    /// The best device, or the processor in disguise where there is no other: for tests.
    #[must_use]
    pub fn software() -> Self {
        Self { allow_software: true, ..Self::default() }
    }

    /// Opens the devices.
    ///
    /// # Errors
    /// One that is not there or does not open.
    pub(super) fn open(&self) -> Result<Vec<Gpu>, GpuError> {
        let open = |device: &Device| {
            Gpu::open(&DeviceChoice {
                device: device.clone(),
                allow_software: self.allow_software,
                memory_max: self.memory_max,
                cache: self.cache.clone(),
                without: self.without,
            })
        };
        match self.devices.as_slice() {
            [] => Ok(vec![open(&Device::Best)?]),
            devices => devices.iter().map(open).collect(),
        }
    }
}

/// The device that [`crate::GpuBackend`] would use by default: the best that is not the processor
/// in disguise. Nothing where there is none, or no Vulkan (Metal, DirectX) at all; never panics.
/// Looks once, which takes some milliseconds, and remembers.
#[must_use]
pub fn usable_gpu() -> Option<DeviceInfo> {
    static FOUND: OnceLock<Option<DeviceInfo>> = OnceLock::new();
    FOUND.get_or_init(|| Gpu::list().into_iter().find(DeviceInfo::usable)).clone()
}
