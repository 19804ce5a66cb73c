//! Shrink and expand, for one or two rows at a time.

use super::LoraGroup;
use super::site::{BCodes, BLOCK, Codes, Floats, LoraSite, PANEL, RANKS, Sizes, Store, WIDE};
use crate::fused::kv::{Element, round_within, scale_of};
use crate::fused::share::Disjoint;
use crate::fused::simd::{Simd, fused_kernel};
use crate::packed::Activations;

/// Rows that are worked on together: so that their sums stay in registers.
const TOKENS: usize = 2;

/// Blocks of matrix A ahead of use at which they are asked for, 256 bytes each: adapters of many rows
/// come from memory, and processors do not look beyond the end of a page by themselves.
const AHEAD: usize = 8;

/// What one thread does of all: the rows whose number leaves `part` when divided by `parts`.
pub(super) struct Share<'a> {
    pub(super) part: usize,
    pub(super) parts: usize,
    pub(super) x: &'a Activations,
    /// `[tokens, out_cols]`; this share's rows are its alone.
    pub(super) out: &'a Disjoint<'a, f32>,
    pub(super) out_cols: usize,
}

fused_kernel! {
    pub(super) fn apply[s](group: &LoraGroup<'_>, share: &Share<'_>) {
        let (mut tile, mut len) = ([0; TOKENS], 0);
        for &row in group.rows {
            let row = row as usize;
            if row % share.parts != share.part {
                continue;
            }
            // A row's two turns must not be at the same time.
            if tile[..len].contains(&row) {
                rows::<_, 1>(s, group, share, [tile[0]]);
                len = 0;
            }
            tile[len] = row;
            len += 1;
            if len == TOKENS {
                rows(s, group, share, tile);
                len = 0;
            }
        }
        if len == 1 {
            rows::<_, 1>(s, group, share, [tile[0]]);
        }
    }
}

/// All of a group's work for `T` different rows.
#[inline(always)]
fn rows<S: Simd, const T: usize>(
    s: S,
    group: &LoraGroup<'_>,
    share: &Share<'_>,
    tokens: [usize; T],
) {
    let mut out: [&mut [f32]; T] = tokens.map(|token| {
        #[expect(unsafe_code, reason = "threads write their own rows of one output")]
        // SAFETY: a row belongs to the share that its number says, the share is one thread's, and
        // the rows here are different from each other.
        unsafe {
            share.out.part(token * share.out_cols..(token + 1) * share.out_cols)
        }
    });
    let LoraSite { sizes, store } = group.site;
    match store {
        Store::F32(floats) => float_rows(s, sizes, floats, group.scale, share, tokens, &mut out),
        Store::F16(floats) => float_rows(s, sizes, floats, group.scale, share, tokens, &mut out),
        Store::Q8(codes) => code_rows(s, sizes, codes, group.scale, share, tokens, &mut out),
    }
}

/// A panel of outputs; zeros where a row has no more.
#[inline(always)]
fn load_wide<S: Simd>(s: S, out: &[f32]) -> [S::F; 4] {
    let mut padded = [0.0; WIDE];
    let lanes = match out.first_chunk::<WIDE>() {
        Some(lanes) => lanes,
        None => {
            padded[..out.len()].copy_from_slice(out);
            &padded
        }
    };
    let chunks = lanes.as_chunks::<8>().0;
    [s.load(&chunks[0]), s.load(&chunks[1]), s.load(&chunks[2]), s.load(&chunks[3])]
}

#[inline(always)]
fn store_wide<S: Simd>(s: S, sums: [S::F; 4], out: &mut [f32]) {
    match out.first_chunk_mut::<WIDE>() {
        Some(lanes) => {
            for (sum, lanes) in sums.into_iter().zip(lanes.as_chunks_mut().0) {
                s.store(sum, lanes);
            }
        }
        None => {
            let mut padded = [0.0; WIDE];
            for (sum, lanes) in sums.into_iter().zip(padded.as_chunks_mut().0) {
                s.store(sum, lanes);
            }
            let len = out.len();
            out.copy_from_slice(&padded[..len]);
        }
    }
}

#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "several arrays have the same index")]
fn float_rows<S: Simd, E: Element, const T: usize>(
    s: S,
    sizes: &Sizes,
    floats: &Floats<E>,
    scale: f32,
    share: &Share<'_>,
    tokens: [usize; T],
    out: &mut [&mut [f32]; T],
) {
    let mut x: [&[f32]; T] = [&[]; T];
    for t in 0..T {
        x[t] = &share.x.values(tokens[t])[..sizes.cols];
    }
    for block in 0..sizes.rank.div_ceil(RANKS) {
        let ranks = sizes.ranks_of(block);
        let mut v = [[[0.0; PANEL]; RANKS / PANEL]; T];
        for panel in 0..ranks.div_ceil(PANEL) {
            let first = (block * (RANKS / PANEL) + panel) * sizes.cols;
            let sums = float_panel::<S, E, T>(s, &floats.a[first..first + sizes.cols], x);
            for t in 0..T {
                s.store(s.mul(sums[t], s.splat(scale)), &mut v[t][panel]);
            }
        }
        for wide in 0..sizes.wides() {
            let first = sizes.b_floats(block, wide) * (WIDE / 8);
            let weights = floats.b[first..first + ranks * (WIDE / 8)].as_chunks::<4>().0;
            let mut sums = [[s.splat(0.0); 4]; T];
            for t in 0..T {
                sums[t] = load_wide(s, &out[t][wide * WIDE..]);
            }
            for (r, weights) in weights.iter().enumerate() {
                let mut splats = [s.splat(0.0); T];
                for t in 0..T {
                    splats[t] = s.splat(v[t].as_flattened()[r]);
                }
                for c in 0..4 {
                    let weights = E::load(s, &weights[c]);
                    for t in 0..T {
                        sums[t][c] = s.fma(splats[t], weights, sums[t][c]);
                    }
                }
            }
            for t in 0..T {
                store_wide(s, sums[t], &mut out[t][wide * WIDE..]);
            }
        }
    }
}

/// Eight ranks' products with `T` inputs.
#[inline(always)]
fn float_panel<S: Simd, E: Element, const T: usize>(
    s: S,
    weights: &[[E; 8]],
    x: [&[f32]; T],
) -> [S::F; T] {
    let mut sums = [[s.splat(0.0); 4]; T];
    for (k, weights) in weights.as_chunks::<4>().0.iter().enumerate() {
        for i in 0..4 {
            let weights = E::load(s, &weights[i]);
            for t in 0..T {
                sums[t][i] = s.fma(weights, s.splat(x[t][4 * k + i]), sums[t][i]);
            }
        }
    }
    let mut out = [s.splat(0.0); T];
    for t in 0..T {
        out[t] = s.add(s.add(sums[t][0], sums[t][1]), s.add(sums[t][2], sums[t][3]));
    }
    out
}

#[inline(always)]
fn code_rows<S: Simd, const T: usize>(
    s: S,
    sizes: &Sizes,
    codes: &Codes,
    scale: f32,
    share: &Share<'_>,
    tokens: [usize; T],
    out: &mut [&mut [f32]; T],
) {
    let mut x: [(&[[i8; BLOCK]], &[f32]); T] = [(&[], &[]); T];
    for t in 0..T {
        x[t].0 = &share.x.codes(tokens[t]).as_chunks().0[..sizes.blocks()];
        x[t].1 = &share.x.scales(tokens[t])[..sizes.blocks()];
    }
    for block in 0..sizes.rank.div_ceil(RANKS) {
        let first = block * (RANKS / PANEL);
        let panels = sizes.ranks_of(block).div_ceil(PANEL);
        let mut v = [[[0.0; PANEL]; RANKS / PANEL]; T];
        // What follows of matrix B is asked for meanwhile, in as many parts as there are panels.
        let start = sizes.b_pairs(block, 0);
        let later = &codes.b[start..start + sizes.ranks_of(block).div_ceil(2) * sizes.wides()];
        let mut later = later.chunks(later.len().div_ceil(panels.div_ceil(2).max(1)).max(1));
        let mut panel = 0;
        while panel + 2 <= panels {
            let later = later.next().unwrap_or_default();
            code_panels::<S, T, 2>(s, sizes, codes, first, panel, x, later, &mut v);
            panel += 2;
        }
        if panel < panels {
            let later = later.next().unwrap_or_default();
            code_panels::<S, T, 1>(s, sizes, codes, first, panel, x, later, &mut v);
        }
        let mut pairs = [[[0i16; 2]; RANKS / 2]; T];
        let mut scales = [0.0; T];
        for t in 0..T {
            for (v, b) in v[t].iter_mut().zip(&codes.b_scales[first..first + panels]) {
                let u = s.mul(s.mul(s.load(v), s.load(b)), s.splat(scale));
                s.store(u, v);
            }
            let u = v[t][..panels].as_flattened();
            let (du, inverse) = scale_of(u, 32_767.0);
            scales[t] = du;
            for (code, u) in pairs[t].as_flattened_mut().iter_mut().zip(u) {
                *code = round_within(u * inverse, 32_767.0) as i16;
            }
        }
        expand_codes(s, sizes, codes, block, &pairs, scales, out);
    }
}

/// The products of `P` panels of eight ranks with `T` inputs; `later` is what will be read next.
#[inline(always)]
fn code_panels<S: Simd, const T: usize, const P: usize>(
    s: S,
    sizes: &Sizes,
    codes: &Codes,
    first: usize,
    panel: usize,
    x: [(&[[i8; BLOCK]], &[f32]); T],
    later: &[BCodes],
    v: &mut [[[f32; PANEL]; RANKS / PANEL]; T],
) {
    let blocks = sizes.blocks();
    let mut later = later.chunks(later.len().div_ceil(blocks.max(1)).max(1));
    let mut weights: [&[_]; P] = [&[]; P];
    let mut scales: [&[_]; P] = [&[]; P];
    for p in 0..P {
        let at = (first + panel + p) * blocks;
        weights[p] = &codes.a[at..at + blocks];
        scales[p] = &codes.a_scales[at..at + blocks];
    }
    let mut sums = [[s.splat(0.0); P]; T];
    for block in 0..blocks {
        for p in 0..P {
            let next = codes.a.get((first + panel + p) * blocks + block + AHEAD);
            for line in 0..4 {
                s.prefetch(next.map(|next| &next.0[2 * line]));
            }
        }
        for line in later.next().unwrap_or_default() {
            s.prefetch(Some(line));
        }
        let mut dots = [[s.zero(); P]; T];
        for quad in 0..BLOCK / 4 {
            for t in 0..T {
                let x = s.quad(&x[t].0[block].as_chunks().0[quad]);
                for p in 0..P {
                    dots[t][p] = s.dot_quads(dots[t][p], &weights[p][block].0[quad], x);
                }
            }
        }
        for p in 0..P {
            let scale = s.load_bf16(&scales[p][block]);
            for t in 0..T {
                let scale = s.mul(scale, s.splat(x[t].1[block]));
                sums[t][p] = s.fma(scale, s.to_f32(dots[t][p]), sums[t][p]);
            }
        }
    }
    for t in 0..T {
        for p in 0..P {
            s.store(sums[t][p], &mut v[t][panel + p]);
        }
    }
}

/// Adds a block of ranks to the outputs.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "several arrays have the same index")]
fn expand_codes<S: Simd, const T: usize>(
    s: S,
    sizes: &Sizes,
    codes: &Codes,
    block: usize,
    pairs: &[[[i16; 2]; RANKS / 2]; T],
    scales: [f32; T],
    out: &mut [&mut [f32]; T],
) {
    let count = sizes.ranks_of(block).div_ceil(2);
    for wide in 0..sizes.wides() {
        let first = sizes.b_pairs(block, wide);
        let mut dots = [[s.zero(); 4]; T];
        for (pair, weights) in codes.b[first..first + count].iter().enumerate() {
            let mut splats = [s.splat_pair([0; 2]); T];
            for t in 0..T {
                splats[t] = s.splat_pair(pairs[t][pair % (RANKS / 2)]);
            }
            for c in 0..4 {
                let weights = s.pairs(&weights.0[c]);
                for t in 0..T {
                    dots[t][c] = s.dot_pairs(dots[t][c], weights, splats[t]);
                }
            }
        }
        for t in 0..T {
            let out = &mut out[t][wide * WIDE..];
            let mut sums = load_wide(s, out);
            for (sum, &dots) in sums.iter_mut().zip(&dots[t]) {
                *sum = s.fma(s.splat(scales[t]), s.to_f32(dots), *sum);
            }
            store_wide(s, sums, out);
        }
    }
}
