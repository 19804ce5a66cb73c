//! The refine worker: one page after the other.

use openledger_refine::{Outcome, PROFILE_V1, Page, band_keys, process};
use openledger_wire::proof::RefineOutput;
use openledger_wire::worker::{WorkerRequest, WorkerResponse};
use openledger_wire::{Blob, BlobId, List, Text};
use tokio::net::UnixStream;

use super::child::failed;
use super::frame::{FrameError, read_frame, write_frame};

pub(super) async fn serve(mut socket: UnixStream) -> Result<(), FrameError> {
    write_frame(&mut socket, &WorkerResponse::Ready).await?;
    while let Some(request) = read_frame::<WorkerRequest>(&mut socket).await? {
        let response = match request {
            WorkerRequest::Refine { id, url, status, content_type, page } => {
                let content_type = Some(content_type.to_string()).filter(|text| !text.is_empty());
                let page =
                    Page { url: url.to_string(), status, content_type, body: page.into_vec() };
                // The socket is watched meanwhile by nobody: the node kills what takes too long.
                tokio::task::block_in_place(|| refine(id, &page))
            }
            WorkerRequest::Setup(_) => WorkerResponse::Ready,
            WorkerRequest::Fetch { id, .. } => {
                failed(id, "wrong-worker", "this worker refines; ask a fetch worker", false)
            }
        };
        write_frame(&mut socket, &response).await?;
    }
    Ok(())
}

fn refine(id: u64, page: &Page) -> WorkerResponse {
    let refined = match process(page, &PROFILE_V1) {
        Ok(refined) => refined,
        Err(error) => return failed(id, "refine", &error.to_string(), false),
    };
    let (output, bytes) = match refined.outcome {
        Outcome::Rejected(reason) => {
            (RefineOutput::Rejected { reason: Text::clipped(&reason.code().to_string()) }, vec![])
        }
        Outcome::Document(document) => {
            let bytes = match document.to_bytes() {
                Ok(bytes) => bytes,
                Err(error) => return failed(id, "refine", &error.to_string(), false),
            };
            let bands = List::new(band_keys(&refined.fingerprint.signature)).unwrap_or_default();
            let document_bytes = bytes.len() as u64;
            (RefineOutput::Document { document: BlobId::of(&bytes), document_bytes, bands }, bytes)
        }
    };
    match Blob::new(bytes) {
        Ok(document) => WorkerResponse::Refined { id, output, document },
        Err(error) => failed(id, "document-too-large", &error.to_string(), false),
    }
}
