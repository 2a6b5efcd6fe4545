//! How a command reaches the signer: the running server over its control socket, or, when
//! none answers, the store itself under an exclusive lock and with the secret.

use std::path::PathBuf;

use clap::{ArgMatches, Command};
use tkcore::protocol::{Call, Code, Cursor, Fault, Page, RequestId, RpcError};
use zeroize::Zeroizing;

use super::control::{self, Control, Speaker};
use super::local::Local;
use super::{Exit, Failure, Streams, output, values};
use crate::random;
use crate::secret::{Secret, SecretError, SecretSources};

/// Most pages of one list: far more than a person reads, an end for a signer that never ends.
const PAGES: usize = 10_000;

/// A signer to call.
pub(super) enum Reach {
    Running(Box<Control>),
    Local(Box<Local>),
}

/// Adds what every command takes that calls the signer.
pub(super) fn args(command: Command) -> Command {
    secret_args(command.arg(values::dir_arg()).arg(values::json_arg()))
}

/// Where the secret comes from; needed only when no server runs.
pub(super) fn secret_args(command: Command) -> Command {
    command
        .arg(values::path_arg(
            "secret-file",
            "FILE",
            "The secret that seals the records: a file of mode 0400",
        ))
        .arg(
            values::text_arg("secret-fd", "N", "The secret, from an inherited file descriptor")
                .value_parser(clap::value_parser!(u32)),
        )
        .arg(values::text_arg(
            "insecure-secret-env",
            "VAR",
            "The secret, from an environment variable, which other processes may read",
        ))
}

/// Reads the secret from where the command line says.
pub(super) fn secret(matches: &ArgMatches) -> Result<Secret, Failure> {
    let variable = values::get(matches, "insecure-secret-env");
    let sources = SecretSources {
        fd: matches.get_one("secret-fd").copied(),
        credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        file: values::path(matches, "secret-file"),
        environment: variable.and_then(|name| std::env::var(name).ok()).map(Zeroizing::new),
    };
    Secret::load(&sources)
        .map_err(|error| bad_secret(&error, "give the secret that this store was made with"))
}

/// What is wrong with a secret; `next` where it is just not there.
pub(super) fn bad_secret(error: &SecretError, next: &str) -> Failure {
    let next = match error {
        SecretError::None => "add --secret-file FILE",
        SecretError::Length(_) | SecretError::NotRandom => {
            "make another: head -c 32 /dev/urandom > FILE && chmod 0400 FILE"
        }
        SecretError::Mode(..) => "chmod 0400 it, and see who could read it before",
        SecretError::Owner(..) => "run this as the file's owner",
        SecretError::Unreadable(..) => next,
    };
    Failure::new(Exit::Secret, error, next)
}

impl Reach {
    /// The running server of `--dir`, else its store, as the operator.
    pub(super) fn open(matches: &ArgMatches) -> Result<Self, Failure> {
        Self::open_as(matches, Speaker::Operator)
    }

    /// The same in another name.
    pub(super) fn open_as(matches: &ArgMatches, speaker: Speaker) -> Result<Self, Failure> {
        let folder = values::dir(matches);
        if control::is_served(&folder) {
            return Control::open(&folder, speaker).map(|control| Self::Running(Box::new(control)));
        }
        let store = folder.join(control::STORE_FILE);
        if !store.exists() {
            return Err(Failure::new(
                Exit::Store,
                format!("there is no store in {}", folder.display()),
                "name the state folder with --dir, or make one with tksign init",
            ));
        }
        let secret = secret(matches).map_err(|mut failure| {
            failure.what = format!("no signer runs in {}, and {}", folder.display(), failure.what);
            failure
        })?;
        Local::open(&folder, &secret, speaker).map(|local| Self::Local(Box::new(local)))
    }

    /// Calls under a fresh request id.
    pub(super) fn call<C: Call>(&mut self, params: &C) -> Result<C::Answer, Failure> {
        self.call_as(params, RequestId::from_bytes(random::bytes()))
    }

    /// Calls under this request id.
    pub(super) fn call_as<C: Call>(&mut self, params: &C, id: RequestId) -> Result<C::Answer, Failure> {
        let too_large = |_| Failure::usage("the request is longer than a message can be");
        let payload = Zeroizing::new(params.request(id, None).map_err(too_large)?);
        let answer = match self {
            Self::Running(control) => control.exchange(&payload)?,
            Self::Local(local) => local.handle(&payload),
        };
        match C::read_answer(&answer) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(refused(&error)),
            Err(error) => Err(Failure::bug(error)),
        }
    }

    /// One change, as the operator, under the request id of the command line.
    pub(super) fn change<C: Call>(matches: &ArgMatches, params: &C) -> Result<C::Answer, Failure> {
        let id = values::request_id(matches)?;
        Self::open(matches)?.call_as(params, id)
    }

    /// Calls for every page of a list and gives each item to `each`.
    pub(super) fn pages<C, T>(
        &mut self,
        mut params: impl FnMut(Cursor) -> C,
        mut each: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<(), Failure>
    where
        C: Call<Answer = Page<T>>,
    {
        let mut from = Cursor::default();
        for _ in 0..PAGES {
            let page = self.call(&params(from))?;
            page.items.into_iter().try_for_each(&mut each)?;
            match page.next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
        Err(Failure::bug("the list does not end"))
    }
}

/// Shows all pages of a list, as the operator sees it.
pub(super) fn list<C, T>(
    matches: &ArgMatches,
    streams: &mut Streams<'_>,
    params: impl FnMut(Cursor) -> C,
    facts: impl Fn(&T) -> output::Facts,
) -> Result<(), Failure>
where
    C: Call<Answer = Page<T>>,
{
    let mut rows = Vec::new();
    Reach::open(matches)?.pages(params, |item| {
        rows.push(facts(&item));
        Ok(())
    })?;
    output::list(matches, streams, rows)
}

/// What the signer refused, for a person.
fn refused(error: &RpcError) -> Failure {
    let exit = match (error.code, error.fault()) {
        (Code::NotFound, _) => Exit::NotFound,
        (_, Fault::Token | Fault::Caller) => Exit::Refused,
        (_, Fault::Moment) => Exit::Later,
        (_, Fault::Signer) => Exit::Bug,
    };
    let next = match error.code {
        Code::NeedsPermission => "say it with --unrestricted or --never-expires, if you mean it",
        Code::NotFound => "see what there is with the list command",
        Code::NotAllowed => "see tksign clients list for what the command line's keys may do",
        Code::AlreadyExists => "use what is there, or rotate it",
        Code::BadTime => "give a time that is not in the future",
        Code::ReadOnly => "see tksign status and the operations page on restoring a backup",
        Code::StoreFailed => "look at the signer's log and at the disk",
        Code::IdempotencyConflict => "use a new --request-id for a new request",
        _ => match error.fault() {
            Fault::Token => "check the token with tkverify inspect",
            Fault::Caller => "see --help",
            Fault::Moment => "try again in a moment",
            Fault::Signer => "look at the signer's log",
        },
    };
    Failure::new(exit, error, next)
}
