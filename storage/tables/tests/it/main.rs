//! Tests of the store as its callers see it, most of them with a disk that fails on purpose.

#[cfg(test)]
mod files;
#[cfg(test)]
mod group;
#[cfg(test)]
mod model;
#[cfg(test)]
mod power;
