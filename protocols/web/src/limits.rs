//! Every bound of the HTTP shell, each with its reason.

use std::time::Duration;

/// A request body unless the caller says otherwise, in bytes: an API call, not an upload.
pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// From the first byte of a request to the start of its answer. The slowest honest answer reads a
/// bundle from disk.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// A connection on which nothing moves in either direction is closed; live events are kept alive
/// more often than this.
pub const IDLE_MAX: Duration = Duration::from_secs(75);
/// Connections at a time, unless the caller says otherwise: some hundred browsers, while each
/// connection costs a task and a file descriptor.
pub const CONNECTIONS_MAX: usize = 512;
/// Open requests may finish for this long at a shutdown before they are cut.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);
/// Pause between signs of life on a stream of events; proxies close silent ones after 60 s.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that wait for a slow reader before it is told to load the page anew.
pub const LIVE_QUEUE: usize = 256;
/// A token's text: 32 random bytes in hex, with room for an operator's own.
pub const TOKEN_BYTES_MAX: usize = 256;
/// Shortest token that an operator may choose, in bytes: below it, guessing becomes thinkable.
pub const TOKEN_BYTES_MIN: usize = 16;
/// Characters of one sentence of a doctor's finding: a path, a server's message and a command fit,
/// and a terminal is not flooded.
pub const FINDING_CHARS_MAX: usize = 800;
