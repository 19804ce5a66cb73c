//! What this process uses: processor time, which a loaded machine stretches less than wall time,
//! and memory.

/// Seconds that all threads of this process were on a processor, by the scheduler's own count in
/// nanoseconds; `None` where the system has none. Threads that ended meanwhile are not in it: the
/// engine's live as long as the engine.
#[must_use]
pub fn seconds() -> Option<f64> {
    let mut nanoseconds = 0u64;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let counts = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += counts.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(nanoseconds as f64 / 1e9)
}

/// Bytes of this process that are in memory; `None` where the system does not say.
#[must_use]
pub fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// Those of them that are of mapped files: the system can take them back at any time.
#[must_use]
pub fn resident_files() -> Option<u64> {
    status("RssFile:")
}

/// Bytes of the machine that programs can still have; `None` where the system does not say.
#[must_use]
pub fn available() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

fn status(name: &str) -> Option<u64> {
    field("/proc/self/status", name)
}

fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
