//! Errors as the API gives them: `{"error":{"code":"...","message":"..."}}`.
//!
//! A code is stable and for programs, a message says to people what was wrong and what to do.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable code, in kebab case.
    pub code: String,
    /// What was wrong and what to do.
    pub message: String,
    /// Ask again after this many seconds.
    pub retry_after_s: Option<u32>,
}

impl ApiError {
    /// An error of this status, code and message.
    #[must_use]
    pub fn new(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), retry_after_s: None }
    }

    /// The thing asked for does not exist here.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    /// The request cannot be understood.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }

    /// Something here went wrong; details belong in the log, not in the answer.
    #[must_use]
    pub fn internal() -> Self {
        let message = "something went wrong here; the operator's log says what";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// Not now.
    #[must_use]
    pub fn later(message: impl Into<String>, retry_after_s: u32) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "later", message);
        Self { retry_after_s: Some(retry_after_s), ..error }
    }

    /// The error for a bare status that a layer below gave without words of ours.
    pub(crate) fn of_status(status: StatusCode) -> Option<Self> {
        let (code, message) = match status {
            StatusCode::NOT_FOUND => ("not-found", "there is nothing at this path"),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method-not-allowed", "this path has another method; see the Allow header")
            }
            StatusCode::REQUEST_TIMEOUT => {
                ("timeout", "the request took too long; send it again, or less at a time")
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                ("body-too-large", "the body is larger than this server takes; send less at a time")
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                ("media-type", "send the body with Content-Type: application/json")
            }
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                ("bad-request", "the path, query or body is not what this address takes")
            }
            _ => return None,
        };
        Some(Self::new(status, code, message))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON body, refused in our own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(refusal(&rejection)),
        }
    }
}

fn refusal(rejection: &JsonRejection) -> ApiError {
    let status = rejection.status();
    let known = ApiError::of_status(status);
    let mut error = known.unwrap_or_else(|| ApiError::bad_request("the body is not JSON"));
    if matches!(rejection, JsonRejection::JsonDataError(_) | JsonRejection::JsonSyntaxError(_)) {
        // The reader's words name the field and the line; they hold no secrets of ours.
        let words: String =
            rejection.body_text().chars().filter(|c| !c.is_control()).take(300).collect();
        error.message = format!("{words}; correct the body and send it again");
    }
    error
}
