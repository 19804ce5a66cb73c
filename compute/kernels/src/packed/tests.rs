//! What must hold of products: right, and the same bits on every tier, in any batch, on any
//! number of threads.

use super::drive::run;
use super::tier::{Claimed, scale_byte};
use super::{Activations, Digits, Packed, Tier, TierOutcome, products, tier, tier_report};
use crate::format::Format;
use crate::matrix::Matrix;
use crate::pool::Pool;
use crate::reference::dequantize;

/// A fixed sequence.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 24
    }

    /// Between -1 and 1.
    fn value(&mut self) -> f32 {
        (self.next() % (1 << 24)) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }

    /// The same, one of each 37 nine times as large.
    fn values_with_outliers(&mut self, len: usize) -> Vec<f32> {
        let mut values = self.values(len);
        values.iter_mut().step_by(37).for_each(|value| *value *= 9.0);
        values
    }

    /// Arbitrary bytes.
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// A matrix of a format: arbitrary codes, scales of ordinary size and either sign.
    fn weights(&mut self, format: Format, rows: usize, cols: usize) -> Vec<u8> {
        let mut data = self.bytes(format.bytes_of(rows * cols).unwrap());
        let exponent = if matches!(format, Format::F32 | Format::Bf16) { 0x3C } else { 0x24 };
        for (at, byte) in data.iter_mut().enumerate() {
            if scale_byte(format, at) {
                *byte = *byte & 0x81 | exponent;
            }
        }
        data
    }
}

fn packed(format: Format, rows: usize, cols: usize, data: &[u8]) -> Packed {
    Packed::new(&Matrix::new(format, rows, cols, data).unwrap(), &Pool::new(2)).unwrap()
}

const DIGITS: [Digits; 2] = [Digits::All, Digits::Outliers];

fn quantized(x: &[f32], cols: usize, digits: Digits) -> Activations {
    let mut activations = Activations::new();
    activations.quantize(&Pool::new(1), x, cols, digits).unwrap();
    activations
}

fn product(tier: Claimed, weights: &Packed, x: &Activations, pool: &Pool) -> Vec<u32> {
    let mut out = vec![f32::NAN; x.tokens() * weights.rows()];
    run(tier, pool, &mut [(weights, &mut out)], x).unwrap();
    // All that is not a number is one thing: its sign and digits are no tier's promise.
    out.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

fn tiers() -> Vec<Claimed> {
    Tier::ALL.into_iter().filter_map(Claimed::new).collect()
}

fn scalar() -> Claimed {
    Claimed::new(Tier::Scalar).unwrap()
}

/// Widths that a format's rows can have: one block, several, more than are unpacked at a time.
fn widths(format: Format) -> &'static [usize] {
    if format.block_len() == 256 { &[256, 1280] } else { &[32, 96, 800, 1568] }
}

#[test]
fn every_tier_gives_the_scalar_tiers_bits_in_every_batch() {
    let mut numbers = Numbers(7);
    let pool = Pool::new(1);
    for format in Format::ALL {
        for &cols in widths(format) {
            for rows in [1, 15, 16, 50] {
                let weights = packed(format, rows, cols, &numbers.weights(format, rows, cols));
                let x = numbers.values_with_outliers(33 * cols);
                for digits in DIGITS {
                    let expected = product(scalar(), &weights, &quantized(&x, cols, digits), &pool);
                    for tokens in [1, 2, 3, 5, 6, 7, 8, 33] {
                        let x = quantized(&x[..tokens * cols], cols, digits);
                        for tier in tiers() {
                            let found = product(tier, &weights, &x, &pool);
                            let what = (format, rows, cols, digits, tokens, tier.tier());
                            assert!(found == expected[..tokens * rows], "{what:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn inputs_that_quantise_exactly_give_the_dequantised_matrixs_products() {
    let mut numbers = Numbers(8);
    let (tokens, rows) = (7, 37);
    for format in Format::ALL {
        for &cols in widths(format) {
            let data = numbers.weights(format, rows, cols);
            let mut values = vec![0.0; rows * cols];
            dequantize(format, &data, &mut values).unwrap();
            let weights = packed(format, rows, cols, &data);
            // Integers, the largest of each block 2032, times a power of two.
            let mut x = vec![0.0; tokens * cols];
            for (b, block) in x.chunks_mut(32).enumerate() {
                let scale = f32::from_bits((120 + b as u32 % 9) << 23);
                block.fill_with(|| (numbers.next() % 4_065) as f32 - 2_032.0);
                block[b % 32] = 2_032.0;
                block.iter_mut().for_each(|x| *x *= scale);
            }
            let found =
                product(scalar(), &weights, &quantized(&x, cols, Digits::All), &Pool::new(1));
            for (i, bits) in found.into_iter().enumerate() {
                let (row, x) = (&values[i % rows * cols..][..cols], &x[i / rows * cols..]);
                let terms = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                let terms: Vec<f64> = terms.collect();
                let size: f64 = terms.iter().map(|term| term.abs()).sum();
                let error = (f64::from(f32::from_bits(bits)) - terms.iter().sum::<f64>()).abs();
                assert!(error <= 2e-6 * size, "{format:?} {cols} {i}: {error} of {size}");
            }
        }
    }
}

#[test]
fn rounding_of_inputs_costs_little() {
    let mut numbers = Numbers(9);
    let (tokens, rows, cols) = (3, 48, 1024);
    for format in Format::ALL {
        let data = numbers.weights(format, rows, cols);
        let mut values = vec![0.0; rows * cols];
        dequantize(format, &data, &mut values).unwrap();
        let x = numbers.values_with_outliers(tokens * cols);
        let weights = packed(format, rows, cols, &data);
        for (digits, most) in [(Digits::All, 2e-3), (Digits::Outliers, 5e-3)] {
            let found = product(scalar(), &weights, &quantized(&x, cols, digits), &Pool::new(1));
            let (mut error, mut size) = (0.0, 0.0);
            for (i, bits) in found.into_iter().enumerate() {
                let (row, x) = (&values[i % rows * cols..][..cols], &x[i / rows * cols..]);
                let terms = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                let expected: f64 = terms.sum();
                error += (f64::from(f32::from_bits(bits)) - expected).powi(2);
                size += expected.powi(2);
            }
            let relative = (error / size).sqrt();
            let exact = matches!(format, Format::F32 | Format::F16 | Format::Bf16);
            assert!(
                relative < if exact { 1e-5 } else { most },
                "{format:?} {digits:?}: {relative}"
            );
        }
    }
}

#[test]
fn threads_and_matrices_beside_it_change_no_bit() {
    let mut numbers = Numbers(10);
    let (cols, shapes) = (512, [(Format::Q4_1, 70), (Format::Q6K, 33), (Format::F16, 5)]);
    let all: Vec<Packed> = shapes
        .iter()
        .map(|&(format, rows)| packed(format, rows, cols, &numbers.weights(format, rows, cols)))
        .collect();
    for tokens in [1, 9] {
        let x = quantized(&numbers.values(tokens * cols), cols, Digits::Outliers);
        for tier in tiers() {
            let alone: Vec<Vec<u32>> =
                all.iter().map(|weights| product(tier, weights, &x, &Pool::new(1))).collect();
            for threads in [1, 2, 3, 8] {
                let mut outs: Vec<Vec<f32>> =
                    all.iter().map(|weights| vec![0.0; tokens * weights.rows()]).collect();
                let mut job: Vec<(&Packed, &mut [f32])> =
                    all.iter().zip(&mut outs).map(|(w, out)| (w, out.as_mut_slice())).collect();
                run(tier, &Pool::new(threads), &mut job, &x).unwrap();
                for (out, alone) in outs.iter().zip(&alone) {
                    assert!(out.iter().map(|x| x.to_bits()).eq(alone.iter().copied()));
                }
            }
        }
    }
}

#[test]
fn hostile_numbers_stay_in_their_token_and_tiers_agree_on_them() {
    let mut numbers = Numbers(11);
    let (tokens, rows, cols) = (9, 20, 256);
    let mut x = numbers.values(tokens * cols);
    x[..cols].fill(0.0);
    x[cols + 40] = f32::NAN;
    x[2 * cols + 1] = f32::INFINITY;
    x[3 * cols..4 * cols].fill(f32::MAX);
    x[4 * cols..5 * cols].fill(f32::MIN_POSITIVE / 16.0);
    x[5 * cols..6 * cols].iter_mut().for_each(|x| *x *= 1e30);
    x[6 * cols + 255] = f32::NEG_INFINITY;
    let all = DIGITS.map(|digits| quantized(&x, cols, digits));
    for (x, format) in all.iter().flat_map(|x| Format::ALL.map(|format| (x, format))) {
        let weights = packed(format, rows, cols, &numbers.weights(format, rows, cols));
        let expected = product(scalar(), &weights, x, &Pool::new(1));
        let number = |token: usize| {
            let own = expected[token * rows..][..rows].iter();
            own.clone().filter(|bits| f32::from_bits(**bits).is_finite()).count()
        };
        assert_eq!((number(0), number(7), number(8)), (rows, rows, rows), "{format:?}");
        assert_eq!((number(1), number(2), number(6)), (0, 0, 0), "{format:?}");
        // Any bytes at all as weights: infinite scales too.
        let wild =
            packed(format, rows, cols, &numbers.bytes(format.bytes_of(rows * cols).unwrap()));
        let expected_wild = product(scalar(), &wild, x, &Pool::new(1));
        for tier in tiers() {
            assert_eq!(product(tier, &weights, x, &Pool::new(1)), expected, "{format:?}");
            assert_eq!(product(tier, &wild, x, &Pool::new(1)), expected_wild, "{format:?}");
        }
    }
}

#[test]
fn extreme_codes_overflow_nothing() {
    // All codes at their largest, all inputs at theirs, either sign: the sums in 16 bits are full.
    for format in Format::ALL {
        for sign in [1.0, -1.0] {
            let (rows, cols) = (16, 256);
            let mut data = vec![0xFF; format.bytes_of(rows * cols).unwrap()];
            for (at, byte) in data.iter_mut().enumerate() {
                if scale_byte(format, at) {
                    *byte = 0x34;
                }
            }
            if format == Format::Q8_0 {
                data.iter_mut()
                    .enumerate()
                    .for_each(|(at, b)| *b = if at % 34 < 2 { *b } else { 0x80 });
            }
            let mut values = vec![0.0; rows * cols];
            dequantize(format, &data, &mut values).unwrap();
            let weights = packed(format, rows, cols, &data);
            // The largest upper bits, and the largest lower ones beside them.
            for input in [2_032.0, 2_024.0, 2_023.0] {
                let mut row = vec![input * sign; cols];
                row.iter_mut().step_by(32).for_each(|x| *x = 2_032.0);
                let x = quantized(&row.repeat(32), cols, Digits::All);
                let terms = values[..cols].iter().zip(&row);
                let terms: Vec<f64> = terms.map(|(w, x)| f64::from(*w) * f64::from(*x)).collect();
                let size: f64 = terms.iter().map(|term| term.abs()).sum();
                let expected: f64 = terms.iter().sum();
                for tier in tiers() {
                    for bits in product(tier, &weights, &x, &Pool::new(1)) {
                        let error = (f64::from(f32::from_bits(bits)) - expected).abs();
                        assert!(error <= 1e-5 * size, "{format:?} {}", tier.tier());
                    }
                }
            }
        }
    }
}

#[test]
fn extreme_outliers_overflow_nothing() {
    for format in Format::ALL {
        let (rows, cols) = (16, 256);
        let mut data = vec![0xFF; format.bytes_of(rows * cols).unwrap()];
        for (at, byte) in data.iter_mut().enumerate() {
            if scale_byte(format, at) {
                *byte = 0x34;
            }
        }
        let mut values = vec![0.0; rows * cols];
        dequantize(format, &data, &mut values).unwrap();
        let weights = packed(format, rows, cols, &data);
        for quad in 0..8 {
            // Every code at its largest: an outlier of four, and all others beside it.
            let mut block = [127.0; 32];
            block[4 * quad..4 * quad + 4].fill(2_032.0);
            let row = block.repeat(cols / 32);
            let x = quantized(&row.repeat(32), cols, Digits::Outliers);
            let terms = values[..cols].iter().zip(&row);
            let terms: Vec<f64> = terms.map(|(w, x)| f64::from(*w) * f64::from(*x)).collect();
            let size: f64 = terms.iter().map(|term| term.abs()).sum();
            let expected: f64 = terms.iter().sum();
            for tier in tiers() {
                for bits in product(tier, &weights, &x, &Pool::new(1)) {
                    let error = (f64::from(f32::from_bits(bits)) - expected).abs();
                    assert!(error <= 1e-5 * size, "{format:?} {quad} {}", tier.tier());
                }
            }
        }
    }
}

/// What classes of results rest on: an arithmetic may be added, none of these may change.
#[test]
fn the_bits_of_both_arithmetics_are_those_they_always_were() {
    for (digits, expected) in
        [(Digits::All, 0xD7BE_A63E_E410_321C), (Digits::Outliers, 0xF1C6_11E0_3355_9370)]
    {
        let mut numbers = Numbers(13);
        let mut hash = 0xCBF2_9CE4_8422_2325u64;
        for format in Format::ALL {
            let (rows, cols, tokens) = (18, 512, 3);
            let weights = packed(format, rows, cols, &numbers.weights(format, rows, cols));
            let x = quantized(&numbers.values_with_outliers(tokens * cols), cols, digits);
            for bits in product(scalar(), &weights, &x, &Pool::new(1)) {
                for byte in bits.to_le_bytes() {
                    hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
                }
            }
        }
        assert_eq!(hash, expected, "{digits:?}: {hash:#X}");
    }
}

#[test]
fn a_packed_matrix_is_about_as_large_as_its_file() {
    let mut numbers = Numbers(12);
    for format in Format::ALL {
        let data = numbers.weights(format, 64, 512);
        let weights = packed(format, 64, 512, &data);
        assert_eq!((weights.rows(), weights.cols(), weights.format()), (64, 512, format));
        assert!(weights.bytes() >= data.len() && weights.bytes() * 100 <= data.len() * 103);
    }
}

#[test]
fn shapes_that_disagree_are_refused_and_empty_ones_are_not() {
    let pool = Pool::new(2);
    let data = [0u8; 4 * 33];
    assert!(Packed::new(&Matrix::new(Format::F32, 1, 33, &data).unwrap(), &pool).is_err());
    let weights = packed(Format::Q8_0, 3, 64, &[0; 3 * 68]);
    let x = quantized(&[1.0; 128], 64, Digits::Outliers);
    let mut out = [5.0; 6];
    assert!(products(&pool, &mut [(&weights, &mut out[..5])], &x).is_err());
    let narrow = quantized(&[1.0; 32], 32, Digits::Outliers);
    let error = products(&pool, &mut [(&weights, &mut out[..3])], &narrow).unwrap_err();
    assert_eq!(error.to_string(), "the input of a product has length 32, its shape asks for 64");
    assert_eq!(out, [5.0; 6]);
    products(&pool, &mut [(&weights, &mut out)], &x).unwrap();
    assert_eq!(out, [0.0; 6]);
    let none = quantized(&[], 64, Digits::Outliers);
    products(&pool, &mut [(&weights, &mut [])], &none).unwrap();
    let empty = packed(Format::Q8_0, 0, 64, &[]);
    products(&pool, &mut [(&empty, &mut []), (&weights, &mut out)], &x).unwrap();
    products(&pool, &mut [], &x).unwrap();
}

#[test]
fn the_tier_in_use_was_tested_and_is_the_first_that_passed() {
    let report = tier_report();
    assert_eq!(report.len(), Tier::ALL.len());
    assert_eq!(report[report.len() - 1].outcome, TierOutcome::Passed);
    assert!(report.iter().all(|check| check.outcome != TierOutcome::Failed));
    let first = report.iter().find(|check| check.outcome == TierOutcome::Passed).unwrap();
    assert_eq!(first.tier, tier());
    assert_eq!(report[report.len() - 1].to_string(), "scalar: tested");
}
