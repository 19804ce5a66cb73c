//! Inputs that were in hand when the engine's process crashed.
//!
//! Which of several inputs was the cause is not known, so each gets some suspicion, an input that
//! was alone more of it. A good answer clears its input. What somebody else ended says less: the
//! owner, or a system short of memory.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use openledger_wire::call::CallFailure;

use super::{codes, failure};
use crate::limits;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// This node wanted it.
    Wanted,
    /// Somebody ended it from outside.
    Killed,
    /// By itself.
    Crash,
}

impl Death {
    pub(super) fn of(status: ExitStatus) -> Self {
        const HANGUP: i32 = 1;
        const INTERRUPT: i32 = 2;
        const KILL: i32 = 9;
        const TERMINATE: i32 = 15;
        match status.signal() {
            Some(HANGUP | INTERRUPT | KILL | TERMINATE) => Self::Killed,
            _ => Self::Crash,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Suspects(Mutex<BTreeMap<[u8; 32], Suspicion>>);

#[derive(Clone, Copy, Debug)]
struct Suspicion {
    strikes: u8,
    crashes: u8,
    last: Instant,
}

impl Suspects {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], Suspicion>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what is in quarantine.
    pub(super) fn check(&self, input: [u8; 32]) -> Result<(), CallFailure> {
        let mut all = self.lock();
        all.retain(|_, one| one.last.elapsed() < limits::STRIKE_TIME);
        match all.get(&input) {
            Some(one) if one.strikes >= limits::STRIKES_MAX => {
                let message = format!(
                    "this input was in hand {} times when the engine's process crashed and is refused here for {} minutes; change it, or ask elsewhere",
                    one.crashes,
                    limits::STRIKE_TIME.as_secs() / 60
                );
                Err(failure(codes::QUARANTINED, &message, 0))
            }
            _ => Ok(()),
        }
    }

    /// The input was answered: it is not the cause of anything.
    pub(super) fn clear(&self, input: [u8; 32]) {
        self.lock().remove(&input);
    }

    /// A process died with these in hand.
    pub(super) fn died(&self, inputs: &[[u8; 32]], death: Death) {
        let strikes = match (death, inputs.len()) {
            (Death::Wanted, _) => return,
            (Death::Crash, 1) => limits::STRIKES_ALONE,
            _ => 1,
        };
        let mut all = self.lock();
        for input in inputs {
            if all.len() >= limits::SUSPECTS_MAX && !all.contains_key(input) {
                let oldest = all.iter().min_by_key(|(_, one)| one.last).map(|(input, _)| *input);
                if let Some(oldest) = oldest {
                    all.remove(&oldest);
                }
            }
            let new = Suspicion { strikes: 0, crashes: 0, last: Instant::now() };
            let one = all.entry(*input).or_insert(new);
            one.strikes = one.strikes.saturating_add(strikes);
            one.crashes = one.crashes.saturating_add(1);
            one.last = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crashes_it_again_and_again_is_refused_and_bystanders_are_cleared() {
        let suspects = Suspects::default();
        let (bad, good) = ([1; 32], [2; 32]);
        suspects.died(&[bad], Death::Crash);
        assert!(suspects.check(bad).is_ok());
        suspects.died(&[bad], Death::Crash);
        let refused = suspects.check(bad).unwrap_err();
        assert_eq!(&*refused.code, codes::QUARANTINED);
        assert!(refused.message.contains("2 times"), "{}", &*refused.message);

        for _ in 0..3 {
            suspects.died(&[bad, good], Death::Crash);
        }
        assert!(suspects.check(good).is_ok());
        suspects.clear(good);
        suspects.died(&[good, bad], Death::Crash);
        assert!(suspects.check(good).is_ok());
    }

    #[test]
    fn an_end_from_outside_says_less_and_a_wanted_one_nothing() {
        let suspects = Suspects::default();
        for _ in 0..3 {
            suspects.died(&[[1; 32]], Death::Killed);
            suspects.died(&[[2; 32]], Death::Wanted);
        }
        assert!(suspects.check([1; 32]).is_ok());
        suspects.died(&[[1; 32]], Death::Killed);
        assert!(suspects.check([1; 32]).is_err());
        for _ in 0..9 {
            suspects.died(&[[2; 32]], Death::Wanted);
        }
        assert!(suspects.check([2; 32]).is_ok());
    }

    #[test]
    fn many_suspects_push_out_the_oldest() {
        let suspects = Suspects::default();
        for n in 0..limits::SUSPECTS_MAX + 3 {
            let mut input = [0; 32];
            input[..8].copy_from_slice(&(n as u64).to_be_bytes());
            suspects.died(&[input], Death::Crash);
        }
        assert_eq!(suspects.lock().len(), limits::SUSPECTS_MAX);
    }
}
