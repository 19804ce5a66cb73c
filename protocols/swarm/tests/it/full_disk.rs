//! A disk that runs full under an open store, and is emptied again.
//!
//! The disk is a real file system of limited size, mounted in a namespace of its own; where none is
//! to be had, as in some containers, the test says so and ends.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use openledger_swarm::{Blobs, BlobsConfig, FetchError, IrohBlobs, StoreError};
use openledger_wire::gossip::Holder;
use openledger_wire::{BlobId, List, NodeKey, Text};
use tokio::sync::watch;

use crate::soon;

/// Where the small disk is, in the process that has one.
const DISK: &str = "OPENLEDGER_TEST_SMALL_DISK";
const TEST: &str = "full_disk::a_store_that_a_full_disk_ended_is_opened_again_once_there_is_room";

#[test]
fn a_store_that_a_full_disk_ended_is_opened_again_once_there_is_room() {
    if let Some(disk) = std::env::var_os(DISK) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(on_a_small_disk(Path::new(&disk)));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]).arg(std::env::current_exe().unwrap());
        command.args([TEST, "--exact", "--nocapture"]).env(DISK, folder.path());
        command.output()
    };
    if !in_namespace("mount -t tmpfs tmpfs /mnt").is_ok_and(|output| output.status.success()) {
        eprintln!("no mount namespace to be had: no disk was filled");
        return;
    }
    let script =
        format!("mount -t tmpfs -o size=96m,mode=700 tmpfs \"${DISK}\" && exec \"$0\" \"$@\"");
    let output = in_namespace(&script).unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn store(seed: u8, dir: PathBuf) -> IrohBlobs {
    let ip = format!("127.0.0.{}", 100 + seed).parse().unwrap();
    IrohBlobs::start(BlobsConfig::new(NodeKey::from_seed(&[seed; 32]), ip, dir)).await.unwrap()
}

fn holder(seed: u8, store: &IrohBlobs) -> [Holder; 1] {
    let texts: Vec<Text<128>> =
        store.addresses().iter().map(|at| Text::new(at.to_string()).unwrap()).collect();
    let node = NodeKey::from_seed(&[seed; 32]).public();
    [Holder { node, addresses: List::new(texts).unwrap() }]
}

/// Bytes that are the same for the same number and do not compress.
fn noise(len: usize, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn fill(ballast: &Path) {
    let mut file = File::create(ballast).unwrap();
    for len in [1 << 20, 4_096, 1] {
        let piece = vec![0; len];
        let stopped = std::iter::repeat_with(|| file.write_all(&piece)).find_map(Result::err);
        assert_eq!(stopped.map(|error| error.kind()), Some(ErrorKind::StorageFull));
    }
}

async fn on_a_small_disk(disk: &Path) {
    let elsewhere = tempfile::tempdir().unwrap();
    let (own, peer) =
        (store(41, disk.join("blobs")).await, store(42, elsewhere.path().into()).await);
    // One lies in the database, the other in a file of its own.
    let mut kept = Vec::new();
    for (number, len) in [(1, 5_000), (2, 300_000)] {
        kept.push((own.put(noise(len, number).into()).await.unwrap(), len));
    }
    let (tell, mut told) = watch::channel(None);
    let keeping = tokio::spawn(own.clone().keep_open(move |problem| {
        tell.send_replace(problem);
    }));

    let ballast = disk.join("ballast");
    fill(&ballast);
    let mut number = 100;
    while own.check().await.is_ok() {
        // Who comes first is told what was tried, and everybody after that the store has ended.
        let _ = own.put(noise(9_000, number).into()).await;
        number += 1;
        assert!(number < 10_000, "the store goes on without room");
    }
    let named = told.wait_for(Option::is_some);
    let named = soon("the full disk is named", named).await.unwrap().clone().unwrap();
    for part in ["the disk is full", "MiB free", "free some space"] {
        assert!(named.contains(part), "{part:?} is not in {named:?}");
    }
    let (id, _) = kept[0];
    let ended = |error: StoreError| assert!(matches!(error, StoreError::Ended { .. }), "{error}");
    ended(own.put(noise(9_000, 1).into()).await.unwrap_err());
    ended(own.get(id).await.unwrap_err());
    ended(own.has(id).await.unwrap_err());
    ended(own.forget(id).await.unwrap_err());
    ended(own.export(id, &elsewhere.path().join("out")).await.unwrap_err());
    let wanted = peer.put(noise(20_000, 7).into()).await.unwrap();
    match own.fetch(wanted, 20_000, &holder(42, &peer)).await {
        Err(FetchError::Store(error)) => ended(error),
        other => panic!("{other:?}"),
    }
    assert!(own.stats().by_holder.is_empty(), "no holder is blamed for it");

    std::fs::remove_file(&ballast).unwrap();
    soon("the store is open again", told.wait_for(Option::is_none)).await.unwrap();
    own.check().await.unwrap();
    for (number, (id, len)) in (1..).zip(&kept) {
        assert!(own.get(*id).await.unwrap().unwrap() == noise(*len, number));
        // Peers find it where it was, at the same address.
        let got = soon("a blob", peer.fetch(*id, *len, &holder(41, &own))).await.unwrap();
        assert_eq!(BlobId::of(&got), *id);
    }
    own.put(noise(9_000, 3).into()).await.unwrap();
    let fetched = soon("a blob", own.fetch(wanted, 20_000, &holder(42, &peer))).await.unwrap();
    assert_eq!(fetched, noise(20_000, 7));

    own.shutdown().await;
    assert!(!own.reopen().await.unwrap(), "what was shut down stays so");
    soon("the keeper ends with the store", keeping).await.unwrap();
    assert_eq!(*told.borrow(), None, "a stop is no problem to tell of");
    peer.shutdown().await;
}
