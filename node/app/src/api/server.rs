//! The server's start and end, and what is around every request.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router as Routes;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use futures::StreamExt as _;
use openledger_web::{ServeError, Token, TokenError, WebConfig, WebServer};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::answer::{ReadJob, random_name, respond};
use super::names::{AUTO, Target, resolve};
use super::{ApiConfig, ApiFailure, chat, completions, embeddings, models};
use crate::routing::Router;
use crate::serving::{Combined, Serve as _, codes, failure};
use crate::{limits, time};

/// Why the API did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ApiError {
    /// It could not listen.
    #[error("start the API: {0}; api.port chooses its port, 0 takes a free one")]
    Serve(#[from] ServeError),
    /// A configured key.
    #[error("start the API: {0}; see api.keys")]
    Key(#[from] TokenError),
}

/// What the API is started with.
pub struct ApiSetup {
    /// What the owner configured.
    pub config: ApiConfig,
    /// The base model by name or id that `auto` means, or empty.
    pub base: String,
    /// The token of the control API, which works here, too.
    pub token: Token,
    /// Finds servers for calls.
    pub router: Router,
    /// Why a file here cannot be used, by its name or id.
    pub problem: Problem,
}

/// Says why a model's file on this machine cannot be used, if that is so.
pub type Problem = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A running API.
pub struct Api {
    server: WebServer,
}

/// What every request is answered with.
#[derive(Clone)]
pub(super) struct Context(Arc<Shared>);

struct Shared {
    router: Router,
    problem: Problem,
    base: String,
    keys: Vec<Token>,
    since_s: u64,
    room: Arc<Semaphore>,
}

impl Context {
    pub(super) fn router(&self) -> &Router {
        &self.0.router
    }

    pub(super) fn since_s(&self) -> u64 {
        self.0.since_s
    }

    pub(super) fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.room)
    }

    /// The combination of that name.
    pub(super) fn combination(&self, name: &str) -> Option<Combined> {
        self.0.router.combinations().into_iter().find(|one| one.name == name)
    }

    /// What the name of a model means now.
    ///
    /// # Errors
    /// A name that nobody has, or that means several things; a file that cannot be used.
    pub(super) fn resolve(&self, name: &str) -> Result<Target, ApiFailure> {
        let known = self.0.router.known();
        let is_model_here =
            |name: &str| known.iter().any(|one| one.is_here && *one.offer.name == *name);
        if !is_model_here(name)
            && let Some(one) = self.combination(name)
        {
            let Combined { base, adapters, merge, .. } = one;
            return Ok(Target { base, adapters, merge: Some(merge) });
        }
        let target = resolve(name, &known, &self.0.base);
        target.map_err(|failed| {
            let is_missing = failed.status == StatusCode::NOT_FOUND;
            let named = if name == AUTO { &self.0.base } else { name };
            match (self.0.problem)(named) {
                Some(problem) if is_missing => {
                    ApiFailure::of_call(&failure(codes::BAD_FILE, &problem, 0), "model")
                }
                _ => failed,
            }
        })
    }
}

impl Api {
    /// Serves on 127.0.0.1.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn start(setup: ApiSetup) -> Result<Self, ApiError> {
        let ApiSetup { config, base, token, router, problem } = setup;
        let mut keys = vec![token];
        for key in config.keys {
            keys.push(Token::new(key)?);
        }
        let room = Arc::new(Semaphore::new(limits::API_CALLS_MAX));
        let shared = Shared { router, problem, base, keys, since_s: time::now_s(), room };
        let routes = routes(Context(Arc::new(shared)));
        let listen = |port: u16| WebConfig {
            // Bounded by this API itself, which tells its clients in their own words.
            body_bytes_max: usize::MAX,
            request_time_max: limits::API_ANSWER_TIME_MAX,
            idle_max: limits::API_ANSWER_TIME_MAX,
            ..WebConfig::on(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        let server = match config.port {
            0 => match WebServer::start(listen(limits::API_PORT), routes.clone()).await {
                Ok(server) => server,
                Err(_) => WebServer::start(listen(0), routes).await?,
            },
            port => WebServer::start(listen(port), routes).await?,
        };
        Ok(Self { server })
    }

    /// Its base URL as clients want it, with `/v1`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/v1", self.server.url())
    }

    /// Takes no more requests; open ones have a moment to end.
    pub async fn stop(self) {
        self.server.shutdown().await;
    }
}

fn routes(context: Context) -> Routes {
    Routes::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*model}", get(models::one))
        .route("/v1/chat/completions", completing(chat::job))
        .route("/v1/completions", completing(completions::job))
        .route("/v1/embeddings", post(embeddings::post))
        .fallback(|| async { ApiFailure::no_path() })
        .method_not_allowed_fallback(|| async { ApiFailure::method() })
        .layer(from_fn_with_state(context.clone(), around))
        .with_state(context)
}

/// The route of one kind of completions, whose fields `job` reads.
fn completing(job: ReadJob) -> MethodRouter<Context> {
    post(move |State(context): State<Context>, body: Body| respond(context, body, job))
}

/// Lets requests with a key through, and names each for who has to look for one.
async fn around(State(context): State<Context>, request: Request, next: Next) -> Response {
    let id = random_name();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begun = std::time::Instant::now();
    let mut response = match refusal(&context.0.keys, request.headers()) {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    };
    let (status, ms) = (response.status().as_u16(), begun.elapsed().as_millis());
    tracing::debug!(id, %method, path, status, ms, "a request to the API");
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}

fn refusal(keys: &[Token], headers: &HeaderMap) -> Option<ApiFailure> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, given)) = value.and_then(|value| value.split_once(' ')) else {
        let message = "this needs a key: send the header Authorization: Bearer KEY, with the token of the node's control.json or one of api.keys";
        return Some(ApiFailure::unauthorized(message));
    };
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    // All are compared, so that the time taken says nothing about which.
    let given = given.trim();
    let fits = given.len() <= openledger_web::limits::TOKEN_BYTES_MAX;
    let right = fits && keys.iter().fold(false, |found, key| found | key.matches(given));
    if is_bearer && right {
        return None;
    }
    let message = "this key is not one of this node's; take the token of the node's control.json or one of api.keys";
    Some(ApiFailure::unauthorized(message))
}

/// The body of a request. One that is too large is read to its end all the same, within limits:
/// many clients listen only then.
///
/// # Errors
/// Too large, too slow, or broken off.
pub(super) async fn read_body(body: Body) -> Result<Vec<u8>, ApiFailure> {
    let reading = async {
        let mut chunks = body.into_data_stream();
        let mut bytes = Vec::new();
        let mut len = 0usize;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| ApiFailure::body("the body broke off; send it again"))?;
            len = len.saturating_add(chunk.len());
            if len <= limits::API_BODY_BYTES_MAX {
                bytes.extend_from_slice(&chunk);
            } else if len > limits::API_BODY_BYTES_DROPPED_MAX {
                break;
            } else {
                bytes = Vec::new();
            }
        }
        if len > limits::API_BODY_BYTES_MAX {
            let most = limits::API_BODY_BYTES_MAX;
            let message = format!("the request has more than {most} bytes; send less at a time");
            return Err(ApiFailure::too_large(message));
        }
        Ok(bytes)
    };
    let in_time = tokio::time::timeout(limits::API_BODY_TIME_MAX, reading).await;
    in_time.unwrap_or_else(|_| Err(ApiFailure::slow_body()))
}
