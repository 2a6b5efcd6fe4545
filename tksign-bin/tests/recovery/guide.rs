//! The operator's guide does what it says: its commands, run in order.

use std::process::Command;

use testkit::signer::{binary, tkverify, workspace};

use crate::litestream::{Bucket, Replica, access, packaging, tool};
use crate::scene::{Scene, text};

/// Plays systemd for the two units: starts and stops the real programs. A signer whose sockets go on
/// listening is not stopped: the next caller starts it again.
pub(crate) const SYSTEMCTL: &str = r#"#!/bin/bash
set -eu
if [ "$1" = stop ]; then
  shift
  case " $* " in
    *" tksign.socket tksign-public.socket tksign "*) ;;
    *" tksign "*) echo "its sockets start it again" >&2; exit 1 ;;
  esac
  for unit; do
    case "$unit" in *.socket) ;; *) "$0" end "$unit" ;; esac
  done
  exit
fi
pid="$UNITS/$2.pid" log="$UNITS/$2.log"
stop() {
  [ -f "$pid" ] || return 0
  kill "$(cat "$pid")" 2>/dev/null || true
  while kill -0 "$(cat "$pid")" 2>/dev/null; do sleep 0.05; done
  rm -f "$pid"
}
if [ "$1" = end ]; then stop; exit; fi
case "$2" in
  tksign) run=("$TKSIGN" serve --dir "$STATE" --secret-file "$SECRET" --feed-folder "$FEED" --rpc "$RPC" --public "$PUBLIC"
               --trust-out "$TRUST" --litestream-socket "$TKSIGN_LITESTREAM_SOCKET") ready='"ready":true' ;;
  tksign-litestream) run=("$LITESTREAM" replicate -config "$LITESTREAM_CONFIG") ready='control socket' ;;
esac
start() {
  : > "$log"
  setsid "${run[@]}" > "$log" 2>&1 < /dev/null &
  echo $! > "$pid"
  for _ in $(seq 1200); do
    grep -q "$ready" "$log" && return 0
    kill -0 "$(cat "$pid")" 2>/dev/null || { cat "$log" >&2; exit 1; }
    sleep 0.05
  done
  cat "$log" >&2
  exit 1
}
case "$1" in
  start) start "$@" ;;
  restart) stop; start "$@" ;;
esac
"#;

/// What a test stops at its end.
pub(crate) const BOTH: [&str; 4] = ["tksign.socket", "tksign-public.socket", "tksign", "tksign-litestream"];

/// The blocks of a page that are marked `sh`, each after the line it stands in.
pub(crate) fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for (line, text) in page.lines().enumerate() {
        match (&mut open, text) {
            (None, "```sh") => open = Some(format!("echo '== line {}' >&2\n", line + 1)),
            (None, _) => {}
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), text) => {
                block.push_str(text);
                block.push('\n');
            }
        }
    }
    blocks
}

#[test]
fn guide_every_command_of_the_operators_guide_does_what_it_says() {
    let test = "guide_every_command";
    let mut scene = Scene::with(&[]);
    scene.key("acme");
    let client = scene.client("billing.key", "verify");
    scene.mint("acme", "token.txt");
    let Some(bucket) = Bucket::start(test) else { return };
    let Some(replica) = Replica::bucket(test, &scene, &bucket, "1") else { return };
    let Some(litestream) = tool(test, "litestream") else { return };
    scene.signer.stop();
    let dir = scene.signer.dir();
    for folder in ["bin", "units", "backup", "safe"] {
        std::fs::create_dir(dir.join(folder)).unwrap();
    }
    dir.write("bin/systemctl", 0o755, SYSTEMCTL);
    for (name, program) in [
        ("tksign", binary().to_owned()),
        ("tkverify", tkverify().to_owned()),
        ("litestream", litestream.clone()),
        ("writer-epoch", packaging("writer-epoch").into()),
    ] {
        std::os::unix::fs::symlink(program, dir.join("bin").join(name)).unwrap();
    }
    let page = std::fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let guide = page.split_once("# Operations: the signer's side").expect("the signer's half").1;
    let mut commands = blocks(guide);
    // Between the backup and the restore something was revoked, and published.
    let restore = commands.iter().position(|block| block.contains("cp \"$BACKUP/tksign.db\" \"$STATE"));
    let between = "signer revoke subject --tenant acme --subject user:9 --before now\nuntil tkverify refresh --once --json \
                   --trust \"$TRUST\" --dir \"$FEED\" | grep -q '\"sequence\":1'; do :; done\n";
    commands.insert(restore.expect("a restore"), between.to_owned());
    // And before the leak there is something that can leak.
    let leak = commands.iter().position(|block| block.contains("revoke presented")).expect("a leak");
    let mint = "signer mint --tenant acme --subject user:17 --expires 8h --caveat 'a = b' > token.txt\n";
    commands.insert(leak, mint.to_owned());
    assert!(commands.len() >= 15, "{} blocks", commands.len());
    let begin = "set -euo pipefail\nwriter-epoch claim\nsystemctl start tksign\ntkverify refresh --once --trust \"$TRUST\" --dir \"$FEED\"\n";
    let script = format!("{begin}{}\necho 'guide: ok'\n", commands.join("\n"));
    dir.write("guide.sh", 0o755, &script);
    let path = format!("{}:{}", text(dir.join("bin")), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command
        .arg(dir.join("guide.sh"))
        .current_dir(dir.path())
        .envs(replica.variables())
        .envs(access(&bucket.url));
    command.env_remove("AWS_CA_BUNDLE").env("PATH", path).env("CLIENT", client);
    // No other machine is alive.
    command
        .env("WAIT", "0")
        .env("TKSIGN_MACHINE", "here")
        .env("TKSIGN", binary())
        .env("LITESTREAM", litestream);
    for (name, value) in [
        ("STATE", scene.signer.state()),
        ("SECRET", scene.signer.secret()),
        ("TRUST", text(scene.signer.trust())),
        ("BACKUP", scene.path("backup")),
        ("SAFE", scene.path("safe")),
        ("FEED", scene.path("feed")),
        ("UNITS", scene.path("units")),
        ("ROOT_KEY", scene.path("root.key")),
        ("RPC", scene.signer.rpc().to_owned()),
        ("PUBLIC", scene.signer.public().to_owned()),
        ("LITESTREAM_CONFIG", packaging("litestream.yml")),
    ] {
        command.env(name, value);
    }
    let done = command.output().unwrap();
    let mut stop = Command::new(dir.join("bin/systemctl"));
    let _ = stop.arg("stop").args(BOTH).env("UNITS", scene.path("units")).output();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && out.ends_with("guide: ok\n"), "{out}\n{err}");
}

#[test]
fn guide_alert_rules_name_metrics_that_exist() {
    let scene = Scene::with(&[]);
    // Calls are counted by operation, from the first one on.
    scene.key("acme");
    let url = format!("http://{}/metrics", scene.signer.metrics());
    let page = testkit::process::run("curl", ["-sf", &url], b"").stdout;
    let rules = std::fs::read_to_string(workspace().join("tksign-bin/packaging/alerts.yml")).unwrap();
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut named = 0;
    for rule in rules.lines().filter(|line| line.trim_start().starts_with("expr:")) {
        for name in rule.split(|c| !word(c)).filter(|name| name.starts_with("tksign_")) {
            assert!(
                page.lines().any(|line| line.starts_with(&format!("# TYPE {name} "))
                    || line.starts_with(&format!("# TYPE {} ", name.trim_end_matches("_total")))),
                "{name} is not in:\n{page}"
            );
            named += 1;
        }
    }
    assert!(named >= 7);
}
