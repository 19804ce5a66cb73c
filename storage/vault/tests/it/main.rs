//! Tests of vaults as their callers see them.

#[cfg(test)]
mod locks;
#[cfg(test)]
mod vaults;
