//! Which backend answers: the best that works, and the processor where a better one fails.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use openledger_app::serving::{
    AddOptions, BackendChoice, CallPiece, Entry, InferenceConfig, Library, LocalServe,
    ModelsConfig, Serve as _, add, codes, whole,
};
use openledger_wire::BlobId;
use openledger_wire::call::Call;
use tempfile::TempDir;

use crate::fake_serve::call;
use crate::process::json;
use crate::serving::model_path;
use crate::workers::program;

struct Desk {
    serve: LocalServe,
    base: Entry,
    _folder: TempDir,
}

fn desk(inference: InferenceConfig) -> Desk {
    let folder = tempfile::tempdir().unwrap();
    let library = Arc::new(Library::open(folder.path()));
    let in_place = AddOptions { in_place: true, ..AddOptions::default() };
    let base = add(&library, &model_path(), &in_place).unwrap();
    let config = ModelsConfig { threads: 2, ..ModelsConfig::default() };
    let serve = LocalServe::new(library, program(), config, inference);
    Desk { serve, base, _folder: folder }
}

impl Desk {
    fn call(&self, tokens_max: u32) -> Call {
        Call { model: self.base.blob, ..call("Say something.", tokens_max) }
    }

    async fn answer(&self) -> usize {
        whole(self.serve.call(self.call(3)).await.unwrap()).await.unwrap().0.len()
    }
}

/// The library of ONNX Runtime that `./installers/test.sh` has ready.
fn onnx() -> InferenceConfig {
    let path = std::env::var_os("OPENLEDGER_ONNXRUNTIME");
    assert!(path.is_some(), "set OPENLEDGER_ONNXRUNTIME or run ./installers/test.sh");
    let mut config = InferenceConfig { backend: BackendChoice::Onnx, ..InferenceConfig::default() };
    config.onnx.library = PathBuf::from(path.unwrap_or_default());
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_the_best_that_is_here_answers_and_says_so() {
    let desk = desk(InferenceConfig::default());
    desk.serve.look_for_devices().await;
    assert_eq!(desk.answer().await, 3);
    let engine = desk.serve.engine().await;
    assert_eq!(engine.asked, "auto");
    assert_eq!(engine.fallback, None, "a machine without a GPU is no fault");
    // On a machine with a GPU, that one.
    let has_none = engine.absent.as_deref() == Some("no usable GPU");
    assert_eq!(has_none, engine.backend == "cpu-int12", "{engine:?}");
    assert!(has_none || engine.backend == "wgpu", "{engine:?}");
    assert_eq!(desk.serve.class(), engine.class);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_answers_be_it_a_program_on_the_processor() {
    let mut gpu = InferenceConfig { backend: BackendChoice::Gpu, ..InferenceConfig::default() };
    gpu.gpu.allow_software = true;
    let desk = desk(gpu);
    assert_eq!(desk.answer().await, 3);
    let engine = desk.serve.engine().await;
    match engine.fallback {
        None => assert_eq!((engine.class.as_str(), engine.device.is_empty()), ("wgpu-1", false)),
        // There is not even that.
        Some(why) => assert!(why.contains("no usable GPU"), "{why}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_there_leaves_calls_to_the_processor_and_is_named() {
    let mut gpu = InferenceConfig { backend: BackendChoice::Gpu, ..InferenceConfig::default() };
    gpu.gpu.device = "no such card".to_owned();
    gpu.gpu.allow_software = true;
    let mut absent = onnx();
    absent.onnx.library = "/no/such/library.so".into();
    for (config, asked, part) in [(gpu, "gpu", "GPU"), (absent, "onnx", "/no/such/library.so")] {
        let desk = desk(config);
        assert_eq!(desk.answer().await, 3);
        let engine = desk.serve.engine().await;
        assert_eq!((engine.asked.as_str(), engine.backend.as_str()), (asked, "cpu-int12"));
        let why = engine.fallback.unwrap();
        assert!(why.contains(part) && why.contains("tried again in"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_whose_process_dies_again_is_replaced_and_the_input_is_not_blamed() {
    let desk = desk(onnx());
    for _ in 0..2 {
        let mut stream = desk.serve.call(desk.call(500)).await.unwrap();
        let first = stream.recv().await;
        assert!(matches!(first, Some(CallPiece::Token(_))), "{first:?}");
        assert_eq!(desk.serve.engine().await.class, "onnx-1");
        let pid = desk.serve.worker_pid().await.unwrap();
        assert!(Command::new("kill").args(["-ABRT", &pid.to_string()]).status().unwrap().success());
        assert_eq!(&*whole(stream).await.unwrap_err().code, codes::DIED);
    }
    let (tokens, _) = whole(desk.serve.call(desk.call(5)).await.unwrap()).await.unwrap();
    assert_eq!(tokens.len(), 5);
    let engine = desk.serve.engine().await;
    assert_eq!(engine.backend, "cpu-int12", "{engine:?}");
    assert!(engine.fallback.unwrap().contains("its process died 2 times"));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_done_in_the_class_that_is_asked_for_whatever_answers_calls() {
    let desk = desk(onnx());
    assert_eq!(desk.answer().await, 3);
    let class = InferenceConfig::default().class();
    let info = desk.serve.info_in(desk.base.blob, class).await.unwrap();
    assert_eq!(info.backend, class);
    let work = desk.serve.work(desk.call(4), class).await.unwrap();
    assert_eq!(whole(work).await.unwrap().0.len(), 4);
    assert_eq!(desk.serve.engine().await.backend, "onnx");
    assert_eq!(desk.serve.info(desk.base.blob).await.unwrap().backend, "onnx-1");
    let unknown = desk.serve.info(BlobId([9; 32])).await.unwrap_err();
    assert_eq!(&*unknown.code, codes::UNKNOWN_MODEL);
}

#[test]
fn doctor_says_which_backend_would_answer_and_why_another_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    json(&data, &["config", "set", "inference.gpu.device", "no such card"]);
    json(&data, &["config", "set", "inference.backend", "gpu"]);
    let output = crate::process::command(&data, &["--json", "doctor"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = report["checks"].as_array().unwrap();
    let engine: Vec<String> =
        all.iter().filter(|one| one["code"] == "engine").map(ToString::to_string).collect();
    assert!(engine[0].contains("cpu-int12 with"), "{engine:?}");
    assert!(engine[1].contains("gpu was chosen") && engine[1].contains("GPU"), "{engine:?}");
}
