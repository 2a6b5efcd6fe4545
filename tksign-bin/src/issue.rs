//! `Mint`: what may become a token, decided without touching a disk.

use tkcore::protocol::{Code, Mint, MintAnswer, MintCaveat, Role, SecretBytes, TokenInfo};
use tkcore::revocation::{Gap, Query, Revocations as _, Status};
use tkcore::{
    BranchId, CaveatKey, Identifier, KeyClass, LineageId, Name, NewCaveat, ServiceToken, Subject, Timestamp,
    mint_with,
};

use crate::keys::{KeyRecord, Purpose};
use crate::memory::{Effect, Memory};
use crate::publish;
use crate::random;
use crate::registry::{self, TokenRecord};
use crate::service::{Ask, Decided, No, Registry};
use crate::writer::{Plan, View};

/// What a client hears that names no key.
const NO_KEY: &str = "no key for this tenant, audience and class: `tksign keys create` makes one";

/// Decides a mint.
pub(crate) fn mint(view: &View<'_>, ask: &Ask, asked: Mint) -> Decided<Mint> {
    let Role::Mint(power) = &ask.client.role else { return Err(Code::NotAllowed.into()) };
    let memory = view.memory;
    let purpose = Purpose {
        tenant: asked.tenant.clone(),
        audience: asked.audience.clone(),
        delegable: asked.class == KeyClass::Delegable,
    };
    let record = memory.minting(&purpose).ok_or_else(|| No::from(Code::NotFound.detail(NO_KEY)))?;
    let at = mint_time(view, record, asked.subject.as_ref())?;
    let expiry = asked.expiry.resolve(view.now).map_err(No::from)?;
    // A part of a second is let go: what is counted from now ends with a whole one.
    let lifetime = expiry.map(|expiry| expiry.saturating_since(at).as_secs());
    power.admits(&asked, lifetime)?;
    let caveats: Vec<NewCaveat> = asked
        .caveats
        .iter()
        .map(|caveat| match caveat {
            MintCaveat::FirstParty(text) => NewCaveat::first_party(&text.0),
            MintCaveat::ThirdParty { location, ticket, key } => {
                NewCaveat::third_party(location.as_str(), &ticket.0, &CaveatKey::from_bytes(*key.expose()))
            }
        })
        .collect();
    let Mint { subject, label, .. } = asked;
    let new = New { record, at, expiry, subject, label, parent: None, branches: Vec::new() };
    let (plan, token, lineage) = new.issue(memory, ask, &caveats)?;
    Ok((plan, MintAnswer { token, lineage, key: record.key, expiry }))
}

/// What a new token is, before it has bytes.
pub(crate) struct New<'a> {
    pub(crate) record: &'a KeyRecord,
    pub(crate) at: Timestamp,
    pub(crate) expiry: Option<Timestamp>,
    pub(crate) subject: Option<Subject>,
    pub(crate) label: Option<Name>,
    pub(crate) parent: Option<LineageId>,
    /// Branches that the parent was presented at or below.
    pub(crate) branches: Vec<BranchId>,
}

impl New<'_> {
    /// The token, and what is remembered of it.
    pub(crate) fn issue(
        self,
        memory: &Memory,
        ask: &Ask,
        caveats: &[NewCaveat],
    ) -> Result<(Plan, SecretBytes, LineageId), No> {
        let Self { record, at, expiry, subject, label, parent, branches } = self;
        let root = record.root().ok_or(No::from(Code::UnknownKey))?;
        let too_many = |_| No::from(Code::BadParameters.detail("more than 255 caveats"));
        let lineage = LineageId::new(random::bytes(), at);
        let identifier = Identifier {
            caveats_at_mint: u8::try_from(caveats.len()).map_err(too_many)?,
            key: record.key,
            lineage,
            expiry,
            service: parent.map(|parent| ServiceToken { parent }),
            subject: subject.as_ref().map(Name::as_str),
        };
        let token = mint_with(&identifier, caveats, &root, random::bytes)
            .map_err(|error| No::from(Code::BadParameters.detail(&error.to_string())))?;
        let event = ask
            .event()
            .with("lineage", lineage)
            .maybe("parent", parent)
            .with("key", record.key)
            .with("tenant", ask.name(memory, "tenant", &record.tenant))
            .maybe("subject", subject.as_ref().map(|subject| ask.name(memory, "subject", subject)))
            .maybe("expiry", expiry)
            .with("caveats", caveats.len());
        let (key, tenant) = (record.key, record.tenant.clone());
        let (revoked, last_seen) = (None, None);
        let info = TokenInfo { lineage, key, tenant, subject, label, expiry, parent, revoked, last_seen };
        let is_named = info.label.is_some() || info.subject.is_some() || info.parent.is_some();
        let mut ops = Vec::new();
        if is_named || ask.options.registry == Registry::All {
            ops = registry::register(memory, &TokenRecord { info, branches });
        }
        // In the same transaction, so that no restart and no clock set back mints below it.
        ops.push(memory.put_last_mint(at));
        let plan = Plan { ops, effects: vec![Effect::Minted(at)], events: vec![event], ..Plan::default() };
        Ok((plan, SecretBytes::new(token.as_token().as_v2().to_vec()), lineage))
    }
}

/// The mint time: the largest of the clock, the last mint time and the highest floor in scope.
pub(crate) fn mint_time(
    view: &View<'_>,
    record: &KeyRecord,
    subject: Option<&Subject>,
) -> Result<Timestamp, No> {
    let memory = view.memory;
    let facts = record.facts(&memory.core, subject);
    let floor = memory.revoked.highest_floor(record.key, facts.tenant_row, facts.subject_row);
    let at = view.now.max(memory.last_mint).max(floor.unwrap_or(Timestamp::EPOCH));
    // Verifiers refuse what was issued further ahead; such a token would be dead on arrival.
    if publish::ahead(at, view.now) {
        return Err(Code::ClockApart
            .detail("the clock is behind the last mint or a floor: set it right")
            .into());
    }
    let query = Query {
        lineage: LineageId::new([0; 10], at),
        issued_at: Some(at),
        parent: None,
        key: Some(record.key),
        tenant: Some(facts.tenant_row),
        subject: facts.subject_row,
        branches: &[],
    };
    match memory.revoked.status(&query) {
        // No branch of it can be revoked before it exists.
        Status::Live | Status::Unknown(Gap::BranchesNotCollected) => Ok(at),
        Status::Revoked(rule) => Err(Code::Conflict
            .detail(&format!("revoked for good by its {rule}: rotate the key first"))
            .into()),
        Status::Unknown(Gap::Stale | Gap::NoIssueTime) => Err(Code::Internal.into()),
    }
}
