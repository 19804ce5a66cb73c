//! What the tests share: requests, adapters, and running an engine to its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use openledger_inference::{
    Backend, BackendError, BackendKind, CpuBackend, Engine, EngineOptions, Event, FinishReason,
    ReferenceBackend, Request, RowOutput, SequenceId, StepPlan, Usage,
};
use openledger_models::peft::synthesize;
use openledger_models::{Adapter, Model, ModelConfig};
use openledger_wire::ids::BlobId;

/// What every promise is tested on.
pub(crate) const BACKENDS: [BackendKind; 2] = [BackendKind::Reference, BackendKind::Int12];

/// An id.
pub(crate) fn blob(number: u8) -> BlobId {
    BlobId([number; 32])
}

/// A random adapter that is felt.
pub(crate) fn adapter(config: &ModelConfig, seed: u64, rank: usize) -> Adapter {
    let (json, tensors) = synthesize(config, seed, rank, 0.3);
    Adapter::parse(&json, &tensors, config).unwrap()
}

/// The model that `./installers/test.sh` has ready.
pub(crate) fn real_model() -> Arc<Model> {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    let open = || Arc::new(Model::open(&real_model_path()).unwrap());
    Arc::clone(MODEL.get_or_init(open))
}

pub(crate) fn real_model_path() -> PathBuf {
    let path = std::env::var_os("OPENLEDGER_MODEL");
    assert!(path.is_some(), "set OPENLEDGER_MODEL or run ./installers/test.sh");
    path.unwrap_or_default().into()
}

/// Tokens of a prompt that were found. Equal to any other: answers must not depend on it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cached(pub(crate) usize);

impl PartialEq for Cached {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Everything that a sequence gave: tokens and numbers bit for bit, text, and its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<u32>,
    /// Bits of the log-probability of each token and of the likeliest ones.
    pub(crate) bits: Vec<u32>,
    pub(crate) text: String,
    /// Without the tokens that were found: those depend on company.
    pub(crate) end: Option<(FinishReason, Usage)>,
    pub(crate) cached_tokens: Cached,
    pub(crate) failure: Option<String>,
}

/// Notes events.
pub(crate) fn note(answers: &mut BTreeMap<SequenceId, Answer>, events: Vec<Event>) {
    for event in events {
        let answer = answers.entry(event.sequence()).or_default();
        assert!(answer.end.is_none() && answer.failure.is_none(), "an event after the end");
        match event {
            Event::Token { token, text, logprob, top, .. } => {
                answer.tokens.push(token);
                answer.text += &text;
                answer.bits.push(logprob.to_bits());
                answer.bits.extend(top.iter().flat_map(|(id, lp)| [*id, lp.to_bits()]));
            }
            Event::Finished { reason, usage, .. } => {
                answer.cached_tokens = Cached(usage.cached_tokens);
                answer.end = Some((reason, Usage { cached_tokens: 0, ..usage }));
            }
            Event::Failed { error, .. } => answer.failure = Some(error.to_string()),
        }
    }
}

/// Steps until nothing is left.
pub(crate) fn finish(engine: &mut Engine) -> BTreeMap<SequenceId, Answer> {
    let mut answers = BTreeMap::new();
    for _ in 0..10_000 {
        if engine.is_idle() {
            assert_eq!(engine.pages_free(), engine.options().pages_max, "pages leaked");
            return answers;
        }
        note(&mut answers, engine.step().unwrap());
    }
    panic!("the engine never comes to rest: {engine:?}");
}

/// Runs requests together; answers in their order.
pub(crate) fn together(engine: &mut Engine, requests: &[Request]) -> Vec<Answer> {
    let ids: Vec<SequenceId> =
        requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
    let answers = finish(engine);
    ids.iter().map(|id| answers[id].clone()).collect()
}

/// Runs a request alone.
pub(crate) fn alone(engine: &mut Engine, request: &Request) -> Answer {
    together(engine, std::slice::from_ref(request)).remove(0)
}

/// What a watched backend ran.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) rows: AtomicUsize,
    /// Largest number of different adapters in one step.
    pub(crate) adapters: AtomicUsize,
}

/// A backend, watched.
struct Watched(Box<dyn Backend>, Arc<Watch>);

impl Backend for Watched {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError> {
        self.1.rows.fetch_add(plan.rows.len(), Ordering::Relaxed);
        let parts = plan.sequences.iter().flat_map(|sequence| sequence.adapters.parts());
        let mut generations: Vec<_> = parts.map(|part| part.0.generation()).collect();
        generations.sort();
        generations.dedup();
        self.1.adapters.fetch_max(generations.len(), Ordering::Relaxed);
        self.0.run(plan)
    }
}

/// An engine whose backend is watched.
pub(crate) fn watched(model: &Arc<Model>, options: EngineOptions) -> (Engine, Arc<Watch>) {
    let watch = Arc::new(Watch::default());
    let own = Arc::clone(model);
    let backend: Box<dyn Backend> = match options.backend {
        BackendKind::Int12 | BackendKind::Int12Whole => {
            Box::new(CpuBackend::new(own, &options, &mut |_, _| ()).unwrap())
        }
        BackendKind::Reference => Box::new(ReferenceBackend::new(own, &options).unwrap()),
        other => panic!("{other:?} is not watched"),
    };
    let backend = Box::new(Watched(backend, Arc::clone(&watch)));
    (Engine::with_backend(Arc::clone(model), options, backend).unwrap(), watch)
}
