// An arena of adapters in half precision: A, [rank, cols]; B, [rank, outputs].
alias Packed = vec2<u32>;

// Four columns of a rank of A.
fn a_at(start: u32, rank: u32, r: u32, cols4: u32, k: u32) -> vec4<f32> {
    return from_all_halves(arena[start / 2u + r * cols4 + k]);
}

// Four outputs of a rank of B.
fn b_at(start: u32, rank: u32, r: u32, out4: u32, o: u32) -> vec4<f32> {
    return from_all_halves(arena[start / 2u + r * out4 + o]);
}
