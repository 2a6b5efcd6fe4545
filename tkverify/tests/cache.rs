//! The memory of prefixes, on a replayed mix of requests: how often it saves the ask, that it
//! never changes an answer, and that it stays within its bound.
//!
//! In full, 1,000,000 requests over 50,000 lineages (release mode, some minutes; the result is in docs/operations.md):
//! `TK_CACHE_REQUESTS=1000000 cargo test --release -p tkverify --test cache almost -- --nocapture`
//!
//! The mix is played twice, with other random choices the second time. The first time the memory is empty and every
//! lineage costs its first ask: by Zipf's law some 48,000 of the 50,000 occur among a million requests, so no memory could
//! save more than 95.2 % of them. The second time shows what a service sees that has run for a while. A hit is a token that was
//! verified without the signer, whatever the verdict; a token that cannot be read counts as neither.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tkcore::revocation::Revocation;
use tkcore::{BranchId, Error, Grant, KeyId, LineageId, Request, TokenBuf, TokenText};
use tkverify::testing::{Authority, Kit, Spec};
use tkverify::{Clock as _, MEMORY_BYTES, Signer as _, Verifier};

/// Requests for each lineage, so that a slice has the same shape as the whole.
const REQUESTS_A_LINEAGE: usize = 20;
/// How many lineages the default memory is to hold whole: those of the million.
const LINEAGES: usize = 50_000;
/// The slice that CI runs: 1,000 lineages.
const SLICE: usize = 20_000;
/// Of 100 lineages, those whose tokens have a third-party caveat.
const THIRD_PARTY: u64 = 5;
/// Of 100 requests, those with a token attenuated afresh for them.
const ATTENUATED: u64 = 40;
/// Of 1,000 requests of third-party tokens, those that bring a new discharge: they live for ten
/// minutes, in which a busy client makes hundreds of requests.
const RENEWED: u64 = 20;
/// Of 1,000 requests, those with a tail or a text that was tampered with.
const FORGED: u64 = 5;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Popularity by Zipf's law with exponent 1: the n-th lineage is asked for 1/n as often.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(count: usize) -> Self {
        let mut sum = 0.0;
        Self(
            (1..=count)
                .map(|rank| {
                    sum += 1.0 / rank as f64;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, random: &mut Random) -> usize {
        let at = (random.next() >> 11) as f64 / (1u64 << 53) as f64 * self.0.last().unwrap();
        self.0.partition_point(|sum| *sum <= at).min(self.0.len() - 1)
    }
}

struct Holder {
    tenant: &'static str,
    token: TokenText,
    lineage: LineageId,
    key: KeyId,
    /// What a service token was exchanged from.
    parent: Option<LineageId>,
    discharge: Option<TokenText>,
}

struct World {
    kit: Kit,
    login: Authority,
    /// The most popular first.
    holders: Vec<Holder>,
    /// Which of them have been presented, and how many requests had a third-party token.
    seen: Vec<bool>,
    third_party: u64,
    /// When they were minted, in that order, which has nothing to do with popularity.
    minted: Vec<tkcore::Timestamp>,
    zipf: Zipf,
    random: Random,
}

fn opened(token: &TokenText) -> (LineageId, KeyId) {
    let (_, buf) = TokenBuf::from_text(token.as_str()).unwrap();
    let identifier = buf.as_token().describe_untrusted().identifier().unwrap();
    (identifier.lineage, identifier.key)
}

impl World {
    fn new(lineages: usize, seed: u64) -> Self {
        let kit = Kit::new();
        let login = kit.authority("https://login.example");
        let mut random = Random(seed);
        let mut holders: Vec<Option<Holder>> = (0..lineages).map(|_| None).collect();
        let mut minted = Vec::new();
        for turn in 0..lineages {
            let at = turn * 7919 % lineages;
            // Minted over a while, so that floors divide them.
            kit.clock().advance(Duration::from_millis(1));
            let tenant = ["acme", "beta", "corp", "delta"][at % 4];
            holders[at] = Some({
                let mut spec = Spec::new(tenant)
                    .subject(["user:1", "user:2", "user:3", "user:4", "user:5"][at % 5])
                    .life(Some(Duration::from_secs(if at % 397 == 200 { 30 } else { 86_400 })))
                    .caveat("action in read,write");
                if at.is_multiple_of(3) {
                    spec = spec.audience("files");
                }
                let parent = at.is_multiple_of(11).then(|| {
                    LineageId::new(std::array::from_fn(|_| random.next() as u8), kit.clock().read().wall)
                });
                if let Some(parent) = parent {
                    spec = spec.service_of(parent);
                }
                let mut token = kit.mint(&spec);
                let mut discharge = None;
                if random.below(100) < THIRD_PARTY {
                    token = login.demand(&token, &[]);
                    discharge = Some(login.discharge(&token, "user:7", &[]));
                }
                let (lineage, key) = opened(&token);
                minted.push(lineage.minted().unwrap());
                Holder { tenant, token, lineage, key, parent, discharge }
            });
        }
        let holders = holders.into_iter().flatten().collect();
        let (seen, zipf) = (vec![false; lineages], Zipf::new(lineages));
        Self { kit, login, holders, seen, third_party: 0, minted, zipf, random }
    }

    /// The header of the next request, and about which tenant it is.
    fn present(&mut self) -> (String, &'static str) {
        let random = &mut self.random;
        let at = self.zipf.draw(random);
        self.seen[at] = true;
        let holder = &mut self.holders[at];
        self.third_party += u64::from(holder.discharge.is_some());
        if holder.discharge.is_some() && random.below(1000) < RENEWED {
            let number = random.next();
            let caveat = format!("nonce? = n{number}");
            holder.discharge = Some(self.login.discharge(&holder.token, "user:7", &[&caveat]));
        }
        let mut header = match &holder.discharge {
            // A discharge is bound to one tail: its holder attenuates before fetching it.
            Some(discharge) => self.kit.header_with(&holder.token, std::slice::from_ref(discharge)),
            None if random.below(100) < ATTENUATED => {
                let app = format!("app in 17,{}", random.below(1_000_000));
                let more = ["action in read", "ip? in 10.0.0.0/8"];
                let child =
                    self.kit.attenuate(&holder.token, &[app.as_str(), more[random.below(2) as usize]]);
                self.kit.header(&child)
            }
            None => self.kit.header(&holder.token),
        };
        if random.below(1000) < FORGED {
            let at = header.len() - 3 - random.below(20) as usize;
            if random.below(2) == 0 {
                header.truncate(at);
            } else {
                let other = if header.as_bytes()[at] == b'A' { "B" } else { "A" };
                header.replace_range(at..=at, other);
            }
        }
        let tenant = if random.below(100) == 0 { "other" } else { holder.tenant };
        (header, tenant)
    }

    /// One more revocation, of the rules in turn.
    fn revoke(&mut self, number: usize) {
        // Among the less popular, so that something is left to be granted, and one that the signer
        // still vouches for.
        let from = self.holders.len() / 10;
        let more = (self.holders.len() - from) as u64;
        let places: Vec<usize> = (0..100).map(|_| from + self.random.below(more) as usize).collect();
        let Some((holder, facts)) = places.into_iter().find_map(|at| {
            let holder = &self.holders[at];
            let fits = number % 8 != 6 || holder.parent.is_some();
            Some((holder, self.vouched(&holder.token).filter(|_| fits)?.facts))
        }) else {
            return;
        };
        let start = self.kit.clock().read().wall;
        let early = tkcore::Timestamp::from_millis(start.millis() - 86_400_000).unwrap();
        let (lineage, key) = (holder.lineage, holder.key);
        let minted = lineage.minted().unwrap();
        self.kit.revoke(match number % 8 {
            0 => Revocation::Token { lineage },
            1 => Revocation::Branch { branch: self.branch(&holder.token) },
            // Keys, tenants and subjects are few: floors below all but a few tokens.
            2 => Revocation::Key { key, before: Some(self.floor(number)) },
            3 => Revocation::Subject { row: facts.subject_row.unwrap(), before: self.floor(number) },
            4 => Revocation::Tenant { row: facts.tenant_row, before: self.floor(number) },
            5 => Revocation::Global { before: early.min(minted) },
            6 => Revocation::Token { lineage: holder.parent.unwrap() },
            _ => Revocation::Global { before: self.floor(number) },
        });
    }

    /// Later and later, up to a 200th of all tokens.
    fn floor(&self, number: usize) -> tkcore::Timestamp {
        self.minted[self.minted.len() / 200 * (number % 64) / 64]
    }

    fn branch(&self, token: &TokenText) -> BranchId {
        let longer = self.kit.attenuate(token, &["action in read"]);
        *self.vouched(&longer).unwrap().branches.last().unwrap()
    }

    fn vouched(&self, token: &TokenText) -> Option<tkcore::protocol::VerifyAnswer> {
        let (_, buf) = TokenBuf::from_text(token.as_str()).unwrap();
        let presented = tkcore::Presented::new(buf.as_token(), &[]).unwrap();
        self.kit.signer().verify(&presented, None).ok()
    }
}

fn verdict(verifier: &Verifier, header: &str, tenant: &str) -> Result<Grant, Error> {
    let request: Request<'_> = verifier.request(tenant).action("read").text("app", "17").build().unwrap();
    verifier.check(header, &request)
}

#[test]
fn almost_every_request_is_decided_here_and_every_answer_is_the_signers() {
    let requests: usize = std::env::var("TK_CACHE_REQUESTS").map_or(SLICE, |n| n.parse().unwrap());
    let lineages = requests / REQUESTS_A_LINEAGE;
    let seed = std::env::var("TK_CACHE_SEED").map_or(0x9e37_79b9, |n| n.parse().unwrap());
    println!("{requests} requests over {lineages} lineages, seed {seed}");
    let mut world = World::new(lineages, seed);
    let remembers = world.kit.builder().audience("files").build().unwrap();
    // Without memory there is nothing but the signer's word on each.
    let asks = world.kit.builder().audience("files").memory_bytes(0).build().unwrap();
    let mut granted = 0u64;
    let mut refused = std::collections::BTreeMap::<&str, u64>::new();
    let mut ratios = Vec::new();
    let (mut first_asks, mut most_bytes) = (0, 0);
    // Of a slice, the same part of the bound.
    let share = (MEMORY_BYTES * lineages / LINEAGES) as u64;
    for pass in 0..2 {
        let before = remembers.metrics();
        for at in 0..requests {
            // 64 revocations, eight of each rule.
            if pass == 0 && at % (requests / 64) == 50 {
                world.revoke(at / (requests / 64));
            }
            if at == requests / 2 && pass == 0 {
                // Some tokens run out in the middle.
                world.kit.clock().advance(Duration::from_secs(60));
                world.kit.heartbeat();
            }
            let (header, tenant) = world.present();
            let answer = verdict(&remembers, &header, tenant);
            let signers = verdict(&asks, &header, tenant);
            assert_eq!(answer, signers, "pass {pass}, request {at}, seed {seed}");
            match answer {
                Ok(_) => granted += 1,
                Err(error) => *refused.entry(error.code()).or_default() += 1,
            }
            if at % 1000 == 0 {
                let held = remembers.metrics().memory_bytes;
                assert!(held <= share, "{held} bytes of {share}");
                most_bytes = most_bytes.max(held);
            }
        }
        if pass == 0 {
            first_asks = world.seen.iter().filter(|seen| **seen).count();
        }
        let now = remembers.metrics();
        let hits = (now.memory_hits - before.memory_hits) as f64;
        let misses = (now.memory_misses - before.memory_misses) as f64;
        ratios.push(hits / (hits + misses));
    }
    let held = remembers.metrics();
    println!(
        "hits: {:.4} from a cold start ({first_asks} lineages seen for the first time: at most {:.4}), {:.4} on the mix \
         again; {} lineages in {most_bytes} bytes at most",
        ratios[0],
        1.0 - first_asks as f64 / requests as f64,
        ratios[1],
        held.memory_lineages,
    );
    let share = world.third_party as f64 / (2 * requests) as f64;
    println!(
        "{:.1} % of the requests with a third-party token; {} answers compared",
        share * 100.0,
        2 * requests
    );
    println!("granted {granted}, refused {refused:?}");
    assert!(ratios[1] >= 0.98, "{ratios:?}");
    assert_eq!(remembers.metrics().memory_hits + remembers.metrics().memory_misses, {
        let asked = asks.metrics();
        asked.memory_hits + asked.memory_misses
    });
    // Everything that was mixed in was met.
    for code in ["revoked", "expired", "not-authentic", "wrong-tenant", "truncated"] {
        assert!(refused.get(code).is_some_and(|count| *count > 0), "{code}: {refused:?}");
    }
    assert!(granted > 0);
}

#[test]
fn a_memory_that_is_too_small_for_the_mix_stays_within_its_bound_and_changes_no_answer() {
    let mut world = World::new(500, 7);
    let bound = 128 * 1024;
    let remembers = world.kit.builder().audience("files").memory_bytes(bound).build().unwrap();
    let asks = world.kit.builder().audience("files").memory_bytes(0).build().unwrap();
    for at in 0..5_000 {
        if at % 50 == 0 {
            world.revoke(at / 50);
        }
        let (header, tenant) = world.present();
        assert_eq!(verdict(&remembers, &header, tenant), verdict(&asks, &header, tenant), "{at}");
        assert!(remembers.metrics().memory_bytes <= bound as u64);
    }
    assert!(remembers.metrics().memory_lineages < 500);
}
