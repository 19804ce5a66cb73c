// What a unit of 16 weights is: scales and halves, shared by all kernels that read weights. The
// functions `unit_codes`, `unit_scale` and `unit_values` are put together for each layout.

// A half-precision number from 16 bits, subnormal ones too: devices may flush those of
// `unpack2x16float` to zero, and small models' scales are full of them.
fn half(bits: u32) -> f32 {
    let magnitude = bits & 0x7FFFu;
    let normal = bitcast<f32>((magnitude << 13u) + 0x38000000u);
    let value = select(f32(magnitude) * 0x1p-24f, normal, magnitude >= 0x400u);
    return select(value, -value, (bits & 0x8000u) != 0u);
}

fn halves(word: u32) -> vec2<f32> {
    return vec2<f32>(half(word & 0xFFFFu), half(word >> 16u));
}

// Four bits, each to the place of a byte's fifth bit.
fn spread_one(bits: u32) -> u32 {
    return (((bits & 15u) * 0x00204081u) & 0x01010101u) << 4u;
}

// Four times two bits, each to a byte's fifth and sixth bit.
fn spread_two(bits: u32) -> u32 {
    let low = bits & 0xFFu;
    return ((low | low << 6u | low << 12u | low << 18u) & 0x03030303u) << 4u;
}

