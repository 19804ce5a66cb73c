//! The engine against llama.cpp's own predictions on the same file (`vectors/README.md`).

use std::io::Read;

use flate2::read::ZlibDecoder;
use openledger_inference::{BackendKind, Engine, EngineOptions};

use crate::support::real_model;

/// A sequence and what llama.cpp said of it.
struct Vector {
    tokens: Vec<u32>,
    /// Its likeliest next token at each position.
    likeliest: Vec<u32>,
    /// How far that one's logit lies above the second, in 1/10,000.
    gaps: Vec<u32>,
}

fn varint(bytes: &mut &[u8]) -> u32 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u32::from(byte & 0x7F) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

fn vectors(name: &str) -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/");
    let packed = std::fs::read([path, name].concat()).unwrap();
    let mut file = Vec::new();
    ZlibDecoder::new(packed.as_slice()).read_to_end(&mut file).unwrap();
    let mut left = file.as_slice();
    assert_eq!(varint(&mut left), 1, "another version of the vectors");
    left = &left[32..];
    let sequences = varint(&mut left);
    let vectors = (0..sequences)
        .map(|_| {
            let length = varint(&mut left);
            let mut list = || (0..length).map(|_| varint(&mut left)).collect();
            Vector { tokens: list(), likeliest: list(), gaps: list() }
        })
        .collect();
    assert!(left.is_empty());
    vectors
}

/// How often another token is the likeliest.
#[derive(Debug, Default)]
struct Misses {
    positions: usize,
    misses: usize,
    /// llama.cpp's widest gap at such a position, in 1/10,000.
    widest: u32,
}

impl Misses {
    fn count(&mut self, vector: &Vector, position: usize, likeliest: u32) {
        self.positions += 1;
        if likeliest != vector.likeliest[position] {
            self.misses += 1;
            self.widest = self.widest.max(vector.gaps[position]);
        }
    }
}

fn engine(backend: BackendKind) -> Engine {
    let options = EngineOptions { backend, ..EngineOptions::default() };
    Engine::new(real_model(), options).unwrap()
}

#[test]
fn the_likeliest_token_is_llama_cpps_at_99_of_100_positions_and_close_at_the_others() {
    let mut engine = engine(BackendKind::Reference);
    let (mut exact, mut shipped) = (Misses::default(), Misses::default());
    let rounded = vectors("logits-8bit.bin");
    for (vector, rounded) in vectors("logits.bin").iter().zip(&rounded) {
        assert_eq!(vector.tokens, rounded.tokens);
        let mut visit = |position: usize, logits: &[f32]| {
            let mut best = 0;
            for (token, logit) in logits.iter().enumerate() {
                if *logit > logits[best] {
                    best = token;
                }
            }
            exact.count(vector, position, best as u32);
            shipped.count(rounded, position, best as u32);
            core::ops::ControlFlow::Continue(())
        };
        engine.each_logits(&vector.tokens, &[], 0, &mut visit).unwrap();
    }
    // The second is a figure, not a bar: llama.cpp's roundings are not even its own from one
    // setting to the next.
    println!("llama.cpp in 32 bits: {exact:?}; as shipped, with 8-bit activations: {shipped:?}");
    assert!(exact.positions >= 2_560);
    assert!(exact.misses * 100 <= exact.positions, "{exact:?}");
    assert!(exact.widest <= 1_000, "{exact:?}");
}

/// How far another backend's logits lie from the reference's.
#[derive(Debug, Default)]
struct Distance {
    positions: usize,
    /// Positions with another likeliest token.
    misses: usize,
    /// Of the differences, and of the reference's logits around their mean.
    squares: [f64; 2],
    /// Of all positions together.
    divergence: f64,
}

impl Distance {
    fn count(&mut self, expected: &[f32], found: &[f32]) {
        let best = |logits: &[f32]| {
            let first = |best: usize, (at, logit): (usize, &f32)| {
                if *logit > logits[best] { at } else { best }
            };
            logits.iter().enumerate().fold(0, first)
        };
        self.positions += 1;
        self.misses += usize::from(best(expected) != best(found));
        let mean = expected.iter().map(|x| f64::from(*x)).sum::<f64>() / expected.len() as f64;
        for (a, b) in expected.iter().zip(found) {
            self.squares[0] += f64::from(a - b).powi(2);
            self.squares[1] += (f64::from(*a) - mean).powi(2);
        }
        let (ours, theirs) = (log_probabilities(expected), log_probabilities(found));
        let pairs = ours.iter().zip(theirs);
        self.divergence += pairs.map(|(a, b)| a.exp() * (a - b)).sum::<f64>();
    }

    /// Relative error, divergence (Kullback and Leibler) and share of equal likeliest tokens.
    fn figures(&self) -> (f64, f64, f64) {
        let positions = self.positions as f64;
        let relative = (self.squares[0] / self.squares[1]).sqrt();
        (relative, self.divergence / positions, 1.0 - self.misses as f64 / positions)
    }
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from(logit - top).exp()).sum();
    logits.iter().map(|logit| f64::from(logit - top) - total.ln()).collect()
}

#[test]
fn logits_of_the_fast_backend_stay_close_to_the_references() {
    let (mut reference, mut fast) = (engine(BackendKind::Reference), engine(BackendKind::Int12));
    let (mut all, mut misses) = (Distance::default(), Misses::default());
    for vector in vectors("logits.bin") {
        let expected = reference.logits_of(&vector.tokens, &[]).unwrap();
        let mut visit = |position: usize, logits: &[f32]| {
            all.count(&expected[position], logits);
            let first = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
            misses.count(&vector, position, (0..logits.len()).fold(0, first) as u32);
            core::ops::ControlFlow::Continue(())
        };
        fast.each_logits(&vector.tokens, &[], 0, &mut visit).unwrap();
    }
    let (relative, divergence, agreement) = all.figures();
    println!("{relative:.5} {divergence:.6} {agreement:.4}, and of llama.cpp's tokens: {misses:?}");
    assert!(all.positions >= 2_560);
    assert!(divergence <= 1e-3, "{divergence}");
    assert!(agreement >= 0.98, "{agreement}");
    // Of llama.cpp's own logits: 0.033.
    assert!(relative <= 0.033, "{relative}");
}
