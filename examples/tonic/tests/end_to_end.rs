//! A real client of gRPC at the real service.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use harness::{Service, client, mint, narrowed, revoke, signer, text, until};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_example::files_client::FilesClient;
use tonic_example::{File, Name};

struct Caller {
    runtime: tokio::runtime::Runtime,
    files: FilesClient<Channel>,
}

impl Caller {
    fn new(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        let files = FilesClient::new(runtime.block_on(endpoint.connect()).unwrap());
        Self { runtime, files }
    }

    fn request(tenant: &str, token: Option<&str>) -> Request<Name> {
        let mut request = Request::new(Name { name: "plan".to_owned() });
        request.metadata_mut().insert("tenant", tenant.parse().unwrap());
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    }

    fn read(&mut self, tenant: &str, token: Option<&str>) -> Result<File, Status> {
        let call = self.files.read(Self::request(tenant, token));
        self.runtime.block_on(call).map(tonic::Response::into_inner)
    }

    fn delete(&mut self, token: &str) -> Result<File, Status> {
        let call = self.files.delete(Self::request("acme", Some(token)));
        self.runtime.block_on(call).map(tonic::Response::into_inner)
    }
}

/// The code of gRPC and our own.
fn why(result: Result<File, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    let own = status.metadata().get("tk-code").map(|code| code.to_str().unwrap().to_owned());
    (status.code(), own.unwrap_or_default())
}

#[test]
fn a_call_is_allowed_by_what_its_token_says_until_it_is_revoked() {
    let mut signer = signer();
    let (trust, key, state) =
        (signer.trust(), client(&signer, "service.key", "verify", &[]), signer.dir().join("feed"));
    let args = ["--trust", text(&trust), "--client-key", text(&key), "--state", text(&state)];
    let service = Service::start(env!("CARGO_BIN_EXE_tonic-example"), &args);
    let mut caller = Caller::new(&service.address);
    let token = mint(&signer, &["action in read,delete"]);

    assert_eq!(why(caller.read("acme", None)), (Code::Unauthenticated, "missing".to_owned()));
    let file = until("the first grant", || caller.read("acme", Some(&token)));
    assert_eq!((file.text.as_str(), file.by.as_str()), ("plan of acme", "user:17"));
    assert_eq!(caller.delete(&token).unwrap().by, "user:17");
    let narrow = narrowed(&token, &["action = read"]);
    assert!(caller.read("acme", Some(&narrow)).is_ok());
    assert_eq!(why(caller.delete(&narrow)), (Code::PermissionDenied, "caveat".to_owned()));
    assert_eq!(why(caller.read("other", Some(&narrow))).0, Code::PermissionDenied);

    revoke(&signer, &token);
    until("the revocation", || match why_or_fine(caller.read("acme", Some(&narrow))) {
        Some((Code::Unauthenticated, own)) if own == "revoked" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // Deleting has the signer's word of now, or none.
    let known = mint(&signer, &["action in read,delete"]);
    assert!(caller.read("acme", Some(&known)).is_ok());
    signer.kill();
    assert!(caller.read("acme", Some(&known)).is_ok());
    assert_eq!(why(caller.delete(&known)), (Code::Unavailable, "signer-unreachable".to_owned()));
}

fn why_or_fine(result: Result<File, Status>) -> Option<(Code, String)> {
    result.is_err().then(|| why(result))
}
