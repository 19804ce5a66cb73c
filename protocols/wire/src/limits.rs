//! Every bound of the wire, each with its reason. All sizes in bytes unless named otherwise.

/// A URL. Longer ones are refused by common servers (8 kB request lines), and are a way to smuggle
/// payloads to a victim.
pub const URL_MAX: usize = 2_048;
/// A name or short human text.
pub const NAME_MAX: usize = 128;
/// A sentence: reasons, remedies, notes.
pub const NOTE_MAX: usize = 512;
/// A network address as text (multiaddr or socket address).
pub const ADDRESS_MAX: usize = 128;
/// Addresses a node may announce: a handful of interfaces, not a list of victims.
pub const ADDRESSES_MAX: usize = 8;
/// The body of a task: a URL and its options, or a prompt.
pub const TASK_BODY_MAX: usize = 8 * 1024;
/// The body of a proof: a fingerprint of a page (signature of 448 bytes and up to 4,096 numeral
/// hashes of 8 bytes) and its description.
pub const PROOF_BODY_MAX: usize = 40 * 1024;
/// A whole signed envelope on the link: a proof with its frame.
pub const ENVELOPE_MAX: usize = 48 * 1024;
/// A gossip message. Small things only: bodies travel as blobs.
pub const GOSSIP_MAX: usize = 16 * 1024;
/// One message on the coordinator link, either way.
pub const LINK_MAX: usize = 4 * 1024 * 1024;
/// Tasks in one logged batch.
pub const BATCH_TASKS_MAX: usize = 1_024;
/// Rows in one log line of leases, commitments, receipts or verdicts.
pub const LINE_ROWS_MAX: usize = 16_384;
/// One log line, encoded.
pub const LINE_MAX: usize = 4 * 1024 * 1024;
/// Proofs, commitments or acknowledgements in one link batch.
pub const LINK_BATCH_MAX: usize = 64;
/// Log entries in one answer.
pub const LOG_PAGE_MAX: usize = 512;
/// A network profile as text.
pub const PROFILE_MAX: usize = 64 * 1024;
/// Hosts that a devnet profile may open although their addresses are private.
pub const PRIVATE_HOSTS_MAX: usize = 256;
/// Founding nodes named in a profile.
pub const FOUNDING_MAX: usize = 64;
/// Steps of a Merkle path: trees of up to 2^32 leaves.
pub const PATH_MAX: usize = 32;
/// A page as fetched, decoded: what a fetch worker may hand over.
pub const PAGE_MAX: usize = 50 * 1024 * 1024;
/// A document as refined.
pub const DOCUMENT_MAX: usize = 8 * 1024 * 1024;
/// One message between the node and a worker process: a page and its frame.
pub const WORKER_MAX: usize = PAGE_MAX + 64 * 1024;
/// Replicas and auditors that a task may have over all its waves.
pub const REPLICAS_MAX: usize = 16;
/// A delegation may run for at most this long (400 days): a forgotten hot key dies by itself.
pub const DELEGATION_MS_MAX: u64 = 400 * 24 * 3_600 * 1_000;
/// Tokens that an `infer` task may produce: with their log-probabilities and fingerprint
/// half of a proof's body, with all that a check says of them four fifths.
pub const INFER_TOKENS_MAX: usize = 1_024;
/// The fingerprint of as many tokens: 8 bytes each, and 4 for each 32 of them.
pub const INFER_FINGERPRINT_MAX: usize = INFER_TOKENS_MAX * 8 + INFER_TOKENS_MAX / 32 * 4;
/// A prompt as text, or one message of a chat. Longer ones are documents, which retrieval brings in.
pub const PROMPT_TEXT_MAX: usize = 256 * 1024;
/// Messages of a chat.
pub const PROMPT_MESSAGES_MAX: usize = 256;
/// A prompt given as token ids: the longest context of the models that fit such machines.
pub const PROMPT_TOKENS_MAX: usize = 128 * 1024;
/// A prompt, encoded.
pub const PROMPT_MAX: usize = 1024 * 1024;
/// Adapters mixed in one call.
pub const CALL_ADAPTERS_MAX: usize = 8;
/// Tokens that one call may produce.
pub const CALL_TOKENS_MAX: usize = 16 * 1024;
/// What an answer must look like: no more than a call between peers carries.
pub const CONSTRAINT_MAX: usize = 64 * 1024;
/// Texts that an answer may be one of.
pub const CHOICES_MAX: usize = 256;
/// Tools of a call; OpenAI's interface has as many.
pub const TOOLS_MAX: usize = 128;
/// Description or parameters of a tool: no more than a call between peers carries.
pub const TOOLS_BYTES_MAX: usize = 64 * 1024;
/// Calls of tools in one message.
pub const TOOL_CALLS_MAX: usize = 16;
/// A call between peers, encoded: what one request of the swarm carries.
pub const CALL_MAX: usize = 64 * 1024;
/// An answer to it, encoded.
pub const CALL_ANSWER_MAX: usize = 1024 * 1024;
/// Texts that one embedding request may hold.
pub const EMBED_INPUTS_MAX: usize = 64;
/// Models and adapters that a node may announce: what fits a gossip message.
pub const OFFERS_MAX: usize = 32;
