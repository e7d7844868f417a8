//! A worker on a thread of this process, over pipes like any other: what `bench` holds beside a
//! worker process. It cannot be killed, only told to end.

use super::worker_process::{Listener, Mouth, OUTGOING_MAX, Process, write};
use super::{Input, Spawner, WorkerHandle};
use crate::model::WorkerId;
use crate::protocol::{HelloToWorker, ToWorker};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::mpsc;

/// What such a thread runs: it serves the coordinator at the other end of two pipes.
pub type ThreadEntry = fn(OwnedFd, OwnedFd);

impl Spawner {
    /// Starts a worker on a thread and says hello, as [`Spawner::spawn`] does with a process.
    pub(super) fn spawn_thread(
        &self,
        entry: ThreadEntry,
        worker: WorkerId,
        hello: HelloToWorker,
    ) -> io::Result<WorkerHandle> {
        let (its_input, input) = pipe_with(PipeFlags::CLOEXEC)?;
        let (output, its_output) = pipe_with(PipeFlags::CLOEXEC)?;
        let input = Sender::from_owned_fd(input)?;
        let mut output = Receiver::from_owned_fd(output)?;
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        let expected = (hello.nonce, std::process::id());
        if outgoing.try_send(ToWorker::Hello(Box::new(hello))).is_err() {
            return Err(io::Error::other("the new worker takes no message"));
        }
        std::thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || entry(its_input, its_output))?;
        let mouth = Mouth {
            worker,
            inbox: self.inbox.clone(),
        };
        let process = Rc::new(Process::default());
        tokio::task::spawn_local(write(input, queue, mouth.clone()));
        let listener = Listener {
            mouth,
            process: Rc::clone(&process),
            expected,
        };
        tokio::task::spawn_local(async move {
            listener.listen(&mut output).await;
            let how = "its thread ended".to_owned();
            listener.mouth.report(Input::Gone { how }).await;
        });
        Ok(WorkerHandle {
            outgoing: Some(outgoing),
            process,
        })
    }
}
