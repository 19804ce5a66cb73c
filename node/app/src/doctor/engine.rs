//! What computes answers: the backend that serves, devices, and kernels that fail their test.
//!
//! A running node is asked; else a worker process looks, as the node's would.

use openledger_inference::{cpu_tier, cpu_tiers_failed};
use openledger_web::doctor::Finding;
use openledger_wire::Text;
use openledger_wire::worker::InferProbe;

use super::examine::Patient;
use crate::limits;
use crate::serving::{BackendChoice, EngineView, InferenceConfig, codes, probe};

const CODE: &str = "engine";

/// Which backend and kernels answer calls.
pub(super) async fn findings(patient: &Patient) -> Vec<Finding> {
    let engine = match patient.running.as_ref().and_then(|running| running.engine()) {
        Some(engine) => engine,
        None => look(patient).await,
    };
    judge(&engine, &cpu_tiers_failed())
}

/// What a node would find.
async fn look(patient: &Patient) -> EngineView {
    let config = &patient.config.inference;
    let view = |kind: openledger_inference::BackendKind| EngineView {
        asked: config.backend.name().to_owned(),
        backend: kind.name().to_owned(),
        class: config.class_on(kind).to_owned(),
        kernels: cpu_tier(),
        ..EngineView::default()
    };
    let (mut fallback, mut absent) = (Vec::new(), Vec::new());
    let mut candidates = config.candidates();
    let last = candidates.pop().unwrap_or_default();
    for kind in candidates {
        let Some(program) = &patient.program else { continue };
        let asked = InferProbe {
            backend: Text::clipped(config.class_on(kind)),
            device: config.device(kind, ""),
        };
        let found = tokio::time::timeout(limits::DOCTOR_DEVICE_TIME_MAX, probe(program, asked));
        match found.await {
            Ok(Ok(device)) => {
                let (fallback, absent) = (joined(fallback), joined(absent));
                return EngineView { device, fallback, absent, ..view(kind) };
            }
            Ok(Err(failed)) if is_choice(config) && *failed.code == *codes::NO_DEVICE => {
                absent.push(failed.message.to_string());
            }
            Ok(Err(failed)) => fallback.push(format!("{}: {}", kind.name(), &*failed.message)),
            Err(_) => fallback.push(format!("{}: the look for it took too long", kind.name())),
        }
    }
    EngineView { fallback: joined(fallback), absent: joined(absent), ..view(last) }
}

fn is_choice(config: &InferenceConfig) -> bool {
    config.backend == BackendChoice::Auto
}

fn joined(all: Vec<String>) -> Option<String> {
    (!all.is_empty()).then(|| all.join("; "))
}

fn judge(engine: &EngineView, failed: &[String]) -> Vec<Finding> {
    let found = format!("calls are answered by {engine}");
    let mut findings = vec![Finding::fine(CODE, found)];
    if let Some(fallback) = &engine.fallback {
        let found = format!("{} was chosen and does not answer calls", engine.asked);
        let mend = "update the device's driver, choose another with `openledger config set inference.gpu.device NAME`, or `openledger config set inference.backend cpu`; the node tries again by itself";
        findings.push(Finding::warning(CODE, found, fallback.clone(), mend));
    }
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

    #[test]
    fn instructions_that_fail_their_test_and_devices_that_do_not_serve_are_named() {
        let engine = EngineView { asked: "gpu".to_owned(), ..EngineView::default() };
        assert_eq!(judge(&engine, &[]).len(), 1);
        let found = judge(&engine, &["avx512-vnni".to_owned()]);
        let text = format!("{found:?}");
        assert!(found.len() == 2 && text.contains("claims avx512-vnni"), "{text}");
        let engine = EngineView { fallback: Some("it is lost".to_owned()), ..engine };
        let text = format!("{:?}", judge(&engine, &[]));
        assert!(text.contains("gpu was chosen") && text.contains("it is lost"), "{text}");
    }
}
