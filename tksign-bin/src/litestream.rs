//! Waits until what was committed lies in the replica, by Litestream's control socket.
//!
//! Litestream copies the database's log beside the signer. A revocation that is acknowledged only
//! when the copy has it survives the loss of the whole machine. It is in force from its own
//! commit on, whatever the copy does: a replica that cannot be reached delays the answer's
//! second half and nothing else.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tkcore::Json;
use tkcore::protocol::{Code, RpcError};
use tokio::sync::Mutex;

use crate::writer::Answer;

/// How long a caller waits for the replica: an upload to a bucket takes tenths of a second, and
/// callers give up after ten.
const PATIENCE: Duration = Duration::from_secs(8);
/// Longest answer read.
const ANSWER_BYTES: u64 = 64 * 1024;

/// A replica to wait for.
#[derive(Debug)]
pub struct Litestream {
    socket: PathBuf,
    database: String,
    asked: AtomicU64,
    /// All that asked before this number lie in the replica.
    reached: Mutex<u64>,
}

impl Litestream {
    /// `database` as Litestream's configuration names it: by its absolute path; `None`
    /// when it is not there.
    #[must_use]
    pub fn new(socket: &Path, database: &Path) -> Option<Self> {
        let database = database.canonicalize().ok()?.to_str()?.to_owned();
        Some(Self { socket: socket.to_owned(), database, asked: AtomicU64::new(0), reached: Mutex::new(0) })
    }

    /// Waits until everything that is committed now lies in the replica. Those who wait at once
    /// share one request.
    ///
    /// # Errors
    /// [`Code::NotYetRemote`]: it is in force, and asking again under the same request id does
    /// nothing but wait once more.
    pub async fn reached(&self) -> Result<(), RpcError> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        let waited = tokio::time::timeout(PATIENCE, async {
            let mut reached = self.reached.lock().await;
            if *reached < mine {
                let all = self.asked.load(Ordering::SeqCst);
                self.sync().await?;
                *reached = all;
            }
            Ok(())
        });
        let not_yet = |why: &str| {
            Code::NotYetRemote.detail(&format!("in force, not yet remote-durable; retry ({why})"))
        };
        match waited.await {
            Ok(result) => result.map_err(|why: String| not_yet(&why)),
            Err(_) => Err(not_yet("the replica does not answer in time")),
        }
    }

    async fn sync(&self) -> Result<(), String> {
        let (socket, database) = (self.socket.clone(), self.database.clone());
        let answer = tokio::task::spawn_blocking(move || post(&socket, &database)).await;
        let answer =
            answer.map_err(|error| error.to_string())?.map_err(|error| format!("litestream: {error}"))?;
        read(&answer).map_err(|why| format!("litestream: {why}"))
    }
}

/// An answer, given once what it says lies in the replica as well, where there is one.
pub(crate) async fn replicated(answer: Answer, replica: Option<&Litestream>) -> Answer {
    if let (Some(replica), Ok(_)) = (replica, &answer) {
        replica.reached().await?;
    }
    answer
}

/// One request, one answer, one connection: the default build has no HTTP client, and `want`
/// and `try-lock`, which hyper's would bring, are not worth this.
fn post(socket: &Path, database: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let asked = [("path", database.into()), ("wait", true.into()), ("timeout", PATIENCE.as_secs().into())];
    let body = Json::object(asked).to_string();
    // HTTP/1.0: the answer is not in chunks, and ends with the connection.
    let head = format!(
        "POST /sync HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Whether the answer says that the replica has everything.
fn read(answer: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
    let is_good = head.split(' ').nth(1) == Some("200");
    let said = Json::read(body).ok_or("no JSON")?;
    let reached = said.get("txid").filter(|txid| matches!(txid, Json::Int(_)));
    if is_good && reached.is_some() && reached == said.get("replicated_txid") {
        return Ok(());
    }
    let why = said.get("error").and_then(Json::text).unwrap_or("the replica is behind");
    Err(why.chars().filter(|c| !c.is_control()).take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_replica_that_has_everything_counts() {
        let ok =
            |status: &str, body: &str| read(format!("HTTP/1.0 {status}\r\na: b\r\n\r\n{body}").as_bytes());
        assert_eq!(ok("200 OK", r#"{"status":"synced","txid":7,"replicated_txid":7}"#), Ok(()));
        assert!(ok("200 OK", r#"{"txid":7,"replicated_txid":6}"#).is_err());
        assert!(ok("200 OK", r#"{"status":"synced"}"#).is_err());
        assert!(ok("200 OK", "").is_err());
        assert!(ok("500 Internal Server Error", r#"{"txid":7,"replicated_txid":7}"#).is_err());
        assert_eq!(ok("500 x", r#"{"error":"bucket\n gone"}"#), Err("bucket gone".to_owned()));
        assert!(read(b"").is_err());
    }
}
