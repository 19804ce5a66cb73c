//! Workers as real child processes: what they answer, how they die, that none is left behind.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use openledger_app::worker::{CallError, Program, Worker};
use openledger_refine::{Document, Fingerprint};
use openledger_wire::proof::RefineOutput;
use openledger_wire::worker::{WorkerRequest, WorkerResponse};
use openledger_wire::{Blob, BlobId, Text, limits};

use crate::site::{Site, article};

const TIME: Duration = Duration::from_secs(30);

pub(crate) fn program() -> Program {
    Program { path: PathBuf::from(env!("CARGO_BIN_EXE_openledger")) }
}

fn fetch(url: &str) -> impl FnOnce(u64) -> WorkerRequest {
    let url = Text::clipped(url);
    move |id| WorkerRequest::Fetch { id, url }
}

fn refine(page: &str) -> impl FnOnce(u64) -> WorkerRequest {
    let page = Blob::new(page.as_bytes()).unwrap();
    let (url, content_type) = (Text::clipped("http://docs.test/a"), Text::clipped("text/html"));
    move |id| WorkerRequest::Refine { id, url, status: 200, content_type, page }
}

#[tokio::test]
async fn a_page_is_fetched_politely_with_its_fingerprint() {
    let site = Site::start();
    let worker = Worker::fetch(program(), site.setup(), TIME);
    let answer = worker.call(TIME, fetch(&site.url("/article"))).await.unwrap();
    let WorkerResponse::Fetched { page, .. } = answer else { panic!("{answer:?}") };
    assert_eq!((page.status, &page.body[..]), (200, article().as_bytes()));
    assert_eq!(page.signals & 0b11, 0b11, "noai was seen");
    assert!(page.headers.iter().any(|(name, _)| &**name == "x-robots-tag"));
    Fingerprint::from_bytes(&page.fingerprint).unwrap();

    let error = worker.call(TIME, fetch(&site.url("/private/x"))).await.unwrap_err();
    let CallError::Failed { code, retryable, .. } = error else { panic!("{error:?}") };
    assert_eq!((code.as_str(), retryable), ("robots-disallow", false));
    let error = worker.call(TIME, fetch("http://127.0.0.1/")).await.unwrap_err();
    let CallError::Failed { code, message, .. } = error else { panic!("{error:?}") };
    assert_eq!(code, "private-address", "{message}");
}

#[tokio::test]
async fn a_page_is_refined_to_the_same_bytes_every_time() {
    let worker = Worker::refine(program());
    let one = worker.call(TIME, refine(&article())).await.unwrap();
    worker.kill().await;
    let two = worker.call(TIME, refine(&article())).await.unwrap();
    let (
        WorkerResponse::Refined { output, document, .. },
        WorkerResponse::Refined { output: again, document: bytes, .. },
    ) = (one, two)
    else {
        panic!("not refined")
    };
    assert_eq!((&output, &document), (&again, &bytes));
    let RefineOutput::Document { document: id, document_bytes, bands } = output else {
        panic!("{output:?}")
    };
    assert_eq!((id, document_bytes), (BlobId::of(&document), document.len() as u64));
    assert!(!bands.is_empty());
    assert!(Document::from_bytes(&document).unwrap().text.contains("planner"));
    let short = worker.call(TIME, refine("<p>too short")).await.unwrap();
    let WorkerResponse::Refined { output: RefineOutput::Rejected { reason }, document, .. } = short
    else {
        panic!("{short:?}")
    };
    assert!(document.is_empty() && reason.parse::<u16>().is_ok());
}

#[tokio::test]
async fn a_worker_that_dies_names_its_input_and_the_next_one_works() {
    let worker = Worker::refine(program());
    worker.call(TIME, refine("<p>warm")).await.unwrap();
    let pid = worker.pid().await.unwrap();
    // Stopped, so that it surely has the page in hand when it is killed.
    signal("-STOP", pid);
    let killed = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        signal("-KILL", pid);
    });
    let error = worker.call(TIME, refine(&article())).await.unwrap_err();
    killed.join().unwrap();
    assert_eq!(error, CallError::Died { kind: "refine", alone: true });
    let answer = worker.call(TIME, refine(&article())).await;
    assert!(matches!(answer, Ok(WorkerResponse::Refined { .. })), "{answer:?}");
    let next = worker.pid().await.unwrap();
    assert_ne!(next, pid);
    // One that died without any input in hand is held against nobody.
    signal("-KILL", next);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer = worker.call(TIME, refine(&article())).await;
    assert!(matches!(answer, Ok(WorkerResponse::Refined { .. })), "{answer:?}");
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn a_program_that_is_no_worker_is_an_error_with_a_remedy() {
    let worker = Worker::refine(Program { path: "/nonexistent".into() });
    let error = worker.call(TIME, refine("x")).await.unwrap_err().to_string();
    assert!(error.contains("program file"), "{error}");
}

/// Starts a worker by hand on one end of a socket pair.
fn by_hand(kind: &str) -> (std::process::Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_openledger"))
        .args(["worker", kind])
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (child, ours)
}

fn ends(child: &mut std::process::Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    false
}

#[test]
fn workers_end_when_their_node_does() {
    for kind in ["fetch", "refine"] {
        let (mut child, socket) = by_hand(kind);
        drop(socket);
        assert!(ends(&mut child), "a {kind} worker was left behind");
    }
}

#[test]
fn garbage_and_giant_frames_end_a_worker() {
    let giant = u32::try_from(limits::WORKER_MAX + 1).unwrap().to_be_bytes();
    for bytes in [&[0, 0, 0, 3, 1, 2, 3][..], &giant, b"GET / HTTP/1.1\r\n\r\n"] {
        let (mut child, mut socket) = by_hand("refine");
        socket.write_all(bytes).unwrap();
        assert!(ends(&mut child), "{bytes:?}");
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
    }
}

#[test]
fn a_worker_started_by_hand_says_who_starts_workers() {
    let output = Command::new(env!("CARGO_BIN_EXE_openledger"))
        .args(["worker", "refine"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("started by the node"), "{text}");
}
