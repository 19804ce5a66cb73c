//! Errors as OpenAI's clients read them:
//! `{"error":{"message":"...","type":"...","param":null,"code":"..."}}`.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use openledger_wire::call::CallFailure;
use serde_json::{Value, json};

use crate::routing::codes as route;
use crate::serving::codes;

/// An answer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiFailure {
    /// HTTP status.
    pub status: StatusCode,
    /// OpenAI's class of error.
    pub kind: &'static str,
    /// Stable code, in snake case.
    pub code: String,
    /// The field of the request that is to blame.
    pub param: Option<String>,
    /// What was wrong and what to do.
    pub message: String,
    /// Ask again after this many milliseconds; 0 if that is useless.
    pub retry_after_ms: u32,
}

const REQUEST: &str = "invalid_request_error";
const SERVER: &str = "server_error";
const RATE: &str = "rate_limit_error";

impl ApiFailure {
    fn new(status: StatusCode, kind: &'static str, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: code.to_owned(),
            param: None,
            message: message.into(),
            retry_after_ms: 0,
        }
    }

    /// The same with the field that is to blame.
    #[must_use]
    pub fn of(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// No key, or a wrong one.
    #[must_use]
    pub fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, REQUEST, "invalid_api_key", message)
    }

    /// A field does not have a value that makes sense.
    #[must_use]
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, REQUEST, "invalid_value", message).of(param)
    }

    /// A field asks for what this API does not do.
    #[must_use]
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, REQUEST, "unsupported_parameter", message).of(param)
    }

    /// The body is not JSON of the right shape.
    #[must_use]
    pub fn body(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, REQUEST, "invalid_body", message)
    }

    /// Too much text.
    #[must_use]
    pub fn too_long(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, REQUEST, "context_length_exceeded", message).of(param)
    }

    /// Nobody knows the model.
    #[must_use]
    pub fn no_model(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, REQUEST, "model_not_found", message).of("model")
    }

    /// Several models have the name.
    #[must_use]
    pub fn ambiguous_model(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, REQUEST, "ambiguous_model", message).of("model")
    }

    /// The body is larger than this API takes.
    #[must_use]
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, REQUEST, "request_too_large", message)
    }

    /// There is nothing at this path.
    #[must_use]
    pub fn no_path() -> Self {
        let message = "there is nothing at this path; here are /v1/models, /v1/chat/completions, /v1/completions and /v1/embeddings";
        Self::new(StatusCode::NOT_FOUND, REQUEST, "unknown_url", message)
    }

    /// The path has another method.
    #[must_use]
    pub fn method() -> Self {
        let message = "this path has another method; see the Allow header";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, REQUEST, "method_not_allowed", message)
    }

    /// The request came too slowly.
    #[must_use]
    pub fn slow_body() -> Self {
        let message = "the request took too long to arrive; send it again";
        Self::new(StatusCode::REQUEST_TIMEOUT, REQUEST, "request_timeout", message)
    }

    /// As many requests at a time as this API takes.
    #[must_use]
    pub fn busy(message: impl Into<String>) -> Self {
        let failure =
            Self::new(StatusCode::TOO_MANY_REQUESTS, RATE, "rate_limit_exceeded", message);
        Self { retry_after_ms: 1_000, ..failure }
    }

    /// A call that failed; `prompt` is the field that its prompt came from.
    #[must_use]
    pub fn of_call(failed: &CallFailure, prompt: &str) -> Self {
        let message = failed.message.to_string();
        let code: &str = &failed.code;
        let snake = code.replace('-', "_");
        let refused = |code: &str| Self::new(StatusCode::BAD_REQUEST, REQUEST, code, &message);
        let unserved =
            |code: &str| Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, code, &message);
        let failure = match code {
            codes::UNKNOWN_MODEL | codes::UNKNOWN_ADAPTER => Self::no_model(&message),
            codes::WRONG_BASE => refused(&snake).of("model"),
            codes::INVALID => refused("invalid_value"),
            codes::CONSTRAINT => refused(&snake),
            codes::TEMPLATE | codes::QUARANTINED => refused(&snake).of(prompt),
            codes::CONTEXT | codes::MEMORY | route::TOO_LONG => Self::too_long(prompt, &message),
            codes::BUSY => Self::busy(&message),
            codes::BAD_FILE | codes::ENGINE => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, &snake, &message)
            }
            codes::DEADLINE => {
                let status = StatusCode::GATEWAY_TIMEOUT;
                Self::new(status, SERVER, "deadline_exceeded", &message)
            }
            codes::UPSTREAM => {
                Self::new(StatusCode::BAD_GATEWAY, SERVER, "upstream_failed", &message)
            }
            codes::NO_DEVICE | codes::UNFIT => unserved("worker_start"),
            codes::DIED
            | codes::START
            | codes::STOPPING
            | route::PEER_LOST
            | route::NOT_SERVING
            | route::NOT_FETCHED => unserved(&snake),
            // A peer of another version may have codes of its own.
            _ => unserved("server_error"),
        };
        let retry_after_ms = failed.retry_after_ms.max(failure.retry_after_ms);
        Self { retry_after_ms, ..failure }
    }

    /// What stands in the body, or in an event of a stream that broke off.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        } })
    }
}

impl IntoResponse for ApiFailure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.to_json())).into_response();
        let headers = response.headers_mut();
        if self.retry_after_ms > 0 {
            let seconds = self.retry_after_ms.div_ceil(1_000);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            let exactly = HeaderName::from_static("retry-after-ms");
            headers.insert(exactly, HeaderValue::from(self.retry_after_ms));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::failure;

    #[test]
    fn every_failure_of_a_call_has_its_status_and_code() {
        for (code, ms, status, name, param) in [
            (codes::UNKNOWN_MODEL, 0, 404, "model_not_found", Some("model")),
            (codes::UNKNOWN_ADAPTER, 0, 404, "model_not_found", Some("model")),
            (codes::WRONG_BASE, 0, 400, "wrong_base", Some("model")),
            (codes::BAD_FILE, 0, 500, "bad_file", None),
            (codes::INVALID, 0, 400, "invalid_value", None),
            (codes::CONSTRAINT, 0, 400, "invalid_constraint", None),
            (codes::TEMPLATE, 0, 400, "chat_template", Some("messages")),
            (codes::CONTEXT, 0, 400, "context_length_exceeded", Some("messages")),
            (codes::MEMORY, 0, 400, "context_length_exceeded", Some("messages")),
            (codes::BUSY, 1_500, 429, "rate_limit_exceeded", None),
            (codes::DIED, 1_000, 503, "worker_died", None),
            (codes::START, 2_000, 503, "worker_start", None),
            (codes::QUARANTINED, 0, 400, "quarantined", Some("messages")),
            (codes::ENGINE, 0, 500, "engine_failed", None),
            (codes::STOPPING, 0, 503, "stopping", None),
            (codes::DEADLINE, 0, 504, "deadline_exceeded", None),
            (codes::UPSTREAM, 2_000, 502, "upstream_failed", None),
            (codes::UNFIT, 0, 503, "worker_start", None),
            (route::NOT_FETCHED, 10_000, 503, "not_fetched", None),
            (route::PEER_LOST, 1_000, 503, "peer_lost", None),
            (route::TOO_LONG, 0, 400, "context_length_exceeded", Some("messages")),
            ("words-of-tomorrow", 0, 503, "server_error", None),
        ] {
            let failed = ApiFailure::of_call(&failure(code, "why", ms), "messages");
            assert_eq!(failed.status.as_u16(), status, "{code}");
            assert_eq!(failed.code, name);
            assert_eq!(failed.param.as_deref(), param, "{code}");
            assert_eq!(failed.to_json()["error"]["message"], "why");
            let response = failed.into_response();
            let after = response.headers().get(header::RETRY_AFTER);
            assert_eq!(after.is_some(), ms > 0, "{code}");
        }
        let response = ApiFailure::of_call(&failure(codes::BUSY, "", 1_500), "").into_response();
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["retry-after-ms"], "1500");
    }
}
