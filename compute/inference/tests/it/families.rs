//! Families beside Llama's: Qwen 3, Gemma 3, stretched contexts, and folders of the transformers
//! library, against their definition in `f64`.

use std::collections::BTreeMap;
use std::sync::Arc;

use openledger_inference::{BackendKind, Engine, EngineOptions, KvFormat, LoraFormat};
use openledger_kernels::reference::log_sum_exp;
use openledger_models::safetensors::{FloatKind, Safetensors, StoredTensor};
use openledger_models::{
    Activation, GgufWriter, Mapped, Model, ModelConfig, NormSite, Precision, Rope, RopeLayout,
    Site, SpecialTokens,
};

const LAYERS: usize = 3;
const HIDDEN: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
/// Wider than the hidden state over the heads.
const HEAD_DIM: usize = 32;
const FEED_FORWARD: usize = 96;
const VOCAB: usize = 264;
const EPSILON: f32 = 1e-6;

/// Matrices and vectors by their names in GGUF files, row by row, with their columns.
pub(crate) type Weights = BTreeMap<String, (usize, Vec<f32>)>;

/// Between -1 and 1.
fn numbers(seed: &mut u64) -> f32 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    ((*seed >> 40) as f32 / (1u64 << 23) as f32) - 1.0
}

fn norms(architecture: &str) -> Vec<(&'static str, usize)> {
    let mut norms = vec![("attn_norm", HIDDEN), ("ffn_norm", HIDDEN)];
    if architecture != "llama" {
        norms.extend([("attn_q_norm", HEAD_DIM), ("attn_k_norm", HEAD_DIM)]);
    }
    if architecture == "gemma3" {
        norms.extend([("post_attention_norm", HIDDEN), ("post_ffw_norm", HIDDEN)]);
    }
    norms
}

const SITES: [(&str, usize, usize); 7] = [
    ("attn_q", HEADS * HEAD_DIM, HIDDEN),
    ("attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
    ("attn_v", KV_HEADS * HEAD_DIM, HIDDEN),
    ("attn_output", HIDDEN, HEADS * HEAD_DIM),
    ("ffn_gate", FEED_FORWARD, HIDDEN),
    ("ffn_up", FEED_FORWARD, HIDDEN),
    ("ffn_down", HIDDEN, FEED_FORWARD),
];

pub(crate) fn weights(architecture: &str, seed: u64) -> Weights {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut weights = Weights::new();
    let mut add = |name: String, rows: usize, cols: usize, size: f32, around: f32| {
        let values = (0..rows * cols).map(|_| around + size * numbers(&mut state)).collect();
        weights.insert(name, (cols, values));
    };
    add("token_embd.weight".to_owned(), VOCAB, HIDDEN, 0.9, 0.0);
    for layer in 0..LAYERS {
        for (norm, width) in norms(architecture) {
            add(format!("blk.{layer}.{norm}.weight"), 1, width, 0.2, 1.0);
        }
        for (site, rows, cols) in SITES {
            add(format!("blk.{layer}.{site}.weight"), rows, cols, 0.25, 0.0);
        }
    }
    add("output_norm.weight".to_owned(), 1, HIDDEN, 0.2, 1.0);
    weights
}

fn is_vector(name: &str) -> bool {
    name.contains("norm")
}

/// The file of a model, with keys of its own.
pub(crate) fn gguf(
    architecture: &str,
    weights: &Weights,
    more: impl Fn(GgufWriter) -> GgufWriter,
) -> Vec<u8> {
    let key = |name: &str| format!("{architecture}.{name}");
    let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["the", "and", "of", "to", "in"].map(str::to_owned));
    let mut writer = GgufWriter::new()
        .text("general.architecture", architecture)
        .u32(&key("block_count"), LAYERS as u32)
        .u32(&key("embedding_length"), HIDDEN as u32)
        .u32(&key("attention.head_count"), HEADS as u32)
        .u32(&key("attention.head_count_kv"), KV_HEADS as u32)
        .u32(&key("attention.key_length"), HEAD_DIM as u32)
        .u32(&key("feed_forward_length"), FEED_FORWARD as u32)
        .u32(&key("context_length"), 192)
        .f32(&key("attention.layer_norm_rms_epsilon"), EPSILON)
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", tokens.iter().map(String::as_str))
        .f32s("tokenizer.ggml.scores", &vec![0.0; VOCAB])
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2);
    for (name, (cols, values)) in weights {
        let rows = values.len() / cols;
        let shape = [*cols as u64, rows as u64];
        let shape = if is_vector(name) { &shape[..1] } else { &shape[..] };
        writer = writer.floats(name, shape, values);
    }
    more(writer).finish()
}

pub(crate) fn open(file: Vec<u8>) -> Arc<Model> {
    Arc::new(Model::from_mapped(Mapped::from_bytes(file)).unwrap())
}

/// The definition of a decoder.
struct Definition<'a> {
    config: &'a ModelConfig,
    weights: &'a Weights,
}

impl Definition<'_> {
    fn product(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (cols, values) = &self.weights[name];
        let dot = |row: &[f32]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
        values.chunks(*cols).map(dot).collect()
    }

    /// Each stretch of `x` that is as wide as the weights; `x` itself where there are none.
    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let Some((cols, weights)) = self.weights.get(name) else { return x.to_vec() };
        let mut out = Vec::new();
        for x in x.chunks(*cols) {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            let scale = 1.0 / (mean + f64::from(self.config.rms_epsilon)).sqrt();
            out.extend(x.iter().zip(weights).map(|(x, w)| x * scale * f64::from(*w)));
        }
        out
    }

    fn turn(&self, rope: &Rope, x: &mut [f64], position: usize) {
        let half = self.config.rope_dim / 2;
        for head in x.chunks_mut(HEAD_DIM) {
            for i in 0..half {
                let factor = rope.factors.as_ref().map_or(1.0, |factors| f64::from(factors[i]));
                let exponent = -(i as f64) / half as f64;
                let frequency =
                    f64::from(rope.scale) * f64::from(rope.base).powf(exponent) / factor;
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                let (first, second) = match self.config.rope_layout {
                    RopeLayout::Interleaved => (2 * i, 2 * i + 1),
                    RopeLayout::Halves => (i, i + half),
                };
                let (a, b) = (head[first], head[second]);
                let magnitude = f64::from(rope.magnitude);
                head[first] = magnitude * (a * cosine - b * sine);
                head[second] = magnitude * (a * sine + b * cosine);
            }
        }
    }

    fn attend(&self, layer: usize, q: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<f64> {
        let first = keys.len().saturating_sub(self.config.window_of(layer).unwrap_or(usize::MAX));
        let mut mixed = Vec::new();
        for (head, q) in q.chunks(HEAD_DIM).enumerate() {
            let at = head / (HEADS / KV_HEADS) * HEAD_DIM;
            let score = |key: &Vec<f64>| {
                let dot: f64 = q.iter().zip(&key[at..]).map(|(q, k)| q * k).sum();
                (dot * f64::from(self.config.attention_scale)).exp()
            };
            let scores: Vec<f64> = keys[first..].iter().map(score).collect();
            let total: f64 = scores.iter().sum();
            mixed.extend((0..HEAD_DIM).map(|d| {
                let weighted = scores.iter().zip(&values[first..]).map(|(s, v)| s * v[at + d]);
                weighted.sum::<f64>() / total
            }));
        }
        mixed
    }

    fn activate(&self, gate: f64) -> f64 {
        match self.config.activation {
            Activation::Silu => gate / (1.0 + (-gate).exp()),
            Activation::GeluTanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (gate + 0.044_715 * gate.powi(3));
                0.5 * gate * (1.0 + u.tanh())
            }
        }
    }

    /// The logits at every position.
    fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let (_, embedding) = &self.weights["token_embd.weight"];
        let embed = |token: &u32| {
            let row = &embedding[*token as usize * HIDDEN..][..HIDDEN];
            row.iter().map(|x| f64::from(*x) * f64::from(self.config.embedding_scale)).collect()
        };
        let mut states: Vec<Vec<f64>> = tokens.iter().map(embed).collect();
        for layer in 0..LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let rope = self.config.rope_of(layer);
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (position, x) in states.iter_mut().enumerate() {
                let h = self.norm(&name("attn_norm"), x);
                let q = self.product(&name("attn_q"), &h);
                let k = self.product(&name("attn_k"), &h);
                let mut q = self.norm(&name("attn_q_norm"), &q);
                let mut k = self.norm(&name("attn_k_norm"), &k);
                self.turn(rope, &mut q, position);
                self.turn(rope, &mut k, position);
                keys.push(k);
                values.push(self.product(&name("attn_v"), &h));
                let mixed = self.attend(layer, &q, &keys, &values);
                let out = self.product(&name("attn_output"), &mixed);
                let out = self.norm(&name("post_attention_norm"), &out);
                x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
                let h = self.norm(&name("ffn_norm"), x);
                let gate = self.product(&name("ffn_gate"), &h);
                let up = self.product(&name("ffn_up"), &h);
                let inner: Vec<f64> =
                    gate.iter().zip(up).map(|(gate, up)| self.activate(*gate) * up).collect();
                let out = self.product(&name("ffn_down"), &inner);
                let out = self.norm(&name("post_ffw_norm"), &out);
                x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
            }
        }
        let head =
            |x: &Vec<f64>| self.product("token_embd.weight", &self.norm("output_norm.weight", x));
        states.iter().map(head).collect()
    }
}

/// The relative error of all logits together.
pub(crate) fn difference(found: &[Vec<f32>], expected: &[Vec<f64>]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let size: f64 = expected.iter().flatten().map(|logit| logit * logit).sum();
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    (pairs.map(|(a, b)| (f64::from(*a) - b).powi(2)).sum::<f64>() / size).sqrt()
}

pub(crate) fn tokens() -> Vec<u32> {
    (0..45u32).map(|i| i * i * 31 % VOCAB as u32).collect()
}

/// An engine of a kind, with small pages and chunks.
fn engine(model: &Arc<Model>, backend: BackendKind) -> Engine {
    let (kv, adapters) = (KvFormat::F32, LoraFormat::F32);
    let options = EngineOptions {
        backend,
        kv,
        adapters,
        page_tokens: 4,
        chunk_tokens_max: 7,
        ..EngineOptions::default()
    };
    Engine::new(Arc::clone(model), options).unwrap()
}

/// Holds every backend against the definition; the tiny model averages roundings over few
/// numbers, so they are farther off than with a real one.
fn hold(model: &Arc<Model>, weights: &Weights) {
    let expected = Definition { config: model.config(), weights }.logits(&tokens());
    for (backend, bound) in [(BackendKind::Reference, 1e-5), (BackendKind::Int12, 0.01)] {
        let found = engine(model, backend).logits_of(&tokens(), &[]).unwrap();
        let off = difference(&found, &expected);
        assert!(off < bound, "{off} on {backend:?}");
    }
}

#[test]
fn qwen_3_gives_the_logits_of_its_definition() {
    let weights = weights("qwen3", 1);
    hold(&open(gguf("qwen3", &weights, |w| w.f32("qwen3.rope.freq_base", 1e6))), &weights);
}

#[test]
fn gemma_3_gives_the_logits_of_its_definition() {
    let weights = weights("gemma3", 2);
    let file = gguf("gemma3", &weights, |w| {
        w.u32("gemma3.attention.sliding_window", 9)
            .u32("gemma3.attention.sliding_window_pattern", 3)
            .f32("gemma3.rope.freq_base", 1e6)
            .text("gemma3.rope.scaling.type", "linear")
            .f32("gemma3.rope.scaling.factor", 8.0)
    });
    let model = open(file);
    let windows: Vec<_> = (0..LAYERS).map(|layer| model.config().window_of(layer)).collect();
    assert_eq!(windows, [Some(9), Some(9), None]);
    hold(&model, &weights);
}

#[test]
fn a_context_stretched_by_yarn_gives_the_logits_of_its_definition() {
    let weights = weights("llama", 3);
    let model = open(gguf("llama", &weights, |w| {
        w.text("llama.rope.scaling.type", "yarn")
            .f32("llama.rope.scaling.factor", 4.0)
            .u32("llama.rope.scaling.original_context_length", 16)
    }));
    assert!(model.config().rope.magnitude > 1.1);
    hold(&model, &weights);
}

#[test]
fn windows_leave_what_lies_before_them_out() {
    let weights = weights("gemma3", 4);
    let file = gguf("gemma3", &weights, |w| {
        w.u32("gemma3.attention.sliding_window", 2)
            .u32("gemma3.attention.sliding_window_pattern", 0)
    });
    let model = open(file);
    // Three layers of windows of two see four positions: the first of six is out of sight.
    let last = |first: u32| {
        let tokens = [first, 7, 8, 9, 10, 11];
        engine(&model, BackendKind::Reference).logits_of(&tokens, &[]).unwrap().pop()
    };
    assert_eq!(last(5), last(6));
    let third = |first: u32| {
        let tokens = [first, 7, 8, 9];
        engine(&model, BackendKind::Reference).logits_of(&tokens, &[]).unwrap().pop()
    };
    assert_ne!(third(5), third(6));
}

/// Rows of queries and keys as the library has them: halves turned together, not neighbours.
fn library_rows(values: &[f32]) -> Vec<f32> {
    let rows: Vec<&[f32]> = values.chunks(HIDDEN).collect();
    let half = HEAD_DIM / 2;
    let row = |n: usize| {
        let (head, at) = (n / HEAD_DIM, n % HEAD_DIM);
        rows[head * HEAD_DIM + 2 * (at % half) + at / half]
    };
    (0..rows.len()).flat_map(|n| row(n).to_vec()).collect()
}

/// A folder of the transformers library with the weights of a llama.
pub(crate) fn folder(weights: &Weights) -> tempfile::TempDir {
    let rename = |name: &str| {
        let Some((layer, part)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'))
        else {
            return match name {
                "token_embd.weight" => "model.embed_tokens.weight".to_owned(),
                _ => "model.norm.weight".to_owned(),
            };
        };
        let part = part.trim_end_matches(".weight");
        let module = match part {
            "attn_norm" => "input_layernorm",
            "ffn_norm" => "post_attention_layernorm",
            _ => Site::ALL.into_iter().find(|s| s.gguf_name() == part).unwrap().peft_name(),
        };
        format!("model.layers.{layer}.{module}.weight")
    };
    let stored: Vec<(String, Vec<u64>, Vec<u8>)> = weights
        .iter()
        .map(|(name, (cols, values))| {
            let is_turned = name.contains("attn_q.") || name.contains("attn_k.");
            let values = if is_turned { library_rows(values) } else { values.clone() };
            let shape = match is_vector(name) {
                true => vec![*cols as u64],
                false => vec![(values.len() / cols) as u64, *cols as u64],
            };
            (rename(name), shape, values.iter().flat_map(|n| n.to_le_bytes()).collect())
        })
        .collect();
    let tensors = stored.iter().map(|(name, shape, bytes)| {
        let (kind, shape) = (FloatKind::F32, shape.clone());
        (name.clone(), StoredTensor { kind, shape, bytes })
    });
    let file = Safetensors { tensors: tensors.collect(), metadata: BTreeMap::new() }.to_bytes();
    let config = format!(
        "{{\"model_type\": \"llama\", \"num_hidden_layers\": {LAYERS}, \"hidden_size\": {HIDDEN}, \
         \"intermediate_size\": {FEED_FORWARD}, \"num_attention_heads\": {HEADS}, \
         \"num_key_value_heads\": {KV_HEADS}, \"head_dim\": {HEAD_DIM}, \"vocab_size\": {VOCAB}, \
         \"max_position_embeddings\": 192, \"rms_norm_eps\": {EPSILON}, \
         \"tie_word_embeddings\": true}}"
    );
    let vocab: Vec<String> =
        (0..256).map(|byte| format!("\"<0x{byte:02X}>\": {}", byte + 3)).collect();
    let tokenizer = format!(
        "{{\"normalizer\": {{\"type\": \"Replace\", \"pattern\": {{\"String\": \" \"}}, \
         \"content\": \"\u{2581}\"}}, \"model\": {{\"type\": \"BPE\", \"byte_fallback\": true, \
         \"vocab\": {{{}}}, \"merges\": []}}}}",
        vocab.join(", ")
    );
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("model.safetensors", &file);
    write("config.json", config.as_bytes());
    write("tokenizer.json", tokenizer.as_bytes());
    folder
}

#[test]
fn a_folder_gives_the_logits_of_its_gguf_file() {
    let weights = weights("llama", 5);
    let gguf = open(gguf("llama", &weights, |w| w));
    let expected = engine(&gguf, BackendKind::Reference).logits_of(&tokens(), &[]).unwrap();
    let wide: Vec<Vec<f64>> =
        expected.iter().map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect();
    let folder = folder(&weights);
    for (precision, bound) in
        [(Precision::AsStored, 1e-6), (Precision::Q8_0, 0.02), (Precision::Q4_1, 0.3)]
    {
        let model = Arc::new(Model::open_as(folder.path(), precision).unwrap());
        assert_eq!(model.config().rope_layout, RopeLayout::Halves);
        let found = engine(&model, BackendKind::Reference).logits_of(&tokens(), &[]).unwrap();
        let off = difference(&found, &wide);
        assert!(off < bound, "{off} with {precision:?}");
    }
}

#[test]
fn norms_that_a_model_has_are_known() {
    let config = |architecture: &str| {
        let weights = weights(architecture, 6);
        let model = open(gguf(architecture, &weights, |w| w));
        NormSite::ALL.into_iter().filter(|norm| norm.is_in(model.config())).count()
    };
    assert_eq!((config("llama"), config("qwen3"), config("gemma3")), (2, 4, 6));
}

#[test]
fn gemma_3_reads_english_and_says_the_same_on_every_backend() {
    // Brought by those who ask for it; its licence forbids to ship it.
    let Some(path) = std::env::var_os("OPENLEDGER_GEMMA").filter(|path| !path.is_empty()) else {
        return;
    };
    let model = Arc::new(Model::open(path.as_ref()).unwrap());
    let text = "The sun rises in the east and sets in the west. Water boils at one hundred \
        degrees, and freezes at zero. Paris is the capital of France.";
    let tokens = model.tokenizer().encode_with_bos(text, SpecialTokens::AsText);
    let likeliest = |row: &Vec<f32>| {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(0, |(token, _)| token)
    };
    let of = |backend| engine(&model, backend).logits_of(&tokens, &[]).unwrap();
    let found = of(BackendKind::Reference);
    // How surprising each token is after those before it.
    let surprise = found
        .iter()
        .zip(&tokens[1..])
        .map(|(row, token)| f64::from(log_sum_exp(row) - row[*token as usize]));
    let mean = surprise.sum::<f64>() / (tokens.len() - 1) as f64;
    assert!(mean < 3.0, "{mean}");
    let other = of(BackendKind::Int12);
    let same = found.iter().zip(&other).filter(|(a, b)| likeliest(a) == likeliest(b)).count();
    assert!(same * 100 >= found.len() * 85, "{same} of {}", found.len());
}
