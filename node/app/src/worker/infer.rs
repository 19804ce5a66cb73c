//! The infer worker: one engine over one base model, many calls side by side.
//!
//! Requests are read, and answers written, while the engine steps in a thread of its own. The
//! model's file is a stranger's, and so is every adapter: whatever they do, they do it here.

use openledger_wire::call::CallFailure;
use openledger_wire::worker::{InferRequest, InferResponse};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::frame::{FrameError, read_frame, write_frame};
use super::infer_ask::InferAsk;
use super::infer_engine::Desk;
use crate::limits;
use crate::serving::{codes, failure};

pub(super) async fn serve(socket: UnixStream) -> Result<(), FrameError> {
    let (mut reader, mut writer) = socket.into_split();
    let Some(first) = read_frame::<InferRequest>(&mut reader).await? else { return Ok(()) };
    let desk = match first {
        InferRequest::Setup(setup) => tokio::task::block_in_place(|| Desk::open(&setup)),
        _ => Err(failure(codes::INVALID, "the first message to an infer worker sets it up", 0)),
    };
    let desk = match desk {
        Ok(desk) => desk,
        Err(failure) => return refuse(&mut writer, failure).await,
    };
    write_frame(&mut writer, &desk.ready()).await?;
    let (requests, inbox) = mpsc::channel::<InferAsk>(limits::INFER_QUEUE_MAX);
    let (answers, outbox) = mpsc::channel::<InferResponse>(limits::INFER_QUEUE_MAX);
    let thread = std::thread::Builder::new().name("engine".to_owned());
    thread.spawn(move || desk.run(inbox, &answers))?;
    let mut writing = tokio::spawn(write_all(writer, outbox));
    loop {
        tokio::select! {
            request = read_frame::<InferAsk>(&mut reader) => {
                let Some(request) = request? else { return Ok(()) };
                if requests.send(request).await.is_err() {
                    return Ok(());
                }
            }
            // The engine is gone, or nobody reads: there is nothing left to do.
            _ = &mut writing => return Ok(()),
        }
    }
}

/// Says why there is no engine; id 0 is the setup.
async fn refuse(writer: &mut OwnedWriteHalf, failure: CallFailure) -> Result<(), FrameError> {
    write_frame(writer, &InferResponse::Failed { id: 0, failure }).await
}

async fn write_all(mut writer: OwnedWriteHalf, mut outbox: mpsc::Receiver<InferResponse>) {
    while let Some(answer) = outbox.recv().await {
        if write_frame(&mut writer, &answer).await.is_err() {
            return;
        }
    }
}
