// x += h, or x += norm(h) where NORMED, and out = norm(x), one workgroup a row. A thread reads
// only what it wrote itself, so nothing waits for global memory.

struct Params {
    rows: u32,
    // In lanes.
    width: u32,
    // Rows side by side in the grid.
    across: u32,
    epsilon: f32,
}
//!params Params

@group(0) @binding(0) var<storage, read_write> x: array<Lanes>;
@group(0) @binding(1) var<storage, read> h: array<Lanes>;
@group(0) @binding(2) var<storage, read> weight: array<Lanes>;
@group(0) @binding(3) var<storage, read_write> out: array<Lanes>;
@group(0) @binding(4) var<storage, read> h_weight: array<Lanes>;

@compute @workgroup_size(THREADS)
fn main(thread: Thread) {
    begin(thread);
    let row = thread.group.x + thread.group.y * params.across;
    if row >= params.rows {
        return;
    }
    let start = row * params.width;
    let count = f32(params.width * LANES);
    var h_scale = 1.0;
    if NORMED {
        var part = 0.0;
        for (var i = thread.index; i < params.width; i += THREADS) {
            part += squares(h[start + i]);
        }
        h_scale = 1.0 / sqrt(sum_of(part) / count + params.epsilon);
    }
    var part = 0.0;
    for (var i = thread.index; i < params.width; i += THREADS) {
        var added = h[start + i];
        if NORMED {
            added = added * h_scale * h_weight[i];
        }
        let sum = x[start + i] + added;
        x[start + i] = sum;
        part += squares(sum);
    }
    let scale = 1.0 / sqrt(sum_of(part) / count + params.epsilon);
    for (var i = thread.index; i < params.width; i += THREADS) {
        out[start + i] = x[start + i] * scale * weight[i];
    }
}
