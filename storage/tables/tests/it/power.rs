//! The promise under test: what was acknowledged is there after any failure and any power cut, and
//! what was not is there whole or not at all.

use std::io;

use openledger_tables::faults::{Fault, FaultDisk, PowerCut};
use openledger_tables::{Store, StoreError, StoreOptions, Table};

const ROWS: Table<(u64, u32), Vec<u8>> = Table::new("rows");
const BATCHES: u64 = 8;
const ROWS_PER_BATCH: u32 = 5;

fn options() -> StoreOptions {
    StoreOptions::new("power", 1)
}

fn row(batch: u64, index: u32) -> Vec<u8> {
    vec![u8::try_from(batch).unwrap(); 700 + index as usize]
}

/// Writes batch after batch until one fails; gives how many were acknowledged.
fn run_script(disk: &FaultDisk, first: u64) -> u64 {
    let Ok(store) = Store::open_with_backend(disk.backend(), options()) else { return first };
    for batch in first..first + BATCHES {
        let written = store.write::<_, StoreError>(|txn| {
            let mut rows = txn.table(ROWS)?;
            for index in 0..ROWS_PER_BATCH {
                rows.insert(&(batch, index), &row(batch, index))?;
            }
            Ok(())
        });
        if written.is_err() {
            return batch;
        }
    }
    first + BATCHES
}

/// Opens what a failure left; gives how many batches are in it, each of them whole.
fn recovered_batches(image: Vec<u8>, story: &str) -> u64 {
    let store = Store::open_with_backend(FaultDisk::from_image(image).backend(), options())
        .unwrap_or_else(|error| panic!("{story}: {error}"));
    store
        .read::<_, StoreError>(|txn| {
            let rows = txn.table(ROWS)?.range(.., usize::MAX)?;
            assert_eq!(rows.len() % ROWS_PER_BATCH as usize, 0, "{story}: half a batch");
            for (position, ((batch, index), value)) in rows.iter().enumerate() {
                assert_eq!(*batch, position as u64 / u64::from(ROWS_PER_BATCH), "{story}");
                assert_eq!(*value, row(*batch, *index), "{story}");
            }
            Ok(rows.len() as u64 / u64::from(ROWS_PER_BATCH))
        })
        .unwrap_or_else(|error| panic!("{story}: {error}"))
}

fn check(acknowledged: u64, found: u64, story: &str) {
    assert!(found >= acknowledged, "{story}: {acknowledged} acknowledged, {found} found");
    assert!(found <= acknowledged + 1, "{story}: {acknowledged} acknowledged, {found} found");
}

#[test]
fn every_failing_operation_leaves_the_acknowledged_batches() {
    let disk = FaultDisk::new();
    assert_eq!(run_script(&disk, 0), BATCHES);
    let operations = disk.operations();
    assert!(operations > 50, "the script does {operations} operations only");
    let mut stopped_early = 0;
    for after_operations in 0..operations {
        for lasting in [false, true] {
            let disk = FaultDisk::new();
            let kind = io::ErrorKind::StorageFull;
            disk.set_fault(Some(Fault { after_operations, kind, lasting }));
            let acknowledged = run_script(&disk, 0);
            stopped_early += u64::from(acknowledged < BATCHES);
            let cut = match after_operations % 3 {
                0 => PowerCut::LosesUnsynced,
                1 => PowerCut::KeepsUnsynced,
                _ => PowerCut::TearsUnsynced { seed: after_operations },
            };
            let story = format!("operation {after_operations}, lasting {lasting}, {cut:?}");
            check(acknowledged, recovered_batches(disk.power_cut(cut), &story), &story);
        }
    }
    assert!(stopped_early > operations / 2, "faults stopped {stopped_early} runs only");
}

#[test]
fn torn_writes_leave_the_acknowledged_batches() {
    for seed in 0..50 {
        let disk = FaultDisk::new();
        assert_eq!(run_script(&disk, 0), BATCHES);
        let before = disk.operations();
        let kind = io::ErrorKind::Other;
        // Somewhere in the second run, different for each seed, everything begins to fail.
        disk.set_fault(Some(Fault { after_operations: 3 + seed * 2, kind, lasting: true }));
        let acknowledged = run_script(&disk, BATCHES);
        assert!(disk.operations() > before);
        let story = format!("seed {seed}");
        let image = disk.power_cut(PowerCut::TearsUnsynced { seed });
        check(acknowledged, recovered_batches(image, &story), &story);
    }
}

#[test]
fn a_power_cut_during_a_recovery_can_be_recovered_from() {
    for seed in 0..50 {
        let disk = FaultDisk::new();
        let kind = io::ErrorKind::Other;
        disk.set_fault(Some(Fault { after_operations: 60 + seed, kind, lasting: true }));
        let acknowledged = run_script(&disk, 0);
        let image = disk.power_cut(PowerCut::TearsUnsynced { seed });
        let second = FaultDisk::from_image(image);
        second.set_fault(Some(Fault { after_operations: seed % 25, kind, lasting: true }));
        drop(Store::open_with_backend(second.backend(), options()));
        let story = format!("seed {seed}");
        let image = second.power_cut(PowerCut::TearsUnsynced { seed: !seed });
        check(acknowledged, recovered_batches(image, &story), &story);
    }
}

#[test]
fn a_full_disk_is_named_and_then_the_store_halts() {
    let disk = FaultDisk::new();
    let store = Store::open_with_backend(disk.backend(), options()).unwrap();
    let kind = io::ErrorKind::StorageFull;
    disk.set_fault(Some(Fault { after_operations: 0, kind, lasting: true }));
    let write = || store.write::<_, StoreError>(|txn| txn.insert(ROWS, &(0, 0), &row(0, 0)));
    let error = write().unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    disk.set_fault(None);
    let error = write().unwrap_err();
    assert!(matches!(error, StoreError::Halted { .. }), "{error:?}");
    drop(store);
    let store = Store::open_with_backend(disk.backend(), options()).unwrap();
    store.write::<_, StoreError>(|txn| txn.insert(ROWS, &(0, 0), &row(0, 0))).unwrap();
}
