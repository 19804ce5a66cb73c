// v = scale * A x for up to four rows that have the same adapters: four ranks of one adapter, a
// span of the columns.

struct Params {
    // Columns, in fours.
    cols4: u32,
    // Columns of a span, in fours, and spans.
    span4: u32,
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
}
//!params Params

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> arena: array<Packed>;
// For each adapter and site: where A and B start in the arena, in words; the rank; the scale.
@group(0) @binding(2) var<storage, read> table: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> batch: array<u32>;
// [slices, spans, listed, room].
@group(0) @binding(4) var<storage, read_write> v: array<f32>;

fn site_of(slice: u32) -> u32 {
    return select(select(params.site2, params.site1, slice == 1u), params.site0, slice == 0u);
}

@compute @workgroup_size(THREADS)
fn main(thread: Thread) {
    begin(thread);
    let task = thread.group.x * 4u;
    let slice = thread.group.z;
    let block = thread.group.y / params.spans;
    let span = thread.group.y % params.spans;
    let first_part = batch[task];
    let part_count = batch[task + 1u];
    let first_row = batch[task + 2u];
    let row_count = batch[task + 3u];
    // The adapter whose ranks these are: adapters of a row follow each other in blocks of four.
    var entry = vec4<u32>(0u);
    var weight = 0.0;
    var before = 0u;
    var found = false;
    for (var i = 0u; i < part_count; i++) {
        let part = params.parts + (first_part + i) * 2u;
        let candidate = table[batch[part] * params.sites + site_of(slice)];
        let blocks = (candidate.z + 3u) / 4u;
        if block < before + blocks {
            entry = candidate;
            weight = bitcast<f32>(batch[part + 1u]);
            found = true;
            break;
        }
        before += blocks;
    }
    if !found {
        return;
    }
    let rank = entry.z;
    let r = (block - before) * 4u;
    let last = rank - 1u;
    let start0 = batch[params.rows + first_row] * params.cols4;
    let start1 = batch[params.rows + first_row + min(1u, row_count - 1u)] * params.cols4;
    let start2 = batch[params.rows + first_row + min(2u, row_count - 1u)] * params.cols4;
    let start3 = batch[params.rows + first_row + min(3u, row_count - 1u)] * params.cols4;
    var sums0 = vec4<f32>(0.0);
    var sums1 = vec4<f32>(0.0);
    var sums2 = vec4<f32>(0.0);
    var sums3 = vec4<f32>(0.0);
    let end = min((span + 1u) * params.span4, params.cols4);
    for (var k = span * params.span4 + thread.index; k < end; k += THREADS) {
        let a0 = a_at(entry.x, rank, r, params.cols4, k);
        let a1 = a_at(entry.x, rank, min(r + 1u, last), params.cols4, k);
        let a2 = a_at(entry.x, rank, min(r + 2u, last), params.cols4, k);
        let a3 = a_at(entry.x, rank, min(r + 3u, last), params.cols4, k);
        let x0 = x[start0 + k];
        sums0 += vec4(dot(a0, x0), dot(a1, x0), dot(a2, x0), dot(a3, x0));
        if row_count > 1u {
            let x1 = x[start1 + k];
            sums1 += vec4(dot(a0, x1), dot(a1, x1), dot(a2, x1), dot(a3, x1));
            let x2 = x[start2 + k];
            sums2 += vec4(dot(a0, x2), dot(a1, x2), dot(a2, x2), dot(a3, x2));
            let x3 = x[start3 + k];
            sums3 += vec4(dot(a0, x3), dot(a1, x3), dot(a2, x3), dot(a3, x3));
        }
    }
    sums0 = sums_of(sums0);
    if row_count > 1u {
        sums1 = sums_of(sums1);
        sums2 = sums_of(sums2);
        sums3 = sums_of(sums3);
    }
    // Threads 0 to 15: a row's rank each. Ranks beyond the adapter's count for nothing.
    let row = thread.index / 4u;
    let i = thread.index % 4u;
    if row < row_count && thread.index < 16u {
        var sums = sums0;
        if row == 1u {
            sums = sums1;
        } else if row == 2u {
            sums = sums2;
        } else if row == 3u {
            sums = sums3;
        }
        let factor = weight * bitcast<f32>(entry.w);
        let at = ((slice * params.spans + span) * params.listed + first_row + row) * params.room;
        v[at + block * 4u + i] = select(0.0, sums[i] * factor, r + i < rank);
    }
}
