//! Which backend answers: the best that works, and why better ones do not.
//!
//! What does not work is left alone for a while, longer each time, and tried again. Only the
//! reckoning: times come from outside, nothing is started here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use openledger_inference::BackendKind;
use openledger_wire::BlobId;

use crate::{limits, time};

/// What is known of the backends that may answer.
#[derive(Debug)]
pub(super) struct Backends {
    /// The best first.
    candidates: Vec<BackendKind>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By place among the candidates; with a model where only that does not run.
    down: BTreeMap<(usize, Option<BlobId>), Down>,
    /// Deaths of workers, the latest last.
    deaths: BTreeMap<usize, Vec<Instant>>,
    devices: BTreeMap<usize, String>,
}

/// Why one is not used.
#[derive(Clone, Debug)]
struct Down {
    why: String,
    /// There is nothing to compute on, which is no fault.
    is_absent: bool,
    times: u32,
    until: Instant,
    /// Waits for [`Backends::up`].
    is_held: bool,
}

impl Backends {
    pub(super) fn new(candidates: Vec<BackendKind>) -> Self {
        Self { candidates, known: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, kind: BackendKind) -> usize {
        self.candidates.iter().position(|one| *one == kind).unwrap_or(usize::MAX)
    }

    fn is_last(&self, place: usize) -> bool {
        place + 1 >= self.candidates.len()
    }

    /// Those to try for a model, the best first. The last is always among them.
    pub(super) fn usable(&self, model: Option<BlobId>, now: Instant) -> Vec<BackendKind> {
        let known = self.lock();
        let is_up = |place: usize| {
            let is_down = |model| {
                known.down.get(&(place, model)).is_some_and(|one| one.is_held || one.until > now)
            };
            self.is_last(place) || !(is_down(None) || (model.is_some() && is_down(model)))
        };
        let each = self.candidates.iter().enumerate();
        each.filter(|(place, _)| is_up(*place)).map(|(_, kind)| *kind).collect()
    }

    /// One does not work, for one model or at all.
    pub(super) fn failed(
        &self,
        kind: BackendKind,
        model: Option<BlobId>,
        why: &str,
        is_absent: bool,
        now: Instant,
    ) {
        let place = self.place(kind);
        if self.is_last(place) {
            return;
        }
        let mut known = self.lock();
        if known.down.len() >= limits::BACKEND_NOTES_MAX {
            known.down.retain(|(_, model), _| model.is_none());
        }
        let before = known.down.get(&(place, model)).map_or(0, |one| one.times);
        let rest = limits::BACKEND_REST_MIN.saturating_mul(1 << before.min(16));
        let rest = rest.min(limits::BACKEND_REST_MAX);
        if before == 0 && !is_absent {
            let minutes = rest.as_secs() / 60;
            let (backend, next) = (kind.name(), self.next(place));
            tracing::warn!(
                "{backend} does not answer calls: {why}; {next} does, and it is tried again in {minutes} minutes"
            );
        }
        known.devices.remove(&place);
        let times = before.saturating_add(1);
        let (why, until) = (why.to_owned(), now + rest);
        let is_held = model.is_none();
        known.down.insert((place, model), Down { why, is_absent, times, until, is_held });
    }

    fn next(&self, place: usize) -> &'static str {
        self.candidates.get(place + 1).map_or("nothing", |kind| kind.name())
    }

    /// A worker died; several of them in a short time mean that the backend does not work.
    pub(super) fn died(&self, kind: BackendKind, now: Instant) {
        let place = self.place(kind);
        let count = {
            let mut known = self.lock();
            let deaths = known.deaths.entry(place).or_default();
            deaths.retain(|at| now.saturating_duration_since(*at) < limits::BACKEND_DEATHS_TIME);
            deaths.push(now);
            deaths.len()
        };
        if count >= limits::BACKEND_DEATHS_MAX {
            self.lock().deaths.remove(&place);
            let why = format!("its process died {count} times within minutes");
            self.failed(kind, None, &why, false, now);
        }
    }

    /// One was found to have something to compute on, and may be tried.
    pub(super) fn up(&self, kind: BackendKind, device: &str) {
        let place = self.place(kind);
        let mut known = self.lock();
        known.devices.insert(place, device.to_owned());
        if known.down.remove(&(place, None)).is_some_and(|one| !one.is_absent) {
            let backend = kind.name();
            tracing::info!("{backend} is tried again: {device} is there");
        }
    }

    /// One answers for a model.
    pub(super) fn serves(&self, kind: BackendKind, model: BlobId, device: &str) {
        let place = self.place(kind);
        let mut known = self.lock();
        known.devices.insert(place, device.to_owned());
        known.down.remove(&(place, None));
        known.down.remove(&(place, Some(model)));
    }

    /// Those to be looked for again by now, and those that nobody has looked for.
    pub(super) fn due(&self, now: Instant) -> Vec<BackendKind> {
        let known = self.lock();
        let is_due = |place: usize| match known.down.get(&(place, None)) {
            Some(down) => down.is_held && down.until <= now,
            None => !known.devices.contains_key(&place),
        };
        let each = self.candidates.iter().enumerate();
        let due = each.filter(|(place, _)| !self.is_last(*place) && is_due(*place));
        due.map(|(_, kind)| *kind).collect()
    }

    /// What one computes on, if that is known.
    pub(super) fn device(&self, kind: BackendKind) -> Option<String> {
        self.lock().devices.get(&self.place(kind)).cloned()
    }

    /// Why better ones do not answer: what went wrong, and what is just not there.
    pub(super) fn reasons(&self, now: Instant) -> (Option<String>, Option<String>) {
        let known = self.lock();
        let fresh = known.down.iter().filter(|(_, down)| down.is_held || down.until > now);
        let (mut wrong, mut absent) = (Vec::new(), Vec::new());
        for ((place, _), down) in fresh {
            let backend = self.candidates.get(*place).map_or("", |kind| kind.name());
            if down.is_absent {
                absent.push(down.why.clone());
                continue;
            }
            let left = down.until.saturating_duration_since(now).as_millis();
            let left = time::span(u64::try_from(left).unwrap_or(u64::MAX));
            let (why, next) = (&down.why, self.next(*place));
            wrong.push(format!(
                "{backend} does not answer calls: {why}; {next} does; tried again in {left}"
            ));
        }
        let joined = |all: Vec<String>| (!all.is_empty()).then(|| all.join("; "));
        (joined(wrong), joined(absent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BackendKind::{Int12, Onnx, Wgpu};

    const MODEL: BlobId = BlobId([1; 32]);

    #[test]
    fn what_fails_rests_longer_each_time_and_the_last_never_does() {
        let all = Backends::new(vec![Wgpu, Onnx, Int12]);
        let start = Instant::now();
        assert_eq!(all.usable(None, start), [Wgpu, Onnx, Int12]);
        assert_eq!(all.due(start), [Wgpu, Onnx], "nobody looked");
        all.up(Onnx, "a library");
        all.failed(Wgpu, None, "no usable GPU", true, start);
        all.failed(Int12, None, "never", false, start);
        assert_eq!(all.usable(Some(MODEL), start), [Onnx, Int12]);
        let (wrong, absent) = all.reasons(start);
        assert_eq!((wrong, absent.as_deref()), (None, Some("no usable GPU")));
        assert!(all.due(start).is_empty());
        let later = start + limits::BACKEND_REST_MIN;
        assert_eq!(all.due(later), [Wgpu]);
        assert_eq!(all.usable(None, later), [Onnx, Int12], "until somebody has looked");
        all.failed(Wgpu, None, "no usable GPU", true, later);
        assert!(all.due(later + limits::BACKEND_REST_MIN).is_empty(), "it rests longer");
        all.up(Wgpu, "a card");
        assert_eq!(all.usable(None, later), [Wgpu, Onnx, Int12]);
        assert_eq!(all.device(Wgpu).as_deref(), Some("a card"));
        for _ in 0..40 {
            all.failed(Wgpu, None, "it is gone", false, later);
        }
        assert_eq!(all.due(later + limits::BACKEND_REST_MAX), [Wgpu]);
    }

    #[test]
    fn one_model_that_does_not_fit_keeps_no_other_away() {
        let all = Backends::new(vec![Wgpu, Int12]);
        let now = Instant::now();
        all.failed(Wgpu, Some(MODEL), "too little memory", false, now);
        assert_eq!(all.usable(Some(MODEL), now), [Int12]);
        assert_eq!(all.usable(Some(BlobId([2; 32])), now), [Wgpu, Int12]);
        let wrong = all.reasons(now).0.unwrap();
        assert!(wrong.contains("too little memory; cpu-int12 does"), "{wrong}");
        assert_eq!(all.usable(Some(MODEL), now + limits::BACKEND_REST_MIN), [Wgpu, Int12]);
        all.serves(Wgpu, MODEL, "a card");
        assert_eq!(all.usable(Some(MODEL), now), [Wgpu, Int12]);
    }

    #[test]
    fn a_worker_that_dies_again_is_replaced_by_the_next_backend() {
        let all = Backends::new(vec![Wgpu, Int12]);
        let now = Instant::now();
        all.serves(Wgpu, MODEL, "a card");
        all.died(Wgpu, now);
        assert_eq!(all.usable(None, now), [Wgpu, Int12], "once may be the input");
        all.died(Wgpu, now + limits::BACKEND_DEATHS_TIME);
        assert_eq!(all.usable(None, now), [Wgpu, Int12], "that was long ago");
        all.died(Wgpu, now + limits::BACKEND_DEATHS_TIME);
        assert_eq!(all.usable(None, now), [Int12]);
        assert!(all.reasons(now).0.unwrap().contains("died 2 times"));
        all.died(Int12, now);
        all.died(Int12, now);
        assert_eq!(all.usable(None, now), [Int12]);
    }
}
