//! The model's definition written down plainly, in `f64`, whole sequences at once; and the engine
//! against it.

use std::sync::Arc;

use openledger_inference::{BackendKind, Engine, EngineOptions, KvFormat, LoraFormat};
use openledger_models::{Adapter, Site};

use crate::support::{adapter, blob};
use crate::tiny::{self, EPSILON, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, Kind, Tiny, Weights};

fn product(weights: &Weights, x: &[f64]) -> Vec<f64> {
    let dot = |row: &[f64]| row.iter().zip(x).map(|(w, x)| w * x).sum();
    weights.values.chunks(weights.cols).map(dot).collect()
}

fn norm(x: &[f64], weights: &Weights) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (mean + f64::from(EPSILON)).sqrt();
    x.iter().zip(&weights.values).map(|(x, w)| x * scale * w).collect()
}

/// A site with its bias and adapters.
fn site(
    model: &Tiny,
    adapters: &[(&Adapter, f64)],
    layer: usize,
    site: Site,
    x: &[f64],
) -> Vec<f64> {
    let own = &model.layers[layer];
    let mut out = product(&own.sites[site as usize], x);
    if let Some(bias) = own.biases.get(site as usize) {
        out.iter_mut().zip(&bias.values).for_each(|(out, bias)| *out += bias);
    }
    for (adapter, weight) in adapters {
        let Some(delta) = adapter.deltas.get(&(layer, site)) else { continue };
        let wide = |values: &[f32], cols| Weights {
            cols,
            values: values.iter().map(|value| f64::from(*value)).collect(),
        };
        let inner = product(&wide(&delta.a, x.len()), x);
        let update = product(&wide(&delta.b, delta.rank), &inner);
        for (out, update) in out.iter_mut().zip(update) {
            *out += f64::from(adapter.scale) * weight * update;
        }
    }
    out
}

fn turn(model: &Tiny, x: &mut [f64], position: usize) {
    for head in x.chunks_mut(HEAD_DIM) {
        for i in 0..HEAD_DIM / 2 {
            let factor = model.factors.as_ref().map_or(1.0, |factors| factors[i]);
            let frequency = 10_000f64.powf(-2.0 * i as f64 / HEAD_DIM as f64) / factor;
            let (sine, cosine) = (position as f64 * frequency).sin_cos();
            let (a, b) = if model.halves { (i, i + HEAD_DIM / 2) } else { (2 * i, 2 * i + 1) };
            (head[a], head[b]) =
                (head[a] * cosine - head[b] * sine, head[a] * sine + head[b] * cosine);
        }
    }
}

/// The logits at every position.
fn logits(model: &Tiny, adapters: &[(&Adapter, f64)], tokens: &[u32]) -> Vec<Vec<f64>> {
    let embed = |token: &u32| model.embedding.values[*token as usize * HIDDEN..][..HIDDEN].to_vec();
    let mut states: Vec<Vec<f64>> = tokens.iter().map(embed).collect();
    for layer in 0..model.layers.len() {
        let own = &model.layers[layer];
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (position, x) in states.iter_mut().enumerate() {
            let h = norm(x, &own.norms[0]);
            let mut q = site(model, adapters, layer, Site::Query, &h);
            let mut k = site(model, adapters, layer, Site::Key, &h);
            turn(model, &mut q, position);
            turn(model, &mut k, position);
            keys.push(k);
            values.push(site(model, adapters, layer, Site::Value, &h));
            let mut mixed = Vec::new();
            for (head, q) in q.chunks(HEAD_DIM).enumerate() {
                let at = head / (HEADS / KV_HEADS) * HEAD_DIM;
                let score = |key: &Vec<f64>| {
                    let dot: f64 = q.iter().zip(&key[at..]).map(|(q, k)| q * k).sum();
                    (dot / (HEAD_DIM as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = keys.iter().map(score).collect();
                let total: f64 = scores.iter().sum();
                mixed.extend((0..HEAD_DIM).map(|d| {
                    let weighted = scores.iter().zip(&values).map(|(s, v)| s * v[at + d]);
                    weighted.sum::<f64>() / total
                }));
            }
            let out = site(model, adapters, layer, Site::Output, &mixed);
            x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
            let h = norm(x, &own.norms[1]);
            let gate = site(model, adapters, layer, Site::Gate, &h);
            let up = site(model, adapters, layer, Site::Up, &h);
            let inner: Vec<f64> =
                gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            let out = site(model, adapters, layer, Site::Down, &inner);
            x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
        }
    }
    let head = model.head.as_ref().unwrap_or(&model.embedding);
    states.iter().map(|x| product(head, &norm(x, &model.output_norm))).collect()
}

/// The relative error of all logits together: of the roots of the sums of squares.
fn difference(found: &[Vec<f32>], expected: &[Vec<f64>]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let size: f64 = expected.iter().flatten().map(|logit| logit * logit).sum();
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    (pairs.map(|(a, b)| (f64::from(*a) - b).powi(2)).sum::<f64>() / size).sqrt()
}

/// Each way to compute, with the largest difference that its roundings explain. The tiny model
/// averages roundings over few numbers, so it is farther off than a real one.
fn settings() -> [(EngineOptions, f64); 5] {
    let default = EngineOptions::default();
    let fast =
        |kv, adapters| EngineOptions { backend: BackendKind::Int12, kv, adapters, ..default };
    let exact = fast(KvFormat::F32, LoraFormat::F32);
    let whole = EngineOptions { backend: BackendKind::Int12Whole, ..exact };
    [
        (EngineOptions { backend: BackendKind::Reference, ..default }, 1e-5),
        (exact, 0.02),
        (whole, 0.01),
        (fast(KvFormat::F16, LoraFormat::F16), 0.02),
        (fast(KvFormat::Q8, LoraFormat::Q8), 0.03),
    ]
}

fn tokens() -> Vec<u32> {
    (0..45u32).map(|i| i * i * 31 % tiny::VOCAB as u32).collect()
}

#[test]
fn every_relative_of_the_family_gives_the_logits_of_its_definition() {
    for kind in [Kind::Llama, Kind::Factors, Kind::Qwen2] {
        let written = tiny::write(kind, 5);
        let expected = logits(&written, &[], &tokens());
        for (options, bound) in settings() {
            let options = EngineOptions { page_tokens: 4, chunk_tokens_max: 7, ..options };
            let mut engine = Engine::new(tiny::open(&written), options).unwrap();
            let found = engine.logits_of(&tokens(), &[]).unwrap();
            let difference = difference(&found, &expected);
            assert!(difference < bound, "{difference} with {options:?}");
        }
    }
}

#[test]
fn adapters_and_weighted_mixtures_give_the_logits_of_their_definition() {
    for kind in [Kind::Llama, Kind::Qwen2] {
        let written = tiny::write(kind, 6);
        let model = tiny::open(&written);
        let base = logits(&written, &[], &tokens());
        for (options, bound) in settings() {
            let mut engine = Engine::new(Arc::clone(&model), options).unwrap();
            let config = engine.model().config().clone();
            let adapters = [adapter(&config, 1, 4), adapter(&config, 2, 7)];
            for (index, adapter) in adapters.iter().enumerate() {
                engine.put_adapter(blob(index as u8), adapter.clone()).unwrap();
            }
            for (first, second) in [(1.0, 0.0), (0.0, 1.0), (0.75, 0.5), (1.0, -1.0)] {
                let named = [(blob(0), first as f32), (blob(1), second as f32)];
                let found = engine.logits_of(&tokens(), &named).unwrap();
                let mixed = [(&adapters[0], first), (&adapters[1], second)];
                let off = difference(&found, &logits(&written, &mixed, &tokens()));
                assert!(off < bound, "{off} with {options:?}");
                assert!(difference(&found, &base) > 2.0 * bound, "the adapters are felt");
            }
        }
    }
}
