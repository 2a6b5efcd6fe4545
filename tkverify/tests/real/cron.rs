//! What `docs/operations.md` gives to cron and the packages give to systemd, run as those run it: a
//! bare environment, and nothing changed but names of places.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use testkit::TempDir;
use testkit::signer::{Running, workspace};
use tkcore::Error;
use tkcore::revocation::Rule;

use super::common::files;
use super::{check, client, code, learned, lineage, mint, signer, text, until};

/// The places that the documents name, and the ones that they have here.
struct Places {
    trust: PathBuf,
    dir: TempDir,
}

impl Places {
    /// Every place of `command` must be one that this test knows.
    fn here(&self, command: &str) -> String {
        let (cache, lib) = (self.dir.join("cache"), self.dir.join("lib"));
        let places = [
            ("/usr/bin/tkverify", Path::new(env!("CARGO_BIN_EXE_tkverify"))),
            ("/etc/tk/trust.json", &self.trust),
            ("/var/cache/tk", &cache),
            ("/var/lib/tk", &lib),
        ];
        places.into_iter().fold(command.to_owned(), |text, (documented, here)| {
            assert_eq!(text.matches(documented).count(), 1, "{documented} in {command}");
            text.replace(documented, here.to_str().unwrap())
        })
    }

    /// The folders that the documents have made beforehand.
    fn new(signer: &Running) -> Self {
        let dir = TempDir::new();
        fs::create_dir(dir.join("cache")).unwrap();
        fs::create_dir(dir.join("lib")).unwrap();
        Self { trust: signer.trust(), dir }
    }
}

/// The command of the one line of a crontab that the document has.
fn crontab() -> String {
    let document = fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let lines: Vec<&str> = document.lines().filter(|line| line.starts_with("* * * * * ")).collect();
    let [line] = lines.as_slice() else { panic!("one line of a crontab, not {lines:?}") };
    // To cron a % is the end of the line.
    assert!(!line.contains('%'), "{line}");
    line.splitn(6, ' ').last().unwrap().to_owned()
}

/// As cron does: a shell, five variables, and everything that is said goes into a mail.
fn cron(command: &str, home: &Path) -> Output {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).current_dir(home).stdin(Stdio::null()).env_clear();
    shell.env("SHELL", "/bin/sh").env("PATH", "/usr/bin:/bin").env("LOGNAME", "nobody").env("USER", "nobody");
    shell.env("HOME", home).output().unwrap()
}

fn silent(output: &Output) {
    assert_eq!((code(output), text(&output.stdout), text(&output.stderr)), (0, String::new(), String::new()));
}

#[test]
fn the_line_of_the_crontab_brings_revocations_and_mails_only_what_is_wrong() {
    let mut signer = signer();
    let key = client(&signer, "service");
    let (token, later) = (mint(&signer, &[]), mint(&signer, &[]));
    let places = Places::new(&signer);
    let (command, home) = (places.here(&crontab()), places.dir.path().to_path_buf());
    let (feed, floor) = (home.join("cache/feed"), home.join("lib/floor"));
    silent(&cron(&command, &home));
    assert!(floor.is_file());
    let verifier = learned(&signer, &key, &feed, &[&token, &later]);
    let revoked = Err(Error::Revoked(Rule::Token));
    let steps = [(1, &token, [revoked.clone(), Ok(())]), (2, &later, [revoked.clone(), revoked.clone()])];
    for (rows, dead, decided) in steps {
        signer.must("revoke token", &[&lineage(dead)]);
        // A step is closed a moment after its revocation is acknowledged: a minute later it is there.
        until("the step", || {
            silent(&cron(&command, &home));
            verifier.feed().position() == Some((1, rows))
        });
        // The folder alone says so: there is nobody to be asked.
        signer.stop();
        assert_eq!([&token, &later].map(|token| check(&verifier, token, "read")), decided);
        signer.serve();
    }
    // Nothing new, and a minute that comes while the last one still runs.
    std::thread::scope(|scope| {
        let runs = [(); 3].map(|()| scope.spawn(|| cron(&command, &home)));
        runs.into_iter().for_each(|run| silent(&run.join().unwrap()));
    });
    // The signer is down: the mail says what to do, and the state stays.
    let before = files(&feed);
    signer.stop();
    let mail = cron(&command, &home);
    assert_eq!((code(&mail), text(&mail.stdout)), (20, String::new()), "{mail:?}");
    assert!(text(&mail.stderr).contains("next: "), "{mail:?}");
    assert_eq!(files(&feed), before);
    signer.serve();
    silent(&cron(&command, &home));
}

/// The unit's own command under the variables that systemd gives.
#[test]
fn the_command_of_the_unit_brings_the_state() {
    let signer = signer();
    let places = Places::new(&signer);
    let unit = workspace().join("tkverify/packaging/systemd/tk-refresh.service");
    let unit = fs::read_to_string(unit).unwrap().replace("\\\n", " ");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let command = places.here(command);
    let mut words = command.split_whitespace();
    let mut unit = Command::new(words.next().unwrap());
    unit.args(words).current_dir("/").stdin(Stdio::null()).env_clear();
    unit.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin").env("LANG", "C.UTF-8");
    let home = places.dir.path();
    unit.env("CACHE_DIRECTORY", home.join("cache")).env("STATE_DIRECTORY", home.join("lib"));
    silent(&unit.output().unwrap());
    assert!(home.join("cache/feed/head").is_file() && home.join("lib/floor").is_file());
}
