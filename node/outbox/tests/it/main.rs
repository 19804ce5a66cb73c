//! What must hold of the outbox, driven as the node drives it.

mod fixture;
mod life;
mod power;
mod properties;
