//! The backend on ONNX Runtime: against the reference, and under everything that engines do with a
//! backend.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openledger_inference::{
    BackendKind, Engine, EngineOptions, KvFormat, LoraFormat, OnnxBackend, OnnxOptions, Provider,
    Request, Sampling, onnx_library,
};
use openledger_models::{Model, SpecialTokens};

use crate::families::{difference, gguf, open, tokens, weights};
use crate::support::{Answer, adapter, alone, blob, finish, note, real_model, together};
use crate::tiny;

/// The library that `./installers/test.sh` has ready.
pub(crate) fn library() -> PathBuf {
    let path = std::env::var_os("OPENLEDGER_ONNXRUNTIME");
    assert!(path.is_some(), "set OPENLEDGER_ONNXRUNTIME or run ./installers/test.sh");
    path.unwrap_or_default().into()
}

/// An engine on the library.
fn engine(model: &Arc<Model>, options: EngineOptions) -> Engine {
    onnx_library(&library()).unwrap();
    let options = EngineOptions { backend: BackendKind::Onnx, ..options };
    Engine::new(Arc::clone(model), options).unwrap()
}

fn reference(model: &Arc<Model>) -> Engine {
    let options = EngineOptions { backend: BackendKind::Reference, ..EngineOptions::default() };
    Engine::new(Arc::clone(model), options).unwrap()
}

/// Everything in 32 bits, so that only the order of sums differs from the reference.
fn wide() -> EngineOptions {
    EngineOptions {
        kv: KvFormat::F32,
        adapters: LoraFormat::F32,
        page_tokens: 4,
        chunk_tokens_max: 7,
        ..EngineOptions::default()
    }
}

fn as_f64(rows: &[Vec<f32>]) -> Vec<Vec<f64>> {
    rows.iter().map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
}

/// The relative error of all logits against the reference's.
fn off(model: &Arc<Model>, options: EngineOptions, parts: &[(u8, f32)]) -> f64 {
    let (mut own, mut other) = (engine(model, options), reference(model));
    for id in 1..=2 {
        for engine in [&mut own, &mut other] {
            engine.put_adapter(blob(id), adapter(model.config(), u64::from(id), 4)).unwrap();
        }
    }
    let parts: Vec<_> = parts.iter().map(|(id, weight)| (blob(*id), *weight)).collect();
    let found = own.logits_of(&tokens(), &parts).unwrap();
    let expected = other.logits_of(&tokens(), &parts).unwrap();
    difference(&found, &as_f64(&expected))
}

#[test]
fn every_family_gives_the_logits_of_the_reference() {
    let gemma = |w: openledger_models::GgufWriter| {
        w.u32("gemma3.attention.sliding_window", 9)
            .u32("gemma3.attention.sliding_window_pattern", 3)
            .f32("gemma3.rope.freq_base", 1e6)
            .text("gemma3.rope.scaling.type", "linear")
            .f32("gemma3.rope.scaling.factor", 8.0)
    };
    let yarn = |w: openledger_models::GgufWriter| {
        w.text("llama.rope.scaling.type", "yarn")
            .f32("llama.rope.scaling.factor", 4.0)
            .u32("llama.rope.scaling.original_context_length", 16)
    };
    let models = [
        ("llama, a head of its own", tiny::open(&tiny::write(tiny::Kind::Factors, 1))),
        ("llama, tied", tiny::open(&tiny::write(tiny::Kind::Llama, 2))),
        ("qwen 2, biases", tiny::open(&tiny::write(tiny::Kind::Qwen2, 3))),
        ("llama, yarn", open(gguf("llama", &weights("llama", 3), yarn))),
        ("qwen 3, norms", open(gguf("qwen3", &weights("qwen3", 1), |w| w))),
        ("gemma 3, windows", open(gguf("gemma3", &weights("gemma3", 2), gemma))),
    ];
    for (name, model) in models {
        let bare = off(&model, wide(), &[]);
        assert!(bare < 1e-5, "{name}: {bare}");
        let mixed = off(&model, wide(), &[(1, 1.0), (2, -0.5)]);
        assert!(mixed < 1e-5, "{name}, with adapters: {mixed}");
        // As nodes serve: keys and values in 16 bits, adapters in 8.
        let served = off(&model, EngineOptions::default(), &[(1, 1.0)]);
        assert!(served < 0.02, "{name}, as served: {served}");
    }
}

/// Requests of many kinds, which begin alike in places.
fn requests(vocab: u32) -> Vec<Request> {
    let request = |number: u32| {
        let shared = (0..[40, 17, 0, 40][number as usize % 4]).map(|i| (i * 37 + 5) % vocab);
        let own = (0..3 + number % 5).map(|i| (i * 11 + number * 13) % vocab);
        let mut request = Request::greedy(shared.chain(own).collect(), 8);
        match number % 4 {
            1 => request.adapters = vec![(blob(1), 1.0)],
            2 => request.adapters = vec![(blob(2), 0.5), (blob(1), -0.25)],
            3 => request.adapters = vec![(blob(3), 1.0)],
            _ => (),
        }
        request.ignore_end = true;
        request
    };
    (0..8).map(request).collect()
}

/// How likely each answer's tokens were held to be, alone and elsewhere: sums are rounded in
/// another order in another batch, so tokens may differ where two were as good.
fn agree(expected: &[Answer], found: &[Answer]) {
    for (expected, found) in expected.iter().zip(found) {
        assert_eq!(found.failure, None);
        assert_eq!(expected.tokens, found.tokens);
        for (a, b) in expected.bits.iter().zip(&found.bits) {
            let (a, b) = (f32::from_bits(*a), f32::from_bits(*b));
            assert!((a - b).abs() < 5e-3, "{a} and {b}");
        }
    }
}

#[test]
fn mixed_batches_found_pages_and_preemption_change_no_answer() {
    let model = tiny::model();
    let options = EngineOptions { page_tokens: 4, pages_max: 256, chunk_tokens_max: 9, ..wide() };
    let load = |engine: &mut Engine| {
        for number in 1..=3 {
            let adapter = adapter(engine.model().config(), u64::from(number), 4);
            engine.put_adapter(blob(number), adapter).unwrap();
        }
    };
    let requests = requests(tiny::VOCAB as u32);
    let mut own = engine(&model, EngineOptions { prefix_cache: false, threads: 1, ..options });
    load(&mut own);
    let expected: Vec<Answer> = requests.iter().map(|asked| alone(&mut own, asked)).collect();
    for threads in [1, 2, 3] {
        let mut own = engine(&model, EngineOptions { threads, ..options });
        load(&mut own);
        agree(&expected, &together(&mut own, &requests));
        let again = together(&mut own, &requests);
        agree(&expected, &again);
        assert!(again.iter().any(|answer| answer.cached_tokens.0 > 0));
    }
    // So few pages that sequences are put back and run again.
    let mut own = engine(&model, EngineOptions { pages_max: 30, prefix_cache: false, ..options });
    load(&mut own);
    agree(&expected, &together(&mut own, &requests));
}

#[test]
fn a_real_model_answers_as_the_reference_does() {
    let model = real_model();
    let encode = |text: &str| model.tokenizer().encode(text, SpecialTokens::AsText);
    let mut own = engine(&model, EngineOptions::default());
    assert!(own.device().starts_with("ONNX Runtime 1.31.1, cpu, 2 threads"), "{}", own.device());
    let found = alone(&mut own, &Request::greedy(encode("The capital of France is"), 4));
    assert!(found.text.starts_with(" Paris"), "{}", found.text);
    assert_eq!(found.tokens[..2], [7042, 30], "what llama.cpp draws from the same file");
    let text = "The sun rises in the east and sets in the west. Water boils at one hundred \
        degrees, and freezes at zero. The octopus, the whale and the seahorse live in the sea. \
        A committee keeps minutes and wastes hours.";
    let tokens = encode(text);
    let mut other = reference(&model);
    let expected = other.logits_of(&tokens, &[]).unwrap();
    let found = own.logits_of(&tokens, &[]).unwrap();
    let off = difference(&found, &as_f64(&expected));
    assert!(off < 2e-3, "{off}");
    let mut exact = engine(&model, EngineOptions { kv: KvFormat::F32, ..EngineOptions::default() });
    let off = difference(&exact.logits_of(&tokens, &[]).unwrap(), &as_f64(&expected));
    assert!(off < 2e-5, "{off}");
}

#[test]
fn a_real_model_serves_several_adapters_in_one_batch() {
    let model = real_model();
    let mut own = engine(&model, EngineOptions::default());
    for id in 1..=2 {
        own.put_adapter(blob(id), adapter(model.config(), u64::from(id), 8)).unwrap();
    }
    let prompt = model.tokenizer().encode("Three animals of the sea are", SpecialTokens::AsText);
    let ask = |adapters: &[u8]| {
        let mut request = Request::greedy(prompt.clone(), 6);
        request.adapters = adapters.iter().map(|id| (blob(*id), 1.0)).collect();
        request.sampling = Sampling::seeded(0.7, [3; 32]);
        request.ignore_end = true;
        request
    };
    let requests = [ask(&[]), ask(&[1]), ask(&[2]), ask(&[1, 2])];
    let apart: Vec<Answer> = requests.iter().map(|request| alone(&mut own, request)).collect();
    agree(&apart, &together(&mut own, &requests));
    assert_ne!(apart[0].tokens, apart[1].tokens);
    assert_ne!(apart[1].tokens, apart[2].tokens);
}

#[test]
fn sequences_that_end_early_leave_nothing_behind() {
    let mut own = engine(&tiny::model(), wide());
    let ids: Vec<_> = requests(tiny::VOCAB as u32)
        .into_iter()
        .map(|mut request| {
            request.adapters.clear();
            own.submit(request).unwrap()
        })
        .collect();
    let mut answers = std::collections::BTreeMap::new();
    note(&mut answers, own.step().unwrap());
    for id in ids.iter().step_by(2) {
        assert!(own.cancel(*id));
    }
    let rest = finish(&mut own);
    assert_eq!(rest.len(), ids.len());
}

#[test]
fn a_library_that_is_not_there_and_providers_that_it_lacks_are_errors() {
    onnx_library(&library()).unwrap();
    let error = onnx_library(Path::new("/nowhere/libonnxruntime.so")).unwrap_err().to_string();
    assert!(error.contains("/nowhere") && error.contains("restart"), "{error}");
    assert_eq!(onnx_library(&library()).unwrap().version(), "1.31.1");
    OnnxOptions::new(library()).check().unwrap();
    for provider in Provider::ALL.into_iter().skip(1) {
        let options = OnnxOptions { provider, ..OnnxOptions::new(library()) };
        let error = options.check().unwrap_err().to_string();
        assert!(error.contains(provider.name()) && error.contains("install"), "{error}");
        let (model, sizes) = (tiny::model(), EngineOptions::default());
        let made = OnnxBackend::new(model, &sizes, &options, &mut |_, _| ());
        assert_eq!(made.unwrap_err().to_string(), error);
    }
    let plugin = Some(PathBuf::from("/nowhere/libonnxruntime_providers_webgpu.so"));
    let options = OnnxOptions { provider: Provider::WebGpu, plugin, library: library() };
    let error = options.check().unwrap_err().to_string();
    assert!(error.contains("/nowhere/libonnxruntime_providers_webgpu.so"), "{error}");
}

#[test]
fn loading_tells_how_far_it_is() {
    onnx_library(&library()).unwrap();
    let (model, mut told) = (tiny::model(), Vec::new());
    let total = model.file_bytes();
    let options = EngineOptions { backend: BackendKind::Onnx, ..EngineOptions::default() };
    let mut progress = |done: usize, of: usize| {
        assert_eq!(of, total);
        told.push(done);
    };
    let engine = Engine::load(model, options, &mut progress).unwrap();
    assert!(told.is_sorted() && told.len() > 3, "{told:?}");
    assert_eq!((told.first(), told.last()), (Some(&0), Some(&total)));
    assert_eq!((engine.backend_name(), engine.options().class()), ("onnx", "onnx-1"));
}
