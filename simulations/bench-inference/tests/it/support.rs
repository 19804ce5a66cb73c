//! A cache with a stand-in for the peer, and a model of a few kilobytes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use openledger_models::GgufWriter;
use tempfile::TempDir;

/// What the stand-in answers to every request: a version, times, and no ids.
pub(crate) const WILLING: &str = r#"echo '{"version": "0.0", "seconds": 0.5, "cpu_seconds": 0.25, "ids": [], "first": [0.125]}'"#;

/// A place in which the program finds, or does not find, what it needs.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Installs a peer that does this for each line that it is asked.
    pub(crate) fn peer(self, each: &str) -> Self {
        let folder = self.path("peers/llama-cpp-python");
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        let python = folder.join("bin/python");
        let script = format!("#!/bin/sh\nwhile read -r line; do {each}; done\n");
        std::fs::write(&python, script).unwrap();
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(folder.join(".complete"), "").unwrap();
        self
    }

    /// Writes the model.
    pub(crate) fn model(self, bytes: &[u8]) -> Self {
        std::fs::write(self.path("tiny.gguf"), bytes).unwrap();
        self
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_openledger-bench-inference"))
            .args(arguments)
            .env("OPENLEDGER_CACHE", self.folder.path())
            .env("OPENLEDGER_MODEL", self.path("tiny.gguf"))
            .output()
            .unwrap()
    }

    /// Runs it where it must fail with a code; what it says.
    pub(crate) fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(output.stdout.is_empty(), "nothing but figures goes there");
        said
    }
}

const HIDDEN: usize = 32;
const FEED_FORWARD: usize = 64;
const VOCAB: usize = 259;

/// A model of one layer whose tokens are bytes.
pub(crate) fn tiny() -> Vec<u8> {
    let mut tokens = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let kinds: Vec<i32> = (0..VOCAB).map(|id| [2, 3, 3].get(id).copied().unwrap_or(6)).collect();
    let mut writer = GgufWriter::new()
        .text("general.architecture", "llama")
        .text("general.name", "tiny")
        .u32("llama.block_count", 1)
        .u32("llama.embedding_length", HIDDEN as u32)
        .u32("llama.attention.head_count", 2)
        .u32("llama.attention.head_count_kv", 1)
        .u32("llama.feed_forward_length", FEED_FORWARD as u32)
        .u32("llama.context_length", 512)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", tokens.iter().map(String::as_str))
        .f32s("tokenizer.ggml.scores", &[0.0; VOCAB])
        .i32s("tokenizer.ggml.token_type", &kinds)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2);
    let mut matrix = |name: &str, cols: usize, rows: usize| {
        let values: Vec<f32> = (0..rows * cols).map(|at| (at as f32 * 0.7).sin() * 0.3).collect();
        let old = std::mem::take(&mut writer);
        writer = old.floats(name, &[cols as u64, rows as u64], &values);
    };
    matrix("token_embd.weight", HIDDEN, VOCAB);
    for (site, cols, rows) in [
        ("attn_q", HIDDEN, HIDDEN),
        ("attn_k", HIDDEN, HIDDEN / 2),
        ("attn_v", HIDDEN, HIDDEN / 2),
        ("attn_output", HIDDEN, HIDDEN),
        ("ffn_gate", HIDDEN, FEED_FORWARD),
        ("ffn_up", HIDDEN, FEED_FORWARD),
        ("ffn_down", FEED_FORWARD, HIDDEN),
    ] {
        matrix(&format!("blk.0.{site}.weight"), cols, rows);
    }
    for norm in ["blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"] {
        writer = writer.floats(norm, &[HIDDEN as u64], &[1.0; HIDDEN]);
    }
    writer.finish()
}
