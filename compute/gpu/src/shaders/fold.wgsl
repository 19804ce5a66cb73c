// What the threads of a workgroup hold, folded into one value that all get. With subgroups: within
// each first, then over them in their order; without, in halves through the workgroup's memory.

struct Thread {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
//!if subgroups
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
//!end
}

// There are never more subgroups than threads.
var<workgroup> folded: array<f32, THREADS>;
var<workgroup> folded_fours: array<vec4<f32>, THREADS>;
var<workgroup> folded_ids: array<u32, THREADS>;

//!if subgroups
var<private> own_subgroup: u32;
var<private> own_subgroups: u32;
var<private> own_lane: u32;

fn begin(thread: Thread) {
    own_subgroup = thread.subgroup;
    own_subgroups = min(thread.subgroups, THREADS);
    own_lane = thread.lane;
}

fn sum_of(x: f32) -> f32 {
    let part = subgroupAdd(x);
    if own_lane == 0u {
        folded[own_subgroup] = part;
    }
    workgroupBarrier();
    var all = folded[0];
    for (var i = 1u; i < own_subgroups; i++) {
        all += folded[i];
    }
    workgroupBarrier();
    return all;
}

fn largest_of(x: f32) -> f32 {
    let part = subgroupMax(x);
    if own_lane == 0u {
        folded[own_subgroup] = part;
    }
    workgroupBarrier();
    var all = folded[0];
    for (var i = 1u; i < own_subgroups; i++) {
        all = max(all, folded[i]);
    }
    workgroupBarrier();
    return all;
}

fn least_of(x: u32) -> u32 {
    let part = subgroupMin(x);
    if own_lane == 0u {
        folded_ids[own_subgroup] = part;
    }
    workgroupBarrier();
    var all = folded_ids[0];
    for (var i = 1u; i < own_subgroups; i++) {
        all = min(all, folded_ids[i]);
    }
    workgroupBarrier();
    return all;
}

fn sums_of(x: vec4<f32>) -> vec4<f32> {
    let part = subgroupAdd(x);
    if own_lane == 0u {
        folded_fours[own_subgroup] = part;
    }
    workgroupBarrier();
    var all = folded_fours[0];
    for (var i = 1u; i < own_subgroups; i++) {
        all += folded_fours[i];
    }
    workgroupBarrier();
    return all;
}
//!else
var<private> own: u32;

fn begin(thread: Thread) {
    own = thread.index;
}

fn sum_of(x: f32) -> f32 {
    folded[own] = x;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half >>= 1u) {
        if own < half {
            folded[own] += folded[own + half];
        }
        workgroupBarrier();
    }
    let all = folded[0];
    workgroupBarrier();
    return all;
}

fn largest_of(x: f32) -> f32 {
    folded[own] = x;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half >>= 1u) {
        if own < half {
            folded[own] = max(folded[own], folded[own + half]);
        }
        workgroupBarrier();
    }
    let all = folded[0];
    workgroupBarrier();
    return all;
}

fn least_of(x: u32) -> u32 {
    folded_ids[own] = x;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half >>= 1u) {
        if own < half {
            folded_ids[own] = min(folded_ids[own], folded_ids[own + half]);
        }
        workgroupBarrier();
    }
    let all = folded_ids[0];
    workgroupBarrier();
    return all;
}

fn sums_of(x: vec4<f32>) -> vec4<f32> {
    folded_fours[own] = x;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half >>= 1u) {
        if own < half {
            folded_fours[own] += folded_fours[own + half];
        }
        workgroupBarrier();
    }
    let all = folded_fours[0];
    workgroupBarrier();
    return all;
}
//!end
