//! One head of keys and values for several queries of one sequence.

use core::ops::Range;

use super::{QUERIES_MAX, seen};
use crate::fused::kv::{Element, KvCache, Layout, Numbers, Store};
use crate::fused::share::Disjoint;
use crate::fused::simd::{Simd, fold, fused_kernel};
use crate::reference::{AttentionRow, AttentionShape};

/// Queries whose sums are held in registers together.
const TILE: usize = 3;
/// Groups of eight positions that they are compared with at a time, and chunks of eight elements of
/// values that they are summed over at a time: as many as registers hold sums for.
const WIDE: usize = 4;
/// The same where numbers are converted as they are read; fewer would leave the multipliers idle.
const NARROW: usize = 3;
/// Pages after which scales are needed that are asked for now.
const AHEAD: usize = 8;
/// Positions whose values are added at a time: as many as fit the first-level cache.
const RUN_MAX: usize = 64;
/// Pages that these may be in.
const PAGES: usize = 8;

/// What is to be done.
pub(super) struct Job<'a> {
    pub(super) kv: &'a KvCache,
    pub(super) kv_head: usize,
    /// The query heads that are worked on, all of this `kv_head`.
    pub(super) heads: Range<usize>,
    /// Query heads in all.
    pub(super) heads_all: usize,
    /// Rows of one sequence; times `heads` at most [`QUERIES_MAX`].
    pub(super) rows: &'a [AttentionRow<'a>],
    /// Their queries, `[rows, heads, head_dim]`.
    pub(super) q: &'a [f32],
    pub(super) window: Option<usize>,
    pub(super) scale: f32,
    /// The number of the first row in `out`.
    pub(super) first: usize,
    /// `[n, heads, head_dim]`; these rows' heads are this job's alone.
    pub(super) out: &'a Disjoint<'a, f32>,
}

/// From one query's scores to the next one's: room for groups that are not all seen, and no power
/// of two, which would make all queries' scores compete for the same lines of the cache.
const fn stride(span: usize) -> usize {
    (span + 16).next_multiple_of(16) + 8
}

/// Elements that [`attend`] needs as scratch memory for so many queries, of rows that together
/// see at most `span` positions.
pub(super) fn scratch_len(shape: &AttentionShape, queries: usize, span: usize) -> usize {
    let chunks = shape.head_dim.div_ceil(8);
    16 + queries * (chunks * 8 + stride(span)) + converted_len(shape.head_dim) * 8
}

/// Chunks of eight keys or values that are converted at a time.
const fn converted_len(head_dim: usize) -> usize {
    let (keys, values) = (WIDE * head_dim, RUN_MAX * head_dim.div_ceil(8));
    if keys > values { keys } else { values }
}

fused_kernel! {
    pub(super) fn attend[s](job: &Job<'_>, scratch: &mut [f32]) {
        match &job.kv.store {
            Store::F32(numbers) => block(s, job, numbers, scratch),
            Store::F16(numbers) => block(s, job, numbers, scratch),
            Store::Q8(numbers) => block(s, job, numbers, scratch),
        }
    }
}

/// A row's head.
#[derive(Clone, Copy, Default)]
struct Query {
    /// Where its elements start in a job's `q`.
    start: usize,
    /// The positions that it sees.
    low: usize,
    high: usize,
}

/// The queries of a job and where they stand.
struct Queries<'a> {
    job: &'a Job<'a>,
    layout: &'a Layout,
    all: [Query; QUERIES_MAX],
    count: usize,
    /// From one query's scores to the next one's.
    stride: usize,
    /// The position of the first score.
    base: usize,
    /// What any of them sees.
    low: usize,
    high: usize,
}

impl<'a> Queries<'a> {
    #[inline(always)]
    fn new(job: &'a Job<'a>) -> Self {
        let layout = &job.kv.layout;
        let (mut all, mut count) = ([Query::default(); QUERIES_MAX], 0);
        let (mut low, mut high) = (usize::MAX, 0);
        for (index, row) in job.rows.iter().enumerate() {
            let seen = seen(row, job.window);
            (low, high) = (low.min(seen.start), high.max(seen.end));
            for head in job.heads.clone() {
                let start = (index * job.heads_all + head) * layout.head_dim;
                all[count] = Query { start, low: seen.start, high: seen.end };
                count += 1;
            }
        }
        let base = low - low % layout.page_tokens % 8;
        Self { job, layout, all, count, stride: stride(high - low), base, low, high }
    }

    /// Whether there are so few that memory is waited for, not the sums.
    #[inline(always)]
    const fn few(&self) -> bool {
        self.count <= TILE
    }

    /// Where the score of a position lies.
    #[inline(always)]
    fn score(&self, index: usize, position: usize) -> usize {
        index * self.stride + position - self.base
    }

    /// The number of this job's head in a page of the sequence, counted over all pages.
    #[inline(always)]
    fn head(&self, page: usize) -> usize {
        self.job.rows[0].pages[page] as usize * self.layout.kv_heads + self.job.kv_head
    }

    /// The same for a page that comes some time later.
    #[inline(always)]
    fn ahead(&self, page: usize) -> usize {
        let last = self.job.rows[0].pages.len() - 1;
        self.head(last.min(page + AHEAD))
    }
}

#[inline(always)]
fn block<S: Simd, E: Element>(s: S, job: &Job<'_>, numbers: &Numbers<E>, scratch: &mut [f32]) {
    let queries = Queries::new(job);
    let (layout, count) = (queries.layout, queries.count);
    // What is read most starts at a line of the cache.
    let aligned = scratch.as_ptr().align_offset(64).min(15);
    let (sums, rest) = scratch[aligned..].split_at_mut(count * layout.chunks * 8);
    let (converted, scores) = rest.split_at_mut(converted_len(layout.head_dim) * 8);
    let (sums, converted) = (sums.as_chunks_mut().0, converted.as_chunks_mut().0);
    score_all(s, &queries, numbers, scores, converted);
    let mut totals = [0.0; QUERIES_MAX];
    for (index, (total, query)) in totals.iter_mut().zip(&queries.all).take(count).enumerate() {
        let start = queries.score(index, query.low);
        *total = exponentials(s, &mut scores[start..start + query.high - query.low]);
    }
    sums.fill([0.0; 8]);
    weigh_all(s, &queries, numbers, scores, sums, converted);
    for (index, sums) in sums.chunks_exact(layout.chunks).enumerate() {
        let first = job.first * job.heads_all * layout.head_dim + queries.all[index].start;
        #[expect(unsafe_code, reason = "jobs write their own parts of one output")]
        // SAFETY: these rows' heads belong to this job, and a query's part is in use in this
        // iteration alone.
        let out = unsafe { job.out.part(first..first + layout.head_dim) };
        for (out, sum) in out.iter_mut().zip(sums.as_flattened()) {
            *out = sum / totals[index];
        }
    }
}

/// All queries' scores of all positions that any of them sees.
#[inline(always)]
fn score_all<S: Simd, E: Element>(
    s: S,
    queries: &Queries<'_>,
    numbers: &Numbers<E>,
    scores: &mut [f32],
    converted: &mut [[f32; 8]],
) {
    match (E::PLAIN, queries.few()) {
        (true, true) => score_groups::<S, E, true, WIDE>(s, queries, numbers, scores),
        (true, false) => score_groups::<S, E, false, WIDE>(s, queries, numbers, scores),
        (false, true) => score_groups::<S, E, true, NARROW>(s, queries, numbers, scores),
        (false, false) => score_converted(s, queries, numbers, scores, converted),
    }
}

/// As they lie, `G` groups at a time; `FEW` queries ask for what comes next.
#[inline(always)]
fn score_groups<S: Simd, E: Element, const FEW: bool, const G: usize>(
    s: S,
    queries: &Queries<'_>,
    numbers: &Numbers<E>,
    scores: &mut [f32],
) {
    let mut place = Place::new(queries);
    let mut groups: Groups<'_, E, G> = place.take(s, queries, numbers);
    while groups.count > 0 {
        let next = place.take(s, queries, numbers);
        score_tiles::<S, E, E, FEW, G>(s, queries, &groups.keys, &groups, &next, scores);
        groups = next;
    }
}

/// Converted first.
#[inline(always)]
fn score_converted<S: Simd, E: Element>(
    s: S,
    queries: &Queries<'_>,
    numbers: &Numbers<E>,
    scores: &mut [f32],
    converted: &mut [[f32; 8]],
) {
    let dim = queries.layout.head_dim;
    let mut place = Place::new(queries);
    let mut groups: Groups<'_, E, WIDE> = place.take(s, queries, numbers);
    while groups.count > 0 {
        let next = place.take(s, queries, numbers);
        for (keys, out) in groups.keys.iter().zip(converted.chunks_exact_mut(dim)) {
            convert(s, keys, out);
        }
        let mut plain: [&[[f32; 8]]; WIDE] = [&[]; WIDE];
        for (plain, converted) in plain.iter_mut().zip(converted.chunks_exact(dim)) {
            *plain = converted;
        }
        score_tiles::<S, E, f32, false, WIDE>(s, queries, &plain, &groups, &next, scores);
        groups = next;
    }
}

/// Groups of positions that are compared with together.
struct Groups<'a, E, const G: usize> {
    count: usize,
    /// Their first positions.
    at: [usize; G],
    /// The keys of each, `[head_dim]`; groups that are not there are the first one again.
    keys: [&'a [[E; 8]]; G],
    /// What scores are multiplied with if keys are codes.
    scales: [[f32; 8]; G],
}

/// Where the next group is.
struct Place {
    position: usize,
    page: usize,
    /// In its page.
    group: usize,
}

impl Place {
    #[inline(always)]
    fn new(queries: &Queries<'_>) -> Self {
        let (position, tokens) = (queries.base, queries.layout.page_tokens);
        Self { position, page: position / tokens, group: position % tokens / 8 }
    }

    /// The next groups; none at the end.
    #[inline(always)]
    fn take<'a, S: Simd, E: Element, const G: usize>(
        &mut self,
        s: S,
        queries: &Queries<'a>,
        numbers: &'a Numbers<E>,
    ) -> Groups<'a, E, G> {
        let (layout, dim) = (queries.layout, queries.layout.head_dim);
        let (keys, scales) = ([&[][..]; G], [[1.0; 8]; G]);
        let mut groups = Groups { count: 0, at: [0; G], keys, scales };
        while groups.count < G && self.position < queries.high {
            let number = queries.head(self.page) * layout.groups + self.group;
            groups.at[groups.count] = self.position;
            groups.keys[groups.count] = &numbers.keys.get()[number * dim..(number + 1) * dim];
            if E::SCALED {
                groups.scales[groups.count] = queries.job.kv.key_scales[number];
                let ahead = queries.ahead(self.page) * layout.groups + self.group;
                s.prefetch(queries.job.kv.key_scales.get(ahead));
            }
            groups.count += 1;
            self.group += 1;
            if self.group == layout.groups {
                (self.page, self.group) = (self.page + 1, 0);
            }
            self.position = self.page * layout.page_tokens + self.group * 8;
        }
        // The same work again instead of none; nobody looks at it.
        for missing in groups.count..G {
            groups.keys[missing] = groups.keys[0];
        }
        groups
    }
}

/// Numbers as they are computed with; codes are not multiplied with their scale.
#[inline(always)]
fn convert<S: Simd, E: Element>(s: S, numbers: &[[E; 8]], out: &mut [[f32; 8]]) {
    for (out, numbers) in out.iter_mut().zip(numbers) {
        s.store(E::load(s, numbers), out);
    }
}

/// All queries' scores of a few groups; `E` is stored, `P` is at hand.
#[inline(always)]
fn score_tiles<S: Simd, E: Element, P: Element, const FEW: bool, const G: usize>(
    s: S,
    queries: &Queries<'_>,
    keys: &[&[[P; 8]]; G],
    groups: &Groups<'_, E, G>,
    next: &Groups<'_, E, G>,
    scores: &mut [f32],
) {
    for first in (0..queries.count).step_by(TILE) {
        match queries.count - first {
            1 => score_tile::<S, E, P, FEW, 1, G>(s, queries, first, keys, groups, next, scores),
            2 => score_tile::<S, E, P, FEW, 2, G>(s, queries, first, keys, groups, next, scores),
            _ => score_tile::<S, E, P, FEW, TILE, G>(s, queries, first, keys, groups, next, scores),
        }
    }
}

#[inline(always)]
fn score_tile<S: Simd, E: Element, P: Element, const FEW: bool, const Q: usize, const G: usize>(
    s: S,
    queries: &Queries<'_>,
    first: usize,
    keys: &[&[[P; 8]]; G],
    groups: &Groups<'_, E, G>,
    next: &Groups<'_, E, G>,
    scores: &mut [f32],
) {
    let dim = queries.layout.head_dim;
    let mut elements: [&[f32]; Q] = [&[]; Q];
    for (index, elements) in elements.iter_mut().enumerate() {
        let start = queries.all[first + index].start;
        *elements = &queries.job.q[start..start + dim];
    }
    let mut chunks: [&[[P; 8]]; G] = [&[]; G];
    for (chunks, keys) in chunks.iter_mut().zip(keys) {
        *chunks = &keys[..dim];
    }
    let mut sums = [[s.splat(0.0); G]; Q];
    for start in (0..dim).step_by(8) {
        // In step with the work, so that memory is as busy.
        if FEW {
            for next in &next.keys {
                for line in 0..size_of::<E>() {
                    s.prefetch(next.get(start + line * 8 / size_of::<E>()));
                }
            }
        }
        for d in start..dim.min(start + 8) {
            let mut splats = [s.splat(0.0); Q];
            for q in 0..Q {
                splats[q] = s.splat(elements[q][d]);
            }
            for g in 0..G {
                let keys = P::load(s, &chunks[g][d]);
                for q in 0..Q {
                    sums[q][g] = s.fma(splats[q], keys, sums[q][g]);
                }
            }
        }
    }
    for (q, sums) in sums.iter().enumerate() {
        // In the order of positions: what a last group has too much is overwritten.
        for (g, &sum) in sums.iter().enumerate().take(groups.count) {
            let mut sum = sum;
            if E::SCALED {
                sum = s.mul(sum, s.load(&groups.scales[g]));
            }
            let start = queries.score(first + q, groups.at[g]);
            if let Some(out) = scores[start..].first_chunk_mut() {
                s.store(s.mul(sum, s.splat(queries.job.scale)), out);
            }
        }
    }
}

/// Replaces each score by the exponential of its distance to the largest; returns their sum, in
/// eight lanes by index.
#[inline(always)]
fn exponentials<S: Simd>(s: S, scores: &mut [f32]) -> f32 {
    let top = s.splat(largest(s, scores));
    let mut sum = s.splat(0.0);
    let (chunks, rest) = scores.as_chunks_mut::<8>();
    for chunk in chunks {
        let weights = s.exp(s.sub(s.load(chunk), top));
        s.store(weights, chunk);
        sum = s.add(sum, weights);
    }
    if !rest.is_empty() {
        let mut last = [f32::NEG_INFINITY; 8];
        last[..rest.len()].copy_from_slice(rest);
        let weights = s.exp(s.sub(s.load(&last), top));
        s.store(weights, &mut last);
        sum = s.add(sum, weights);
        rest.copy_from_slice(&last[..rest.len()]);
    }
    fold(s, sum)
}

/// The largest score; NaN is passed over.
#[inline(always)]
fn largest<S: Simd>(s: S, scores: &[f32]) -> f32 {
    let mut tops = [s.splat(f32::NEG_INFINITY); 4];
    let (chunks, rest) = scores.as_chunks::<8>();
    let (fours, last) = chunks.as_chunks::<4>();
    for four in fours {
        for (top, chunk) in tops.iter_mut().zip(four) {
            *top = s.larger(s.load(chunk), *top);
        }
    }
    for chunk in last {
        tops[0] = s.larger(s.load(chunk), tops[0]);
    }
    let mut lanes = [0.0; 8];
    s.store(s.larger(s.larger(tops[0], tops[1]), s.larger(tops[2], tops[3])), &mut lanes);
    let mut top = f32::NEG_INFINITY;
    for &score in lanes.iter().chain(rest) {
        top = if score > top { score } else { top };
    }
    top
}

/// Values of neighbouring positions, page by page.
struct Run<'a, P> {
    count: usize,
    /// Of each page, `[positions, chunks]`.
    values: [&'a [[P; 8]]; PAGES],
    /// The first position of each, and at last the end.
    at: [usize; PAGES + 1],
}

/// Where the next run is.
struct Cursor {
    position: usize,
    page: usize,
    /// In its page.
    slot: usize,
}

impl Cursor {
    /// The next run, its weights multiplied with what codes stand for; of no pages at the end.
    #[inline(always)]
    fn take<'a, S: Simd, E: Element>(
        &mut self,
        s: S,
        queries: &Queries<'a>,
        numbers: &'a Numbers<E>,
        weights: &mut [f32],
    ) -> Run<'a, E> {
        let layout = queries.layout;
        let end = queries.high.min(self.position + RUN_MAX);
        let mut run = Run { count: 0, values: [&[][..]; PAGES], at: [self.position; PAGES + 1] };
        while run.count < PAGES && self.position < end {
            let len = (layout.page_tokens - self.slot).min(end - self.position);
            let number = queries.head(self.page) * layout.page_tokens + self.slot;
            run.values[run.count] =
                &numbers.values.get()[number * layout.chunks..(number + len) * layout.chunks];
            if E::SCALED {
                let scales = &queries.job.kv.value_scales[number..number + len];
                scale_weights(queries, self.position, scales, weights);
                let ahead = queries.ahead(self.page) * layout.page_tokens;
                s.prefetch(queries.job.kv.value_scales.get(ahead));
            }
            (self.position, self.slot) = (self.position + len, self.slot + len);
            if self.slot == layout.page_tokens {
                (self.page, self.slot) = (self.page + 1, 0);
            }
            run.count += 1;
            run.at[run.count] = self.position;
        }
        run
    }
}

/// Adds all queries' weighted values up.
#[inline(always)]
fn weigh_all<S: Simd, E: Element>(
    s: S,
    queries: &Queries<'_>,
    numbers: &Numbers<E>,
    weights: &mut [f32],
    sums: &mut [[f32; 8]],
    converted: &mut [[f32; 8]],
) {
    let (position, tokens) = (queries.low, queries.layout.page_tokens);
    let mut cursor = Cursor { position, page: position / tokens, slot: position % tokens };
    let mut run = cursor.take(s, queries, numbers, weights);
    while run.count > 0 {
        let next = cursor.take(s, queries, numbers, weights);
        if queries.few() {
            weigh_tiles::<S, E, E, true>(s, queries, &run, &next, weights, sums);
        } else if E::PLAIN {
            weigh_tiles::<S, E, E, false>(s, queries, &run, &next, weights, sums);
        } else {
            let (start, end) = (run.at[0], run.at[run.count]);
            let len = (end - start) * queries.layout.chunks;
            let mut rest = &mut converted[..len];
            for values in &run.values[..run.count] {
                let (own, others) = rest.split_at_mut(values.len());
                convert(s, values, own);
                rest = others;
            }
            let mut plain = Run { count: 1, values: [&[][..]; PAGES], at: [end; PAGES + 1] };
            (plain.values[0], plain.at[0]) = (&converted[..len], start);
            weigh_tiles::<S, E, f32, false>(s, queries, &plain, &next, weights, sums);
        }
        run = next;
    }
}

/// Multiplies all queries' weights, from a position on, with what the values' codes stand for.
#[inline(always)]
fn scale_weights(queries: &Queries<'_>, position: usize, scales: &[f32], weights: &mut [f32]) {
    for index in 0..queries.count {
        let start = queries.score(index, position);
        for (weight, scale) in weights[start..start + scales.len()].iter_mut().zip(scales) {
            *weight *= scale;
        }
    }
}

/// Adds the values of a run.
#[inline(always)]
fn weigh_tiles<S: Simd, E: Element, P: Element, const FEW: bool>(
    s: S,
    queries: &Queries<'_>,
    run: &Run<'_, P>,
    next: &Run<'_, E>,
    weights: &[f32],
    sums: &mut [[f32; 8]],
) {
    let chunks = queries.layout.chunks;
    for (tile, sums) in sums.chunks_mut(TILE * chunks).enumerate() {
        let first = tile * TILE;
        match sums.len() / chunks {
            1 => weigh_tile::<S, E, P, FEW, 1>(s, queries, first, run, next, weights, sums),
            2 => weigh_tile::<S, E, P, FEW, 2>(s, queries, first, run, next, weights, sums),
            _ => weigh_tile::<S, E, P, FEW, TILE>(s, queries, first, run, next, weights, sums),
        }
    }
}

/// Positions that all queries see are shared; before and after them come those of single ones.
#[inline(always)]
fn weigh_tile<S: Simd, E: Element, P: Element, const FEW: bool, const Q: usize>(
    s: S,
    queries: &Queries<'_>,
    first: usize,
    run: &Run<'_, P>,
    next: &Run<'_, E>,
    weights: &[f32],
    sums: &mut [[f32; 8]],
) {
    let (chunks, start, end) = (queries.layout.chunks, run.at[0], run.at[run.count]);
    let (mut shared, mut own) = (start..end, [(0, 0); Q]);
    for (q, own) in own.iter_mut().enumerate() {
        let query = &queries.all[first + q];
        *own = (query.low.max(start), query.high.min(end));
        shared = shared.start.max(own.0)..shared.end.min(own.1);
    }
    if shared.is_empty() {
        // All positions are single ones, before a shared part of nothing.
        shared = end..end;
    }
    for (q, own) in own.iter().enumerate() {
        let sums = &mut sums[q * chunks..(q + 1) * chunks];
        let before = own.0..own.1.min(shared.start);
        weigh::<S, E, P, false, 1>(s, queries, first + q, before, run, next, weights, sums);
    }
    weigh::<S, E, P, FEW, Q>(s, queries, first, shared.clone(), run, next, weights, sums);
    for (q, own) in own.iter().enumerate() {
        let sums = &mut sums[q * chunks..(q + 1) * chunks];
        let after = own.0.max(shared.end)..own.1;
        weigh::<S, E, P, false, 1>(s, queries, first + q, after, run, next, weights, sums);
    }
}

/// Adds the values of `positions` to the sums of `Q` queries that all see them.
#[inline(always)]
fn weigh<S: Simd, E: Element, P: Element, const FEW: bool, const Q: usize>(
    s: S,
    queries: &Queries<'_>,
    first: usize,
    positions: Range<usize>,
    run: &Run<'_, P>,
    next: &Run<'_, E>,
    weights: &[f32],
    sums: &mut [[f32; 8]],
) {
    if positions.is_empty() {
        return;
    }
    let chunks = queries.layout.chunks;
    let mut own: [&[f32]; Q] = [&[]; Q];
    for (q, own) in own.iter_mut().enumerate() {
        let at = queries.score(first + q, positions.start);
        *own = &weights[at..at + positions.len()];
    }
    let mut chunk = 0;
    while chunk < chunks {
        let left = chunks - chunk;
        chunk += if P::PLAIN && left >= WIDE {
            columns::<S, E, P, FEW, Q, WIDE>(s, &own, &positions, run, next, chunks, chunk, sums)
        } else if left >= NARROW {
            columns::<S, E, P, FEW, Q, NARROW>(s, &own, &positions, run, next, chunks, chunk, sums)
        } else if left == 2 {
            columns::<S, E, P, FEW, Q, 2>(s, &own, &positions, run, next, chunks, chunk, sums)
        } else {
            columns::<S, E, P, FEW, Q, 1>(s, &own, &positions, run, next, chunks, chunk, sums)
        };
    }
}

/// The same for `C` chunks of elements, which it returns; `weights` are those of `positions`.
#[inline(always)]
fn columns<S: Simd, E: Element, P: Element, const FEW: bool, const Q: usize, const C: usize>(
    s: S,
    weights: &[&[f32]; Q],
    positions: &Range<usize>,
    run: &Run<'_, P>,
    next: &Run<'_, E>,
    chunks: usize,
    chunk: usize,
    sums: &mut [[f32; 8]],
) -> usize {
    let mut totals = [[s.splat(0.0); C]; Q];
    for q in 0..Q {
        for c in 0..C {
            totals[q][c] = s.load(&sums[q * chunks + chunk + c]);
        }
    }
    for page in 0..run.count {
        let at = run.at[page];
        let (from, to) = (positions.start.max(at), positions.end.min(run.at[page + 1]));
        if from >= to {
            continue;
        }
        let mut own: [&[f32]; Q] = [&[]; Q];
        for q in 0..Q {
            own[q] = &weights[q][from - positions.start..to - positions.start];
        }
        let values = &run.values[page][(from - at) * chunks..(to - at) * chunks];
        let next = next.values[page];
        for (position, values) in (0..to - from).zip(values.chunks_exact(chunks)) {
            let values = &values[chunk..chunk + C];
            if FEW {
                for line in 0..(C * size_of::<E>()).div_ceil(8) {
                    s.prefetch(next.get(position * chunks + chunk + line * 8 / size_of::<E>()));
                }
            }
            let mut splats = [s.splat(0.0); Q];
            for q in 0..Q {
                splats[q] = s.splat(own[q][position]);
            }
            for c in 0..C {
                let values = P::load(s, &values[c]);
                for q in 0..Q {
                    totals[q][c] = s.fma(splats[q], values, totals[q][c]);
                }
            }
        }
    }
    for q in 0..Q {
        for c in 0..C {
            s.store(totals[q][c], &mut sums[q * chunks + chunk + c]);
        }
    }
    C
}
