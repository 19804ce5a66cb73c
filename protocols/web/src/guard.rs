//! The checks and headers around every request.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;
use crate::hosts::Hosts;

/// What every answer says to a browser: nothing from elsewhere, no inline script or style, no
/// frames around us, no address of ours told to others.
const HEADERS: [(HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    (header::CACHE_CONTROL, "no-store"),
];

#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) request_time_max: Duration,
}

/// Checks Host and Origin, bounds the time, makes errors uniform and adds the headers.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match guard.refuse(&request) {
        Some(error) => error.into_response(),
        None => match tokio::time::timeout(guard.request_time_max, next.run(request)).await {
            Ok(response) => uniform(response),
            Err(_) => ApiError::of_status(StatusCode::REQUEST_TIMEOUT)
                .unwrap_or_else(ApiError::internal)
                .into_response(),
        },
    };
    add_headers(response.headers_mut());
    response
}

impl Guard {
    fn refuse(&self, request: &Request) -> Option<ApiError> {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        if !host.is_some_and(|host| self.hosts.allow(host)) {
            let message = "this server does not answer to that host name; use the address that \
                           the program printed, or add the name to its configuration";
            return Some(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", message));
        }
        if !self.hosts.allow_origin(request.method(), request.headers()) {
            let message = "pages of other sites may not change anything here";
            return Some(ApiError::new(StatusCode::FORBIDDEN, "wrong-origin", message));
        }
        None
    }
}

/// Gives a bare error of the layers below our JSON body.
fn uniform(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_ours = kind.is_some_and(|kind| {
        kind.starts_with(b"application/json") || kind.starts_with(b"text/html")
    });
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let Some(error) = ApiError::of_status(status) else { return response };
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut response = error.into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}
