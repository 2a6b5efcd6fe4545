//! `cargo run -p xtask -- FOLDER` writes what packages hold beside the programs: a manual page
//! for each command of `tksign` and `tkverify`, and completions for bash, zsh and fish. Made from
//! the very descriptions that the programs parse their arguments by, so they cannot differ.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use clap::Command;
use clap_complete::{Shell, generate_to};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: cargo run -p xtask -- FOLDER");
        return ExitCode::from(2);
    };
    match write(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// The programs' own descriptions.
fn programs() -> [Command; 2] {
    [tksign::command(), tkverify::cli::command()]
}

fn write(folder: &Path) -> io::Result<()> {
    for program in programs() {
        let name = program.get_name().to_owned();
        let man = folder.join("man");
        fs::create_dir_all(&man)?;
        clap_mangen::generate_to(program.clone(), &man)?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let to = folder.join("completions").join(shell.to_string());
            fs::create_dir_all(&to)?;
            generate_to(shell, &mut program.clone(), &name, to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use testkit::process::run;
    use testkit::signer::workspace;
    use testkit::{TempDir, need};

    use super::*;

    /// Every command with its full name, such as `tksign-keys-create`.
    fn commands(of: &Command, name: &str, found: &mut Vec<(String, Command)>) {
        found.push((name.to_owned(), of.clone()));
        for command in of.get_subcommands() {
            commands(command, &format!("{name}-{}", command.get_name()), found);
        }
    }

    #[test]
    fn every_command_has_a_page_with_its_options_and_completions_that_shells_take() {
        let dir = TempDir::new();
        write(dir.path()).unwrap();
        for program in programs() {
            let mut all = Vec::new();
            commands(&program, program.get_name(), &mut all);
            for (name, command) in &all {
                let page = fs::read_to_string(dir.join(format!("man/{name}.1"))).unwrap();
                for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                    let written = option.replace('-', "\\-");
                    assert!(page.contains(&written), "{name}: --{option} is not in its page");
                }
            }
            let name = program.get_name();
            let complete = |shell: &str, file: String| {
                fs::read_to_string(dir.join(format!("completions/{shell}/{file}"))).unwrap()
            };
            for text in [
                complete("bash", format!("{name}.bash")),
                complete("zsh", format!("_{name}")),
                complete("fish", format!("{name}.fish")),
            ] {
                for command in program.get_subcommands() {
                    assert!(text.contains(command.get_name()), "{name}: {}", command.get_name());
                }
            }
            let script = dir.join(format!("completions/bash/{name}.bash"));
            let read = run("bash", ["-n".as_ref(), script.as_os_str()], b"");
            assert_eq!((read.code, read.stderr.as_str()), (Some(0), ""));
        }
    }

    /// Units of replication, which run other programs and shut in less.
    const REPLICATION: &str = "tksign-bin/packaging/litestream";

    /// The units are such as systemd takes, and as closed as they say.
    #[test]
    fn the_units_are_what_systemd_takes() {
        let test = "the_units_are_what_systemd_takes";
        let Some(analyze) = need(test, "systemd-analyze", "apt-get install systemd") else { return };
        let dir = TempDir::new();
        let mut units = Vec::new();
        for folder in ["tksign-bin/packaging/systemd", "tkverify/packaging/systemd", REPLICATION] {
            for entry in fs::read_dir(workspace().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                if ![".service", ".socket", ".timer"].iter().any(|end| name.ends_with(end)) {
                    continue;
                }
                // The programs are looked for: one that is surely there stands for both.
                let text = fs::read_to_string(&path).unwrap();
                let programs = ["bin/tksign", "bin/tkverify", "bin/litestream", "lib/tksign/writer-epoch"];
                let text = programs
                    .iter()
                    .fold(text, |text, program| text.replace(&format!("/usr/{program} "), "/bin/sh "));
                units.push((name.clone(), dir.write(&name, 0o644, text)));
            }
        }
        assert_eq!(units.len(), 9);
        let paths = units.iter().map(|(_, path)| path.to_str().unwrap());
        let done = run(&analyze, ["verify", "--man=no"].into_iter().chain(paths), b"");
        // What it says of units of the machine itself is not ours to judge.
        let said: Vec<_> =
            done.stderr.lines().filter(|line| units.iter().any(|(name, _)| line.contains(name))).collect();
        assert!(said.is_empty(), "{said:?}");
        let closed = |name: &str| !workspace().join(REPLICATION).join(name).exists();
        for (name, path) in units.iter().filter(|(name, _)| name.ends_with(".service") && closed(name)) {
            let args = ["security", "--offline=true", "--no-pager", "--threshold=20", path.to_str().unwrap()];
            let done = run(&analyze, args, b"");
            assert_eq!(done.code, Some(0), "{name} is exposed: {}", done.stdout.lines().last().unwrap());
        }
    }

    /// A promotion waits for longer than an old writer that lives may acknowledge: its minute, what asking
    /// the bucket takes at most, and the stop of both units, one after the other.
    #[test]
    fn a_promotion_waits_for_longer_than_an_old_writer_needs_to_stop() {
        let read = |path: &str| fs::read_to_string(workspace().join(path)).unwrap();
        let after = |text: &str, start: &str| -> u64 {
            let found = text.split_once(start).unwrap_or_else(|| panic!("no {start} in:\n{text}")).1;
            found.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
        };
        let timer = read(&format!("{REPLICATION}/tksign-writer-epoch.timer"));
        let script = read(&format!("{REPLICATION}/writer-epoch"));
        let minute = after(&timer, "\nOnUnitActiveSec=") + after(&timer, "\nAccuracySec=");
        let (_, check) = script.split_once("\n  check)\n").unwrap();
        let (check, _) = check.split_once("\n  guard)\n").unwrap();
        let asked = u64::try_from(check.matches("holder ").count()).unwrap() * after(&script, "--max-time ");
        let stop = |unit: &str| after(&read(unit), "\nTimeoutStopSec=");
        let stopped = stop("tksign-bin/packaging/systemd/tksign.service")
            + stop(&format!("{REPLICATION}/tksign-litestream.service"));
        let guide = read("docs/operations.md");
        assert!(
            guide.contains(&format!(" are {} s, below", minute + asked + stopped)),
            "{minute} {asked} {stopped}"
        );
        assert!(minute + asked + stopped < after(&guide, "sleep \"${WAIT:="), "{minute} {asked} {stopped}");
    }

    /// What the guard notes as root, it notes where no other user may put a link.
    #[test]
    fn the_guard_writes_in_no_folder_of_another_user() {
        let script = fs::read_to_string(workspace().join(REPLICATION).join("writer-epoch")).unwrap();
        let (_, held) = script.split_once("held=${TKSIGN_HELD:-").unwrap();
        let held = std::path::Path::new(held.split_once('}').unwrap().0);
        assert_eq!(held.parent(), Some(std::path::Path::new("/run")));
    }

    /// What the timer brings is for services that run as other users: a user that stays owns it, whom the
    /// package makes, and its folder can be entered.
    #[test]
    fn the_folder_of_the_timer_can_be_read_by_services_of_other_users() {
        let folder = workspace().join("tkverify/packaging/systemd");
        let unit = fs::read_to_string(folder.join("tk-refresh.service")).unwrap();
        let set = |name: &str| -> Vec<&str> {
            unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
        };
        assert!(set("DynamicUser").is_empty(), "its cache would lie in /var/cache/private, closed to others");
        assert_eq!((set("CacheDirectoryMode"), set("UMask")), (vec!["0755"], vec!["0022"]));
        let [user] = set("User")[..] else { panic!("one user: {:?}", set("User")) };
        let test = "the_folder_of_the_timer_can_be_read_by_services_of_other_users";
        let Some(sysusers) = need(test, "systemd-sysusers", "apt-get install systemd") else { return };
        let dir = TempDir::new();
        fs::create_dir(dir.join("etc")).unwrap();
        let root = format!("--root={}", dir.path().display());
        let file = folder.join("tk-refresh.sysusers");
        let done = run(&sysusers, [root.as_str(), file.to_str().unwrap()], b"");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let made = fs::read_to_string(dir.join("etc/passwd")).unwrap();
        assert!(made.starts_with(&format!("{user}:")), "{made}");
    }

    /// Each asset of the Debian packages is a file of the workspace, is built, or is made here.
    #[test]
    fn the_packages_hold_what_there_is() {
        let dir = TempDir::new();
        write(dir.path()).unwrap();
        for package in ["tksign-bin", "tkverify"] {
            let manifest = fs::read_to_string(workspace().join(package).join("Cargo.toml")).unwrap();
            let (_, metadata) = manifest.split_once("[package.metadata.deb]").unwrap();
            let assets: Vec<&str> = metadata
                .lines()
                .filter_map(|line| line.trim().strip_prefix("[\"")?.split('"').next())
                .filter(|path| path.contains('/'))
                .collect();
            assert!(assets.len() >= 6, "{package}: {assets:?}");
            for asset in assets {
                if let Some(made) = asset.strip_prefix("../target/dist/") {
                    let (folder, name) = made.rsplit_once('/').unwrap();
                    let start = name.split('*').next().unwrap();
                    let found = fs::read_dir(dir.join(folder))
                        .unwrap()
                        .any(|entry| entry.unwrap().file_name().to_str().unwrap().starts_with(start));
                    assert!(found, "{package}: {asset} is not made");
                } else if !asset.starts_with("target/release/") {
                    assert!(workspace().join(package).join(asset).is_file(), "{package}: no {asset}");
                }
            }
        }
    }
}
