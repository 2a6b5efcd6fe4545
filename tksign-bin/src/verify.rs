//! `Verify`: facts about a lineage for services that hold no key, answered from memory.

use std::sync::Arc;

use tkcore::protocol::{Call as _, ClientInfo, Code, Role, RpcError, SecretBytes, Verify, VerifyAnswer};
use tkcore::{
    Basis, BranchId, BranchIds, Budget, Error, Identifier, KeyId, LineageFacts, Presented, Scratch,
    Timestamp, Token, Verified, limits,
};
use zeroize::Zeroizing;

use crate::keys::{Core, KeyRecord};
use crate::memory::Memory;
use crate::service::Service;
use crate::writer::Answer;

/// Answers a verify, and counts it.
pub(crate) fn answer(service: &Service, client: &ClientInfo, asked: &Verify) -> Answer {
    let now = service.clock.now();
    let mut lineage = None;
    let result = judge(service, client, asked, now, &mut lineage);
    service.tally.count(client.key, lineage, result.is_ok(), now);
    Verify::answer(&result?).map(Zeroizing::new).map_err(|_| Code::AnswerTooLarge.error())
}

fn judge(
    service: &Service,
    client: &ClientInfo,
    asked: &Verify,
    now: Timestamp,
    lineage: &mut Option<tkcore::LineageId>,
) -> Result<VerifyAnswer, RpcError> {
    let Role::Verify(audience) = &client.role else { return Err(Code::NotAllowed.error()) };
    // The memory is looked at before and after the chain is rolled, and not held meanwhile.
    let find = |key| {
        service.writer.read(|memory| Some((Arc::clone(memory.keys.get(&key)?), Arc::clone(&memory.core))))
    };
    authentic(find, &asked.root, &asked.discharges, |held| {
        // Only what was made for everybody, or for this very client's audience: a service that
        // holds a delegated key could otherwise make tokens that others accept.
        if held.facts.audience.is_some() && held.facts.audience != *audience {
            return Err(Code::WrongAudience.error());
        }
        *lineage = Some(held.identifier.lineage);
        let stands = |memory: &Memory| held.verified.stands(now, &memory.revoked).map(|()| memory.position);
        let position = service.writer.read(stands).map_err(|error| RpcError::from(&error))?;
        let earlier = held.branches.split_last().map_or(&[][..], |(_, earlier)| earlier);
        Ok(VerifyAnswer {
            key: held.identifier.key,
            facts: held.facts.clone(),
            branches: earlier.to_vec(),
            position,
        })
    })
}

/// A token whose chain and discharges hold under one of our records.
pub(crate) struct Held<'a> {
    pub(crate) verified: &'a Verified<'a>,
    pub(crate) identifier: &'a Identifier<'a>,
    pub(crate) record: &'a Arc<KeyRecord>,
    pub(crate) facts: &'a LineageFacts,
    /// Of every chain point, the token's own last.
    pub(crate) branches: &'a [BranchId],
}

/// Verifies a token with its discharges under the record that it names, and hands it on.
pub(crate) fn authentic<T, E: From<RpcError>>(
    find: impl Fn(KeyId) -> Option<(Arc<KeyRecord>, Arc<Core>)>,
    root: &SecretBytes,
    discharges: &[SecretBytes],
    then: impl FnOnce(&Held<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let malformed = |error: tkcore::Malformed| E::from(RpcError::from(&Error::from(error)));
    if discharges.len() > limits::DISCHARGES {
        return Err(Code::TokenMalformed.detail("too many discharges").into());
    }
    let root = Token::parse(root.expose()).map_err(malformed)?;
    let discharges: Result<Vec<Token<'_>>, _> =
        discharges.iter().map(|discharge| Token::parse(discharge.expose())).collect();
    let discharges = discharges.map_err(malformed)?;
    let presented = Presented::new(root, &discharges).map_err(malformed)?;
    let identifier = presented.claimed_identifier().map_err(malformed)?;
    let unknown = || E::from(Code::UnknownKey.error());
    let (record, core) = find(identifier.key).ok_or_else(unknown)?;
    let key = record.root().ok_or_else(unknown)?;
    let subject = identifier.subject.map(tkcore::Name::new).transpose();
    let subject = subject.map_err(|_| E::from(Code::TokenMalformed.error()))?;
    let facts = record.facts(&core, subject.as_ref());
    let mut scratch = Scratch::new();
    let mut budget = Budget::new(limits::VERIFY_BUDGET);
    let verified =
        tkcore::verify(presented, Basis::Root(&key), &facts, BranchIds::Collect, &mut scratch, &mut budget)
            .map_err(|error| E::from(RpcError::from(&error)))?;
    let branches = verified.branch_ids().unwrap_or(&[]);
    then(&Held { verified: &verified, identifier: &identifier, record: &record, facts: &facts, branches })
}

/// The same for the token's own chain alone, without its discharges: only for killing it.
pub(crate) fn chain<T>(
    memory: &Memory,
    token: &SecretBytes,
    then: impl FnOnce(&KeyRecord, &Identifier<'_>, &[BranchId]) -> Result<T, RpcError>,
) -> Result<T, RpcError> {
    let token = Token::parse(token.expose()).map_err(|error| RpcError::from(&Error::from(error)))?;
    let identifier = token.claimed_identifier().map_err(|error| RpcError::from(&Error::from(error)))?;
    let record = memory.keys.get(&identifier.key).ok_or_else(|| Code::UnknownKey.error())?;
    let key = record.root().ok_or_else(|| Code::UnknownKey.error())?;
    let branches = tkcore::branches_of_own_chain(&token, &key, &mut Budget::new(limits::VERIFY_BUDGET))
        .map_err(|error| RpcError::from(&error))?;
    then(record, &identifier, &branches)
}
