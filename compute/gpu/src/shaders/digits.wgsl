// Numbers as two digits of base 16, packed for integer dot products: of each unit of 16 the
// largest becomes 2039 (so that the upper digit fits a signed byte), the others in proportion.

struct Params { units: u32 }
//!params Params
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> digits: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> scales: array<vec2<f32>>;

fn packed(bytes: vec4<i32>) -> u32 {
    let b = vec4<u32>(bytes) & vec4<u32>(0xFFu);
    return b.x | b.y << 8u | b.z << 16u | b.w << 24u;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let unit = id.x + id.y * 64u * 32768u;
    if (unit >= params.units) {
        return;
    }
    var most = vec4<f32>(0.0);
    for (var i = 0u; i < 4u; i++) {
        most = max(most, abs(x[4u * unit + i]));
    }
    let largest = max(max(most.x, most.y), max(most.z, most.w));
    let scale = largest / 2039.0;
    let inverse = select(0.0, 2039.0 / largest, largest > 1e-30);
    var upper = vec4<u32>(0u);
    var lower = vec4<u32>(0u);
    var sum = vec4<i32>(0);
    for (var i = 0u; i < 4u; i++) {
        let q = clamp(vec4<i32>(round(x[4u * unit + i] * inverse)), vec4<i32>(-2039), vec4<i32>(2039));
        let high = (q + vec4<i32>(8)) >> vec4<u32>(4u);
        upper[i] = packed(high);
        lower[i] = packed(q - high * 16);
        sum += q;
    }
    digits[2u * unit] = upper;
    digits[2u * unit + 1u] = lower;
    scales[unit] = vec2<f32>(scale, scale * f32(sum.x + sum.y + sum.z + sum.w));
}
