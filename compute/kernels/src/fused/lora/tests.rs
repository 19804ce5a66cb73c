//! Adapters against their definition, and against themselves in other company.

use proptest::prelude::*;

use super::*;
use crate::fused::testing::{bits, values};
use crate::packed::Digits;

const FORMATS: [LoraFormat; 3] = [LoraFormat::F32, LoraFormat::F16, LoraFormat::Q8];

/// An adapter's matrices of ordinary size.
fn matrices(rank: usize, cols: usize, rows: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let scaled = |x: Vec<f32>, by: f32| x.into_iter().map(|x| x * by).collect();
    (scaled(values(rank * cols, seed), 0.05), scaled(values(rank * rows, seed + 7), 0.02))
}

fn site(rank: usize, cols: usize, rows: usize, format: LoraFormat, seed: u64) -> LoraSite {
    let (a, b) = matrices(rank, cols, rows, seed);
    LoraSite::new(rank, cols, rows, &a, &b, format).unwrap()
}

fn quantized(x: &[f32], cols: usize) -> Activations {
    let mut out = Activations::new();
    out.quantize(&Pool::new(1), x, cols, Digits::Outliers).unwrap();
    out
}

/// `scale * B (A x)` in `f64`.
fn update(a: &[f32], b: &[f32], rank: usize, scale: f32, x: &[f32]) -> Vec<f64> {
    let dot = |row: &[f32]| row.iter().zip(x).map(|(a, x)| f64::from(*a) * f64::from(*x)).sum();
    let v: Vec<f64> = a.chunks(x.len()).map(dot).collect();
    let row = |row: &[f32]| row.iter().zip(&v).map(|(b, v)| f64::from(*b) * v).sum::<f64>();
    b.chunks(rank).map(|b| row(b) * f64::from(scale)).collect()
}

/// The distance of `found` from `expected`, as a share of the latter's length.
fn relative(found: &[f64], expected: &[f64]) -> f64 {
    let distance: f64 = found.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
    (distance / expected.iter().map(|x| x * x).sum::<f64>()).sqrt()
}

#[test]
fn updates_are_those_of_the_definition_within_each_formats_bounds() {
    for (rank, cols, rows) in [(16, 576, 1536), (16, 1536, 576), (64, 64, 192), (5, 96, 50)] {
        let (a, b) = matrices(rank, cols, rows, 3);
        let x = values(cols, 4);
        for (format, stored_bound, bound) in [
            (LoraFormat::F32, 1e-6, 1e-6),
            (LoraFormat::F16, 1e-6, 1e-3),
            (LoraFormat::Q8, 1.5e-2, 2e-2),
        ] {
            let site = LoraSite::new(rank, cols, rows, &a, &b, format).unwrap();
            let mut out = vec![0.0; rows];
            let groups = [LoraGroup { site: &site, scale: 1.7, rows: &[0] }];
            lora(&Pool::new(1), &groups, &quantized(&x, cols), &mut out, rows).unwrap();
            let found: Vec<f64> = out.iter().map(|x| f64::from(*x)).collect();
            let error = relative(&found, &update(&a, &b, rank, 1.7, &x));
            assert!(error < bound, "{format:?}: {error}");
            let (a, b) = site.matrices();
            let error = relative(&found, &update(&a, &b, rank, 1.7, &x));
            assert!(error < stored_bound, "{format:?}, as stored: {error}");
        }
    }
}

#[test]
fn eight_bits_are_the_integers_of_the_definition() {
    let (rank, cols, rows) = (21, 96, 40);
    let site = site(rank, cols, rows, LoraFormat::Q8, 5);
    let (a, b) = site.matrices();
    let x = quantized(&values(cols, 6), cols);
    // What codes stand for, multiplied in f64, differs by the roundings of f32 and 16 bits alone.
    let seen: Vec<f32> = x
        .codes(0)
        .iter()
        .zip(0..)
        .map(|(code, k): (_, usize)| f32::from(*code) * x.scales(0)[k / 32])
        .collect();
    let mut out = vec![0.0; rows];
    let groups = [LoraGroup { site: &site, scale: -0.5, rows: &[0] }];
    lora(&Pool::new(1), &groups, &x, &mut out, rows).unwrap();
    let found: Vec<f64> = out.iter().map(|x| f64::from(*x)).collect();
    assert!(relative(&found, &update(&a, &b, rank, -0.5, &seen)) < 3e-5);
}

#[test]
fn stored_numbers_are_near_the_given_ones() {
    let (rank, cols, rows) = (13, 64, 45);
    let (a, b) = matrices(rank, cols, rows, 9);
    for format in FORMATS {
        let site = LoraSite::new(rank, cols, rows, &a, &b, format).unwrap();
        assert_eq!((site.rank(), site.cols(), site.rows()), (rank, cols, rows));
        assert_eq!(site.format(), format);
        let (found_a, found_b) = site.matrices();
        let far = |x: &[f32], found: &[f32]| {
            x.iter().zip(found).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
        };
        let (bound_a, bound_b) = match format {
            LoraFormat::F32 => (0.0, 0.0),
            LoraFormat::F16 => (0.05 / 2048.0, 0.02 / 2048.0),
            // Half a step; A's steps are up to 1/128 wider.
            LoraFormat::Q8 => (0.05 / 252.0, 0.02 / 253.9),
        };
        assert!(far(&a, &found_a) <= bound_a && far(&b, &found_b) <= bound_b, "{format:?}");
    }
}

#[test]
fn a_mixture_is_the_sum_of_its_parts_in_order() {
    let (cols, rows) = (96, 70);
    let x = values(3 * cols, 8);
    for format in FORMATS {
        let sites = [site(8, cols, rows, format, 1), site(20, cols, rows, format, 2)];
        let mixed = [
            LoraGroup { site: &sites[0], scale: 0.6, rows: &[0, 2] },
            LoraGroup { site: &sites[1], scale: 0.4, rows: &[2, 1] },
            LoraGroup { site: &sites[0], scale: -1.0, rows: &[1, 1] },
        ];
        let mut found = values(3 * rows, 9);
        let before = found.clone();
        lora(&Pool::new(2), &mixed, &quantized(&x, cols), &mut found, rows).unwrap();
        let parts: [&[(usize, f32)]; 3] =
            [&[(0, 0.6)], &[(1, 0.4), (0, -1.0), (0, -1.0)], &[(0, 0.6), (1, 0.4)]];
        for (token, parts) in parts.into_iter().enumerate() {
            let mut expected = before[token * rows..][..rows].to_vec();
            for &(which, scale) in parts {
                let group = LoraGroup { site: &sites[which], scale, rows: &[0] };
                let x = quantized(&x[token * cols..][..cols], cols);
                lora(&Pool::new(1), &[group], &x, &mut expected, rows).unwrap();
            }
            assert_eq!(bits(&found[token * rows..][..rows]), bits(&expected), "{format:?}");
        }
    }
}

#[test]
fn what_is_not_finite_is_not_lost() {
    let (rank, cols, rows) = (4, 64, 33);
    let (a, b) = matrices(rank, cols, rows, 1);
    for hostile in [f32::NAN, f32::INFINITY] {
        for format in FORMATS {
            let (mut bad_a, mut bad_b, mut x) = (a.clone(), b.clone(), values(cols, 2));
            (bad_a[70], bad_b[5]) = (hostile, hostile);
            for (a, b) in [(&bad_a, &b), (&a, &bad_b)] {
                let site = LoraSite::new(rank, cols, rows, a, b, format).unwrap();
                let group = LoraGroup { site: &site, scale: 1.0, rows: &[0] };
                let mut out = vec![0.0; rows];
                lora(&Pool::new(1), &[group], &quantized(&x, cols), &mut out, rows).unwrap();
                assert!(out.iter().any(|x| !x.is_finite()), "{format:?} {hostile}");
            }
            x[3] = hostile;
            let site = LoraSite::new(rank, cols, rows, &a, &b, format).unwrap();
            let group = LoraGroup { site: &site, scale: 1.0, rows: &[0] };
            let mut out = vec![0.0; rows];
            lora(&Pool::new(1), &[group], &quantized(&x, cols), &mut out, rows).unwrap();
            assert!(out.iter().all(|x| !x.is_finite()), "{format:?} {hostile}");
        }
    }
}

#[test]
fn shapes_that_disagree_are_refused() {
    let (a, b) = matrices(4, 64, 33, 1);
    let made = |rank, cols, rows| LoraSite::new(rank, cols, rows, &a, &b, LoraFormat::Q8);
    assert!(made(4, 64, 33).is_ok());
    assert!(made(8, 32, 33).is_err() && made(4, 64, 32).is_err() && made(5, 64, 33).is_err());
    assert!(LoraSite::new(1, 33, 1, &[0.0; 33], &[0.0], LoraFormat::F32).is_err());
    let site = made(4, 64, 33).unwrap();
    let (x, pool) = (quantized(&values(128, 1), 64), Pool::new(1));
    let group = LoraGroup { site: &site, scale: 1.0, rows: &[0, 2] };
    let error = lora(&pool, &[group], &x, &mut [0.0; 66], 33).unwrap_err();
    let text = "the batch that an adapter's row is in has length 2, its shape asks for 3";
    assert_eq!(error.to_string(), text);
    let group = LoraGroup { rows: &[0, 1], ..group };
    assert!(lora(&pool, &[group], &x, &mut [0.0; 64], 32).is_err());
    assert!(lora(&pool, &[group], &x, &mut [0.0; 65], 33).is_err());
    let narrow = quantized(&values(64, 1), 32);
    assert!(lora(&pool, &[group], &narrow, &mut [0.0; 66], 33).is_err());
    lora(&pool, &[group], &x, &mut [0.0; 66], 33).unwrap();
}

#[test]
fn bytes_come_back_and_wrong_ones_are_refused() {
    for format in FORMATS {
        for (rank, cols, rows) in [(16, 64, 96), (5, 32, 33), (33, 96, 1), (0, 32, 5)] {
            let site = site(rank, cols, rows, format, 3);
            let mut bytes = Vec::new();
            site.to_bytes(&mut bytes);
            assert_eq!(bytes.len(), 32 + site.bytes());
            assert_eq!(LoraSite::from_bytes(&bytes).unwrap(), site);
            for wrong in [0, 7, 31, bytes.len().saturating_sub(1)] {
                assert!(LoraSite::from_bytes(&bytes[..wrong]).is_err());
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(matches!(
                LoraSite::from_bytes(&longer),
                Err(LoraReadError::Length { found, expected }) if found == expected + 1
            ));
            for (at, value) in [(0, 0), (8, 2), (12, 3), (19, 1), (20, 33), (27, 9), (31, 1)] {
                let mut wrong = bytes.clone();
                wrong[at] = value;
                let error = LoraSite::from_bytes(&wrong).unwrap_err();
                assert!(error.to_string().starts_with("read a repacked adapter: "), "{error}");
            }
        }
    }
    let mut bytes = Vec::new();
    site(3, 32, 8, LoraFormat::Q8, 1).to_bytes(&mut bytes);
    bytes[40] = 0x80;
    assert_eq!(LoraSite::from_bytes(&bytes), Err(LoraReadError::Code));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let framed = [b"lorasite\x01\0\0\0", &bytes[..]].concat();
        prop_assert!(LoraSite::from_bytes(&bytes).is_err());
        drop(LoraSite::from_bytes(&framed));
    }

    #[test]
    fn neither_company_nor_threads_nor_copies_change_a_bit(
        rank in 1usize..70, blocks in 1usize..5, rows in 1usize..140, format in 0usize..3,
        tokens in 1usize..7, seed in 1u64..1000,
    ) {
        let (cols, format) = (blocks * 32, FORMATS[format]);
        let sites = [site(rank, cols, rows, format, seed), site(rank + 3, cols, rows, format, seed + 1)];
        let x = values(tokens * cols, seed + 2);
        let all: Vec<u32> = (0..tokens as u32).collect();
        let groups = [
            LoraGroup { site: &sites[0], scale: 0.5, rows: &all },
            LoraGroup { site: &sites[1], scale: 2.0, rows: &all[tokens / 2..] },
        ];
        let before = values(tokens * rows, seed + 3);
        let batch = quantized(&x, cols);
        let mut expected = before.clone();
        lora(&Pool::new(1), &groups, &batch, &mut expected, rows).unwrap();
        for (level, threads) in Level::all().into_iter().flat_map(|l| [(l, 1), (l, 2), (l, 3)]) {
            let mut out = before.clone();
            lora_at(level, &Pool::new(threads), &groups, &batch, &mut out, rows).unwrap();
            prop_assert_eq!(bits(&out), bits(&expected), "{:?}, {} threads", level, threads);
        }
        for token in 0..tokens {
            let mut alone = before[token * rows..][..rows].to_vec();
            let count = if token >= tokens / 2 { 2 } else { 1 };
            let groups = groups.map(|group| LoraGroup { rows: &[0], ..group });
            let x = quantized(&x[token * cols..][..cols], cols);
            lora(&Pool::new(1), &groups[..count], &x, &mut alone, rows).unwrap();
            prop_assert_eq!(bits(&alone), bits(&expected[token * rows..][..rows]), "alone");
        }
    }
}

#[test]
fn sharing_among_threads_changes_no_bit() {
    let (tokens, cols, rows) = (33, 576, 192);
    let x = quantized(&values(tokens * cols, 1), cols);
    let all: Vec<u32> = (0..tokens as u32).rev().collect();
    for format in FORMATS {
        let site = site(16, cols, rows, format, 3);
        let groups = [LoraGroup { site: &site, scale: 1.0, rows: &all }; 2];
        let mut results = [1, 2, 3].map(|threads| {
            let mut out = vec![1.0; tokens * rows];
            lora(&Pool::new(threads), &groups, &x, &mut out, rows).unwrap();
            bits(&out)
        });
        results.sort();
        assert_eq!(results[0], results[2], "{format:?}");
    }
}
