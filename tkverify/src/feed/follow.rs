//! The background thread that keeps a feed's state fresh.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tkcore::revocation::FeedPath;
use tkcore::revocation::feed::{Fetch, Freshness, Next};

use super::driver::{Answer, Driver};

/// How often a reader looks whether the folder has a new head: "within a second", with room.
const LOOK: Duration = Duration::from_millis(400);

/// How often the one who waits for an answer alone looks up; the answer itself wakes it.
const ALONE: Duration = Duration::from_secs(3600);

/// How often a reader tries to become the writer.
const TRY_WRITE_EVERY: u32 = 10;

/// What the thread is told.
enum Message {
    /// Ask now.
    Poll,
    Stop,
    /// The answer to the fetch of that number.
    Answer(u64, Answer),
}

/// A running follower. Stops when dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    sender: Sender<Message>,
    cancel: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Starts the thread.
    pub(crate) fn start(driver: Driver) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let cancel = Arc::new(AtomicBool::new(false));
        let follow = Follow {
            driver,
            receiver,
            sender: sender.clone(),
            cancel: Arc::clone(&cancel),
            number: 0,
            looks: 0,
        };
        let thread = thread::Builder::new().name("tk-feed".to_owned()).spawn(move || follow.run())?;
        Ok(Self { sender, cancel, thread: Some(thread) })
    }

    /// Follows on this thread, until the process ends.
    pub(crate) fn keep_on(driver: Driver) {
        let (sender, receiver) = mpsc::channel();
        let cancel = Arc::new(AtomicBool::new(false));
        Follow { driver, receiver, sender, cancel, number: 0, looks: 0 }.run();
    }

    pub(crate) fn poll_now(&self) {
        let _ = self.sender.send(Message::Poll);
    }
}

impl Drop for Follower {
    /// Waits for the thread, which waits for nothing itself: a request that is under way is
    /// left to a helper that owns a socket and nothing else, and ends with its own time limit.
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
        let _ = self.sender.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Follow {
    driver: Driver,
    receiver: Receiver<Message>,
    sender: Sender<Message>,
    cancel: Arc<AtomicBool>,
    number: u64,
    looks: u32,
}

/// Whether to go on.
enum Go {
    On,
    Stop,
}

impl Follow {
    fn run(mut self) {
        // Whoever only reads must not keep the one who writes from it.
        if self.driver.has_mirrors() {
            let _ = self.driver.try_write();
        }
        self.driver.load();
        while let Go::On = self.turn() {}
    }

    fn turn(&mut self) -> Go {
        if self.reads_alone() {
            return self.look();
        }
        match self.driver.next() {
            Next::Sleep(time) => {
                let time = if self.is_reader() { time.min(LOOK) } else { time };
                match self.receiver.recv_timeout(time) {
                    Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Go::Stop,
                    Ok(Message::Poll) => self.driver.poll_now(),
                    Ok(Message::Answer(..)) => {}
                    Err(RecvTimeoutError::Timeout) => self.glance(),
                }
                Go::On
            }
            Next::Fetch(fetch) => self.fetch(fetch),
        }
    }

    /// Whether there is a folder that somebody else writes.
    fn is_reader(&self) -> bool {
        self.driver.has_folder() && !self.driver.is_writer()
    }

    /// Whether another process brings the state: there is nothing to fetch from, or it holds
    /// the lock and what it brings is fresh. When it stops bringing, this process fetches for
    /// itself, in memory.
    fn reads_alone(&self) -> bool {
        if !self.driver.has_mirrors() {
            return true;
        }
        let health = self.driver.machine().health(self.driver.moment());
        self.is_reader() && health.freshness == Freshness::Fresh
    }

    /// One look at the folder.
    fn look(&mut self) -> Go {
        match self.receiver.recv_timeout(LOOK) {
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Go::Stop,
            Ok(Message::Poll | Message::Answer(..)) | Err(RecvTimeoutError::Timeout) => {}
        }
        self.glance();
        Go::On
    }

    /// Takes what another process brought to the folder, or its place when it has ended. Also while
    /// this process fetches for itself: whoever brings the state first is right.
    fn glance(&mut self) {
        if !self.is_reader() {
            return;
        }
        self.looks = self.looks.wrapping_add(1);
        if self.driver.has_mirrors() && self.looks.is_multiple_of(TRY_WRITE_EVERY) {
            self.driver.take_over();
        }
        self.driver.load();
    }

    fn fetch(&mut self, fetch: Fetch) -> Go {
        self.number = self.number.wrapping_add(1);
        let number = self.number;
        let job = self.driver.job(fetch.clone(), &self.cancel);
        let sender = self.sender.clone();
        let helper = thread::Builder::new().name("tk-fetch".to_owned()).spawn(move || {
            // Nobody listens any more when this fails.
            let _ = sender.send(Message::Answer(number, job.run(None)));
        });
        if helper.is_err() {
            // No thread to be had: a pause, then again.
            return match self.receiver.recv_timeout(LOOK) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => Go::Stop,
                Ok(_) | Err(RecvTimeoutError::Timeout) => Go::On,
            };
        }
        loop {
            let patience = if self.is_reader() { LOOK } else { ALONE };
            match self.receiver.recv_timeout(patience) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Go::Stop,
                Err(RecvTimeoutError::Timeout) => {
                    self.glance();
                    // The folder is fresh again: the request is given up.
                    if self.reads_alone() {
                        return Go::On;
                    }
                }
                Ok(Message::Answer(of, answer)) if of == number => {
                    self.driver.receive(&fetch, answer);
                    return Go::On;
                }
                // Of a request that was given up.
                Ok(Message::Answer(..)) => {}
                Ok(Message::Poll) if matches!(fetch.path, FeedPath::Wait { .. }) => {
                    // The held request is given up for one that is answered at once.
                    self.driver.poll_now();
                    let fetch = Fetch { path: FeedPath::Head, hold: Duration::ZERO, ..fetch };
                    return self.fetch(fetch);
                }
                // What is under way is as good as now.
                Ok(Message::Poll) => self.driver.poll_now(),
            }
        }
    }
}
