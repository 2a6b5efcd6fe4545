//! A TCP proxy on loopback whose connections a test stalls, as a broken network does, or refuses.
//!
//! Stalled bytes are kept and go on when the way is open again, as they would by TCP itself.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a request that is to be held may take to come: an end for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of the connections of one who connects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// Forwarded.
    #[default]
    Open,
    /// Accepted, and nothing passes in either direction.
    Stalled,
    /// Closed, new ones at once.
    Refused,
}

/// A running proxy to one address; ends with all its connections when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accept: Option<JoinHandle<()>>,
}

/// Says who has connected, by the address that a connection comes from; `None` closes it.
type Who = dyn Fn(SocketAddr) -> Option<usize> + Send + Sync;

struct Shared {
    who: Box<Who>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By who connects; those that are not here are open.
    ways: BTreeMap<usize, Way>,
    /// By a number of their own.
    open: BTreeMap<u64, (Arc<Link>, [TcpStream; 2])>,
    next: u64,
    stop: bool,
    /// What is looked for in requests; see [`Proxy::lose`] and [`Proxy::hold`].
    lose: Option<Vec<u8>>,
    hold: Option<(usize, Vec<u8>)>,
}

/// One who has connected. Who it is may cost a search, so it is asked only while ways differ.
struct Link {
    from: SocketAddr,
    who: OnceLock<Option<usize>>,
    /// The answer that comes next is dropped.
    loses: AtomicBool,
}

impl Proxy {
    /// Forwards to `to`, an `ADDRESS:PORT` where nobody need listen yet. All that connect are 0.
    ///
    /// # Panics
    /// When loopback cannot be bound.
    #[must_use]
    pub fn start(to: &str) -> Self {
        Self::between(to, |_| Some(0))
    }

    /// The same, telling apart who connects.
    ///
    /// # Panics
    /// When loopback cannot be bound.
    #[must_use]
    pub fn between(to: &str, who: impl Fn(SocketAddr) -> Option<usize> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (who, state, changed) = (Box::new(who), Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { who, state, changed });
        let to = to.to_owned();
        let accepted = Arc::clone(&shared);
        let accept = thread::spawn(move || {
            for stream in listener.incoming() {
                if accepted.lock().stop {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (shared, to) = (Arc::clone(&accepted), to.clone());
                thread::spawn(move || drop(forward(&shared, &stream, &to)));
            }
        });
        Self { address, shared, accept: Some(accept) }
    }

    /// `ADDRESS:PORT` where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What becomes of the connections of `who` from now on, those that are there included.
    pub fn set(&self, who: usize, way: Way) {
        self.shared.set(who, way);
    }

    /// Lets the next request that contains these bytes through, drops its answer, and then refuses
    /// whoever asked, until [`Proxy::set`]: it was done, and nobody was told.
    pub fn lose(&self, request: &[u8]) {
        self.shared.lock().lose = Some(request.to_vec());
    }

    /// Waits until such an answer was dropped; whether it was.
    #[must_use]
    pub fn lost(&self) -> bool {
        let is_open = |state: &State| state.ways.values().all(|way| *way == Way::Open);
        self.await_state(|state| state.lose.is_some() || is_open(state))
    }

    /// Stalls everything from the `nth` request on that contains these bytes, until [`Proxy::set`].
    pub fn hold(&self, nth: usize, request: &[u8]) {
        self.shared.lock().hold = Some((nth, request.to_vec()));
    }

    /// Waits until the request that is to be held has come; whether it has.
    #[must_use]
    pub fn held(&self) -> bool {
        self.await_state(|state| state.hold.is_some())
    }

    fn await_state(&self, is_early: impl Fn(&State) -> bool) -> bool {
        let waiting = |state: &mut State| is_early(state) && !state.stop;
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), PATIENCE, waiting);
        waited.is_ok_and(|(_, out)| !out.timed_out())
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stop = true;
        state.close(|_| true);
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, who: usize, way: Way) {
        let mut state = self.lock();
        state.ways.insert(who, way);
        if way == Way::Refused {
            state.close(|link| self.who(link) == Some(who));
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Looks for the request whose answer is to be lost, or that is to be held.
    fn look(&self, link: &Link, bytes: &[u8]) {
        let is_in = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
        let mut state = self.lock();
        if state.lose.take_if(|lose| is_in(lose)).is_some() {
            link.loses.store(true, Ordering::SeqCst);
        }
        let hold = |(left, word): &mut (usize, Vec<u8>)| {
            *left -= usize::from(is_in(word));
            *left == 0
        };
        if state.hold.take_if(hold).is_some()
            && let Some(who) = self.who(link)
        {
            state.ways.insert(who, Way::Stalled);
            drop(state);
            self.changed.notify_all();
        }
    }

    fn who(&self, link: &Link) -> Option<usize> {
        *link.who.get_or_init(|| (self.who)(link.from))
    }

    /// Waits until bytes of one who connected may pass; `false` when they never will.
    fn pass(&self, link: &Link) -> bool {
        let state = self.lock();
        if state.stop || state.ways.values().all(|way| *way == Way::Open) {
            return !state.stop;
        }
        drop(state);
        let Some(who) = self.who(link) else { return false };
        let stalled = |state: &mut State| state.way(who) == Way::Stalled && !state.stop;
        let state = self.changed.wait_while(self.lock(), stalled).unwrap_or_else(PoisonError::into_inner);
        state.way(who) == Way::Open && !state.stop
    }
}

impl State {
    fn way(&self, who: usize) -> Way {
        self.ways.get(&who).copied().unwrap_or_default()
    }

    fn close(&self, which: impl Fn(&Link) -> bool) {
        for (_, streams) in self.open.values().filter(|(link, _)| which(link)) {
            for stream in streams {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn forward(shared: &Arc<Shared>, from: &TcpStream, to: &str) -> std::io::Result<()> {
    let link =
        Arc::new(Link { from: from.peer_addr()?, who: OnceLock::new(), loses: AtomicBool::new(false) });
    if !shared.pass(&link) {
        return Ok(());
    }
    let to = TcpStream::connect(to)?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    let number = {
        let mut state = shared.lock();
        state.next += 1;
        let number = state.next;
        state.open.insert(number, (Arc::clone(&link), [from.try_clone()?, to.try_clone()?]));
        number
    };
    let back = {
        let (shared, link) = (Arc::clone(shared), Arc::clone(&link));
        let (from, to) = (to.try_clone()?, from.try_clone()?);
        let answered = move |_: &[u8]| {
            let is_lost = link.loses.load(Ordering::SeqCst);
            if is_lost && let Some(who) = shared.who(&link) {
                shared.set(who, Way::Refused);
            }
            !is_lost && shared.pass(&link)
        };
        thread::spawn(move || pump(answered, from, to))
    };
    let asked = |bytes: &[u8]| {
        shared.look(&link, bytes);
        shared.pass(&link)
    };
    pump(asked, from.try_clone()?, to);
    let _ = back.join();
    shared.lock().open.remove(&number);
    Ok(())
}

/// Copies what may pass of one direction to its end, and ends both with it.
fn pump(may_pass: impl Fn(&[u8]) -> bool, mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !may_pass(&bytes[..count]) || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let accepting = listener.try_clone().unwrap();
        thread::spawn(move || {
            for stream in accepting.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        listener
    }

    fn say(stream: &mut TcpStream, word: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(word)?;
        let mut heard = vec![0; word.len()];
        stream.read_exact(&mut heard).map(|()| heard)
    }

    #[test]
    fn what_is_stalled_comes_later_and_what_is_refused_never() {
        let to = echo();
        let proxy = Proxy::start(&to.local_addr().unwrap().to_string());
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        assert_eq!(say(&mut stream, b"one").unwrap(), b"one");
        proxy.set(0, Way::Stalled);
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(say(&mut stream, b"two").is_err(), "it is stalled");
        let mut new = TcpStream::connect(proxy.address()).unwrap();
        new.write_all(b"new").unwrap();
        proxy.set(0, Way::Open);
        let mut heard = [0; 3];
        for (stream, word) in [(&mut stream, b"two"), (&mut new, b"new")] {
            stream.set_read_timeout(None).unwrap();
            stream.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, word, "it came in the end");
        }
        proxy.set(0, Way::Refused);
        assert_eq!(stream.read(&mut heard).unwrap_or(0), 0, "an open one is closed");
        let late = TcpStream::connect(proxy.address()).and_then(|mut late| say(&mut late, b"no"));
        assert!(late.is_err(), "a new one is closed");
    }

    #[test]
    fn what_was_asked_is_done_and_its_answer_lost() {
        let to = echo();
        let proxy = Proxy::start(&to.local_addr().unwrap().to_string());
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        proxy.lose(b"two");
        assert_eq!(say(&mut stream, b"one").unwrap(), b"one");
        assert!(say(&mut stream, b"a two").is_err());
        let late = TcpStream::connect(proxy.address()).and_then(|mut late| say(&mut late, b"no"));
        assert!(late.is_err(), "a new one is closed");
        proxy.set(0, Way::Open);
        let mut again = TcpStream::connect(proxy.address()).unwrap();
        assert_eq!(say(&mut again, b"two").unwrap(), b"two", "only once");
    }

    #[test]
    fn the_second_that_is_asked_is_held() {
        let to = echo();
        let proxy = Proxy::start(&to.local_addr().unwrap().to_string());
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        proxy.hold(2, b"two");
        for word in [b"one", b"two"] {
            assert_eq!(say(&mut stream, word).unwrap(), word);
        }
        stream.write_all(b"two").unwrap();
        assert!(proxy.held());
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut heard = [0; 3];
        assert!(stream.read_exact(&mut heard).is_err(), "it is stalled");
        proxy.set(0, Way::Open);
        stream.set_read_timeout(None).unwrap();
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"two");
    }

    #[test]
    fn who_connects_is_told_apart() {
        let to = echo();
        let one = Arc::new(Mutex::new(None));
        let is_one = Arc::clone(&one);
        let who = move |from: SocketAddr| Some(usize::from(*is_one.lock().unwrap() == Some(from)));
        let proxy = Proxy::between(&to.local_addr().unwrap().to_string(), who);
        let mut first = TcpStream::connect(proxy.address()).unwrap();
        let mut second = TcpStream::connect(proxy.address()).unwrap();
        assert_eq!(say(&mut first, b"a").unwrap(), b"a");
        one.lock().unwrap().replace(first.local_addr().unwrap());
        proxy.set(1, Way::Refused);
        assert!(say(&mut first, b"b").is_err());
        assert_eq!(say(&mut second, b"c").unwrap(), b"c");
    }
}
