// What a workgroup keeps of keys and values: as they are stored, which leaves room for more
// workgroups. For kernels that use each number once or twice.
alias Kept = Stored;

fn keep(x: Stored) -> Kept {
    return x;
}

fn value(x: Kept) -> vec4<f32> {
    return loaded(x);
}
