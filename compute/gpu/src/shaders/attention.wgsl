// Attention of a tile of queries (up to TILE_ROWS rows of one sequence, TILE_HEADS query heads
// that share a head of keys) over one chunk of positions, block by block with a running maximum
// (the online softmax of Milakov and Gimelshein 2018). Chunks and blocks start at multiples of
// their length, so a row's sums do not depend on the rows beside it.
//
// Queries are worked on in fours ("quads"), a component of a vector each. Scores: a thread takes
// a quad, a position and one of PARTS parts of the head. Values: a thread takes a quad, four
// elements of the head and every SPLIT-th position of the block.

struct Params {
    tasks: u32,
    // Tasks side by side in the grid.
    across: u32,
    // Where the tasks start in the plan, in words.
    first_task: u32,
    // Positions that a row sees at most.
    window: u32,
    // Pages that there are.
    pages: u32,
    scale: f32,
}
//!params Params

// [rows, HEADS, HEAD / 4].
@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
// For each row where its pages start here, and its position; then pages.
@group(0) @binding(1) var<storage, read> rows: array<u32>;
// For each row where its partial results start, in chunks; then tasks: the first row, how many,
// and the chunk.
@group(0) @binding(2) var<storage, read> plan: array<u32>;
// [pages, keys and values, KV_HEADS, PAGE, HEAD / 4].
@group(0) @binding(3) var<storage, read> kv: array<Stored>;
// [pages, keys and values, KV_HEADS, PAGE].
@group(0) @binding(4) var<storage, read> scales: array<f32>;
// For each chunk and query head HEAD / 4 of sums, then the maximum and the sum of weights.
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

const FOURS: u32 = HEAD / 4u;
const HEADS: u32 = KV_HEADS * GROUP;
const QUADS: u32 = (TILE_ROWS * TILE_HEADS + 3u) / 4u;
const ITEMS: u32 = QUADS * BLOCK;
// Blocks of heads that share keys.
const SHARES: u32 = (GROUP + TILE_HEADS - 1u) / TILE_HEADS;
// Parts of a block of which the largest scores are found first.
const PEAKS: u32 = 8u;
// A distance between rows of the tile that is no multiple of two.
const STRIDE: u32 = FOURS + 1u - FOURS % 2u;
// Heads of positions from a page's keys to its values.
const VALUES: u32 = KV_HEADS * PAGE;
const NOWHERE: u32 = 0xffffffffu;
// Below all scores that are numbers one reckons with; the exponential of a distance to it is 0.
const LOWEST: f32 = -3.0e38;

var<workgroup> queries: array<vec4<f32>, QUADS * 4u * FOURS>;
// Keys of a block, then its values; codes without their scales.
var<workgroup> tile: array<Kept, BLOCK * STRIDE>;
// Scores of a block, then weights; at last what threads add up.
var<workgroup> scores: array<vec4<f32>, SCORES_LEN>;
// Where the keys of a block lie, in heads of a position; their scales and those of the values.
var<workgroup> places: array<u32, BLOCK>;
var<workgroup> factors: array<vec2<f32>, BLOCK>;
var<workgroup> peaks: array<vec4<f32>, QUADS * PEAKS>;
var<workgroup> tops: array<vec4<f32>, QUADS>;
// For each query the positions that its row sees: the first, and behind the last.
var<workgroup> spans: array<vec2<u32>, QUADS * 4u>;

fn seen_from(positions: u32) -> u32 {
    return positions - min(positions, params.window);
}

// Finds a block's positions.
fn locate(index: u32, pages_at: u32, first: u32, end: u32, kv_head: u32) {
    for (var i = index; i < BLOCK; i += THREADS) {
        let position = first + i;
        var place = NOWHERE;
        var factor = vec2(1.0);
        if position < end {
            let page = min(rows[pages_at + position / PAGE], params.pages - 1u);
            place = (page * 2u * KV_HEADS + kv_head) * PAGE + position % PAGE;
            if SCALED {
                factor = vec2(scales[place], scales[place + VALUES]);
            }
        }
        places[i] = place;
        factors[i] = factor;
    }
}

// What lies at an element of the tile; zeros behind the last position, where anything may lie.
fn at(i: u32, side: u32) -> Stored {
    let place = places[min(i / FOURS, BLOCK - 1u)];
    if place == NOWHERE {
        return Stored();
    }
    return kv[(place + side) * FOURS + i % FOURS];
}

fn put(i: u32, x: Stored) {
    if i < BLOCK * FOURS {
        tile[i / FOURS * STRIDE + i % FOURS] = keep(x);
    }
}

// Eight loads of a thread are under way at a time.
fn fill(index: u32, side: u32) {
    for (var i = index; i < BLOCK * FOURS; i += THREADS * 8u) {
        let x0 = at(i, side);
        let x1 = at(i + THREADS, side);
        let x2 = at(i + THREADS * 2u, side);
        let x3 = at(i + THREADS * 3u, side);
        let x4 = at(i + THREADS * 4u, side);
        let x5 = at(i + THREADS * 5u, side);
        let x6 = at(i + THREADS * 6u, side);
        let x7 = at(i + THREADS * 7u, side);
        put(i, x0);
        put(i + THREADS, x1);
        put(i + THREADS * 2u, x2);
        put(i + THREADS * 3u, x3);
        put(i + THREADS * 4u, x4);
        put(i + THREADS * 5u, x5);
        put(i + THREADS * 6u, x6);
        put(i + THREADS * 7u, x7);
    }
}

// Whether the row of a query sees a position.
fn sees(query: u32, position: u32) -> bool {
    let span = spans[query];
    return position >= span.x && position < span.y;
}

// The largest scores of a quad so far, the present block included.
fn top_of(quad: u32) -> vec4<f32> {
    var top = tops[quad];
    for (var i = 0u; i < PEAKS; i++) {
        top = max(top, peaks[quad * PEAKS + i]);
    }
    return top;
}

// Scores of a block, in parts of the head.
fn score(index: u32) {
    for (var i = index; i < ITEMS * PARTS; i += THREADS) {
        let key = i % BLOCK;
        let quad = i / BLOCK % QUADS;
        let part = i / ITEMS;
        let end = (part + 1u) * FOURS / PARTS;
        let query = quad * 4u * FOURS;
        var dots = vec4(0.0);
        for (var c = part * FOURS / PARTS; c < end; c++) {
            let x = value(tile[key * STRIDE + c]);
            if SINGLE {
                dots.x += dot(queries[query + c], x);
            } else {
                dots += vec4(
                    dot(queries[query + c], x),
                    dot(queries[query + FOURS + c], x),
                    dot(queries[query + FOURS * 2u + c], x),
                    dot(queries[query + FOURS * 3u + c], x),
                );
            }
        }
        scores[i] = dots;
    }
}

// Adds the parts up, hides what a row does not see, and finds the largest of each eighth.
fn peak(index: u32, first: u32) {
    for (var i = index; i < QUADS * PEAKS; i += THREADS) {
        let quad = i / PEAKS;
        var largest = vec4(LOWEST);
        for (var n = 0u; n < BLOCK / PEAKS; n++) {
            let key = i % PEAKS + n * PEAKS;
            var sum = scores[quad * BLOCK + key];
            for (var part = 1u; part < PARTS; part++) {
                sum += scores[part * ITEMS + quad * BLOCK + key];
            }
            sum *= factors[key].x;
            let seen = vec4(
                sees(quad * 4u, first + key),
                sees(quad * 4u + 1u, first + key),
                sees(quad * 4u + 2u, first + key),
                sees(quad * 4u + 3u, first + key),
            );
            sum = select(vec4(LOWEST), sum, seen);
            scores[quad * BLOCK + key] = sum;
            largest = max(largest, sum);
        }
        peaks[i] = largest;
    }
}

// Weights of a block instead of its scores.
fn weigh(index: u32) {
    for (var i = index; i < ITEMS; i += THREADS) {
        let score = scores[i];
        let weights = exp(score - top_of(i / BLOCK));
        // Where a row has seen nothing yet, all is as low as what it does not see.
        scores[i] = select(weights, vec4(0.0), score == vec4(LOWEST));
    }
}

// The sum of what the threads of a quad's elements have, for the first of them.
fn gathered(index: u32, adds: bool, x: vec4<f32>) -> vec4<f32> {
    scores[index] = x;
    workgroupBarrier();
    var sum = x;
    if adds && index / FOURS % SPLIT == 0u {
        for (var n = 1u; n < SPLIT; n++) {
            sum += scores[index + n * FOURS];
        }
    }
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let task = group.y + group.z * params.across;
    if task >= params.tasks {
        return;
    }
    let first_row = plan[params.first_task + task * 3u];
    let row_count = plan[params.first_task + task * 3u + 1u];
    let chunk = plan[params.first_task + task * 3u + 2u];
    let kv_head = group.x / SHARES;
    let first_head = group.x % SHARES * TILE_HEADS;
    let pages_at = rows[first_row * 2u];
    let least = rows[first_row * 2u + 1u] + 1u;
    let most = rows[(first_row + row_count - 1u) * 2u + 1u] + 1u;
    let begin = max(chunk * CHUNK, seen_from(least) / BLOCK * BLOCK);
    let end = min((chunk + 1u) * CHUNK, most);

    for (var i = index; i < QUADS * 4u * FOURS; i += THREADS) {
        let row = i / FOURS / TILE_HEADS;
        let head = first_head + i / FOURS % TILE_HEADS;
        var x = vec4(0.0);
        if row < row_count && head < GROUP {
            x = q[((first_row + row) * HEADS + kv_head * GROUP + head) * FOURS + i % FOURS];
        }
        queries[i] = x * params.scale;
    }
    for (var i = index; i < QUADS; i += THREADS) {
        tops[i] = vec4(LOWEST);
    }
    for (var i = index; i < QUADS * 4u; i += THREADS) {
        var span = vec2(0u);
        if i / TILE_HEADS < row_count {
            let positions = rows[(first_row + i / TILE_HEADS) * 2u + 1u] + 1u;
            span = vec2(seen_from(positions), positions);
        }
        spans[i] = span;
    }
    // What of the values is this thread's.
    let c = index % FOURS;
    let quad = index / FOURS / SPLIT;
    let split = index / FOURS % SPLIT;
    let adds = quad < QUADS;
    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    var sum2 = vec4(0.0);
    var sum3 = vec4(0.0);
    var totals = vec4(0.0);
    locate(index, pages_at, begin, end, kv_head);
    workgroupBarrier();
    for (var first = begin; first < end; first += BLOCK) {
        fill(index, 0u);
        workgroupBarrier();
        score(index);
        workgroupBarrier();
        peak(index, first);
        fill(index, VALUES);
        workgroupBarrier();
        weigh(index);
        if adds {
            let less = exp(tops[quad] - top_of(quad));
            sum0 *= less.x;
            sum1 *= less.y;
            sum2 *= less.z;
            sum3 *= less.w;
            totals *= less;
        }
        workgroupBarrier();
        for (var i = index; i < QUADS; i += THREADS) {
            tops[i] = top_of(i);
        }
        if adds {
            for (var key = split; key < BLOCK; key += SPLIT) {
                var w = scores[quad * BLOCK + key];
                totals += w;
                w *= factors[key].y;
                let x = value(tile[key * STRIDE + c]);
                sum0 += w.x * x;
                if !SINGLE {
                    sum1 += w.y * x;
                    sum2 += w.z * x;
                    sum3 += w.w * x;
                }
            }
        }
        workgroupBarrier();
        locate(index, pages_at, first + BLOCK, end, kv_head);
        workgroupBarrier();
    }
    // Adds up what several threads have of the same elements.
    if SPLIT > 1u {
        sum0 = gathered(index, adds, sum0);
        if !SINGLE {
            sum1 = gathered(index, adds, sum1);
            sum2 = gathered(index, adds, sum2);
            sum3 = gathered(index, adds, sum3);
        }
        totals = gathered(index, adds, totals);
    }
    if !adds || split != 0u {
        return;
    }
    let top = tops[quad];
    let job = Job(first_row, row_count, chunk, kv_head, first_head, c);
    finish(job, quad * 4u, sum0, totals.x, top.x);
    if !SINGLE {
        finish(job, quad * 4u + 1u, sum1, totals.y, top.y);
        finish(job, quad * 4u + 2u, sum2, totals.z, top.z);
        finish(job, quad * 4u + 3u, sum3, totals.w, top.w);
    }
}

struct Job {
    first_row: u32,
    row_count: u32,
    chunk: u32,
    kv_head: u32,
    first_head: u32,
    c: u32,
}

// Hands out a query's result, or its part for those of other chunks to join.
fn finish(job: Job, query: u32, sum: vec4<f32>, total: f32, top: f32) {
    let tile_row = query / TILE_HEADS;
    let tile_head = query % TILE_HEADS;
    if tile_row >= job.row_count || job.first_head + tile_head >= GROUP {
        return;
    }
    let row = job.first_row + tile_row;
    let head = job.kv_head * GROUP + job.first_head + tile_head;
    let positions = rows[row * 2u + 1u] + 1u;
    let first_chunk = seen_from(positions) / CHUNK;
    let last_chunk = (positions - 1u) / CHUNK;
    if job.chunk < first_chunk || job.chunk > last_chunk {
        return;
    }
    if first_chunk == last_chunk {
        out[(row * HEADS + head) * FOURS + job.c] = sum / total;
        return;
    }
    let place = ((plan[row] + job.chunk - first_chunk) * HEADS + head) * (FOURS + 1u);
    partials[place + job.c] = sum;
    if job.c == 0u {
        partials[place + FOURS] = vec4(top, total, 0.0, 0.0);
    }
}
