//! `https` to a real nginx, for the feed and for discharges: a server is believed for a name by an
//! authority that this program trusts, and by nobody else.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use testkit::http::{Reply, Server};
use testkit::signer::{Running, With};
use testkit::{TempDir, need};
use tkcore::{
    AuthorityId, AuthorityKeys, Budget, CaveatKey, Request, SealTo, SharedKey, Vocabulary, seal_ticket,
};
use tkverify::discharge::{Authority, Desk, DischargeClient};
use tkverify::{Clock as _, SystemClock, Trust};

use super::nginx::{INSTALL, Nginx};
use super::{code, text, tkverify};

/// Certificates of an authority that nobody knows.
struct Certificates {
    program: PathBuf,
    dir: TempDir,
}

impl Certificates {
    fn new(test: &str) -> Option<Self> {
        let program = need(test, "openssl", "apt-get install openssl")?;
        let own = Self { program, dir: TempDir::new() };
        let authority = ["-subj", "/CN=tests", "-addext", "basicConstraints=critical,CA:TRUE"];
        own.run(&[&["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem"], &authority[..], KEY].concat());
        Some(own)
    }

    fn run(&self, words: &[&str]) {
        let done = Command::new(&self.program).current_dir(self.dir.path()).args(words).output().unwrap();
        assert!(done.status.success(), "openssl {words:?}: {}", text(&done.stderr));
    }

    /// nginx's words for a server of that name (`IP:127.0.0.1`), certified for so many days.
    fn server(&self, name: &str, days: &str) -> String {
        let file = |end: &str| format!("{}.{end}", name.replace([':', '.'], "-") + days);
        let (key, asked, given, names) = (file("key"), file("csr"), file("pem"), file("txt"));
        fs::write(self.dir.join(&names), format!("subjectAltName={name}")).unwrap();
        self.run(&[&["req", "-keyout", &key, "-out", &asked, "-subj", "/CN=server"], KEY].concat());
        let by = ["x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", days, "-extfile", &names];
        self.run(&[&by[..], &["-in", &asked, "-out", &given]].concat());
        let (key, given) = (self.dir.join(&key), self.dir.join(&given));
        format!("ssl_certificate {}; ssl_certificate_key {};", given.display(), key.display())
    }

    fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }
}

const KEY: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

fn serve(program: &std::path::Path, dir: &TempDir, name: &str, certified: &str, what: &str) -> Nginx {
    Nginx::start(program, dir, name, &format!("server {{ listen LISTEN ssl; {certified} {what} }}"))
}

#[test]
fn the_feed_comes_over_https_from_whom_a_trusted_authority_vouches_for() {
    let Some(program) = need("nginx: the feed over https", "nginx", INSTALL) else { return };
    let Some(certificates) = Certificates::new("the feed over https") else { return };
    let dir = TempDir::new();
    let root = dir.join("www");
    let arguments = vec!["--publish".to_owned(), root.to_str().unwrap().to_owned()];
    let signer = Running::start_with(With { arguments, ..With::default() });
    signer.must("publish", &[root.to_str().unwrap()]);
    let what = format!("root {};", root.display());
    let good = serve(&program, &dir, "good", &certificates.server("IP:127.0.0.1", "7"), &what);
    let other = serve(&program, &dir, "other", &certificates.server("DNS:elsewhere.example", "7"), &what);

    let refresh = |nginx: &Nginx, roots: Option<PathBuf>, folder: &str| {
        let trust = dir.join("trust.json");
        let feeds = vec![nginx.url().replace("http:", "https:")];
        let there = Trust { feeds, ..Trust::from_file(&signer.trust()).unwrap() };
        fs::write(&trust, there.to_json()).unwrap();
        let mut command = tkverify();
        command
            .args(["refresh", "--once", "--json", "--trust"])
            .arg(&trust)
            .arg("--dir")
            .arg(dir.join(folder));
        match roots {
            Some(roots) => command.env("SSL_CERT_FILE", roots),
            None => command.env_remove("SSL_CERT_FILE"),
        };
        let done = command.output().unwrap();
        (code(&done), text(&done.stdout) + &text(&done.stderr))
    };
    let (exit, said) = refresh(&good, Some(certificates.authority()), "good");
    assert_eq!(exit, 0, "{said}");
    // An authority that is not trusted, a certificate for another name, and a server without TLS.
    for (nginx, roots) in [(&good, None), (&other, Some(certificates.authority()))] {
        let (exit, said) = refresh(nginx, roots, "bad");
        assert_ne!(exit, 0, "{said}");
        assert!(said.contains("certificate"), "{said}");
    }
    let plain = Nginx::start(&program, &dir, "plain", &format!("server {{ listen LISTEN; {what} }}"));
    let (exit, said) = refresh(&plain, Some(certificates.authority()), "bad");
    assert_ne!(exit, 0, "{said}");
    // Roots that cannot be read are no reason to fall back to others.
    let (exit, said) = refresh(&good, Some(dir.join("nothing.pem")), "bad");
    assert_ne!(exit, 0, "{said}");
    assert!(said.contains("SSL_CERT_FILE") && said.contains("nothing.pem"), "{said}");
    assert!(!dir.join("bad").join("head").exists());
    // The folder that was fetched is as good as before.
    let (exit, said) = refresh(&good, Some(certificates.authority()), "good");
    assert_eq!(exit, 0, "{said}");
}

const AUTHORITY: AuthorityId = AuthorityId::from_bytes([0xa1; 16]);
const SHARED: [u8; 32] = [0x51; 32];

/// Asks the authority whose address the test below says, in a process with roots of its own.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn asks_an_authority() {
    let Ok(url) = std::env::var("DISCHARGE_URL") else { return };
    let to = SealTo::Shared { key: &SharedKey::from_bytes(SHARED), nonce: &[3; 24] };
    let ticket = seal_ticket(AUTHORITY, &to, &CaveatKey::from_bytes([4; 32]), &["subject = ann"]).unwrap();
    let client = DischargeClient::new().with_authority(AUTHORITY, Authority::new(&url).unwrap());
    match client.discharge(&ticket, None) {
        Ok(discharge) => println!("came: {}", discharge.as_token().as_v2().len()),
        Err(error) => println!("refused: {error}"),
    }
}

#[test]
fn a_discharge_comes_over_https_from_whom_a_trusted_authority_vouches_for() {
    let Some(program) = need("nginx: a discharge over https", "nginx", INSTALL) else { return };
    let Some(certificates) = Certificates::new("a discharge over https") else { return };
    let dir = TempDir::new();
    let desk = Desk::new(AuthorityKeys::new(AUTHORITY).with_shared(SharedKey::from_bytes(SHARED)));
    let server = Server::start(move |asked| {
        let ticket = desk.open(&asked.body).unwrap();
        let request = Request::builder("login", SystemClock::new().read().wall).action("discharge");
        let request = request.build().unwrap();
        let cleared =
            ticket.clear(&request, Some("ann"), &Vocabulary::native(), &mut Budget::default()).unwrap();
        let reply = desk.immediate(&cleared, std::time::Duration::from_secs(60), &[]).unwrap();
        Reply::Answer(reply.status, Vec::new(), reply.body.into_bytes())
    });
    let what = format!("location / {{ proxy_pass {}; }}", server.url());
    let good = serve(&program, &dir, "good", &certificates.server("IP:127.0.0.1", "7"), &what);
    let ask = |roots: Option<PathBuf>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "https::asks_an_authority", "--ignored", "--nocapture"]);
        command.env("DISCHARGE_URL", good.url().replace("http:", "https:") + "/discharge");
        match roots {
            Some(roots) => command.env("SSL_CERT_FILE", roots),
            None => command.env_remove("SSL_CERT_FILE"),
        };
        text(&command.output().unwrap().stdout)
    };
    let said = ask(Some(certificates.authority()));
    assert!(said.contains("came: "), "{said}");
    let said = ask(None);
    assert!(said.contains("refused: ") && said.contains("certificate"), "{said}");
    let said = ask(Some(dir.join("nothing.pem")));
    assert!(said.contains("refused: ") && said.contains("SSL_CERT_FILE"), "{said}");
}
