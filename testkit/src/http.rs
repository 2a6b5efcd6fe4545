//! A loopback HTTP/1.1 server for one test, as well or as badly behaved as the test asks.
//!
//! It reads each request's head and hands it to a function that answers with [`Reply`]: a good
//! answer, or raw bytes, an endless body, a cut one, silence.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// Header names in lower case, values trimmed.
    pub headers: Vec<(String, String)>,
    /// The body, when a `Content-Length` came with it (at most 1 MiB is read).
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of that name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Status, headers and body with a correct `Content-Length`.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// Exactly these bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// Status 200 with a body that never ends: these bytes over and over until the client leaves.
    Endless(Vec<u8>),
    /// A good answer's head that promises the whole body, then only its first bytes, then a close.
    Cut(Vec<u8>, usize),
    /// Nothing, until the client leaves or the server is dropped.
    Silence,
    /// The connection is closed without an answer.
    Close,
}

impl Reply {
    /// 200 with a body.
    #[must_use]
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Answer(200, Vec::new(), body.into())
    }

    /// A status without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }

    /// Adds a header to a good answer; leaves any other reply as it is.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        match self {
            Self::Answer(status, mut headers, body) => {
                headers.push((name.to_owned(), value.to_owned()));
                Self::Answer(status, headers, body)
            }
            other => other,
        }
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A running server; stops when dropped.
pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    accept: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on a free loopback port; every connection gets a thread, requests on one
    /// connection are answered in turn.
    ///
    /// # Panics
    /// When loopback cannot be bound.
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(AtomicU64::new(0));
        let open = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let accept = thread::spawn({
            let (stop, requests, open) = (Arc::clone(&stop), Arc::clone(&requests), Arc::clone(&open));
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    if let (Ok(copy), Ok(mut open)) = (stream.try_clone(), open.lock()) {
                        open.push(copy);
                    }
                    let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
                    thread::spawn(move || serve(stream, &*handler, &requests));
                }
            }
        });
        Self { address, stop, requests, open, accept: Some(accept) }
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that arrived so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, and every thread that waits for its client.
        let _ = TcpStream::connect(self.address);
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
        if let Ok(open) = self.open.lock() {
            for stream in open.iter() {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

fn serve(stream: TcpStream, handler: &Handler, requests: &AtomicU64) {
    let Ok(read) = stream.try_clone() else { return };
    let mut read = BufReader::new(read);
    let mut write = stream;
    while let Some(request) = read_request(&mut read) {
        requests.fetch_add(1, Ordering::SeqCst);
        let kept = match handler(&request) {
            Reply::Answer(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} Test\r\n");
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                let empty = status == 304 || status == 204 || request.method == "HEAD";
                if !empty {
                    head.push_str(&format!("Content-Length: {}\r\n", body.len()));
                }
                head.push_str("\r\n");
                let body = if empty { &[][..] } else { &body[..] };
                write.write_all(head.as_bytes()).and_then(|()| write.write_all(body)).is_ok()
            }
            Reply::Raw(bytes) => {
                let _ = write.write_all(&bytes);
                false
            }
            Reply::Endless(bytes) => {
                let head = "HTTP/1.1 200 Test\r\nTransfer-Encoding: chunked\r\n\r\n";
                let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                chunk.extend_from_slice(&bytes);
                chunk.extend_from_slice(b"\r\n");
                let mut alive = write.write_all(head.as_bytes());
                while alive.is_ok() {
                    alive = write.write_all(&chunk);
                }
                false
            }
            Reply::Cut(body, sent) => {
                let head = format!("HTTP/1.1 200 Test\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = write.write_all(head.as_bytes());
                let _ = write.write_all(body.get(..sent).unwrap_or(&body));
                false
            }
            Reply::Silence => {
                let _ = read.fill_buf();
                false
            }
            Reply::Close => false,
        };
        if !kept {
            break;
        }
    }
    let _ = write.shutdown(std::net::Shutdown::Both);
}

fn read_request(read: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    read.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        read.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length: u64 = request.header("content-length").map_or(Some(0), |text| text.parse().ok())?;
    read.take(length.min(1 << 20)).read_to_end(&mut request.body).ok()?;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &Server, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn answers_what_it_is_told_to() {
        let server = Server::start(|request| match request.path.as_str() {
            "/good" => Reply::ok("body").with("ETag", "\"1\""),
            "/raw" => Reply::Raw(b"junk".to_vec()),
            "/cut" => Reply::Cut(b"0123456789".to_vec(), 4),
            "/closed" => Reply::Close,
            _ => Reply::status(404),
        });
        let good = String::from_utf8(ask(&server, "/good")).unwrap();
        assert!(good.starts_with("HTTP/1.1 200 ") && good.ends_with("\r\n\r\nbody"), "{good}");
        assert!(good.contains("ETag: \"1\"\r\nContent-Length: 4\r\n"), "{good}");
        assert_eq!(ask(&server, "/raw"), b"junk");
        let cut = String::from_utf8(ask(&server, "/cut")).unwrap();
        assert!(cut.contains("Content-Length: 10") && cut.ends_with("\r\n\r\n0123"), "{cut}");
        assert_eq!(ask(&server, "/closed"), b"");
        assert!(ask(&server, "/other").starts_with(b"HTTP/1.1 404 "));
        assert_eq!(server.requests(), 5);
    }

    #[test]
    fn an_endless_body_ends_when_the_client_leaves() {
        let server = Server::start(|_| Reply::Endless(vec![b'x'; 1000]));
        let mut stream = TcpStream::connect(server.address()).unwrap();
        write!(stream, "GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut some = vec![0; 1 << 20];
        stream.read_exact(&mut some).unwrap();
    }
}
