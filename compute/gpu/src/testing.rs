//! Devices and numbers for this crate's tests.

use std::sync::OnceLock;

use crate::{DeviceChoice, Gpu, Without};

/// A device as it is; opened once for all tests.
pub(crate) fn gpu() -> &'static Gpu {
    static OPEN: OnceLock<Gpu> = OnceLock::new();
    OPEN.get_or_init(|| open(Without::default()))
}

/// The same without anything that some devices lack.
pub(crate) fn plain() -> &'static Gpu {
    static OPEN: OnceLock<Gpu> = OnceLock::new();
    OPEN.get_or_init(|| open(Without::ALL))
}

/// Both.
pub(crate) fn both() -> [&'static Gpu; 2] {
    [gpu(), plain()]
}

pub(crate) fn open(without: Without) -> Gpu {
    let choice = DeviceChoice { without, ..DeviceChoice::software() };
    Gpu::open(&choice).unwrap_or_else(|error| {
        panic!("tests need a Vulkan device, if only Mesa's software one: {error}")
    })
}

/// Numbers between -1 and 1, the same for the same seed.
pub(crate) fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32) / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(next).collect()
}

/// What a buffer holds, as numbers.
pub(crate) fn floats(gpu: &Gpu, buffer: &crate::Buffer) -> Vec<f32> {
    let bytes = gpu.read(buffer, 0..buffer.bytes()).unwrap();
    bytemuck::pod_collect_to_vec(&bytes)
}

/// A buffer of numbers.
pub(crate) fn upload(gpu: &Gpu, values: &[f32]) -> crate::Buffer {
    gpu.upload("test", bytemuck::cast_slice(values)).unwrap()
}

/// The largest difference, relative to the largest number expected.
pub(crate) fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-6f32, |max, x| max.max(x.abs()));
    let each = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    each.fold(0.0, |max, x| if x.is_nan() { f32::INFINITY } else { f32::max(max, x) }) / scale
}
