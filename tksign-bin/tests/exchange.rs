//! Service tokens: each way in which an exchange could widen a token, tried.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::*;
use tkcore::plain::Macaroon;
use tkcore::protocol::*;
use tkcore::{AuthorityId, BranchId, CaveatKey, KeyClass, LineageId, SealTo, SharedKey, Timestamp, Token};
use tksign::store::{Change, Op, Sqlite, Store as _, Table};
use tksign::{Options, Peer};

const LOGIN: AuthorityId = AuthorityId::from_bytes([0xaa; 16]);
const OTHER: AuthorityId = AuthorityId::from_bytes([0xbb; 16]);

/// A third-party caveat for an authority, and the key its discharge is made with.
struct Third {
    ticket: Vec<u8>,
    key: [u8; 32],
}

fn third(authority: AuthorityId, n: u8) -> Third {
    let to = SealTo::Shared { key: &SharedKey::from_bytes([0x77; 32]), nonce: &[n; 24] };
    let key = [n; 32];
    Third { ticket: tkcore::seal_ticket(authority, &to, &CaveatKey::from_bytes(key), &[]).unwrap(), key }
}

impl Third {
    fn caveat(&self) -> MintCaveat {
        MintCaveat::ThirdParty {
            location: Text::default(),
            ticket: Bytes(self.ticket.clone()),
            key: SecretKey::new(self.key),
        }
    }

    fn key(&self) -> CaveatKey {
        CaveatKey::from_bytes(self.key)
    }

    /// Its discharge, made with an ordinary macaroon writer and bound to a root.
    fn discharge(&self, root: &[u8], caveats: &[&str], nested: Option<&Third>) -> SecretBytes {
        let mut discharge = Macaroon::create(&self.key().discharge_key(), &self.ticket, None).unwrap();
        for caveat in caveats {
            discharge.attenuate(caveat.as_bytes()).unwrap();
        }
        if let Some(nested) = nested {
            discharge.attenuate_third_party(None, &nested.ticket, &nested.key(), &[5; 24]).unwrap();
        }
        let bound =
            tkcore::bind(&Token::parse(root).unwrap(), &Token::parse(discharge.to_v2()).unwrap()).unwrap();
        SecretBytes::from(bound.as_token().as_v2())
    }
}

struct Shop {
    world: World,
    minter: ClientKey,
    verifier: ClientKey,
    exchanger: ClientKey,
    revoker: ClientKey,
    login: Third,
}

fn shop() -> Shop {
    let world = World::with(Options { authentication: vec![LOGIN], exchange_cap: 600, ..Options::default() });
    world.key("acme", None, KeyClass::Ordinary);
    Shop {
        minter: world.minter(),
        verifier: world.client(3, Role::Verify(None)),
        exchanger: world.client(4, Role::Exchange),
        revoker: world.client(5, Role::Revoke),
        login: third(LOGIN, 1),
        world,
    }
}

impl Shop {
    fn mint(&self, caveats: Vec<MintCaveat>) -> MintAnswer {
        self.world.call(self.minter, &Mint { caveats, ..mint("acme") }).unwrap()
    }

    /// A token whose authentication caveat stands between two others.
    fn parent(&self) -> MintAnswer {
        self.mint(vec![first("action in read,write"), self.login.caveat(), first("org = 4711")])
    }

    fn ask(&self, root: &[u8], discharges: Vec<SecretBytes>) -> Exchange {
        Exchange {
            root: root.into(),
            discharges,
            workload: vec![Bytes(b"host = worker7".to_vec())],
            expiry: Expiry::Never,
            label: Some(name("worker")),
        }
    }

    fn exchange(&self, root: &[u8], discharges: Vec<SecretBytes>) -> Result<ExchangeAnswer, RpcError> {
        self.world.call(self.exchanger, &self.ask(root, discharges))
    }

    fn alive(&self, token: &SecretBytes) -> Result<VerifyAnswer, RpcError> {
        self.world.verify(self.verifier, token.expose())
    }
}

fn first(text: &str) -> MintCaveat {
    MintCaveat::FirstParty(Bytes(text.as_bytes().to_vec()))
}

fn texts(token: &[u8]) -> Vec<String> {
    let token = Token::parse(token).unwrap();
    let described = token.describe_untrusted();
    described.caveats().map(|caveat| String::from_utf8(caveat.id.to_vec()).unwrap()).collect()
}

fn why(result: Result<ExchangeAnswer, RpcError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.code, Code::NotExchangeable, "{error}");
    error.detail.as_str().to_owned()
}

/// PR-91.
#[test]
fn a_child_carries_every_caveat_but_the_login_and_its_time() {
    let shop = shop();
    let parent = shop.parent();
    let attenuated =
        tkcore::attenuate(&Token::parse(parent.token.expose()).unwrap(), &["app in 17,42"]).unwrap();
    let root = attenuated.as_token().as_v2();
    let discharge = shop.login.discharge(root, &["time < 2030-01-01T00:00:00Z", "region = eu"], None);
    let child = shop.exchange(root, vec![discharge]).unwrap();
    assert_eq!((child.parent, child.key), (parent.lineage, parent.key));
    let carried = texts(child.token.expose());
    let expected = ["action in read,write", "org = 4711", "app in 17,42", "region = eu", "host = worker7"];
    assert_eq!(carried, expected);
    let answer = shop.alive(&child.token).unwrap();
    assert_eq!(answer.facts.tenant, name("acme"));
    let info = shop.world.operate(&TokenShow { lineage: child.lineage });
    assert_eq!((info.parent, info.subject), (Some(parent.lineage), Some(name("user:1"))));
    let children =
        TokenList { tenant: None, subject: None, parent: Some(parent.lineage), from: Cursor::default() };
    assert_eq!(shop.world.operate(&children).items.len(), 1);
}

/// PR-91.
#[test]
fn third_party_caveats_besides_the_login_stay_and_are_still_asked_for() {
    let shop = shop();
    let billing = third(OTHER, 2);
    let nested = third(OTHER, 3);
    let parent = shop.mint(vec![billing.caveat(), shop.login.caveat()]);
    let root = parent.token.expose();
    let discharges =
        |root: &[u8]| vec![billing.discharge(root, &[], None), nested.discharge(root, &[], None)];
    let mut all = discharges(root);
    all.push(shop.login.discharge(root, &[], Some(&nested)));
    let child = shop.exchange(root, all).unwrap();
    // Without their discharges the child does not hold; with them it does.
    assert_eq!(code(shop.alive(&child.token)), Code::BadDischarge);
    let root = child.token.expose();
    let asked = Verify { root: root.into(), discharges: discharges(root) };
    shop.world.call(shop.verifier, &asked).unwrap();
}

/// PR-90.
#[test]
fn only_a_login_from_mint_by_a_configured_authority_counts() {
    let shop = shop();
    // Appended by a holder, who chose the key.
    let plain = shop.mint(vec![first("action = read")]);
    let appended = tkcore::attenuate_third_party(
        &Token::parse(plain.token.expose()).unwrap(),
        None,
        &shop.login.ticket,
        &shop.login.key(),
        &[9; 24],
    )
    .unwrap();
    let root = appended.as_token().as_v2();
    let refused = shop.exchange(root, vec![shop.login.discharge(root, &[], None)]);
    assert!(why(refused).contains("no authentication caveat"));
    // Of an authority that is not configured.
    let other = third(OTHER, 4);
    let parent = shop.mint(vec![other.caveat()]);
    let root = parent.token.expose();
    assert!(why(shop.exchange(root, vec![other.discharge(root, &[], None)])).contains("no authentication"));
    // Two of them: which one to leave out is not for the signer to guess.
    let again = third(LOGIN, 6);
    let parent = shop.mint(vec![shop.login.caveat(), again.caveat()]);
    let root = parent.token.expose();
    let both = vec![shop.login.discharge(root, &[], None), again.discharge(root, &[], None)];
    assert!(why(shop.exchange(root, both)).contains("more than one"));
}

/// PR-90.
#[test]
fn without_the_discharge_or_with_a_forged_one_there_is_no_child() {
    let shop = shop();
    let parent = shop.parent();
    let root = parent.token.expose();
    assert_eq!(code(shop.exchange(root, vec![])), Code::BadDischarge);
    let forged = Third { ticket: shop.login.ticket.clone(), key: [8; 32] };
    assert_eq!(code(shop.exchange(root, vec![forged.discharge(root, &[], None)])), Code::BadDischarge);
}

/// TP-33, PR-92: the bounds that are left out of the child are the login's own, and must hold now.
#[test]
fn a_login_that_has_ended_or_not_begun_is_exchanged_for_nothing() {
    let shop = shop();
    let parent = shop.parent();
    let root = parent.token.expose();
    let at = |millis| Timestamp::from_millis(millis).unwrap();
    let bound = |operator, value: String| format!("time {operator} {value}");
    let second = |seconds: i64| at(NOW.strict_add_signed(seconds * 1000)).to_string();
    let ask = |caveats: &[&str]| shop.exchange(root, vec![shop.login.discharge(root, caveats, None)]);
    let good = [
        bound("<", second(1)),
        bound("<=", second(0)),
        bound(">=", second(0)),
        bound(">", second(-1)),
        bound("not-in", second(1)),
    ];
    let bad = [
        bound("<", second(-1)),
        bound("<", second(0)),
        bound("<=", second(-1)),
        bound(">", second(0)),
        bound(">=", second(1)),
        bound("not-in", second(0)),
        bound("=", second(1)),
    ];
    for caveat in &good {
        let child = ask(&[caveat, "region = eu"]).unwrap();
        assert!(!texts(child.token.expose()).contains(caveat), "{caveat}: left out");
        for wrong in &bad {
            assert!(why(ask(&[caveat, wrong])).contains("has ended"), "{wrong}");
            assert!(why(ask(&[wrong, caveat])).contains("has ended"), "{wrong}");
        }
    }
    // The parent lives for an hour; the recording of its login does not.
    let recorded = || vec![shop.login.discharge(root, &[&bound("<", second(600))], None)];
    shop.exchange(root, recorded()).unwrap();
    shop.world.clock.advance(600_000);
    assert!(why(shop.exchange(root, recorded())).contains("has ended"));
    shop.exchange(root, vec![shop.login.discharge(root, &[&bound("<", second(601))], None)]).unwrap();
}

/// PR-93, PR-94.
#[test]
fn a_child_is_locked_to_a_workload_and_is_not_exchanged_again() {
    let shop = shop();
    let parent = shop.parent();
    let root = parent.token.expose();
    let discharge = || vec![shop.login.discharge(root, &[], None)];
    let bytes = |text: &str| Bytes(text.as_bytes().to_vec());
    let until = "time < 2030-01-01T00:00:00Z";
    // A service that states no `host` would let it through from anywhere.
    for workload in
        [vec![], vec![bytes(until)], vec![bytes("host? = w7")], vec![bytes(until), bytes("host? = w7")]]
    {
        let asked = Exchange { workload, ..shop.ask(root, discharge()) };
        assert_eq!(code(shop.world.call(shop.exchanger, &asked)), Code::BadParameters);
    }
    let child = shop.exchange(root, discharge()).unwrap();
    assert!(why(shop.exchange(child.token.expose(), vec![])).contains("service token already"));
}

/// PR-94.
#[test]
fn a_token_under_a_key_that_services_hold_is_never_exchanged() {
    let shop = shop();
    shop.world.key("acme", Some("billing"), KeyClass::Delegable);
    let asked = Mint {
        audience: audience("billing"),
        class: KeyClass::Delegable,
        caveats: vec![shop.login.caveat()],
        ..mint("acme")
    };
    let parent = shop.world.call(shop.minter, &asked).unwrap();
    let root = parent.token.expose();
    assert!(why(shop.exchange(root, vec![shop.login.discharge(root, &[], None)])).contains("services hold"));
}

/// PR-95.
#[test]
fn a_child_ends_by_the_smallest_bound() {
    let shop = shop();
    let parent = shop.parent();
    let root = parent.token.expose();
    let child = shop.exchange(root, vec![shop.login.discharge(root, &[], None)]).unwrap();
    assert_eq!(child.expiry, Timestamp::from_seconds(NOW / 1000 + 600).unwrap(), "the cap");
    let short = shop.world.call(
        shop.minter,
        &Mint { expiry: Expiry::After(60), caveats: vec![shop.login.caveat()], ..mint("acme") },
    );
    let short = short.unwrap();
    let root = short.token.expose();
    let child = shop.exchange(root, vec![shop.login.discharge(root, &[], None)]).unwrap();
    assert_eq!(Some(child.expiry), short.expiry, "the parent's own");
    shop.world.clock.advance(61_000);
    assert_eq!(code(shop.exchange(root, vec![shop.login.discharge(root, &[], None)])), Code::Expired);
}

/// PR-86, PR-96.
#[test]
fn the_parents_revocation_stops_the_exchange_and_kills_the_children() {
    for by_branch in [false, true] {
        let mut shop = shop();
        let parent = shop.parent();
        let presented =
            tkcore::attenuate(&Token::parse(parent.token.expose()).unwrap(), &["app = 17", "app = 17 "]);
        let presented = presented.unwrap();
        let root = presented.as_token().as_v2().to_vec();
        let discharge = |shop: &Shop| vec![shop.login.discharge(&root, &[], None)];
        let child = shop.exchange(&root, discharge(&shop)).unwrap();
        let uncle_root = parent.token.expose();
        let uncle = shop.exchange(uncle_root, vec![shop.login.discharge(uncle_root, &[], None)]).unwrap();
        shop.alive(&child.token).unwrap();
        // The branch is the point after the first appended caveat: above what was presented.
        let target = if by_branch {
            let middle = tkcore::attenuate(&Token::parse(uncle_root).unwrap(), &["app = 17"]).unwrap();
            RevokeTarget::Presented(middle.as_token().as_v2().into(), RevokeScope::Branch)
        } else {
            RevokeTarget::Token(parent.lineage)
        };
        shop.world.call(shop.revoker, &revoke(target)).unwrap();
        for _ in 0..2 {
            assert_eq!(code(shop.alive(&child.token)), Code::Revoked);
            assert_eq!(code(shop.exchange(&root, discharge(&shop))), Code::Revoked);
            // Another branch's child goes on when only a branch was killed.
            assert_eq!(shop.alive(&uncle.token).is_ok(), by_branch);
            shop.world.restart();
        }
    }
}

/// TP-34: 4,096 service tokens come from one token, and its branches can still be revoked with all of them.
#[test]
fn a_holder_cannot_make_a_branch_that_is_too_large_to_revoke() {
    let mut shop = shop();
    let caveats = vec![shop.login.caveat()];
    let parent = Mint { expiry: Expiry::After(7200), caveats, ..mint("acme") };
    let parent = shop.world.call(shop.minter, &parent).unwrap();
    let attenuated = tkcore::attenuate(&Token::parse(parent.token.expose()).unwrap(), &["app = 17"]).unwrap();
    let root = attenuated.as_token().as_v2().to_vec();
    let discharge = |shop: &Shop| vec![shop.login.discharge(&root, &[], None)];
    let asked = Verify { root: root[..].into(), discharges: discharge(&shop) };
    let points = shop.world.call(shop.verifier, &asked).unwrap().branches;
    // One short of the limit, as so many exchanges would have left them.
    shop.world.close();
    let mut store = unheld(|| Ok(Sqlite::open(shop.world.path())?)).unwrap();
    let made = |n: u64| {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&n.to_be_bytes());
        LineageId::new(random, Timestamp::from_millis(NOW).unwrap())
    };
    let row = |point: &BranchId, n| [b"b", &point.as_bytes()[..], made(n).as_bytes()].concat();
    let ops = points.iter().flat_map(|point| (1..4096).map(move |n| row(point, n)));
    let ops = ops.map(|key| Op::Put(Table::Index, key, Vec::new())).collect();
    store.begin().unwrap();
    store.apply(&Change { ops, ..Change::default() }).unwrap();
    store.commit().unwrap();
    drop(store);
    shop.world.open();
    let first = shop.exchange(&root, discharge(&shop)).unwrap();
    assert!(why(shop.exchange(&root, discharge(&shop))).contains("too many service tokens"));
    let whole = parent.token.expose();
    let all = vec![shop.login.discharge(whole, &[], None)];
    assert!(why(shop.exchange(whole, all)).contains("too many service tokens"), "above the branch as well");
    // One that has ended makes room: after an hour, since other clocks may not have come so far.
    shop.world.clock.advance(600_000);
    shop.world.restart();
    assert!(why(shop.exchange(&root, discharge(&shop))).contains("too many service tokens"));
    shop.world.clock.advance(3_600_000);
    shop.world.restart();
    let last = shop.exchange(&root, discharge(&shop)).unwrap();
    assert_eq!(code(shop.world.call(OPERATOR, &TokenShow { lineage: first.lineage })), Code::NotFound);

    let before = shop.world.operate(&Status {}).revocations;
    let target = RevokeTarget::Presented(whole.into(), RevokeScope::Branch);
    let done = shop.world.call(shop.revoker, &revoke(target)).unwrap();
    assert_eq!(done.effect, RevokeEffect::New);
    assert_eq!(shop.world.operate(&Status {}).revocations, before + 1 + 4096);
    assert_eq!(code(shop.alive(&last.token)), Code::Revoked);
}

/// PR-96: of every kind of floor that holds for both.
#[test]
fn a_floor_above_the_parent_kills_a_child_minted_after_it() {
    let between = || Floor::At(Timestamp::from_millis(NOW + 5_000).unwrap());
    let floors: [fn(&MintAnswer, Floor) -> RevokeTarget; 4] = [
        |parent, floor| RevokeTarget::Key(parent.key, KeyFloor::Before(floor)),
        |_, floor| RevokeTarget::Subject(name("acme"), name("user:1"), floor),
        |_, floor| RevokeTarget::Tenant(name("acme"), floor),
        |_, floor| RevokeTarget::Global(floor),
    ];
    for floor in floors {
        let mut shop = shop();
        let parent = shop.parent();
        let root = parent.token.expose();
        let ask = |shop: &Shop| shop.exchange(root, vec![shop.login.discharge(root, &[], None)]);
        shop.world.clock.advance(10_000);
        let child = ask(&shop).unwrap();
        let younger = shop.parent();
        shop.world.call(shop.revoker, &revoke(floor(&parent, between()))).unwrap();
        for _ in 0..2 {
            assert_eq!(code(shop.alive(&child.token)), Code::Revoked);
            assert_eq!(code(ask(&shop)), Code::Revoked);
            // A token that is as young as the child lives, and so do its children.
            let root = younger.token.expose();
            let child = shop.exchange(root, vec![shop.login.discharge(root, &[], None)]).unwrap();
            shop.alive(&child.token).unwrap();
            shop.world.restart();
        }
    }
}

/// PR-94: a child is under its parent's key, whatever has become of that.
#[test]
fn a_child_follows_its_parents_key_through_rotation_and_retirement() {
    let mut shop = shop();
    let parent = shop.parent();
    let root = parent.token.expose();
    let ask = |shop: &Shop| shop.exchange(root, vec![shop.login.discharge(root, &[], None)]);
    let before = ask(&shop).unwrap();
    let next = shop.world.operate(&KeyRotate { key: parent.key });
    let after = ask(&shop).unwrap();
    // The next generation mints what is new, and not what stands in for something old.
    assert_eq!(shop.parent().key, next.key);
    for _ in 0..2 {
        for child in [&before, &after] {
            assert_eq!((child.key, shop.alive(&child.token).unwrap().key), (parent.key, parent.key));
        }
        shop.world.restart();
    }
    shop.world.operate(&KeyRetire { key: parent.key });
    for _ in 0..2 {
        assert_eq!(code(ask(&shop)), Code::UnknownKey);
        for child in [&before, &after] {
            assert_eq!(code(shop.alive(&child.token)), Code::UnknownKey);
        }
        shop.world.restart();
    }
}

/// PR-37: asked again, also later, it is the same child, and no second one.
#[test]
fn a_repeated_exchange_makes_one_child() {
    let mut shop = shop();
    let parent = shop.parent();
    let root = parent.token.expose();
    let asked = || shop.ask(root, vec![shop.login.discharge(root, &[], None)]);
    let (first, other) = (asked(), Exchange { label: None, ..asked() });
    let id = shop.world.id();
    let ask = |shop: &Shop, asked: &Exchange| shop.world.call_as(shop.exchanger, Peer::Unix, id, asked);
    let child = ask(&shop, &first).unwrap();
    let children = |shop: &Shop| {
        let of =
            TokenList { tenant: None, subject: None, parent: Some(parent.lineage), from: Cursor::default() };
        shop.world.operate(&of).items.len()
    };
    for _ in 0..2 {
        let again = ask(&shop, &first).unwrap();
        assert_eq!((again.token.expose(), again.lineage), (child.token.expose(), child.lineage));
        assert_eq!(code(ask(&shop, &other)), Code::IdempotencyConflict);
        assert_eq!(children(&shop), 1);
        shop.world.restart();
        shop.world.clock.advance(200_000);
    }
    // What it once was told says nothing about what holds now.
    shop.world.call(shop.revoker, &revoke(RevokeTarget::Token(parent.lineage))).unwrap();
    let again = ask(&shop, &first).unwrap();
    assert_eq!(again.token.expose(), child.token.expose());
    assert_eq!(code(shop.alive(&again.token)), Code::Revoked);
}

/// PR-96: callers that exchange while somebody revokes the parent. Whichever comes first, no child
/// outlives the answer to the revocation.
#[test]
fn no_child_slips_past_a_revocation_of_its_parent_at_the_same_time() {
    for scope in [RevokeScope::Branch, RevokeScope::Lineage] {
        let mut shop = shop();
        let parent = shop.parent();
        let root = parent.token.expose();
        let (given, gave) = std::sync::mpsc::channel();
        let children = std::thread::scope(|threads| {
            let exchanging: Vec<_> = (0..4)
                .map(|_| {
                    let (given, shop) = (given.clone(), &shop);
                    threads.spawn(move || {
                        let mut children = Vec::new();
                        loop {
                            match shop.exchange(root, vec![shop.login.discharge(root, &[], None)]) {
                                Ok(child) => children.push(child),
                                Err(error) => {
                                    assert_eq!(error.code, Code::Revoked, "{error}");
                                    return children;
                                }
                            }
                            given.send(()).unwrap();
                            assert!(children.len() < 1000, "nothing was revoked");
                        }
                    })
                })
                .collect();
            // All are in the middle of it.
            (0..40).for_each(|_| gave.recv().unwrap());
            shop.world.call(shop.revoker, &revoke(RevokeTarget::Presented(root.into(), scope))).unwrap();
            exchanging.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(children.len() >= 40);
        for _ in 0..2 {
            for child in &children {
                assert_eq!(code(shop.alive(&child.token)), Code::Revoked);
            }
            shop.world.restart();
        }
    }
}

/// Every registered token of the signer that nothing kills.
fn living(shop: &Shop) -> Vec<TokenInfo> {
    let all = TokenList { tenant: None, subject: None, parent: None, from: Cursor::default() };
    let page = shop.world.operate(&all);
    assert!(page.next.is_none());
    page.items.into_iter().filter(|token| token.revoked.is_none()).collect()
}

/// PR-46: a dry run names the numbers that the revocation then brings about, and changes nothing.
#[test]
fn a_dry_run_says_what_the_revocation_then_does_and_changes_nothing() {
    let early = Floor::At(Timestamp::from_millis(NOW + 5_000).unwrap());
    let subject = || name("user:1");
    type Target = Box<dyn Fn(&MintAnswer, &[u8]) -> RevokeTarget>;
    let targets: Vec<(Target, u64, u64)> = vec![
        // What is named; tokens already dead in it; tokens of the same scope that live on.
        (Box::new(|parent, _| RevokeTarget::Token(parent.lineage)), 0, 0),
        (Box::new(|_, root| RevokeTarget::Presented(root.into(), RevokeScope::Lineage)), 0, 0),
        (Box::new(|_, root| RevokeTarget::Presented(root.into(), RevokeScope::Branch)), 0, 0),
        (Box::new(|parent, _| RevokeTarget::Key(parent.key, KeyFloor::All)), 1, 0),
        (Box::new(move |parent, _| RevokeTarget::Key(parent.key, KeyFloor::Before(early))), 1, 1),
        (Box::new(move |_, _| RevokeTarget::Subject(name("acme"), subject(), Floor::Now)), 1, 0),
        (Box::new(move |_, _| RevokeTarget::Tenant(name("acme"), early)), 1, 1),
        (Box::new(move |_, _| RevokeTarget::Global(early)), 1, 1),
        (Box::new(|_, _| RevokeTarget::Global(Floor::Now)), 1, 0),
        (Box::new(|_, _| RevokeTarget::Token(lineage(77))), 0, 0),
    ];
    for (target, already, spared) in targets {
        let shop = shop();
        shop.world.key("umbrella", None, KeyClass::Ordinary);
        let parent = shop.parent();
        let presented = tkcore::attenuate(&Token::parse(parent.token.expose()).unwrap(), &["app = 17"]);
        let root = presented.unwrap().as_token().as_v2().to_vec();
        let bare = Mint { label: None, subject: Some(name("user:2")), ..mint("acme") };
        shop.world.call(shop.minter, &bare).unwrap();
        let dead = shop.mint(vec![first("action in read")]);
        shop.world.call(shop.revoker, &revoke(RevokeTarget::Token(dead.lineage))).unwrap();
        shop.world.call(shop.minter, &mint("umbrella")).unwrap();
        shop.world.clock.advance(10_000);
        // Younger than the early floor, and yet killed by it with its parent.
        shop.exchange(&root, vec![shop.login.discharge(&root, &[], None)]).unwrap();
        shop.mint(vec![first("action in list")]);
        // What has expired is no longer anybody's to kill.
        shop.world.call(shop.minter, &Mint { expiry: Expiry::After(1), ..mint("acme") }).unwrap();
        shop.world.clock.advance(2_000);

        let named = target(&parent, &root);
        let text = format!("{named:?}");
        let status = shop.world.operate(&Status {});
        let said = shop.world.call(shop.revoker, &RevokePreview { target: target(&parent, &root) }).unwrap();
        let again = shop.world.operate(&Status {});
        assert_eq!(
            (again.revocations, again.audit_lines),
            (status.revocations, status.audit_lines),
            "{text}"
        );
        assert_eq!(said.effect, RevokeEffect::New, "{text}");
        assert_eq!((said.counted, said.already, said.spared), (Counted::All, already, spared), "{text}");

        let now = shop.world.operate(&Status {}).now;
        let unexpired = |token: &TokenInfo| token.expiry.is_none_or(|expiry| now < expiry);
        let before: Vec<_> = living(&shop).into_iter().filter(unexpired).collect();
        let done = shop.world.call(shop.revoker, &revoke(named)).unwrap();
        let after: Vec<_> = living(&shop).into_iter().map(|token| token.lineage).collect();
        let killed: Vec<_> = before.iter().filter(|token| !after.contains(&token.lineage)).collect();
        let count = |which: fn(&TokenInfo) -> bool| killed.iter().filter(|token| which(token)).count() as u64;
        assert_eq!(said.hit, count(|_| true), "{text}");
        assert_eq!(said.labelled, count(|token| token.label.is_some()), "{text}");
        assert_eq!(said.service, count(|token| token.parent.is_some()), "{text}");
        assert_eq!((said.before, said.effect), (done.before, done.effect), "{text}");

        let now = shop.world.call(shop.revoker, &RevokePreview { target: target(&parent, &root) }).unwrap();
        let floor_moves_with_the_clock = said.before.is_some_and(|before| before.millis() > NOW + 5_000);
        let expected = if floor_moves_with_the_clock { now.effect } else { RevokeEffect::Already };
        assert_eq!((now.effect, now.hit, now.standing), (expected, 0, said.before), "{text}");
        assert_eq!(now.already, said.already + said.hit, "{text}");
    }
}

#[test]
fn a_dry_run_is_refused_as_the_revocation_would_be() {
    let shop = shop();
    let ask = |client, target| shop.world.call(client, &RevokePreview { target });
    let ahead = Floor::At(Timestamp::from_millis(NOW + 1).unwrap());
    assert_eq!(code(ask(shop.revoker, RevokeTarget::Global(ahead))), Code::BadTime);
    let no_key = tkcore::KeyId::from_bytes([9; 8]);
    assert_eq!(code(ask(shop.revoker, RevokeTarget::Key(no_key, KeyFloor::All))), Code::NotFound);
    let forged = RevokeTarget::Presented(b"no token"[..].into(), RevokeScope::Branch);
    assert_eq!(code(ask(shop.revoker, forged)), Code::TokenMalformed);
    assert_eq!(code(ask(shop.verifier, RevokeTarget::Token(lineage(1)))), Code::NotAllowed);
}
