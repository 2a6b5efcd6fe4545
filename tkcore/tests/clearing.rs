//! Clearing, end to end: minted, verified, cleared.
#![cfg(feature = "mint")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly on their own")]

use tkcore::danger::{NoRevocations, admit_tenant_wide};
use tkcore::revocation::{Gap, Query, Revocations, Rule, Status};
use tkcore::{
    Access, Advice, Asked, Authorization, Basis, BranchIds, Budget, Caveat, CustomCaveat, CustomVerdict,
    Error, Explanation, Grant, HeaderBuf, Identifier, KeyClass, KeyId, LineageFacts, LineageId, Name,
    NotKnowable, Outcome, Owner, ParseFault, RefusalCause, Request, RequestError, RootKey, Row, Scratch,
    ServiceToken, Summary, TextForms, Timestamp, Vocabulary, VocabularyError, Why, advise, clear_caveats,
    explain_caveats,
};

const SUBJECT: &str = "user:7";

fn at(text: &str) -> Timestamp {
    Timestamp::from_rfc3339(text).unwrap()
}

fn minted() -> Timestamp {
    at("2026-11-23T12:00:00Z")
}

struct Case {
    expiry: Option<Timestamp>,
    audience: Option<&'static str>,
    at_mint: Vec<&'static str>,
    appended: Vec<&'static str>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            expiry: Some(at("2026-12-23T12:00:00Z")),
            audience: None,
            at_mint: vec!["action in read,write"],
            appended: Vec::new(),
        }
    }
}

impl Case {
    fn clear(&self, request: &Request<'_>) -> Result<Grant, Error> {
        self.clear_with(request, &Vocabulary::native(), &NoRevocations, BranchIds::Collect)
    }

    fn clear_with(
        &self,
        request: &Request<'_>,
        vocabulary: &Vocabulary,
        revocations: &impl Revocations,
        branches: BranchIds,
    ) -> Result<Grant, Error> {
        let key = RootKey::derive(b"a root key of a test");
        let identifier = Identifier {
            caveats_at_mint: self.at_mint.len().try_into().unwrap(),
            key: KeyId::from_bytes([1; 8]),
            lineage: LineageId::new([2; 10], minted()),
            expiry: self.expiry,
            service: None::<ServiceToken>,
            subject: Some(SUBJECT),
        };
        let token = tkcore::mint(&identifier, &self.at_mint, &key).unwrap();
        let token = tkcore::attenuate(&token.as_token(), &self.appended).unwrap();
        let facts = LineageFacts {
            tenant: Name::new("acme").unwrap(),
            audience: self.audience.map(|name| Name::new(name).unwrap()),
            class: KeyClass::Ordinary,
            tenant_row: Row::from_bytes([3; 16]),
            subject_row: Some(Row::from_bytes([4; 16])),
        };
        let header = format!("Bearer {}", token.to_text().as_str());
        let mut buffer = HeaderBuf::default();
        let authorization =
            Authorization::parse(header.as_bytes(), TextForms::OursOnly, &mut buffer).unwrap();
        let presented = authorization.candidates().next().unwrap();
        let mut scratch = Scratch::new();
        let mut budget = Budget::default();
        let basis = Basis::Root(&key);
        let verified = tkcore::verify(presented, basis, &facts, branches, &mut scratch, &mut budget).unwrap();
        let cleared = verified.clear(request, vocabulary, revocations, &mut budget);
        // CV-73: the dry run never differs.
        let explained = verified.explain(request, vocabulary, revocations, &mut Budget::default());
        assert_eq!(explained.grants(), cleared.is_ok(), "{explained}");
        if let Err(error) = &cleared {
            let first = explained.lines().iter().find(|line| line.outcome == Outcome::Refuses).unwrap();
            assert_eq!(*first.reason, error.to_string());
        }
        cleared
    }
}

/// What a set of revocations answers, whatever is asked.
struct Always(Status);

impl Revocations for Always {
    fn has_branches(&self) -> bool {
        true
    }

    fn status(&self, _: &Query<'_>) -> Status {
        self.0
    }
}

fn read_now() -> Request<'static> {
    Request::builder("acme", minted()).action("read").build().unwrap()
}

fn cause(result: Result<Grant, Error>) -> RefusalCause {
    match result {
        Err(Error::Refused(refusal)) => refusal.cause().clone(),
        other => panic!("{other:?}"),
    }
}

fn why(case: &Case, request: &Request<'_>) -> Why {
    match cause(case.clear(request)) {
        RefusalCause::Caveat(refusal) => refusal.why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_grant_names_what_was_granted() {
    let grant =
        Case { appended: vec!["time < 2026-12-01T00:00:00Z"], ..Case::default() }.clear(&read_now()).unwrap();
    assert_eq!(grant.lineage(), LineageId::new([2; 10], minted()));
    assert_eq!((grant.tenant(), grant.subject(), grant.caveats()), ("acme", Some(SUBJECT), 2));
    assert_eq!(grant.key(), KeyId::from_bytes([1; 8]));
    assert_eq!(grant.expiry(), Some(at("2026-12-23T12:00:00Z")));
}

#[test]
fn steps_before_the_caveats_in_their_order() {
    // CV-70, CV-71: each step refuses although every later one would as well.
    let wrong_everywhere = |now| Request::builder("other", now).action("delete").build().unwrap();
    let case = Case { audience: Some("builds"), at_mint: vec![], ..Case::default() };
    let native = Vocabulary::native();
    let revoked = Always(Status::Revoked(Rule::Subject));
    let clear = |now, revocations: &Always, vocabulary: &Vocabulary| {
        case.clear_with(&wrong_everywhere(now), vocabulary, revocations, BranchIds::Collect)
    };
    let expired = cause(clear(at("2026-12-23T12:00:00Z"), &revoked, &native));
    assert_eq!(expired, RefusalCause::Expired { at: at("2026-12-23T12:00:00Z") });
    let ahead = cause(clear(at("2026-11-23T11:58:59Z"), &revoked, &native));
    assert_eq!(ahead, RefusalCause::IssuedAhead { minted: minted() });
    assert_eq!(clear(minted(), &revoked, &native), Err(Error::Revoked(Rule::Subject)));
    for gap in [Gap::Stale, Gap::NoIssueTime] {
        let unknown = Always(Status::Unknown(gap));
        assert_eq!(clear(minted(), &unknown, &native), Err(Error::NotKnowable(NotKnowable::Stale)));
    }
    let live = Always(Status::Live);
    assert_eq!(cause(clear(minted(), &live, &native)), RefusalCause::TenantWide);
    let opted_in = admit_tenant_wide(Vocabulary::builder()).build().unwrap();
    assert!(matches!(cause(clear(minted(), &live, &opted_in)), RefusalCause::Tenant { .. }));
    let same_tenant = Request::builder("acme", minted()).action("delete").build().unwrap();
    let result = case.clear_with(&same_tenant, &opted_in, &live, BranchIds::Collect);
    assert!(matches!(cause(result), RefusalCause::Audience { got: None, .. }));
    let same_audience =
        Request::builder("acme", minted()).audience("builds").action("delete").build().unwrap();
    assert!(case.clear_with(&same_audience, &opted_in, &live, BranchIds::Collect).is_ok());
    let other_audience =
        Request::builder("acme", minted()).audience("tests").action("delete").build().unwrap();
    let result = case.clear_with(&other_audience, &opted_in, &live, BranchIds::Collect);
    assert!(matches!(cause(result), RefusalCause::Audience { got: Some(_), .. }));
}

#[test]
fn the_edges_of_expiry_and_mint_time() {
    let at_time = |now| Request::builder("acme", now).action("read").build().unwrap();
    let case = Case::default();
    let last = Timestamp::from_millis(at("2026-12-23T12:00:00Z").millis() - 1).unwrap();
    assert!(case.clear(&at_time(last)).is_ok());
    assert!(case.clear(&at_time(at("2026-12-23T12:00:00Z"))).is_err());
    assert!(case.clear(&at_time(at("2026-11-23T11:59:00Z"))).is_ok());
    let too_early = Timestamp::from_millis(at("2026-11-23T11:59:00Z").millis() - 1).unwrap();
    assert!(case.clear(&at_time(too_early)).is_err());
    let unlimited = Case { expiry: None, ..Case::default() };
    assert!(unlimited.clear(&at_time(Timestamp::MAX)).is_ok());
}

#[test]
fn branches_that_were_not_collected_cannot_be_judged() {
    let case = Case::default();
    let result = case.clear_with(&read_now(), &Vocabulary::native(), &Always(Status::Live), BranchIds::Skip);
    assert_eq!(result, Err(Error::NotKnowable(NotKnowable::BranchesNotCollected)));
    let result = case.clear_with(&read_now(), &Vocabulary::native(), &NoRevocations, BranchIds::Skip);
    assert!(result.is_ok());
}

#[test]
fn power_over_a_tenant_is_decided_at_mint() {
    // CV-72
    let native = Vocabulary::native();
    let wide = admit_tenant_wide(Vocabulary::builder()).build().unwrap();
    for (at_mint, is_wide) in [
        (vec![], true),
        (vec!["time < 2026-12-01T00:00:00Z"], true),
        (vec!["time < 2026-12-01T00:00:00Z", "time > 2026-01-01T00:00:00Z"], true),
        (vec!["time < 2026-12-01T00:00:00Z", "action in read"], false),
        (vec!["org? = 5"], false),
    ] {
        for appended in [vec![], vec!["action in read"]] {
            let case = Case { at_mint: at_mint.clone(), appended, ..Case::default() };
            let cleared = case.clear_with(&read_now(), &native, &NoRevocations, BranchIds::Collect);
            assert_eq!(cleared.is_err(), is_wide, "{at_mint:?}");
            if is_wide {
                assert_eq!(cause(cleared), RefusalCause::TenantWide);
            }
            assert!(case.clear_with(&read_now(), &wide, &NoRevocations, BranchIds::Collect).is_ok());
        }
    }
    // A caveat at mint that nobody can read restricts, and refuses on its own account.
    let case = Case { at_mint: vec!["nobody can read this"], ..Case::default() };
    assert!(matches!(why(&case, &read_now()), Why::Unknown(_)));
}

#[test]
fn several_accesses_must_all_be_admitted() {
    // CV-46
    let case = Case { at_mint: vec!["app allows 17:read|write,42:read"], ..Case::default() };
    let request = |second: &'static str| {
        Request::builder("acme", minted())
            .access(Access::to("write").text("app", "17"))
            .access(Access::to(second).text("app", "42"))
            .build()
            .unwrap()
    };
    assert!(case.clear(&request("read")).is_ok());
    match cause(case.clear(&request("write"))) {
        RefusalCause::Caveat(refusal) => {
            assert_eq!((refusal.access, refusal.why), (1, Why::NotAdmitted));
            assert_eq!(&*refusal.wanted, "app allows 17:read|write,42:read");
            assert_eq!(&*refusal.got, "\"42\" with action \"write\"");
        }
        other => panic!("{other:?}"),
    }
    let shared = Request::builder("acme", minted()).text("app", "17").access(Access::to("read"));
    assert!(case.clear(&shared.action("write").build().unwrap()).is_ok());
}

#[test]
fn subject_and_audience_come_from_the_token() {
    let with = |caveat| Case { audience: Some("builds"), at_mint: vec![caveat], ..Case::default() };
    let request = Request::builder("acme", minted()).audience("builds").action("read").build().unwrap();
    for caveat in ["subject = user:7", "audience = builds", "tenant = acme", "subject? in user:7,user:8"] {
        assert!(with(caveat).clear(&request).is_ok(), "{caveat}");
    }
    for caveat in ["subject = user:8", "audience != builds", "tenant = other", "subject? = user:8 else read"]
    {
        assert_eq!(why(&with(caveat), &request), Why::NotAdmitted, "{caveat}");
    }
}

#[test]
fn a_request_must_be_complete() {
    // CV-40, CV-41, CV-42, CV-44
    let builder = || Request::builder("acme", minted());
    assert_eq!(builder().build(), Err(RequestError::NoAction));
    assert!(matches!(Request::builder("", minted()).action("read").build(), Err(RequestError::Tenant(_))));
    assert!(matches!(builder().audience("").action("read").build(), Err(RequestError::Audience(_))));
    assert_eq!(builder().action("").build(), Err(RequestError::Action));
    for name in ["time", "action", "tenant", "subject", "audience"] {
        assert_eq!(builder().action("read").text(name, "x").build(), Err(RequestError::Reserved));
    }
    assert_eq!(builder().action("read").text("App", "x").build(), Err(RequestError::FactName));
    assert_eq!(builder().action("read").text("app", "x").int("app", 1).build(), Err(RequestError::Duplicate));
    let twice = builder().text("app", "x").access(Access::to("read").text("app", "y"));
    assert_eq!(twice.build(), Err(RequestError::Duplicate));
    assert!(matches!(builder().action("read").path("p", "/a/../b").build(), Err(RequestError::Path(_))));
    let accesses = |count| (0..count).fold(builder(), |builder, _| builder.access(Access::to("read")));
    assert!(accesses(tkcore::limits::ACCESSES).build().is_ok());
    assert_eq!(accesses(tkcore::limits::ACCESSES + 1).build(), Err(RequestError::TooMany));
    let actions = |count| (0..count).fold(builder(), |builder, _| builder.action("read"));
    assert!(actions(tkcore::limits::ACTIONS).build().is_ok());
    assert_eq!(actions(tkcore::limits::ACTIONS + 1).build(), Err(RequestError::TooMany));
    let elements = vec!["x"; tkcore::limits::SET_ELEMENTS + 1];
    assert!(builder().action("read").set("s", &elements[1..]).build().is_ok());
    assert_eq!(builder().action("read").set("s", &elements).build(), Err(RequestError::TooMany));
    let names: Vec<String> = (0..=tkcore::limits::FACTS).map(|n| format!("f{n}")).collect();
    let facts = |count| names.iter().take(count).fold(builder(), |builder, name| builder.text(name, "x"));
    assert!(facts(tkcore::limits::FACTS).action("read").build().is_ok());
    assert_eq!(facts(tkcore::limits::FACTS + 1).action("read").build(), Err(RequestError::TooMany));
}

/// Admits on the days it lists, by the fact `day`.
struct Weekday;

impl CustomCaveat for Weekday {
    fn judge(&self, text: &str, asked: &Asked<'_>, budget: &mut Budget) -> CustomVerdict {
        if budget.spend_bytes(text.len()).is_err() {
            return CustomVerdict::BudgetSpent;
        }
        match asked.stated("day") {
            None => CustomVerdict::NotApplicable,
            Some(tkcore::Fact::Text(day)) if text.split('/').any(|known| known == day) => {
                CustomVerdict::Admits
            }
            Some(_) => {
                CustomVerdict::Refuses { wanted: format!("a day of {text}"), got: "another".to_owned() }
            }
        }
    }

    fn check(&self, text: &str) -> Result<(), &'static str> {
        if text.chars().all(|c| c.is_ascii_lowercase() || c == '/') { Ok(()) } else { Err("no days") }
    }
}

#[test]
fn kinds_that_a_service_adds() {
    // CV-80, CV-81, CV-3
    let vocabulary = Vocabulary::builder().caveat("weekday", Weekday).build().unwrap();
    let case = |caveat| Case { at_mint: vec!["action in read", caveat], ..Case::default() };
    let on = |day| Request::builder("acme", minted()).action("read").text("day", day).build().unwrap();
    let clear = |caveat, request: &Request<'_>| {
        case(caveat).clear_with(request, &vocabulary, &NoRevocations, BranchIds::Collect)
    };
    assert!(clear("weekday mon/tue", &on("tue")).is_ok());
    assert!(clear("weekday mon/tue", &read_now()).is_ok());
    match cause(clear("weekday mon/tue", &on("sun"))) {
        RefusalCause::Caveat(refusal) => {
            assert_eq!((refusal.why, &*refusal.wanted), (Why::Custom, "a day of mon/tue"));
            assert_eq!(refusal.place.caveat, 1);
        }
        other => panic!("{other:?}"),
    }
    // What the kind lets pass is not explained as a native caveat of the same letters.
    let explained =
        explain_caveats([&b"weekday = tue"[..]], &read_now(), &vocabulary, &mut Budget::default());
    assert!(explained.grants() && explained.lines()[0].wanted.is_empty(), "{explained}");
    // Not registered, not one line, or not the kind's name: refused.
    assert!(matches!(why(&case("weekday mon/tue"), &on("tue")), Why::Unknown(_)));
    assert!(clear("weekday", &on("tue")).is_err());
    assert!(clear("weekday mon\ntue", &on("tue")).is_err());
    assert!(clear("weekdays tue", &on("tue")).is_err());
    // As native caveats about a fact that nobody states, these would not apply.
    for shadow in ["weekday? = tue", "weekday? in mon,tue else read"] {
        assert!(matches!(cause(clear(shadow, &read_now())), RefusalCause::Caveat(_)), "{shadow}");
        assert!(
            case(shadow)
                .clear_with(&read_now(), &Vocabulary::native(), &NoRevocations, BranchIds::Collect)
                .is_ok()
        );
    }

    let error = |builder: tkcore::VocabularyBuilder| builder.build().map(|_| ()).unwrap_err();
    let twice = Vocabulary::builder().caveat("weekday", Weekday).caveat("weekday", Weekday);
    assert_eq!(error(twice), VocabularyError::Duplicate("weekday".into()));
    assert_eq!(
        error(Vocabulary::builder().caveat("time", Weekday)),
        VocabularyError::Reserved("time".into())
    );
    assert_eq!(error(Vocabulary::builder().caveat("Day", Weekday)), VocabularyError::Name("Day".into()));
}

#[test]
fn the_peer_learns_nothing_of_the_service() {
    // CV-75
    let case = Case { at_mint: vec!["host = \"build agent 7\""], ..Case::default() };
    let request =
        Request::builder("acme", minted()).action("read").text("host", "secret-host").build().unwrap();
    let Err(Error::Refused(refusal)) = case.clear(&request) else { panic!() };
    assert!(refusal.to_string().contains("secret-host"));
    assert_eq!(refusal.code(), "caveat");
    assert_eq!(refusal.owner(), Owner::Request);
    let peer = refusal.for_peer();
    assert!(!peer.contains("secret-host") && peer.contains("build agent 7"), "{peer}");
    assert!(peer.is_ascii() && !peer.chars().any(char::is_control));
    let lines: [&[u8]; 1] = [b"host = \"build agent 7\""];
    let explained = explain_caveats(lines, &request, &Vocabulary::native(), &mut Budget::default());
    assert!(explained.to_string().contains("secret-host"));
    let redacted: Explanation = explained.redacted();
    assert!(!redacted.to_string().contains("secret-host"), "{redacted}");
    assert!(!redacted.grants());
}

#[test]
fn the_budget_ends_the_search() {
    // CV-74
    let request = Request::builder("acme", minted()).action("read").text("x", "b").build().unwrap();
    let lines: [&[u8]; 2] = [b"x = b", b"x != c"];
    let clear = |blocks| clear_caveats(lines, &request, &Vocabulary::native(), &mut Budget::new(blocks));
    assert_eq!(clear(4), Ok(()));
    assert_eq!(clear(3), Err(Error::TooMuchWork));
    let explained = explain_caveats(lines, &request, &Vocabulary::native(), &mut Budget::new(1));
    assert!(!explained.grants());
    // A set is compared element by element, and pays for it.
    let elements: Vec<String> = (0..200).map(|n| format!("e{n}")).collect();
    let elements: Vec<&str> = elements.iter().map(String::as_str).collect();
    let list = format!("x in {}", elements.join(","));
    let request = Request::builder("acme", minted()).action("read").set("x", &elements).build().unwrap();
    let clear =
        |blocks| clear_caveats([list.as_bytes()], &request, &Vocabulary::native(), &mut Budget::new(blocks));
    let enough = u32::try_from(list.len().div_ceil(64) + (list.len() - 5) * 200 / 64 + 2).unwrap();
    assert_eq!(clear(enough), Ok(()));
    assert_eq!(clear(enough / 2), Err(Error::TooMuchWork));
}

#[test]
fn display_is_the_input() {
    // CV-4
    for text in [
        "time < 2026-12-01T00:00:00Z",
        "app? allows 17:write else read",
        "host = \"build agent 7\"",
        "x in b,a",
    ] {
        assert_eq!(Caveat::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn an_error_names_its_place() {
    // CV-3
    for (text, column, fault) in [
        ("org = 007", 6, ParseFault::Integer),
        ("org  = 7", 4, ParseFault::Space),
        ("org == 7", 4, ParseFault::Operator),
        ("org = ä\u{200b}b", 7, ParseFault::HiddenCharacter),
        ("org in a,b,a", 11, ParseFault::Repeated),
        ("org = 7 ", 7, ParseFault::Surplus),
        ("org =", 5, ParseFault::ValueMissing),
        ("time? < 2026-12-01T00:00:00Z", 4, ParseFault::NeverAbsent),
        ("action < 5", 7, ParseFault::OperatorForName),
        ("org = \"7\"", 6, ParseFault::NeedlessQuotes),
        ("x allows a", 10, ParseFault::ActionsMissing),
        ("x = 5 else read", 5, ParseFault::ElseWithoutOptional),
    ] {
        let error = Caveat::parse(text).unwrap_err();
        assert_eq!((error.column(text), error.fault()), (column, fault), "{text}");
    }
}

#[test]
fn a_summary_bounds_what_is_left() {
    // CV-90
    let of = |lines: &[&str], expiry| {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        Summary::of(lines, expiry, &Vocabulary::native())
    };
    let lines = [
        "time < 2026-12-01T00:00:00Z",
        "time <= 2026-11-30T00:00:00Z",
        "app in 17,42,99",
        "app in 42,17",
        "app != 17",
        "ip in 10.0.0.0/8,192.0.2.1",
        "ip in 10.1.0.0/16",
        "size <= 100",
        "size < 50",
        "path under /a",
        "path under /a/b",
        "org? = 5",
    ];
    let summary = of(&lines, Some(at("2026-12-23T12:00:00Z")));
    assert_eq!(summary.expires(), Some(at("2026-11-30T00:00:00Z")));
    let bounds: Vec<String> = summary.bounds().map(|(name, bound)| format!("{name}: {bound}")).collect();
    assert_eq!(
        bounds,
        ["app: one of 42", "ip: one of 10.1.0.0/16", "path: at or below /a/b", "size: at most 49"]
    );
    assert_eq!(summary.others().collect::<Vec<_>>(), ["org? = 5"]);
    assert!(!summary.never_usable());
    for lines in [
        &["app in 17", "app in 42"][..],
        &["app in 17,42", "app not-in 42,17"],
        &["app = 17", "app != 17"],
        &["size < 5", "size > 4"],
        &["size < 5", "size = 5"],
        &["size < -9223372036854775808"],
        &["path under /a", "path under /b"],
        &["path under /a", "path in /b,/c"],
        &["ip in 10.0.0.0/8", "ip in 192.0.2.0/24"],
        &["x < 5", "x under /a"],
        &["x = word", "x = 10.0.0.1"],
        &["time < 2026-01-01T00:00:00Z", "time > 2026-06-01T00:00:00Z"],
        &["app allows 17:read", "app allows 42:read"],
        &["app allows 17:read", "app allows 17:write"],
        &["app allows 17:read", "action in write"],
        &["app allows 17:read", "app = 42"],
        &["nobody can read this"],
    ] {
        assert!(of(lines, None).never_usable(), "{lines:?}");
    }
    for lines in [
        &["app? in 17", "app? in 42"][..],
        &["size < 5", "size > 3"],
        &["path under /a", "path under /"],
        &["x != a", "x != b"],
    ] {
        assert!(!of(lines, None).never_usable(), "{lines:?}");
    }
}

#[test]
fn advice_before_a_caveat_is_appended() {
    // CV-91
    let vocabulary = Vocabulary::builder().caveat("weekday", Weekday).build().unwrap();
    let now = minted();
    let advice = |lines: &[&'static str], new: &'static str| {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        advise(lines, Some(at("2026-12-23T12:00:00Z")), new, &vocabulary, Some(now))
    };
    for (lines, new) in [
        (&["app in 17"][..], "app in 17"),
        (&["app in 17,42"], "app in 42,17,99"),
        (&["app in build,test"], "app != other"),
        (&["size <= 5"], "size <= 6"),
        (&["size <= 5"], "size < 6"),
        (&["path under /a/b"], "path under /a"),
        (&["ip in 10.1.0.0/16"], "ip in 10.0.0.0/8"),
        (&[], "time < 2027-01-01T00:00:00Z"),
        (&["org? = 5"], "org? = 5"),
        (&["weekday mon"], "weekday mon"),
    ] {
        assert_eq!(advice(lines, new), Advice::ChangesNothing, "{lines:?} + {new}");
    }
    for (lines, new) in [
        (&["app in 17,42"][..], "app in 17"),
        (&[], "app in 17"),
        (&["app? in 17"], "app in 17"),
        (&["size <= 5"], "size <= 4"),
        (&["path under /a"], "path under /a/b"),
        (&[], "path under /"),
        (&[], "time < 2026-12-01T00:00:00Z"),
        (&[], "time != 2026-12-01T00:00:00Z"),
        (&["org? = 5"], "org? = 5 else read"),
        (&[], "weekday mon"),
        (&["app allows 17:read|write"], "app allows 17:read"),
    ] {
        assert_eq!(advice(lines, new), Advice::Restricts, "{lines:?} + {new}");
    }
    for (lines, new) in [
        (&["app in 17"][..], "app in 42"),
        (&[], "app  in 42"),
        (&[], "time < 2026-11-23T12:00:00Z"),
        (&[], "weekday MON"),
        (&["path under /a"], "path under /b"),
    ] {
        assert!(matches!(advice(lines, new), Advice::NeverClears(_)), "{lines:?} + {new}");
    }
}

#[test]
fn meanings_in_words() {
    for (text, words) in [
        ("time < 2026-12-01T00:00:00Z", "only if the time of the request is below 2026-12-01T00:00:00Z"),
        ("action in read,list", "only if every action is, or lies in, read or list"),
        (
            "app? allows 17:write|read else read",
            "only if `app` is 17 for write or read, if the request states `app`; otherwise every action is read",
        ),
        ("org? = 4711", "only if `org` is 4711, if the request states `org`; otherwise it does not matter"),
        ("x = \"a\u{202e}b\"", "only if `x` is \"a\\u{202e}b\""),
    ] {
        assert_eq!(Caveat::parse(text).unwrap().meaning().to_string(), words);
    }
}

#[test]
fn every_access_is_paid_for_by_every_caveat_and_so_are_the_facts_in_the_way() {
    // CV-74, TK-4: caveats that do not apply are the cheapest that an attacker can append.
    let names: Vec<String> = (0..64).map(|n| format!("fact{n}")).collect();
    let cost = |accesses: usize, facts: usize| {
        let mut builder = Request::builder("acme", minted());
        for name in names.iter().take(facts) {
            builder = builder.int(name, 1);
        }
        for _ in 0..accesses {
            builder = builder.access(Access::to("read"));
        }
        let request = builder.build().unwrap();
        let mut budget = Budget::new(100_000);
        let caveats = [&b"a? = 1"[..]; 256];
        clear_caveats(caveats, &request, &Vocabulary::native(), &mut budget).unwrap();
        100_000 - budget.left()
    };
    assert_eq!(cost(1, 0), 256 * 2);
    assert_eq!(cost(128, 0), 256 * 129);
    assert!(cost(1, 64) >= 256 * 2);
    let mut budget = Budget::default();
    let request =
        (0..128).fold(Request::builder("acme", minted()), |request, _| request.access(Access::to("read")));
    let request = request.build().unwrap();
    let many = [&b"a? = 1"[..]; 4000];
    let verdict = clear_caveats(many, &request, &Vocabulary::native(), &mut budget);
    assert_eq!(verdict, Err(Error::TooMuchWork));
}
