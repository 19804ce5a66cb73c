// out[token][row] = dot(weights[row], x[token]) for many tokens: tiles of 64 rows and 16 * TJ
// tokens, 32 elements deep, in workgroup memory; each of 128 threads sums 8 rows by TJ tokens.
// Tiles are padded by one vector, so that threads of different rows meet different banks.

struct Params {
    units: u32, rows: u32, tokens: u32, out_stride: u32, out_at: u32, high: u32, scales: u32,
}
//!params Params
@group(0) @binding(0) var<storage, read> w1: array<u32>;
@group(0) @binding(1) var<storage, read> w2: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

const PITCH: u32 = 9u;
const TOKENS: u32 = 16u * TJ;
var<workgroup> weights: array<vec4<f32>, 64u * PITCH>;
var<workgroup> inputs: array<vec4<f32>, TOKENS * PITCH>;

@compute @workgroup_size(128)
fn main(
    @builtin(local_invocation_index) thread: u32,
    @builtin(workgroup_id) group: vec3<u32>,
) {
    let first_row = group.x * 64u;
    let first_token = group.y * TOKENS;
    let own_row = thread % 8u;
    let own_token = thread / 8u;
    // Of the weights each thread brings one unit: half of what a row has in the tile.
    let weight_row = min(first_row + thread / 2u, params.rows - 1u);
    let vectors = params.units * 4u;
    var sums: array<array<f32, 8>, TJ>;
    for (var depth = 0u; depth < params.units; depth += 2u) {
        let unit = weight_row * params.units + depth + thread % 2u;
        let values = unit_values(unit);
        let scale = unit_scale(unit);
        let place = (thread / 2u) * PITCH + (thread % 2u) * 4u;
        weights[place] = values[0] * scale.x + scale.y;
        weights[place + 1u] = values[1] * scale.x + scale.y;
        weights[place + 2u] = values[2] * scale.x + scale.y;
        weights[place + 3u] = values[3] * scale.x + scale.y;
        for (var j = 0u; j < TJ; j++) {
            let token = own_token + 16u * j;
            let from_token = min(first_token + token, params.tokens - 1u);
            inputs[token * PITCH + own_row] = x[from_token * vectors + depth * 4u + own_row];
        }
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            var from_weights: array<vec4<f32>, 8>;
            for (var i = 0u; i < 8u; i++) {
                from_weights[i] = weights[(own_row + 8u * i) * PITCH + k];
            }
            for (var j = 0u; j < TJ; j++) {
                let from_input = inputs[(own_token + 16u * j) * PITCH + k];
                for (var i = 0u; i < 8u; i++) {
                    sums[j][i] += dot(from_weights[i], from_input);
                }
            }
        }
        workgroupBarrier();
    }
    for (var j = 0u; j < TJ; j++) {
        let token = first_token + own_token + 16u * j;
        for (var i = 0u; i < 8u; i++) {
            let row = first_row + own_row + 8u * i;
            if (token < params.tokens && row < params.rows) {
                out[token * params.out_stride + params.out_at + row] = sums[j][i];
            }
        }
    }
}
