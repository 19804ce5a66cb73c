//! Group commit: order, refusals, back-pressure, failures, and nothing acknowledged too early.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use openledger_tables::faults::{Fault, FaultDisk, PowerCut};
use openledger_tables::{
    GroupCommit, GroupOptions, Store, StoreError, StoreOptions, SubmitError, Table,
};

const ROWS: Table<u64, u64> = Table::new("rows");

fn options() -> StoreOptions {
    StoreOptions::new("group", 1)
}

fn rows(store: &Store) -> Vec<(u64, u64)> {
    store.read::<_, StoreError>(|txn| txn.table(ROWS)?.range(.., usize::MAX)).unwrap()
}

#[derive(Debug)]
enum Failure {
    Refused,
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Holds the committing thread inside a job until the returned sender is used or dropped.
fn block(group: &GroupCommit) -> mpsc::Sender<()> {
    let (release, wait) = mpsc::channel();
    let (entered, inside) = mpsc::channel();
    let wait = Mutex::new(wait);
    group.submit::<(), StoreError>(
        move |_| {
            entered.send(()).unwrap();
            let _ = wait.lock().unwrap().recv();
            Ok(())
        },
        |_| {},
    );
    inside.recv().unwrap();
    release
}

#[test]
fn many_threads_count_together_and_lose_nothing() {
    let store = Store::in_memory(options()).unwrap();
    let group = GroupCommit::start(store.clone(), GroupOptions::default()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    group
                        .run::<_, StoreError>(|txn| {
                            let before = txn.get(ROWS, &0)?.unwrap_or(0);
                            txn.insert(ROWS, &0, &(before + 1))
                        })
                        .unwrap();
                }
            });
        }
    });
    drop(group);
    assert_eq!(rows(&store), [(0, 400)]);
}

#[test]
fn refusing_jobs_write_nothing_and_harm_no_neighbour() {
    let store = Store::in_memory(options()).unwrap();
    let group = GroupCommit::start(store.clone(), GroupOptions::default()).unwrap();
    let release = block(&group);
    let (sender, answers) = mpsc::channel();
    for number in 0..60_u64 {
        let sender = sender.clone();
        group.submit(
            move |txn| {
                txn.insert(ROWS, &number, &number)?;
                if number % 7 == 3 { Err(Failure::Refused) } else { Ok(number) }
            },
            move |outcome| sender.send((number, outcome)).unwrap(),
        );
    }
    drop(release);
    let answers: Vec<_> = answers.iter().take(60).collect();
    for (position, (number, outcome)) in answers.iter().enumerate() {
        assert_eq!(position as u64, *number, "answers come in the order of submission");
        match outcome {
            Ok(value) => assert_eq!(value, number),
            Err(Failure::Refused) => assert_eq!(number % 7, 3),
            Err(Failure::Store(error)) => panic!("job {number}: {error}"),
        }
    }
    let want: Vec<_> = (0..60).filter(|n| n % 7 != 3).map(|n| (n, n)).collect();
    assert_eq!(rows(&store), want);
}

#[test]
fn a_full_queue_refuses_or_holds_back() {
    let store = Store::in_memory(options()).unwrap();
    let small = GroupOptions { jobs_max: 4, queue_max: 2 };
    let group = GroupCommit::start(store.clone(), small).unwrap();
    let release = block(&group);
    let put = |number: u64| {
        group.try_submit::<_, StoreError>(move |txn| txn.insert(ROWS, &number, &0), |_| {})
    };
    put(1).unwrap();
    put(2).unwrap();
    assert_eq!(put(3), Err(SubmitError::Full { queue_max: 2 }));

    let woken = Arc::new(CountWakes(AtomicU64::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut future = Box::pin(group.commit::<_, StoreError>(|txn| txn.insert(ROWS, &4, &0)));
    assert!(future.as_mut().poll(&mut context).is_pending());
    drop(release);
    let outcome = loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => break outcome,
            Poll::Pending => std::thread::yield_now(),
        }
    };
    assert!(!outcome.unwrap());
    assert!(woken.0.load(Ordering::SeqCst) > 0);
    drop(group);
    assert_eq!(rows(&store).len(), 3);
}

struct CountWakes(AtomicU64);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_panicking_job_answers_everybody() {
    let store = Store::in_memory(options()).unwrap();
    let group = GroupCommit::start(store, GroupOptions::default()).unwrap();
    let release = block(&group);
    let (sender, answers) = mpsc::channel();
    for number in 0..5_u64 {
        let sender = sender.clone();
        group.submit::<_, StoreError>(
            move |txn| {
                assert!(number != 2, "a mistake in a job, on purpose");
                txn.insert(ROWS, &number, &0)
            },
            move |outcome| sender.send(outcome).unwrap(),
        );
    }
    drop(release);
    for outcome in answers.iter().take(5) {
        assert!(matches!(outcome, Err(StoreError::Halted { .. })), "{outcome:?}");
    }
    let late = group.run::<_, StoreError>(|txn| txn.insert(ROWS, &9, &0));
    assert!(matches!(late, Err(StoreError::Halted { .. })), "{late:?}");
    let refused = group.try_submit::<_, StoreError>(|txn| txn.insert(ROWS, &9, &0), |_| {});
    assert_eq!(refused, Err(SubmitError::Closed));
}

/// At each operation of a scripted run the disk begins to fail; what had been acknowledged is
/// there afterwards, with all that was acknowledged before it.
#[test]
fn nothing_is_acknowledged_before_its_sync() {
    let mut failed_runs = 0;
    for after_operations in (0..160).step_by(3) {
        let disk = FaultDisk::new();
        let store = Store::open_with_backend(disk.backend(), options()).unwrap();
        let kind = io::ErrorKind::Other;
        disk.set_fault(Some(Fault { after_operations, kind, lasting: true }));
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let group = GroupCommit::start(store, GroupOptions { jobs_max: 3, queue_max: 64 }).unwrap();
        for number in 0..24_u64 {
            let acknowledged = Arc::clone(&acknowledged);
            group.submit::<_, StoreError>(
                move |txn| txn.insert(ROWS, &number, &number),
                move |outcome| {
                    if outcome.is_ok() {
                        acknowledged.lock().unwrap().push(number);
                    }
                },
            );
        }
        drop(group);
        let seed = after_operations;
        let image = disk.power_cut(PowerCut::TearsUnsynced { seed });
        let store =
            Store::open_with_backend(FaultDisk::from_image(image).backend(), options()).unwrap();
        let found = rows(&store);
        let acknowledged = acknowledged.lock().unwrap();
        failed_runs += u64::from(acknowledged.len() < 24);
        for number in acknowledged.iter() {
            assert!(found.contains(&(*number, *number)), "{number} lost at {after_operations}");
        }
        assert!(found.len() <= acknowledged.len() + 3, "at most the group in flight is extra");
    }
    assert!(failed_runs > 5, "only {failed_runs} runs were disturbed");
}
