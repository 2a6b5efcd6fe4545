//! One GET at a time, with a bound on everything: size, time, redirects, encodings.

use std::fmt;
use std::io::Read as _;
use std::time::Duration;

use tkcore::Timestamp;
use ureq::http::{HeaderMap, StatusCode};

use crate::https;

/// What to fetch.
#[derive(Debug, Clone)]
pub(crate) struct Want<'a> {
    pub(crate) url: &'a str,
    /// Most bytes of the whole object. One more and the answer is refused.
    pub(crate) limit: u64,
    /// The validator of what is there already.
    pub(crate) etag: Option<&'a str>,
    /// Bytes of the object that are there already.
    pub(crate) have: u64,
    /// A held request, which may end without news: 304 and 204 are then answers.
    pub(crate) held: bool,
    /// Until the status line must have come.
    pub(crate) patience: Duration,
}

/// Takes the body as it comes.
pub(crate) trait Sink {
    /// The body starts at `offset`: 0, or what was asked for as `have`. `total` is what the
    /// server says the whole object measures.
    fn start(&mut self, offset: u64, total: Option<u64>) -> std::io::Result<()>;
    fn data(&mut self, bytes: &[u8]) -> std::io::Result<()>;
}

/// A sink in memory.
impl Sink for Vec<u8> {
    fn start(&mut self, offset: u64, _total: Option<u64>) -> std::io::Result<()> {
        self.truncate(usize::try_from(offset).unwrap_or(usize::MAX));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// How an answer ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Received {
    /// The body is in the sink, whole.
    Body { etag: Option<String> },
    /// 304: proves nothing and extends nothing.
    NotModified,
    /// 404 or 410.
    Absent,
}

/// Why a fetch gave nothing usable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection, or it broke.
    Connection(String),
    /// The server took too long.
    Timeout,
    /// A status that is no answer: an error, or a redirect, which is never followed.
    Status(u16),
    /// The body is longer than the object may be.
    TooLarge,
    /// The body is content-encoded. Nothing was asked to be, and a small encoded body can be a
    /// huge decoded one.
    Encoded,
    /// The body ended before its announced length.
    Truncated,
    /// The answer to a range is not the range that was asked for.
    Range,
    /// The bytes could not be kept: the local disk, not the server.
    Local(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(why) => write!(f, "no connection: {why}"),
            Self::Timeout => f.write_str("the server took too long"),
            Self::Status(code) => write!(f, "the server answered with status {code}"),
            Self::TooLarge => f.write_str("the answer is longer than the object may be"),
            Self::Encoded => f.write_str("the answer has a content encoding"),
            Self::Truncated => f.write_str("the answer was cut off"),
            Self::Range => f.write_str("the server sent another range than was asked for"),
            Self::Local(why) => write!(f, "the bytes could not be kept: {why}"),
        }
    }
}

impl std::error::Error for FetchError {}

/// An error, and how long the server asked to be left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) error: FetchError,
    pub(crate) retry_after: Option<Duration>,
}

impl From<FetchError> for Failed {
    fn from(error: FetchError) -> Self {
        Self { error, retry_after: None }
    }
}

/// Longest `Retry-After` that is honoured: a server, or whoever stands in for it, must not be
/// able to switch a service's revocation off for a day with one header.
pub(crate) const RETRY_AFTER_MOST: Duration = Duration::from_secs(300);

/// Silence within a body after which the connection is given up.
const READ_PATIENCE: Duration = Duration::from_secs(20);

/// Slowest transfer tolerated over a whole body, in bytes a second: without it, a byte every
/// 19 seconds would keep the one fetching thread for ever. 16 KiB/s is below any link on which
/// a service could run; a larger object gets more time in proportion.
const SLOWEST: u64 = 16 * 1024;

/// Response headers are read up to this many bytes.
const HEADER_BYTES: usize = 16 * 1024;

/// Fetches over HTTP; keeps connections.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    agent: ureq::Agent,
    https: https::Fault,
}

impl Fetcher {
    pub(crate) fn new() -> Self {
        let (config, https) = https::rooted(ureq::Agent::config_builder());
        let config = config
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("tkverify/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_per_read(Some(READ_PATIENCE))
            .max_response_header_size(HEADER_BYTES)
            .max_idle_connections(4)
            .build();
        Self { agent: config.new_agent(), https }
    }

    /// Fetches into `sink`. `now` only serves to read a `Retry-After` that is a date.
    pub(crate) fn fetch(
        &self,
        want: &Want<'_>,
        sink: &mut dyn Sink,
        now: Timestamp,
    ) -> Result<Received, Failed> {
        if let (Some(why), true) = (&self.https, want.url.starts_with("https:")) {
            return Err(Failed::from(FetchError::Connection(why.clone())));
        }
        let whole = want.patience.saturating_add(Duration::from_secs(want.limit / SLOWEST));
        let mut request = self.agent.get(want.url).header("accept-encoding", "identity");
        if let Some(etag) = want.etag {
            request = request.header("if-none-match", etag);
        }
        if want.have > 0 {
            request = request.header("range", format!("bytes={}-", want.have));
        }
        let request = request
            .config()
            .timeout_recv_response(Some(want.patience))
            .timeout_per_read(Some(want.patience.max(READ_PATIENCE)))
            .timeout_global(Some(whole.saturating_add(Duration::from_secs(5))))
            .build();
        let mut response = request.call().map_err(|e| Failed::from(transport(e)))?;
        let retry_after = retry_after(response.headers(), now);
        let fail = |error| Failed { error, retry_after };
        let offset = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if want.have > 0 => want.have,
            StatusCode::NOT_MODIFIED if want.etag.is_some() || want.held => {
                return Ok(Received::NotModified);
            }
            StatusCode::NO_CONTENT if want.held => return Ok(Received::NotModified),
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Received::Absent),
            status => return Err(fail(FetchError::Status(status.as_u16()))),
        };
        let headers = response.headers();
        if header(headers, "content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
        {
            return Err(fail(FetchError::Encoded));
        }
        let announced = header(headers, "content-length").and_then(|text| text.parse::<u64>().ok());
        let total = if offset == 0 {
            announced
        } else {
            let (start, total) = header(headers, "content-range")
                .and_then(content_range)
                .ok_or_else(|| fail(FetchError::Range))?;
            if start != offset {
                return Err(fail(FetchError::Range));
            }
            Some(total)
        };
        if total.is_some_and(|total| total > want.limit) {
            return Err(fail(FetchError::TooLarge));
        }
        let etag = header(headers, "etag").filter(|etag| etag.len() <= 128).map(str::to_owned);
        let local = |e: std::io::Error| fail(FetchError::Local(e.to_string()));
        sink.start(offset, total).map_err(local)?;
        // One byte past the limit is enough to know that it is too long.
        let mut body =
            response.body_mut().as_reader().take(want.limit.saturating_sub(offset).saturating_add(1));
        let mut at = offset;
        let mut buffer = [0u8; 16 * 1024];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(fail(broken(&e))),
            };
            at = at.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
            if at > want.limit {
                return Err(fail(FetchError::TooLarge));
            }
            sink.data(buffer.get(..read).unwrap_or_default()).map_err(local)?;
        }
        if total.is_some_and(|total| at < total) {
            return Err(fail(FetchError::Truncated));
        }
        Ok(Received::Body { etag })
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

fn transport(error: ureq::Error) -> FetchError {
    match error {
        ureq::Error::Timeout(_) => FetchError::Timeout,
        ureq::Error::StatusCode(code) => FetchError::Status(code),
        ureq::Error::Io(e) => broken(&e),
        other => FetchError::Connection(other.to_string()),
    }
}

/// What an error inside a body means. `ureq` wraps its own errors into `io::Error`.
fn broken(error: &std::io::Error) -> FetchError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    match (error.kind(), inner) {
        (_, Some(ureq::Error::Timeout(_))) | (std::io::ErrorKind::TimedOut, _) => FetchError::Timeout,
        (std::io::ErrorKind::UnexpectedEof, _) => FetchError::Truncated,
        (_, _) => FetchError::Connection(error.to_string()),
    }
}

/// `bytes START-END/TOTAL`: start and total. A total of `*` is refused, since the object's
/// size is what the limit is about.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end, total) =
        (start.parse::<u64>().ok()?, end.parse::<u64>().ok()?, total.parse::<u64>().ok()?);
    (start <= end && end.checked_add(1) == Some(total)).then_some((start, total))
}

/// RFC 9110, section 10.2.3: seconds, or a date. Cut to [`RETRY_AFTER_MOST`].
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = header(headers, "retry-after")?;
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => http_date(text)?.saturating_since(now),
    };
    Some(wait.min(RETRY_AFTER_MOST))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form of RFC 9110, section 5.6.7 that may be sent.
fn http_date(text: &str) -> Option<Timestamp> {
    let (_weekday, rest) = text.split_once(", ")?;
    let mut parts = rest.split(' ');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let (time, zone) = (parts.next()?, parts.next()?);
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| *name == month)?.checked_add(1)?;
    if zone != "GMT" || parts.next().is_some() {
        return None;
    }
    Timestamp::from_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
}

#[cfg(test)]
mod tests {
    use testkit::http::{Reply, Server};

    use super::*;

    #[test]
    fn a_content_range_must_reach_to_the_end() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 10)));
        for wrong in ["bytes 5-8/10", "bytes 5-9/*", "bytes 9-5/10", "items 5-9/10", "bytes */10", "5-9/10"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        let now = Timestamp::from_rfc3339("1994-11-06T08:49:30Z").unwrap();
        let wait = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("300"), Some(RETRY_AFTER_MOST));
        assert_eq!(wait("301"), Some(RETRY_AFTER_MOST));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("Sun, 06 Nov 2094 08:49:37 GMT"), Some(RETRY_AFTER_MOST));
        for nonsense in ["", "-1", "soon", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET"] {
            assert_eq!(wait(nonsense), None, "{nonsense}");
        }
    }

    fn get(reply: Reply, change: impl FnOnce(&mut Want<'_>)) -> (Result<Received, Failed>, Vec<u8>) {
        let server = Server::start(move |_| reply.clone());
        let url = format!("{}/x", server.url());
        let mut want = Want {
            url: &url,
            limit: 1000,
            etag: None,
            have: 0,
            held: false,
            patience: Duration::from_secs(30),
        };
        change(&mut want);
        let mut sink = vec![b'a'; 2000];
        sink.truncate(usize::try_from(want.have).unwrap());
        let result = Fetcher::new().fetch(&want, &mut sink, Timestamp::EPOCH);
        (result, sink)
    }

    fn error(reply: Reply, change: impl FnOnce(&mut Want<'_>)) -> FetchError {
        get(reply, change).0.unwrap_err().error
    }

    #[test]
    fn a_body_arrives_whole_with_its_validator() {
        let (result, body) = get(Reply::ok("hello").with("etag", "\"v1\""), |_| ());
        assert_eq!(result, Ok(Received::Body { etag: Some("\"v1\"".to_owned()) }));
        assert_eq!(body, b"hello");
    }

    #[test]
    fn the_limit_holds_to_the_byte_announced_or_not() {
        assert!(get(Reply::ok(vec![1; 1000]), |_| ()).0.is_ok());
        assert_eq!(error(Reply::ok(vec![1; 1001]), |_| ()), FetchError::TooLarge);
        let unannounced = |len: usize| {
            let mut raw = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
            raw.resize(raw.len() + len, b'x');
            Reply::Raw(raw)
        };
        assert!(get(unannounced(1000), |_| ()).0.is_ok());
        assert_eq!(error(unannounced(1001), |_| ()), FetchError::TooLarge);
        let (result, body) = get(Reply::Endless(vec![7; 4096]), |_| ());
        assert_eq!(result.unwrap_err().error, FetchError::TooLarge);
        assert!(body.len() <= 1000);
    }

    #[test]
    fn a_cut_body_is_not_taken_for_a_short_one() {
        for at in [0, 1, 500, 999] {
            assert!(
                matches!(
                    error(Reply::Cut(vec![1; 1000], at), |_| ()),
                    FetchError::Truncated | FetchError::Connection(_)
                ),
                "{at}"
            );
        }
        assert!(matches!(error(Reply::Close, |_| ()), FetchError::Connection(_) | FetchError::Truncated));
    }

    #[test]
    fn silence_ends_with_patience() {
        let brief = |want: &mut Want<'_>| want.patience = Duration::from_millis(50);
        assert_eq!(error(Reply::Silence, brief), FetchError::Timeout);
    }

    #[test]
    fn encodings_redirects_and_error_statuses_are_no_answer() {
        assert_eq!(error(Reply::ok("x").with("content-encoding", "gzip"), |_| ()), FetchError::Encoded);
        assert!(get(Reply::ok("x").with("content-encoding", "identity"), |_| ()).0.is_ok());
        let elsewhere = Reply::status(302).with("location", "http://127.0.0.1:1/");
        assert_eq!(error(elsewhere, |_| ()), FetchError::Status(302));
        let later = get(Reply::status(503).with("retry-after", "9"), |_| ()).0.unwrap_err();
        assert_eq!(
            later,
            Failed { error: FetchError::Status(503), retry_after: Some(Duration::from_secs(9)) }
        );
        assert_eq!(get(Reply::status(404), |_| ()).0, Ok(Received::Absent));
        assert_eq!(get(Reply::status(410), |_| ()).0, Ok(Received::Absent));
    }

    #[test]
    fn not_modified_counts_only_when_it_was_asked_for() {
        assert_eq!(error(Reply::status(304), |_| ()), FetchError::Status(304));
        assert_eq!(get(Reply::status(304), |want| want.etag = Some("\"v\"")).0, Ok(Received::NotModified));
        assert_eq!(get(Reply::status(304), |want| want.held = true).0, Ok(Received::NotModified));
        assert_eq!(get(Reply::status(204), |want| want.held = true).0, Ok(Received::NotModified));
        assert_eq!(error(Reply::status(204), |_| ()), FetchError::Status(204));
    }

    #[test]
    fn a_range_resumes_and_a_server_without_ranges_starts_again() {
        let have = |want: &mut Want<'_>| want.have = 4;
        let part =
            |range: &str| Reply::Answer(206, vec![("content-range".into(), range.into())], b"efgh".to_vec());
        let (result, body) = get(part("bytes 4-7/8"), have);
        assert!(result.is_ok());
        assert_eq!(body, b"aaaaefgh");
        let (result, body) = get(Reply::ok("12345678"), have);
        assert!(result.is_ok());
        assert_eq!(body, b"12345678");
        assert_eq!(error(part("bytes 3-6/7"), have), FetchError::Range);
        assert_eq!(error(part("bytes 4-7/*"), have), FetchError::Range);
        assert_eq!(error(part("bytes 4-2000/2001"), have), FetchError::TooLarge);
        assert_eq!(error(part("bytes 4-7/8"), |_| ()), FetchError::Status(206));
    }
}
