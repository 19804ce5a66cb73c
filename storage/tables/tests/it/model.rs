//! A table behaves as an ordered map does.

use std::collections::BTreeMap;

use openledger_tables::{Store, StoreError, StoreOptions, Table, limits};
use proptest::prelude::*;

const ROWS: Table<(u32, String), Vec<u8>> = Table::new("rows");

#[derive(Debug, Clone)]
enum Step {
    Insert(u32, String, Vec<u8>),
    Remove(u32, String),
    Range(u32, u32, usize),
    Prefix(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let text = "[a-c]{0,2}";
    prop_oneof![
        4 => (0..6_u32, text, any::<Vec<u8>>()).prop_map(|(a, b, v)| Step::Insert(a, b, v)),
        2 => (0..6_u32, text).prop_map(|(a, b)| Step::Remove(a, b)),
        1 => (0..7_u32, 0..7_u32, 0..9_usize).prop_map(|(a, b, n)| Step::Range(a, b, n)),
        1 => (0..6_u32).prop_map(Step::Prefix),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_table_behaves_as_an_ordered_map(steps in prop::collection::vec(step(), 1..60)) {
        let store = Store::in_memory(StoreOptions::new("model", 1)).unwrap();
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(a, b, value) => {
                    let before = model.insert((a, b.clone()), value.clone()).is_some();
                    let said = store
                        .write::<_, StoreError>(|txn| txn.insert(ROWS, &(a, b), &value))
                        .unwrap();
                    prop_assert_eq!(said, before);
                }
                Step::Remove(a, b) => {
                    let before = model.remove(&(a, b.clone())).is_some();
                    let said = store
                        .write::<_, StoreError>(|txn| txn.remove(ROWS, &(a, b)))
                        .unwrap();
                    prop_assert_eq!(said, before);
                }
                Step::Range(a, b, rows_max) => {
                    let (low, high) = ((a, String::new()), (b, String::new()));
                    let (up, down) = store.read::<_, StoreError>(|txn| {
                        let rows = txn.table(ROWS)?;
                        let range = low.clone()..high.clone();
                        Ok((rows.range(range.clone(), rows_max)?, rows.range_back(range, rows_max)?))
                    }).unwrap();
                    let want: Vec<_> = model
                        .iter()
                        .filter(|(key, _)| **key >= low && **key < high)
                        .map(|(key, value)| (key.clone(), value.clone()))
                        .collect();
                    let first: Vec<_> = want.iter().take(rows_max).cloned().collect();
                    let last: Vec<_> = want.iter().rev().take(rows_max).cloned().collect();
                    prop_assert_eq!(up, first);
                    prop_assert_eq!(down, last);
                }
                Step::Prefix(a) => {
                    let said = store
                        .read::<_, StoreError>(|txn| txn.table(ROWS)?.prefix(&a, 100))
                        .unwrap();
                    prop_assert_eq!(said.len(), model.keys().filter(|key| key.0 == a).count());
                }
            }
            let (len, first, last) = store.read::<_, StoreError>(|txn| {
                let rows = txn.table(ROWS)?;
                Ok((rows.len()?, rows.first()?, rows.last()?))
            }).unwrap();
            prop_assert_eq!(len, model.len() as u64);
            prop_assert_eq!(first, model.first_key_value().map(|(k, v)| (k.clone(), v.clone())));
            prop_assert_eq!(last, model.last_key_value().map(|(k, v)| (k.clone(), v.clone())));
        }
    }
}

#[test]
fn an_error_of_the_caller_writes_nothing() {
    let store = Store::in_memory(StoreOptions::new("model", 1)).unwrap();
    let key = (1, "a".to_owned());
    let refused: Result<(), StoreError> = store.write(|txn| {
        txn.insert(ROWS, &key, &vec![1])?;
        assert_eq!(txn.get(ROWS, &key)?, Some(vec![1]));
        Err(StoreError::Misuse { store: "rows".into(), detail: "on purpose".into() })
    });
    assert!(refused.is_err());
    let found = store.read::<_, StoreError>(|txn| txn.get(ROWS, &key)).unwrap();
    assert_eq!(found, None);
}

#[test]
fn too_long_keys_and_rows_of_another_type_are_named() {
    let store = Store::in_memory(StoreOptions::new("model", 1)).unwrap();
    let long = (1, "x".repeat(limits::KEY_BYTES_MAX));
    let error =
        store.write::<_, StoreError>(|txn| txn.insert(ROWS, &long, &Vec::new())).unwrap_err();
    assert!(error.to_string().contains("key of 1028 bytes"), "{error}");

    const NUMBERS: Table<u64, u64> = Table::new("numbers");
    const TEXTS: Table<u64, String> = Table::new("numbers");
    store.write::<_, StoreError>(|txn| txn.insert(TEXTS, &1, &"one".to_owned())).unwrap();
    let error = store.read::<_, StoreError>(|txn| txn.get(NUMBERS, &1)).unwrap_err();
    assert!(matches!(error, StoreError::Undecodable { part: "value", .. }), "{error:?}");
}

#[test]
fn a_snapshot_does_not_see_later_writes() {
    let store = Store::in_memory(StoreOptions::new("model", 1)).unwrap();
    let key = (1, String::new());
    store.write::<_, StoreError>(|txn| txn.insert(ROWS, &key, &vec![1])).unwrap();
    store
        .read::<_, StoreError>(|snapshot| {
            store.write::<_, StoreError>(|txn| txn.insert(ROWS, &key, &vec![2]))?;
            assert_eq!(snapshot.get(ROWS, &key)?, Some(vec![1]));
            Ok(())
        })
        .unwrap();
}
