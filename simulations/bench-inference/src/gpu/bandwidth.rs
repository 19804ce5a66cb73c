//! How many bytes a second a device reads: what decoding can at most be made of.

use std::time::Instant;

use anyhow::{Result, ensure};
use openledger_gpu::{Access, Gpu};

use crate::speed::median;

/// Every thread reads words that lie far from its last, and its neighbours' beside them; what is
/// written keeps the reads from being left out.
const READS: &str = "
struct Params { words: u32, stride: u32 }
@group(0) @binding(0) var<storage, read> words: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;
//!params Params
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    var sum = vec4<u32>(0u);
    for (var at = id.x; at < params.words; at += params.stride) {
        sum ^= words[at];
    }
    sums[id.x] = sum.x ^ sum.y ^ sum.z ^ sum.w;
}
";

/// Threads of a workgroup.
const GROUP: u64 = 256;

/// Workgroups: several for each core of the largest devices.
const GROUPS: u32 = 4_096;

/// Bytes of one element.
const ELEMENT: u64 = 16;

/// Passes over the buffer in the longer of the two submissions that are compared.
const PASSES: usize = 9;

/// Bytes a second, from so many that are read again and again. More than any cache holds should be
/// taken.
///
/// # Errors
/// A device that has no room for them, or fails.
pub(super) fn measure(gpu: &Gpu, bytes: u64, rounds: usize) -> Result<f64> {
    let features = gpu.features();
    let bytes = bytes.min(features.max_binding_bytes).min(features.max_buffer_bytes);
    let bytes = bytes / ELEMENT * ELEMENT;
    let buffer = gpu.buffer("what is read", bytes)?;
    let threads = u64::from(GROUPS) * GROUP;
    let sums = gpu.buffer("what keeps reads", threads * 4)?;
    let kernel = gpu.kernel("bandwidth", READS, &[Access::Read, Access::Write], &[])?;
    let params = [u32::try_from(bytes / ELEMENT)?, u32::try_from(threads)?];
    let timed = |passes: usize| -> Result<f64> {
        let mut step = gpu.step();
        for _ in 0..passes {
            step.run(&kernel, &[buffer.all(), sums.all()], &params, [GROUPS, 1, 1]);
        }
        let begun = Instant::now();
        step.submit()?;
        Ok(begun.elapsed().as_secs_f64())
    };
    timed(1)?;
    let mut rates = Vec::new();
    for _ in 0..rounds {
        // What a submission costs by itself is in both.
        let more = timed(PASSES)? - timed(1)?;
        if more > 0.0 {
            rates.push((PASSES - 1) as f64 * bytes as f64 / more);
        }
    }
    ensure!(!rates.is_empty(), "time reads: they took no time");
    Ok(median(rates))
}
