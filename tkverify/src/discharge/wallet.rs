use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tkcore::{DischargeFault, Error, Party, Timestamp, TokenBuf, bind, limits};

use super::client::DischargeClient;
use super::error::DischargeError;
use super::flow::end_of;

/// A token and the discharges that a holder has for it: gets what is missing, renews what is
/// about to end, and writes the `Authorization` value.
///
/// Discharges are kept unbound, so that the token can be attenuated and they still serve.
pub struct Wallet {
    token: TokenBuf,
    /// By ticket.
    held: BTreeMap<Vec<u8>, Held>,
}

struct Held {
    discharge: TokenBuf,
    since: Timestamp,
    end: Timestamp,
}

/// What a refresh did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refreshed {
    /// Discharges fetched, the renewed ones included.
    pub fetched: usize,
    /// When to call again; `None` when no discharge is held.
    pub next: Option<Timestamp>,
}

impl Wallet {
    /// For one token; no discharges yet.
    #[must_use]
    pub const fn new(token: TokenBuf) -> Self {
        Self { token, held: BTreeMap::new() }
    }

    /// The token.
    #[must_use]
    pub const fn token(&self) -> &TokenBuf {
        &self.token
    }

    /// Replaces the token by one attenuated from it; the discharges stay.
    pub fn set_token(&mut self, token: TokenBuf) {
        self.token = token;
    }

    /// Gets every discharge that is missing or in the last fifth of its life, nested ones too.
    /// Call it before each request, or at the time the last call named: an old discharge is
    /// replaced only once the new one is there, so requests in between still carry a good one.
    ///
    /// # Errors
    /// The first [`DischargeError`] for a discharge without which there is no presentation. A
    /// failed *renewal* is no error as long as the old one lives; it is tried again next time.
    pub fn refresh(&mut self, client: &DischargeClient) -> Result<Refreshed, DischargeError> {
        let now = client.now();
        self.held.retain(|_, held| held.end > now);
        let mut fetched = 0usize;
        let mut wanted = asks(&self.token, 0);
        let mut needed: Vec<Vec<u8>> = Vec::new();
        while let Some(ask) = wanted.pop() {
            if ask.depth > limits::DISCHARGE_DEPTH || needed.len() >= limits::DISCHARGES {
                return Err(DischargeError::TooMany);
            }
            let due = self.held.get(&ask.ticket).is_none_or(|held| now >= held.renew_at());
            if due {
                match client.discharge(&ask.ticket, ask.location.as_deref()) {
                    Ok(discharge) => {
                        let end =
                            end_of(&discharge).ok_or(DischargeError::WrongDischarge("it has no end"))?;
                        fetched = fetched.saturating_add(1);
                        self.held.insert(ask.ticket.clone(), Held { discharge, since: now, end });
                    }
                    Err(_) if self.held.contains_key(&ask.ticket) => {}
                    Err(error) => return Err(error),
                }
            }
            if let Some(held) = self.held.get(&ask.ticket) {
                wanted.extend(asks(&held.discharge, ask.depth));
            }
            needed.push(ask.ticket);
        }
        self.held.retain(|ticket, _| needed.contains(ticket));
        Ok(Refreshed { fetched, next: self.held.values().map(Held::renew_at).min() })
    }

    /// The `Authorization` value: `Bearer tk1_…,td1_…`, every discharge bound to the token.
    ///
    /// # Errors
    /// [`DischargeFault::Missing`] names the party whose discharge is not held or has ended: call
    /// [`Wallet::refresh`].
    pub fn authorization(&self, now: Timestamp) -> Result<String, Error> {
        let mut text = format!("Bearer {}", self.token.to_text().as_str());
        let mut wanted = asks(&self.token, 0);
        while let Some(ask) = wanted.pop() {
            let held = self.held.get(&ask.ticket).filter(|held| held.end > now).ok_or_else(|| {
                DischargeFault::Missing(Party::of(&ask.ticket, ask.location.as_deref().map(str::as_bytes)))
            })?;
            if ask.depth > limits::DISCHARGE_DEPTH {
                return Err(DischargeFault::TooDeep.into());
            }
            let bound = bind(&self.token.as_token(), &held.discharge.as_token())?;
            text.push(',');
            text.push_str(bound.to_discharge_text().as_str());
            wanted.extend(asks(&held.discharge, ask.depth));
        }
        Ok(text)
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wallet({:?}, {} discharges)", self.token, self.held.len())
    }
}

impl Held {
    /// With a fifth of its life left.
    fn renew_at(&self) -> Timestamp {
        let life: Duration = self.end.saturating_since(self.since);
        self.end.saturating_sub(life / 5)
    }
}

struct Ask {
    ticket: Vec<u8>,
    location: Option<String>,
    depth: usize,
}

/// The third-party caveats of a token that stands at `depth`.
fn asks(token: &TokenBuf, depth: usize) -> Vec<Ask> {
    let token = token.as_token();
    let untrusted = token.describe_untrusted();
    let third_party = untrusted.caveats().filter(|caveat| caveat.third_party);
    third_party
        .map(|caveat| Ask {
            ticket: caveat.id.to_vec(),
            location: caveat.location.map(str::to_owned),
            depth: depth.saturating_add(1),
        })
        .collect()
}
