//! The parts that run beside the core, by name, so that one that does not end can be named.

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::limits;

/// Running parts. All of them end by themselves once they are told to stop.
#[derive(Debug, Default)]
pub(crate) struct Running(Vec<(&'static str, JoinHandle<()>)>);

impl Running {
    /// Starts a part.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        part: impl Future<Output = ()> + Send + 'static,
    ) {
        self.0.push((name, tokio::spawn(part)));
    }

    /// Waits for all parts, which have been told to stop; cuts off those that take too long and
    /// gives their names.
    pub(crate) async fn end(self) -> Vec<&'static str> {
        let deadline = Instant::now() + limits::STOP_GRACE;
        let mut late = Vec::new();
        for (name, mut part) in self.0 {
            // An error is a panic of the part, which has been reported already.
            if timeout_at(deadline, &mut part).await.is_err() {
                part.abort();
                late.push(name);
            }
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_end_is_named_and_cut_off() {
        let mut running = Running::default();
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        running.spawn("quick", async {});
        running.spawn("stuck", async move {
            std::future::pending::<()>().await;
            drop(sender);
        });
        assert_eq!(running.end().await, ["stuck"]);
        assert!(receiver.await.is_err(), "it was dropped");
    }
}
