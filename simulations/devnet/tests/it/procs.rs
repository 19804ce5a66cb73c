//! Looking at processes through `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// All processes below one, with their names.
pub(crate) fn below(pid: u32) -> BTreeMap<u32, String> {
    let mut parents: BTreeMap<u32, Vec<(u32, String)>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some((name, _, parent)) = about(child) {
            parents.entry(parent).or_default().push((child, name));
        }
    }
    let mut found = BTreeMap::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        for (child, name) in parents.get(&parent).into_iter().flatten() {
            open.push(*child);
            found.insert(*child, name.clone());
        }
    }
    found
}

/// Name, state and parent of a process.
fn about(pid: u32) -> Option<(String, char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (start, rest) = text.rsplit_once(')')?;
    let name = start.split_once('(')?.1.to_owned();
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((name, state, fields.next()?.parse().ok()?))
}

/// Waits until none of them runs; gives those that still do.
pub(crate) fn survivors(pids: &BTreeMap<u32, String>, wait: Duration) -> Vec<(u32, String)> {
    let deadline = Instant::now() + wait;
    loop {
        // A number may be given to another process, but not with the same name so soon; a zombie
        // waits for its new parent to look at it.
        let runs = |pid: &u32, name: &String| {
            about(*pid).is_some_and(|(now, state, _)| now == *name && state != 'Z')
        };
        let left: Vec<(u32, String)> = pids
            .iter()
            .filter(|(pid, name)| runs(pid, name))
            .map(|(pid, name)| (*pid, name.clone()))
            .collect();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
