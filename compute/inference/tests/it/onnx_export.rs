//! Exported decoders: one that is written here, against the same weights in a GGUF file; and files
//! that are no such decoder.

use std::sync::Arc;

use openledger_inference::{
    Engine, EngineOptions, KvFormat, OnnxError, OnnxExport, OnnxExportBackend, OnnxOptions,
    Request, SubmitError,
};
use openledger_models::ModelConfig;

use crate::families::{Weights, difference, folder, gguf, open, tokens, weights};
use crate::onnx::library;
use crate::support::{Answer, alone, blob, together};

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7F {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A field that is a number.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A field with bytes.
fn bytes(field: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn tensor(name: &str, kind: u64, dims: &[usize], raw: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| number(1, *dim as u64)).collect();
    bytes(5, &[dims, number(2, kind), bytes(8, name.as_bytes()), bytes(9, raw)].concat())
}

fn floats(name: &str, dims: &[usize], values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    let raw: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
    tensor(name, 1, dims, &raw)
}

fn wholes(name: &str, dims: &[usize], values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, 7, dims, &raw)
}

/// An input (field 11) or output (12); dimensions of -1 are open.
fn value(field: u64, name: &str, kind: u64, dims: &[i64]) -> Vec<u8> {
    let dim = |dim: &i64| match u64::try_from(*dim) {
        Ok(dim) => bytes(1, &number(1, dim)),
        Err(_) => bytes(1, &[]),
    };
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let own = bytes(1, &[number(1, kind), bytes(2, &shape)].concat());
    bytes(field, &[bytes(1, name.as_bytes()), bytes(2, &own)].concat())
}

fn whole(name: &str, value: u64) -> Vec<u8> {
    bytes(5, &[bytes(1, name.as_bytes()), number(3, value), number(20, 2)].concat())
}

fn real(name: &str, value: f32) -> Vec<u8> {
    let field = [varint(2 << 3 | 5), value.to_le_bytes().to_vec()].concat();
    bytes(5, &[bytes(1, name.as_bytes()), field, number(20, 1)].concat())
}

fn node(kind: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let list = |field, names: &[&str]| -> Vec<u8> {
        names.iter().flat_map(|name| bytes(field, name.as_bytes())).collect()
    };
    let (domain, kind) = kind.split_once(':').unwrap_or(("", kind));
    let own = [
        list(1, inputs),
        list(2, outputs),
        bytes(4, kind.as_bytes()),
        attributes.concat(),
        bytes(7, domain.as_bytes()),
    ];
    bytes(1, &own.concat())
}

/// A decoder's graph, as exporters write it.
struct Export<'a> {
    config: &'a ModelConfig,
    weights: &'a Weights,
    graph: Vec<u8>,
}

impl Export<'_> {
    fn node(&mut self, kind: &str, inputs: &[&str], out: &str, attributes: &[Vec<u8>]) -> String {
        self.graph.extend(node(kind, inputs, &[out], attributes));
        out.to_owned()
    }

    fn norm(&mut self, x: &str, name: &str) -> String {
        let (cols, values) = &self.weights[name];
        self.graph.extend(floats(name, &[*cols], values.iter().copied()));
        let epsilon = real("epsilon", self.config.rms_epsilon);
        let out = format!("{name}.out");
        self.node("SimplifiedLayerNormalization", &[x, name], &out, &[epsilon])
    }

    fn product(&mut self, x: &str, name: &str, called: &str) -> String {
        let (cols, values) = &self.weights[name];
        let rows = values.len() / cols;
        let turned = (0..*cols).flat_map(|col| (0..rows).map(move |row| values[row * cols + col]));
        self.graph.extend(floats(called, &[*cols, rows], turned));
        self.node("MatMul", &[x, called], &format!("{called}.out"), &[])
    }

    fn layer(&mut self, layer: usize, x: &str) -> String {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let own = |what: &str| format!("layer.{layer}.{what}");
        let h = self.norm(x, &name("attn_norm"));
        let [q, k, v] =
            ["attn_q", "attn_k", "attn_v"].map(|part| self.product(&h, &name(part), &name(part)));
        let (past, present) = (format!("past_key_values.{layer}"), format!("present.{layer}"));
        let attended = own("attended");
        let pasts = ["key", "value"].map(|part| format!("{past}.{part}"));
        let inputs = [&q[..], &k, &v, &pasts[0], &pasts[1], "last", "total", "cos", "sin"];
        let outputs = [attended.clone(), format!("{present}.key"), format!("{present}.value")];
        self.graph.extend(node(
            "com.microsoft:GroupQueryAttention",
            &inputs,
            &outputs.each_ref().map(String::as_str),
            &[
                whole("num_heads", self.config.heads as u64),
                whole("kv_num_heads", self.config.kv_heads as u64),
                whole("do_rotary", 1),
                whole("rotary_interleaved", 1),
            ],
        ));
        let out = self.product(&attended, &name("attn_output"), &name("attn_output"));
        let x = self.node("Add", &[x, &out], &own("middle"), &[]);
        let h = self.norm(&x, &name("ffn_norm"));
        let gate = self.product(&h, &name("ffn_gate"), &name("ffn_gate"));
        let up = self.product(&h, &name("ffn_up"), &name("ffn_up"));
        let sigmoid = self.node("Sigmoid", &[&gate], &own("sigmoid"), &[]);
        let silu = self.node("Mul", &[&gate, &sigmoid], &own("silu"), &[]);
        let inner = self.node("Mul", &[&silu, &up], &own("inner"), &[]);
        let out = self.product(&inner, &name("ffn_down"), &name("ffn_down"));
        self.node("Add", &[&x, &out], &own("out"), &[])
    }

    /// Which keys and values a position has, and how far each position turns.
    fn places(&mut self) {
        self.graph.extend(wholes("one", &[], &[1]));
        self.graph.extend(wholes("axis", &[1], &[1]));
        let keep = whole("keepdims", 0);
        self.node("ReduceSum", &["attention_mask", "axis"], "seen", &[keep]);
        self.node("Sub", &["seen", "one"], "before", &[]);
        self.node("Cast", &["before"], "last", &[whole("to", 6)]);
        self.node("Shape", &["attention_mask"], "mask.shape", &[]);
        self.node("Gather", &["mask.shape", "one"], "total.long", &[]);
        self.node("Cast", &["total.long"], "total", &[whole("to", 6)]);
        let (context, half) = (self.config.context, self.config.rope_dim / 2);
        let angle = |at: usize| {
            let exponent = -((at % half) as f64) / half as f64;
            (at / half) as f64 * f64::from(self.config.rope.base).powf(exponent)
        };
        let cosines = (0..context * half).map(|at| angle(at).cos() as f32);
        let sines = (0..context * half).map(|at| angle(at).sin() as f32);
        self.graph.extend(floats("cos", &[context, half], cosines));
        self.graph.extend(floats("sin", &[context, half], sines));
    }

    /// The whole file.
    fn file(mut self) -> Vec<u8> {
        let config = self.config;
        self.places();
        let (cols, values) = &self.weights["token_embd.weight"];
        self.graph.extend(floats("embed", &[config.vocab, *cols], values.iter().copied()));
        let mut x = self.node("Gather", &["embed", "input_ids"], "x", &[]);
        for layer in 0..config.layers {
            x = self.layer(layer, &x);
        }
        let h = self.norm(&x, "output_norm.weight");
        let logits = self.product(&h, "token_embd.weight", "head");
        self.node("Identity", &[&logits], "logits", &[]);
        for name in ["input_ids", "attention_mask"] {
            self.graph.extend(value(11, name, 7, &[-1, -1]));
        }
        self.graph.extend(value(12, "logits", 1, &[-1, -1, config.vocab as i64]));
        let dims = [-1, config.kv_heads as i64, -1, config.head_dim as i64];
        for layer in 0..config.layers {
            for part in ["key", "value"] {
                self.graph.extend(value(11, &format!("past_key_values.{layer}.{part}"), 1, &dims));
                self.graph.extend(value(12, &format!("present.{layer}.{part}"), 1, &dims));
            }
        }
        model(&self.graph)
    }
}

fn model(graph: &[u8]) -> Vec<u8> {
    let opset = |domain: &str, version| {
        bytes(8, &[bytes(1, domain.as_bytes()), number(2, version)].concat())
    };
    let graph = [graph.to_vec(), bytes(2, b"decoder")].concat();
    [number(1, 8), opset("", 17), opset("com.microsoft", 1), bytes(7, &graph)].concat()
}

/// A folder with a decoder that was exported, and the bytes of its graph.
fn exported(weights: &Weights) -> (tempfile::TempDir, Vec<u8>) {
    let folder = folder(weights);
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let shape = open(gguf("llama", weights, |w| w));
    let file = Export { config: shape.config(), weights, graph: Vec::new() }.file();
    std::fs::write(folder.path().join("model.onnx"), &file).unwrap();
    (folder, file)
}

fn options() -> EngineOptions {
    EngineOptions {
        kv: KvFormat::F32,
        page_tokens: 4,
        chunk_tokens_max: 7,
        ..EngineOptions::default()
    }
}

fn engine(export: &OnnxExport) -> Engine {
    let onnx = OnnxOptions::new(library());
    let backend = OnnxExportBackend::new(export, &options(), &onnx).unwrap();
    Engine::with_backend(Arc::clone(export.model()), options(), Box::new(backend)).unwrap()
}

#[test]
fn a_decoder_that_was_exported_gives_the_logits_of_its_gguf_file() {
    let weights = weights("llama", 5);
    let (folder, _) = exported(&weights);
    let export = OnnxExport::open(folder.path()).unwrap();
    let mut own = engine(&export);
    assert!(own.device().ends_with("an export"), "{}", own.device());
    let plain =
        EngineOptions { backend: openledger_inference::BackendKind::Reference, ..options() };
    let mut reference = Engine::new(open(gguf("llama", &weights, |w| w)), plain).unwrap();
    let wide = |rows: Vec<Vec<f32>>| -> Vec<Vec<f64>> {
        rows.iter().map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
    };
    let expected = wide(reference.logits_of(&tokens(), &[]).unwrap());
    let off = difference(&own.logits_of(&tokens(), &[]).unwrap(), &expected);
    assert!(off < 1e-5, "{off}");
    // Several at once, with beginnings that are found again.
    let requests = [3, 17, 9, 17].map(|len| {
        let mut request = Request::greedy(tokens()[..len].to_vec(), 9);
        request.ignore_end = true;
        request
    });
    let apart: Vec<Answer> =
        requests.iter().map(|request| alone(&mut reference, request)).collect();
    for _ in 0..2 {
        for (expected, found) in apart.iter().zip(together(&mut own, &requests)) {
            assert_eq!(expected.tokens, found.tokens);
        }
    }
}

#[test]
fn adapters_and_embeddings_are_refused_and_harm_nobody() {
    let (folder, _) = exported(&weights("llama", 5));
    let mut own = engine(&OnnxExport::open(&folder.path().join("model.onnx")).unwrap());
    let mut request = Request::greedy(tokens(), 3);
    request.adapters = vec![(blob(7), 1.0)];
    let error = own.submit(request.clone()).unwrap_err();
    assert_eq!(error, SubmitError::AdaptersRefused { adapter: blob(7) });
    assert!(error.to_string().contains(&blob(7).to_string()), "{error}");
    let error = own.embed(&tokens(), &[]).unwrap_err().to_string();
    assert!(error.contains("hidden states"), "{error}");
    request.adapters.clear();
    assert_eq!(alone(&mut own, &request).failure, None);
}

#[test]
fn files_that_are_no_decoder_say_what_is_missing() {
    let weights = weights("llama", 5);
    let (folder, file) = exported(&weights);
    let path = folder.path().join("model.onnx");
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = OnnxExport::open(folder.path()).unwrap_err();
        assert!(matches!(error, OnnxError::File { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    let dims = [-1, 2, -1, 32];
    let input = |name: &str, dims: &[i64]| value(11, name, 1, dims);
    let output = |name: &str, dims: &[i64]| value(12, name, 1, dims);
    let (ids, logits) = (value(11, "input_ids", 7, &[-1, -1]), output("logits", &[-1, -1, 264]));
    refused(&model(&logits), "no input input_ids");
    refused(&model(&ids), "no output logits");
    let start = [ids.clone(), logits.clone()].concat();
    refused(&model(&start), "no input past_key_values.0.key");
    let past = [start.clone(), input("past_key_values.0.key", &dims)].concat();
    refused(&model(&past), "no output present.0.key");
    let narrow = input("past_key_values.0.key", &[-1, 3, -1, 32]);
    refused(&model(&[start.clone(), narrow].concat()), "[?, 3, ?, 32]");
    let whole: Vec<u8> = (0..3)
        .flat_map(|layer| ["key", "value"].map(|part| (layer, part)))
        .flat_map(|(layer, part)| {
            [
                input(&format!("past_key_values.{layer}.{part}"), &dims),
                output(&format!("present.{layer}.{part}"), &dims),
            ]
        })
        .flatten()
        .collect();
    let odd = [start.clone(), whole.clone(), input("pixel_values", &[1])].concat();
    refused(&model(&odd), "wants the input pixel_values");
    let half = value(11, "input_ids", 10, &[-1, -1]);
    refused(&model(&[half, logits, whole.clone()].concat()), "input_ids holds float16");
    refused(&file[..file.len() / 2], "cut off");
    refused(b"no graph at all", "read the exported model");
    let place = |value: &str| {
        let pair = [bytes(1, b"location"), bytes(2, value.as_bytes())].concat();
        bytes(5, &[bytes(8, b"w"), bytes(13, &pair), number(14, 1)].concat())
    };
    refused(&model(&place("../../secret")), "secret");
    refused(&model(&place("absent.bin")), "absent.bin");
    // What only the library can find.
    std::fs::write(&path, model(&[start, whole].concat())).unwrap();
    let export = OnnxExport::open(folder.path()).unwrap();
    let onnx = OnnxOptions::new(library());
    let error = OnnxExportBackend::new(&export, &options(), &onnx).unwrap_err();
    assert!(matches!(error, OnnxError::Graph { .. }), "{error}");
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    let error = OnnxExport::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
}
