// Pages copied to others, one workgroup for a part of a page.

struct Params {
    // Elements of a page, and scales of a page.
    page_len: u32,
    scales_len: u32,
    // Pages that there are: nothing is written outside.
    pages: u32,
}
//!params Params

// From which page, to which.
@group(0) @binding(0) var<storage, read> pairs: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> kv: array<Stored>;
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let pair = pairs[group.x];
    if pair.x >= params.pages || pair.y >= params.pages {
        return;
    }
    let first = group.y * THREADS + index;
    let stride = groups.y * THREADS;
    for (var i = first; i < params.page_len; i += stride) {
        kv[pair.y * params.page_len + i] = kv[pair.x * params.page_len + i];
    }
    for (var i = first; i < params.scales_len; i += stride) {
        scales[pair.y * params.scales_len + i] = scales[pair.x * params.scales_len + i];
    }
}
