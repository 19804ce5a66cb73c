//! Blobs between two real stores, and what a lying holder can do: nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use iroh::endpoint::{Connection, Endpoint, PortmapperConfig, RelayMode, presets};
use iroh::protocol::{AcceptError, ProtocolHandler, Router};
use openledger_swarm::{Blobs, BlobsConfig, FetchError, IrohBlobs, MemoryBlobs, StoreError};
use openledger_wire::gossip::Holder;
use openledger_wire::{BlobId, List, NodeId, NodeKey, Text};

use crate::soon;

const MIB: usize = 1024 * 1024;

fn noise(len: usize, seed: u8) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
    bytes.into()
}

async fn store(seed: u8, dir: &tempfile::TempDir) -> IrohBlobs {
    let ip = format!("127.0.0.{}", 100 + seed).parse().unwrap();
    let key = NodeKey::from_seed(&[seed; 32]);
    IrohBlobs::start(BlobsConfig::new(key, ip, dir.path().join(seed.to_string()))).await.unwrap()
}

fn holder(node: NodeId, addresses: &[SocketAddr]) -> Holder {
    let texts: Vec<Text<128>> =
        addresses.iter().map(|a| Text::new(a.to_string()).unwrap()).collect();
    Holder { node, addresses: List::new(texts).unwrap() }
}

fn public(seed: u8) -> NodeId {
    NodeKey::from_seed(&[seed; 32]).public()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_mebibytes_travel_and_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (store(1, &dir).await, store(2, &dir).await);
    assert_eq!(a.addresses().len(), 1);
    assert_eq!(a.addresses()[0].ip().to_string(), "127.0.0.101");
    let content = noise(8 * MIB, 1);
    let id = a.put(content.clone()).await.unwrap();
    assert_eq!(id, BlobId::of(&content));
    assert_eq!(b.get(id).await.unwrap(), None);

    // The first holder is dead: the second delivers.
    let dead = holder(public(7), &["127.0.0.107:9".parse().unwrap()]);
    let nameless = holder(public(8), &[]);
    let alive = holder(public(1), &a.addresses());
    let holders = [nameless, alive.clone(), dead];
    let fetched = soon("8 MiB", b.fetch(id, 8 * MIB, &holders)).await.unwrap();
    assert!(fetched == content);
    let stats = b.stats();
    assert_eq!((stats.fetched, stats.fetched_bytes), (1, 8 * MIB as u64));
    assert_eq!(stats.by_holder[&public(1)].blobs, 1);
    assert_eq!(stats.by_holder[&public(8)].failures, 1);
    // Once for the length, once for the bytes.
    assert_eq!(a.stats().served, 2);

    b.fetch(id, 8 * MIB, &[]).await.unwrap();
    assert_eq!(b.stats().found_here, 1);
    let file = dir.path().join("exported");
    assert_eq!(b.export(id, &file).await.unwrap(), 8 * MIB as u64);
    assert_eq!(BlobId::of(&std::fs::read(&file).unwrap()), id);

    // Small and empty blobs take other ways through the store.
    for small in [Bytes::new(), noise(1, 2), noise(20_000, 3)] {
        let id = a.put(small.clone()).await.unwrap();
        let fetched = soon("a small blob", b.fetch(id, 20_000, std::slice::from_ref(&alive))).await;
        assert_eq!(fetched.unwrap(), small);
    }

    // What was put is still there after a restart.
    a.shutdown().await;
    drop(a);
    let again = store(1, &dir).await;
    assert!(again.get(id).await.unwrap() == Some(content));
    again.forget(id).await.unwrap();
    again.shutdown().await;
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_lies_on_each_disk_once() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (store(3, &dir).await, store(4, &dir).await);
    let (here, there) = (dir.path().join("model"), dir.path().join("got"));
    let content = noise(8 * MIB, 9);
    std::fs::write(&here, &content).unwrap();
    let id = a.import(&here).await.unwrap();
    assert_eq!(id, BlobId::of(&content));
    let gone = a.import(&dir.path().join("none")).await.unwrap_err().to_string();
    assert!(gone.contains("none"), "{gone}");

    let alive = [holder(public(3), &a.addresses())];
    let told = std::sync::atomic::AtomicU64::new(0);
    let progress = |here: u64| told.store(here, std::sync::atomic::Ordering::Relaxed);
    let small = soon("a refusal", b.fetch_to(id, 1_000, &alive, &there, &progress)).await;
    assert!(matches!(small, Err(FetchError::TooLarge { .. })), "{small:?}");
    let max = 8 * MIB as u64;
    let got = soon("8 MiB", b.fetch_to(id, max, &alive, &there, &progress)).await.unwrap();
    assert_eq!(got, max);
    assert!(told.into_inner() > max / 2, "it told how far it was");
    assert_eq!(BlobId::of(&std::fs::read(&there).unwrap()), id);
    for seed in [3, 4] {
        let bytes = folder_bytes(&dir.path().join(seed.to_string()));
        assert!(bytes < max / 4, "store {seed} holds {bytes} bytes itself");
    }

    // It is served on from where it lies, and a file that was changed reaches nobody.
    let c = store(5, &dir).await;
    let second = [holder(public(4), &b.addresses())];
    let fetched = soon("8 MiB", c.fetch(id, 8 * MIB, &second)).await.unwrap();
    assert!(fetched == content);
    let mut changed = content.to_vec();
    changed[5 * MIB] ^= 1;
    std::fs::write(&here, &changed).unwrap();
    let d = store(6, &dir).await;
    let refused = soon("a changed file", d.fetch(id, 8 * MIB, &alive)).await;
    assert!(matches!(refused, Err(FetchError::AllFailed { .. })), "{refused:?}");
    for store in [a, b, c, d] {
        store.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_cut_short_or_lost_is_got_again() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (store(13, &dir).await, store(14, &dir).await);
    let (here, there) = (dir.path().join("model"), dir.path().join("got"));
    let content = noise(3 * MIB, 11);
    std::fs::write(&here, &content).unwrap();
    let id = a.import(&here).await.unwrap();
    let alive = [holder(public(13), &a.addresses())];
    let max = content.len() as u64;
    let get = || async { b.fetch_to(id, max, &alive, &there, &|_| {}).await };
    assert_eq!(soon("3 MiB", get()).await.unwrap(), max);
    assert_eq!((b.stats().fetched, b.stats().found_here), (1, 0));
    // What is whole is not got again.
    assert_eq!(soon("a look", get()).await.unwrap(), max);
    assert_eq!((b.stats().fetched, b.stats().found_here), (1, 1));

    for (number, harm) in [&content[..MIB], &noise(3 * MIB, 12)[..], &[][..]].iter().enumerate() {
        std::fs::remove_file(&there).unwrap();
        if !harm.is_empty() {
            std::fs::write(&there, harm).unwrap();
        }
        let nobody = b.fetch_to(id, max, &[], &there, &|_| {}).await;
        assert!(matches!(nobody, Err(FetchError::NoHolder { .. })), "{nobody:?}");
        assert_eq!(soon("3 MiB again", get()).await.unwrap(), max);
        assert!(std::fs::read(&there).unwrap() == content);
        assert_eq!(b.stats().fetched, number as u64 + 2);
    }
    // It is served on from there, and nothing of the mending is left.
    let c = store(15, &dir).await;
    let second = [holder(public(14), &b.addresses())];
    assert!(soon("3 MiB", c.fetch(id, 3 * MIB, &second)).await.unwrap() == content);
    let left = std::fs::read_dir(dir.path().join("14")).unwrap().filter_map(Result::ok);
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("mend")));
    for store in [a, b, c] {
        store.shutdown().await;
    }
}

fn folder_bytes(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().filter_map(Result::ok);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            data if data.is_dir() => folder_bytes(&entry.path()),
            data => data.len(),
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_large_absent_and_unknown_blobs_are_clear_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (store(3, &dir).await, store(4, &dir).await);
    let content = noise(MIB, 4);
    let id = a.put(content).await.unwrap();
    let holders = [holder(public(3), &a.addresses())];

    let error = soon("a refusal", b.fetch(id, MIB - 1, &holders)).await.unwrap_err();
    match error {
        FetchError::TooLarge { len, max, .. } => assert_eq!((len, max), (MIB as u64, MIB - 1)),
        other => panic!("{other}"),
    }
    assert!(!b.has(id).await.unwrap());
    assert!(matches!(b.fetch(id, MIB, &[]).await, Err(FetchError::NoHolder { .. })));

    let nowhere = BlobId([5; 32]);
    match soon("an absence", b.fetch(nowhere, MIB, &holders)).await {
        Err(FetchError::AllFailed { tries, .. }) => assert_eq!(tries[0].0, public(3)),
        other => panic!("{other:?}"),
    }
    // Somebody else's key at the right address is not the holder.
    let impostor = [holder(public(6), &a.addresses())];
    let error = soon("a refusal", b.fetch(id, MIB, &impostor)).await.unwrap_err();
    assert!(matches!(error, FetchError::AllFailed { .. }), "{error}");
    let export = b.export(id, &dir.path().join("x")).await;
    assert!(matches!(export, Err(StoreError::Missing { .. })));
    a.shutdown().await;
    b.shutdown().await;
}

/// Answers every request with a length and garbage.
#[derive(Debug)]
struct Liar;

impl ProtocolHandler for Liar {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let _ = recv.read_to_end(10_000).await;
            let mut lie = 5_000u64.to_le_bytes().to_vec();
            lie.extend(std::iter::repeat_n(7, 5_000));
            let _ = send.write_all(&lie).await;
            let _ = send.finish();
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_holder_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (store(10, &dir).await, store(11, &dir).await);
    let endpoint = Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&[12; 32]))
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .portmapper_config(PortmapperConfig::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .bind()
        .await
        .unwrap();
    let lies = endpoint.bound_sockets();
    let liar = Router::builder(endpoint).accept(iroh_blobs::ALPN, Arc::new(Liar)).spawn();

    let content = noise(5_000, 6);
    let id = a.put(content.clone()).await.unwrap();
    let liar_only = [holder(public(12), &lies)];
    let error = soon("a refusal", b.fetch(id, MIB, &liar_only)).await.unwrap_err();
    assert!(matches!(error, FetchError::AllFailed { .. }), "{error}");
    assert!(!b.has(id).await.unwrap());
    let both = [holder(public(12), &lies), holder(public(10), &a.addresses())];
    assert_eq!(soon("the truth", b.fetch(id, MIB, &both)).await.unwrap(), content);
    assert_eq!(b.stats().by_holder[&public(12)].failures, 2);
    liar.shutdown().await.unwrap();
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn the_store_for_unit_tests_behaves_alike() {
    let a = MemoryBlobs::new(public(1));
    let b = a.linked(public(2));
    let id = a.put(Bytes::from_static(b"page")).await.unwrap();
    assert!(!b.has(id).await.unwrap());
    let from_a = [holder(public(1), &[])];
    assert!(matches!(b.fetch(id, 3, &from_a).await, Err(FetchError::TooLarge { .. })));
    assert_eq!(b.fetch(id, 4, &from_a).await.unwrap(), "page");
    assert!(matches!(b.fetch(BlobId([9; 32]), 4, &[]).await, Err(FetchError::NoHolder { .. })));
    b.forget(id).await.unwrap();
    assert_eq!(b.get(id).await.unwrap(), None);
}
