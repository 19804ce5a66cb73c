//! Adapters merged into one: by the methods' definitions, made once, and kept like an adapter.

use std::collections::BTreeMap;

use openledger_inference::{
    AdapterSetError, BackendKind, Combination, Engine, EngineOptions, MajoritySign, Merge,
    MergeStrategy, Request,
};
use openledger_models::{Adapter, Delta};
use openledger_wire::ids::BlobId;

use crate::support::{adapter, alone, blob, finish, note};
use crate::tiny;

/// On the reference backend adapters keep their 32 bits, so that bits can be compared.
fn engine(adapters: &[(u8, Adapter)]) -> Engine {
    let options = EngineOptions { backend: BackendKind::Reference, ..EngineOptions::default() };
    let mut engine = Engine::new(tiny::model(), options).unwrap();
    for (id, adapter) in adapters {
        engine.put_adapter(blob(*id), adapter.clone()).unwrap();
    }
    engine
}

fn adapters() -> [(u8, Adapter); 3] {
    let model = tiny::model();
    [1, 2, 3].map(|id| (id, adapter(model.config(), u64::from(id), 4)))
}

fn merge(strategy: MergeStrategy, density: f32) -> Merge {
    Merge { strategy, density, majority_sign_method: MajoritySign::Total }
}

fn request(adapters: &[(u8, f32)], merge: Merge) -> Request {
    let mut request = Request::greedy(tiny::bytes("The moral of the story"), 8);
    request.adapters = adapters.iter().map(|(id, weight)| (blob(*id), *weight)).collect();
    request.merge = merge;
    request.logprobs = Some(3);
    request.ignore_end = true;
    request
}

/// What keeps a number of a tensor under DARE, as the documentation states it.
fn kept(id: BlobId, layer: usize, site: usize, half: u8, index: u64, density: f32) -> bool {
    let layer = u32::try_from(layer).unwrap().to_le_bytes();
    let parts: [&[u8]; 4] = [b"openledger/inference/dare/1", &id.0, &layer, &[site as u8, half]];
    let hash = blake3::hash(&parts.concat());
    let seed = u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap());
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    ((z >> 32) as f64) < f64::from(density) * 2f64.powi(32)
}

/// Merging written down plainly: one adapter from several of one rank and scale.
fn merged(parts: &[(u8, Adapter)], weights: &[f32], merge: Merge) -> Adapter {
    let mut deltas = BTreeMap::new();
    for (&(layer, site), first) in &parts[0].1.deltas {
        let half = |half: u8| {
            let mut tensors = Vec::new();
            for (id, adapter) in parts {
                let delta = &adapter.deltas[&(layer, site)];
                let mut values = if half == 0 { delta.a.clone() } else { delta.b.clone() };
                if merge.strategy == MergeStrategy::Ties {
                    let mut order: Vec<usize> = (0..values.len()).collect();
                    order.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()));
                    let keep = (merge.density * values.len() as f32) as usize;
                    order[keep..].iter().for_each(|index| values[*index] = 0.0);
                } else {
                    for (index, value) in values.iter_mut().enumerate() {
                        let keep = kept(
                            blob(*id),
                            layer,
                            site as usize,
                            half,
                            index as u64,
                            merge.density,
                        );
                        *value = if keep { *value / merge.density } else { 0.0 };
                    }
                }
                tensors.push(values);
            }
            let number = |index: usize| {
                let values: Vec<f32> = tensors.iter().map(|values| values[index]).collect();
                let positive = values.iter().sum::<f32>() >= 0.0;
                let (mut sum, mut count) = (0.0, 0.0f32);
                for (value, weight) in values.iter().zip(weights) {
                    let agrees = if positive { *value > 0.0 } else { *value < 0.0 };
                    if merge.strategy == MergeStrategy::DareLinear || agrees {
                        sum += weight * value;
                        count += 1.0;
                    }
                }
                if merge.strategy == MergeStrategy::DareLinear { sum } else { sum / count.max(1.0) }
            };
            (0..tensors[0].len()).map(number).collect::<Vec<f32>>()
        };
        let rank = first.rank;
        deltas.insert((layer, site), Delta { a: half(0), b: half(1), rank });
    }
    Adapter { deltas, ..parts[0].1.clone() }
}

#[test]
fn merges_are_what_their_definitions_say() {
    let parts = adapters();
    let weights = [0.75, 1.0, -0.5];
    let mut engine = engine(&parts);
    let named: Vec<(u8, f32)> = (1..=3).zip(weights).collect();
    let base = alone(&mut engine, &request(&[], Merge::LINEAR));
    for (strategy, density) in [
        (MergeStrategy::Ties, 0.5),
        (MergeStrategy::DareLinear, 0.5),
        (MergeStrategy::DareTies, 0.25),
    ] {
        let merge = merge(strategy, density);
        engine.put_adapter(blob(9), merged(&parts, &weights, merge)).unwrap();
        let found = alone(&mut engine, &request(&named, merge));
        let expected = alone(&mut engine, &request(&[(9, 1.0)], Merge::LINEAR));
        assert_eq!(found.bits, expected.bits, "{strategy}");
        let mut turned = named.clone();
        turned.reverse();
        assert_eq!(found, alone(&mut engine, &request(&turned, merge)), "{strategy}");
        assert_ne!(found.bits, base.bits);
    }
    assert_eq!(engine.adapter_memory().products, 3);
    // No adapters, whatever the method: the bare base.
    let bare = alone(&mut engine, &request(&[], merge(MergeStrategy::Ties, 0.5)));
    assert_eq!(bare, base);
}

#[test]
fn scales_are_brought_together_first() {
    let mut parts = adapters();
    let method = merge(MergeStrategy::DareLinear, 1.0);
    let found = alone(&mut engine(&parts), &request(&[(1, 1.0), (2, 1.0)], method));
    // A quarter of the scale, twice A and twice B: the same adapter.
    parts[1].1.scale /= 4.0;
    for delta in parts[1].1.deltas.values_mut() {
        delta.a.iter_mut().chain(&mut delta.b).for_each(|value| *value *= 2.0);
    }
    let other = alone(&mut engine(&parts), &request(&[(1, 1.0), (2, 1.0)], method));
    assert_eq!(found.bits, other.bits);
}

#[test]
fn a_product_is_made_once_and_again_when_its_parts_change() {
    let mut engine = engine(&adapters());
    let ties = || request(&[(1, 1.0), (2, 1.0)], merge(MergeStrategy::Ties, 0.5));
    engine.submit(ties()).unwrap();
    let job = engine.take_merge().unwrap();
    assert!(engine.take_merge().is_none(), "in hand");
    assert!(engine.step().unwrap().is_empty() && engine.running() == 0, "and left to who has it");
    let outcome = std::thread::spawn(move || job.run()).join().unwrap();
    engine.put_merged(outcome);
    let mut answers = BTreeMap::new();
    while !engine.is_idle() {
        note(&mut answers, engine.step().unwrap());
    }
    let first = answers.into_values().next().unwrap();
    assert_eq!(engine.adapter_memory().products, 1);
    engine.submit(ties()).unwrap();
    assert!(engine.take_merge().is_none(), "it is there");
    assert_eq!(finish(&mut engine).into_values().next().unwrap().bits, first.bits);
    // A job that is dropped is run by the engine.
    let swapped = || request(&[(1, 0.5), (2, 1.0)], merge(MergeStrategy::Ties, 0.5));
    engine.submit(swapped()).unwrap();
    drop(engine.take_merge().unwrap());
    assert!(finish(&mut engine).into_values().next().unwrap().end.is_some());
    assert_eq!(engine.adapter_memory().products, 2);
    // Another generation of a part: other products.
    let config = engine.model().config().clone();
    engine.put_adapter(blob(2), adapter(&config, 77, 4)).unwrap();
    assert_eq!(engine.adapter_memory().products, 0);
    assert_ne!(alone(&mut engine, &ties()).bits, first.bits);
}

#[test]
fn products_need_their_parts_only_to_be_made() {
    let parts = adapters();
    let memory = engine(&parts[..1]).adapter_memory();
    // Room for two parts and their product.
    let options = EngineOptions {
        backend: BackendKind::Reference,
        adapters_bytes_max: 3 * memory.bytes,
        ..EngineOptions::default()
    };
    let mut engine = Engine::new(tiny::model(), options).unwrap();
    for (id, adapter) in &parts {
        engine.register_adapter(blob(*id));
        engine.put_adapter(blob(*id), adapter.clone()).unwrap();
    }
    let ties = request(&[(1, 1.0), (2, 1.0)], merge(MergeStrategy::Ties, 0.5));
    let first = alone(&mut engine, &ties);
    assert!(!engine.has_adapter(&blob(3)), "put out for the product");
    let ids = engine.evict_idle(0, 0);
    assert_eq!(ids, [blob(1), blob(2)]);
    assert_eq!(engine.adapter_memory().bytes, 0);
    engine.submit(ties.clone()).unwrap();
    assert_eq!(engine.wanted(), [blob(1), blob(2)]);
    for (id, adapter) in parts.iter().take(2) {
        engine.put_adapter(blob(*id), adapter.clone()).unwrap();
    }
    assert_eq!(finish(&mut engine).into_values().next().unwrap().bits, first.bits);
}

#[test]
fn merges_that_make_no_sense_are_refused() {
    let mut parts = adapters();
    let model = tiny::model();
    parts[1].1 = adapter(model.config(), 2, 8);
    let mut engine = engine(&parts);
    let ties = merge(MergeStrategy::Ties, 0.5);
    let id = engine.submit(request(&[(1, 1.0), (2, 1.0)], ties)).unwrap();
    let fine = engine.submit(request(&[(1, 1.0), (3, 1.0)], ties)).unwrap();
    let answers = finish(&mut engine);
    let failure = answers[&id].failure.clone().unwrap();
    assert!(failure.contains("different ranks (4 and 8"), "{failure}");
    assert!(answers[&fine].end.is_some());
    let linear = alone(&mut engine, &request(&[(1, 1.0), (2, 1.0)], Merge::LINEAR));
    assert!(linear.end.is_some(), "a sum needs no equal ranks");
    let none = request(&[(1, 1.0)], merge(MergeStrategy::DareTies, 0.0));
    let error = engine.submit(none).unwrap_err().to_string();
    assert!(error.contains("density 0 is not above 0"), "{error}");
}

#[test]
fn combinations_are_named_like_adapters() {
    let mut engine = engine(&adapters());
    let save = |engine: &mut Engine, id: u8, parts: &[(u8, f32)], merge: Merge| {
        let adapters = parts.iter().map(|(id, weight)| (blob(*id), *weight)).collect();
        engine.save_combination(blob(id), Combination { adapters, merge })
    };
    save(&mut engine, 10, &[(1, 0.5), (2, 0.25)], Merge::LINEAR).unwrap();
    let ties = merge(MergeStrategy::Ties, 0.5);
    save(&mut engine, 11, &[(1, 1.0), (3, 1.0)], ties).unwrap();
    assert!(engine.knows_adapter(&blob(10)) && engine.combinations().count() == 2);
    let mut answer =
        |parts: &[(u8, f32)], merge: Merge| alone(&mut engine, &request(parts, merge)).bits;
    let linear = Merge::LINEAR;
    assert_eq!(answer(&[(10, 1.0)], linear), answer(&[(1, 0.5), (2, 0.25)], linear));
    assert_eq!(answer(&[(10, 2.0), (2, 0.5)], linear), answer(&[(1, 1.0), (2, 1.0)], linear));
    assert_eq!(answer(&[(11, 1.0)], linear), answer(&[(1, 1.0), (3, 1.0)], ties));
    assert_ne!(answer(&[(11, 0.5), (2, 1.0)], linear), answer(&[(11, 1.0), (2, 1.0)], linear));
    for (result, says) in [
        (save(&mut engine, 1, &[(2, 1.0)], linear), "named twice"),
        (save(&mut engine, 12, &[], linear), "names no adapters"),
        (save(&mut engine, 12, &[(10, 1.0)], linear), "is a saved combination"),
        (save(&mut engine, 12, &[(7, 1.0)], linear), "is not loaded"),
        (save(&mut engine, 12, &[(1, 99.0)], linear), "weight 99"),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let nested = engine.submit(request(&[(10, 1.0), (1, 1.0)], ties)).unwrap_err().to_string();
    assert!(nested.contains("cannot be part of another"), "{nested}");
    let config = engine.model().config().clone();
    let taken = engine.put_adapter(blob(10), adapter(&config, 5, 4)).unwrap_err().to_string();
    assert!(taken.contains("a combination is saved under that id"), "{taken}");
    assert!(engine.drop_adapter(&blob(10)) && !engine.knows_adapter(&blob(10)));
    assert!(engine.drop_adapter(&blob(3)));
    let gone = engine.submit(request(&[(11, 1.0)], linear)).unwrap_err();
    let error = AdapterSetError::Unknown { id: blob(3) };
    assert_eq!(gone, openledger_inference::SubmitError::Adapters(error));
}

#[test]
fn answers_of_merged_adapters_can_be_checked() {
    let mut engine = engine(&adapters());
    let asked = request(&[(1, 1.0), (2, 0.5)], merge(MergeStrategy::DareTies, 0.5));
    let answer = alone(&mut engine, &asked);
    let tolerance = openledger_inference::Tolerance::REFERENCE;
    assert!(engine.verify(&asked, &answer.tokens, tolerance).unwrap().accepted);
    let other = Request { merge: Merge::LINEAR, ..asked };
    assert!(!engine.verify(&other, &answer.tokens, tolerance).unwrap().accepted);
}
