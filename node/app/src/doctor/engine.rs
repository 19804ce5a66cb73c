//! What computes answers: the backend that the owner chose, and kernels that fail their test.

use openledger_inference::cpu_tiers_failed;
use openledger_web::doctor::Finding;

use super::examine::Patient;
use crate::serving::EngineView;

const CODE: &str = "engine";

/// Which backend and kernels answer calls.
pub(super) fn findings(patient: &Patient) -> Vec<Finding> {
    judge(&patient.config.inference.view(), &cpu_tiers_failed())
}

fn judge(engine: &EngineView, failed: &[String]) -> Vec<Finding> {
    let EngineView { backend, class, kernels } = engine;
    let found = format!("calls are answered by {backend} with {kernels} kernels (class {class})");
    let mut findings = vec![Finding::fine(CODE, found)];
    if !failed.is_empty() {
        let found = format!("the processor claims {}, and computes wrongly", failed.join(", "));
        let cause = "a virtual machine that passes on more than it can do, or a damaged processor";
        let mend = "answers are right but slow; have the machine's owner mask those instructions";
        findings.push(Finding::warning(CODE, found, cause, mend));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::InferenceConfig;

    #[test]
    fn instructions_that_fail_their_test_are_named() {
        let engine = InferenceConfig::default().view();
        assert_eq!(judge(&engine, &[]).len(), 1);
        let found = judge(&engine, &["avx512-vnni".to_owned()]);
        let text = format!("{found:?}");
        assert!(found.len() == 2 && text.contains("claims avx512-vnni"), "{text}");
    }
}
