//! The fetcher: the order in which a page is judged, waited for and fetched.
//!
//! For every hop: address, owner's lists, resolution and deny table, host gate,
//! robots.txt, turn, request. Redirects are followed here, hop by hop, so that
//! each passes all of it again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::FetchConfig;
use crate::error::{FetchError, shortened};
use crate::hosts::HostLists;
use crate::limits::FetchLimits;
use crate::outcome::{FetchOutcome, FetchTiming, Hop};
use crate::page_url::PageUrl;
use crate::politeness::{Politeness, Site, Turn};
use crate::request::{FetchRequest, request_fields, request_head};
use crate::resolve::{Resolver, SystemResolver, Target, target};
use crate::robots::{RobotsRefusal, RobotsVerdict};
use crate::robots_cache::RobotsCache;
use crate::signals::Signals;
use crate::transport::{Answer, Transport, encoding_of};

/// Statuses that lead elsewhere (RFC 9110 section 15.4).
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// Decides which hosts the swarm opens to this node at this time, so that all
/// nodes together cannot be aimed at one victim. Asked on every hop, robots.txt
/// included, with the address that will be connected to.
pub trait HostGate: Send + Sync {
    /// Whether this node may contact the registrable domain at that address now.
    fn opens(&self, registrable_domain: &str, address: IpAddr) -> bool;
}

/// Fetches pages. Clones share politeness, robots.txt memory and connections'
/// settings; use one fetcher per process.
#[derive(Clone)]
pub struct Fetcher {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: FetchConfig,
    lists: HostLists,
    pub(crate) transport: Transport,
    resolver: Arc<dyn Resolver>,
    gate: Option<Arc<dyn HostGate>>,
    politeness: Mutex<Politeness>,
    turn_ended: Notify,
    robots: Mutex<RobotsCache>,
    started: Instant,
}

impl Fetcher {
    /// A fetcher that resolves names through the operating system. Fails on an
    /// unusable configuration. Call it within a tokio runtime.
    pub fn new(config: FetchConfig) -> Result<Self, FetchError> {
        Self::with(config, Arc::new(SystemResolver), None)
    }

    /// A fetcher with its own resolver and, if given, a host gate.
    pub fn with(
        config: FetchConfig,
        resolver: Arc<dyn Resolver>,
        gate: Option<Arc<dyn HostGate>>,
    ) -> Result<Self, FetchError> {
        let lists = config.checked()?;
        let transport = Transport::new(&config)?;
        let FetchLimits { delay_ms_default, delay_ms_max, sites_max, .. } = config.limits;
        let politeness = Politeness::new(delay_ms_default, delay_ms_max, sites_max);
        let robots = RobotsCache::new(config.limits.robots_cache_entries_max);
        let shared = Shared {
            config,
            lists,
            transport,
            resolver,
            gate,
            politeness: Mutex::new(politeness),
            turn_ended: Notify::new(),
            robots: Mutex::new(robots),
            started: Instant::now(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Fetches one page, following redirects. Any status is an outcome; errors
    /// are listed in [`FetchError`]. Dropping the future ends the request.
    pub async fn fetch(&self, request: FetchRequest) -> Result<FetchOutcome, FetchError> {
        let outcome = Box::pin(self.shared.fetch(&request)).await;
        match &outcome {
            Ok(page) => tracing::debug!(url = %page.final_url, status = page.status, "fetched"),
            Err(error) => tracing::debug!(code = error.code(), %error, "not fetched"),
        }
        outcome
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// A granted turn at a hop's sites; ends when dropped, also if the fetch is.
pub(crate) struct Permit<'a> {
    shared: &'a Shared,
    sites: &'a [Site],
    asked_ms: Option<u64>,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.shared.politeness().done(self.shared.now_ms(), self.sites, self.asked_ms);
        self.shared.turn_ended.notify_waiters();
    }
}

/// What has been spent and seen on the way to a page.
struct Trip {
    network_left: Duration,
    hops: Vec<Hop>,
    seen: BTreeSet<String>,
    timing: FetchTiming,
}

impl Trip {
    fn new(limits: &FetchLimits) -> Self {
        Self {
            network_left: Duration::from_millis(limits.total_ms_max),
            hops: Vec::new(),
            seen: BTreeSet::new(),
            timing: FetchTiming::default(),
        }
    }

    /// Books the network time since `started`.
    fn spend(&mut self, started: Instant) {
        let spent = started.elapsed();
        self.network_left = self.network_left.saturating_sub(spent);
        self.timing.network_ms += millis(spent);
    }
}

impl Shared {
    async fn fetch(&self, request: &FetchRequest) -> Result<FetchOutcome, FetchError> {
        let limits = &self.config.limits;
        let agent = self.config.user_agent.render(request.campaign.as_deref())?;
        let mut trip = Trip::new(limits);
        let mut url = self.parse(&request.url)?;
        loop {
            if !trip.seen.insert(url.as_str().to_owned()) {
                return Err(FetchError::RedirectLoop { url: url.to_string() });
            }
            let hop = self.admit(&url, &agent).await;
            let (target, robots, asked_ms) = match (hop, trip.hops.last()) {
                (Err(error), Some(from)) => return Err(error.met_after(&from.url)),
                (hop, _) => hop?,
            };
            let permit = self.turn(&url, &target, asked_ms, &mut trip.timing).await?;
            let fields = request_fields(&agent, Some(request));
            let started = Instant::now();
            let deadline = started + trip.network_left;
            let sent = self.transport.send(&url, target.address, &fields, limits, deadline).await;
            let answer = sent?;
            trip.timing.first_byte_ms = millis(started.elapsed());
            let (status, address) = (answer.status, answer.address);
            trip.hops.push(Hop { url: url.to_string(), status, address });
            self.heed(&answer, target.domain(), asked_ms);
            let Some(next) = self.redirect(&url, &answer)? else {
                let page = self.page(&url, &fields, answer, robots, &mut trip, started).await;
                drop(permit);
                return page
                    .map(|page| FetchOutcome { requested_url: request.url.clone(), ..page });
            };
            trip.spend(started);
            if trip.hops.len() > limits.redirects_max as usize {
                let last = next.to_string();
                return Err(FetchError::TooManyRedirects { limit: limits.redirects_max, last });
            }
            drop(permit);
            url = next;
        }
    }

    /// Reads the body of the last hop and puts the outcome together.
    async fn page(
        &self,
        url: &PageUrl,
        fields: &[(&'static str, String)],
        answer: Answer,
        robots: RobotsVerdict,
        trip: &mut Trip,
        started: Instant,
    ) -> Result<FetchOutcome, FetchError> {
        let fetched_at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
        let content_type = answer.header("content-type").map(str::to_owned);
        if let Some(kind) = &content_type
            && (200..300).contains(&answer.status)
            && !self.config.wants_type(kind)
        {
            let content_type = shortened(kind);
            return Err(FetchError::ContentType { url: url.to_string(), content_type });
        }
        let encoding = encoding_of(&answer, url)?;
        let product = &self.config.user_agent.product;
        let pairs = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let signals = Signals::from_headers(product, pairs);
        let (status, reason, address) = (answer.status, answer.reason, answer.address);
        let headers = answer.headers.clone();
        let deadline = started + trip.network_left;
        let limits = &self.config.limits;
        let decoded = self.transport.body(answer, url, encoding, limits, deadline).await?;
        trip.spend(started);
        Ok(FetchOutcome {
            requested_url: String::new(),
            final_url: url.to_string(),
            hops: std::mem::take(&mut trip.hops),
            status,
            reason: reason.to_owned(),
            request_head: request_head(url, fields),
            headers,
            content_type,
            body: decoded.body,
            wire_bytes: decoded.wire_bytes,
            encoding,
            address,
            robots,
            signals,
            fetched_at_ms,
            timing: trip.timing,
        })
    }

    /// Everything that must be known before a hop's turn is asked for: where it
    /// goes, why it may, and the crawl-delay.
    async fn admit(
        &self,
        url: &PageUrl,
        agent: &str,
    ) -> Result<(Target, RobotsVerdict, Option<u64>), FetchError> {
        let target = self.target(url).await?;
        let state = match self.known_robots(url) {
            Some(state) => state,
            None => self.fetch_robots(url, &target, agent).await?,
        };
        match state.verdict(url.as_str()) {
            Ok(verdict) => Ok((target, verdict, state.crawl_delay_ms())),
            Err(RobotsRefusal::Rule) => {
                Err(FetchError::RobotsDisallow { origin: url.origin(), url: url.to_string() })
            }
            Err(RobotsRefusal::Closed(detail)) => {
                Err(FetchError::RobotsUnavailable { origin: url.origin(), detail })
            }
        }
    }

    pub(crate) async fn target(&self, url: &PageUrl) -> Result<Target, FetchError> {
        let target = target(url, &self.config, &self.lists, self.resolver.as_ref()).await?;
        let address = target.address.ip();
        let opens = |gate: &Arc<dyn HostGate>| gate.opens(url.registrable_domain(), address);
        if self.gate.as_ref().is_some_and(|gate| !opens(gate)) {
            return Err(FetchError::HostNotOpen { host: url.host().to_owned(), address });
        }
        Ok(target)
    }

    /// Waits for a turn at the target's sites; `asked_ms` is the pause that its
    /// robots.txt asks for afterwards.
    pub(crate) async fn turn<'a>(
        &'a self,
        url: &PageUrl,
        target: &'a Target,
        asked_ms: Option<u64>,
        timing: &mut FetchTiming,
    ) -> Result<Permit<'a>, FetchError> {
        let asked = Instant::now();
        let deadline = asked + Duration::from_millis(self.config.limits.queue_ms_max);
        loop {
            // Listening starts before asking, so that no end of a turn is missed.
            let ended = self.turn_ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let turn = self.politeness().ask(self.now_ms(), &target.sites);
            let free = match turn {
                Turn::Granted => {
                    timing.queued_ms += millis(asked.elapsed());
                    return Ok(Permit { shared: self, sites: &target.sites, asked_ms });
                }
                Turn::At(at_ms) => self.started + Duration::from_millis(at_ms),
                Turn::Busy => deadline,
            };
            if matches!(turn, Turn::At(_)) && free <= deadline {
                tokio::time::sleep_until(free).await;
            } else if matches!(turn, Turn::At(_))
                || tokio::time::timeout_at(deadline, ended).await.is_err()
            {
                let waited_ms = millis(asked.elapsed());
                return Err(FetchError::HostBusy { host: url.host().to_owned(), waited_ms });
            }
        }
    }

    /// Leaves a site alone that says it is overloaded, for as long as it asks.
    pub(crate) fn heed(&self, answer: &Answer, domain: &Site, asked_ms: Option<u64>) {
        if matches!(answer.status, 429 | 503) {
            let asked = answer.header("retry-after").and_then(|v| v.trim().parse::<u64>().ok());
            let mut politeness = self.politeness();
            let pause_ms = match asked {
                Some(seconds) => seconds.saturating_mul(1_000),
                None => politeness.pause_ms(asked_ms).saturating_mul(4),
            };
            politeness.back_off(self.now_ms(), domain, pause_ms);
        }
    }

    /// Where an answer leads, if it is a redirect.
    pub(crate) fn redirect(
        &self,
        url: &PageUrl,
        answer: &Answer,
    ) -> Result<Option<PageUrl>, FetchError> {
        let location = answer.header("location").filter(|_| REDIRECTS.contains(&answer.status));
        let Some(location) = location else { return Ok(None) };
        let next = url.join(location, self.config.limits.url_bytes_max);
        next.map(Some).map_err(|problem| FetchError::BadRedirect {
            from: url.to_string(),
            location: shortened(location),
            problem,
        })
    }

    fn parse(&self, raw: &str) -> Result<PageUrl, FetchError> {
        PageUrl::parse(raw, self.config.limits.url_bytes_max)
            .map_err(|problem| FetchError::BadUrl { url: shortened(raw), problem })
    }

    pub(crate) fn politeness(&self) -> MutexGuard<'_, Politeness> {
        self.politeness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn robots_cache(&self) -> MutexGuard<'_, RobotsCache> {
        self.robots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the fetcher was made.
    pub(crate) fn now_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
