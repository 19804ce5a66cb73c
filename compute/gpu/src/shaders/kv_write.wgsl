// One head of one row: the norm of the head where the model has one, its turn by the row's
// position, and its place in the pages. Queries go back to where they came from.

struct Params {
    rows: u32,
    // Distances of rows, in elements.
    q_stride: u32,
    k_stride: u32,
    v_stride: u32,
    epsilon: f32,
    // Pages that there are: nothing is written outside.
    pages: u32,
}
//!params Params

@group(0) @binding(0) var<storage, read_write> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
// Sine and cosine, [rows, TURN / 2].
@group(0) @binding(3) var<storage, read> turns: array<vec2<f32>>;
// Weights of the norms of queries and of keys, [2, HEAD].
@group(0) @binding(4) var<storage, read> weights: array<f32>;
// For each row where its pages start here, and its position; then pages.
@group(0) @binding(5) var<storage, read> rows: array<u32>;
// [pages, keys and values, KV_HEADS, PAGE, HEAD / 4].
@group(0) @binding(6) var<storage, read_write> kv: array<Stored>;
// [pages, keys and values, KV_HEADS, PAGE].
@group(0) @binding(7) var<storage, read_write> scales: array<f32>;

var<workgroup> head: array<f32, HEAD>;
// Pairs that turn; not 0, by which nothing divides.
const HALF: u32 = max(TURN / 2u, 1u);

// The element's value after the turn.
fn turned(i: u32, row: u32) -> f32 {
    if i >= TURN {
        return head[i];
    }
    if INTERLEAVED {
        let turn = turns[row * HALF + i / 2u];
        if i % 2u == 0u {
            return head[i] * turn.y - head[i + 1u] * turn.x;
        }
        return head[i - 1u] * turn.x + head[i] * turn.y;
    }
    let turn = turns[row * HALF + i % HALF];
    if i < HALF {
        return head[i] * turn.y - head[i + HALF] * turn.x;
    }
    return head[i - HALF] * turn.x + head[i] * turn.y;
}

fn normed(weight: u32, index: u32) {
    var part = 0.0;
    for (var i = index; i < HEAD; i += THREADS) {
        part += head[i] * head[i];
    }
    let scale = 1.0 / sqrt(sum_of(part) / f32(HEAD) + params.epsilon);
    for (var i = index; i < HEAD; i += THREADS) {
        head[i] = head[i] * scale * weights[weight * HEAD + i];
    }
    workgroupBarrier();
}

@compute @workgroup_size(THREADS)
fn main(thread: Thread) {
    begin(thread);
    let row = thread.group.x;
    let unit = thread.group.y;
    let index = thread.index;
    if unit < HEADS {
        let start = row * params.q_stride + unit * HEAD;
        for (var i = index; i < HEAD; i += THREADS) {
            head[i] = q[start + i];
        }
        workgroupBarrier();
        if Q_NORM {
            normed(0u, index);
        }
        for (var i = index; i < HEAD; i += THREADS) {
            q[start + i] = turned(i, row);
        }
        return;
    }
    let is_value = unit >= HEADS + KV_HEADS;
    let kv_head = (unit - HEADS) % KV_HEADS;
    for (var i = index; i < HEAD; i += THREADS) {
        if is_value {
            head[i] = v[row * params.v_stride + kv_head * HEAD + i];
        } else {
            head[i] = k[row * params.k_stride + kv_head * HEAD + i];
        }
    }
    workgroupBarrier();
    if K_NORM && !is_value {
        normed(1u, index);
    }
    if !is_value {
        // In registers first: a turn reads its partner.
        var results: array<f32, PER_THREAD>;
        for (var n = 0u; n < PER_THREAD; n++) {
            let i = index + n * THREADS;
            if i < HEAD {
                results[n] = turned(i, row);
            }
        }
        workgroupBarrier();
        for (var n = 0u; n < PER_THREAD; n++) {
            let i = index + n * THREADS;
            if i < HEAD {
                head[i] = results[n];
            }
        }
        workgroupBarrier();
    }
    let position = rows[row * 2u + 1u];
    let page = rows[rows[row * 2u] + position / PAGE];
    let place = ((page * 2u + select(0u, 1u, is_value)) * KV_HEADS + kv_head) * PAGE + position % PAGE;
    var inverse = 1.0;
    if SCALED {
        var peak = 0.0;
        // Not a number, or zero: what makes a scale show that something was not finite.
        var lost = 0.0;
        for (var i = index; i < HEAD; i += THREADS) {
            peak = max(peak, abs(head[i]));
            if (bitcast<u32>(head[i]) & 0x7f800000u) == 0x7f800000u {
                lost = 1.0;
            }
        }
        let largest = largest_of(peak);
        let broken = largest_of(lost) > 0.0;
        var scale = 0.0;
        inverse = 0.0;
        // Of smaller ones the inverse would not be finite.
        if largest > 3.75e-37 {
            inverse = 127.0 / largest;
            scale = largest / 127.0;
        }
        if broken {
            inverse = 0.0;
            scale = bitcast<f32>(params.pages | 0x7fc00000u);
        }
        if index == 0u && page < params.pages {
            scales[place] = scale;
        }
    }
    if page < params.pages {
        for (var i = index; i < HEAD / 4u; i += THREADS) {
            let x = vec4(head[i * 4u], head[i * 4u + 1u], head[i * 4u + 2u], head[i * 4u + 3u]);
            kv[place * (HEAD / 4u) + i] = stored(x, inverse);
        }
    }
}
