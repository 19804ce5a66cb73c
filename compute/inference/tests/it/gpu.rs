//! The backend on graphics processors: against the reference, under everything that engines do
//! with a backend, and after its devices are lost. On Mesa's software Vulkan where there is no
//! other.

use std::sync::Arc;

use openledger_inference::gpu::{Arithmetic, Device, GpuError};
use openledger_inference::{
    Backend, BackendError, BackendKind, Engine, EngineOptions, GpuBackend, GpuOptions, KvFormat,
    LoraFormat, Request, RowOutput, Sampling, StepPlan, usable_gpu,
};
use openledger_models::{GgufWriter, Model, SpecialTokens};

use crate::families::{difference, gguf, open, tokens, weights};
use crate::support::{Answer, adapter, alone, blob, note, real_model, together};
use crate::tiny;

/// A backend for tests.
fn backend(model: &Arc<Model>, options: &EngineOptions, gpus: &GpuOptions) -> GpuBackend {
    GpuBackend::new(Arc::clone(model), options, gpus, &mut |_, _| ()).unwrap_or_else(|error| {
        panic!(
            "tests need a Vulkan device, if only Mesa's software one (Debian: \
             mesa-vulkan-drivers, libvulkan1): {error}"
        )
    })
}

fn engine_on(model: &Arc<Model>, options: EngineOptions, gpus: &GpuOptions) -> Engine {
    let options = EngineOptions { backend: BackendKind::Wgpu, ..options };
    let backend = Box::new(backend(model, &options, gpus));
    Engine::with_backend(Arc::clone(model), options, backend).unwrap()
}

fn engine(model: &Arc<Model>, options: EngineOptions) -> Engine {
    engine_on(model, options, &GpuOptions::software())
}

fn reference(model: &Arc<Model>) -> Engine {
    let options = EngineOptions { backend: BackendKind::Reference, ..EngineOptions::default() };
    Engine::new(Arc::clone(model), options).unwrap()
}

/// Keys and values in 32 bits, adapters in 16.
fn wide() -> EngineOptions {
    EngineOptions {
        kv: KvFormat::F32,
        adapters: LoraFormat::F16,
        page_tokens: 4,
        pages_max: 256,
        chunk_tokens_max: 7,
        adapters_bytes_max: 16 << 20,
        ..EngineOptions::default()
    }
}

fn as_f64(rows: &[Vec<f32>]) -> Vec<Vec<f64>> {
    rows.iter().map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
}

/// The relative error of all logits against the reference's.
fn off(own: &mut Engine, other: &mut Engine, parts: &[(u8, f32)]) -> f64 {
    for id in 1..=2 {
        for engine in [&mut *own, &mut *other] {
            let adapter = adapter(engine.model().config(), u64::from(id), 4);
            engine.put_adapter(blob(id), adapter).unwrap();
        }
    }
    let parts: Vec<_> = parts.iter().map(|(id, weight)| (blob(*id), *weight)).collect();
    let found = own.logits_of(&tokens(), &parts).unwrap();
    let expected = other.logits_of(&tokens(), &parts).unwrap();
    difference(&found, &as_f64(&expected))
}

/// A model of each family.
fn families() -> Vec<(&'static str, Arc<Model>)> {
    let gemma = |w: GgufWriter| {
        w.u32("gemma3.attention.sliding_window", 9)
            .u32("gemma3.attention.sliding_window_pattern", 3)
            .f32("gemma3.rope.freq_base", 1e6)
            .text("gemma3.rope.scaling.type", "linear")
            .f32("gemma3.rope.scaling.factor", 8.0)
    };
    let yarn = |w: GgufWriter| {
        w.text("llama.rope.scaling.type", "yarn")
            .f32("llama.rope.scaling.factor", 4.0)
            .u32("llama.rope.scaling.original_context_length", 16)
    };
    vec![
        ("llama, a head of its own", tiny::open(&tiny::write(tiny::Kind::Factors, 1))),
        ("llama, tied", tiny::open(&tiny::write(tiny::Kind::Llama, 2))),
        ("qwen 2, biases", tiny::open(&tiny::write(tiny::Kind::Qwen2, 3))),
        ("llama, yarn", open(gguf("llama", &weights("llama", 3), yarn))),
        ("qwen 3, norms", open(gguf("qwen3", &weights("qwen3", 1), |w| w))),
        ("gemma 3, windows", open(gguf("gemma3", &weights("gemma3", 2), gemma))),
    ]
}

#[test]
fn every_family_gives_the_logits_of_the_reference() {
    for (name, model) in families() {
        let (mut own, mut other) = (engine(&model, wide()), reference(&model));
        let bare = off(&mut own, &mut other, &[]);
        assert!(bare < 1e-5, "{name}: {bare}");
        let mixed = off(&mut own, &mut other, &[(1, 1.0), (2, -0.5)]);
        assert!(mixed < 1e-3, "{name}, with adapters: {mixed}");
    }
}

#[test]
fn as_nodes_serve_and_in_eight_bits_it_is_close() {
    let (_, model) = families().remove(5);
    let mut other = reference(&model);
    for (kv, adapters) in [(KvFormat::F16, LoraFormat::Q8), (KvFormat::Q8, LoraFormat::Q8)] {
        let options = EngineOptions { kv, adapters, pages_max: 64, ..EngineOptions::default() };
        let found = off(&mut engine(&model, options), &mut other, &[(1, 1.0)]);
        assert!(found < 0.03, "{kv:?}: {found}");
    }
}

#[test]
fn integer_products_and_poor_devices_give_the_same() {
    let model = tiny::open(&tiny::write(tiny::Kind::Factors, 1));
    let mut other = reference(&model);
    let software = GpuOptions::software();
    let digits = GpuOptions { arithmetic: Arithmetic::Digits, ..software.clone() };
    let options = EngineOptions { chunk_tokens_max: 8, ..wide() };
    let found = off(&mut engine_on(&model, options, &digits), &mut other, &[(1, 1.0)]);
    assert!(found < 0.01, "digits: {found}");
    let poor = GpuOptions { without: openledger_inference::gpu::Without::ALL, ..software };
    let found = off(&mut engine_on(&model, wide(), &poor), &mut other, &[(1, 1.0)]);
    assert!(found < 1e-3, "a poor device: {found}");
}

#[test]
fn two_devices_share_the_layers() {
    let (_, model) = families().remove(5);
    let gpus = GpuOptions { devices: vec![Device::Best; 2], ..GpuOptions::software() };
    let mut own = engine_on(&model, wide(), &gpus);
    assert!(own.device().contains(" + "), "{}", own.device());
    let found = off(&mut own, &mut reference(&model), &[(1, 1.0), (2, 0.5)]);
    assert!(found < 1e-3, "{found}");
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

/// Sums are rounded in another order in another batch: answers are the same, their probabilities
/// nearly so.
fn agree(expected: &[Answer], found: &[Answer]) {
    assert_eq!(expected.len(), found.len());
    for (expected, found) in expected.iter().zip(found) {
        assert_eq!(found.failure, None);
        assert_eq!(expected.tokens, found.tokens);
        for (a, b) in expected.bits.iter().zip(&found.bits) {
            let (a, b) = (f32::from_bits(*a), f32::from_bits(*b));
            assert!((a - b).abs() < 5e-3, "{a} and {b}");
        }
    }
}

fn load(engine: &mut Engine) {
    for id in 1..=3 {
        let adapter = adapter(engine.model().config(), u64::from(id), 2 + usize::from(id));
        engine.put_adapter(blob(id), adapter).unwrap();
    }
}

#[test]
fn company_found_pages_preemption_and_a_full_arena_change_no_answer() {
    let model = tiny::open(&tiny::write(tiny::Kind::Llama, 4));
    let requests = requests(tiny::VOCAB as u32);
    let options = EngineOptions { chunk_tokens_max: 9, ..wide() };
    let mut lonely = engine(&model, EngineOptions { prefix_cache: false, ..options });
    load(&mut lonely);
    let expected: Vec<Answer> = requests.iter().map(|one| alone(&mut lonely, one)).collect();
    let mut company = engine(&model, options);
    load(&mut company);
    agree(&expected, &together(&mut company, &requests));
    agree(&expected, &together(&mut company, &requests));
    let mut tight = engine(&model, EngineOptions { pages_max: 30, ..options });
    load(&mut tight);
    agree(&expected, &together(&mut tight, &requests));
    // Room for two adapters at a time on the device, while the engine holds all three.
    let model_options = EngineOptions { backend: BackendKind::Wgpu, ..options };
    let small = EngineOptions { adapters_bytes_max: 40_000, ..model_options };
    let own = Box::new(backend(&model, &small, &GpuOptions::software()));
    let mut full = Engine::with_backend(Arc::clone(&model), model_options, own).unwrap();
    load(&mut full);
    agree(&expected, &together(&mut full, &requests));
}

/// A backend whose devices are lost at some of its steps.
struct Losing {
    inner: GpuBackend,
    steps: usize,
    lose_at: fn(usize) -> bool,
}

impl Backend for Losing {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn is_gone(&self) -> bool {
        self.inner.is_gone()
    }

    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError> {
        self.steps += 1;
        let lost = (self.lose_at)(self.steps);
        if lost {
            // Opened again first, if it was lost before.
            let _ = self.inner.run(&StepPlan::default());
            self.inner.lose_devices();
        }
        let outcome = self.inner.run(plan);
        assert!(outcome.is_err() || !lost);
        outcome
    }
}

fn losing(model: &Arc<Model>, lose_at: fn(usize) -> bool) -> Engine {
    let options = EngineOptions { backend: BackendKind::Wgpu, ..wide() };
    let inner = backend(model, &options, &GpuOptions::software());
    let own = Box::new(Losing { inner, steps: 0, lose_at });
    let mut engine = Engine::with_backend(Arc::clone(model), options, own).unwrap();
    load(&mut engine);
    engine
}

#[test]
fn a_lost_device_is_opened_again_and_answers_go_on() {
    let model = tiny::open(&tiny::write(tiny::Kind::Llama, 4));
    let requests = requests(tiny::VOCAB as u32);
    let mut sound = engine(&model, wide());
    load(&mut sound);
    let expected = together(&mut sound, &requests[..3]);
    let mut engine = losing(&model, |step| step == 3 || step == 9);
    let ids: Vec<_> = requests[..3].iter().map(|one| engine.submit(one.clone()).unwrap()).collect();
    let (mut answers, mut losses) = (std::collections::BTreeMap::new(), 0);
    while !engine.is_idle() {
        match engine.step() {
            Ok(events) => note(&mut answers, events),
            Err(error) => {
                losses += 1;
                assert!(error.to_string().contains("lost"), "{error}");
            }
        }
    }
    assert_eq!(losses, 2);
    assert!(!engine.backend_gone());
    let found: Vec<Answer> = ids.iter().map(|id| answers[id].clone()).collect();
    agree(&expected, &found);
}

#[test]
fn a_device_that_is_always_lost_is_given_up_and_says_so() {
    let model = tiny::open(&tiny::write(tiny::Kind::Llama, 4));
    let mut engine = losing(&model, |_| true);
    let mut steps = 0;
    while !engine.backend_gone() {
        engine.submit(Request::greedy(vec![5, 6, 7], 4)).unwrap();
        assert!(engine.step().is_err());
        steps += 1;
        assert!(steps < 10);
    }
    let error = engine.step().unwrap_err().to_string();
    assert!(error.contains("in a row"), "{error}");
}

#[test]
fn what_does_not_fit_is_refused_and_what_would_is_named() {
    let model = tiny::open(&tiny::write(tiny::Kind::Llama, 4));
    let refused = |options: EngineOptions, gpus: &GpuOptions| {
        let made = GpuBackend::new(Arc::clone(&model), &options, gpus, &mut |_, _| ());
        made.unwrap_err().to_string()
    };
    let memory = |bytes| GpuOptions { memory_max: Some(bytes), ..GpuOptions::software() };
    let error = refused(wide(), &memory(50_000));
    assert!(error.contains("a smaller or more quantised model"), "{error}");
    let large = EngineOptions { pages_max: 100_000, ..wide() };
    let error = refused(large, &memory(64 << 20));
    assert!(error.contains("pages instead of 100000 would"), "{error}");
    let error = refused(EngineOptions { pages_max: 1 << 24, ..wide() }, &GpuOptions::software());
    assert!(error.contains("binds") || error.contains("has no"), "{error}");
    let nobody = GpuOptions { devices: vec![Device::Named("Voodoo 2".to_owned())], ..memory(1) };
    let error = refused(wide(), &nobody);
    assert!(error.contains("Voodoo 2"), "{error}");
    let absent = GpuError::Absent { wanted: String::new(), found: String::new() };
    assert!(absent.to_string().contains("mesa-vulkan-drivers"));
}

#[test]
fn a_usable_device_is_no_processor_in_disguise() {
    assert!(usable_gpu().is_none_or(|info| info.usable()));
}

#[test]
fn a_real_model_answers_like_the_reference_with_many_adapters_at_once() {
    // Short: a processor in disguise takes half a second for each row.
    let model = real_model();
    let options = EngineOptions { pages_max: 64, ..EngineOptions::default() };
    let (mut own, mut other) = (engine(&model, options), reference(&model));
    for id in 1..=2 {
        for engine in [&mut own, &mut other] {
            let adapter = adapter(model.config(), u64::from(id), 8);
            engine.put_adapter(blob(id), adapter).unwrap();
        }
    }
    let france = model.tokenizer().encode("The capital of France is", SpecialTokens::AsText);
    let request = |adapters: &[(u8, f32)]| {
        let mut request = Request::greedy(france.clone(), 2);
        request.adapters = adapters.iter().map(|(id, weight)| (blob(*id), *weight)).collect();
        request
    };
    let mixed = [&[][..], &[(1, 0.1)], &[(1, 0.05), (2, 0.05)]];
    let requests: Vec<Request> = mixed.iter().map(|adapters| request(adapters)).collect();
    let found = together(&mut own, &requests);
    assert_eq!(found[0].tokens, [7042, 30], "what llama.cpp draws from the same file");
    // Its answers are the reference's, but for ties: each token's logit is the best within what
    // 16-bit keys and 8-bit adapters may move it.
    for (request, answer) in requests.iter().zip(&found) {
        let whole = [request.prompt.as_slice(), &answer.tokens].concat();
        let logits = other.logits_of(&whole, &request.adapters).unwrap();
        for (token, row) in answer.tokens.iter().zip(&logits[request.prompt.len() - 1..]) {
            let best = row.iter().copied().fold(f32::MIN, f32::max);
            assert!(best - row[*token as usize] < 0.3, "{:?}", request.adapters);
        }
    }
    let (found, expected) =
        (own.logits_of(&france, &[]).unwrap(), other.logits_of(&france, &[]).unwrap());
    let off = difference(&found, &as_f64(&expected));
    assert!(off < 2e-3, "{off}");
}

#[test]
fn tokens_drawn_on_the_device_are_those_drawn_from_all_logits() {
    let model = tiny::open(&tiny::write(tiny::Kind::Llama, 4));
    let mut engine = engine(&model, wide());
    let few = Sampling { top_k: 40, ..Sampling::seeded(0.9, [5; 32]) };
    let fewer = Sampling { top_k: 64, top_p: 0.8, min_p: 0.01, ..few.clone() };
    let mut requests = Vec::new();
    for sampling in [Sampling::greedy(), few, fewer] {
        // A bias of nothing changes no logit, but then all of them are asked for.
        for logit_bias in [[].into(), [(7, 0.0)].into()] {
            let sampling = Sampling { logit_bias, ..sampling.clone() };
            let mut request = Request { sampling, ..Request::greedy(vec![9, 8, 7, 6], 12) };
            (request.logprobs, request.ignore_end) = (Some(5), true);
            requests.push(request);
        }
    }
    let answers = together(&mut engine, &requests);
    for pair in answers.chunks(2) {
        assert_eq!(pair[0].tokens.len(), 12);
        agree(&pair[..1], &pair[1..]);
    }
    assert_ne!(answers[0].tokens, answers[2].tokens);
}
