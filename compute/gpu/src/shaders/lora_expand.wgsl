// out += B v for up to four rows that have the same adapters, all adapters of a row in turn: four
// outputs a thread.

struct Params {
    // Spans of the columns that v is the sum of.
    spans: u32,
    // Ranks that a row has room for, a multiple of four.
    room: u32,
    // Rows that have adapters.
    listed: u32,
    // Where the adapters and the rows start in the batch.
    parts: u32,
    rows: u32,
    // Entries of an adapter in the table, and which one each slice uses.
    sites: u32,
    site0: u32,
    site1: u32,
    site2: u32,
    // Outputs of each slice, in fours.
    out4_0: u32,
    out4_1: u32,
    out4_2: u32,
}
//!params Params

// [slices, spans, listed, room].
@group(0) @binding(0) var<storage, read> v: array<f32>;
@group(0) @binding(1) var<storage, read> arena: array<Packed>;
// For each adapter and site: where A and B start in the arena, in words; the rank; the scale.
@group(0) @binding(2) var<storage, read> table: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> batch: array<u32>;

// For each of as many ranks as there are threads: four rows.
var<workgroup> shrunk: array<vec4<f32>, THREADS>;

fn choose(slice: u32, a: u32, b: u32, c: u32) -> u32 {
    return select(select(c, b, slice == 1u), a, slice == 0u);
}

fn v_at(slice: u32, row: u32, at: u32) -> f32 {
    var sum = 0.0;
    for (var span = 0u; span < params.spans; span++) {
        sum += v[((slice * params.spans + span) * params.listed + row) * params.room + at];
    }
    return sum;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let slice = group.z;
    let site = choose(slice, params.site0, params.site1, params.site2);
    let out4 = choose(slice, params.out4_0, params.out4_1, params.out4_2);
    if group.y * THREADS >= out4 {
        return;
    }
    let task = group.x * 4u;
    let first_part = batch[task];
    let part_count = batch[task + 1u];
    let first_row = batch[task + 2u];
    let row_count = batch[task + 3u];
    // Threads beyond the outputs do the last one's work and keep it to themselves.
    let o = group.y * THREADS + index;
    let near = min(o, out4 - 1u);
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    var before = 0u;
    for (var i = 0u; i < part_count; i++) {
        let entry = table[batch[params.parts + (first_part + i) * 2u] * params.sites + site];
        let rank = entry.z;
        for (var base = 0u; base < rank; base += THREADS) {
            var w = vec4<f32>(0.0);
            if base + index < rank {
                let at = before + base + index;
                w.x = v_at(slice, first_row, at);
                if row_count > 1u {
                    w.y = v_at(slice, first_row + 1u, at);
                }
                if row_count > 2u {
                    w.z = v_at(slice, first_row + 2u, at);
                }
                if row_count > 3u {
                    w.w = v_at(slice, first_row + 3u, at);
                }
            }
            shrunk[index] = w;
            workgroupBarrier();
            let end = min(rank - base, THREADS);
            for (var r = 0u; r < end; r += 4u) {
                // What lies beyond the rank is zero there, so that any number does here.
                let b0 = b_at(entry.y, rank, base + r, out4, near);
                let b1 = b_at(entry.y, rank, min(base + r + 1u, rank - 1u), out4, near);
                let b2 = b_at(entry.y, rank, min(base + r + 2u, rank - 1u), out4, near);
                let b3 = b_at(entry.y, rank, min(base + r + 3u, rank - 1u), out4, near);
                let w0 = shrunk[r];
                let w1 = shrunk[r + 1u];
                let w2 = shrunk[r + 2u];
                let w3 = shrunk[r + 3u];
                sum0 += b0 * w0.x + b1 * w1.x + b2 * w2.x + b3 * w3.x;
                if row_count > 1u {
                    sum1 += b0 * w0.y + b1 * w1.y + b2 * w2.y + b3 * w3.y;
                    sum2 += b0 * w0.z + b1 * w1.z + b2 * w2.z + b3 * w3.z;
                    sum3 += b0 * w0.w + b1 * w1.w + b2 * w2.w + b3 * w3.w;
                }
            }
            workgroupBarrier();
        }
        before += (rank + 3u) / 4u * 4u;
    }
    if o >= out4 || before == 0u {
        return;
    }
    add_to(slice, batch[params.rows + first_row] * out4 + o, sum0);
    if row_count > 1u {
        add_to(slice, batch[params.rows + first_row + 1u] * out4 + o, sum1);
    }
    if row_count > 2u {
        add_to(slice, batch[params.rows + first_row + 2u] * out4 + o, sum2);
    }
    if row_count > 3u {
        add_to(slice, batch[params.rows + first_row + 3u] * out4 + o, sum3);
    }
}
