//! One worker process: spawned with the job lock, spoken to in frames, listened to until its end.
#![expect(
    clippy::disallowed_methods,
    reason = "this room is the door to processes"
)]

use super::pages;
use super::worker_thread::ThreadEntry;
use crate::model::WorkerId;
use crate::protocol::{
    BUILD, Decoder, FrameError, FromWorker, HelloToWorker, PROTOCOL_VERSION, ToWorker, encode,
};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process_group};
use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;

/// Bytes read from a worker at once.
const READ_BYTES: usize = 64 * 1024;
/// Messages to one worker that may wait for its pipe.
pub(super) const OUTGOING_MAX: usize = 4096;
/// A worker that does not take bytes for this long is given up.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// After its output ended, a worker has this long to end itself.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Lines of a worker's stderr kept for the report of its death.
const LAST_WORDS: usize = 64;
/// Longest line of stderr kept.
const WORDS_BYTES_MAX: u64 = 4096;

/// What a worker's process did.
#[derive(Debug)]
pub enum Input {
    /// Handshake done.
    Ready {
        /// Its process id.
        pid: u32,
    },
    /// It said something.
    Said(FromWorker),
    /// Its stream cannot be trusted any more.
    Broken {
        /// Why.
        reason: String,
        /// It does not speak this protocol at all.
        stranger: bool,
    },
    /// It ended; nothing follows.
    Gone {
        /// How, with its last words.
        how: String,
    },
}

/// What a worker may say ahead of the coordinator: what becomes of a thousand rows is more than the
/// 64 KiB that a pipe holds by itself.
#[cfg(target_os = "linux")]
const PIPE_BYTES: usize = 256 << 10;

/// Starts workers, all the same way.
#[derive(Debug)]
pub struct Spawner {
    /// The program, started as `userferry worker`.
    pub program: PathBuf,
    /// The descriptor that holds the job's lock: every worker inherits it, so that no new
    /// coordinator can start while an orphan lives.
    pub lock: Option<OwnedFd>,
    /// What workers say and what becomes of them.
    pub inbox: mpsc::Sender<(WorkerId, Input)>,
    /// Their memory may come in pages of 2 MiB, where the system leaves that to the program: a
    /// request takes a tenth less processor time, but making them ready takes some 50 ms.
    pub large_pages: bool,
    /// They say a lot: their pipes hold more. A user may have some thousand pages of pipes in all.
    pub wide_pipes: bool,
    /// Workers run on threads of this process instead, for measuring what a process costs.
    pub threads: Option<ThreadEntry>,
}

/// A live worker as the driver holds it. Dropping it closes the worker's input.
#[derive(Debug)]
pub struct WorkerHandle {
    pub(super) outgoing: Option<mpsc::Sender<ToWorker>>,
    pub(super) process: Rc<Process>,
}

/// A process id that is forgotten the moment it is reaped.
#[derive(Debug, Default)]
pub(super) struct Process {
    pid: Cell<Option<Pid>>,
}

impl Process {
    /// Reaches the whole group: what a worker may have started must not keep its pipes open.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid.get()
            && let Err(error) = kill_process_group(pid, signal)
        {
            tracing::debug!(%error, "a worker could not be signalled");
        }
    }
}

impl WorkerHandle {
    /// Queues a message; returns whether there was room. A worker whose input is closed is about
    /// to end and is told nothing any more.
    pub fn send(&self, message: ToWorker) -> bool {
        self.outgoing.as_ref().is_none_or(|outgoing| {
            !matches!(outgoing.try_send(message), Err(TrySendError::Full(_)))
        })
    }

    /// Ends its input once what is queued was written: it exits within a second.
    pub fn close_input(&mut self) {
        self.outgoing = None;
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.signal(Signal::KILL);
    }
}

impl Spawner {
    /// Starts one worker and says hello. What it says arrives in the inbox, its death last.
    ///
    /// # Errors
    /// When the process cannot be started; nothing arrives then.
    pub fn spawn(&self, worker: WorkerId, hello: HelloToWorker) -> io::Result<WorkerHandle> {
        if let Some(entry) = self.threads {
            return self.spawn_thread(entry, worker, hello);
        }
        let mut child = self.start()?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        let process = Rc::new(Process {
            pid: Cell::new(pid),
        });
        let missing = || io::Error::other("a pipe to the worker is missing");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let errors = child.stderr.take().ok_or_else(missing)?;
        #[cfg(target_os = "linux")]
        if self.wide_pipes
            && let Err(error) = rustix::pipe::fcntl_setpipe_size(&output, PIPE_BYTES)
        {
            tracing::debug!(%error, "a pipe stays as small as it is");
        }
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        let expected = (hello.nonce, child.id().unwrap_or_default());
        if outgoing.try_send(ToWorker::Hello(Box::new(hello))).is_err() {
            return Err(missing());
        }
        let mouth = Mouth {
            worker,
            inbox: self.inbox.clone(),
        };
        let last_words = tokio::task::spawn_local(last_words(errors));
        tokio::task::spawn_local(write(input, queue, mouth.clone()));
        let listener = Listener {
            mouth,
            process: Rc::clone(&process),
            expected,
        };
        tokio::task::spawn_local(listener.run(child, output, last_words));
        Ok(WorkerHandle {
            outgoing: Some(outgoing),
            process,
        })
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .arg0("userferry")
            .arg("worker")
            // The key travels in the handshake; nothing of ours may stay in an environment that
            // anybody with the same user id can read.
            .env_remove("WORKOS_API_KEY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C reaches the coordinator alone.
            .process_group(0)
            .kill_on_drop(true);
        // Only this thread starts processes, so nobody else can inherit the lock in between.
        self.let_inherit(true)?;
        let child = pages::with_large(self.large_pages, || command.spawn());
        self.let_inherit(false)?;
        child
    }

    fn let_inherit(&self, inherit: bool) -> io::Result<()> {
        let flags = if inherit {
            FdFlags::empty()
        } else {
            FdFlags::CLOEXEC
        };
        match &self.lock {
            Some(lock) => Ok(fcntl_setfd(lock.as_fd(), flags)?),
            None => Ok(()),
        }
    }
}

/// Where what a worker does is reported.
#[derive(Clone)]
pub(super) struct Mouth {
    pub(super) worker: WorkerId,
    pub(super) inbox: mpsc::Sender<(WorkerId, Input)>,
}

impl Mouth {
    pub(super) async fn report(&self, input: Input) {
        // The driver outlives its workers; if it is gone, nobody needs to know.
        drop(self.inbox.send((self.worker, input)).await);
    }

    async fn broken(&self, reason: impl ToString, stranger: bool) {
        self.report(Input::Broken {
            reason: reason.to_string(),
            stranger,
        })
        .await;
    }
}

pub(super) async fn write(
    mut input: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<ToWorker>,
    mouth: Mouth,
) {
    let (mut sequence, mut bytes) = (0_u32, Vec::new());
    while let Some(message) = queue.recv().await {
        if let Err(error) = encode(sequence, &message, &mut bytes) {
            return mouth.broken(error, false).await;
        }
        sequence = sequence.wrapping_add(1);
        match tokio::time::timeout(WRITE_WITHIN, input.write_all(&bytes)).await {
            Ok(Ok(())) => bytes.clear(),
            // It is dying; its death is reported by whoever listens to it.
            Ok(Err(_)) => return,
            Err(_) => {
                return mouth
                    .broken("it does not read what it is told", false)
                    .await;
            }
        }
    }
}

pub(super) struct Listener {
    pub(super) mouth: Mouth,
    pub(super) process: Rc<Process>,
    /// The nonce and process id its hello must name.
    pub(super) expected: (u64, u32),
}

impl Listener {
    async fn run(
        self,
        mut child: Child,
        mut output: ChildStdout,
        last_words: JoinHandle<VecDeque<String>>,
    ) {
        self.listen(&mut output).await;
        // Its output ended (or cannot be trusted): everything it said was delivered.
        let status = if let Ok(status) = tokio::time::timeout(END_WITHIN, child.wait()).await {
            status
        } else {
            self.process.signal(Signal::KILL);
            child.wait().await
        };
        self.process.pid.set(None);
        let words = last_words.await.unwrap_or_default();
        self.mouth
            .report(Input::Gone {
                how: describe(status, &words),
            })
            .await;
    }

    pub(super) async fn listen(&self, output: &mut (impl AsyncRead + Unpin)) {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; READ_BYTES];
        let (mut greeted, mut trusted) = (false, true);
        loop {
            let count = output.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                break;
            }
            // What follows a defect is drained and dropped, so that the worker can end.
            if trusted {
                decoder.push(buffer.get(..count).unwrap_or_default());
                trusted = self.deliver(&mut decoder, &mut greeted).await;
            }
        }
        if trusted && decoder.finish().is_err() {
            tracing::debug!(
                worker = self.mouth.worker.0,
                "a worker ended inside a frame"
            );
        }
    }

    async fn deliver(&self, decoder: &mut Decoder, greeted: &mut bool) -> bool {
        loop {
            match decoder.message::<FromWorker>() {
                Ok(None) => return true,
                Ok(Some(message)) if *greeted => self.mouth.report(Input::Said(message)).await,
                Ok(Some(message)) => {
                    if !self.is_our_hello(&message) {
                        self.mouth
                            .broken("its first words were not ours", true)
                            .await;
                        return false;
                    }
                    *greeted = true;
                    self.mouth
                        .report(Input::Ready {
                            pid: self.expected.1,
                        })
                        .await;
                }
                Err(error) => {
                    self.tell_defect(&error, !*greeted).await;
                    return false;
                }
            }
        }
    }

    fn is_our_hello(&self, message: &FromWorker) -> bool {
        matches!(message, FromWorker::Hello(hello)
            if hello.protocol == PROTOCOL_VERSION
                && hello.build == BUILD
                && (hello.nonce, hello.pid) == self.expected)
    }

    async fn tell_defect(&self, error: &FrameError, stranger: bool) {
        self.mouth.broken(error, stranger).await;
    }
}

/// Reads stderr to its end; keeps the last lines. Always drained, never trusted.
async fn last_words(errors: ChildStderr) -> VecDeque<String> {
    let mut words = VecDeque::new();
    let mut reader = BufReader::new(errors);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reader).take(WORDS_BYTES_MAX);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return words,
            Ok(_) => {}
        }
        let text = crate::model::escape::shown(String::from_utf8_lossy(&line).trim_end());
        tracing::debug!(target: "userferry::worker", "{text}");
        if words.len() == LAST_WORDS {
            words.pop_front();
        }
        words.push_back(text);
    }
}

fn describe(status: io::Result<ExitStatus>, words: &VecDeque<String>) -> String {
    let how = match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("unknown end ({error})"),
    };
    match words.back() {
        Some(last) => format!("{how}: {last}"),
        None => how,
    }
}
