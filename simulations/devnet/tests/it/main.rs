//! The devnet's processes end with it, however it ends.

#[cfg(test)]
mod guard;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod procs;
