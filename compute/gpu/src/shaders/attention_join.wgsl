// Joins what the chunks of a row gave: one workgroup for a row's query head.

struct Params {
    joins: u32,
    // Rows side by side in the grid.
    across: u32,
    // Where the rows to be joined start in the plan, in words.
    first_join: u32,
    // Positions that a row sees at most.
    window: u32,
    // Positions of a chunk.
    chunk: u32,
}
//!params Params

@group(0) @binding(0) var<storage, read> rows: array<u32>;
@group(0) @binding(1) var<storage, read> plan: array<u32>;
@group(0) @binding(2) var<storage, read> partials: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

const FOURS: u32 = HEAD / 4u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let join = group.y + group.z * params.across;
    if join >= params.joins {
        return;
    }
    let row = plan[params.first_join + join];
    let head = group.x;
    let positions = rows[row * 2u + 1u] + 1u;
    let first = (positions - min(positions, params.window)) / params.chunk;
    let chunks = (positions - 1u) / params.chunk - first + 1u;
    let start = (plan[row] * HEADS + head) * (FOURS + 1u);
    let stride = HEADS * (FOURS + 1u);
    var top = -3.0e38;
    for (var i = 0u; i < chunks; i++) {
        top = max(top, partials[start + i * stride + FOURS].x);
    }
    for (var c = index; c < FOURS; c += THREADS) {
        var sum = vec4(0.0);
        var total = 0.0;
        for (var i = 0u; i < chunks; i++) {
            let place = start + i * stride;
            let part = partials[place + FOURS];
            let weight = exp(part.x - top);
            sum += partials[place + c] * weight;
            total += part.y * weight;
        }
        out[(row * HEADS + head) * FOURS + c] = sum / total;
    }
}
