//! Scenarios hold, seeds repeat, audits notice what was changed, old bundles still audit, and
//! benchmarks of other programs are started.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod audits;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod scenarios;
