use clap::{ArgMatches, Command};
use tkcore::protocol::{
    Bytes, ClientAdd, ClientConfirm, ClientInfo, ClientKey, ClientList, ClientRemove, ClientState, MintPower,
    Narrowing, Permit, Role,
};

use super::reach::{self, Reach};
use super::{Exit, Failure, Streams, output, values};

const EXAMPLE: &str = "\
Examples:
  tksign clients add --name billing --key 5f0a… --role verify --audience billing
  tksign clients add --name issuer --key 77c1… --role mint --tenant acme --max-lifetime 8h
  tksign clients list
  tksign clients remove 5f0a…

A key is the public half that tkverify keygen prints. Each key has one role: verify, mint, revoke,
revoke-presented, exchange, keys or operator.";

pub(super) fn describe() -> Command {
    let key = || values::place_arg("key", "KEY", "The client's public key, 64 hex digits");
    Command::new("clients")
        .about("Who may call the signer, and for what")
        .after_help(EXAMPLE)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            reach::args(Command::new("add").about("Allow a key one role"))
                .arg(values::text_arg("key", "HEX", "The client's public key, 64 hex digits").required(true))
                .arg(values::text_arg("name", "NAME", "For people").required(true))
                .arg(values::text_arg("role", "ROLE", "What it may do").required(true).value_parser([
                    "verify",
                    "mint",
                    "revoke",
                    "revoke-presented",
                    "exchange",
                    "keys",
                    "operator",
                ]))
                .arg(values::text_arg("audience", "NAME", "verify, keys: the service it is"))
                .arg(values::many_arg("tenant", "NAME", "mint: only for these tenants; repeat for more"))
                .arg(values::text_arg("max-lifetime", "DURATION", "mint: longest life of a token"))
                .arg(values::many_arg(
                    "require-caveat",
                    "TEXT",
                    "mint: every token must carry this caveat; repeat for more",
                ))
                .arg(values::flag("allow-unrestricted", "mint: also tokens that no caveat restricts"))
                .arg(values::flag("allow-never-expires", "mint: also tokens that never expire"))
                .arg(values::text_arg("expires", "TIME", "The key counts until then"))
                .arg(values::request_id_arg()),
            reach::args(Command::new("list").about("All clients and their roles")),
            reach::args(
                Command::new("remove").about("End a client; its live sessions end with their next request"),
            )
            .arg(key())
            .arg(values::request_id_arg()),
            reach::args(Command::new("confirm").about("End a client's suspension after a restore"))
                .arg(key())
                .arg(values::request_id_arg()),
        ])
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    match matches.subcommand() {
        Some(("add", matches)) => {
            let params = ClientAdd {
                key: key(matches)?,
                name: values::name(values::need(matches, "name")?)?,
                role: role(matches)?,
                expiry: values::get(matches, "expires").map(values::time).transpose()?,
            };
            output::show(matches, streams, facts(&Reach::change(matches, &params)?))?;
        }
        Some(("list", matches)) => {
            reach::list(matches, streams, |from| ClientList { from }, facts)?;
        }
        Some(("remove", matches)) => {
            let key = key(matches)?;
            Reach::change(matches, &ClientRemove { key })?;
            writeln!(streams.stderr, "removed {key}")?;
        }
        Some(("confirm", matches)) => {
            let answer = Reach::change(matches, &ClientConfirm { key: key(matches)? })?;
            output::show(matches, streams, facts(&answer))?;
        }
        _ => return Ok(Exit::Usage),
    }
    Ok(Exit::Ok)
}

fn key(matches: &ArgMatches) -> Result<ClientKey, Failure> {
    values::client_key(values::need(matches, "key")?)
}

/// The role with what narrows it. A flag that the role does not have is refused, so that
/// nobody believes a client to be narrower than it is.
fn role(matches: &ArgMatches) -> Result<Role, Failure> {
    let role = values::need(matches, "role")?;
    let given = |name: &str| match matches.value_source(name) {
        Some(source) => source == clap::parser::ValueSource::CommandLine,
        None => false,
    };
    let of_mint = ["tenant", "max-lifetime", "require-caveat", "allow-unrestricted", "allow-never-expires"];
    if role != "mint" && of_mint.iter().any(|name| given(name)) {
        return Err(Failure::usage(format!("role {role} takes none of --{}", of_mint.join(", --"))));
    }
    if !matches!(role, "verify" | "keys") && given("audience") {
        return Err(Failure::usage(format!("role {role} takes no --audience")));
    }
    let audience = values::maybe_name(matches, "audience")?;
    Ok(match role {
        "verify" => Role::Verify(audience),
        "mint" => Role::Mint(mint_power(matches)?),
        "revoke" => Role::Revoke,
        "revoke-presented" => Role::RevokePresented,
        "exchange" => Role::Exchange,
        "keys" => Role::Keys(audience.ok_or_else(|| Failure::usage("role keys needs --audience"))?),
        "operator" => Role::Operator,
        other => return Err(Failure::usage(format!("no role \"{other}\""))),
    })
}

fn mint_power(matches: &ArgMatches) -> Result<MintPower, Failure> {
    let permit = |name| if values::set(matches, name) { Permit::Given } else { Permit::Withheld };
    let tenants = matches.get_many::<String>("tenant");
    let caveats = values::many(matches, "require-caveat");
    let narrowing = Narrowing {
        tenants: tenants.map(|all| all.map(|one| values::name(one)).collect()).transpose()?,
        max_lifetime: values::get(matches, "max-lifetime").map(values::duration).transpose()?,
        required_caveats: caveats.map(|caveat| Bytes(caveat.as_bytes().to_vec())).collect(),
    };
    Ok(MintPower {
        narrowing,
        unrestricted: permit("allow-unrestricted"),
        never_expires: permit("allow-never-expires"),
    })
}

fn facts(client: &ClientInfo) -> output::Facts {
    output::Facts::default()
        .with_text("key", client.key)
        .with_text("name", &client.name)
        .with_text("role", client.role.name())
        .with_text("narrowed to", narrowed(&client.role))
        .with(
            "state",
            match client.state {
                ClientState::Active => "active",
                ClientState::Suspended => "suspended",
                ClientState::Expired => "expired",
            },
        )
        .with_text("added", client.added)
        .with_time("expires", client.expiry)
}

fn narrowed(role: &Role) -> String {
    match role {
        Role::Verify(None) => "tokens without an audience".to_owned(),
        Role::Verify(Some(audience)) | Role::Keys(audience) => format!("audience {audience}"),
        Role::Mint(power) => {
            let mut parts = Vec::new();
            if let Some(tenants) = &power.narrowing.tenants {
                let tenants: Vec<_> = tenants.iter().map(tkcore::Name::as_str).collect();
                parts.push(format!("tenants {}", tenants.join(",")));
            }
            if let Some(seconds) = power.narrowing.max_lifetime {
                parts.push(format!("{seconds} s"));
            }
            for caveat in &power.narrowing.required_caveats {
                parts.push(format!("\"{}\"", String::from_utf8_lossy(&caveat.0)));
            }
            if power.unrestricted == Permit::Given {
                parts.push("also unrestricted".to_owned());
            }
            if power.never_expires == Permit::Given {
                parts.push("also never expiring".to_owned());
            }
            if parts.is_empty() { "-".to_owned() } else { parts.join("; ") }
        }
        _ => "-".to_owned(),
    }
}
