//! Attention against the reference, on a device with everything and on one without.

use openledger_kernels::Pool;
use openledger_kernels::fused::KvFormat;
use openledger_kernels::reference::{
    AttentionRow, AttentionShape, KvLayer, Reach, RopePairs, attention_within,
};

use super::*;
use crate::Buffer;
use crate::kv::tests::stored;
use crate::kv::{HeadNorms, KvInput, KvWrite, RowTable};
use crate::testing::{distance, floats, gpu, plain, upload, values};

/// Sums of up to a few thousand products, and exponentials that are good to some units in the last
/// place; against the reference over the very numbers that the pages hold.
const TOLERANCE: f32 = 5e-6;

/// Pages that hold positions `0..count` of one sequence.
fn fill(gpu: &Gpu, layer: &KvPages, pages: &[u32], count: usize) {
    let shape = *layer.shape();
    let norms = HeadNorms::default();
    let write = KvWrite::new(gpu, shape, layer.format(), 0, RopePairs::Halves, norms).unwrap();
    let rows: Vec<_> = (1..=count).map(|positions| AttentionRow { pages, positions }).collect();
    let table = RowTable::new(&rows, shape.page_tokens, layer.pages()).unwrap();
    let table = gpu.upload("table", bytemuck::cast_slice(table.words())).unwrap();
    let width = shape.kv_heads * shape.head_dim;
    let seed = u64::from(pages[0]);
    let k: Vec<f32> = values(count * width, seed + 1).iter().map(|x| x * 3.0).collect();
    let (k, v) = (upload(gpu, &k), upload(gpu, &values(count * width, seed + 50)));
    let q = gpu.buffer("q", (count * shape.heads * shape.head_dim * 4) as u64).unwrap();
    let turns = upload(gpu, &[0.0; 2]);
    let (q, k, v) = (q.all(), k.all(), v.all());
    let input = KvInput { q, k, v, turns: turns.all(), norms: None, table: table.all() };
    let mut step = gpu.step();
    write.record(&mut step, count, &input, layer);
    step.submit().unwrap();
}

/// The results for these rows.
fn run(
    gpu: &Gpu,
    layer: &KvPages,
    rows: &[AttentionRow<'_>],
    q: &[f32],
    window: Option<usize>,
    scale: f32,
) -> Vec<f32> {
    let shape = *layer.shape();
    let attention = Attention::new(gpu, shape, layer.format()).unwrap();
    let plan = AttentionPlan::new(&attention, rows, window).unwrap();
    let table = RowTable::new(rows, shape.page_tokens, layer.pages()).unwrap();
    let table = gpu.upload("table", bytemuck::cast_slice(table.words())).unwrap();
    let words = gpu.upload("plan", bytemuck::cast_slice(plan.words())).unwrap();
    let partials = gpu.buffer("partials", attention.partial_bytes(&plan)).unwrap();
    let (q, out) = (upload(gpu, q), upload(gpu, &vec![f32::NAN; q.len()]));
    let input = AttentionInput {
        q: q.all(),
        table: table.all(),
        plan: words.all(),
        partials: partials.all(),
        out: out.all(),
    };
    let mut step = gpu.step();
    attention.record(&mut step, &plan, &input, layer, scale);
    step.submit().unwrap();
    floats(gpu, &out)
}

/// What the reference makes of the numbers in the pages.
fn expected(
    gpu: &Gpu,
    layer: &KvPages,
    rows: &[AttentionRow<'_>],
    q: &[f32],
    window: Option<usize>,
    scale: f32,
) -> Vec<f32> {
    let shape = layer.shape();
    let all = stored(gpu, layer);
    let side = |side: usize| -> Vec<f32> {
        all.chunks(shape.page_len()).skip(side).step_by(2).flatten().copied().collect()
    };
    let (keys, values) = (side(0), side(1));
    let kv = KvLayer { keys: &keys, values: &values };
    let mut out = vec![0.0; q.len()];
    let reach = Reach { window, scale };
    attention_within(shape, &reach, q, rows, kv, &mut out, &Pool::new(1)).unwrap();
    out
}

/// Rows that are alone, at the ends of blocks, pages and chunks, and a run of several.
fn compare(gpu: &Gpu, shape: AttentionShape, format: KvFormat, window: Option<usize>, long: usize) {
    let long_pages = long.div_ceil(shape.page_tokens) as u32;
    let (a, b): (Vec<u32>, Vec<u32>) =
        ((3..3 + long_pages).rev().collect(), vec![0, long_pages + 4, 2]);
    let layer = KvPages::new(gpu, shape, long_pages as usize + 5, format).unwrap();
    let short = shape.page_tokens * 2 + 1;
    fill(gpu, &layer, &a, long);
    fill(gpu, &layer, &b, short);
    let mut rows = vec![
        AttentionRow { pages: &a, positions: long },
        AttentionRow { pages: &b, positions: 1 },
        AttentionRow { pages: &a, positions: 33.min(long) },
    ];
    rows.extend((1..=short).map(|positions| AttentionRow { pages: &b, positions }));
    rows.extend(
        (long.saturating_sub(7).max(1)..=long).map(|p| AttentionRow { pages: &a, positions: p }),
    );
    let q: Vec<f32> = values(rows.len() * shape.heads * shape.head_dim, 7);
    let scale = 1.0 / (shape.head_dim as f32).sqrt();
    let found = run(gpu, &layer, &rows, &q, window, scale);
    let expected = expected(gpu, &layer, &rows, &q, window, scale);
    let distance = distance(&found, &expected);
    assert!(distance < TOLERANCE, "{shape:?} {format:?} {window:?} {long}: {distance}");
}

#[test]
fn attention_is_the_references_for_all_sizes() {
    // Each pair of sizes and format is compiled anew, so not all of them meet.
    for (heads, kv_heads, head_dim, page_tokens, format) in [
        (2, 1, 8, 4, KvFormat::F16),
        (3, 3, 16, 5, KvFormat::Q8),
        (6, 2, 20, 4, KvFormat::F16),
        (8, 1, 32, 8, KvFormat::F32),
        (9, 3, 64, 16, KvFormat::Q8),
        (4, 4, 80, 16, KvFormat::F16),
        (16, 1, 128, 16, KvFormat::F16),
        (4, 1, 256, 7, KvFormat::Q8),
        (2, 2, 512, 8, KvFormat::F32),
    ] {
        let shape = AttentionShape { heads, kv_heads, head_dim, page_tokens };
        compare(gpu(), shape, format, None, 75);
        compare(gpu(), shape, format, Some(9), 40);
    }
}

#[test]
fn chunks_are_joined_and_windows_kept_in_every_format() {
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 16, page_tokens: 16 };
    for format in [KvFormat::F32, KvFormat::F16, KvFormat::Q8] {
        compare(gpu(), shape, format, None, 600);
        compare(gpu(), shape, format, None, 2 * CHUNK_TILE + 3);
        for window in [1, 31, 256, 300, 5000] {
            compare(gpu(), shape, format, Some(window), CHUNK_TILE + 5);
        }
    }
    compare(plain(), shape, KvFormat::F16, Some(300), CHUNK_TILE + 5);
}

#[test]
fn blocks_are_shortened_until_a_small_memory_holds_them() {
    for head_dim in [8, 64, 80, 128, 256] {
        let shape = AttentionShape { heads: 8, kv_heads: 2, head_dim, page_tokens: 16 };
        let (single, tile) = (Tiling::single(&shape), Tiling::tile(&shape));
        for (held, fits) in [(32_768, true), (16_384, head_dim < 256), (1_024, false)] {
            let Some((tile, _)) = tile.fitted(&shape, 16, held) else {
                assert!(!fits, "{head_dim} {held}");
                continue;
            };
            assert!(tile.constants(&shape, 16).1 <= held && tile.block.is_multiple_of(BLOCK_MIN));
            assert!(single.fitted(&shape, 8, held).is_some());
        }
        assert_eq!(tile.fitted(&shape, 16, 32_768).map(|(own, _)| own), Some(tile));
    }
}

#[test]
fn a_row_does_not_depend_on_those_beside_it() {
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 32, page_tokens: 16 };
    let gpu = gpu();
    let pages: Vec<u32> = (0..24).collect();
    let layer = KvPages::new(gpu, shape, 24, KvFormat::F16).unwrap();
    fill(gpu, &layer, &pages, 380);
    let rows: Vec<_> =
        (340..=380).map(|positions| AttentionRow { pages: &pages, positions }).collect();
    let width = shape.heads * shape.head_dim;
    let q = values(rows.len() * width, 3);
    for window in [None, Some(50)] {
        let all = run(gpu, &layer, &rows, &q, window, 0.2);
        // Another run of rows, tiles that start elsewhere.
        let some = run(gpu, &layer, &rows[3..9], &q[3 * width..9 * width], window, 0.2);
        assert_eq!(some, all[3 * width..9 * width]);
        // Rows that are alone, with others or without.
        let apart: Vec<_> = rows.iter().step_by(2).copied().collect();
        let queries: Vec<f32> = q.chunks(width).step_by(2).flatten().copied().collect();
        let together = run(gpu, &layer, &apart, &queries, window, 0.2);
        let alone = run(gpu, &layer, &apart[4..5], &queries[4 * width..5 * width], window, 0.2);
        assert_eq!(alone, together[4 * width..5 * width]);
        // Both ways agree but for rounding.
        let same: Vec<f32> = all.chunks(width).step_by(2).flatten().copied().collect();
        assert!(distance(&together, &same) < TOLERANCE);
    }
}

#[test]
fn large_scores_and_numbers_that_are_none_stay_in_their_rows() {
    let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 8, page_tokens: 4 };
    let gpu = gpu();
    let layer = KvPages::new(gpu, shape, 3, KvFormat::F32).unwrap();
    fill(gpu, &layer, &[0, 1, 2], 12);
    let pages = [0, 1, 2];
    let rows = [1, 2, 3, 12].map(|positions| AttentionRow { pages: &pages, positions });
    let mut q: Vec<f32> = values(64, 5).iter().map(|x| x * 1e4).collect();
    let expected = expected(gpu, &layer, &rows, &q, None, 1.0);
    q[17] = f32::NAN;
    let found = run(gpu, &layer, &rows, &q, None, 1.0);
    assert!(distance(&found[..16], &expected[..16]) < TOLERANCE);
    assert!(distance(&found[24..], &expected[24..]) < TOLERANCE);
}

#[test]
fn what_does_not_fit_is_refused() {
    let gpu = gpu();
    let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 8, page_tokens: 4 };
    let attention = Attention::new(gpu, shape, KvFormat::F32).unwrap();
    let row = [AttentionRow { pages: &[0], positions: 1 }];
    assert!(AttentionPlan::new(&attention, &row, Some(0)).is_err());
    let nothing = [AttentionRow { pages: &[0], positions: 0 }];
    assert!(AttentionPlan::new(&attention, &nothing, None).is_err());
    assert!(
        Attention::new(gpu, AttentionShape { head_dim: 4096, ..shape }, KvFormat::F32).is_err()
    );
    let other = KvPages::new(gpu, shape, 1, KvFormat::F16).unwrap();
    let plan = AttentionPlan::new(&attention, &row, None).unwrap();
    let buffers = [(); 5].map(|()| upload(gpu, &[0.0; 64]));
    let [q, table, words, partials, out] = buffers.each_ref().map(Buffer::all);
    let input = AttentionInput { q, table, plan: words, partials, out };
    let mut step = gpu.step();
    attention.record(&mut step, &plan, &input, &other, 1.0);
    assert!(step.submit().is_err());
}
