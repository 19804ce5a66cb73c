@group(0) @binding(0) var<storage, read_write> x: array<Lanes>;
@group(0) @binding(1) var<storage, read> y: array<Lanes>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x + id.y * params.across;
    if i < params.len {
        x[i] += y[i % params.width];
    }
}
