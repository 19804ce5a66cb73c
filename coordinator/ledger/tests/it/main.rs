//! Tests of the ledger: one suite for every back-end, and power cuts at every moment.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod embedded;
