//! Registers: the first value stays, across reopening and power cuts, until it is pruned.

use std::io;

use openledger_tables::faults::{Fault, FaultDisk, PowerCut};
use openledger_tables::{Register, Store, StoreError, StoreOptions};

const SIGNED: Register = Register::new("signed", "signed_by_epoch");

fn options() -> StoreOptions {
    StoreOptions::new("register", 1)
}

#[test]
fn the_first_value_stays_across_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guard.redb");
    let store = Store::open(&path, options()).unwrap();
    assert_eq!(SIGNED.first(&store, b"task", 3, b"one").unwrap(), None);
    drop(store);
    let store = Store::open(&path, options()).unwrap();
    assert_eq!(SIGNED.first(&store, b"task", 3, b"two").unwrap(), Some(b"one".to_vec()));
    assert_eq!(SIGNED.first(&store, b"task", 9, b"two").unwrap(), Some(b"one".to_vec()));
    assert_eq!(SIGNED.first(&store, b"other", 3, b"two").unwrap(), None);
    assert_eq!(store.read::<_, StoreError>(|txn| SIGNED.len(txn)).unwrap(), 2);
}

#[test]
fn pruned_epochs_are_refused_as_a_whole() {
    let store = Store::in_memory(options()).unwrap();
    for epoch in 0..10 {
        SIGNED.first(&store, &[u8::try_from(epoch).unwrap()], epoch, b"x").unwrap();
    }
    assert_eq!(SIGNED.prune_below(&store, 4).unwrap(), 4);
    assert_eq!(SIGNED.prune_below(&store, 2).unwrap(), 0);
    let error = SIGNED.first(&store, &[0], 0, b"y").unwrap_err();
    assert!(matches!(error, StoreError::Pruned { epoch: 0, floor: 4, .. }), "{error:?}");
    assert_eq!(SIGNED.first(&store, &[7], 7, b"y").unwrap(), Some(b"x".to_vec()));
    assert_eq!(store.read::<_, StoreError>(|txn| SIGNED.len(txn)).unwrap(), 6);
}

#[test]
fn what_a_register_said_survives_a_power_cut() {
    for after_operations in 0..40 {
        let disk = FaultDisk::new();
        let store = Store::open_with_backend(disk.backend(), options()).unwrap();
        let kind = io::ErrorKind::Other;
        disk.set_fault(Some(Fault { after_operations, kind, lasting: true }));
        let mut recorded = Vec::new();
        for key in 0..20_u8 {
            if SIGNED.first(&store, &[key], 1, b"first").is_ok() {
                recorded.push(key);
            }
        }
        drop(store);
        let image = disk.power_cut(PowerCut::TearsUnsynced { seed: after_operations });
        let disk = FaultDisk::from_image(image);
        let store = Store::open_with_backend(disk.backend(), options()).unwrap();
        for key in recorded {
            let earlier = SIGNED.first(&store, &[key], 1, b"second").unwrap();
            assert_eq!(earlier.as_deref(), Some(&b"first"[..]), "at {after_operations}");
        }
    }
}
