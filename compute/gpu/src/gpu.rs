//! Finding and opening a device, and what is known of it.
//!
//! Everything that wgpu reports comes back as an error of the call that caused it; nothing here
//! panics where there is no Vulkan loader, no device, or one that goes away.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::executor::block_on;

use crate::cache;
use crate::device::{DeviceInfo, DeviceKind};
use crate::error::GpuError;
use crate::kernel::{Kernel, KernelKey};
use crate::limits::SUBMISSION_SECONDS_MAX;

/// Which device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The best there is: discrete before virtual before integrated.
    #[default]
    Best,
    /// One whose name contains this, in any case of letters.
    Named(String),
    /// By its place in [`Gpu::list`].
    Index(usize),
}

/// Features that are not used even where the device has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// No operations among the threads of a subgroup.
    pub subgroups: bool,
    /// No 16-bit arithmetic.
    pub f16: bool,
    /// Parameters in a uniform buffer.
    pub immediates: bool,
    /// No pipeline cache.
    pub pipeline_cache: bool,
}

impl Without {
    /// What the poorest device has.
    pub const ALL: Self =
        Self { subgroups: true, f16: true, immediates: true, pipeline_cache: true };
}

/// Which device to open, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceChoice {
    /// Which.
    pub device: Device,
    /// Whether one that is really the processor will do: for tests, it is no faster.
    pub allow_software: bool,
    /// What may be taken of its memory, in bytes; nothing for all that it gives.
    pub memory_max: Option<u64>,
    /// A folder that keeps compiled shaders.
    pub cache: Option<PathBuf>,
    /// For tests of what poorer devices do.
    pub without: Without,
}

impl DeviceChoice {
    /// The best, or the processor in disguise where there is no other.
    #[must_use]
    pub fn software() -> Self {
        Self { allow_software: true, ..Self::default() }
    }
}

/// What a device can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// Threads of the smallest subgroup that may be met; nothing without subgroups. A kernel may
    /// find larger ones and asks its `subgroup_size`.
    pub subgroups: Option<u32>,
    /// 16-bit floating point in shaders.
    pub f16: bool,
    /// Parameters without a buffer.
    pub immediates: bool,
    /// Compiled shaders can be kept.
    pub pipeline_cache: bool,
    /// Time can be measured on the device.
    pub timestamps: bool,
    /// `dot4I8Packed` is (most likely) one instruction, not a dozen. It works anyway.
    pub dot4: bool,
    /// Bytes of one storage binding.
    pub max_binding_bytes: u64,
    /// Bytes of one buffer.
    pub max_buffer_bytes: u64,
    /// Storage buffers of one kernel.
    pub max_bindings: u32,
    /// Threads of a workgroup.
    pub max_workgroup_invocations: u32,
    /// Bytes of a workgroup's memory.
    pub workgroup_memory: u32,
}

/// What all clones of a [`Gpu`] share.
pub(crate) struct Shared {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) info: DeviceInfo,
    pub(crate) features: Features,
    pub(crate) memory_max: u64,
    pub(crate) memory_used: AtomicU64,
    pub(crate) next_buffer: AtomicU64,
    lost: Arc<Mutex<Option<String>>>,
    pub(crate) pipelines: Option<(wgpu::PipelineCache, PathBuf)>,
    /// Whether there are pipelines that the file does not have.
    pub(crate) pipelines_new: AtomicBool,
    pub(crate) kernels: Mutex<BTreeMap<KernelKey, Arc<Kernel>>>,
    pub(crate) layouts: Mutex<BTreeMap<Vec<crate::kernel::Access>, Arc<crate::kernel::Layout>>>,
    pub(crate) bind_groups: Mutex<crate::step::BindGroups>,
}

/// An open device. Clones are the same device.
#[derive(Clone)]
pub struct Gpu {
    pub(crate) shared: Arc<Shared>,
}

impl core::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Gpu").field("info", &self.shared.info).finish_non_exhaustive()
    }
}

/// A lock whose holder may have panicked: what it guards is valid between any two statements.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All adapters, best first. A driver that panics is no driver.
fn adapters() -> Vec<wgpu::Adapter> {
    let found = catch_unwind(|| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        descriptor.flags = wgpu::InstanceFlags::empty();
        let instance = wgpu::Instance::new(descriptor);
        block_on(instance.enumerate_adapters(wgpu::Backends::all()))
    });
    let mut adapters = found.unwrap_or_default();
    // Stable, so that drivers' own order decides among equals.
    adapters.sort_by_key(|adapter| DeviceInfo::of(0, &adapter.get_info()).kind.rank());
    adapters
}

impl Gpu {
    /// The devices of this machine, best first. Takes some milliseconds, as drivers are loaded;
    /// empty where there are none.
    #[must_use]
    pub fn list() -> Vec<DeviceInfo> {
        let infos = adapters().into_iter().enumerate();
        infos.map(|(index, adapter)| DeviceInfo::of(index, &adapter.get_info())).collect()
    }

    /// Opens a device.
    ///
    /// # Errors
    /// No such device, or one that lacks what every GPU of the last decade has.
    pub fn open(choice: &DeviceChoice) -> Result<Self, GpuError> {
        let adapters = adapters();
        let infos: Vec<DeviceInfo> = (adapters.iter().enumerate())
            .map(|(index, adapter)| DeviceInfo::of(index, &adapter.get_info()))
            .collect();
        let fits = |info: &&DeviceInfo| {
            let named = match &choice.device {
                Device::Best => true,
                Device::Named(name) => info.name.to_lowercase().contains(&name.to_lowercase()),
                Device::Index(index) => info.index == *index,
            };
            named && (info.usable() || choice.allow_software)
        };
        let chosen = infos.iter().find(fits);
        let Some((info, adapter)) = chosen.and_then(|i| Some((i, adapters.get(i.index)?))) else {
            return Err(Self::absent(choice, &infos));
        };
        Self::of_adapter(adapter, info, choice)
    }

    fn absent(choice: &DeviceChoice, infos: &[DeviceInfo]) -> GpuError {
        let wanted = match &choice.device {
            Device::Best => "that is fit for use".to_owned(),
            Device::Named(name) => format!("named {name:?}"),
            Device::Index(index) => format!("number {index}"),
        };
        let names: Vec<String> = infos.iter().map(ToString::to_string).collect();
        let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        GpuError::Absent { wanted, found }
    }

    fn of_adapter(
        adapter: &wgpu::Adapter,
        info: &DeviceInfo,
        choice: &DeviceChoice,
    ) -> Result<Self, GpuError> {
        let refused = |what: String| GpuError::Open { name: info.name.clone(), what };
        let required_features = wanted_features(adapter.features(), choice.without);
        let limits = adapter.limits();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("openledger"),
            required_features,
            required_limits: limits.clone(),
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        };
        let (device, queue) = block_on(adapter.request_device(&descriptor))
            .map_err(|error| refused(error.to_string()))?;
        let lost = Arc::new(Mutex::new(None));
        watch(&device, &lost);
        let features = features_of(adapter, required_features, &limits, info);
        let path = choice.cache.as_deref().filter(|_| features.pipeline_cache);
        let path = path.and_then(|folder| cache::path_of(folder, &adapter.get_info()));
        let pipelines = path.map(|path| (cache::open(&device, &path), path));
        let shared = Shared {
            device,
            queue,
            info: info.clone(),
            features,
            memory_max: choice.memory_max.unwrap_or(u64::MAX),
            memory_used: AtomicU64::new(0),
            next_buffer: AtomicU64::new(0),
            lost,
            pipelines,
            pipelines_new: AtomicBool::new(false),
            kernels: Mutex::default(),
            layouts: Mutex::default(),
            bind_groups: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What was opened.
    #[must_use]
    pub fn info(&self) -> &DeviceInfo {
        &self.shared.info
    }

    /// What it can do.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.shared.features
    }

    /// Why the device is gone, if it is. Only opening it again helps.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        locked(&self.shared.lost).clone()
    }

    /// Bytes that its buffers take.
    #[must_use]
    pub fn memory_used(&self) -> u64 {
        self.shared.memory_used.load(Ordering::Relaxed)
    }

    /// Bytes that its buffers may take.
    #[must_use]
    pub fn memory_max(&self) -> u64 {
        self.shared.memory_max
    }

    /// Gives the device up, as if its driver had reset it: for tests of what follows.
    pub fn lose(&self) {
        self.shared.device.destroy();
        let what = "it was given up".to_owned();
        locked(&self.shared.lost).get_or_insert(what);
    }

    /// Stores the compiled shaders, where there is a folder for them. Also done when the last
    /// clone goes.
    pub fn save_pipelines(&self) {
        self.shared.save_pipelines();
    }
}

impl Shared {
    fn save_pipelines(&self) {
        let Some((pipelines, path)) = &self.pipelines else { return };
        if self.pipelines_new.swap(false, Ordering::Relaxed)
            && let Some(data) = pipelines.get_data()
        {
            cache::write(path, &data);
        }
    }

    /// The error of a lost device, if it is lost.
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        match locked(&self.lost).clone() {
            Some(what) => Err(GpuError::Lost { what }),
            None => Ok(()),
        }
    }

    /// Runs `work`, and returns what wgpu had to say about it.
    pub(crate) fn caught<T>(&self, work: impl FnOnce() -> T) -> Result<T, wgpu::Error> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let done = work();
        let found = [block_on(validation.pop()), block_on(internal.pop()), block_on(memory.pop())];
        match found.into_iter().flatten().next() {
            Some(error) => Err(error),
            None => Ok(done),
        }
    }

    /// What an error of wgpu's means here.
    pub(crate) fn explain(&self, error: &wgpu::Error, what: &str) -> GpuError {
        match (self.check(), error) {
            (Err(lost), _) => lost,
            (_, wgpu::Error::OutOfMemory { .. }) => {
                GpuError::OutOfMemory { what: what.to_owned(), bytes: 0 }
            }
            (_, error) => GpuError::misuse(format!("{what}: {error}")),
        }
    }

    /// Waits until everything submitted is done.
    pub(crate) fn wait(&self) -> Result<(), GpuError> {
        self.check()?;
        let poll = wgpu::PollType::Wait {
            submission_index: None,
            timeout: Some(Duration::from_secs(SUBMISSION_SECONDS_MAX)),
        };
        // wgpu panics where a driver reports the loss of the device while it is waited for.
        let polled = catch_unwind(AssertUnwindSafe(|| self.device.poll(poll)));
        let failed = match polled {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("its driver failed while it was waited for".to_owned()),
        };
        if let Some(what) = failed {
            locked(&self.lost).get_or_insert(what);
        }
        self.check()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.save_pipelines();
    }
}

/// Notes a device's loss where [`Gpu::lost`] finds it, and what no error scope caught.
fn watch(device: &wgpu::Device, lost: &Arc<Mutex<Option<String>>>) {
    let noted = Arc::clone(lost);
    device.set_device_lost_callback(move |reason, message| {
        locked(&noted).get_or_insert(format!("{reason:?}: {message}"));
    });
    let noted = Arc::clone(lost);
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        // Nobody waits for it, so nobody else would learn that results may be wrong.
        locked(&noted).get_or_insert(format!("an error that nobody caught: {error}"));
    }));
}

/// What is asked of a device that has `found`.
fn wanted_features(found: wgpu::Features, without: Without) -> wgpu::Features {
    let pairs = [
        (wgpu::Features::SUBGROUP, without.subgroups),
        (wgpu::Features::SHADER_F16, without.f16),
        (wgpu::Features::IMMEDIATES, without.immediates),
        (wgpu::Features::PIPELINE_CACHE, without.pipeline_cache),
        (wgpu::Features::TIMESTAMP_QUERY, false),
    ];
    let wanted = pairs.into_iter().filter(|(_, without)| !without);
    wanted.fold(wgpu::Features::empty(), |all, (feature, _)| all | feature) & found
}

fn features_of(
    adapter: &wgpu::Adapter,
    features: wgpu::Features,
    limits: &wgpu::Limits,
    info: &DeviceInfo,
) -> Features {
    let immediates = features.contains(wgpu::Features::IMMEDIATES)
        && limits.max_immediate_size as usize >= 4 * crate::limits::PARAMS_MAX;
    let size = adapter.get_info().subgroup_min_size;
    let hardware = !matches!(info.kind, DeviceKind::Software);
    Features {
        subgroups: features.contains(wgpu::Features::SUBGROUP).then_some(size),
        f16: features.contains(wgpu::Features::SHADER_F16),
        immediates,
        pipeline_cache: features.contains(wgpu::Features::PIPELINE_CACHE),
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        // Metal has no such instruction; Vulkan's and DirectX's compilers know their hardware's.
        dot4: hardware && matches!(info.backend, "vulkan" | "dx12"),
        // A binding is counted in words of 32 bits, by indices of 32 bits.
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        max_bindings: limits.max_storage_buffers_per_shader_stage,
        max_workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
    }
}
