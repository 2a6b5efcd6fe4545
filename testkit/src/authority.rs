//! An authority of certificates for one test, made with `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::TempDir;

/// When a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Valid {
    /// For longer than any test.
    Now,
    /// It has ended long ago.
    Past,
}

/// An authority with a folder of its own, gone when it is dropped.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
}

const CONFIG: &str = "\
[ca]
default_ca = here
[here]
database = index.txt
new_certs_dir = .
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
";

impl Authority {
    /// `None` when there is no `openssl`, which is said ([`crate::need`]).
    #[must_use]
    pub fn new(test: &str) -> Option<Self> {
        crate::need(test, "openssl", "apt-get install openssl")?;
        let this = Self { dir: TempDir::new() };
        this.dir.write("config", 0o600, CONFIG);
        this.dir.write("index.txt", 0o600, "");
        let folder = this.path().file_name().unwrap_or_default().to_string_lossy();
        let subject = format!("/CN=authority of {folder}");
        let args = ["req", "-x509", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", &subject];
        let more = ["-days", "3650", "-addext", "keyUsage=critical,keyCertSign"];
        this.openssl(&[&args[..], &more, &CURVE].concat());
        Some(this)
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A certificate and its key, in PEM, for `name` as in a subject's alternative names
    /// (`IP:127.0.0.1`), of a server and of a client.
    #[must_use]
    pub fn issue(&self, file: &str, name: &str, valid: Valid) -> (PathBuf, PathBuf) {
        let (key, asked, made) = (format!("{file}.key"), format!("{file}.csr"), format!("{file}.pem"));
        let subject = format!("/CN={file}");
        let args = ["req", "-nodes", "-keyout", &key, "-out", &asked, "-subj", &subject];
        self.openssl(&[&args[..], &CURVE].concat());
        let extensions = format!("subjectAltName={name}\nextendedKeyUsage=serverAuth,clientAuth\n");
        self.dir.write(&format!("{file}.ext"), 0o600, extensions);
        let end = if valid == Valid::Now { "20491231235959Z" } else { "20200102000000Z" };
        let args = ["ca", "-batch", "-notext", "-config", "config", "-cert", "ca.pem", "-keyfile", "ca.key"];
        let extensions = format!("{file}.ext");
        let more = ["-in", &asked, "-out", &made, "-extfile", &extensions];
        self.openssl(&[&args[..], &more, &["-startdate", "20200101000000Z", "-enddate", end]].concat());
        (self.dir.join(&made), self.dir.join(&key))
    }

    fn openssl(&self, args: &[&str]) {
        let done = Command::new("openssl").args(args).current_dir(self.path()).output();
        let done = done.unwrap_or_else(|error| panic!("openssl: {error}"));
        assert!(done.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

const CURVE: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
