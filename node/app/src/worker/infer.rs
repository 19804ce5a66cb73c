//! The infer worker: one engine over one base model, many calls side by side.
//!
//! Requests are read, and answers written, while the engine steps in a thread of its own. The
//! model's file is a stranger's, and so is every adapter: whatever they do, they do it here. So do
//! drivers of devices.

use openledger_inference::of_class;
use openledger_wire::Text;
use openledger_wire::call::CallFailure;
use openledger_wire::worker::{InferProbe, InferRequest, InferResponse, InferSetup};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::frame::{FrameError, read_frame, write_frame};
use super::infer_adapters::News;
use super::infer_device::look;
use super::infer_engine::Desk;
use crate::limits;
use crate::serving::{codes, failure};

pub(super) async fn serve(socket: UnixStream) -> Result<(), FrameError> {
    let (mut reader, mut writer) = socket.into_split();
    let Some(first) = read_frame::<InferRequest>(&mut reader).await? else { return Ok(()) };
    let setup = match first {
        InferRequest::Setup(setup) => setup,
        InferRequest::Probe(asked) => return probe(&mut writer, &asked).await,
        _ => {
            let message = "the first message to an infer worker sets it up";
            return refuse(&mut writer, failure(codes::INVALID, message, 0)).await;
        }
    };
    let (requests, inbox) = mpsc::channel::<News>(limits::INFER_QUEUE_MAX);
    let desk = match open(&mut writer, setup, requests.downgrade()).await? {
        Ok(desk) => desk,
        Err(failure) => return refuse(&mut writer, failure).await,
    };
    write_frame(&mut writer, &desk.ready()).await?;
    let (answers, outbox) = mpsc::channel::<InferResponse>(limits::INFER_QUEUE_MAX);
    let clock = tokio::runtime::Handle::current();
    let thread = std::thread::Builder::new().name("engine".to_owned());
    thread.spawn(move || desk.run(inbox, &answers, &clock))?;
    let mut writing = tokio::spawn(write_all(writer, outbox));
    loop {
        tokio::select! {
            request = read_frame(&mut reader) => {
                let Some(request) = request? else { return Ok(()) };
                if requests.send(News::Asked(request)).await.is_err() {
                    return Ok(());
                }
            }
            // The engine is gone, or nobody reads: there is nothing left to do.
            _ = &mut writing => return Ok(()),
        }
    }
}

/// Opens the model in a thread of its own, and tells how far it is.
async fn open(
    writer: &mut OwnedWriteHalf,
    setup: InferSetup,
    news: mpsc::WeakSender<News>,
) -> Result<Result<Desk, CallFailure>, FrameError> {
    // A few reports are as good as all.
    let (reached, mut reports) = mpsc::channel::<(u64, u64)>(4);
    let mut opening = tokio::task::spawn_blocking(move || {
        Desk::open(&setup, news, &mut |done, total| {
            let _ = reached.try_send((done as u64, total as u64));
        })
    });
    loop {
        tokio::select! {
            Some((done, total)) = reports.recv() => {
                write_frame(writer, &InferResponse::Loading { done, total }).await?;
            }
            opened = &mut opening => {
                return Ok(opened.unwrap_or_else(|_| {
                    Err(failure(codes::ENGINE, "the engine failed as it was made", 0))
                }));
            }
        }
    }
}

/// Says what a backend would compute on.
async fn probe(writer: &mut OwnedWriteHalf, asked: &InferProbe) -> Result<(), FrameError> {
    let unknown = || {
        let message = format!("this build has no backend of the class {}", &*asked.backend);
        failure(codes::NO_DEVICE, &message, 0)
    };
    let found = tokio::task::block_in_place(|| {
        let (kind, ..) = of_class(&asked.backend).ok_or_else(unknown)?;
        look(kind, asked.device.as_ref())
    });
    match found {
        Ok(device) => {
            let device = Text::clipped(&device);
            write_frame(writer, &InferResponse::Probed { device }).await
        }
        Err(failure) => refuse(writer, failure).await,
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
