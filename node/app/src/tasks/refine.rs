//! Refine: a page, one's own or a peer's, becomes a document or a reason.

use std::sync::atomic::Ordering;
use std::time::Duration;

use openledger_refine::PROFILE_V1;
use openledger_wire::link::LeasedTask;
use openledger_wire::proof::{ProofBody, RefineOutput};
use openledger_wire::task::{RefineTask, TaskKind};
use openledger_wire::worker::{WorkerRequest, WorkerResponse};
use openledger_wire::{Blob, decode, limits as wire_limits};

use super::{Bench, Output, WorkError};
use crate::conduct::{Occasion, Shortcut};
use crate::limits;

impl Bench {
    pub(super) async fn refine(
        &self,
        leased: &LeasedTask,
        time_left: Duration,
    ) -> Result<Output, WorkError> {
        let task: RefineTask = decode(&leased.spec.body, wire_limits::TASK_BODY_MAX)
            .map_err(|error| WorkError::Task(error.to_string()))?;
        if task.profile != PROFILE_V1.profile_id() {
            return Err(WorkError::Unsupported(format!(
                "the task wants processing profile {}, this version of the node has {}; update it",
                short(&task.profile),
                short(&PROFILE_V1.profile_id())
            )));
        }
        let (output, document, page) = match self.conduct.shortcut(leased) {
            Some(Shortcut::Refined(output, document)) => (output, document, Vec::new()),
            Some(Shortcut::Decline(why)) => return Err(WorkError::Declined(why)),
            Some(_) | None => {
                let page = self.input(&task, leased).await?;
                let (output, document) = self.refine_page(&task, &page, time_left).await?;
                (output, document, page)
            }
        };
        let occasion = Occasion { leased, page: &page };
        let (output, document) = self.conduct.refine_output(output, document, occasion);
        if !document.is_empty() {
            self.keep(document).await?;
            self.counts.documents.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Output { input: task.page, body: ProofBody::of(TaskKind::Refine, &output)? })
    }

    /// The page: from here, else from a peer, verified by its id either way.
    async fn input(&self, task: &RefineTask, leased: &LeasedTask) -> Result<Vec<u8>, WorkError> {
        if let Some(page) = self.blobs.get(task.page).await? {
            return Ok(page.to_vec());
        }
        let bytes_max = usize::try_from(task.page_bytes).unwrap_or(usize::MAX);
        let bytes_max = bytes_max.min(wire_limits::PAGE_MAX);
        let page = self.blobs.fetch(task.page, bytes_max, &leased.holders).await?;
        self.counts.from_peers.fetch_add(1, Ordering::Relaxed);
        Ok(page.to_vec())
    }

    async fn refine_page(
        &self,
        task: &RefineTask,
        page: &[u8],
        time_left: Duration,
    ) -> Result<(RefineOutput, Vec<u8>), WorkError> {
        let (url, content_type) = (task.url.clone(), task.content_type.clone());
        let (status, page) = (task.status, Blob::new(page)?);
        let refiner = self.free_refiner().await.ok_or(WorkError::OddAnswer("refine"))?;
        let time_max = time_left.min(limits::REFINE_TIME_MAX);
        let answer = refiner
            .call(time_max, |id| WorkerRequest::Refine { id, url, status, content_type, page })
            .await?;
        match answer {
            WorkerResponse::Refined { output, document, .. } => Ok((output, document.into_vec())),
            _ => Err(WorkError::OddAnswer("refine")),
        }
    }
}

fn short(id: &[u8; 32]) -> String {
    hex::encode(id.get(..4).unwrap_or_default())
}
