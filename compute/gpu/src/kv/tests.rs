//! Turning and writing keys and values against the reference.

use openledger_kernels::fused::{KvCache, KvFormat};
use openledger_kernels::reference::{
    AttentionRow, AttentionShape, RopeAngles, RopePairs, rms_norm, rope,
};

use super::*;
use crate::Gpu;
use crate::testing::{both, distance, floats, upload, values};

const FORMATS: [KvFormat; 3] = [KvFormat::F32, KvFormat::F16, KvFormat::Q8];

fn half(bits: u16) -> f32 {
    let (exponent, digits) = (i32::from(bits >> 10 & 31), f32::from(bits & 0x3FF));
    let size = match exponent {
        31 => f32::INFINITY * (digits + 1.0),
        0 => digits * 2f32.powi(-24),
        _ => (1024.0 + digits) * 2f32.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}

/// What a layer holds, `[pages, keys and values, kv_heads, page_tokens, head_dim]`.
pub(crate) fn stored(gpu: &Gpu, layer: &KvPages) -> Vec<f32> {
    let bytes = gpu.read(layer.kv(), 0..layer.kv().bytes()).unwrap();
    let head = layer.shape().head_dim;
    match layer.format() {
        KvFormat::F32 => bytemuck::pod_collect_to_vec(&bytes),
        KvFormat::F16 => bytes.as_chunks().0.iter().map(|b| half(u16::from_le_bytes(*b))).collect(),
        KvFormat::Q8 => {
            let scales = floats(gpu, layer.scales());
            let value = |(i, code): (usize, &u8)| f32::from(code.cast_signed()) * scales[i / head];
            bytes.iter().enumerate().map(value).collect()
        }
    }
}

/// A row's keys or values of what [`stored`] gives.
fn at(all: &[f32], shape: &AttentionShape, page: usize, slot: usize, side: usize) -> Vec<f32> {
    let AttentionShape { kv_heads, head_dim, page_tokens, .. } = *shape;
    let place = |head| ((page * 2 + side) * kv_heads + head) * page_tokens + slot;
    (0..kv_heads).flat_map(|head| all[place(head) * head_dim..][..head_dim].to_vec()).collect()
}

/// Two sequences' rows written by both; queries, and what is in the pages.
fn compare(
    gpu: &Gpu,
    shape: AttentionShape,
    format: KvFormat,
    turn: (usize, RopePairs),
    norms: HeadNorms,
) {
    let AttentionShape { heads, kv_heads, head_dim, page_tokens } = shape;
    let (pages_a, pages_b) = ([6, 2, 4], [0, 5]);
    let ends = [page_tokens, page_tokens + 1, page_tokens * 2 + 2];
    let mut rows: Vec<AttentionRow<'_>> =
        ends.map(|positions| AttentionRow { pages: &pages_a, positions }).to_vec();
    rows.push(AttentionRow { pages: &pages_b, positions: 1 });
    let n = rows.len();
    let (mut q, mut k) = (values(n * heads * head_dim, 1), values(n * kv_heads * head_dim, 2));
    let v = values(n * kv_heads * head_dim, 3);
    let angles = RopeAngles::new(turn.0, 10_000.0, 1.0, None);
    let mut turns = Vec::new();
    rows.iter().for_each(|row| angles.at(row.positions - 1, &mut turns));
    let weights = values(2 * head_dim, 4);

    let table = RowTable::new(&rows, page_tokens, 7).unwrap();
    let layer = KvPages::new(gpu, shape, 7, format).unwrap();
    let write = KvWrite::new(gpu, shape, format, turn.0, turn.1, norms).unwrap();
    let flat = crate::rope::turns(&angles, rows.iter().map(|row| row.positions - 1));
    let (q_buffer, k_buffer, v_buffer) = (upload(gpu, &q), upload(gpu, &k), upload(gpu, &v));
    let (turns_buffer, weights_buffer) = (upload(gpu, &flat), upload(gpu, &weights));
    let table = gpu.upload("table", bytemuck::cast_slice(table.words())).unwrap();
    let input = KvInput {
        q: q_buffer.all(),
        k: k_buffer.all(),
        v: v_buffer.all(),
        turns: turns_buffer.all(),
        norms: Some((weights_buffer.all(), 1e-5)),
        table: table.all(),
    };
    let mut step = gpu.step();
    write.record(&mut step, n, &input, &layer);
    step.submit().unwrap();

    for (x, normed, weight) in
        [(&mut q, norms.query, &weights[..head_dim]), (&mut k, norms.key, &weights[head_dim..])]
    {
        if normed {
            let before = x.clone();
            rms_norm(&before, weight, 1e-5, x).unwrap();
        }
        let width = x.len() / n;
        for (x, turns) in x.chunks_mut(width).zip(turns.chunks((turn.0 / 2).max(1))) {
            if turn.0 > 0 {
                rope(x, head_dim, turn.1, turns).unwrap();
            }
        }
    }
    let what = format!("{shape:?} {format:?} {turn:?} {norms:?}");
    assert!(distance(&floats(gpu, &q_buffer), &q) < 2e-6, "{what}");
    let mut cache = KvCache::new(shape, 7, format).unwrap();
    let all = stored(gpu, &layer);
    let width = kv_heads * head_dim;
    for (i, row) in rows.iter().enumerate() {
        let position = row.positions - 1;
        let (k, v) = (&k[i * width..][..width], &v[i * width..][..width]);
        cache.write(row.pages, position, k, v).unwrap();
        let (mut keys, mut values) = (vec![0.0; width], vec![0.0; width]);
        cache.read(row.pages, position, &mut keys, &mut values).unwrap();
        let page = row.pages[position / page_tokens] as usize;
        let slot = position % page_tokens;
        // Values are stored as they came: halves to the bit, codes but for the rounding of the
        // factor. Keys turned with the device's rounding: one step of the format at most.
        let (exact, step) = match format {
            KvFormat::F32 => (0.0, 2e-6),
            KvFormat::F16 => (0.0, 1.1 / 1024.0),
            KvFormat::Q8 => (1.01 / 127.0, 1.01 / 127.0),
        };
        assert!(distance(&at(&all, &shape, page, slot, 1), &values) <= exact, "{what}");
        assert!(distance(&at(&all, &shape, page, slot, 0), &keys) <= step, "{what}");
    }
    // Nothing else was touched.
    let touched = n * kv_heads * head_dim * 2;
    assert!(all.iter().filter(|x| **x != 0.0).count() <= touched);
}

#[test]
fn rows_turn_and_come_to_lie_where_the_reference_has_them() {
    for gpu in both() {
        for format in FORMATS {
            for (heads, kv_heads, head_dim, page_tokens, dimensions) in
                [(6, 2, 20, 4, 12), (9, 3, 64, 16, 64), (2, 2, 128, 5, 128), (4, 1, 256, 8, 64)]
            {
                let shape = AttentionShape { heads, kv_heads, head_dim, page_tokens };
                for pairs in [RopePairs::Interleaved, RopePairs::Halves] {
                    compare(gpu, shape, format, (dimensions, pairs), HeadNorms::default());
                }
            }
        }
        let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 8, page_tokens: 3 };
        let both = HeadNorms { query: true, key: true };
        compare(gpu, shape, KvFormat::F32, (8, RopePairs::Halves), both);
        compare(gpu, shape, KvFormat::F16, (0, RopePairs::Halves), both);
        let key = HeadNorms { query: false, key: true };
        compare(gpu, shape, KvFormat::Q8, (4, RopePairs::Interleaved), key);
    }
}

#[test]
fn every_half_is_rounded_as_the_processor_rounds() {
    let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: 64, page_tokens: 64 };
    let mut v = values(64 * 64, 9);
    for (i, x) in v.iter_mut().enumerate() {
        *x *= 2f32.powi(i as i32 % 45 - 27);
    }
    (v[0], v[1], v[2], v[3]) = (65_519.0, 65_520.0, 2f32.powi(-25), 3.0 * 2f32.powi(-26));
    let pages = [0];
    let rows: Vec<_> =
        (1..=64).map(|positions| AttentionRow { pages: &pages, positions }).collect();
    let mut cache = KvCache::new(shape, 1, KvFormat::F16).unwrap();
    for gpu in both() {
        let layer = KvPages::new(gpu, shape, 1, KvFormat::F16).unwrap();
        let write =
            KvWrite::new(gpu, shape, KvFormat::F16, 0, RopePairs::Halves, HeadNorms::default());
        let table = RowTable::new(&rows, 64, 1).unwrap();
        let table = gpu.upload("table", bytemuck::cast_slice(table.words())).unwrap();
        let [q, k, values] = [(); 3].map(|()| upload(gpu, &v));
        let turns = upload(gpu, &[0.0; 2]);
        let input = KvInput {
            q: q.all(),
            k: k.all(),
            v: values.all(),
            turns: turns.all(),
            norms: None,
            table: table.all(),
        };
        let mut step = gpu.step();
        write.unwrap().record(&mut step, 64, &input, &layer);
        step.submit().unwrap();
        let found = stored(gpu, &layer);
        for (position, x) in v.chunks(64).enumerate() {
            cache.write(&pages, position, x, x).unwrap();
            let (mut keys, mut values) = ([0.0; 64], [0.0; 64]);
            cache.read(&pages, position, &mut keys, &mut values).unwrap();
            assert_eq!(found[position * 64..][..64], keys);
            assert_eq!(found[(position + 64) * 64..][..64], values);
        }
    }
}

#[test]
fn hostile_numbers_show_in_8_bits_and_tiny_ones_are_zeros() {
    let shape = AttentionShape { heads: 2, kv_heads: 2, head_dim: 4, page_tokens: 1 };
    for gpu in both() {
        let layer = KvPages::new(gpu, shape, 1, KvFormat::Q8).unwrap();
        let norms = HeadNorms::default();
        let write = KvWrite::new(gpu, shape, KvFormat::Q8, 0, RopePairs::Halves, norms).unwrap();
        let rows = [AttentionRow { pages: &[0], positions: 1 }];
        let table = RowTable::new(&rows, 1, 1).unwrap();
        let table = gpu.upload("table", bytemuck::cast_slice(table.words())).unwrap();
        let k = upload(gpu, &[f32::NAN, 1.0, -1.0, 0.5, 1e-44, 0.0, 1e-45, 0.0]);
        let v = upload(gpu, &[f32::INFINITY, 1.0, 0.0, 2.0, 1e38, -1e38, 0.0, 1.0]);
        let (q, turns) = (upload(gpu, &[0.0; 8]), upload(gpu, &[0.0; 2]));
        let (q, k, v) = (q.all(), k.all(), v.all());
        let input = KvInput { q, k, v, turns: turns.all(), norms: None, table: table.all() };
        let mut step = gpu.step();
        write.record(&mut step, 1, &input, &layer);
        step.submit().unwrap();
        let found = stored(gpu, &layer);
        assert!(found[..4].iter().chain(&found[8..12]).all(|x| x.is_nan()), "{found:?}");
        assert_eq!(found[4..8], [0.0; 4]);
        assert!((found[12] / 1e38 - 1.0).abs() < 1e-6 && found[13] == -found[12]);
        assert_eq!(found[14..], [0.0; 2]);
    }
}

#[test]
fn pages_are_copied_whole() {
    let shape = AttentionShape { heads: 2, kv_heads: 2, head_dim: 12, page_tokens: 5 };
    for gpu in both() {
        for format in FORMATS {
            let layer = KvPages::new(gpu, shape, 6, format).unwrap();
            let page = layer.kv().bytes() as usize / 6;
            let bytes: Vec<u8> = (0..page * 6).map(|i| (i % 251) as u8).collect();
            gpu.write(layer.kv(), 0, &bytes).unwrap();
            let scales: Vec<f32> = values(layer.scales().bytes() as usize / 4, 3);
            gpu.write(layer.scales(), 0, bytemuck::cast_slice(&scales)).unwrap();
            let pairs: [u32; 6] = [1, 4, 0, 5, 3, 9];
            let pairs = gpu.upload("pairs", bytemuck::cast_slice(&pairs)).unwrap();
            let copy = KvCopy::new(gpu, shape, format).unwrap();
            let mut step = gpu.step();
            copy.record(&mut step, &layer, 3, pairs.all());
            step.submit().unwrap();
            let found = gpu.read(layer.kv(), 0..layer.kv().bytes()).unwrap();
            let mut expected = bytes.clone();
            expected.copy_within(page..2 * page, 4 * page);
            expected.copy_within(..page, 5 * page);
            assert_eq!(found, expected);
            if format == KvFormat::Q8 {
                let mut expected = scales.clone();
                expected.copy_within(20..40, 80);
                expected.copy_within(..20, 100);
                assert_eq!(floats(gpu, layer.scales()), expected);
            }
        }
    }
}

#[test]
fn sizes_and_rows_that_do_not_fit_are_refused() {
    let gpu = crate::testing::gpu();
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 64, page_tokens: 16 };
    for (format, bytes) in
        [(KvFormat::F32, 16_384), (KvFormat::F16, 8_192), (KvFormat::Q8, 4_096 + 256)]
    {
        assert_eq!(KvPages::page_bytes(&shape, format), bytes);
    }
    for wrong in [
        AttentionShape { heads: 3, ..shape },
        AttentionShape { kv_heads: 0, ..shape },
        AttentionShape { heads: 0, ..shape },
        AttentionShape { head_dim: 6, ..shape },
        AttentionShape { head_dim: 0, ..shape },
        AttentionShape { page_tokens: 0, ..shape },
    ] {
        assert!(KvPages::new(gpu, wrong, 1, KvFormat::F16).is_err(), "{wrong:?}");
    }
    let pages = [0, 3];
    let row = |positions| [AttentionRow { pages: &pages, positions }];
    assert!(RowTable::new(&row(32), 16, 4).is_ok());
    for (positions, held) in [(0, 4), (33, 4), (1, 3)] {
        assert!(RowTable::new(&row(positions), 16, held).is_err());
    }
    // Rows of one sequence share its pages.
    let rows = [1, 5, 32].map(|positions| AttentionRow { pages: &pages, positions });
    assert_eq!(RowTable::new(&rows, 16, 4).unwrap().words(), [6, 0, 6, 4, 6, 31, 0, 3]);
}
