//! Fetching robots.txt: the same checks and turns as any page, a shorter way.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{FetchError, TimeoutPhase};
use crate::fetcher::Shared;
use crate::outcome::FetchTiming;
use crate::page_url::PageUrl;
use crate::request::request_fields;
use crate::resolve::Target;
use crate::robots::RobotsState;
use crate::transport::encoding_of;

/// What asking for a robots.txt came to.
enum RobotsAnswer {
    Known(Arc<RobotsState>),
    Fetched(RobotsState),
}

impl Shared {
    pub(crate) fn known_robots(&self, url: &PageUrl) -> Option<Arc<RobotsState>> {
        self.robots_cache().get(self.now_ms(), &url.origin())
    }

    /// Fetches robots.txt of a page's origin, at the address already judged, and
    /// remembers what came of it. What says nothing about the file (no turn, no
    /// connection) is reported as what it is and not remembered.
    pub(crate) async fn fetch_robots(
        &self,
        url: &PageUrl,
        target: &Target,
        agent: &str,
    ) -> Result<Arc<RobotsState>, FetchError> {
        use FetchError::{Config, Connect, Dns, HostBusy, HostNotOpen, Timeout, Tls};
        let state = match Box::pin(self.ask_robots(url, target, agent)).await {
            Ok(RobotsAnswer::Known(state)) => return Ok(state),
            Ok(RobotsAnswer::Fetched(state)) => state,
            Err(
                error @ (Config(_)
                | HostBusy { .. }
                | HostNotOpen { .. }
                | Dns { .. }
                | Connect { .. }
                | Tls { .. }
                | Timeout { phase: TimeoutPhase::Connect | TimeoutPhase::Resolve, .. }),
            ) => return Err(error),
            Err(error) => RobotsState::Closed(format!("it could not be fetched: {error}")),
        };
        let limits = &self.config.limits;
        let age =
            if state.is_closed() { limits.robots_retry_ms } else { limits.robots_cache_ms_max };
        let state = Arc::new(state);
        let expires_ms = self.now_ms().saturating_add(age);
        self.robots_cache().put(&url.origin(), expires_ms, Arc::clone(&state));
        Ok(state)
    }

    async fn ask_robots(
        &self,
        page: &PageUrl,
        target: &Target,
        agent: &str,
    ) -> Result<RobotsAnswer, FetchError> {
        let limits = &self.config.limits;
        let product = &self.config.user_agent.product;
        let fields = request_fields(agent, None);
        let mut url = page.robots_txt();
        let mut target = target.clone();
        let mut left = Duration::from_millis(limits.total_ms_max);
        for _ in 0..=limits.robots_redirects_max {
            let permit = self.turn(&url, &target, None, &mut FetchTiming::default()).await?;
            // Whoever had the turn before may have fetched it.
            if let Some(state) = self.known_robots(page) {
                return Ok(RobotsAnswer::Known(state));
            }
            let started = Instant::now();
            let deadline = started + left;
            let answer =
                self.transport.send(&url, target.address, &fields, limits, deadline).await?;
            self.heed(&answer, target.domain(), None);
            let status = answer.status;
            let Some(next) = self.redirect(&url, &answer)? else {
                let body = match status {
                    200..=299 => {
                        let encoding = encoding_of(&answer, &url)?;
                        self.transport.beginning(answer, &url, encoding, limits, deadline).await?
                    }
                    _ => Vec::new(),
                };
                return Ok(RobotsAnswer::Fetched(RobotsState::from_answer(product, status, &body)));
            };
            left = left.saturating_sub(started.elapsed());
            drop(permit);
            target = self.target(&next).await.map_err(|error| error.met_after(url.as_str()))?;
            url = next;
        }
        let limit = limits.robots_redirects_max;
        Err(FetchError::TooManyRedirects { limit, last: url.to_string() })
    }
}
