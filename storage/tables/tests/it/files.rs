//! Stores in files: schemas, migrations, second openings, damage.

use std::fs;

use openledger_tables::{Migration, OpenError, Store, StoreError, StoreOptions, Table, Verify};

const OLD: Table<u64, u64> = Table::new("numbers");
const NEW: Table<u64, String> = Table::new("texts");

const V1: StoreOptions = StoreOptions::new("files", 1);
const V2: StoreOptions = StoreOptions::new("files", 2).with_migrations(&[Migration {
    from: 1,
    run: |txn| {
        let rows = txn.table(OLD)?.range(.., usize::MAX)?;
        for (key, value) in rows {
            txn.insert(NEW, &key, &value.to_string())?;
        }
        txn.clear(OLD)?;
        Ok(())
    },
}]);

fn write_numbers(store: &Store, count: u64) {
    store
        .write::<_, StoreError>(|txn| {
            let mut rows = txn.table(OLD)?;
            for number in 0..count {
                rows.insert(&number, &(number * number))?;
            }
            Ok(())
        })
        .unwrap();
}

fn numbers(store: &Store) -> Vec<(u64, u64)> {
    store.read::<_, StoreError>(|txn| txn.table(OLD)?.range(.., usize::MAX)).unwrap()
}

#[test]
fn rows_survive_reopening_and_the_file_names_its_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    write_numbers(&Store::open(&path, V1).unwrap(), 10);
    let store = Store::open(&path, V1).unwrap();
    assert_eq!(numbers(&store).len(), 10);
    assert_eq!((store.info().schema.as_str(), store.info().number), ("files", 1));
    assert!(store.info().writer.starts_with("openledger "));
    assert_eq!(store.path(), Some(path.as_path()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left behind");
}

#[test]
fn a_second_opening_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let store = Store::open(&path, V1).unwrap();
    let error = Store::open(&path, V1).unwrap_err();
    assert!(matches!(error, OpenError::AlreadyOpen { .. }), "{error:?}");
    assert!(error.to_string().contains("a.redb"), "{error}");
    drop(store);
    Store::open(&path, V1).unwrap();
}

#[test]
fn newer_other_and_unmigratable_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    drop(Store::open(&path, StoreOptions { writer: "openledger 9.0.0", ..V2 }).unwrap());
    let error = Store::open(&path, V1).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 2, supported: 1, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("openledger 9.0.0") && text.contains("update this program"), "{text}");

    let error = Store::open(&path, StoreOptions::new("ledger", 2)).unwrap_err();
    assert!(matches!(error, OpenError::OtherSchema { .. }), "{error:?}");
    let error = Store::open(&path, StoreOptions::new("files", 3)).unwrap_err();
    assert!(matches!(error, OpenError::TooOld { found: 2, supported: 3, .. }), "{error:?}");
    Store::open(&path, V2).unwrap();
}

#[test]
fn a_migration_keeps_a_copy_that_the_older_program_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    write_numbers(&Store::open(&path, V1).unwrap(), 5);
    let store = Store::open(&path, V2).unwrap();
    assert_eq!(store.info().number, 2);
    assert_eq!(numbers(&store), []);
    let four = store.read::<_, StoreError>(|txn| txn.get(NEW, &2)).unwrap();
    assert_eq!(four.as_deref(), Some("4"));
    drop(store);
    let copy = Store::open(folder.path().join("a.redb.schema-1"), V1).unwrap();
    assert_eq!(numbers(&copy).len(), 5);
    drop(copy);
    // The migrated file opens as it is from now on, and runs no step again.
    Store::open(&path, V2).unwrap();
}

#[test]
fn a_failed_migration_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    write_numbers(&Store::open(&path, V1).unwrap(), 5);
    let failing = V1.with_migrations(&[Migration {
        from: 1,
        run: |txn| {
            txn.clear(OLD)?;
            Err(StoreError::Misuse { store: "numbers".into(), detail: "on purpose".into() })
        },
    }]);
    assert!(Store::open(&path, StoreOptions { version: 2, ..failing }).is_err());
    assert_eq!(numbers(&Store::open(&path, V1).unwrap()).len(), 5);
}

#[test]
fn files_that_are_no_stores_are_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    for content in [b"".to_vec(), b"not a store".to_vec(), vec![0; 9000], vec![7; 100_000]] {
        fs::write(&path, &content).unwrap();
        let error = Store::open(&path, V1).unwrap_err();
        assert!(matches!(error, OpenError::Corrupted { .. }), "{error:?}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn flipped_bits_are_found_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let store = Store::open(&path, V1).unwrap();
    write_numbers(&store, 2000);
    let want = numbers(&store);
    drop(store);
    let good = fs::read(&path).unwrap();
    let always = || StoreOptions { verify: Verify::Always, ..V1 };
    // What redb has written is found at the beginning of its pages; zeros are free space.
    let used = good.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(place, _)| place);
    let mut refused = 0;
    for place in used.step_by(997) {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        match Store::open(&path, always()) {
            Ok(store) => assert_eq!(numbers(&store), want, "byte {place}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0);
}
