// An arena of adapters in eight bits. A: scales, [rank, cols / 32], then codes, [rank, cols]. B:
// scales, [rank], then codes, [rank, outputs].
alias Packed = u32;

// Four columns of a rank of A.
fn a_at(start: u32, rank: u32, r: u32, cols4: u32, k: u32) -> vec4<f32> {
    let blocks = (cols4 + 7u) / 8u;
    let scale = bitcast<f32>(arena[start + r * blocks + k / 8u]);
    return vec4<f32>(unpack4xI8(arena[start + rank * blocks + r * cols4 + k])) * scale;
}

// Four outputs of a rank of B.
fn b_at(start: u32, rank: u32, r: u32, out4: u32, o: u32) -> vec4<f32> {
    let scale = bitcast<f32>(arena[start + r]);
    return vec4<f32>(unpack4xI8(arena[start + rank + r * out4 + o])) * scale;
}
