@group(0) @binding(0) var<storage, read_write> x: array<Lanes>;
@group(0) @binding(1) var<storage, read> y: array<Lanes>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x + id.y * params.across;
    if i >= params.len {
        return;
    }
    let gate = x[i];
    var power = -gate;
    if GELU {
        // -2 sqrt(2 / pi) (g + 0.044715 g^3)
        power = gate * (gate * gate * (-1.5957692 * 0.044715) - 1.5957692);
    }
    // Of larger ones some devices make infinities, others anything.
    power = min(power, Lanes(88.0));
    x[i] = gate / (Lanes(1.0) + exp(power)) * y[i];
}
