// Rows whose width is no multiple of four are worked on one element at a time.
alias Lanes = f32;
const LANES: u32 = 1u;

fn squares(x: Lanes) -> f32 {
    return x * x;
}
