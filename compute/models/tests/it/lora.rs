//! Adapters in all their forms: patterns, folders, single files, GGUF.

use std::collections::BTreeSet;
use std::path::Path;

use openledger_models::peft::{self, to_engine_rows, to_peft_rows};
use openledger_models::{
    Adapter, AdapterBundle, AdapterSpec, Delta, GgufWriter, ModelConfig, RopeLayout, Site,
    TensorKind,
};

use crate::support::{open, tiny};

fn config() -> ModelConfig {
    open(tiny()).unwrap().config().clone()
}

/// Numbers that 16-bit floats hold.
fn counted(length: usize) -> Vec<f32> {
    (0..length).map(|n| (n % 200) as f32 / 8.0).collect()
}

fn delta(site: Site, rank: usize) -> Delta {
    let (rows, cols) = site.shape(&config());
    Delta { a: counted(rank * cols), b: counted(rows * rank), rank }
}

/// Both files of an adapter with modules of two ranks, and options of its own.
fn mixed(more: &str) -> (Vec<u8>, Vec<u8>) {
    let sites = [(Site::Key, 4), (Site::Up, 2)];
    let deltas = sites.map(|(site, rank)| ((1, site), delta(site, rank)));
    let spec = AdapterSpec {
        rank: 4,
        alpha: 8.0,
        sites: BTreeSet::from([Site::Key, Site::Up]),
        base_name: "Tiny".to_owned(),
    };
    let (json, tensors) = peft::write(&spec, &deltas.into());
    let json = String::from_utf8(json).unwrap().replacen('{', &format!("{{{more},"), 1);
    (json.into_bytes(), tensors)
}

#[test]
fn patterns_set_modules_apart() {
    let (json, tensors) = mixed("\"rank_pattern\": {\".*up_proj\": 2}");
    let adapter = Adapter::parse(&json, &tensors, &config()).unwrap();
    assert_eq!((adapter.rank, adapter.scale), (4, 2.0));
    assert_eq!(adapter.deltas[&(1, Site::Key)].rank, 4);
    let up = &adapter.deltas[&(1, Site::Up)];
    // Its scale is 8 / 2, twice the adapter's.
    let doubled: Vec<f32> = delta(Site::Up, 2).b.iter().map(|b| 2.0 * b).collect();
    assert_eq!((up.rank, &up.a, &up.b), (2, &delta(Site::Up, 2).a, &doubled));

    let halved = "\"rank_pattern\": {\"up_proj\": 2}, \"alpha_pattern\": {\"k_proj\": 4}";
    let (json, tensors) = mixed(halved);
    let adapter = Adapter::parse(&json, &tensors, &config()).unwrap();
    let key = &adapter.deltas[&(1, Site::Key)];
    let half: Vec<f32> = delta(Site::Key, 4).b.iter().map(|b| b / 2.0).collect();
    assert_eq!(to_peft_rows(key.b.clone(), 4, Site::Key, &config()), half);

    let (json, tensors) = mixed("\"rank_pattern\": {}");
    let error = Adapter::parse(&json, &tensors, &config()).unwrap_err().to_string();
    assert!(error.contains("up_proj") && error.contains("is [2, 32] where [4, 32]"), "{error}");
}

#[test]
fn models_that_see_have_other_names_for_their_layers() {
    let (json, tensors) = peft::synthesize(&config(), 1, 2, 0.5);
    let renamed = |to: &str| {
        let text = b"base_model.model.model.layers";
        let mut file = tensors.clone();
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let mut head = String::from_utf8(file[8..8 + header].to_vec()).unwrap();
        head = head.replace(std::str::from_utf8(text).unwrap(), to);
        let data = file.split_off(8 + header);
        [&(head.len() as u64).to_le_bytes()[..], head.as_bytes(), &data].concat()
    };
    let plain = Adapter::parse(&json, &tensors, &config()).unwrap();
    for name in [
        "base_model.model.model.language_model.layers",
        "base_model.model.language_model.model.layers",
    ] {
        assert_eq!(Adapter::parse(&json, &renamed(name), &config()).unwrap(), plain);
    }
    assert!(Adapter::parse(&json, &renamed("model.layers"), &config()).is_err());
}

#[test]
fn adapters_are_opened_where_they_lie() {
    let config = config();
    let (json, tensors) = peft::synthesize(&config, 5, 2, 0.5);
    let adapter = Adapter::parse(&json, &tensors, &config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let error = |path: &Path| Adapter::open(path, &config).unwrap_err().to_string();
    write("plain/adapter_model.bin", b"pickle");
    assert!(error(&folder.path().join("plain")).contains("a pickle, which can run anything"));
    write("plain/adapter_config.json", &json);
    let file = write("plain/adapter_model.safetensors", &tensors);
    for path in [folder.path().join("plain"), file] {
        assert_eq!(Adapter::open(&path, &config).unwrap(), adapter);
    }
    let packed = write("one.safetensors", &AdapterBundle::pack(&json, &tensors).unwrap());
    assert_eq!(Adapter::open(&packed, &config).unwrap(), adapter);
    let bare = write("bare.safetensors", &tensors);
    assert!(error(&bare).contains("no note"));
    assert!(error(&folder.path().join("absent")).contains("check that it exists"));
    let gguf = write("lora.gguf", &written(&config, 4.0, TensorKind::F32).finish());
    assert_eq!(Adapter::open(&gguf, &config).unwrap().rank, 3);
}

/// A GGUF adapter of queries with rank 3 and of the up projection with rank 1.
fn written(config: &ModelConfig, alpha: f32, kind: TensorKind) -> GgufWriter {
    let bytes = |floats: &[f32]| -> Vec<u8> {
        match kind {
            TensorKind::F32 => floats.iter().flat_map(|f| f.to_le_bytes()).collect(),
            TensorKind::F16 => {
                floats.iter().flat_map(|f| half::f16::from_f32(*f).to_le_bytes()).collect()
            }
            _ => floats.iter().flat_map(|f| half::bf16::from_f32(*f).to_le_bytes()).collect(),
        }
    };
    let mut writer = GgufWriter::new()
        .text("general.type", "adapter")
        .text("adapter.type", "lora")
        .text("general.architecture", &config.architecture)
        .f32("adapter.lora.alpha", alpha);
    for (site, name, rank) in [(Site::Query, "attn_q", 3), (Site::Up, "ffn_up", 1)] {
        let (rows, cols) = site.shape(config);
        let Delta { a, b, .. } = delta(site, rank);
        let rank = rank as u64;
        let name = format!("blk.0.{name}.weight");
        writer = writer
            .tensor(&format!("{name}.lora_a"), &[cols as u64, rank], kind, &bytes(&a))
            .tensor(&format!("{name}.lora_b"), &[rank, rows as u64], kind, &bytes(&b));
    }
    writer
}

#[test]
fn gguf_adapters_have_ranks_of_their_own_and_the_models_rows() {
    let config = config();
    for kind in [TensorKind::F32, TensorKind::F16, TensorKind::Bf16] {
        let file = written(&config, 6.0, kind).finish();
        let adapter = Adapter::from_gguf(&file, &config).unwrap();
        assert_eq!((adapter.rank, adapter.scale), (3, 2.0));
        let query = &adapter.deltas[&(0, Site::Query)];
        if kind != TensorKind::Bf16 {
            assert_eq!((query.rank, &query.b), (3, &delta(Site::Query, 3).b));
            // Of rank 1 its scale is 6, three times the adapter's.
            let tripled: Vec<f32> = delta(Site::Up, 1).b.iter().map(|b| 3.0 * b).collect();
            assert_eq!(adapter.deltas[&(0, Site::Up)].b, tripled);
        }
    }
    // Alpha 0 is a scale of 1, whatever the rank.
    let adapter = Adapter::from_gguf(&written(&config, 0.0, TensorKind::F32).finish(), &config);
    let adapter = adapter.unwrap();
    assert_eq!((adapter.scale, &adapter.deltas[&(0, Site::Up)].b), (1.0, &delta(Site::Up, 1).b));
    // A base from the transformers library has its rows in the library's order.
    let halves = ModelConfig { rope_layout: RopeLayout::Halves, ..config.clone() };
    let file = written(&config, 3.0, TensorKind::F32).finish();
    let adapter = Adapter::from_gguf(&file, &halves).unwrap();
    let query = adapter.deltas[&(0, Site::Query)].b.clone();
    assert_eq!(to_engine_rows(query, 3, Site::Query, &config), delta(Site::Query, 3).b);
}

#[test]
fn packed_gguf_adapters_are_unpacked() {
    let config = config();
    // A scale of 0.5, then the numbers from -16 on.
    let block: Vec<u8> = [0x00, 0x38].into_iter().chain((0..32).map(|n| (n - 16) as u8)).collect();
    let b: Vec<u8> = (0..32).flat_map(|n| (n as f32).to_le_bytes()).collect();
    let writer = |kind: &str| {
        GgufWriter::new()
            .text("general.type", kind)
            .text("adapter.type", "lora")
            .text("general.architecture", "llama")
            .f32("adapter.lora.alpha", 1.0)
    };
    let file = writer("adapter")
        .tensor("blk.1.attn_v.weight.lora_a", &[32, 1], TensorKind::Q8_0, &block)
        .tensor("blk.1.attn_v.weight.lora_b", &[1, 16], TensorKind::F32, &b[..64])
        .finish();
    let adapter = Adapter::from_gguf(&file, &config).unwrap();
    let expected: Vec<f32> = (0..32).map(|n| (n - 16) as f32 / 2.0).collect();
    assert_eq!(adapter.deltas[&(1, Site::Value)].a, expected);

    let error =
        |writer: GgufWriter| Adapter::from_gguf(&writer.finish(), &config).unwrap_err().to_string();
    assert!(error(writer("model")).contains("general.type is \"model\" where \"adapter\""));
    assert!(error(writer("adapter")).contains("has no tensors"));
    let one = |name: &str, shape: [u64; 2], kind: TensorKind, bytes: &[u8]| {
        writer("adapter").tensor(name, &shape, kind, bytes)
    };
    let zeros = vec![0; 64 * 64 * 4];
    let a = "blk.0.attn_v.weight.lora_a";
    let f32 = TensorKind::F32;
    assert!(error(one(a, [32, 2], f32, &zeros[..256])).contains("has no lora_B"));
    let token = "token_embd.weight.lora_a";
    assert!(error(one(token, [32, 2], f32, &zeros[..256])).contains("is not known"));
    let layer = "blk.2.attn_v.weight.lora_a";
    assert!(error(one(layer, [32, 2], f32, &zeros[..256])).contains("past the model's 2"));
    let b = "blk.0.attn_v.weight.lora_b";
    let pair = |rank: u64, rows: u64, kind: TensorKind| {
        let length = kind.bytes_of(&[32, rank]).unwrap();
        one(a, [32, rank], kind, &zeros[..length]).tensor(
            b,
            &[rank, rows],
            f32,
            &zeros[..(rank * rows * 4) as usize],
        )
    };
    assert!(Adapter::from_gguf(&pair(2, 16, f32).finish(), &config).is_ok());
    assert!(error(pair(2, 12, f32)).contains("is [2, 12] where [2, 16] is needed"));
    let packed = error(pair(2, 16, TensorKind::Q4_0));
    assert!(packed.contains("is Q4_0 where F32, F16, BF16 or Q8_0 is needed"), "{packed}");
    let other = ModelConfig { architecture: "qwen2".to_owned(), ..config.clone() };
    let says = Adapter::from_gguf(&file, &other).unwrap_err().to_string();
    assert!(says.contains("general.architecture is \"llama\" where \"qwen2\""), "{says}");
    let nan =
        writer("adapter").floats(a, &[32, 1], &[f32::NAN; 32]).floats(b, &[1, 16], &[0.0; 16]);
    assert!(error(nan).contains("not finite"));
    let alora = pair(1, 16, f32).i32s("adapter.alora.invocation_tokens", &[1]);
    assert!(error(alora).contains("adapter.alora.invocation_tokens"));
}
