use testkit::authority::{Authority, Valid};
use testkit::etcd::{Etcd, Setup};

use crate::scene::Scene;

fn text(path: &std::path::Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A cluster whose members show this certificate.
fn cluster(
    test: &str,
    authority: &Authority,
    certificate: (&str, &str, Valid),
    more: &[&str],
) -> Option<Etcd> {
    let (file, name, valid) = certificate;
    let own = authority.issue("ctl", "IP:127.0.0.1", Valid::Now);
    let control = ["--insecure-skip-tls-verify", "--cert", &text(&own.0), "--key", &text(&own.1)];
    let setup = Setup {
        certificate: Some(authority.issue(file, name, valid)),
        args: more.iter().map(|arg| (*arg).to_owned()).collect(),
        control: control.iter().map(|arg| (*arg).to_owned()).collect(),
    };
    Etcd::start_as(test, 1, &setup)
}

#[test]
fn a_cluster_behind_tls_serves_whoever_trusts_its_authority_and_is_trusted() {
    let test = "a_cluster_behind_tls_serves_whoever_trusts_its_authority_and_is_trusted";
    let Some(authority) = Authority::new(test) else { return };
    let ca = text(&authority.certificate());
    let asked = ["--client-cert-auth", "--trusted-ca-file", &ca];
    let Some(etcd) = cluster(test, &authority, ("member", "IP:127.0.0.1", Valid::Now), &asked) else {
        return;
    };
    let mut scene = Scene::new(etcd);
    let (own, key) = authority.issue("signer", "DNS:signer", Valid::Now);
    let (own, key) = (text(&own), text(&key));
    // A member that asks for a certificate gets none: it ends the connection.
    scene.args = ["--etcd-ca", &ca].map(str::to_owned).to_vec();
    let done = scene.migrate();
    assert!(done.code != Some(0) && done.stderr.contains("ertificate"), "{}", done.stderr);
    scene.args = ["--etcd-ca", &ca, "--etcd-cert", &own, "--etcd-key", &key].map(str::to_owned).to_vec();
    scene.migrated();
    let one = scene.serve("one");
    scene.join("two");
    let two = scene.serve("two");
    let head = scene.revoke("two", &two, "user:1");
    one.await_head("the other's", |other| other.state == head.state);
    // And goes on when the member was away.
    let mut scene = scene;
    scene.etcd.kill(0);
    scene.etcd.restart(0);
    scene.must("one", "revoke subject", &["--tenant", "acme", "--subject", "user:2"]);
}

/// Who is not the cluster gets nothing, and it is said why.
#[test]
fn every_wrong_certificate_is_refused_by_name() {
    let test = "every_wrong_certificate_is_refused_by_name";
    let Some(authority) = Authority::new(test) else { return };
    let Some(stranger) = Authority::new(test) else { return };
    let (ca, other) = (text(&authority.certificate()), text(&stranger.certificate()));
    let cases = [
        (("member", "IP:127.0.0.1", Valid::Now), &other, "UnknownIssuer"),
        (("elsewhere", "IP:127.0.0.9", Valid::Now), &ca, "not valid for name"),
        (("ended", "IP:127.0.0.1", Valid::Past), &ca, "expired"),
    ];
    for (certificate, trusted, said) in cases {
        let Some(etcd) = cluster(test, &authority, certificate, &[]) else { return };
        let mut scene = Scene::new(etcd);
        scene.args = vec!["--etcd-ca".to_owned(), trusted.clone()];
        for told in [scene.migrate().stderr, scene.refused("one")] {
            assert!(told.contains(said), "{certificate:?}: {told}");
        }
        // Nothing was moved: the source is as it was.
        scene.must("one", "status", &[]);
    }
}

#[test]
fn clear_and_tls_do_not_speak_to_each_other() {
    let test = "clear_and_tls_do_not_speak_to_each_other";
    let Some(authority) = Authority::new(test) else { return };
    let ca = text(&authority.certificate());
    let Some(etcd) = cluster(test, &authority, ("member", "IP:127.0.0.1", Valid::Now), &[]) else { return };
    let mut scene = Scene::new(etcd);
    // No authority, no https; none that reads, neither.
    let told = scene.refused("one");
    assert!(told.contains("--etcd-ca"), "{told}");
    scene.args = vec!["--etcd-ca".to_owned(), scene.path("secret")];
    let told = scene.refused("one");
    assert!(told.contains("no certificate in PEM"), "{told}");
    // In clear to a member that speaks TLS, and TLS to one that speaks in clear.
    let clear = scene.etcd.urls()[0].replace("https:", "http:");
    let migrate = |url: &str, more: &[&str]| {
        let (from, to) = (format!("sqlite:{}", scene.path("one")), format!("etcd:{url}"));
        let args = ["migrate", "--from", &from, "--to", &to, "--signer", "one"];
        testkit::process::run(crate::scene::TKSIGN, args.into_iter().chain(more.iter().copied()), b"").stderr
    };
    let told = migrate(&clear, &[]);
    assert!(told.contains("is it https"), "{told}");
    let Some(plain) = Etcd::start(test, 1) else { return };
    let told = migrate(&plain.urls()[0].replace("http:", "https:"), &["--etcd-ca", &ca]);
    assert!(told.contains("handshake of TLS"), "{told}");
}
