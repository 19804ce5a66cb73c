// What a workgroup keeps of keys and values: numbers, made once for many uses.
alias Kept = vec4<f32>;

fn keep(x: Stored) -> Kept {
    return loaded(x);
}

fn value(x: Kept) -> vec4<f32> {
    return x;
}
