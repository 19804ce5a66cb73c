// Four numbers of keys or values as they are stored: codes of eight bits with a scale for each
// head of a position.
alias Stored = u32;
const SCALED: bool = true;

fn stored(x: vec4<f32>, inverse: f32) -> Stored {
    let codes = vec4<i32>(clamp(round(x * inverse), vec4(-127.0), vec4(127.0)));
    return pack4xI8(codes);
}

fn loaded(x: Stored) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(x));
}
