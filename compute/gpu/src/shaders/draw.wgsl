// Of 4,096 logits of a row, or of what other workgroups made of 64 such parts: the largest and
// the first that has it, the sum of the exponentials of the distances to it, whether all are
// numbers; and where SELECT, the 64 largest in order, of equal ones the first first.
//
// Selection is by radix, eight bits at a time, on integers that order as the logits do; so ties
// are decided exactly, by place. Places are in the order of tokens.

struct Params {
    // Items of a row: logits, or parts.
    items: u32,
    // Distance of rows in what is read, in words.
    stride: u32,
}
//!params Params

const ITEMS: u32 = 4096u;
const TOP: u32 = 64u;
// Of a part in words: token, logit, sum, a number that is not 0 if some logit is no number; then
// tokens and logits of the largest.
const HEADER: u32 = 4u;
const NONE: u32 = 0xffffffffu;
const LOWEST_BITS: u32 = 0xff800000u;

@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> parts: array<u32>;

var<workgroup> keys: array<u32, ITEMS>;
var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> sums: array<u32, 16>;
var<workgroup> counts: array<u32, THREADS>;
var<workgroup> chosen: array<vec2<u32>, TOP>;
var<workgroup> taken: atomic<u32>;
var<workgroup> bound: u32;
var<workgroup> wanted: u32;

fn is_number(bits: u32) -> bool {
    return (bits & 0x7fffffffu) <= 0x7f800000u;
}

// Greater for greater numbers; both zeros are equal; what is no number is least, but for 0, which
// is nothing at all.
fn key_of(bits: u32) -> u32 {
    if !is_number(bits) {
        return 1u;
    }
    if bits == 0x80000000u {
        return 0x80000000u;
    }
    return bits ^ select(0x80000000u, 0xffffffffu, bits >= 0x80000000u);
}

fn bits_of(key: u32) -> u32 {
    return key ^ select(0xffffffffu, 0x80000000u, key >= 0x80000000u);
}

// Keys from the first logits of a part on, and what the part is in all.
fn gather(index: u32, row: u32, part: u32) -> vec4<u32> {
    var top = bitcast<f32>(LOWEST_BITS);
    var token = NONE;
    var broken = 0.0;
    if MERGE {
        let first = part * TOP;
        for (var i = index; i < ITEMS; i += THREADS) {
            let item = first + i / TOP;
            var key = 0u;
            if SELECT && item < params.items {
                let at = row * params.stride + item * ENTRY + HEADER + i % TOP * 2u;
                if source[at] != NONE {
                    key = key_of(source[at + 1u]);
                }
            }
            keys[i] = key;
        }
        let item = first + index;
        let at = row * params.stride + item * ENTRY;
        let here = index < TOP && item < params.items;
        var own = top;
        var sum = 0.0;
        if here {
            own = bitcast<f32>(source[at + 1u]);
            sum = bitcast<f32>(source[at + 2u]);
            broken = select(0.0, 1.0, source[at + 3u] != 0u);
        }
        top = largest_of(own);
        if here && own == top {
            token = source[at];
        }
        token = least_of(token);
        let total = sum_of(sum * select(exp(own - top), 1.0, own == top));
        return vec4(token, bitcast<u32>(top), bitcast<u32>(total), u32(largest_of(broken)));
    }
    let first = part * ITEMS;
    for (var i = index; i < ITEMS; i += THREADS) {
        var key = 0u;
        if first + i < params.items {
            let bits = source[row * params.stride + first + i];
            key = key_of(bits);
            if is_number(bits) {
                top = max(top, bitcast<f32>(bits));
            } else {
                broken = 1.0;
            }
        }
        keys[i] = key;
    }
    top = largest_of(top);
    var sum = 0.0;
    for (var i = index; i < ITEMS; i += THREADS) {
        if keys[i] > 1u {
            let logit = bitcast<f32>(bits_of(keys[i]));
            if logit == top {
                token = min(token, first + i);
                sum += 1.0;
            } else {
                sum += exp(logit - top);
            }
        }
    }
    token = least_of(token);
    let total = sum_of(sum);
    return vec4(token, bitcast<u32>(top), bitcast<u32>(total), u32(largest_of(broken)));
}

// Finds the key of the last that is taken, and how many of those that have it are.
fn find_bound(index: u32) {
    if index == 0u {
        bound = 0u;
        wanted = TOP;
        atomicStore(&taken, 0u);
    }
    for (var digit = 0u; digit < 4u; digit++) {
        let shift = 24u - digit * 8u;
        atomicStore(&bins[index], 0u);
        workgroupBarrier();
        let above = bound;
        // All ones above the digit, but for the first digit, above which there is nothing.
        let mask = select(0xffffff00u << shift, 0u, digit == 0u);
        for (var i = index; i < ITEMS; i += THREADS) {
            if (keys[i] & mask) == above {
                atomicAdd(&bins[(keys[i] >> shift) & 255u], 1u);
            }
        }
        workgroupBarrier();
        if index < 16u {
            var sum = 0u;
            for (var i = 0u; i < 16u; i++) {
                sum += atomicLoad(&bins[index * 16u + i]);
            }
            sums[index] = sum;
        }
        workgroupBarrier();
        if index == 0u {
            var left = wanted;
            var group = 15u;
            while group > 0u && sums[group] < left {
                left -= sums[group];
                group -= 1u;
            }
            var bin = 15u;
            while bin > 0u && atomicLoad(&bins[group * 16u + bin]) < left {
                left -= atomicLoad(&bins[group * 16u + bin]);
                bin -= 1u;
            }
            bound = above | ((group * 16u + bin) << shift);
            wanted = left;
        }
        workgroupBarrier();
    }
}

// Puts the largest into `chosen`, in any order.
fn choose(index: u32) {
    let each = ITEMS / THREADS;
    var own = 0u;
    for (var i = index * each; i < (index + 1u) * each; i++) {
        own += select(0u, 1u, keys[i] == bound);
    }
    counts[index] = own;
    workgroupBarrier();
    if index < 16u {
        var sum = 0u;
        for (var i = 0u; i < THREADS / 16u; i++) {
            sum += counts[index * (THREADS / 16u) + i];
        }
        sums[index] = sum;
    }
    workgroupBarrier();
    // How many equal to the bound lie before this thread's.
    let group = index / (THREADS / 16u);
    var before = 0u;
    for (var i = 0u; i < group; i++) {
        before += sums[i];
    }
    for (var i = group * (THREADS / 16u); i < index; i++) {
        before += counts[i];
    }
    for (var i = index * each; i < (index + 1u) * each; i++) {
        let key = keys[i];
        if key > bound {
            chosen[min(atomicAdd(&taken, 1u), TOP - 1u)] = vec2(key, i);
        } else if key == bound {
            if before < wanted {
                chosen[min(TOP - wanted + before, TOP - 1u)] = vec2(key, i);
            }
            before += 1u;
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(THREADS)
fn main(thread: Thread, @builtin(num_workgroups) groups: vec3<u32>) {
    begin(thread);
    let index = thread.index;
    let part = thread.group.x;
    let row = thread.group.y;
    let out = (row * groups.x + part) * ENTRY;
    let header = gather(index, row, part);
    if index < HEADER {
        parts[out + index] = header[index];
    }
    if SELECT {
        workgroupBarrier();
        find_bound(index);
        choose(index);
        if index < TOP {
            let own = chosen[index];
            var rank = 0u;
            for (var i = 0u; i < TOP; i++) {
                let other = chosen[i];
                let before = other.x > own.x || (other.x == own.x && other.y < own.y);
                rank += select(0u, 1u, before);
            }
            var token = part * ITEMS + own.y;
            if MERGE {
                let item = part * TOP + own.y / TOP;
                token = source[row * params.stride + item * ENTRY + HEADER + own.y % TOP * 2u];
            }
            let at = out + HEADER + rank * 2u;
            parts[at] = select(token, NONE, own.x == 0u);
            parts[at + 1u] = bits_of(own.x);
        }
    }
}
