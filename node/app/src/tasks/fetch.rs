//! Fetch: a page from the web becomes a blob, a WARC record and a description.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use openledger_wire::link::LeasedTask;
use openledger_wire::proof::{FetchOutput, ProofBody};
use openledger_wire::task::{FetchTask, TaskKind};
use openledger_wire::worker::{FetchedPage, WorkerRequest, WorkerResponse};
use openledger_wire::{Blob, BlobId, UnixMs, decode, limits as wire_limits};

use super::{Bench, Output, WorkError};
use crate::conduct::{Occasion, Shortcut};
use crate::limits;
use crate::warc::warc_record;

impl Bench {
    pub(super) async fn fetch(
        &self,
        leased: &LeasedTask,
        now: impl Fn() -> UnixMs,
        time_left: Duration,
    ) -> Result<Output, WorkError> {
        let task: FetchTask = decode(&leased.spec.body, wire_limits::TASK_BODY_MAX)
            .map_err(|error| WorkError::Task(error.to_string()))?;
        let page = match self.conduct.shortcut(leased) {
            Some(Shortcut::Fetched(page)) => *page,
            Some(Shortcut::Decline(why)) => return Err(WorkError::Declined(why)),
            Some(_) | None => self.fetch_page(&task, time_left).await?,
        };
        let page = self.conduct.page(page, leased);
        let fetched_at = now();
        let warc = warc_record(&task.url, &page, fetched_at)
            .map_err(|error| WorkError::Archive(error.to_string()))?;
        let warc = self.keep(warc).await?;
        let output = describe(&page, warc, fetched_at)?;
        let occasion = Occasion { leased, page: &page.body };
        let output = self.conduct.fetch_output(output, occasion);
        self.keep(page.body.into_vec()).await?;
        self.counts.pages.fetch_add(1, Ordering::Relaxed);
        Ok(Output { input: BlobId::ZERO, body: ProofBody::of(TaskKind::Fetch, &output)? })
    }

    async fn fetch_page(
        &self,
        task: &FetchTask,
        time_left: Duration,
    ) -> Result<FetchedPage, WorkError> {
        let url = task.url.clone();
        let begun = Instant::now();
        let _turn = self.turns.take(&task.url).await;
        let time_left = time_left.saturating_sub(begun.elapsed());
        let time_max = time_left.min(limits::FETCH_TIME_MAX);
        let answer = self.fetcher.call(time_max, |id| WorkerRequest::Fetch { id, url }).await?;
        match answer {
            WorkerResponse::Fetched { page, .. } => Ok(*page),
            _ => Err(WorkError::OddAnswer("fetch")),
        }
    }
}

/// What is said of a page.
fn describe(
    page: &FetchedPage,
    warc: BlobId,
    fetched_at: UnixMs,
) -> Result<FetchOutput, WorkError> {
    Ok(FetchOutput {
        final_url: page.final_url.clone(),
        status: page.status,
        content_type: page.content_type.clone(),
        page: BlobId::of(&page.body),
        page_bytes: page.body.len() as u64,
        fetched_at,
        signals: page.signals,
        warc,
        fingerprint: Blob::new(page.fingerprint.to_vec())?,
    })
}
