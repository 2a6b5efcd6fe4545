//! Who may call what: one role per client key, disjoint, and nothing by default.

use tkcore::Timestamp;
use tkcore::protocol::{ClientInfo, ClientState, Code, Mint, Narrowing, Operation, Role};

/// Whether this client may ask for this operation now. Looked up on every request, before its
/// parameters are parsed.
///
/// # Errors
/// [`Code::NotAllowed`] or [`Code::ClientSuspended`].
pub(crate) fn admit(client: &ClientInfo, operation: Operation, now: Timestamp) -> Result<(), Code> {
    match state(client, now) {
        ClientState::Active => {}
        ClientState::Suspended | ClientState::Expired => return Err(Code::ClientSuspended),
    }
    if covers(&client.role, operation) { Ok(()) } else { Err(Code::NotAllowed) }
}

/// A client's state at a time: what is stored, and its expiry.
pub(crate) fn state(client: &ClientInfo, now: Timestamp) -> ClientState {
    match client.expiry {
        Some(expiry) if now >= expiry => ClientState::Expired,
        Some(_) | None => client.state,
    }
}

fn covers(role: &Role, operation: Operation) -> bool {
    match operation {
        Operation::Verify => matches!(role, Role::Verify(_)),
        Operation::Mint => matches!(role, Role::Mint(_)),
        Operation::Revoke => matches!(role, Role::Revoke),
        Operation::RevokePresented => matches!(role, Role::RevokePresented),
        Operation::Exchange => matches!(role, Role::Exchange),
        Operation::FetchKeys => matches!(role, Role::Keys(_)),
        Operation::Status
        | Operation::KeyCreate
        | Operation::KeyList
        | Operation::KeyRotate
        | Operation::KeyRetire
        | Operation::PublicationPrepare
        | Operation::PublicationRotate
        | Operation::ClientAdd
        | Operation::ClientList
        | Operation::ClientRemove
        | Operation::ClientConfirm
        | Operation::TokenList
        | Operation::TokenShow
        | Operation::AuditTail
        | Operation::Rewrap => matches!(role, Role::Operator),
        // An operation that this version does not know belongs to no role.
        _ => false,
    }
}

/// Whether a mint stays within what its client is narrowed to. `lifetime` is in seconds,
/// `None` for a token that never expires.
///
/// # Errors
/// Says which bound it breaks.
pub(crate) fn within(
    narrowing: &Narrowing,
    mint: &Mint,
    caveats: &[&[u8]],
    lifetime: Option<u64>,
) -> Result<(), &'static str> {
    if let Some(tenants) = &narrowing.tenants
        && !tenants.contains(&mint.tenant)
    {
        return Err("another tenant");
    }
    if let Some(most) = narrowing.max_lifetime
        && lifetime.is_none_or(|lifetime| lifetime > most)
    {
        return Err("a longer life");
    }
    for required in &narrowing.required_caveats {
        if !caveats.contains(&required.0.as_slice()) {
            return Err("a required caveat is missing");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tkcore::protocol::{Bytes, ClientKey, Expiry, MintPower, Permit};
    use tkcore::{KeyClass, Name};

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds).unwrap()
    }

    fn client(role: Role) -> ClientInfo {
        ClientInfo {
            key: ClientKey::from_bytes([1; 32]),
            name: name("client"),
            role,
            state: ClientState::Active,
            added: at(1),
            expiry: None,
        }
    }

    fn roles() -> Vec<Role> {
        let power = MintPower {
            narrowing: Narrowing::default(),
            unrestricted: Permit::Given,
            never_expires: Permit::Given,
        };
        vec![
            Role::Verify(None),
            Role::Mint(power),
            Role::Revoke,
            Role::RevokePresented,
            Role::Exchange,
            Role::Keys(name("a")),
            Role::Operator,
        ]
    }

    #[test]
    fn every_operation_belongs_to_exactly_one_role() {
        for operation in Operation::ALL {
            let allowed: Vec<&str> = roles()
                .iter()
                .filter(|role| admit(&client((*role).clone()), *operation, at(5)).is_ok())
                .map(Role::name)
                .collect();
            assert_eq!(allowed.len(), 1, "{operation}: {allowed:?}");
            if operation.code() < 0x0100 {
                let own = if operation.name() == "fetch-keys" { "keys" } else { operation.name() };
                assert_eq!(allowed, [own]);
            } else {
                assert_eq!(allowed, ["operator"]);
            }
        }
    }

    #[test]
    fn a_suspended_or_expired_client_has_no_role() {
        let suspended = ClientInfo { state: ClientState::Suspended, ..client(Role::Revoke) };
        assert_eq!(admit(&suspended, Operation::Revoke, at(5)), Err(Code::ClientSuspended));
        let expiring = ClientInfo { expiry: Some(at(5)), ..client(Role::Revoke) };
        assert!(admit(&expiring, Operation::Revoke, at(4)).is_ok());
        assert_eq!(admit(&expiring, Operation::Revoke, at(5)), Err(Code::ClientSuspended));
    }

    #[test]
    fn a_mint_is_narrowed_by_tenant_life_and_caveats() {
        let narrowing = Narrowing {
            tenants: Some(vec![name("acme")]),
            max_lifetime: Some(60),
            required_caveats: vec![Bytes(b"action = read".to_vec())],
        };
        let mint = |tenant| Mint {
            tenant: name(tenant),
            audience: None,
            class: KeyClass::Ordinary,
            subject: None,
            label: None,
            expiry: Expiry::Never,
            caveats: vec![],
            unrestricted: Permit::Withheld,
            never_expires: Permit::Withheld,
        };
        let read: &[&[u8]] = &[b"action = read"];
        assert_eq!(within(&narrowing, &mint("acme"), read, Some(60)), Ok(()));
        assert!(within(&narrowing, &mint("acme"), read, Some(61)).is_err());
        assert!(within(&narrowing, &mint("acme"), read, None).is_err());
        assert!(within(&narrowing, &mint("other"), read, Some(60)).is_err());
        assert!(within(&narrowing, &mint("acme"), &[b"action = read,write"], Some(60)).is_err());
        let nobody = Narrowing { tenants: Some(vec![]), ..Narrowing::default() };
        assert!(within(&nobody, &mint("acme"), &[], Some(1)).is_err());
        assert_eq!(within(&Narrowing::default(), &mint("any"), &[], None), Ok(()));
    }
}
