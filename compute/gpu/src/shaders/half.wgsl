// The half-precision number nearest to `x`, of two the even one: `pack2x16float` leaves the
// direction of rounding to the device, and what is stored must not depend on it.
fn half_of(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if magnitude > 0x7f800000u {
        return sign | 0x7e00u;
    }
    if magnitude >= 0x47800000u {
        return sign | 0x7c00u;
    }
    if magnitude < 0x38800000u {
        // Subnormal: adding 0.5 aligns the digits so that the addition itself rounds them.
        return sign | (bitcast<u32>(bitcast<f32>(magnitude) + 0.5) - 0x3f000000u);
    }
    return sign | ((magnitude + 0x0fffu + ((magnitude >> 13u) & 1u) - 0x38000000u) >> 13u);
}

fn halves_of(x: vec4<f32>) -> vec2<u32> {
    return vec2(
        half_of(x.x) | (half_of(x.y) << 16u),
        half_of(x.z) | (half_of(x.w) << 16u),
    );
}

// Devices may make zeros of subnormal ones, magnitudes below 6.1e-5.
fn from_halves(x: vec2<u32>) -> vec4<f32> {
    return vec4(unpack2x16float(x.x), unpack2x16float(x.y));
}

// All finite ones, subnormal ones too.
fn from_all_halves(x: vec2<u32>) -> vec4<f32> {
    let bits = vec4(x.x, x.x >> 16u, x.y, x.y >> 16u);
    let magnitude = bits & vec4(0x7fffu);
    let normal = bitcast<vec4<f32>>((magnitude << vec4(13u)) + vec4(0x38000000u));
    let value = select(vec4<f32>(magnitude) * 0x1p-24f, normal, magnitude >= vec4(0x400u));
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(value) | ((bits & vec4(0x8000u)) << vec4(16u)));
}
