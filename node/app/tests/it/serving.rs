//! Calls to a real model through a real infer worker: side by side, broken off, resumed, refused.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use openledger_app::serving::{
    AddOptions, CallPiece, Entry, InferenceConfig, Library, LocalServe, ModelsConfig, Serve as _,
    Wishes, add, codes, whole,
};
use openledger_models::{AdapterBundle, Gguf, Mapped, ModelConfig, peft};
use openledger_wire::call::{
    Call, CallFailure, CallToken, ChatMessage, Embed, FinishReason, Prompt, Sampling,
};
use openledger_wire::{BlobId, List, Prose, Text};
use tempfile::TempDir;

use crate::workers::program;

/// The model that `./installers/test.sh` has ready.
pub(crate) fn model_path() -> PathBuf {
    let path = std::env::var_os("OPENLEDGER_MODEL");
    assert!(path.is_some(), "set OPENLEDGER_MODEL or run ./installers/test.sh");
    path.unwrap_or_default().into()
}

/// An adapter in one file, felt by the model and the same for one seed.
pub(crate) fn adapter_file(folder: &TempDir, seed: u64, rank: usize) -> PathBuf {
    let mapped = Mapped::open(&model_path()).unwrap();
    let config = ModelConfig::from_gguf(&Gguf::parse(&mapped).unwrap(), &mapped).unwrap();
    let (json, tensors) = peft::synthesize(&config, seed, rank, 0.15);
    let path = folder.path().join(format!("voice-{seed}.safetensors"));
    std::fs::write(&path, AdapterBundle::pack(&json, &tensors).unwrap()).unwrap();
    path
}

/// A library with the real model, some adapters, and what serves them.
pub(crate) struct Desk {
    pub(crate) folder: TempDir,
    pub(crate) library: Arc<Library>,
    pub(crate) serve: LocalServe,
    pub(crate) base: Entry,
    pub(crate) adapters: Vec<Entry>,
}

pub(crate) fn desk(adapters: u64) -> Desk {
    desk_with(adapters, ModelsConfig { threads: 2, ..ModelsConfig::default() })
}

fn desk_with(adapters: u64, config: ModelsConfig) -> Desk {
    let folder = tempfile::tempdir().unwrap();
    let library = Arc::new(Library::open(folder.path().join("models")));
    std::fs::create_dir(library.folder()).unwrap();
    let in_place = AddOptions { in_place: true, ..AddOptions::default() };
    let base = add(&library, &model_path(), &in_place).unwrap();
    let adapter = |seed: u64| {
        let file = adapter_file(&folder, seed, 4 * usize::try_from(seed).unwrap());
        add(&library, &file, &AddOptions::default()).unwrap()
    };
    let adapters = (1..=adapters).map(adapter).collect();
    let inference = InferenceConfig::default();
    let serve = LocalServe::new(Arc::clone(&library), program(), config, inference);
    Desk { folder, library, serve, base, adapters }
}

pub(crate) fn chat(question: &str) -> Prompt {
    let message = ChatMessage::plain(Text::clipped("user"), Prose::clipped(question));
    Prompt::Chat(List::new(vec![message]).unwrap())
}

impl Desk {
    pub(crate) fn call(&self, adapters: &[BlobId], tokens_max: u32) -> Call {
        let adapters: Vec<_> = adapters.iter().map(|id| (*id, 1_000)).collect();
        Call {
            model: self.base.blob,
            adapters: List::new(adapters).unwrap(),
            prompt: chat("Name three animals that live in the sea."),
            generated: List::default(),
            tokens_max,
            sampling: Sampling {
                temperature_permille: 700,
                top_p_permille: 1_000,
                top_k: 0,
                presence_permille: 0,
                frequency_permille: 0,
                seed: [7; 32],
            },
            stop: List::default(),
            top_logprobs: 0,
            constraint: None,
            tools: None,
        }
    }

    async fn refusal(&self, call: Call) -> CallFailure {
        match self.serve.call(call).await {
            Err(failure) => failure,
            Ok(stream) => whole(stream).await.unwrap_err(),
        }
    }
}

fn text(tokens: &[CallToken]) -> String {
    tokens.iter().map(|token| &*token.text).collect()
}

fn ids(tokens: &[CallToken]) -> Vec<u32> {
    tokens.iter().map(|token| token.token).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_calls_with_four_adapters_stream_side_by_side() {
    let desk = desk(4);
    let mut streams = Vec::new();
    for adapter in &desk.adapters {
        streams.push(desk.serve.call(desk.call(&[adapter.blob], 24)).await.unwrap());
    }
    // Which call each token was of, in the order in which they came.
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let reading = streams.into_iter().enumerate().map(|(number, mut stream)| {
        let order = Arc::clone(&order);
        tokio::spawn(async move {
            let mut tokens = Vec::new();
            loop {
                match stream.recv().await.unwrap() {
                    CallPiece::Token(token) => {
                        order.lock().unwrap().push(number);
                        tokens.push(token);
                    }
                    CallPiece::End(end) => return (tokens, end),
                    CallPiece::Failed(failure) => panic!("{failure:?}"),
                }
            }
        })
    });
    let reading: Vec<_> = reading.collect();
    let mut answers = Vec::new();
    for one in reading {
        answers.push(one.await.unwrap());
    }
    let order = order.lock().unwrap().clone();
    let last_start = (0..4).map(|n| order.iter().position(|one| *one == n).unwrap()).max().unwrap();
    let first_end = (0..4).map(|n| order.iter().rposition(|one| *one == n).unwrap()).min().unwrap();
    assert!(last_start < first_end, "they took turns: {order:?}");
    for (number, (tokens, end)) in answers.iter().enumerate() {
        assert_eq!(end.completion_tokens as usize, tokens.len());
        assert!(end.prompt_tokens > 10 && tokens.iter().all(|token| token.logprob_micro <= 0));
        for (tokens_of_other, _) in &answers[..number] {
            assert_ne!(text(tokens), text(tokens_of_other), "adapters make no difference");
        }
    }
    // Company changes nothing: the same call alone gives the same tokens.
    let call = desk.call(&[desk.adapters[2].blob], 24);
    let (alone, _) = whole(desk.serve.call(call).await.unwrap()).await.unwrap();
    assert_eq!(ids(&alone), ids(&answers[2].0));
    let served = desk.serve.served();
    assert_eq!((served.calls, served.refused), (5, 0));
    desk.serve.stop().await;
    let stopped = desk.refusal(desk.call(&[], 5)).await;
    assert_eq!(&*stopped.code, codes::STOPPING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_mid_call_is_a_typed_failure_and_the_next_call_works() {
    let desk = desk(1);
    let call = || desk.call(&[desk.adapters[0].blob], 2_000);
    let mut stream = desk.serve.call(call()).await.unwrap();
    assert!(matches!(stream.recv().await, Some(CallPiece::Token(_))));
    let pid = desk.serve.worker_pid().await.unwrap();
    signal("-KILL", pid);
    let failure = loop {
        match stream.recv().await.unwrap() {
            CallPiece::Token(_) => {}
            CallPiece::End(end) => panic!("{end:?}"),
            CallPiece::Failed(failure) => break failure,
        }
    };
    assert_eq!(&*failure.code, codes::DIED);
    assert!(failure.retry_after_ms > 0);
    assert!(stream.recv().await.is_none());
    let call = desk.call(&[desk.adapters[0].blob], 5);
    let (tokens, end) = whole(desk.serve.call(call).await.unwrap()).await.unwrap();
    assert_eq!((tokens.len(), end.reason), (5, FinishReason::Length));
    assert_ne!(desk.serve.worker_pid().await.unwrap(), pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_crashes_the_worker_twice_is_refused_by_name() {
    let desk = desk(0);
    for _ in 0..2 {
        let mut stream = desk.serve.call(desk.call(&[], 2_000)).await.unwrap();
        assert!(matches!(stream.recv().await, Some(CallPiece::Token(_))));
        signal("-ABRT", desk.serve.worker_pid().await.unwrap());
        assert_eq!(&*whole(stream).await.unwrap_err().code, codes::DIED);
    }
    let refused = desk.refusal(desk.call(&[], 2_000)).await;
    assert_eq!(&*refused.code, codes::QUARANTINED, "{refused:?}");
    assert!(refused.message.contains("2 times"));
    let other = desk.call(&[], 3);
    assert_eq!(whole(desk.serve.call(other).await.unwrap()).await.unwrap().0.len(), 3);
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_reads_any_more_is_cancelled() {
    let desk = desk(0);
    let mut stream = desk.serve.call(desk.call(&[], 4_000)).await.unwrap();
    assert!(matches!(stream.recv().await, Some(CallPiece::Token(_))));
    assert_eq!(desk.serve.in_hand().await, 1);
    drop(stream);
    for _ in 0..500 {
        if desk.serve.in_hand().await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(desk.serve.in_hand().await, 0);
    let pid = desk.serve.worker_pid().await.unwrap();
    whole(desk.serve.call(desk.call(&[], 3)).await.unwrap()).await.unwrap();
    assert_eq!(desk.serve.worker_pid().await.unwrap(), pid, "the process is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_elsewhere_where_it_was_broken_off() {
    let desk = desk(1);
    let call = desk.call(&[desk.adapters[0].blob], 20);
    let (all, end) = whole(desk.serve.call(call.clone()).await.unwrap()).await.unwrap();
    let tokens = ids(&all);
    let half = tokens.len() / 2;
    let mut rest = call.clone();
    rest.generated = List::new(tokens[..half].to_vec()).unwrap();
    let (second, again) = whole(desk.serve.call(rest).await.unwrap()).await.unwrap();
    assert_eq!(ids(&second), tokens[half..]);
    assert_eq!(text(&all), format!("{}{}", text(&all[..half]), text(&second)));
    assert_eq!((again.reason, again.completion_tokens), (end.reason, end.completion_tokens));
    // Only its end was missing.
    let mut complete = call;
    complete.generated = List::new(tokens).unwrap();
    let (nothing, end_again) = whole(desk.serve.call(complete).await.unwrap()).await.unwrap();
    assert!(nothing.is_empty());
    assert_eq!(end_again.reason, end.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_is_refused_with_a_code_and_a_remedy() {
    let desk = desk(1);
    let unknown = BlobId([9; 32]);
    let mut no_model = desk.call(&[], 5);
    no_model.model = unknown;
    let mut adapter_as_model = desk.call(&[], 5);
    adapter_as_model.model = desk.adapters[0].blob;
    let mut long = desk.call(&[], 5);
    long.prompt = Prompt::Tokens(List::new(vec![5; 9_000]).unwrap());
    let mut empty = desk.call(&[], 5);
    empty.prompt = Prompt::Tokens(List::default());
    let mut wild = desk.call(&[], 5);
    wild.sampling.temperature_permille = 1_000_000;
    for (call, code, part) in [
        (no_model, codes::UNKNOWN_MODEL, "model fetch"),
        (adapter_as_model, codes::UNKNOWN_MODEL, "is an adapter"),
        (desk.call(&[unknown], 5), codes::UNKNOWN_ADAPTER, "model fetch"),
        (long, codes::CONTEXT, "9000"),
        (empty, codes::INVALID, "prompt is empty"),
        (desk.call(&[], 0), codes::INVALID, "0 tokens"),
        (wild, codes::INVALID, "temperature"),
    ] {
        let failure = desk.refusal(call).await;
        assert_eq!(&*failure.code, code, "{failure:?}");
        assert!(failure.message.contains(part), "{failure:?}");
        assert_eq!(failure.retry_after_ms, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_cut_short_are_named() {
    let desk = desk(1);
    let folder = desk.folder.path();
    let bytes = std::fs::read(model_path()).unwrap();
    let cut = folder.join("cut.gguf");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let error = add(&desk.library, &cut, &AddOptions::default()).unwrap_err().to_string();
    assert!(error.contains("cut.gguf") && error.contains("download"), "{error}");

    // One that was whole when it was added.
    let adapter = &desk.adapters[0];
    let content = std::fs::read(&adapter.path).unwrap();
    std::fs::write(&adapter.path, &content[..content.len() - 1_000]).unwrap();
    let failure = desk.refusal(desk.call(&[adapter.blob], 5)).await;
    assert_eq!(&*failure.code, codes::BAD_FILE, "{failure:?}");
    desk.library.refresh();
    let failure = desk.refusal(desk.call(&[adapter.blob], 5)).await;
    assert_eq!(&*failure.code, codes::BAD_FILE);
    assert!(failure.message.contains("cut short"), "{failure:?}");

    // The worker itself says so, too, and stays down without harm.
    let in_place = AddOptions { in_place: true, ..AddOptions::default() };
    let whole_file = folder.join("whole.gguf");
    std::fs::write(&whole_file, &bytes).unwrap();
    let library = Arc::new(Library::open(folder.join("other")));
    std::fs::create_dir(library.folder()).unwrap();
    let entry = add(&library, &whole_file, &in_place).unwrap();
    std::fs::write(&whole_file, &bytes[..bytes.len() - 5]).unwrap();
    let (config, inference) = (ModelsConfig::default(), InferenceConfig::default());
    let serve = LocalServe::new(library, program(), config, inference);
    let failure = serve.info(entry.blob).await.unwrap_err();
    assert_eq!(&*failure.code, codes::BAD_FILE);
    assert!(failure.message.contains("whole.gguf"), "{failure:?}");
}

fn vectors(embedded: &openledger_wire::call::Embedded) -> Vec<Vec<f32>> {
    let floats = |bytes: &[u8]| {
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    };
    embedded.vectors.iter().map(|blob| floats(blob)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_become_vectors_of_length_one_that_tell_them_apart() {
    let desk = desk(1);
    let texts = ["a cat sat on the mat", "the kitten lay on a rug", "monetary policy of 1973"];
    let embed = |adapters: Vec<(BlobId, u32)>| Embed {
        model: desk.base.blob,
        adapters: List::new(adapters).unwrap(),
        inputs: List::new(texts.map(|text| Prompt::Text(Prose::clipped(text))).to_vec()).unwrap(),
    };
    let plain = desk.serve.embed(embed(Vec::new())).await.unwrap();
    let all = vectors(&plain);
    assert_eq!((all.len(), all[0].len()), (3, 576));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    for one in &all {
        assert!((dot(one, one) - 1.0).abs() < 1e-4);
    }
    assert!(dot(&all[0], &all[1]) > dot(&all[0], &all[2]));
    assert!(plain.prompt_tokens > 10);
    assert_eq!(desk.serve.embed(embed(Vec::new())).await.unwrap(), plain);
    let adapted = desk.serve.embed(embed(vec![(desk.adapters[0].blob, 1_000)])).await.unwrap();
    assert_ne!(adapted.vectors, plain.vectors);
    assert_eq!(desk.serve.served().embeds, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn likeliest_tokens_and_stop_texts_come_as_asked() {
    let desk = desk(0);
    let mut call = desk.call(&[], 40);
    call.prompt = Prompt::Text(Prose::clipped("The capital of France is"));
    call.sampling.temperature_permille = 0;
    call.top_logprobs = 3;
    call.stop = List::new(vec![Prose::clipped(".")]).unwrap();
    let (tokens, end) = whole(desk.serve.call(call).await.unwrap()).await.unwrap();
    let answer = format!("{}{}", text(&tokens), &*end.text);
    assert!(answer.starts_with(" Paris") && !answer.contains('.'), "{answer}");
    assert_eq!(end.reason, FinishReason::Stop);
    let paris = tokens[0].token;
    for token in &tokens {
        assert_eq!(token.top.len(), 3);
        assert_eq!(token.top[0].0, token.token, "greedy takes the likeliest");
        assert_eq!(token.top[0].2, token.logprob_micro);
    }
    assert_eq!(&*tokens[0].top[0].1, " Paris");
    // A token may be forbidden or forced, and one that the model does not have is refused.
    let mut call = desk.call(&[], 4);
    call.prompt = Prompt::Text(Prose::clipped("The capital of France is"));
    call.sampling.temperature_permille = 0;
    let biased = |token: u32, bias: i32| {
        let wishes = Wishes {
            logit_bias_permille: vec![(token, bias)],
            min_p_permille: 10,
            ..Wishes::default()
        };
        let stream = desk.serve.call_with(call.clone(), wishes);
        async move { whole(stream.await.unwrap()).await }
    };
    let (tokens, _) = biased(paris, -100_000).await.unwrap();
    assert!(tokens.iter().all(|token| token.token != paris), "{}", text(&tokens));
    let (tokens, _) = biased(paris, 100_000).await.unwrap();
    assert!(tokens.iter().all(|token| token.token == paris), "{}", text(&tokens));
    let failed = biased(4_000_000, 1_000).await.unwrap_err();
    assert_eq!(&*failed.code, codes::INVALID);
}
