use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tkcore::{
    AuthorityId, AuthorityKeys, Budget, CaveatKey, Request, SealTo, SharedKey, Ticket, TokenBuf, TokenText,
    Vocabulary, attenuate_third_party, bind, seal_ticket,
};

use super::TestClock;
use super::signer::random;
use crate::clock::Clock as _;

/// A third party inside a test: tokens can be made to need its word, and it gives it.
///
/// ```
/// use tkverify::testing::{Kit, Spec};
///
/// let kit = Kit::new();
/// let login = kit.authority("https://login.example");
/// let token = login.demand(&kit.mint(&Spec::new("acme").caveat("action in read")), &[]);
///
/// let verifier = kit.verifier();
/// let request = verifier.request("acme").action("read").build().unwrap();
/// let missing = verifier.check(kit.header(&token), &request).unwrap_err();
/// assert_eq!(missing.code(), "discharge-missing");
///
/// let discharge = login.discharge(&token, "user:7", &[]);
/// assert!(verifier.check(kit.header_with(&token, &[discharge]), &request).is_ok());
/// ```
pub struct Authority {
    clock: Arc<TestClock>,
    id: AuthorityId,
    location: String,
    key: [u8; 32],
}

/// How long a discharge lives: the default cap of real authorities.
const LIFE: Duration = Duration::from_secs(600);

#[allow(clippy::expect_used, reason = "for tests, where a panic is the right answer")]
impl Authority {
    pub(super) fn new(clock: Arc<TestClock>, location: &str) -> Self {
        let (id, key) = (AuthorityId::from_bytes(random()), random());
        Self { clock, id, location: location.to_owned(), key }
    }

    /// The same token, which from now on needs this authority's discharge as well. `caveats` are
    /// what the authority is to clear before it gives one, such as `subject = user:7`.
    ///
    /// # Panics
    /// When the result would be no token.
    #[must_use]
    pub fn demand(&self, token: &TokenText, caveats: &[&str]) -> TokenText {
        let (_, token) = TokenBuf::from_text(token.as_str()).expect("a token");
        let key = CaveatKey::from_bytes(random());
        let shared = SharedKey::from_bytes(self.key);
        let to = SealTo::Shared { key: &shared, nonce: &random() };
        let ticket = seal_ticket(self.id, &to, &key, caveats).expect("a possible ticket");
        let location = Some(self.location.as_str());
        attenuate_third_party(&token.as_token(), location, &ticket, &key, &random())
            .expect("a possible token")
            .to_text()
    }

    /// The discharge of the first caveat of `token` that asks this authority, bound to it, for a
    /// subject whom it has authenticated. It lives for 10 minutes; `caveats` restrict it further.
    ///
    /// # Panics
    /// When the token does not ask this authority, or its ticket does not admit the subject.
    #[must_use]
    pub fn discharge(&self, token: &TokenText, subject: &str, caveats: &[&str]) -> TokenText {
        let (_, token) = TokenBuf::from_text(token.as_str()).expect("a token");
        let root = token.as_token();
        let keys = AuthorityKeys::new(self.id).with_shared(SharedKey::from_bytes(self.key));
        let mut asked = root.describe_untrusted().caveats().filter(|caveat| caveat.third_party);
        let ticket = asked
            .find_map(|caveat| Ticket::parse(caveat.id).ok()?.open(&keys).ok())
            .expect("the token asks this authority");
        let request = Request::builder("authority", self.clock.read().wall).action("discharge");
        let request = request.build().expect("a request");
        let cleared = ticket
            .clear(&request, Some(subject), &Vocabulary::native(), &mut Budget::default())
            .expect("the ticket admits the subject");
        let discharge = cleared.discharge(LIFE, caveats).expect("a possible discharge");
        bind(&root, &discharge.as_token()).expect("a token and its discharge").to_discharge_text()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("location", &self.location).finish_non_exhaustive()
    }
}
