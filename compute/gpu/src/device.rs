//! Which devices there are, in words that people can choose by.

/// What kind of thing computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// A card with memory of its own.
    Discrete,
    /// Shares its memory with the processor.
    Integrated,
    /// Given to a virtual machine.
    Virtual,
    /// The processor, pretending: for tests.
    Software,
    /// The driver does not say.
    Unknown,
}

impl DeviceKind {
    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Unknown => "unknown",
        }
    }

    /// The better, the smaller.
    pub(crate) const fn rank(self) -> u8 {
        match self {
            Self::Discrete => 0,
            Self::Virtual => 1,
            Self::Integrated => 2,
            Self::Unknown => 3,
            Self::Software => 4,
        }
    }
}

/// A device that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its place in [`crate::Gpu::list`].
    pub index: usize,
    /// What its driver calls it.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Through which interface: `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    /// The driver and its version.
    pub driver: String,
    /// Its memory in bytes, where the system says.
    pub memory_bytes: Option<u64>,
}

impl DeviceInfo {
    /// What wgpu says about an adapter.
    pub(crate) fn of(index: usize, info: &wgpu::AdapterInfo) -> Self {
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
            wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
            wgpu::DeviceType::Cpu => DeviceKind::Software,
            wgpu::DeviceType::Other => DeviceKind::Unknown,
        };
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
        let memory_bytes = video_memory(&info.device_pci_bus_id);
        let backend = match info.backend {
            wgpu::Backend::Vulkan => "vulkan",
            wgpu::Backend::Metal => "metal",
            wgpu::Backend::Dx12 => "dx12",
            _ => "other",
        };
        Self { index, name: info.name.clone(), kind, backend, driver, memory_bytes }
    }

    /// Whether it is worth computing on: anything but the processor in disguise.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.kind != DeviceKind::Software
    }
}

impl core::fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.kind.name(), self.backend)
    }
}

/// A card's memory as Linux tells it, which the drivers that have a `mem_info_vram_total` do; wgpu
/// itself has no call for it.
fn video_memory(bus: &str) -> Option<u64> {
    // `0000:01:00.0`, and nothing that could lead elsewhere.
    let plain = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    if bus.is_empty() || !bus.chars().all(plain) || bus.contains("..") {
        return None;
    }
    let path = format!("/sys/bus/pci/devices/{bus}/mem_info_vram_total");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
