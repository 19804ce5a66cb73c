//! Remembered robots.txt files, bounded in number and age.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::robots::RobotsState;

/// What is known of robots.txt files by origin. Takes the time from its caller.
#[derive(Debug)]
pub(crate) struct RobotsCache {
    entries_max: usize,
    entries: BTreeMap<String, (u64, Arc<RobotsState>)>,
}

impl RobotsCache {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries_max: entries_max.max(1), entries: BTreeMap::new() }
    }

    /// The file of `origin`, unless unknown or stale.
    pub(crate) fn get(&self, now_ms: u64, origin: &str) -> Option<Arc<RobotsState>> {
        let (expires_ms, state) = self.entries.get(origin)?;
        (now_ms < *expires_ms).then(|| Arc::clone(state))
    }

    /// Remembers a file until `expires_ms`; the one that would go stale first
    /// makes room.
    pub(crate) fn put(&mut self, origin: &str, expires_ms: u64, state: Arc<RobotsState>) {
        if self.entries.len() >= self.entries_max && !self.entries.contains_key(origin) {
            let first = self.entries.iter().min_by_key(|(_, (expires, _))| *expires);
            if let Some(oldest) = first.map(|(origin, _)| origin.clone()) {
                self.entries.remove(&oldest);
            }
        }
        self.entries.insert(origin.to_owned(), (expires_ms, state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_age_and_make_room() {
        let mut cache = RobotsCache::new(2);
        let file = Arc::new(RobotsState::NoFile);
        cache.put("a", 100, Arc::clone(&file));
        cache.put("b", 50, Arc::clone(&file));
        assert!(cache.get(99, "a").is_some() && cache.get(100, "a").is_none());
        cache.put("c", 70, file);
        assert!(cache.get(0, "b").is_none() && cache.get(0, "a").is_some());
    }
}
