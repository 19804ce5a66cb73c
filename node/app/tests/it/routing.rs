//! Calls between real swarms on loopback, with servers that count words behind them.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use openledger_app::routing::{
    Guests, House, Line, Neighbourhood, Obtain, Patience, Router, codes as route,
};
use openledger_app::serving::{
    CallPiece, CallStream, Offers, Serve, Wishes, codes, failure, whole,
};
use openledger_swarm::{
    Acceptance, Admission, RequestError, Swarm, SwarmConfig, SwarmEvent, SwarmHandle,
};
use openledger_wire::call::{
    Call, CallEnd, CallFailure, CallId, CallRequest, CallResponse, CallToken, Embed, Embedded,
    FinishReason, Prompt,
};
use openledger_wire::gossip::{Holder, Offer};
use openledger_wire::{Blob, BlobId, List, NetworkId, NodeId, NodeKey, Prose, decode, encode};
use tokio::sync::Semaphore;

use crate::fake_serve::{BASE, FakeServe, POET, adapter, announce, base, call};
use crate::process::until;

struct All;

impl Admission for All {
    fn gossip(&self, _: &str, _: NodeId, _: &[u8]) -> Acceptance {
        Acceptance::Ignore
    }
}

/// Waits that a test can afford; each is far longer than loopback takes.
const PATIENCE: Patience = Patience {
    answer: Duration::from_millis(1_500),
    vectors: Duration::from_secs(5),
    token: Duration::from_millis(1_500),
    busy: Duration::from_millis(100),
    poll: Duration::from_millis(200),
    linger: Duration::from_millis(1),
    abandoned: Duration::from_millis(1_500),
};

const HOUSE: House = House { is_open: true, calls_max: 8, per_peer_max: 4, patience: PATIENCE };

fn config(seed: u8, bootstrap: &[String]) -> SwarmConfig {
    let key = NodeKey::from_seed(&[seed; 32]);
    let ip = Ipv4Addr::new(127, 0, 7, seed).into();
    let mut config = SwarmConfig::new(key, NetworkId([9; 32])).listen_on(ip, 0);
    config.bootstrap = bootstrap.to_vec();
    config.mdns = false;
    config.reachable = true;
    config.colocation = None;
    config
}

/// A peer that serves.
struct Served {
    handle: SwarmHandle,
    fake: Arc<FakeServe>,
    guests: Arc<Guests>,
}

async fn peer(seed: u8, fake: Arc<FakeServe>, house: House) -> Served {
    let (handle, mut events) = Swarm::start(config(seed, &[]), Arc::new(All)).await.unwrap();
    let guests = Guests::new(Arc::clone(&fake) as Arc<dyn Serve>, house);
    let answering = Arc::clone(&guests);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let SwarmEvent::Request { peer, bytes, answer } = event {
                let guests = Arc::clone(&answering);
                tokio::spawn(async move {
                    if let Some(bytes) = guests.answer(peer, &bytes).await {
                        answer.send(bytes);
                    }
                });
            }
        }
    });
    Served { handle, fake, guests }
}

/// A router that knows these peers, and what it needs to live.
struct Caller {
    router: Router,
    offers: Arc<Offers>,
    handle: SwarmHandle,
}

async fn caller(seed: u8, local: Arc<dyn Serve>, peers: &[(&Served, Vec<Offer>)]) -> Caller {
    let bootstrap: Vec<String> =
        peers.iter().flat_map(|(peer, _)| peer.handle.listen_addresses()).collect();
    let (handle, mut events) = Swarm::start(config(seed, &bootstrap), Arc::new(All)).await.unwrap();
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let offers = Arc::new(Offers::new());
    let now = openledger_app::time::now();
    for (peer, said) in peers {
        offers.heard(peer.handle.node(), &announce(now, said), now);
        let node = peer.handle.node();
        until("the peers meet", || handle.peers().iter().any(|one| one.node == node)).await;
    }
    let around = Neighbourhood {
        me: handle.node(),
        line: Arc::new(handle.clone()),
        offers: Arc::clone(&offers),
    };
    Caller { router: Router::new(local, vec![around], None, PATIENCE), offers, handle }
}

fn nothing_here() -> Arc<FakeServe> {
    FakeServe::new(&[], None)
}

fn both() -> Vec<Offer> {
    vec![base("base"), adapter("poet", POET)]
}

/// Ids of the tokens of a whole answer.
fn ids(tokens: &[CallToken]) -> Vec<u32> {
    tokens.iter().map(|token| token.token).collect()
}

async fn next(stream: &mut CallStream) -> CallPiece {
    let piece = tokio::time::timeout(Duration::from_secs(30), stream.recv()).await;
    piece.expect("the stream hangs").expect("the stream ended without a word")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_to_the_peer_that_has_all_of_it() {
    let half = peer(1, FakeServe::new(&[base("base")], None), HOUSE).await;
    let full = peer(2, FakeServe::new(&both(), None), HOUSE).await;
    let peers = [(&half, vec![base("base")]), (&full, both())];
    let caller = caller(3, nothing_here(), &peers).await;
    assert_eq!(caller.router.known().len(), 2);

    let mut asked = call("hello", 40);
    asked.adapters = List::new(vec![(POET, 1_000)]).unwrap();
    let (tokens, end) = whole(caller.router.call(asked).await.unwrap()).await.unwrap();
    assert_eq!(ids(&tokens), (0..40).collect::<Vec<_>>());
    assert_eq!((end.reason, end.completion_tokens), (FinishReason::Length, 40));
    assert_eq!(full.fake.begun.load(Ordering::Relaxed), 1);
    assert_eq!(half.fake.begun.load(Ordering::Relaxed), 0);
    let counts = full.guests.counted(caller.router.counts());
    assert_eq!((counts.asked, counts.forwarded, counts.here, counts.for_peers), (1, 1, 0, 1));
    assert_eq!((counts.resumed, counts.lost), (0, 0));

    let inputs: Vec<Prompt> =
        (1..=20).map(|len| Prompt::Text(Prose::clipped(&"x".repeat(len)))).collect();
    let embed =
        Embed { model: BASE, adapters: List::default(), inputs: List::new(inputs).unwrap() };
    let embedded = caller.router.embed(embed).await.unwrap();
    assert_eq!((embedded.vectors.len(), embedded.prompt_tokens), (20, 20));
    let first = |at: usize| f32::from_le_bytes(embedded.vectors[at][..4].try_into().unwrap());
    assert_eq!((first(0), first(19)), (1.0, 20.0), "parts are put together in order");
    let asked = half.fake.embeds.load(Ordering::Relaxed) + full.fake.embeds.load(Ordering::Relaxed);
    assert_eq!(asked, 3, "in parts");

    let mut unknown = call("hello", 4);
    unknown.model = BlobId([99; 32]);
    let failed = caller.router.call(unknown).await.unwrap_err();
    assert_eq!(&*failed.code, codes::UNKNOWN_MODEL);

    // What peers would answer otherwise is not sent to them; who asks does not matter to them.
    let wishes = Wishes { min_p_permille: 50, ..Wishes::default() };
    let failed = caller.router.call_with(call("hello", 4), wishes).await.unwrap_err();
    assert_eq!(&*failed.code, codes::INVALID);
    assert!(failed.message.contains("min_p"), "{failed:?}");
    let wishes = Wishes { urgency: 1, caller: "ann".to_owned(), ..Wishes::default() };
    let stream = caller.router.call_with(call("hello", 4), wishes).await.unwrap();
    assert_eq!(whole(stream).await.unwrap().0.len(), 4);
    let here = FakeServe::new(&[base("base")], None);
    let router = Router::new(Arc::clone(&here) as _, Vec::new(), None, Patience::default());
    let wishes = Wishes { repetition_permille: 1_300, ..Wishes::default() };
    let stream = router.call_with(call("hello", 4), wishes.clone()).await.unwrap();
    assert_eq!(whole(stream).await.unwrap().0.len(), 4);
    assert_eq!(*here.wished.lock().unwrap(), [wishes]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_dies_in_the_middle_is_replaced_without_a_gap() {
    let gate = Arc::new(Semaphore::new(5));
    let first = peer(4, FakeServe::new(&both(), Some(Arc::clone(&gate))), HOUSE).await;
    let second = peer(5, FakeServe::new(&both(), Some(Arc::clone(&gate))), HOUSE).await;
    let caller = caller(6, nothing_here(), &[(&first, both()), (&second, both())]).await;

    let mut stream = caller.router.call(call("hello", 30)).await.unwrap();
    let mut tokens = Vec::new();
    for _ in 0..5 {
        match next(&mut stream).await {
            CallPiece::Token(token) => tokens.push(token),
            other => panic!("{other:?}"),
        }
    }
    let (dead, alive) = if first.fake.begun.load(Ordering::Relaxed) == 1 {
        (&first, &second)
    } else {
        (&second, &first)
    };
    dead.handle.shutdown().await;
    gate.add_permits(1_000);
    let (rest, end) = whole(stream).await.unwrap();
    tokens.extend(rest);
    assert_eq!(ids(&tokens), (0..30).collect::<Vec<_>>(), "no token twice, none left out");
    assert_eq!(end.completion_tokens, 30);
    assert_eq!(alive.fake.begun.load(Ordering::Relaxed), 1);
    let counts = caller.router.counts();
    assert_eq!((counts.forwarded, counts.resumed, counts.lost), (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_is_left_the_stream_ends_with_one_failure() {
    let gate = Arc::new(Semaphore::new(3));
    let only = peer(7, FakeServe::new(&both(), Some(Arc::clone(&gate))), HOUSE).await;
    let caller = caller(8, nothing_here(), &[(&only, both())]).await;
    let mut stream = caller.router.call(call("hello", 30)).await.unwrap();
    for _ in 0..3 {
        assert!(matches!(next(&mut stream).await, CallPiece::Token(_)));
    }
    only.handle.shutdown().await;
    match next(&mut stream).await {
        CallPiece::Failed(failed) => {
            assert_eq!(&*failed.code, route::PEER_LOST);
            assert!(failed.retry_after_ms > 0);
        }
        other => panic!("{other:?}"),
    }
    assert!(stream.recv().await.is_none(), "closed after the failure");
    assert_eq!(caller.router.counts().lost, 1);
    // The engine of a node that only lost its peers does not work for nobody.
    until("the call is given up", || only.fake.cancelled.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_goes_silent_is_given_up_and_a_caller_that_leaves_cancels() {
    // Connected, and answers nothing: its events are never read.
    let mute = NodeKey::from_seed(&[10; 32]).public();
    let (silent, _events) = Swarm::start(config(10, &[]), Arc::new(All)).await.unwrap();
    let gate = Arc::new(Semaphore::new(2));
    let good = peer(11, FakeServe::new(&both(), Some(Arc::clone(&gate))), HOUSE).await;
    let caller = caller(12, nothing_here(), &[(&good, both())]).await;
    caller.handle.add_peer(&silent.listen_addresses()[0]).await.unwrap();
    until("the silent one is met", || caller.handle.peers().len() == 2).await;
    let now = openledger_app::time::now();
    caller.offers.heard(mute, &announce(now, &both()), now);
    caller.offers.forget(&good.handle.node());

    let begun = Instant::now();
    let failed = whole(caller.router.call(call("hello", 5)).await.unwrap()).await.unwrap_err();
    assert_eq!(&*failed.code, route::PEER_LOST);
    assert!(begun.elapsed() < Duration::from_secs(20));

    caller.offers.heard(good.handle.node(), &announce(now, &both()), now);
    let mut stream = caller.router.call(call("hello", 5)).await.unwrap();
    assert!(matches!(next(&mut stream).await, CallPiece::Token(_)), "the silent one rests");
    drop(stream);
    until("the call is cancelled", || good.fake.cancelled.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_peer_sends_its_caller_to_the_next() {
    let gate = Arc::new(Semaphore::new(0));
    let full = House { calls_max: 1, ..HOUSE };
    let one = peer(13, FakeServe::new(&both(), Some(Arc::clone(&gate))), full).await;
    let other = peer(14, FakeServe::new(&both(), Some(Arc::clone(&gate))), full).await;
    let caller = caller(15, nothing_here(), &[(&one, both()), (&other, both())]).await;
    let begun =
        || one.fake.begun.load(Ordering::Relaxed) + other.fake.begun.load(Ordering::Relaxed);
    let first = caller.router.call(call("hello", 3)).await.unwrap();
    until("one call is begun", || begun() == 1).await;
    let second = caller.router.call(call("hello", 3)).await.unwrap();
    until("the other peer takes the next", || begun() == 2).await;
    let failed = whole(caller.router.call(call("hello", 3)).await.unwrap()).await.unwrap_err();
    assert_eq!(&*failed.code, codes::BUSY);
    assert!(failed.retry_after_ms >= 1_000);
    assert_eq!(caller.router.counts().forwarded, 2, "refusals do not count");
    // One that waits a little gets its turn.
    let around = Neighbourhood {
        me: caller.handle.node(),
        line: Arc::new(caller.handle.clone()),
        offers: Arc::clone(&caller.offers),
    };
    let patience = Patience { busy: Duration::from_secs(20), ..PATIENCE };
    let patient = Router::new(nothing_here(), vec![around], None, patience);
    let third = patient.call(call("hello", 3)).await.unwrap();
    gate.add_permits(100);
    for stream in [first, second, third] {
        assert_eq!(whole(stream).await.unwrap().0.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_kills_is_not_carried_to_the_next_machine() {
    let one = peer(16, FakeServe::new(&both(), None), HOUSE).await;
    let other = peer(17, FakeServe::new(&both(), None), HOUSE).await;
    let caller = caller(18, nothing_here(), &[(&one, both()), (&other, both())]).await;
    let died = caller.router.call(call("break worker-died 2", 9)).await.unwrap();
    assert_eq!(&*whole(died).await.unwrap_err().code, codes::DIED);
    let begun = one.fake.begun.load(Ordering::Relaxed) + other.fake.begun.load(Ordering::Relaxed);
    assert_eq!(begun, 1);
    for code in [codes::QUARANTINED, codes::CONTEXT, codes::INVALID] {
        let refused = caller.router.call(call(&format!("fail {code}"), 9)).await.unwrap();
        assert_eq!(&*whole(refused).await.unwrap_err().code, code);
    }
    // One that stops hands over.
    let stopping = caller.router.call(call("break stopping 2", 9)).await.unwrap();
    assert_eq!(&*whole(stopping).await.unwrap_err().code, codes::STOPPING);
    assert_eq!(caller.router.counts().resumed, 1);
}

/// Answers whatever it likes.
struct Scripted(Box<dyn Fn(CallRequest) -> CallResponse + Send + Sync>);

#[async_trait]
impl Line for Scripted {
    async fn ask(&self, _: NodeId, bytes: Bytes) -> Result<Bytes, RequestError> {
        let request = decode(&bytes, openledger_wire::limits::CALL_MAX).unwrap();
        Ok(encode(&(self.0)(request)).unwrap().into())
    }
}

fn scripted(
    answer: impl Fn(CallRequest) -> CallResponse + Send + Sync + 'static,
    obtain: Option<Arc<dyn Obtain>>,
    local: Arc<dyn Serve>,
) -> Router {
    let offers = Arc::new(Offers::new());
    let now = openledger_app::time::now();
    for id in [1, 2] {
        offers.heard(NodeId([id; 32]), &announce(now, &both()), now);
    }
    let line = Arc::new(Scripted(Box::new(answer)));
    let around = Neighbourhood { me: NodeId([9; 32]), line, offers };
    Router::new(local, vec![around], obtain, PATIENCE)
}

fn some_tokens(from: u32, count: u32) -> CallResponse {
    let one = |token: u32| CallToken {
        token,
        text: Prose::clipped("x"),
        logprob_micro: 0,
        top: List::default(),
    };
    let tokens: Vec<CallToken> = (from..from + count).map(one).collect();
    CallResponse::Tokens { from, tokens: List::new(tokens).unwrap(), end: None }
}

#[tokio::test]
async fn peers_that_talk_nonsense_count_as_lost() {
    type Script = Box<dyn Fn(CallRequest) -> CallResponse + Send + Sync>;
    let scripts: Vec<Script> = vec![
        Box::new(|_| CallResponse::Done),
        Box::new(|request| match request {
            CallRequest::Next { from, .. } => some_tokens(from + 1, 1),
            _ => CallResponse::Done,
        }),
        // More tokens than were asked for.
        Box::new(|request| match request {
            CallRequest::Next { from, .. } => some_tokens(from, 200),
            _ => CallResponse::Done,
        }),
        // Never a token.
        Box::new(|request| match request {
            CallRequest::Next { from, .. } => some_tokens(from, 0),
            _ => CallResponse::Done,
        }),
        Box::new(|_| {
            let embedded = Embedded { vectors: List::default(), prompt_tokens: 0 };
            CallResponse::Embedded(embedded)
        }),
    ];
    for script in scripts {
        let router = scripted(script, None, nothing_here());
        let stream = router.call(call("hello", 3)).await.unwrap();
        let failed = tokio::time::timeout(Duration::from_secs(30), whole(stream)).await;
        assert_eq!(&*failed.unwrap().unwrap_err().code, route::PEER_LOST);
    }
    let router = scripted(
        |request| match request {
            CallRequest::Embed(_) => some_tokens(0, 1),
            _ => CallResponse::Done,
        },
        None,
        nothing_here(),
    );
    let inputs = List::new(vec![Prompt::Text(Prose::clipped("x"))]).unwrap();
    let embed = Embed { model: BASE, adapters: List::default(), inputs };
    assert_eq!(&*router.embed(embed).await.unwrap_err().code, route::PEER_LOST);
}

/// Has everything, and refuses with a code.
struct Refusing(&'static str);

#[async_trait]
impl Serve for Refusing {
    async fn call(&self, _: Call) -> Result<CallStream, CallFailure> {
        Err(failure(self.0, "told to refuse", 1_000))
    }

    async fn embed(&self, _: Embed) -> Result<Embedded, CallFailure> {
        Err(failure(self.0, "told to refuse", 1_000))
    }

    fn offers(&self) -> Vec<Offer> {
        both()
    }
}

#[tokio::test]
async fn a_machine_without_room_asks_peers_and_one_that_died_does_not() {
    let helping = |request| match request {
        CallRequest::Next { from, .. } => {
            let end = CallEnd {
                reason: FinishReason::Stop,
                text: Prose::clipped(""),
                prompt_tokens: 4,
                completion_tokens: 1,
                cached_tokens: 0,
                fingerprint: None,
            };
            match some_tokens(from, 1) {
                CallResponse::Tokens { from, tokens, .. } => {
                    CallResponse::Tokens { from, tokens, end: Some(end) }
                }
                other => other,
            }
        }
        CallRequest::Embed(embed) => {
            let vectors = vec![Blob::new(vec![0; 8]).unwrap(); embed.inputs.len()];
            let vectors = List::new(vectors).unwrap();
            CallResponse::Embedded(Embedded { vectors, prompt_tokens: 1 })
        }
        _ => CallResponse::Done,
    };
    let inputs = List::new(vec![Prompt::Text(Prose::clipped("x"))]).unwrap();
    let embed = Embed { model: BASE, adapters: List::default(), inputs };

    let busy = scripted(helping, None, Arc::new(Refusing(codes::BUSY)));
    assert_eq!(whole(busy.call(call("hello", 3)).await.unwrap()).await.unwrap().0.len(), 1);
    assert_eq!(busy.embed(embed.clone()).await.unwrap().vectors.len(), 1);
    assert_eq!((busy.counts().forwarded, busy.counts().here), (2, 0));

    let died = scripted(helping, None, Arc::new(Refusing(codes::DIED)));
    assert_eq!(&*died.call(call("hello", 3)).await.unwrap_err().code, codes::DIED);
    assert_eq!(&*died.embed(embed).await.unwrap_err().code, codes::DIED);
    assert_eq!(died.counts().forwarded, 0);
}

/// Has what it was told to fetch from then on.
struct Fetching {
    fake: Arc<FakeServe>,
    here: Mutex<Vec<Offer>>,
}

#[async_trait]
impl Obtain for Fetching {
    async fn obtain(&self, offer: &Offer, holders: &[Holder]) -> Result<(), CallFailure> {
        assert_eq!(holders.len(), 2);
        self.here.lock().unwrap().push(offer.clone());
        Ok(())
    }
}

#[async_trait]
impl Serve for Fetching {
    async fn call(&self, call: Call) -> Result<CallStream, CallFailure> {
        self.fake.call(call).await
    }

    async fn embed(&self, embed: Embed) -> Result<Embedded, CallFailure> {
        self.fake.embed(embed).await
    }

    fn offers(&self) -> Vec<Offer> {
        self.here.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn what_nobody_serves_is_fetched_and_served_here() {
    let closed = |_| CallResponse::Failed(failure(route::NOT_SERVING, "closed", 0));
    let fake = FakeServe::new(&both(), None);
    let fetching = Arc::new(Fetching { fake, here: Mutex::default() });
    let obtain = Arc::clone(&fetching) as Arc<dyn Obtain>;
    let router = scripted(closed, Some(obtain), Arc::clone(&fetching) as Arc<dyn Serve>);
    let mut asked = call("hello", 5);
    asked.adapters = List::new(vec![(POET, 1_000)]).unwrap();
    let (tokens, _) = whole(router.call(asked.clone()).await.unwrap()).await.unwrap();
    assert_eq!(ids(&tokens), [0, 1, 2, 3, 4]);
    assert_eq!(fetching.here.lock().unwrap().len(), 2, "the base and the adapter");
    assert_eq!((router.counts().fetched, router.counts().here), (1, 1));
    whole(router.call(asked).await.unwrap()).await.unwrap();
    assert_eq!((router.counts().fetched, router.counts().here), (1, 2));

    let refusing = scripted(closed, None, nothing_here());
    let failed = whole(refusing.call(call("hello", 5)).await.unwrap()).await.unwrap_err();
    assert_eq!(&*failed.code, route::NOT_SERVING);
}

#[tokio::test]
async fn a_call_lost_at_its_last_token_still_ends() {
    // The first peer gives all tokens and is lost before its end; the next only says how it ended.
    let brought = Mutex::new(0);
    let router = scripted(
        move |request| {
            let mut brought = brought.lock().unwrap();
            match request {
                CallRequest::Start { call, .. } => {
                    *brought = call.generated.len();
                    CallResponse::Done
                }
                CallRequest::Next { from: 0, .. } if *brought == 0 => some_tokens(0, 3),
                CallRequest::Next { from, .. } if *brought == 3 => CallResponse::Tokens {
                    from,
                    tokens: List::default(),
                    end: Some(CallEnd {
                        reason: FinishReason::Length,
                        text: Prose::clipped("!"),
                        prompt_tokens: 4,
                        completion_tokens: 0,
                        cached_tokens: 0,
                        fingerprint: None,
                    }),
                },
                _ => CallResponse::Done,
            }
        },
        None,
        nothing_here(),
    );
    let (tokens, end) = whole(router.call(call("hello", 3)).await.unwrap()).await.unwrap();
    assert_eq!(ids(&tokens), [0, 1, 2]);
    assert_eq!((end.completion_tokens, &*end.text), (3, "!"), "the whole answer is counted");
    assert_eq!(router.counts().resumed, 1);
}

async fn ask(guests: &Arc<Guests>, peer: NodeId, request: &CallRequest) -> CallResponse {
    let bytes = guests.answer(peer, &encode(request).unwrap()).await.unwrap();
    decode(&bytes, openledger_wire::limits::CALL_ANSWER_MAX).unwrap()
}

fn code_of(response: CallResponse) -> String {
    match response {
        CallResponse::Failed(failed) => failed.code.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_peer_gets_no_more_than_its_share() {
    let gate = Arc::new(Semaphore::new(0));
    let guests = Guests::new(FakeServe::new(&both(), Some(Arc::clone(&gate))), HOUSE);
    let (greedy, other) = (NodeId([1; 32]), NodeId([2; 32]));
    let start =
        |n: u8| CallRequest::Start { id: CallId([n; 16]), call: Box::new(call("hello", 4)) };
    for n in 0..4 {
        assert_eq!(ask(&guests, greedy, &start(n)).await, CallResponse::Done);
        assert_eq!(ask(&guests, greedy, &start(n)).await, CallResponse::Done, "said again");
    }
    assert_eq!(code_of(ask(&guests, greedy, &start(4)).await), codes::BUSY);
    assert_eq!(ask(&guests, other, &start(0)).await, CallResponse::Done, "others have their own");
    let cancel = CallRequest::Cancel { id: CallId([0; 16]) };
    assert_eq!(ask(&guests, other, &cancel).await, CallResponse::Done);

    // A call of one peer is nobody else's.
    let next = CallRequest::Next { id: CallId([1; 16]), from: 0 };
    assert_eq!(code_of(ask(&guests, other, &next).await), route::UNKNOWN_CALL);
    gate.add_permits(100);
    let mut from = 0;
    loop {
        let next = CallRequest::Next { id: CallId([1; 16]), from };
        match ask(&guests, greedy, &next).await {
            CallResponse::Tokens { tokens, end, .. } => {
                // What was not acknowledged is told again.
                let again = ask(&guests, greedy, &next).await;
                assert!(matches!(again, CallResponse::Tokens { tokens: known, .. }
                    if known.len() >= tokens.len()));
                from += u32::try_from(tokens.len()).unwrap();
                if end.is_some() {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(from, 4);
    let ahead = CallRequest::Next { id: CallId([1; 16]), from: 9 };
    assert_eq!(code_of(ask(&guests, greedy, &ahead).await), route::UNKNOWN_CALL);

    // A flood of requests and of nonsense costs the same budget.
    for _ in 0..2_000 {
        assert!(guests.answer(greedy, b"nonsense").await.is_none());
    }
    assert_eq!(code_of(ask(&guests, greedy, &start(77)).await), codes::BUSY);
    assert_eq!(ask(&guests, other, &start(5)).await, CallResponse::Done);
    assert!(guests.counted(Default::default()).turned_away >= 2);

    let closed = House { is_open: false, ..HOUSE };
    let closed = Guests::new(FakeServe::new(&both(), None), closed);
    assert_eq!(code_of(ask(&closed, greedy, &start(0)).await), route::NOT_SERVING);
}

#[tokio::test]
async fn calls_that_nobody_asks_about_end() {
    let fake = FakeServe::new(&both(), Some(Arc::new(Semaphore::new(1))));
    let guests = Guests::new(Arc::clone(&fake) as Arc<dyn Serve>, HOUSE);
    let peer = NodeId([1; 32]);
    let id = CallId([3; 16]);
    let start = CallRequest::Start { id, call: Box::new(call("hello", 1_000)) };
    assert_eq!(ask(&guests, peer, &start).await, CallResponse::Done);
    until("the call is given up", || fake.cancelled.load(Ordering::Relaxed) == 1).await;
}
