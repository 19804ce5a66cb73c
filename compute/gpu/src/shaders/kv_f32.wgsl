// Four numbers of keys or values as they are stored: as computed.
alias Stored = vec4<f32>;
const SCALED: bool = false;

fn stored(x: vec4<f32>, inverse: f32) -> Stored {
    return x;
}

fn loaded(x: Stored) -> vec4<f32> {
    return x;
}
