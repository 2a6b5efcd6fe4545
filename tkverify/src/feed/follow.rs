//! The background thread that keeps a feed's state fresh.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tkcore::revocation::FeedPath;
use tkcore::revocation::feed::{Fetch, Freshness, Next};

use super::driver::{Answer, Driver, Same};

/// How often a reader looks whether the folder has a new head: "within a second", with room.
const LOOK: Duration = Duration::from_millis(400);

/// How often the one who waits for an answer alone looks up; the answer itself wakes it.
const ALONE: Duration = Duration::from_secs(3600);

/// How often a reader tries to become the writer.
const TRY_WRITE_EVERY: u32 = 10;

/// Requests under way, those included that were given up and have not ended yet, from which on
/// nobody's asking begins another one: each has a thread and a connection, and a held one that is
/// given up keeps them for as long as a server likes, at most 65 s.
const UNDER_WAY: usize = 4;

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
    /// A [`Message::Poll`] is on its way: however often a service asks, there is one.
    asked: Arc<AtomicBool>,
    cancel: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Starts the thread.
    pub(crate) fn start(driver: Driver) -> io::Result<Self> {
        let (follow, sender) = Follow::new(driver);
        let (asked, cancel) = (Arc::clone(&follow.asked), Arc::clone(&follow.cancel));
        let thread = thread::Builder::new().name("tk-feed".to_owned()).spawn(move || follow.run())?;
        Ok(Self { sender, asked, cancel, thread: Some(thread) })
    }

    /// Follows on this thread, until the process ends.
    pub(crate) fn keep_on(driver: Driver) {
        let (follow, _sender) = Follow::new(driver);
        follow.run();
    }

    pub(crate) fn poll_now(&self) {
        if !self.asked.swap(true, Ordering::SeqCst) {
            let _ = self.sender.send(Message::Poll);
        }
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
    asked: Arc<AtomicBool>,
    cancel: Arc<AtomicBool>,
    number: u64,
    under_way: usize,
    looks: u32,
}

/// Whether to go on.
enum Go {
    On,
    Stop,
}

impl Follow {
    fn new(driver: Driver) -> (Self, Sender<Message>) {
        let (sender, receiver) = mpsc::channel();
        let follow = Self {
            driver,
            receiver,
            sender: sender.clone(),
            asked: Arc::default(),
            cancel: Arc::default(),
            number: 0,
            under_way: 0,
            looks: 0,
        };
        (follow, sender)
    }

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
                match self.hear(time) {
                    Some(Message::Stop) => return Go::Stop,
                    Some(Message::Poll) => {
                        self.driver.poll_now();
                        self.glance();
                    }
                    Some(Message::Answer(..)) => {}
                    None => self.glance(),
                }
                Go::On
            }
            Next::Fetch(fetch) => self.fetch(fetch),
        }
    }

    /// The next message, if one comes within `patience`.
    fn hear(&mut self, patience: Duration) -> Option<Message> {
        let message = match self.receiver.recv_timeout(patience) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => Message::Stop,
        };
        match message {
            Message::Poll => self.asked.store(false, Ordering::SeqCst),
            Message::Answer(..) => self.under_way = self.under_way.saturating_sub(1),
            Message::Stop => {}
        }
        Some(message)
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
        if let Some(Message::Stop) = self.hear(LOOK) {
            return Go::Stop;
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
        let Some(number) = self.begin(&fetch) else {
            // No thread to be had: a pause, then again.
            return if let Some(Message::Stop) = self.hear(LOOK) { Go::Stop } else { Go::On };
        };
        let is_held = matches!(fetch.path, FeedPath::Wait { .. });
        // Somebody asked since the last request began: its answer may be older than the question.
        let mut is_due = false;
        // Beside a held request, which goes on, the head is asked for as it is.
        let mut beside: Option<(u64, Fetch)> = None;
        loop {
            if is_due
                && is_held
                && beside.is_none()
                && self.under_way < UNDER_WAY
                && let Some(head) = self.driver.head_of(fetch.mirror)
            {
                beside = self.begin(&head).map(|number| (number, head));
                is_due = beside.is_none();
            }
            match self.hear(if is_due || self.is_reader() { LOOK } else { ALONE }) {
                Some(Message::Stop) => return Go::Stop,
                Some(Message::Answer(of, answer)) if of == number => {
                    self.driver.receive(&fetch, answer);
                    break;
                }
                // Of a request that was given up, unless it is the one beside.
                Some(Message::Answer(of, answer)) => {
                    let Some((_, head)) = beside.take_if(|(number, _)| *number == of) else { continue };
                    let (_, same) = self.driver.receive(&head, answer);
                    match self.driver.mirror() {
                        // Nothing new, and no better place to wait at: the held request is still right.
                        Some(mirror) if mirror == fetch.mirror && same == Same::Yes => {}
                        Some(_) => break,
                        // No place to ask now, so what is held is all there is; once there is one, again.
                        None => is_due = true,
                    }
                }
                // However often somebody asks, the folder is looked at.
                message @ (Some(Message::Poll) | None) => {
                    is_due |= message.is_some();
                    self.glance();
                    // The folder is fresh again: the request is given up.
                    if self.reads_alone() {
                        return Go::On;
                    }
                }
            }
        }
        if is_due || beside.is_some() {
            self.driver.poll_now();
        }
        Go::On
    }

    /// Begins a request on a thread of its own, and gives the number under which its answer comes;
    /// `None` when there is no thread to be had.
    fn begin(&mut self, fetch: &Fetch) -> Option<u64> {
        self.number = self.number.wrapping_add(1);
        let number = self.number;
        let job = self.driver.job(fetch.clone(), &self.cancel);
        let sender = self.sender.clone();
        let helper = thread::Builder::new().name("tk-fetch".to_owned()).spawn(move || {
            // Nobody listens any more when this fails.
            let _ = sender.send(Message::Answer(number, job.run(None)));
        });
        helper.ok()?;
        self.under_way = self.under_way.saturating_add(1);
        Some(number)
    }
}
