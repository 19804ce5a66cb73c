//! Real sockets on loopback: the link, the blobs, and the swarm.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

mod back_off;
mod blobs;
mod full_disk;
mod link;
mod node;
mod raw;
mod reach;

use std::time::{Duration, Instant};

/// Waits until `ready` holds; fails with `what` after a generous deadline.
async fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ready() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A future with a generous deadline.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("took too long: {what}"),
    }
}
