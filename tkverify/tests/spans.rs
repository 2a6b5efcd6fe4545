//! What `tracing` is told: safe ids and outcomes, and nothing secret.
//! A binary of its own, since `tracing` remembers for the whole process whether anybody wants to hear of a place in the
//! code: a test that checks a token without a subscriber could close that place for the tests here.
//! Compiled with all features alone (`cargo test -p tkverify --all-features --test spans`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, Once};

use tkcore::TokenBuf;
use tkverify::testing::{Kit, Spec};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down everything that it is told.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<(String, u64)>>);

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let (text, count) = &mut *self.0.lock().unwrap();
        *count += 1;
        write!(text, "\nspan {} {}", count, span.metadata().name()).unwrap();
        span.record(&mut Text(text));
        Id::from_u64(*count)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let text = &mut self.0.lock().unwrap().0;
        write!(text, "\nrecord {}", span.into_u64()).unwrap();
        values.record(&mut Text(text));
    }

    fn event(&self, event: &Event<'_>) {
        let text = &mut self.0.lock().unwrap().0;
        write!(text, "\nevent {} {}", event.metadata().level(), event.metadata().target()).unwrap();
        event.record(&mut Text(text));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Hears everything and writes nothing down.
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn event(&self, _: &Event<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// What `work` tells. The listener of the whole process comes first: a thread of another test that reaches a place before
/// this one would otherwise find no subscriber of its own, and `tracing` would take that for "nobody, ever".
fn told_by(work: impl FnOnce()) -> String {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
    let recorder = Recorder::default();
    tracing::subscriber::with_default(recorder.clone(), work);
    recorder.0.lock().unwrap().0.clone()
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Every piece of a token that is a secret: its text, its tail in any writing.
fn secrets(text: &str) -> Vec<String> {
    let (_, buf) = TokenBuf::from_text(text).unwrap();
    let bytes = buf.as_token().as_v2().to_vec();
    let tail = &bytes[bytes.len() - 32..];
    let hex: String = tail.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = tail.iter().map(u8::to_string).collect();
    vec![
        text.to_owned(),
        // Any part of the text from which a tail could be put together.
        text[text.len() - 20..].to_owned(),
        text[text.len() - 43..text.len() - 23].to_owned(),
        hex[..16].to_owned(),
        hex[48..].to_owned(),
        list[..4].join(", "),
    ]
}

#[test]
fn spans_say_what_happened_and_no_secret() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let login = kit.authority("https://login.example");
    let token = kit.mint(&Spec::new("acme").subject("user:7").caveat("action in read"));
    let locked = login.demand(&kit.mint(&Spec::new("acme").caveat("action in read")), &[]);
    let discharge = login.discharge(&locked, "user:7", &[]);
    let mut lineages = Vec::new();
    let told = told_by(|| {
        let check = |header: &str, action: &str| {
            let request = verifier.request("acme").action(action).build().unwrap();
            verifier.check(header, &request)
        };
        // Granted by asking, granted from memory, refused, in every way.
        let good = kit.header(&token);
        lineages.push(check(&good, "read").unwrap().lineage());
        check(&good, "read").unwrap();
        check(&good, "write").unwrap_err();
        check(&kit.header(&locked), "read").unwrap_err();
        check(&kit.header_with(&locked, std::slice::from_ref(&discharge)), "read").unwrap();
        check(&good[..good.len() - 5], "read").unwrap_err();
        check(&format!("{good}AAAA"), "read").unwrap_err();
        check(&good.replace("tk1_", "zz9_"), "read").unwrap_err();
        let mut forged = good.clone();
        forged.replace_range(
            good.len() - 9..good.len() - 8,
            if good.as_bytes()[good.len() - 9] == b'A' { "B" } else { "A" },
        );
        check(&forged, "read").unwrap_err();
        verifier
            .check_headers([&good, &good], &verifier.request("acme").action("read").build().unwrap())
            .unwrap_err();
        kit.revoke_token(lineages[0]);
        check(&good, "read").unwrap_err();
        kit.signer().stop();
        let new = kit.header(&kit.mint(&Spec::new("acme").caveat("action in read")));
        check(&new, "read").unwrap_err();
        let facts = tkverify::web::Facts::new("acme").action("read").path("p", "a/..");
        block_on(verifier.check_facts_async([&new], facts)).unwrap_err();
    });
    for expected in [
        "tkverify.check",
        "tkverify.ask",
        &format!("lineage={}", lineages[0]),
        "outcome=\"granted\"",
        "outcome=\"answered\"",
        "outcome=\"caveat\"",
        "outcome=\"truncated\"",
        "outcome=\"not-authentic\"",
        "outcome=\"discharge-missing\"",
        "outcome=\"revoked\"",
        "outcome=\"signer-unreachable\"",
        "the test stopped it",
        "two Authorization headers",
        "code=\"unstated\"",
        "event INFO",
        "event WARN",
    ] {
        assert!(told.contains(expected), "{expected} is missing in {told}");
    }
    for token in [&token, &locked, &discharge] {
        for secret in secrets(token.as_str()) {
            assert!(!told.contains(&secret), "{secret} was told:\n{told}");
        }
    }
}

#[test]
fn an_ask_by_another_thread_is_told_to_the_span_of_its_request() {
    let kit = Kit::new();
    let verifier = kit.verifier();
    let token = kit.header(&kit.mint(&Spec::new("acme").caveat("action in read")));
    let told = told_by(|| {
        let facts = tkverify::web::Facts::new("acme").action("read");
        block_on(verifier.check_facts_async([&token], facts)).unwrap();
    });
    assert!(told.contains("record 1 outcome=\"granted\""), "{told}");
}
