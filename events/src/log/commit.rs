//! Group commit: one thread that writes, numbers and applies.
//!
//! Whatever arrived while the last write was under way is written at once with one synchronisation. Entries
//! become visible in the order of their numbers and only once they are durable, so a reader that goes on
//! from a number misses nothing.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use super::frame::Frame;
use super::{Entry, Journal, LogError, SegmentId};

/// Entries waiting for the writer.
const QUEUE: usize = 256;
/// Most bytes of one write.
const GROUP_BYTES: usize = 16 << 20;

/// What applying an entry did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events whose state is new.
    pub changed: usize,
    /// Events that changed nothing.
    pub unchanged: usize,
}

/// Takes in entries once they are durable, in the order of their numbers.
pub trait Apply: Send + 'static {
    /// Takes in one entry of the segment; its events' numbers begin with `first_id`.
    fn apply(&mut self, segment: SegmentId, first_id: i64, entry: Entry) -> Applied;

    /// A write ended, well or not; `bytes` are kept in the log now, and `current` is written to.
    fn wrote(&mut self, outcome: Result<(), &LogError>, bytes: u64, current: SegmentId);
}

type Reply = oneshot::Sender<Result<Applied, Arc<LogError>>>;

enum Ask {
    Append(Box<Entry>, Frame, Reply),
    RemoveBelow(SegmentId),
}

/// The way to the writer. Clones are the same.
#[derive(Clone, Debug)]
pub struct Commit {
    asks: mpsc::Sender<Ask>,
}

/// Microseconds since 1970.
#[must_use]
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

impl Commit {
    /// Starts the writer's thread; numbers go on after `last_id`. The thread ends when all clones are dropped.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        journal: Journal,
        last_id: i64,
        apply: impl Apply,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (asks, queue) = mpsc::channel(QUEUE);
        let writer = Writer { journal, last_id, apply };
        let thread = std::thread::Builder::new()
            .name("events-log".into())
            .spawn(move || writer.run(queue))?;
        Ok((Self { asks }, thread))
    }

    /// Makes an entry durable and applies it.
    ///
    /// # Errors
    /// It is not durable: it may not be acknowledged, and is to be sent again.
    pub async fn append(&self, entry: Entry, frame: Frame) -> Result<Applied, Arc<LogError>> {
        let (reply, answer) = oneshot::channel();
        let closed = || Arc::new(LogError::Closed);
        let ask = Ask::Append(Box::new(entry), frame, reply);
        self.asks.send(ask).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Removes segments below `floor`, some time.
    pub async fn remove_below(&self, floor: SegmentId) {
        let _ended = self.asks.send(Ask::RemoveBelow(floor)).await;
    }
}

struct Writer<A> {
    journal: Journal,
    last_id: i64,
    apply: A,
}

impl<A: Apply> Writer<A> {
    fn run(mut self, mut queue: mpsc::Receiver<Ask>) {
        while let Some(first) = queue.blocking_recv() {
            let (mut group, mut bytes, mut floor) = (Vec::new(), Vec::new(), None);
            let mut next = Some(first);
            while let Some(ask) = next {
                match ask {
                    Ask::RemoveBelow(id) => floor = floor.max(Some(id)),
                    Ask::Append(entry, frame, reply) => {
                        let first_id = now_us().max(self.last_id + 1);
                        let count = i64::try_from(entry.events.len()).unwrap_or(i64::MAX);
                        self.last_id = first_id.saturating_add(count.max(1) - 1);
                        bytes.extend_from_slice(&frame.numbered(first_id));
                        group.push((first_id, entry, reply));
                    }
                }
                next = if bytes.len() < GROUP_BYTES { queue.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.write(group, &bytes);
            }
            if let Some(floor) = floor {
                self.journal.remove_below(floor);
                self.apply.wrote(Ok(()), self.journal.bytes(), self.journal.current());
            }
        }
    }

    fn write(&mut self, group: Vec<(i64, Box<Entry>, Reply)>, bytes: &[u8]) {
        match self.journal.append(bytes) {
            Ok(segment) => {
                self.apply.wrote(Ok(()), self.journal.bytes(), self.journal.current());
                for (first_id, entry, reply) in group {
                    let applied = self.apply.apply(segment, first_id, *entry);
                    // Whoever asked may be gone; it is taken in all the same.
                    let _gone = reply.send(Ok(applied));
                }
            }
            Err(error) => {
                self.apply.wrote(Err(&error), self.journal.bytes(), self.journal.current());
                let error = Arc::new(error);
                for (_, _, reply) in group {
                    let _gone = reply.send(Err(Arc::clone(&error)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::DiskLog;
    use super::*;
    use crate::event::Event;

    struct Seen(std::sync::mpsc::Sender<(i64, usize)>);

    impl Apply for Seen {
        fn apply(&mut self, _: SegmentId, first_id: i64, entry: Entry) -> Applied {
            let _ = self.0.send((first_id, entry.events.len()));
            Applied { changed: entry.events.len(), unchanged: 0 }
        }

        fn wrote(&mut self, _: Result<(), &LogError>, _: u64, _: SegmentId) {}
    }

    #[tokio::test]
    async fn numbers_rise_in_the_order_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = DiskLog::open(dir.path(), |_, _, _| {}).unwrap();
        let (tx, rx) = std::sync::mpsc::channel();
        // As after a restart on a machine whose clock is behind.
        let ahead = now_us() + 1_000_000_000;
        let (commit, thread) = Commit::start(Journal::Disk(log), ahead, Seen(tx)).unwrap();
        let work = (0..40).map(|n| {
            let commit = commit.clone();
            tokio::spawn(async move {
                let event = |i| Event { uid: format!("{n}-{i}"), ..Event::default() };
                let entry = Entry { events: (0..n % 5).map(event).collect(), ..Entry::default() };
                let frame = Frame::new(&entry).unwrap();
                commit.append(entry, frame).await.unwrap().changed
            })
        });
        let done = futures::future::join_all(work).await;
        assert_eq!(done.into_iter().map(|n| n.unwrap()).sum::<usize>(), 80);
        drop(commit);
        thread.join().unwrap();
        let seen: Vec<(i64, usize)> = rx.iter().collect();
        let mut logged = Vec::new();
        DiskLog::open(dir.path(), |_, id, entry| logged.push((id, entry.events.len()))).unwrap();
        assert_eq!(seen, logged);
        let mut next = ahead;
        for (id, n) in seen {
            assert!(id > next);
            next = id + n.max(1) as i64 - 1;
        }
    }
}
