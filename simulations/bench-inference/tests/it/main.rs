//! The program: what it says when something is missing, and the shape of its figures.
//!
//! The peer here is a shell script, so that this runs where llama.cpp is not installed; what the two
//! engines say of the same file is compared by the program itself.

#[cfg(test)]
mod errors;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod support;
