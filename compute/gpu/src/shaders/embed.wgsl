// out[i] = weights[ids[i]] * factor, for the ids that are in this panel of the table.

struct Params {
    units: u32, rows: u32, tokens: u32, first: u32, high: u32, scales: u32, factor: f32,
}
//!params Params
@group(0) @binding(0) var<storage, read> w1: array<u32>;
@group(0) @binding(1) var<storage, read> w2: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let token = id.y;
    let unit = id.x;
    if (unit >= params.units) {
        return;
    }
    // Ids below the panel become large numbers.
    let row = ids[token] - params.first;
    if (row >= params.rows) {
        return;
    }
    let from_unit = row * params.units + unit;
    let values = unit_values(from_unit);
    let scale = unit_scale(from_unit);
    let place = (token * params.units + unit) * 4u;
    out[place] = (values[0] * scale.x + scale.y) * params.factor;
    out[place + 1u] = (values[1] * scale.x + scale.y) * params.factor;
    out[place + 2u] = (values[2] * scale.x + scale.y) * params.factor;
    out[place + 3u] = (values[3] * scale.x + scale.y) * params.factor;
}
