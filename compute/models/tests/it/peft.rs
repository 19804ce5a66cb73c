//! Adapters: what PEFT writes is read, and what does not fit is named.

use std::collections::{BTreeMap, BTreeSet};

use openledger_models::peft::{self, to_engine_rows, to_peft_rows};
use openledger_models::safetensors::{FloatKind, Safetensors, StoredTensor};
use openledger_models::{
    Adapter, AdapterBundle, AdapterSpec, Delta, ModelConfig, RopeLayout, Site,
};

use crate::support::{open, tiny};

fn config() -> ModelConfig {
    open(tiny()).unwrap().config().clone()
}

fn spec(rank: usize, sites: &[Site]) -> AdapterSpec {
    let sites = BTreeSet::from_iter(sites.iter().copied());
    AdapterSpec { rank, alpha: 8.0, sites, base_name: "Tiny".to_owned() }
}

/// Values that 16-bit floats hold.
fn counted(length: usize) -> Vec<f32> {
    (0..length).map(|n| (n % 200) as f32 / 8.0).collect()
}

fn deltas(rank: usize, sites: &[Site]) -> BTreeMap<(usize, Site), Delta> {
    let config = config();
    let delta = |site: &Site| {
        let (rows, cols) = site.shape(&config);
        Delta { a: counted(rank * cols), b: counted(rows * rank), rank }
    };
    sites.iter().map(|site| ((1, *site), delta(site))).collect()
}

#[test]
fn what_is_written_is_read() {
    let config = config();
    let sites = [Site::Query, Site::Value, Site::Down];
    let written = deltas(4, &sites);
    let (json, tensors) = peft::write(&spec(4, &sites), &written);
    let adapter = Adapter::parse(&json, &tensors, &config).unwrap();
    assert_eq!((adapter.rank, adapter.scale), (4, 2.0));
    assert_eq!(adapter.deltas.len(), 3);
    for ((layer, site), delta) in &written {
        let read = &adapter.deltas[&(*layer, *site)];
        assert_eq!((&read.a, read.rank), (&delta.a, 4));
        assert_eq!(to_peft_rows(read.b.clone(), 4, *site, &config), delta.b);
    }
    assert_eq!(adapter.deltas[&(1, Site::Value)].b, written[&(1, Site::Value)].b);
    assert_ne!(adapter.deltas[&(1, Site::Query)].b, written[&(1, Site::Query)].b);
    let floats: usize = written.values().map(|d| d.a.len() + d.b.len()).sum();
    assert_eq!(adapter.bytes(), 4 * floats);
    // 16-bit floats where they suffice.
    assert!(tensors.len() < 2 * floats + 2_000);
    let text = String::from_utf8(json).unwrap();
    assert!(text.contains("\"target_modules\":[\"q_proj\",\"v_proj\",\"down_proj\"]"), "{text}");
}

#[test]
fn query_rows_follow_the_models_own_order() {
    // One column, two heads of four rows: halves become neighbours.
    let config = ModelConfig { heads: 2, kv_heads: 2, head_dim: 4, hidden: 8, ..config() };
    let library = vec![0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0];
    let engine = to_engine_rows(library.clone(), 1, Site::Query, &config);
    assert_eq!(engine, [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0]);
    assert_eq!(to_peft_rows(engine, 1, Site::Query, &config), library);
    let halves = ModelConfig { rope_layout: RopeLayout::Halves, ..config.clone() };
    assert_eq!(to_engine_rows(library.clone(), 1, Site::Key, &halves), library);
    assert_eq!(to_engine_rows(library.clone(), 1, Site::Value, &config), library);
    let two_columns = vec![0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5];
    let engine = to_engine_rows(two_columns, 2, Site::Key, &config);
    assert_eq!(engine, [0.0, 0.5, 2.0, 2.5, 1.0, 1.5, 3.0, 3.5]);
}

#[test]
fn numbers_of_every_width_are_read() {
    let config = config();
    let (json, _) = peft::write(&spec(1, &[Site::Key]), &deltas(1, &[Site::Key]));
    let bytes = |kind: FloatKind, length: usize| match kind {
        FloatKind::F32 => 1.5f32.to_le_bytes().repeat(length),
        FloatKind::F16 => 0x3e00u16.to_le_bytes().repeat(length),
        _ => 0x3fc0u16.to_le_bytes().repeat(length),
    };
    for kind in [FloatKind::F32, FloatKind::F16, FloatKind::Bf16] {
        let (a, b) = (bytes(kind, 32), bytes(kind, 16));
        let name = |part: &str| {
            format!("base_model.model.model.layers.0.self_attn.k_proj.lora_{part}.weight")
        };
        let tensor = |bytes, shape: [u64; 2]| StoredTensor { kind, shape: shape.to_vec(), bytes };
        let tensors = BTreeMap::from([
            (name("A"), tensor(a.as_slice(), [1, 32])),
            (name("B"), tensor(b.as_slice(), [16, 1])),
        ]);
        let file = Safetensors { tensors, metadata: BTreeMap::new() }.to_bytes();
        let adapter = Adapter::parse(&json, &file, &config).unwrap();
        let delta = &adapter.deltas[&(0, Site::Key)];
        assert_eq!((&delta.a, &delta.b), (&vec![1.5; 32], &vec![1.5; 16]));
    }
}

/// A file with one renamed, reshaped or changed tensor of a sound adapter.
fn changed(change: impl Fn(&mut BTreeMap<String, StoredTensor<'static>>)) -> String {
    static BYTES: [u8; 512] = [0; 512];
    let sites = [Site::Key];
    let (json, tensors) = peft::write(&spec(1, &sites), &deltas(1, &sites));
    let file = Safetensors::parse(&tensors).unwrap();
    let mut tensors: BTreeMap<String, StoredTensor<'static>> = BTreeMap::new();
    for (name, tensor) in file.tensors {
        let bytes = &BYTES[..tensor.bytes.len()];
        tensors.insert(name, StoredTensor { kind: tensor.kind, shape: tensor.shape, bytes });
    }
    change(&mut tensors);
    let file = Safetensors { tensors, metadata: BTreeMap::new() }.to_bytes();
    Adapter::parse(&json, &file, &config()).unwrap_err().to_string()
}

fn renamed(from: &str, to: &str) -> String {
    changed(|tensors| {
        let old: Vec<_> = std::mem::take(tensors).into_iter().collect();
        tensors.extend(old.into_iter().map(|(name, tensor)| (name.replace(from, to), tensor)));
    })
}

#[test]
fn what_does_not_fit_is_named() {
    assert!(renamed("layers.1.", "layers.2.").contains("past the model's 2"));
    assert!(renamed("layers.1.", "layers.01.").contains("layers.01."));
    assert!(
        renamed("self_attn.k_proj", "mlp.router")
            .contains("\"base_model.model.model.layers.1.mlp.router.lora_A")
    );
    assert!(renamed("lora_A.weight", "lora_magnitude_vector").contains("use_dora is in tensor"));
    assert!(renamed("base_model.model.", "").contains("is not known"));
    assert!(renamed("lora_B", "lora_embedding_B").contains("is not known"));
    assert!(changed(|tensors| drop(tensors.pop_last())).contains("k_proj has no lora_B"));
    assert!(changed(|tensors| drop(tensors.pop_first())).contains("k_proj has no lora_A"));
    assert!(changed(BTreeMap::clear).contains("has no tensors"));
    let wide = changed(|tensors| {
        for tensor in tensors.values_mut() {
            tensor.shape.reverse();
        }
    });
    assert!(wide.contains("is [32, 1] where [1, 32] is needed"), "{wide}");
    static NAN: [u8; 64] = [0xff; 64];
    let nan = changed(|tensors| {
        for tensor in tensors.values_mut() {
            tensor.bytes = &NAN[..tensor.bytes.len()];
        }
    });
    assert!(nan.contains("layers.1.self_attn.k_proj has numbers that are not finite"), "{nan}");
}

#[test]
fn damaged_files_are_named() {
    let error = |bytes: &[u8]| Safetensors::parse(bytes).unwrap_err().to_string();
    let file = |header: &str, data: usize| {
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], header.as_bytes(), &vec![0; data]].concat()
    };
    assert!(error(b"abc").contains("5 bytes are missing"));
    assert!(error(&u64::MAX.to_le_bytes()).contains("18446744073709551615 bytes"));
    assert!(error(&100u64.to_le_bytes()).contains("100 bytes are missing"));
    assert!(error(&file("[]", 0)).contains("a map of tensors"));
    assert!(error(&file("{\"a\":1}", 0)).contains("tensor \"a\""));
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!("{{\"a\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    assert!(Safetensors::parse(&file(&one("F32", "[2]", "[0,8]"), 8)).is_ok());
    assert!(error(&file(&one("F32", "[2]", "[0,8]"), 7)).contains("1 bytes are missing"));
    assert!(error(&file(&one("F32", "[2]", "[0,8]"), 9)).contains("1 bytes at 8 belong"));
    assert!(error(&file(&one("F32", "[2]", "[4,12]"), 12)).contains("4 bytes at 0 belong"));
    assert!(error(&file(&one("F32", "[3]", "[0,8]"), 8)).contains("does not fit"));
    assert!(error(&file(&one("F32", "[2]", "[8,0]"), 8)).contains("does not fit"));
    assert!(error(&file(&one("F32", "[0]", "[0,0]"), 0)).contains("does not fit"));
    let huge = one("F32", "[4294967296,4294967296,4294967296]", "[0,8]");
    assert!(error(&file(&huge, 8)).contains("does not fit"));
    assert!(error(&file(&one("I64", "[1]", "[0,8]"), 8)).contains("is \"I64\" where F32"));
    let twice = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\
        \"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}";
    assert!(
        error(&file(twice, 8)).contains("\\\"a\\\" appears twice")
            || error(&file(twice, 8)).contains("\"a\" appears twice")
    );
    let shared = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\
        \"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}";
    assert!(error(&file(shared, 8)).contains("belong to no tensor"));
    let notes = "{\"__metadata__\":{\"a\":1}}";
    assert!(error(&file(notes, 0)).contains("cannot be read"));
}

#[test]
fn an_adapter_is_one_file() {
    let config = config();
    let sites = [Site::Gate];
    let (json, tensors) = peft::write(&spec(2, &sites), &deltas(2, &sites));
    let bundle = AdapterBundle::pack(&json, &tensors).unwrap();
    assert_eq!(AdapterBundle::pack(&json, &tensors).unwrap(), bundle);
    assert_eq!(AdapterBundle::unpack(&bundle).unwrap(), (json.clone(), tensors.clone()));
    let adapter = Adapter::from_bundle(&bundle, &config).unwrap();
    assert_eq!(adapter, Adapter::parse(&json, &tensors, &config).unwrap());
    let error = AdapterBundle::unpack(&tensors).unwrap_err().to_string();
    assert!(error.contains("no note \"adapter_config\""), "{error}");
    assert!(AdapterBundle::pack(b"\xff", &tensors).is_err());
    assert!(
        AdapterBundle::pack(&[b' '; 70_000], &tensors).unwrap_err().to_string().contains("70000")
    );
    assert!(AdapterBundle::pack(&json, b"short").is_err());
}

#[test]
fn seeds_make_adapters() {
    let config = config();
    let (json, tensors) = peft::synthesize(&config, 1, 4, 0.2);
    assert_eq!(peft::synthesize(&config, 1, 4, 0.2), (json.clone(), tensors.clone()));
    assert_ne!(peft::synthesize(&config, 2, 4, 0.2).1, tensors);
    let adapter = Adapter::parse(&json, &tensors, &config).unwrap();
    assert_eq!((adapter.rank, adapter.scale), (4, 1.0));
    assert_eq!(adapter.deltas.len(), 2 * Site::ALL.len());
    let delta = &adapter.deltas[&(0, Site::Down)];
    let deviation = |numbers: &[f32]| {
        (numbers.iter().map(|n| n * n).sum::<f32>() / numbers.len() as f32).sqrt()
    };
    let (a, b) = (deviation(&delta.a) * 8.0, deviation(&delta.b) * 2.0);
    assert!((0.8..1.2).contains(&a) && (0.15..0.25).contains(&b), "{a} {b}");
    let strange = peft::synthesize(&config, 1, 10_000, f32::NAN);
    assert_eq!(Adapter::parse(&strange.0, &strange.1, &config).unwrap().rank, 256);
}
