//! What local consoles and public pages share: the HTTP shell, tokens, origin checks, security
//! headers, errors as JSON, server-sent events, the frame of a page and that of `doctor`.
//!
//! A [`WebServer`] serves an axum router of the caller behind one set of checks: Host allow-list,
//! Origin on unsafe methods, bounded bodies, bounded time, bounded connections. What is behind a
//! token goes through [`require_token`]. Deliberately absent: routes, state and opinions of any
//! application, and TLS (a public address stands behind a reverse proxy).

pub mod doctor;
mod error;
mod events;
mod guard;
mod hosts;
mod io;
pub mod limits;
mod page;
mod server;
mod token;

pub use error::{ApiError, JsonBody};
pub use events::{EventStream, Live, LiveEvents};
pub use hosts::Hosts;
pub use page::{Page, asset_routes};
pub use server::{ServeError, WebConfig, WebServer};
pub use token::{Token, TokenError, require_token};
