//! Bearer tokens: who holds one may use what is behind it.

use std::fmt;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use openledger_wire::BlobId;
use thiserror::Error;

use crate::error::ApiError;
use crate::limits;

/// A secret that stands in `Authorization: Bearer ...`. Only its hash stays in memory after it was
/// shown to whoever needs it.
#[derive(Clone)]
pub struct Token {
    text: String,
    hash: BlobId,
}

/// Why a token was refused or could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Too short, too long, or not fit for a header.
    #[error(
        "use a token of {len} bytes: it needs {min} to {max} visible ASCII characters; \
             leave it out to have one made"
    )]
    Unfit {
        /// Its length in bytes.
        len: usize,
        /// The shortest allowed.
        min: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The system gave no randomness.
    #[error("make a token: the system gave no randomness ({0}); try again")]
    NoRandomness(getrandom::Error),
}

impl Token {
    /// A fresh token of 32 random bytes, as hex.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(TokenError::NoRandomness)?;
        Ok(Self::of(hex::encode(bytes)))
    }

    /// The token with this text.
    ///
    /// # Errors
    /// Too short, too long, or not of visible ASCII characters.
    pub fn new(text: impl Into<String>) -> Result<Self, TokenError> {
        let text = text.into();
        let (min, max) = (limits::TOKEN_BYTES_MIN, limits::TOKEN_BYTES_MAX);
        let fits = (min..=max).contains(&text.len());
        if !fits || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Unfit { len: text.len(), min, max });
        }
        Ok(Self::of(text))
    }

    fn of(text: String) -> Self {
        Self { hash: BlobId::of(text.as_bytes()), text }
    }

    /// The text, for the file or the screen of whoever may hold it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Whether `text` is this token. Compared are hashes, byte by byte to the end, so that the
    /// time taken says nothing about the token.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let other = BlobId::of(text.as_bytes());
        let differing =
            self.hash.0.iter().zip(other.0).fold(0u8, |sum, (ours, theirs)| sum | (ours ^ theirs));
        std::hint::black_box(differing) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// The routes of `router`, behind a bearer token.
pub fn require_token<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    token: Token,
) -> Router<S> {
    router.route_layer(from_fn_with_state(token, check))
}

async fn check(State(token): State<Token>, request: Request, next: Next) -> Response {
    let given = bearer(request.headers());
    if given.is_some_and(|text| text.len() <= limits::TOKEN_BYTES_MAX && token.matches(text)) {
        return next.run(request).await;
    }
    let message = if given.is_some() {
        "this token is not the right one; take the one that the program wrote to its data folder"
    } else {
        "this needs a token: send the header Authorization: Bearer TOKEN"
    };
    let mut response =
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_match_themselves_only_and_hide_in_debug() {
        let token = Token::generate().unwrap();
        assert!(token.matches(token.reveal()));
        assert!(!token.matches("") && !token.matches(&token.reveal()[1..]));
        assert!(!format!("{token:?}").contains(token.reveal()));
        assert_ne!(Token::generate().unwrap().reveal(), token.reveal());
    }

    #[test]
    fn unfit_tokens_are_refused_with_their_length() {
        for text in ["short", "has space inside it", &"x".repeat(300), "line\nbreak-in-the-middle"]
        {
            let error = Token::new(text).unwrap_err().to_string();
            assert!(error.contains(&format!("of {} bytes", text.len())), "{error}");
        }
    }
}
