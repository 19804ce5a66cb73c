// Operations on elements that need no others.

struct Params {
    // In lanes.
    len: u32,
    // Threads side by side in the grid.
    across: u32,
    // Of a row, in lanes: for biases.
    width: u32,
    factor: f32,
}
//!params Params
