//! Asks the signer: Noise sessions carried in ordinary HTTP (docs/spec/protocol.md).

mod endpoint;
mod error;
mod session;
mod unix;

use std::fmt;
use std::time::Duration;

use tkcore::Presented;
use tkcore::protocol::{
    Call, Code, Cursor, DelegatedKey, Exchange, ExchangeAnswer, FetchKeys, Mint, MintAnswer, Page, RequestId,
    Revoke, RevokeAnswer, RevokePresented, RpcError, SecretBytes, TraceContext, Verify, VerifyAnswer,
};
use zeroize::Zeroizing;

pub use error::{RemoteError, Trouble};
pub(crate) use unix::SCHEME as UNIX_SCHEME;

use crate::clock::{Clock as _, SystemClock};
use crate::{ClientKey, SignerAddress};
use endpoint::{Deadline, Endpoint, Failure};

/// A client of the signer. Share one (in an `Arc`) between all threads: it keeps one session
/// an address, in which any number of calls may be under way, and its connections.
///
/// Calls block. Each has one deadline in all, whatever is tried within it: the addresses are
/// tried nearest first (by measured answers; one that failed is left alone for a while), all of
/// them twice with a random pause between, a
/// session that the signer no longer knows is replaced without the caller noticing, and a
/// call whose answer was lost is asked again *under the same request id*, so that nothing
/// that changes the signer's state is done twice.
pub struct Remote {
    endpoints: Vec<Endpoint>,
    key: ClientKey,
    clock: SystemClock,
    deadline: Duration,
}

/// Longest a call may take with everything that is tried within it. Well above a store's
/// slowest commit, below what a waiting person's client allows.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most addresses: the same bound as in the trust file.
const ADDRESSES: usize = 16;
/// Rounds over all addresses before a call gives up, deadline or not.
const ROUNDS: usize = 2;
/// Longest pause before the second round: a signer that is restarted by its supervisor is
/// often back by then, and the caller still has most of its deadline.
const PAUSE: Duration = Duration::from_millis(500);

impl Remote {
    /// A client that reaches the signer at any of these addresses. Nothing is asked yet.
    ///
    /// # Errors
    /// [`RemoteError::NoAddress`] when there is none, or more than 16.
    pub fn new(signers: &[SignerAddress], key: ClientKey) -> Result<Self, RemoteError> {
        if signers.is_empty() || signers.len() > ADDRESSES {
            return Err(RemoteError::NoAddress);
        }
        let client = endpoint::client();
        let endpoints =
            signers.iter().map(|address| Endpoint::new(address.clone(), client.clone())).collect();
        Ok(Self { endpoints, key, clock: SystemClock::new(), deadline: DEADLINE })
    }

    /// The same with another deadline for each call.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Whether the chain of a presented token holds, and the facts of its lineage.
    ///
    /// # Errors
    /// [`RemoteError::Refused`] with the signer's verdict; anything else says that there is
    /// none.
    pub fn verify(&self, presented: &Presented<'_>) -> Result<VerifyAnswer, RemoteError> {
        self.verify_traced(presented, None)
    }

    /// As [`Remote::verify`], as part of a trace.
    ///
    /// # Errors
    /// As [`Remote::verify`].
    pub fn verify_traced(
        &self,
        presented: &Presented<'_>,
        trace: Option<TraceContext>,
    ) -> Result<VerifyAnswer, RemoteError> {
        let params = Verify {
            root: SecretBytes::from(presented.root().as_v2()),
            discharges: presented.discharges().map(|token| SecretBytes::from(token.as_v2())).collect(),
        };
        self.call(&params, request_id()?, trace)
    }

    /// A new token. A caller that may be restarted in the middle keeps the request id and
    /// asks again with it: the answer is the same token.
    ///
    /// # Errors
    /// As [`Remote::call`].
    pub fn mint(&self, params: &Mint, id: RequestId) -> Result<MintAnswer, RemoteError> {
        self.call(params, id, None)
    }

    /// Revokes by any rule. Success means durable.
    ///
    /// # Errors
    /// As [`Remote::call`].
    pub fn revoke(&self, params: &Revoke, id: RequestId) -> Result<RevokeAnswer, RemoteError> {
        self.call(params, id, None)
    }

    /// Has a presented token killed from its last caveat on.
    ///
    /// # Errors
    /// As [`Remote::call`].
    pub fn revoke_presented(
        &self,
        params: &RevokePresented,
        id: RequestId,
    ) -> Result<RevokeAnswer, RemoteError> {
        self.call(params, id, None)
    }

    /// A service token for a token and its authentication discharge.
    ///
    /// # Errors
    /// As [`Remote::call`].
    pub fn exchange(&self, params: &Exchange, id: RequestId) -> Result<ExchangeAnswer, RemoteError> {
        self.call(params, id, None)
    }

    /// A page of the delegated keys of this client's audience.
    ///
    /// # Errors
    /// As [`Remote::call`].
    pub fn fetch_keys(&self, from: Cursor) -> Result<Page<DelegatedKey>, RemoteError> {
        self.call(&FetchKeys { from }, request_id()?, None)
    }

    /// Any call. `id` names the logical request: a retry of the same uses the same, a new
    /// request a new one ([`request_id`]).
    ///
    /// # Errors
    /// [`RemoteError::Refused`] is the signer's authentic answer. All others mean that no
    /// answer was had: for a call that changes something, it may or may not have been done,
    /// and asking again with the same `id` settles that.
    pub fn call<C: Call>(
        &self,
        params: &C,
        id: RequestId,
        trace: Option<TraceContext>,
    ) -> Result<C::Answer, RemoteError> {
        let payload = params.request(id, trace).map_err(|_| RemoteError::TooLarge)?;
        let payload = Zeroizing::new(payload);
        let deadline = Deadline::new(self.clock, self.deadline, self.endpoints.len());
        let mut troubles = Vec::new();
        let mut refused: Option<RpcError> = None;
        for round in 0..ROUNDS {
            if round > 0 {
                std::thread::sleep(pause().min(deadline.left()));
            }
            for endpoint in self.nearest_first() {
                if deadline.left().is_zero() {
                    break;
                }
                let started = deadline.now();
                match endpoint.exchange(&self.key, &payload, &deadline) {
                    Ok(answer) => match C::read_answer(&answer) {
                        Ok(Ok(answer)) => return Ok(answer),
                        // Another address may have a signer that is not stopping.
                        Ok(Err(error)) if elsewhere(&error) => refused = Some(error),
                        Ok(Err(error)) => return Err(RemoteError::Refused(error)),
                        // Authentic and not understood: a signer of another mind, and no other
                        // address is going to say it better.
                        Err(_) => return Err(RemoteError::NotUnderstood),
                    },
                    Err(Failure { trouble, again }) => {
                        troubles.push((endpoint.url().to_owned(), trouble));
                        if !again {
                            endpoint.rest(started, deadline.now());
                        }
                    }
                }
            }
        }
        match refused {
            Some(error) => Err(RemoteError::Refused(error)),
            None if deadline.left().is_zero() => Err(RemoteError::Deadline(troubles)),
            None => Err(RemoteError::from_troubles(troubles)),
        }
    }

    fn nearest_first(&self) -> Vec<&Endpoint> {
        let now = self.clock.read().monotonic;
        let mut order: Vec<_> = self.endpoints.iter().map(|at| (at.distance(now), at)).collect();
        order.sort_by_key(|(distance, _)| *distance);
        if let Some((_, first)) = order.first() {
            first.picked(now);
        }
        order.into_iter().map(|(_, endpoint)| endpoint).collect()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.endpoints.iter().map(Endpoint::url).collect();
        f.debug_struct("Remote").field("signers", &urls).field("key", &self.key).finish_non_exhaustive()
    }
}

/// Whether another signer could answer what this one refused for the moment, or what its store did not
/// do, or not say that it did: the request id makes it one request all the same. A rate limit counts for
/// the client, wherever it asks.
fn elsewhere(error: &RpcError) -> bool {
    matches!(error.code, Code::Busy | Code::Stopping | Code::ReadOnly | Code::ClockApart | Code::StoreFailed)
}

/// How long to wait before the next round, at random, so that the clients of a signer that
/// restarted do not all come back in the same moment: full jitter over [`PAUSE`].
fn pause() -> Duration {
    let mut random = [0];
    // Without randomness there is no request id either.
    let _ = getrandom::fill(&mut random);
    let [random] = random;
    part_of_pause(random)
}

fn part_of_pause(random: u8) -> Duration {
    PAUSE.saturating_mul(u32::from(random)) / 255
}

/// A fresh request id from the system's generator.
///
/// # Errors
/// [`RemoteError::Random`] when the generator fails.
pub fn request_id() -> Result<RequestId, RemoteError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| RemoteError::Random)?;
    Ok(RequestId::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_a_signer_that_restarted_come_back_at_moments_spread_over_the_whole_pause() {
        assert_eq!((part_of_pause(0), part_of_pause(255)), (Duration::ZERO, PAUSE));
        assert!((0..255).all(|random| part_of_pause(random) < part_of_pause(random + 1)));
        // Of a thousand clients each tenth of the pause has its share: 100, and 20 is out of reach of chance.
        let mut tenths = [0; 11];
        (0..1_000).for_each(|_| tenths[(pause().as_millis() * 10 / PAUSE.as_millis()) as usize] += 1);
        assert!(tenths[..10].iter().all(|share| *share > 20), "{tenths:?}");
    }
}
