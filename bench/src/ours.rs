//! tkcore, complete: limits, typed caveats cleared, revocation looked up, without `unsafe`.

use std::hint::black_box;
use std::rc::Rc;

use tkcore::revocation::{ExpiryDay, Query, Revocation, RevocationSet, Revocations, Status};
use tkcore::{
    Authorization, Basis, BranchId, BranchIds, Budget, HeaderBuf, Identifier, KeyClass, KeyId, LineageFacts,
    LineageId, Prefix, Presented, Request, RootKey, Row, Scratch, Tenant, TextForms, Timestamp, TokenBuf,
    Vocabulary, attenuate, clear_caveats, limits, mint, verify,
};

use crate::work::{self, EXPIRY, KEY, NOW};

fn time(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds).expect("within the calendar")
}

/// A lineage that no seed of the revoked ones makes.
fn lineage() -> LineageId {
    LineageId::new([7; 10], time(NOW - 1000))
}

fn identifier(caveats: usize) -> Identifier<'static> {
    Identifier {
        caveats_at_mint: u8::try_from(caveats).expect("few"),
        key: KeyId::from_bytes([3; 8]),
        lineage: lineage(),
        expiry: Some(time(EXPIRY)),
        service: None,
        subject: Some("user:7"),
    }
}

/// The identifier's bytes, for peers and yardsticks: everybody MACs the same.
pub fn identifier_bytes(caveats: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    identifier(caveats).write(&mut bytes).expect("it is right");
    bytes
}

fn facts() -> LineageFacts {
    LineageFacts {
        tenant: Tenant::new("acme").expect("a name"),
        audience: None,
        class: KeyClass::Ordinary,
        tenant_row: Row::from_bytes([1; 16]),
        subject_row: Some(Row::from_bytes([2; 16])),
    }
}

/// So many revoked tokens under random ids (SplitMix64: the same in every run).
pub fn revoked(count: u64) -> Rc<RevocationSet> {
    let rows = (0..count).map(|at| {
        let mut id = [0; 10];
        id[..8].copy_from_slice(&mix(at).to_be_bytes());
        let revocation = Revocation::Token { lineage: LineageId::new(id, time(NOW - 1000)) };
        (revocation, ExpiryDay::of(Some(time(EXPIRY))))
    });
    Rc::new(RevocationSet::build(rows).expect("it fits"))
}

pub fn mix(at: u64) -> u64 {
    let mut x = at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The one request.
fn request() -> Request<'static> {
    Request::builder("acme", time(NOW))
        .action("read")
        .text("app", "17")
        .path("path", "/projects/7/x")
        .ip("ip", "10.1.2.3".parse().expect("an address"))
        .int("size", 10)
        .text("org", "4711")
        .text("region", "eu-west")
        .build()
        .expect("a request")
}

/// A service as it would be written with tkcore alone.
pub struct Service {
    key: RootKey,
    facts: LineageFacts,
    request: Request<'static>,
    vocabulary: Vocabulary,
    set: Rc<RevocationSet>,
    scratch: Scratch,
    header: HeaderBuf,
    prefix: Option<Prefix>,
    branches: BranchIds,
    text: String,
}

impl Service {
    pub fn new(size: usize, set: &Rc<RevocationSet>) -> Self {
        Self::of(&work::caveats(size), set)
    }

    /// With these caveats.
    pub fn of(caveats: &[String], set: &Rc<RevocationSet>) -> Self {
        let key = RootKey::derive(KEY);
        let caveats: Vec<&str> = caveats.iter().map(String::as_str).collect();
        let token = mint(&identifier(caveats.len()), &caveats, &key).expect("it is minted");
        Self {
            key,
            facts: facts(),
            request: request(),
            vocabulary: Vocabulary::native(),
            set: Rc::clone(set),
            scratch: Scratch::new(),
            header: HeaderBuf::new(),
            prefix: None,
            branches: BranchIds::Skip,
            text: format!("Bearer {}", token.to_text().as_str()),
        }
    }

    /// As when the set has branch rows: the branch id of every chain point is worked out.
    pub fn with_branch_ids(mut self) -> Self {
        self.branches = BranchIds::Collect;
        self
    }

    /// Remembers the token, then presents it with so many caveats more.
    pub fn with_prefix(mut self, more: &[&str]) -> Self {
        let (_, token) = TokenBuf::from_text(&self.text["Bearer ".len()..]).expect("it is read");
        let presented = Presented::new(token.as_token(), &[]).expect("no discharge");
        let earlier =
            vec![BranchId::from_bytes([0; 16]); token.as_token().describe_untrusted().caveats().count()];
        self.prefix = Some(Prefix::from_vouched(&presented, &earlier).expect("they fit"));
        if !more.is_empty() {
            let longer = attenuate(&token.as_token(), more).expect("it is attenuated");
            self.text = format!("Bearer {}", longer.to_text().as_str());
        }
        self
    }

    /// Header value in, grant out.
    pub fn verify(&mut self) {
        let mut budget = Budget::new(limits::VERIFY_BUDGET);
        let header =
            Authorization::parse(black_box(self.text.as_bytes()), TextForms::OursOnly, &mut self.header)
                .expect("it is read");
        let presented = header.candidates().next().expect("one token");
        let basis = self.prefix.as_ref().map_or(Basis::Root(&self.key), Basis::Prefix);
        let verified = verify(presented, basis, &self.facts, self.branches, &mut self.scratch, &mut budget);
        let grant = verified
            .expect("it holds")
            .clear(&self.request, &self.vocabulary, &*self.set, &mut budget)
            .expect("it clears");
        black_box(grant);
    }

    pub fn parse(&mut self) {
        let header =
            Authorization::parse(black_box(self.text.as_bytes()), TextForms::OursOnly, &mut self.header);
        black_box(header.expect("it is read"));
    }

    pub fn attenuate_text(&self) {
        let (_, token) = TokenBuf::from_text(black_box(&self.text["Bearer ".len()..])).expect("it is read");
        let longer = attenuate(&token.as_token(), &["size <= 1048576"]).expect("it is attenuated");
        black_box(longer.to_text());
    }
}

/// Caveats that are cleared alone, without a token around them.
pub struct Clearing {
    request: Request<'static>,
    vocabulary: Vocabulary,
    caveats: Vec<String>,
}

impl Clearing {
    pub fn new(caveats: Vec<String>) -> Self {
        Self { request: request(), vocabulary: Vocabulary::native(), caveats }
    }

    pub fn clear(&self) {
        let mut budget = Budget::new(limits::VERIFY_BUDGET);
        let caveats = self.caveats.iter().map(|text| black_box(text.as_bytes()));
        clear_caveats(caveats, &self.request, &self.vocabulary, &mut budget).expect("they admit");
    }
}

/// A parsed token that is attenuated.
pub struct Holder(TokenBuf);

impl Holder {
    pub fn new(size: usize) -> Self {
        let caveats = work::caveats(size);
        let caveats: Vec<&str> = caveats.iter().map(String::as_str).collect();
        Self(mint(&identifier(size), &caveats, &RootKey::derive(KEY)).expect("it is minted"))
    }

    pub fn attenuate(&self) {
        black_box(attenuate(black_box(&self.0.as_token()), &["size <= 1048576"]).expect("it is attenuated"));
    }
}

/// The pure part of minting.
pub struct Minter {
    key: RootKey,
    caveats: Vec<String>,
}

impl Minter {
    pub fn new(size: usize) -> Self {
        Self { key: RootKey::derive(KEY), caveats: work::caveats(size) }
    }

    pub fn mint(&self) {
        let caveats: Vec<&str> = self.caveats.iter().map(String::as_str).collect();
        black_box(mint(black_box(&identifier(caveats.len())), &caveats, &self.key).expect("it is minted"));
    }
}

/// Looks up ids that are not revoked, another one each time.
pub struct Lookup {
    set: Rc<RevocationSet>,
    next: u64,
}

impl Lookup {
    pub fn new(set: &Rc<RevocationSet>) -> Self {
        Self { set: Rc::clone(set), next: 0 }
    }

    pub fn live(&mut self) {
        self.next = self.next.wrapping_add(1);
        let mut id = [0; 10];
        id[..8].copy_from_slice(&mix(self.next ^ (1 << 63)).to_be_bytes());
        let lineage = LineageId::new(id, time(NOW - 1000));
        let identifier = Identifier { lineage, ..identifier(0) };
        let facts = facts_rows();
        let query = Query::new(&identifier, Some(facts.0), Some(facts.1), &[]);
        assert_eq!(black_box(self.set.status(black_box(&query))), Status::Live);
    }
}

const fn facts_rows() -> (Row, Row) {
    (Row::from_bytes([1; 16]), Row::from_bytes([2; 16]))
}
