// Four numbers of keys or values as they are stored: in half precision.
alias Stored = vec2<u32>;
const SCALED: bool = false;

fn stored(x: vec4<f32>, inverse: f32) -> Stored {
    return halves_of(x);
}

fn loaded(x: Stored) -> vec4<f32> {
    return from_halves(x);
}
