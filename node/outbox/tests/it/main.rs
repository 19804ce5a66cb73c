//! What must hold of the outbox, driven as the node drives it.

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod life;
#[cfg(test)]
mod power;
#[cfg(test)]
mod properties;
