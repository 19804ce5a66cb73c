//! Finding a server for a call: this machine, else a peer that offers all that the call names, else
//! this machine once it has fetched what is missing.
//!
//! [`Router`] is the caller's side, [`Guests`] the side that answers peers. A peer that dies in the
//! middle costs a few seconds: the call goes on at another one with the tokens that are there, since
//! sampling depends on positions only. Where nobody is left the stream ends with one failure, never
//! with silence. An input that killed a worker is not carried to the next machine.
//!
//! Calls are free and counted, nothing more: no points, no trust, no log of what was said.

mod budget;
mod counts;
mod fetching;
mod guests;
mod held;
mod journey;
mod line;
mod patience;
mod remote;
mod router;
mod standing;

pub use counts::CallCounts;
pub use guests::{Guests, House};
pub use line::Line;
pub use patience::Patience;
pub use router::{Known, Neighbourhood, Obtain, Router};
pub use standing::Standings;

/// Codes of failures that only arise between peers, beside those of [`crate::serving::codes`].
pub mod codes {
    /// Whoever served the call is gone, and nobody else can go on with it.
    pub const PEER_LOST: &str = "peer-lost";
    /// A peer asks for a call that is not, or no longer, here.
    pub const UNKNOWN_CALL: &str = "unknown-call";
    /// This node answers no calls of peers.
    pub const NOT_SERVING: &str = "not-serving";
    /// The call is longer than what one request between peers carries.
    pub const TOO_LONG: &str = "too-long";
    /// A file that the call needs could not be fetched.
    pub const NOT_FETCHED: &str = "not-fetched";
}
