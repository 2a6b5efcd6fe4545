//! Asynchronous services: requests wait for the signer, the executor does not.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and may read the clock"
)]

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tkcore::{Error, Grant, Identifier, NotKnowable, RootKey, TokenBuf, TokenText, mint};
use tkverify::testing::{Kit, Spec};
use tkverify::{Builder, Diligence, Verifier, WAITING_BYTES_MINIMUM};

/// Longer than any test waits for something that does happen.
const LONG: Duration = Duration::from_secs(120);

async fn check(verifier: Verifier, header: Arc<str>, diligence: Diligence) -> Result<Grant, Error> {
    let request = verifier.request("acme").action("read").build().unwrap();
    verifier.check_async_with(&*header, &request, diligence).await
}

/// Its callers wait as long as a test does, not until a loaded machine has exhausted theirs.
fn patient(kit: &Kit) -> Builder {
    kit.builder().patience(LONG)
}

fn tokens(kit: &Kit, count: usize) -> Vec<TokenText> {
    (0..count).map(|_| kit.mint(&Spec::new("acme").caveat("action in read"))).collect()
}

fn header(kit: &Kit, token: &TokenText) -> Arc<str> {
    kit.header(token).into()
}

/// A signer that does not answer until it is let.
#[derive(Default)]
struct Hold {
    held: Mutex<bool>,
    changed: Condvar,
}

impl Hold {
    fn set(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let held = self.held.lock().unwrap();
        drop(self.changed.wait_timeout_while(held, LONG, |held| *held).unwrap());
    }

    fn on(kit: &Kit) -> Arc<Self> {
        let hold = Arc::new(Self { held: Mutex::new(true), ..Self::default() });
        let signer = Arc::clone(&hold);
        kit.signer().while_answering(move |_| signer.pass());
        hold
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
}

/// No executor at all: any will do.
fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

fn longest_gap(stop: &AtomicBool, tick: impl Fn()) -> Duration {
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    while !stop.load(Ordering::SeqCst) {
        tick();
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    longest
}

const REQUESTS: usize = 10_000;
const TOKENS: usize = 100;

/// How much longer than the machine's own the executor's gaps may be: half of an ask.
const STALL: Duration = Duration::from_millis(100);
/// What stalls stalls every time; a machine with other things to do does not.
const TRIES: u32 = 5;

#[test]
fn ten_thousand_requests_on_two_threads_share_a_hundred_asks_and_stall_nothing() {
    let is_steady = |_| {
        let (executor, machine) = longest_gaps_of_ten_thousand();
        println!(
            "{REQUESTS} requests, {TOKENS} asks of 200 ms: longest gap between ticks of 1 ms: {executor:?} on the \
             executor, {machine:?} on a thread of its own"
        );
        executor < machine + STALL
    };
    assert!((0..TRIES).any(is_steady), "the executor stalled {TRIES} times out of {TRIES}");
}

/// The longest gap between two ticks on the executor, and on a thread that does nothing else.
fn longest_gaps_of_ten_thousand() -> (Duration, Duration) {
    let kit = Kit::new();
    let verifier = patient(&kit).build().unwrap();
    let known = header(&kit, &tokens(&kit, 1)[0]);
    assert!(block_on(check(verifier.clone(), Arc::clone(&known), Diligence::Usual)).is_ok());
    let new: Vec<Arc<str>> = tokens(&kit, TOKENS).iter().map(|token| header(&kit, token)).collect();

    let ticks = Arc::new(AtomicU64::new(0));
    let all_begun = Arc::new(AtomicBool::new(false));
    // The signer answers after 200 ms, and not before the executor has made 100 more rounds with
    // every request begun: if an ask held one of its threads for good, this would never end.
    kit.signer().while_answering({
        let (ticks, all_begun) = (Arc::clone(&ticks), Arc::clone(&all_begun));
        move |_| {
            std::thread::sleep(Duration::from_millis(200));
            until("all requests have begun", || all_begun.load(Ordering::SeqCst));
            let seen = ticks.load(Ordering::SeqCst);
            until("the executor goes on", || ticks.load(Ordering::SeqCst) >= seen + 100);
        }
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    // The machine's own gaps, by a thread that does nothing else: without them the figure says nothing.
    let stop_machine = Arc::new(AtomicBool::new(false));
    let machine = std::thread::spawn({
        let stop = Arc::clone(&stop_machine);
        move || longest_gap(&stop, || std::thread::sleep(Duration::from_millis(1)))
    });
    let longest = runtime.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        let ticker = tokio::spawn({
            let (ticks, stop) = (Arc::clone(&ticks), Arc::clone(&stop));
            async move {
                let (mut longest, mut last) = (Duration::ZERO, Instant::now());
                while !stop.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    ticks.fetch_add(1, Ordering::SeqCst);
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                longest
            }
        });
        let tasks: Vec<_> = (0..REQUESTS)
            .map(|at| {
                let header = Arc::clone(&new[at % TOKENS]);
                tokio::spawn(check(verifier.clone(), header, Diligence::Usual))
            })
            .collect();
        let began = Instant::now();
        while verifier.metrics().waiting < REQUESTS as u64 {
            assert!(began.elapsed() < LONG, "all requests wait: {:?}", verifier.metrics());
            tokio::task::yield_now().await;
        }
        all_begun.store(true, Ordering::SeqCst);
        // A known lineage is decided while 10,000 wait, without leaving the task.
        for _ in 0..100 {
            let mut known = pin!(check(verifier.clone(), Arc::clone(&known), Diligence::Usual));
            assert!(matches!(poll_once(known.as_mut()), Poll::Ready(Ok(_))));
        }
        for task in tasks {
            assert!(task.await.unwrap().is_ok());
        }
        stop.store(true, Ordering::SeqCst);
        ticker.await.unwrap()
    });
    stop_machine.store(true, Ordering::SeqCst);
    let machine = machine.join().unwrap();
    assert_eq!(kit.signer().asked(), 1 + TOKENS as u64);
    let metrics = verifier.metrics();
    assert_eq!(metrics.asks_shared, (REQUESTS - TOKENS) as u64);
    assert_eq!((metrics.asking, metrics.waiting, metrics.asks_refused), (0, 0, 0));
    (longest, machine)
}

#[test]
fn threads_and_tasks_share_an_ask() {
    let kit = Kit::new();
    let verifier = patient(&kit).build().unwrap();
    let token = header(&kit, &tokens(&kit, 1)[0]);
    let hold = Hold::on(&kit);
    let mut task = pin!(check(verifier.clone(), Arc::clone(&token), Diligence::Usual));
    assert!(poll_once(task.as_mut()).is_pending());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let request = verifier.request("acme").action("read").build().unwrap();
            verifier.check(&*token, &request)
        });
        until("both wait", || verifier.metrics().waiting == 2);
        hold.set(false);
        assert!(thread.join().unwrap().is_ok());
    });
    assert!(block_on(task).is_ok());
    assert_eq!((kit.signer().asked(), verifier.metrics().asks_shared), (1, 1));
}

#[test]
fn who_must_have_the_signers_word_of_now_shares_none() {
    let kit = Kit::new();
    let verifier = patient(&kit).build().unwrap();
    let token = header(&kit, &tokens(&kit, 1)[0]);
    for asked in 1..=3 {
        assert!(block_on(check(verifier.clone(), Arc::clone(&token), Diligence::AskSigner)).is_ok());
        assert_eq!(kit.signer().asked(), asked);
    }
}

#[test]
fn a_request_that_is_dropped_gives_its_place_back() {
    let kit = Kit::new();
    let verifier = patient(&kit).asks(1, 1).build().unwrap();
    let tokens = tokens(&kit, 3);
    let hold = Hold::on(&kit);
    let mut first = pin!(check(verifier.clone(), header(&kit, &tokens[0]), Diligence::Usual));
    assert!(poll_once(first.as_mut()).is_pending());
    {
        let mut second = pin!(check(verifier.clone(), header(&kit, &tokens[1]), Diligence::Usual));
        assert!(poll_once(second.as_mut()).is_pending());
        assert_eq!(verifier.metrics().waiting, 2);
    }
    // The one that was queued is gone and is never asked about; the one under way ends.
    assert_eq!(verifier.metrics().waiting, 1);
    hold.set(false);
    assert!(block_on(first).is_ok());
    assert!(block_on(check(verifier.clone(), header(&kit, &tokens[2]), Diligence::Usual)).is_ok());
    until("the pool is empty", || verifier.metrics().asking == 0);
    assert_eq!((kit.signer().asked(), verifier.metrics().waiting), (2, 0));
}

#[test]
fn a_flood_of_strangers_fills_its_part_of_the_pool_and_no_more() {
    let kit = Kit::new();
    let login = kit.authority("https://login.example");
    let verifier = patient(&kit).asks(4, 0).waiting_tasks(8).build().unwrap();
    let token = login.demand(&tokens(&kit, 1)[0], &[]);
    let with_discharge =
        || -> Arc<str> { kit.header_with(&token, &[login.discharge(&token, "user:7", &[])]).into() };
    assert!(block_on(check(verifier.clone(), with_discharge(), Diligence::Usual)).is_ok());
    let hold = Hold::on(&kit);
    let strangers: Vec<_> = tokens(&kit, 7).iter().map(|token| header(&kit, token)).collect();
    let mut waiting: Vec<_> = strangers
        .iter()
        .map(|header| Box::pin(check(verifier.clone(), Arc::clone(header), Diligence::Usual)))
        .collect();
    let polled: Vec<_> = waiting.iter_mut().map(|task| poll_once(task.as_mut())).collect();
    assert!(polled[..6].iter().all(Poll::is_pending));
    // Three quarters of eight.
    assert_eq!(polled[6], Poll::Ready(Err(NotKnowable::TooManyAsks.into())));
    // Another discharge: it ends at another second.
    kit.clock().advance(Duration::from_secs(1));
    // A known lineage with a new discharge must be asked about, and finds its place.
    let mut known = Box::pin(check(verifier.clone(), with_discharge(), Diligence::Usual));
    assert!(poll_once(known.as_mut()).is_pending());
    until("four ask", || verifier.metrics().asking == 4);
    hold.set(false);
    assert!(block_on(known).is_ok());
    waiting.truncate(6);
    for task in waiting {
        assert!(block_on(task).is_ok());
    }
}

/// The same lineage, as somebody can name it who has read a log, in a token under a key of his own.
fn forged(token: &TokenText, subject: Option<&str>, caveat: &str) -> Arc<str> {
    let (_, buf) = TokenBuf::from_text(token.as_str()).unwrap();
    let token = buf.as_token();
    let identifier = Identifier { subject, ..token.claimed_identifier().unwrap() };
    let forged = mint(&identifier, &[caveat], &RootKey::derive(b"not the signer's")).unwrap();
    format!("Bearer {}", forged.to_text().as_str()).into()
}

#[test]
fn who_names_a_known_lineage_does_not_keep_it_in_memory() {
    let kit = Kit::new();
    let verifier = patient(&kit).memory_bytes(64 * 1024).build().unwrap();
    let begin = |header| block_on(check(verifier.clone(), header, Diligence::Usual));
    let known = &tokens(&kit, 1)[0];
    assert!(begin(header(&kit, known)).is_ok());
    for token in tokens(&kit, 300) {
        assert!(matches!(begin(forged(known, None, "n = 1")), Err(Error::NotAuthentic(_))));
        assert!(begin(header(&kit, &token)).is_ok());
    }
    let asked = kit.signer().asked();
    assert!(begin(header(&kit, known)).is_ok());
    assert_eq!(kit.signer().asked(), asked + 1);
}

#[test]
fn who_names_known_lineages_takes_no_place_of_those_who_hold_their_tokens() {
    let kit = Kit::new();
    let login = kit.authority("https://login.example");
    let verifier = patient(&kit).asks(8, 0).build().unwrap();
    let known: Vec<_> = tokens(&kit, 8).iter().map(|token| login.demand(token, &[])).collect();
    let with_discharge = |token: &TokenText| -> Arc<str> {
        kit.header_with(token, &[login.discharge(token, "user:7", &[])]).into()
    };
    for token in &known {
        assert!(block_on(check(verifier.clone(), with_discharge(token), Diligence::Usual)).is_ok());
    }
    let hold = Hold::on(&kit);
    let (caveats, mut waiting) = (["n = 1", "n = 2"], Vec::new());
    let mut begin = |header: Arc<str>| {
        let mut task = Box::pin(check(verifier.clone(), header, Diligence::Usual));
        assert!(poll_once(task.as_mut()).is_pending());
        waiting.push(task);
    };
    let all = || known.iter().flat_map(|token| caveats.map(|caveat| (token, caveat)));
    // Another identifier with the same lineage is a stranger's: three quarters of eight.
    all().for_each(|(token, caveat)| begin(forged(token, Some("user:666"), caveat)));
    assert_eq!(verifier.metrics().asking, 6);
    // The same identifier may be a sibling's: one more, and the last is not for them.
    all().for_each(|(token, caveat)| begin(forged(token, None, caveat)));
    assert_eq!(verifier.metrics().asking, 7);
    kit.clock().advance(Duration::from_secs(1));
    let mut holder = Box::pin(check(verifier.clone(), with_discharge(&known[7]), Diligence::Usual));
    assert!(poll_once(holder.as_mut()).is_pending());
    assert_eq!(verifier.metrics().asking, 8);
    hold.set(false);
    assert!(block_on(holder).is_ok());
    for task in waiting {
        assert!(matches!(block_on(task), Err(Error::NotAuthentic(_))));
    }
}

#[test]
fn waiting_tasks_are_bounded_by_what_they_keep() {
    let kit = Kit::new();
    // Three quarters are for strangers.
    let bytes = WAITING_BYTES_MINIMUM;
    let fit = (bytes - bytes / 4) / header(&kit, &tokens(&kit, 1)[0]).len();
    let tokens = tokens(&kit, fit + 2);
    let headers: Vec<_> = tokens.iter().map(|token| header(&kit, token)).collect();
    let verifier = patient(&kit).asks(1, 0).waiting_bytes(bytes).build().unwrap();
    let hold = Hold::on(&kit);
    let mut begin = |header: &Arc<str>| {
        let mut task = Box::pin(check(verifier.clone(), Arc::clone(header), Diligence::Usual));
        let polled = poll_once(task.as_mut());
        (task, polled)
    };
    let mut waiting: Vec<_> = headers[..fit].iter().map(&mut begin).collect();
    assert!(waiting.iter().all(|(_, polled)| polled.is_pending()));
    let (_, polled) = begin(&headers[fit]);
    assert_eq!(polled, Poll::Ready(Err(NotKnowable::TooManyAsks.into())));
    // A task that is dropped gives its bytes back.
    drop(waiting.pop());
    let (last, polled) = begin(&headers[fit + 1]);
    assert!(polled.is_pending());
    hold.set(false);
    for task in waiting.into_iter().map(|(task, _)| task).chain([last]) {
        assert!(block_on(task).is_ok());
    }
}

#[test]
fn a_signer_that_panics_costs_an_answer_and_nothing_else() {
    let kit = Kit::new();
    let verifier = patient(&kit).asks(1, 0).build().unwrap();
    let tokens = tokens(&kit, 2);
    kit.signer().while_answering(|_| panic!("a signer of a service's own making"));
    let verdict = block_on(check(verifier.clone(), header(&kit, &tokens[0]), Diligence::Usual));
    assert_eq!(verdict, Err(NotKnowable::TooManyAsks.into()));
    kit.signer().while_answering(|_| ());
    assert!(block_on(check(verifier.clone(), header(&kit, &tokens[1]), Diligence::Usual)).is_ok());
}

#[test]
fn what_is_queued_for_too_long_is_told_so_when_the_ask_in_its_way_ends() {
    let kit = Kit::new();
    let verifier = patient(&kit).asks(1, 0).patience(Duration::ZERO).build().unwrap();
    let tokens = tokens(&kit, 2);
    let hold = Hold::on(&kit);
    let mut first = pin!(check(verifier.clone(), header(&kit, &tokens[0]), Diligence::Usual));
    assert!(poll_once(first.as_mut()).is_pending());
    let mut second = pin!(check(verifier.clone(), header(&kit, &tokens[1]), Diligence::Usual));
    assert!(poll_once(second.as_mut()).is_pending());
    hold.set(false);
    assert!(block_on(first).is_ok());
    assert_eq!(block_on(second), Err(NotKnowable::TooManyAsks.into()));
    assert_eq!(kit.signer().asked(), 1);
}

#[test]
fn a_revocation_that_arrives_while_a_task_waits_wins() {
    let kit = Arc::new(Kit::new());
    let verifier = patient(&kit).build().unwrap();
    let token = &tokens(&kit, 1)[0];
    let (_, buf) = tkcore::TokenBuf::from_text(token.as_str()).unwrap();
    let lineage = buf.as_token().describe_untrusted().identifier().unwrap().lineage;
    let hold = Hold::on(&kit);
    let mut task = pin!(check(verifier.clone(), header(&kit, token), Diligence::Usual));
    assert!(poll_once(task.as_mut()).is_pending());
    kit.publish(tkcore::revocation::Revocation::Token { lineage });
    hold.set(false);
    assert_eq!(block_on(task), Err(Error::Revoked(tkcore::revocation::Rule::Token)));
}
