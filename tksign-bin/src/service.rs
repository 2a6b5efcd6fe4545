//! Every request of every client goes through [`Service::handle`]: role, parameters, decision,
//! durability, answer, in this order and nowhere else.

use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};
use tkcore::protocol::{
    AuditActor, AuditEvent, Call, ClientInfo, ClientKey, Code, Effect, Operation, Request, RequestId,
    Response, RpcError, StaticKeys, Status, Text, TraceContext, Verify,
};
use tkcore::{AuthorityId, FeedId, Timestamp};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::fence::ReadOnly;
use crate::keys::{Statics, record};
use crate::litestream::{Litestream, replicated};
use crate::memory::{Memory, SignerError, unseal};
use crate::peer::Peer;
use crate::registry;
use crate::roles;
use crate::store::{Op, StoreError, Table};
use crate::tally::Tally;
use crate::writer::{Answer, Payload, Plan, View, Writer};
use crate::{audit, exchange, issue, lists, operate, revoke, verify};

/// What the operator settles once, when the signer starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose third-party caveats count as authentication: only these can be exchanged away.
    pub authentication: Vec<AuthorityId>,
    /// Longest life of a service token, in seconds.
    pub exchange_cap: u32,
    /// How names stand in audit lines.
    pub audit_names: AuditNames,
    /// Where revocations must lie as well before they are acknowledged.
    pub litestream: Option<Arc<Litestream>>,
    /// Which minted tokens are remembered.
    pub registry: Registry,
}

/// Which minted tokens are remembered. A look-up, a list and a look at what hangs from a key know
/// these only; revoking any token by its lineage needs no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registry {
    /// Every one.
    #[default]
    All,
    /// Those with a label, a subject or a parent: what a cluster's store has room for.
    Named,
}

/// How names stand in audit lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditNames {
    /// As keyed hashes: the log says that two lines are about the same tenant, not which.
    #[default]
    Hashed,
    /// As they are.
    Clear,
}

impl Default for Options {
    /// No exchange, service tokens of a day at most, hashed names.
    fn default() -> Self {
        Self {
            authentication: Vec::new(),
            exchange_cap: 86_400,
            audit_names: AuditNames::Hashed,
            litestream: None,
            registry: Registry::All,
        }
    }
}

/// The signer's operations, over an open store.
#[derive(Clone)]
pub struct Service {
    pub(crate) writer: Writer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Arc<Options>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) started: Timestamp,
    pub(crate) read_only: Option<Arc<ReadOnly>>,
    sandbox: Arc<OnceLock<Text>>,
}

/// What a request brings besides its parameters.
#[derive(Clone)]
pub(crate) struct Ask {
    /// Who asks, and may.
    pub(crate) client: Arc<ClientInfo>,
    pub(crate) peer: Peer,
    pub(crate) operation: Operation,
    pub(crate) id: RequestId,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) options: Arc<Options>,
}

impl Ask {
    /// The audit line of this request, to be filled in.
    pub(crate) fn event(&self) -> AuditEvent {
        AuditEvent::new(AuditActor::Client(self.client.key), self.operation.name()).traced(self.trace)
    }

    /// A name as audit lines have it.
    pub(crate) fn name(&self, memory: &Memory, kind: &str, name: &tkcore::Name) -> String {
        match self.options.audit_names {
            AuditNames::Hashed => memory.core.alias(kind, name),
            AuditNames::Clear => name.as_str().to_owned(),
        }
    }
}

/// A decision against it: what the caller hears, and what the audit keeps.
#[derive(Clone)]
pub(crate) struct No {
    pub(crate) error: RpcError,
    pub(crate) event: Option<Box<AuditEvent>>,
}

impl From<RpcError> for No {
    fn from(error: RpcError) -> Self {
        Self { error, event: None }
    }
}

impl From<Code> for No {
    fn from(code: Code) -> Self {
        code.error().into()
    }
}

impl From<SignerError> for No {
    fn from(error: SignerError) -> Self {
        if let SignerError::Store(StoreError::CutOff(why)) = error {
            return Code::ReadOnly.detail(&why).into();
        }
        // It may name the server's files: for its own log, not for clients.
        eprintln!("tksign: {error}");
        let SignerError::Store(error) = error else { return Code::StoreFailed.into() };
        Code::StoreFailed.detail(&error.told()).into()
    }
}

impl From<StoreError> for No {
    fn from(error: StoreError) -> Self {
        SignerError::from(error).into()
    }
}

/// A decision of one operation: what to write, and the answer once it is durable.
pub(crate) type Decided<C> = Result<(Plan, <C as Call>::Answer), No>;

impl Service {
    pub(crate) fn new(
        writer: Writer,
        clock: Arc<dyn Clock>,
        options: Options,
        tally: Arc<Tally>,
        read_only: Option<Arc<ReadOnly>>,
    ) -> Self {
        let (started, options, sandbox) = (clock.now(), Arc::new(options), Arc::default());
        Self { writer, clock, options, tally, started, read_only, sandbox }
    }

    /// The feed this signer publishes.
    #[must_use]
    pub fn feed_id(&self) -> FeedId {
        self.writer.read(|memory| memory.core.feed)
    }

    /// The public halves of the static keys that clients may have pinned.
    #[must_use]
    pub fn static_keys(&self) -> StaticKeys {
        self.writer.read(|memory| memory.core.static_publics())
    }

    /// Their private halves, for the sessions.
    #[must_use]
    pub fn statics(&self) -> Statics {
        self.writer.read(|memory| memory.core.statics().clone())
    }

    /// Has `status` say what the serving process denies itself.
    pub fn say_sandbox(&self, report: &crate::host::Report) {
        let _ = self.sandbox.set(Text::lossy(&report.to_string()));
    }

    /// Answers one request of one client, whatever it holds: the payload of an answer or of a
    /// refusal. `caller` is who the session proved it to be.
    pub async fn handle(&self, caller: ClientKey, peer: Peer, request: &[u8]) -> Payload {
        let answer = self.answer(caller, peer, request).await;
        answer.unwrap_or_else(|error| Zeroizing::new(Response::error(&error)))
    }

    /// Finishes what waits, publishes what is not yet published, and closes the store.
    pub async fn stop(&self) {
        self.writer.stop().await;
    }

    async fn answer(&self, caller: ClientKey, peer: Peer, request: &[u8]) -> Answer {
        let now = self.clock.now();
        let found = self.writer.read(|memory| {
            let here = peer == Peer::Control || !memory.local.contains(&caller);
            memory.clients.get(&caller).filter(|_| here).map(Arc::clone)
        });
        let Some(client) = found else {
            // One constant answer, and no line: a stranger gets no disk to fill.
            return Err(Code::NotAllowed.error());
        };
        let unknown = AuditEvent::new(AuditActor::Client(caller), "unknown");
        let request = match Request::decode(request) {
            Ok(request) => request,
            Err(error) => {
                return self.refuse(caller, peer, unknown, Code::BadParameters.detail(error.0)).await;
            }
        };
        let Some(operation) = Operation::from_code(request.operation) else {
            let event = unknown.with("code", request.operation).traced(request.trace);
            return self.refuse(caller, peer, event, Code::UnknownOperation.error()).await;
        };
        let (id, trace, options) = (request.id, request.trace, Arc::clone(&self.options));
        let ask = Ask { client, peer, operation, id, trace, options };
        if let Err(code) = roles::admit(&ask.client, operation, now) {
            return self.refuse(caller, peer, ask.event(), code.error()).await;
        }
        if let Some(held) = &self.read_only {
            // Not even a line is written.
            held.admits(&ask.client, ask.peer, operation).map_err(|code| code.detail(held.why()))?;
        }
        let (params, replica) = (request.params, self.options.litestream.as_deref());
        match operation {
            Operation::Verify => match Verify::params(params) {
                Ok(asked) => verify::answer(self, &ask.client, &asked),
                Err(error) => {
                    self.refuse(caller, peer, ask.event(), Code::BadParameters.detail(error.0)).await
                }
            },
            Operation::Mint => self.decide(ask, params, issue::mint).await,
            Operation::Revoke => replicated(self.decide(ask, params, revoke::revoke).await, replica).await,
            Operation::RevokePresented => {
                replicated(self.decide(ask, params, revoke::revoke_presented).await, replica).await
            }
            Operation::Exchange => self.decide(ask, params, exchange::exchange).await,
            Operation::RevokePreview => self.decide(ask, params, revoke::preview).await,
            Operation::FetchKeys => self.decide(ask, params, lists::delegated).await,
            Operation::Status => {
                let (started, held, sandbox) =
                    (self.started, self.read_only.clone(), self.sandbox.get().cloned());
                let status = move |view: &View<'_>, _: &Ask, _: Status| {
                    lists::status(view, started, held.as_deref(), sandbox.clone())
                };
                self.decide(ask, params, status).await
            }
            Operation::KeyCreate => self.decide(ask, params, operate::key_create).await,
            Operation::KeyList => self.decide(ask, params, lists::keys).await,
            Operation::KeyRotate => self.decide(ask, params, operate::key_rotate).await,
            Operation::KeyRetire => self.decide(ask, params, operate::key_retire).await,
            Operation::StaticRotate => self.decide(ask, params, operate::static_rotate).await,
            Operation::StaticRetire => self.decide(ask, params, operate::static_retire).await,
            Operation::PublicationPrepare => self.decide(ask, params, operate::publication_prepare).await,
            Operation::PublicationRotate => self.decide(ask, params, operate::publication_rotate).await,
            Operation::ClientAdd => self.decide(ask, params, operate::client_add).await,
            Operation::ClientList => self.decide(ask, params, lists::clients).await,
            Operation::ClientRemove => self.decide(ask, params, operate::client_remove).await,
            Operation::ClientConfirm => self.decide(ask, params, operate::client_confirm).await,
            Operation::TokenList => self.decide(ask, params, lists::tokens).await,
            Operation::TokenShow => self.decide(ask, params, lists::token).await,
            Operation::AuditTail => self.decide(ask, params, lists::audit).await,
            Operation::AuditPrune => self.decide(ask, params, audit::prune).await,
            Operation::Rewrap => self.decide(ask, params, operate::rewrap).await,
            // `roles::admit` lets no operation through that is not named there and here.
            _ => Err(Code::UnknownOperation.error()),
        }
    }

    /// Writes the line of a refusal, then gives it. A refusal that cannot be written is told
    /// as the store's failure: nothing goes unrecorded. Of many the rest is summed up.
    async fn refuse(&self, caller: ClientKey, peer: Peer, event: AuditEvent, error: RpcError) -> Answer {
        if !self.tally.has_line(caller, self.clock.monotonic()) {
            return Err(error);
        }
        let declined = No { event: Some(Box::new(event.refused(error.code))), error };
        self.writer.submit(peer, move |_| Err(declined.clone())).await
    }

    /// An operation decided by the writer, in the order of the writes; one that changes
    /// something at most once per request id.
    async fn decide<C: Call + Send + 'static>(
        &self,
        ask: Ask,
        params: &[u8],
        decide: impl Fn(&View<'_>, &Ask, C) -> Decided<C> + Send + 'static,
    ) -> Answer {
        let digest = digest(&ask, params);
        let params = Zeroizing::new(params.to_vec());
        let decide = move |view: &View<'_>, ask: &mut Ask| {
            // Once more inside, since the client may have been removed while the request waited.
            let client = view.memory.clients.get(&ask.client.key).ok_or(Code::NotAllowed)?;
            roles::admit(client, ask.operation, view.now)?;
            ask.client = Arc::clone(client);
            // A new secret is in force from its change on, so that answer cannot be kept sealed
            // with the old one; repeating the request finds the work done.
            let keeps = ask.operation.effect() == Effect::Changes && ask.operation != Operation::Rewrap;
            if keeps && let Some(answer) = kept(view, ask, &digest)? {
                return Ok(Plan { answer, ..Plan::default() });
            }
            let params = C::params(&params).map_err(|error| Code::BadParameters.detail(error.0))?;
            let (mut plan, answer) = decide(view, ask, params)?;
            plan.answer = Zeroizing::new(C::answer(&answer).map_err(|_| Code::AnswerTooLarge.error())?);
            if keeps {
                keep(view, ask, &digest, &mut plan);
            }
            Ok(plan)
        };
        let (tally, now, peer) = (Arc::clone(&self.tally), self.clock.monotonic(), ask.peer);
        let declined = move |view: &View<'_>| {
            let mut ask = ask.clone();
            decide(view, &mut ask).map_err(|No { error, event }| {
                let event = || event.map_or_else(|| ask.event(), |event| *event).refused(error.code);
                let event = tally.has_line(ask.client.key, now).then(|| Box::new(event()));
                No { event, error }
            })
        };
        self.writer.submit(peer, declined).await
    }
}

/// Binds a kept answer to what was asked: the same id with other parameters is refused.
fn digest(ask: &Ask, params: &[u8]) -> [u8; 32] {
    let code = ask.operation.code().to_be_bytes();
    Sha256::new().chain_update(b"tk-request-v1").chain_update(code).chain_update(params).finalize().into()
}

fn answer_key(memory: &Memory, ask: &Ask) -> Vec<u8> {
    let client = memory.core.lookup("client", &[ask.client.key.as_bytes()]);
    [&client[..], ask.id.as_bytes()].concat()
}

/// The kept answer of a request that is repeated.
fn kept(view: &View<'_>, ask: &Ask, digest: &[u8; 32]) -> Result<Option<Payload>, No> {
    let key = answer_key(view.memory, ask);
    let Some(sealed) = view.store.get(Table::Idempotency, &key)? else { return Ok(None) };
    let plain = unseal(&view.memory.kek, Table::Idempotency, &key, &sealed)?;
    let bad = crate::memory::bad(Table::Idempotency);
    let mut reader = record(&plain).map_err(&bad)?;
    let then: [u8; 32] = reader.array().map_err(&bad)?;
    if then != *digest {
        return Err(Code::IdempotencyConflict.into());
    }
    Ok(Some(Zeroizing::new(reader.rest().to_vec())))
}

fn keep(view: &View<'_>, ask: &Ask, digest: &[u8; 32], plan: &mut Plan) {
    let key = answer_key(view.memory, ask);
    let plain = Zeroizing::new([&[1], &digest[..], &plan.answer].concat());
    let sealed = view.memory.kek.seal(Table::Idempotency, &key, &plain);
    let until = view.now.saturating_add(std::time::Duration::from_secs(Operation::KEPT_SECONDS));
    plan.ops.push(registry::forget_answer(until, &key));
    plan.ops.push(Op::Create(Table::Idempotency, key, sealed));
}

impl crate::http::Authority for Service {
    fn knows(&self, client: &ClientKey) -> bool {
        self.writer.read(|memory| memory.clients.contains_key(client))
    }

    async fn handle(&self, client: ClientKey, peer: Peer, request: &[u8]) -> Payload {
        Self::handle(self, client, peer, request).await
    }
}

#[cfg(test)]
mod tests {
    use crate::store::StoreError;

    use super::*;

    #[test]
    fn clients_hear_no_path_of_the_server() {
        let path = || "/srv/tksign".into();
        let broken = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        for error in [
            StoreError::Missing(path()),
            StoreError::Exists(path()),
            StoreError::Held(path()),
            StoreError::Foreign(path()),
            StoreError::Newer(9, 1),
            StoreError::Io(path(), broken()),
            StoreError::Full,
        ] {
            let told = No::from(error).error;
            assert_eq!(told.code, Code::StoreFailed);
            assert!(!told.detail.as_str().contains("/srv"), "{told}");
        }
        for error in [SignerError::WrongSecret, SignerError::Feed("/srv/tksign".to_owned())] {
            assert_eq!(No::from(error).error.detail.as_str(), "");
        }
    }
}
