//! Making checks, each within its time.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::finding::Finding;
use super::report::Report;

type Work = Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>;

/// One check, not made yet. It looks, and changes nothing.
pub struct Check {
    code: &'static str,
    network: Option<String>,
    time_max: Duration,
    work: Work,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("code", &self.code).finish_non_exhaustive()
    }
}

impl Check {
    /// A check that waits for others: sockets, mostly.
    #[must_use]
    pub fn new(
        code: &'static str,
        time_max: Duration,
        work: impl Future<Output = Vec<Finding>> + Send + 'static,
    ) -> Self {
        Self { code, network: None, time_max, work: Box::pin(work) }
    }

    /// A check that reads files or computes. If it takes too long, as on a disk that hangs, it is
    /// left behind.
    #[must_use]
    pub fn blocking(
        code: &'static str,
        time_max: Duration,
        work: impl FnOnce() -> Vec<Finding> + Send + 'static,
    ) -> Self {
        let work = async move {
            match tokio::task::spawn_blocking(work).await {
                Ok(findings) => findings,
                Err(error) => vec![Finding::broken(code, &error.to_string())],
            }
        };
        Self::new(code, time_max, work)
    }

    /// The same, about a network.
    #[must_use]
    pub fn of_network(mut self, name: &str) -> Self {
        self.network = Some(name.to_owned());
        self
    }

    async fn make(self) -> Vec<Finding> {
        let (code, time_max) = (self.code, self.time_max);
        let made = tokio::spawn(tokio::time::timeout(time_max, self.work)).await;
        let findings = match made {
            Ok(Ok(findings)) => findings,
            Ok(Err(_)) => vec![Finding::warning(
                code,
                format!("not known: looking took more than {} ms", time_max.as_millis()),
                "the machine is very busy, or a disk or server that was asked hangs",
                "run doctor again when the machine is idle; check the disk with `df` and `dmesg`",
            )],
            Err(error) => vec![Finding::broken(code, &error.to_string())],
        };
        match self.network {
            Some(network) => findings.into_iter().map(|one| one.of_network(&network)).collect(),
            None => findings,
        }
    }
}

/// Makes all checks at the same time; their findings come in the order of the checks.
pub async fn examine(checks: Vec<Check>) -> Report {
    let running: Vec<_> =
        checks.into_iter().map(|check| (check.code, tokio::spawn(check.make()))).collect();
    let mut findings = Vec::new();
    for (code, check) in running {
        match check.await {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(Finding::broken(code, &error.to_string())),
        }
    }
    Report::new(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn checks_are_bounded_and_a_broken_one_breaks_no_other() {
        let checks = vec![
            Check::new("hangs", Duration::from_millis(20), std::future::pending()),
            Check::new("panics", LONG, async { panic!("on purpose") }),
            Check::blocking("panics-too", LONG, || panic!("on purpose")),
            Check::blocking("fine", LONG, || vec![Finding::fine("fine", "all is well")])
                .of_network("main"),
        ];
        let report = examine(checks).await;
        let found: Vec<_> =
            report.checks.iter().map(|one| (one.code.as_str(), one.severity)).collect();
        assert_eq!(
            found,
            [
                ("hangs", Severity::Warning),
                ("panics", Severity::Broken),
                ("panics-too", Severity::Broken),
                ("fine", Severity::Fine),
            ]
        );
        assert_eq!(report.checks.last().and_then(|one| one.network.as_deref()), Some("main"));
        assert_eq!(report.exit_code(), 3);
    }
}
