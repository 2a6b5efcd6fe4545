//! A login is exchanged for a service token: no login any more, and locked to one workload.
//!
//! ```text
//! service-token-example issue --trust trust.json --client-key issuer.key --tenant acme \
//!   --subject user:17 --action read --authority HEX --authority-key HEX > token
//! service-token-example exchange --trust trust.json --client-key worker.key --authority HEX \
//!   --login http://127.0.0.1:8081/v1/discharge --credential credential \
//!   --workload 'host = worker7' < token > service-token
//! ```
//!
//! `issue` mints a token that is good only beside a fresh word of the login service (role `mint`).
//! `exchange` runs where a person's job runs on without the person: it fetches that word once, and
//! has the signer make a child that needs none, carries every other caveat, adds the workload's,
//! dies with its parent, and cannot be exchanged again (role `exchange`; the signer is started with
//! `--authentication HEX`). Every command, from the keys on: `examples/README.md`.

use std::error::Error as StdError;
use std::process::ExitCode;

use options::Options;
use tkcore::protocol::{Bytes, Exchange, Expiry, Mint, MintCaveat, Permit, SecretBytes, SecretKey, Text};
use tkcore::{
    AuthorityId, AuthorityPublic, Authorization, CaveatKey, HeaderBuf, KeyClass, Name, SealTo, TextForms,
    TokenBuf, seal_ticket,
};
use tkverify::discharge::{Authority, DischargeClient, Wallet};
use tkverify::remote::request_id;
use tkverify::{ClientKey, Clock as _, Remote, SystemClock, Trust};

/// How long a token that needs a login lives: as long as its holder may go on logging in.
const LIFE: u32 = 8 * 3600;

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some("issue") => issue(),
        Some("exchange") => exchange(),
        _ => Err("usage: service-token-example issue|exchange --trust FILE --client-key FILE …".into()),
    };
    match done {
        Ok(token) => {
            println!("{}", token.to_text().as_str());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("service-token-example: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<TokenBuf, Box<dyn StdError>>;

fn issue() -> Outcome {
    let known = ["trust", "client-key", "tenant", "subject", "action", "authority", "authority-key"];
    let options = Options::read(2, &known)?;
    let subject = options.need("subject")?;
    // The key of the discharge's chain goes sealed to the login service and sealed into the token;
    // this program forgets it.
    let (caveat_key, ephemeral) = (random()?, random()?);
    let public = AuthorityPublic::from_bytes(options.hex("authority-key")?);
    let ticket = seal_ticket(
        AuthorityId::from_bytes(options.hex("authority")?),
        &SealTo::Public { key: &public, ephemeral: &ephemeral },
        &CaveatKey::from_bytes(caveat_key),
        &[&format!("subject = {subject}")],
    )?;
    let action = format!("action = {}", options.need("action")?);
    let login = MintCaveat::ThirdParty {
        location: Text::default(),
        ticket: Bytes(ticket),
        key: SecretKey::new(caveat_key),
    };
    let minted = signer(&options)?.mint(
        &Mint {
            tenant: Name::new(options.need("tenant")?)?,
            audience: None,
            class: KeyClass::Ordinary,
            subject: Some(Name::new(subject)?),
            label: None,
            expiry: Expiry::After(LIFE),
            caveats: vec![MintCaveat::FirstParty(Bytes(action.into_bytes())), login],
            unrestricted: Permit::Withheld,
            never_expires: Permit::Withheld,
        },
        request_id()?,
    )?;
    Ok(TokenBuf::from_v2(minted.token.expose().to_vec())?)
}

fn exchange() -> Outcome {
    let known = ["trust", "client-key", "authority", "login", "credential", "workload"];
    let options = Options::read(2, &known)?;
    let (_, token) = TokenBuf::from_text(&options::input()?)?;

    // The login service's word, bound to the token.
    let credential = std::fs::read_to_string(options.need("credential")?)?;
    let login =
        Authority::new(options.need("login")?)?.with_credential(format!("Bearer {}", credential.trim()));
    let mut wallet = Wallet::new(token);
    wallet.refresh(
        &DischargeClient::new().with_authority(AuthorityId::from_bytes(options.hex("authority")?), login),
    )?;
    let header = wallet.authorization(SystemClock::new().read().wall)?;

    let mut buf = HeaderBuf::new();
    let header = Authorization::parse(header.as_bytes(), TextForms::OursOnly, &mut buf)?;
    let presented = header.candidates().next().ok_or("no token")?;
    let made = signer(&options)?.exchange(
        &Exchange {
            root: SecretBytes::from(presented.root().as_v2()),
            discharges: presented.discharges().map(|token| SecretBytes::from(token.as_v2())).collect(),
            workload: vec![Bytes(options.need("workload")?.as_bytes().to_vec())],
            expiry: Expiry::Never, // the parent's bounds and the signer's cap hold in any case
            label: None,
        },
        request_id()?,
    )?;
    eprintln!("lineage {} of {}, until {}", made.lineage, made.parent, made.expiry);
    Ok(TokenBuf::from_v2(made.token.expose().to_vec())?)
}

fn signer(options: &Options) -> Result<Remote, Box<dyn StdError>> {
    let trust = Trust::from_file(options.need("trust")?.as_ref())?;
    Ok(Remote::new(&trust.signers, ClientKey::read(options.need("client-key")?.as_ref())?)?)
}

fn random() -> Result<[u8; 32], Box<dyn StdError>> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| "the system has no randomness")?;
    Ok(bytes)
}
