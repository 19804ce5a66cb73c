//! Every bound of this crate, each with its reason. Sizes in bytes unless named otherwise.

/// Everything before the tensor data of a GGUF file: the largest vocabularies in use (256,000
/// tokens with merges and scores) take less than 20 MB.
pub const GGUF_HEADER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Metadata entries of a GGUF file; real files have below a hundred.
pub const GGUF_ENTRIES_MAX: u64 = 4_096;
/// Tensors of a GGUF file: 512 layers of 16 tensors and some.
pub const GGUF_TENSORS_MAX: u64 = 16_384;
/// Items of one metadata array: four times the largest list of merges in use.
pub const GGUF_ITEMS_MAX: u64 = 2 * 1024 * 1024;
/// One key or tensor name; the format's own bound.
pub const GGUF_NAME_BYTES_MAX: u64 = 65_535;
/// One text in the metadata; the longest are chat templates and licences.
pub const GGUF_TEXT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Dimensions of a tensor; the format's own bound.
pub const GGUF_DIMENSIONS_MAX: u32 = 4;
/// Alignment of the tensor data; files in use say 32.
pub const GGUF_ALIGNMENT_MAX: u64 = 64 * 1024;

/// Layers of a model: four times those of the largest of the family (126).
pub const LAYERS_MAX: usize = 512;
/// Width of a model, its feed-forward layer included: above the largest of the family (53,248).
pub const WIDTH_MAX: usize = 1 << 17;
/// Attention heads of a layer; 128 in the largest of the family.
pub const HEADS_MAX: usize = 1_024;
/// Tokens of context that a file may claim: 16 times the longest in the family.
pub const CONTEXT_MAX: usize = 1 << 24;

/// Tokens of a vocabulary; 262,144 is the largest in use.
pub const VOCABULARY_MAX: usize = 1 << 20;
/// Tokens that are looked for in raw text, one search of the text each; 1,000 is common.
pub const SPECIAL_TOKENS_MAX: usize = 16_384;
/// One token's text in bytes; the longest in use are runs of a few hundred spaces.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// A chat template's source; the longest in use have 20 kB.
pub const TEMPLATE_BYTES_MAX: usize = 256 * 1024;
/// Steps that a template may run: 4,000 messages at 100 steps each.
pub const TEMPLATE_FUEL_MAX: u64 = 400_000;
/// Calls within calls: macros of macros; and keeps the stack small.
pub const TEMPLATE_DEPTH_MAX: usize = 64;
/// Bytes that a template may make in all, its output and all texts and lists on the way: four
/// times the longest prompt that anybody sends, so that no template can fill the memory.
pub const TEMPLATE_MADE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a prompt that a template may give: a megabyte is more than the longest context.
pub const PROMPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages of a conversation.
pub const MESSAGES_MAX: usize = 4_096;

/// The JSON header of a safetensors file: 512 layers of 14 tensors at 200 bytes each, and the
/// adapter's configuration.
pub const SAFETENSORS_HEADER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Tensors of an adapter: 512 layers of 14.
pub const SAFETENSORS_TENSORS_MAX: usize = 8_192;
/// A PEFT configuration; those in use have 1 kB.
pub const ADAPTER_CONFIG_BYTES_MAX: usize = 64 * 1024;
/// Rank of an adapter. Higher ranks cost like a model of their own.
pub const ADAPTER_RANK_MAX: usize = 256;
/// An adapter as floats in memory: rank 64 on every site of an 8-billion model takes 1.3 GB; more
/// than that belongs into the base.
pub const ADAPTER_FLOATS_MAX: usize = 1 << 29;
/// The scale of an adapter (`alpha / r`): real ones lie between 0.1 and 64.
pub const ADAPTER_SCALE_MAX: f32 = 1_024.0;
/// Patterns that set ranks or scales of modules: one for each of 7 modules of 128 layers.
pub const ADAPTER_PATTERNS_MAX: usize = 1_024;
/// One such pattern; those in use are names of modules.
pub const PATTERN_BYTES_MAX: usize = 512;
/// Groups within groups of a pattern.
pub const PATTERN_DEPTH_MAX: usize = 16;
/// Steps to try a pattern on a name of 60 characters; ordinary ones take some hundred.
pub const PATTERN_STEPS_MAX: u32 = 20_000;

/// `config.json` and its like; the largest in use (configurations of tokenizers that list every
/// added token, indices of many files) have 1 MB.
pub const FOLDER_JSON_BYTES_MAX: usize = 8 * 1024 * 1024;
/// `tokenizer.json`; the largest in use (262,144 tokens with their merges) has 33 MB.
pub const TOKENIZER_JSON_BYTES_MAX: usize = 96 * 1024 * 1024;
/// Files with weights; 5 GB each, so a model of 1 TB has 200.
pub const SHARDS_MAX: usize = 512;

/// A file of the exchange format: what protocol buffers can count.
pub const ONNX_BYTES_MAX: usize = i32::MAX as usize;
/// Inputs or outputs of such a graph: two for each of 512 layers and some more.
pub const ONNX_VALUES_MAX: usize = 2_048;
/// Graphs within graphs: branches within loops.
pub const ONNX_DEPTH_MAX: usize = 16;
/// Files with weights beside it; exporters write one.
pub const ONNX_EXTERNAL_FILES_MAX: usize = 512;
/// A name that is kept; those in use have some dozen bytes.
pub const ONNX_NAME_BYTES_MAX: usize = 1_024;
