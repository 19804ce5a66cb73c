// Four elements at a time.
alias Lanes = vec4<f32>;
const LANES: u32 = 4u;

fn squares(x: Lanes) -> f32 {
    return dot(x, x);
}
