//! A real child process: awaited by what it prints, never by the clock; killed when dropped.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How long a process may take to print an awaited line before the test fails: no measure of
/// speed, only an end for a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A running child. Everything it printed is kept for the failure message.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Shared threads may hold it; only one waits.
    lines: Mutex<Receiver<String>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `command` with its two outputs captured line by line and no input.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program()));
        let (send, lines) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        follow(child.stdout.take().expect("stdout is piped"), send.clone(), Arc::clone(&seen));
        follow(child.stderr.take().expect("stderr is piped"), send, Arc::clone(&seen));
        Self { child, lines: Mutex::new(lines), seen }
    }

    /// Waits for the next line, on either output, that `wanted` maps to something.
    ///
    /// # Panics
    /// When the process ends or [`PATIENCE`] runs out before such a line; shows what it printed.
    pub fn await_line<T>(&mut self, what: &str, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        loop {
            let lines = self.lines.get_mut().expect("readers do not panic");
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    if let Some(found) = wanted(&line) {
                        return found;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what} came; it printed:\n{}", self.output()),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().map_or_else(|error| error.to_string(), |s| s.to_string());
                    panic!("ended ({status}) before {what}; it printed:\n{}", self.output());
                }
            }
        }
    }

    /// Waits for a line; `false` when the process ended before it.
    ///
    /// # Panics
    /// When [`PATIENCE`] runs out first; shows what it printed.
    pub fn await_line_or_end(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        loop {
            let lines = self.lines.lock().expect("nobody panics while waiting for a line");
            match lines.recv_timeout(PATIENCE) {
                Ok(line) if wanted(&line) => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("no line came; it printed:\n{}", self.output()),
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Everything printed so far, both outputs in the order of arrival.
    ///
    /// # Panics
    /// When a reader of its output panicked.
    #[must_use]
    pub fn output(&self) -> String {
        self.seen.lock().expect("readers of the output do not panic").join("\n")
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once and without a chance to tidy up (`SIGKILL`), and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (`SIGTERM`) and waits until it has.
    ///
    /// # Panics
    /// When the system has no `kill` command.
    pub fn terminate(&mut self) -> ExitStatus {
        if let Ok(Some(status)) = self.child.try_wait() {
            return status;
        }
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(asked.is_ok(), "`kill` cannot be run");
        self.child.wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When the system refuses to say.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("a child can be waited for")
    }

    /// The status if it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a finished command left.
#[derive(Debug)]
pub struct Finished {
    /// Exit code, `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end with the given standard input.
///
/// # Panics
/// When it cannot be started or prints something that is not UTF-8.
pub fn run<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
    input: &[u8],
) -> Finished {
    use std::io::Write as _;
    let program = program.as_ref();
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    // A program that does not read its input closes the pipe; that is its right.
    let feeder = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("a child can be waited for");
    let _ = feeder.join();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
    }
}

/// Which of these processes (by id, 0 for none) connects from an address of loopback.
#[must_use]
pub fn owner(from: SocketAddr, processes: &[u32]) -> Option<usize> {
    // Lines of `sl local_address rem_address st … uid timeout inode`, addresses in hexadecimal.
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let local = format!(":{:04X}", from.port());
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let line = table.lines().map(fields).find(|line| line.get(1).is_some_and(|at| at.ends_with(&local)))?;
    let socket = PathBuf::from(format!("socket:[{}]", line.get(9)?));
    processes.iter().position(|id| {
        let files = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file == socket)
    })
}

fn follow(from: impl Read + Send + 'static, to: mpsc::Sender<String>, seen: Arc<Mutex<Vec<String>>>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if let Ok(mut seen) = seen.lock() {
                seen.push(line.clone());
            }
            // Nobody may be waiting any more; the line is kept in `seen` all the same.
            let _ = to.send(line);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awaits_a_line_and_ends_the_process() {
        let mut process =
            Process::start(Command::new("sh").args(["-c", "echo a; echo ready 7 >&2; exec cat /dev/zero"]));
        let number = process.await_line("ready line", |line| line.strip_prefix("ready ").map(str::to_owned));
        assert_eq!(number, "7");
        assert!(!process.terminate().success());
    }

    #[test]
    fn a_finished_command_gives_its_outputs_and_code() {
        let done = run("sh", ["-c", "cat; echo no >&2; exit 3"], b"in");
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(3), "in", "no\n"));
    }

    #[test]
    fn a_connection_has_an_owner() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _to = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_stream, from) = listener.accept().unwrap();
        assert_eq!(owner(from, &[0, 1, std::process::id()]), Some(2));
        assert_eq!(owner(from, &[0]), None);
    }

    #[test]
    #[should_panic(expected = "before ready line")]
    fn an_early_end_is_told() {
        Process::start(Command::new("sh").args(["-c", "echo hello"]))
            .await_line("ready line", |_| None::<()>);
    }
}
