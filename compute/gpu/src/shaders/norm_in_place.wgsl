// Root-mean-square norm of each row where it lies, one workgroup a row.

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
@group(0) @binding(1) var<storage, read> weight: array<Lanes>;

@compute @workgroup_size(THREADS)
fn main(thread: Thread) {
    begin(thread);
    let row = thread.group.x + thread.group.y * params.across;
    if row >= params.rows {
        return;
    }
    let start = row * params.width;
    var part = 0.0;
    for (var i = thread.index; i < params.width; i += THREADS) {
        part += squares(x[start + i]);
    }
    let mean = sum_of(part) / f32(params.width * LANES);
    let scale = 1.0 / sqrt(mean + params.epsilon);
    for (var i = thread.index; i < params.width; i += THREADS) {
        x[start + i] = x[start + i] * scale * weight[i];
    }
}
