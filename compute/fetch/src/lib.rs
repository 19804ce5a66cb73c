//! Fetches web pages politely and safely.
//!
//! A node fetches addresses that strangers chose, from inside somebody's home.
//! So every hop is checked before a byte is sent (scheme, port, owner's lists,
//! each resolved address, robots.txt, politeness), every answer is bounded while
//! it streams, and whatever is refused is refused with a reason and its remedy.
//!
//! The decisions are pure modules ([`address`], [`page_url`], [`hosts`],
//! [`robots`], [`politeness`], [`signals`], [`decode`]); sockets live only behind
//! [`Fetcher`]. This crate does not extract text, store anything, follow links of
//! a page, run scripts, keep cookies or choose what to fetch.

pub mod address;
mod config;
pub mod decode;
mod error;
mod fetcher;
pub mod hosts;
mod limits;
mod outcome;
pub mod page_url;
pub mod politeness;
mod request;
mod resolve;
pub mod robots;
mod robots_cache;
mod robots_fetch;
pub mod signals;
mod transport;

pub use address::AddressClass;
pub use config::{FetchConfig, UserAgent};
pub use decode::ContentEncoding;
pub use error::{FetchError, TimeoutPhase};
pub use fetcher::{Fetcher, HostGate};
pub use limits::FetchLimits;
pub use outcome::{FetchOutcome, FetchTiming, Hop};
pub use page_url::{PageUrl, UrlProblem};
pub use request::FetchRequest;
pub use resolve::{LookupFuture, Resolver, SystemResolver};
pub use robots::RobotsVerdict;
pub use signals::Signals;
