//! Scenarios hold, seeds repeat, audits notice what was changed, and old bundles still audit.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod audits;
#[cfg(test)]
mod scenarios;
