//! Adapters that are not in memory: requests wait for them, memory stays within its budget, and
//! nothing fails but what cannot be had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use openledger_inference::{
    AdapterSetError, AdapterSource, Engine, EngineOptions, PrepareError, PreparedAdapter, Request,
    SequenceId, SourceError, SubmitError,
};
use openledger_models::peft::synthesize;
use openledger_models::{Adapter, AdapterBundle, ModelConfig};
use openledger_wire::ids::BlobId;

use crate::support::{Answer, BACKENDS, adapter, alone, blob, finish, note};
use crate::tiny;

/// A disk: the adapter of an id is made from the id's first bytes. Counts what is read.
struct Disk {
    config: ModelConfig,
    rank: usize,
    lacks: BTreeSet<BlobId>,
    reads: AtomicUsize,
}

impl Disk {
    fn new(rank: usize) -> Self {
        let config = tiny::model().config().clone();
        Self { config, rank, lacks: BTreeSet::new(), reads: AtomicUsize::new(0) }
    }

    /// What one adapter takes in an engine.
    fn bytes(&self) -> usize {
        let adapter = self.load(&blob(1)).unwrap();
        let engine = Engine::new(tiny::model(), EngineOptions::default()).unwrap();
        PreparedAdapter::new(&self.config, adapter, engine.adapter_storage()).unwrap().bytes()
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

impl AdapterSource for Disk {
    fn load(&self, id: &BlobId) -> Result<Adapter, SourceError> {
        if self.lacks.contains(id) {
            return Err(SourceError { reason: "the file is gone; download it again".to_owned() });
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(adapter(&self.config, seed_of(id), self.rank))
    }
}

fn seed_of(id: &BlobId) -> u64 {
    u64::from_le_bytes(*id.0.first_chunk().unwrap())
}

fn engine(bytes_max: usize) -> Engine {
    let options = EngineOptions { adapters_bytes_max: bytes_max, ..EngineOptions::default() };
    Engine::new(tiny::model(), options).unwrap()
}

fn request(adapters: &[u8]) -> Request {
    let mut request = Request::greedy(tiny::bytes("Once upon a time"), 6);
    request.adapters = adapters.iter().map(|id| (blob(*id), 1.0)).collect();
    request.logprobs = Some(2);
    request.ignore_end = true;
    request
}

/// What each gives alone, with everything in memory.
fn expected(disk: &Disk, requests: &[Request]) -> Vec<Answer> {
    let mut engine = engine(1 << 30);
    for id in requests.iter().flat_map(|request| &request.adapters) {
        engine.put_adapter(id.0, disk.load(&id.0).unwrap()).unwrap();
    }
    requests.iter().map(|request| alone(&mut engine, request)).collect()
}

/// Steps and fetches until nothing is left; checks the budget all the while.
fn serve(engine: &mut Engine, disk: &Disk) -> BTreeMap<SequenceId, Answer> {
    let mut answers = BTreeMap::new();
    for _ in 0..10_000 {
        if engine.is_idle() {
            return answers;
        }
        engine.load_wanted(disk);
        note(&mut answers, engine.step().unwrap());
        let memory = engine.adapter_memory();
        assert!(memory.bytes <= memory.bytes_max && memory.active_bytes <= memory.bytes);
    }
    panic!("the engine never comes to rest: {engine:?} {:?}", engine.adapter_memory());
}

#[test]
fn a_request_waits_for_its_adapter_and_holds_up_nobody() {
    let disk = Disk::new(4);
    let expected = expected(&disk, &[request(&[1]), request(&[]), request(&[2])]);
    let mut engine = engine(1 << 20);
    assert!(engine.register_adapter(blob(1)) && !engine.register_adapter(blob(1)));
    engine.put_adapter(blob(2), disk.load(&blob(2)).unwrap()).unwrap();
    let refused = engine.submit(request(&[3])).unwrap_err();
    assert_eq!(refused, SubmitError::Adapters(AdapterSetError::Unknown { id: blob(3) }));
    let waits = engine.submit(request(&[1])).unwrap();
    assert_eq!(engine.wanted(), [blob(1)]);
    assert!(engine.knows_adapter(&blob(1)) && !engine.has_adapter(&blob(1)));
    assert!(engine.awaits_adapters() && !engine.is_idle());
    let others = [request(&[]), request(&[2])].map(|other| engine.submit(other).unwrap());
    assert!(!engine.awaits_adapters());
    let mut answers = BTreeMap::new();
    while !engine.awaits_adapters() {
        note(&mut answers, engine.step().unwrap());
    }
    assert_eq!(others.map(|other| answers[&other].clone()), expected[1..]);
    assert!(engine.step().unwrap().is_empty() && engine.running() == 0);
    assert_eq!(engine.load_wanted(&disk), 1);
    assert!(engine.wanted().is_empty() && !engine.awaits_adapters());
    answers.extend(finish(&mut engine));
    assert_eq!(answers[&waits], expected[0]);
    assert_eq!(engine.adapter_memory().waiting, 0);
}

#[test]
fn what_cannot_be_had_fails_those_that_wait_for_it_with_the_reason() {
    let mut disk = Disk::new(4);
    disk.lacks.insert(blob(1));
    let mut engine = engine(1 << 20);
    (1..=2).for_each(|id| assert!(engine.register_adapter(blob(id))));
    let failing = [request(&[1]), request(&[1, 2])].map(|one| engine.submit(one).unwrap());
    let other = engine.submit(request(&[2])).unwrap();
    let answers = serve(&mut engine, &disk);
    for id in failing {
        let failure = answers[&id].failure.as_ref().unwrap();
        assert!(failure.contains("cannot be had (fetch an adapter: the file is gone"), "{failure}");
    }
    assert!(answers[&other].end.is_some());
    // It may be had later.
    disk.lacks.clear();
    let again = engine.submit(request(&[1])).unwrap();
    assert!(serve(&mut engine, &disk)[&again].end.is_some());
    // What no longer exists fails too, and what was cancelled is no longer wanted.
    engine.register_adapter(blob(3));
    let dropped = engine.submit(request(&[3])).unwrap();
    assert!(engine.drop_adapter(&blob(3)) && !engine.knows_adapter(&blob(3)));
    let failure = serve(&mut engine, &disk)[&dropped].failure.clone().unwrap();
    assert!(failure.contains("is not loaded"), "{failure}");
    engine.register_adapter(blob(4));
    let cancelled = engine.submit(request(&[4])).unwrap();
    assert!(engine.cancel(cancelled) && engine.wanted().is_empty());
    // What was made for another model can never come.
    let fifth = blob(5);
    engine.register_adapter(fifth);
    let wrong = engine.submit(request(&[5])).unwrap();
    let mut misfit = disk.load(&fifth).unwrap();
    misfit.deltas.values_mut().for_each(|delta| delta.a.truncate(4));
    assert!(engine.put_adapter(fifth, misfit).is_err());
    let failure = serve(&mut engine, &disk)[&wrong].failure.clone().unwrap();
    assert!(failure.contains("does not fit this model"), "{failure}");
}

#[test]
fn a_full_memory_makes_requests_wait_and_fails_none() {
    let disk = Disk::new(4);
    let bytes = disk.bytes();
    let requests: Vec<Request> = (0..24u8).map(|n| request(&[n * 5 % 6 + 1])).collect();
    let expected = expected(&disk, &requests);
    for room in [1, 2, 5] {
        let mut engine = engine(room * bytes + bytes / 2);
        (1..=6).for_each(|id| assert!(engine.register_adapter(blob(id))));
        let ids: Vec<_> = requests.iter().map(|one| engine.submit(one.clone()).unwrap()).collect();
        assert_eq!(engine.wanted().len(), 6, "nothing is known of their sizes yet");
        let answers = serve(&mut engine, &disk);
        assert!(ids.iter().zip(&expected).all(|(id, expected)| answers[id] == *expected));
        assert_eq!(engine.adapter_memory().active, 0);
    }
    // Mixtures that need the whole memory at once: no two of them hold a part and wait for more.
    let mut engine = engine(2 * bytes + bytes / 2);
    (1..=3).for_each(|id| assert!(engine.register_adapter(blob(id))));
    for _ in 0..3 {
        for pair in [[1, 2], [2, 3], [3, 1]] {
            engine.submit(request(&pair)).unwrap();
        }
    }
    let answers = serve(&mut engine, &disk);
    assert!(answers.len() == 9 && answers.values().all(|answer| answer.end.is_some()));
    // More than the memory has: refused once the sizes are known, in words.
    let all = engine.submit(request(&[1, 2, 3])).unwrap();
    let failure = serve(&mut engine, &disk)[&all].failure.clone().unwrap();
    assert!(failure.contains("bytes together, adapters may take"), "{failure}");
}

#[test]
fn who_waits_for_room_is_not_passed_for_ever() {
    let disk = Disk::new(4);
    let mut engine = engine(2 * disk.bytes());
    (1..=3).for_each(|id| assert!(engine.register_adapter(blob(id))));
    let mut answers = BTreeMap::new();
    let mut last = None;
    for step in 0..400u32 {
        // The memory's two adapters are asked for again and again, before their users end.
        if step.is_multiple_of(2) {
            engine.submit(request(&[(step / 2 % 2) as u8 + 1])).unwrap();
        }
        if step == 20 {
            last = Some(engine.submit(request(&[3])).unwrap());
        }
        engine.load_wanted(&disk);
        note(&mut answers, engine.step().unwrap());
    }
    let last = answers.get(&last.unwrap());
    assert!(last.is_some_and(|answer| answer.end.is_some()), "400 steps were not enough");
}

#[test]
fn ten_thousand_registered_adapters_take_turns_in_a_memory_of_eight() {
    let disk = Disk::new(2);
    let mut engine = engine(8 * disk.bytes());
    let id = |number: u32| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_le_bytes());
        BlobId(id)
    };
    for number in 0..10_000 {
        assert!(engine.register_adapter(id(number)));
    }
    let memory = engine.adapter_memory();
    assert_eq!((memory.registered, memory.held, memory.bytes), (10_000, 0, 0));
    let mut seen = BTreeSet::new();
    for round in 0..4u32 {
        let mut ids = Vec::new();
        for turn in 0..32 {
            let mut request = request(&[]);
            request.adapters = vec![(id((round * 32 + turn).wrapping_mul(7_919) % 10_000), 1.0)];
            ids.push(engine.submit(request).unwrap());
        }
        let answers = serve(&mut engine, &disk);
        for id in ids {
            assert!(answers[&id].end.is_some());
            seen.insert(answers[&id].bits.clone());
        }
    }
    assert_eq!(seen.len(), 128, "each answers in its own way");
    assert_eq!(engine.adapter_memory().held, 8);
    assert!((0..10_000).all(|number| engine.drop_adapter(&id(number))));
    assert_eq!(engine.adapter_memory().registered, 0);
}

#[test]
fn what_comes_back_is_what_it_was_and_what_is_put_is_new() {
    let disk = Disk::new(4);
    let mut engine = engine(disk.bytes());
    (1..=2).for_each(|id| assert!(engine.register_adapter(blob(id))));
    let mut long = request(&[1]);
    long.prompt = tiny::bytes(&"All work and no play. ".repeat(4));
    let first = engine.submit(long.clone()).unwrap();
    let first = serve(&mut engine, &disk)[&first].clone();
    let generation = engine.adapters()[0].1;
    engine.submit(request(&[2])).unwrap();
    serve(&mut engine, &disk);
    assert!(!engine.has_adapter(&blob(1)));
    let again = engine.submit(long.clone()).unwrap();
    let again = serve(&mut engine, &disk)[&again].clone();
    assert_eq!(engine.adapters()[0].1, generation);
    assert_eq!((&again.tokens, &again.bits), (&first.tokens, &first.bits));
    assert!(again.cached_tokens.0 > 0, "what was computed with it is found again");
    // Another under its id: nothing of the old one may be found.
    let other = adapter(&disk.config, 99, 4);
    assert!(engine.put_adapter(blob(1), other.clone()).unwrap() > generation);
    let newer = alone(&mut engine, &long);
    assert_ne!(newer.bits, first.bits);
    let mut fresh = self::engine(1 << 20);
    fresh.put_adapter(blob(1), other).unwrap();
    assert_eq!(newer, alone(&mut fresh, &long));
}

#[test]
fn idle_adapters_go_by_the_callers_clock() {
    let disk = Disk::new(4);
    let mut engine = engine(1 << 20);
    for id in 1..=3 {
        engine.register_adapter(blob(id));
        engine.deliver(blob(id), prepared(&engine, &disk, id)).unwrap();
    }
    assert!(engine.evict_idle(1_000, 60).is_empty(), "seen for the first time");
    alone(&mut engine, &request(&[2]));
    let running = engine.submit(request(&[3])).unwrap();
    engine.step().unwrap();
    assert!(engine.evict_idle(1_059, 60).is_empty());
    assert_eq!(engine.evict_idle(1_060, 60), [blob(1)]);
    assert_eq!(engine.evict_idle(1_119, 60), [blob(2)]);
    assert!(engine.evict_idle(1_300, 60).is_empty(), "3 is in use");
    assert!(finish(&mut engine)[&running].end.is_some());
    assert_eq!(engine.evict_idle(1_360, 60), [blob(3)]);
    assert_eq!(engine.adapter_memory().bytes, 0);
    let reads = disk.reads();
    engine.submit(request(&[1, 2])).unwrap();
    serve(&mut engine, &disk);
    assert_eq!(disk.reads(), reads + 2, "they come back when they are named");
}

fn prepared(engine: &Engine, disk: &Disk, id: u8) -> PreparedAdapter {
    let adapter = disk.load(&blob(id)).unwrap();
    PreparedAdapter::new(&disk.config, adapter, engine.adapter_storage()).unwrap()
}

#[test]
fn adapters_are_prepared_on_other_threads_from_their_files() {
    for backend in BACKENDS {
        let disk = Disk::new(4);
        let options = EngineOptions { backend, ..EngineOptions::default() };
        let mut engine = Engine::new(tiny::model(), options).unwrap();
        let mut straight = Engine::new(tiny::model(), options).unwrap();
        let (config, storage) = (Arc::new(disk.config.clone()), engine.adapter_storage());
        (1..=4).for_each(|id| assert!(engine.register_adapter(blob(id))));
        let requests: Vec<Request> = (1..=4).map(|id| request(&[id])).collect();
        let ids: Vec<_> = requests.iter().map(|one| engine.submit(one.clone()).unwrap()).collect();
        let prepared = engine.wanted().into_iter().map(|id| {
            let config = Arc::clone(&config);
            std::thread::spawn(move || {
                let (json, tensors) = synthesize(&config, seed_of(&id), 4, 0.3);
                let bundle = AdapterBundle::pack(&json, &tensors).unwrap();
                let broken = PreparedAdapter::from_bundle(&config, &bundle[..999], storage);
                assert!(matches!(broken, Err(PrepareError::Read(_))), "{broken:?}");
                (id, PreparedAdapter::from_bundle(&config, &bundle, storage).unwrap())
            })
        });
        for thread in prepared.collect::<Vec<_>>() {
            let (id, prepared) = thread.join().unwrap();
            engine.deliver(id, prepared).unwrap();
            straight.put_adapter(id, disk.load(&id).unwrap()).unwrap();
        }
        let answers = finish(&mut engine);
        for (id, request) in ids.iter().zip(&requests) {
            assert_eq!(answers[id], alone(&mut straight, request));
        }
    }
}
