//! Who may call what: one role per client key, disjoint, and nothing by default.

use tkcore::Timestamp;
use tkcore::protocol::{ClientInfo, ClientState, Code, Operation};

/// Whether this client may ask for this operation now. Looked up on every request, before its
/// parameters are parsed.
///
/// # Errors
/// [`Code::NotAllowed`] or [`Code::ClientSuspended`].
pub(crate) fn admit(client: &ClientInfo, operation: Operation, now: Timestamp) -> Result<(), Code> {
    match client.state_at(now) {
        ClientState::Active => {}
        ClientState::Suspended | ClientState::Expired => return Err(Code::ClientSuspended),
    }
    if client.role.covers(operation) { Ok(()) } else { Err(Code::NotAllowed) }
}

#[cfg(test)]
mod tests {
    use tkcore::Name;
    use tkcore::protocol::{ClientKey, MintPower, Narrowing, Permit, Role};

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
                let own = match operation.name() {
                    "fetch-keys" => "keys",
                    "revoke-preview" => "revoke",
                    name => name,
                };
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
}
