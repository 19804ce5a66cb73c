//! The rules against recorded data, shared vectors and chance.

#[cfg(test)]
mod beacon;
#[cfg(test)]
mod draw;
#[cfg(test)]
mod fingerprints;
#[cfg(test)]
mod settlement;
