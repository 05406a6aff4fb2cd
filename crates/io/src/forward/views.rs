//! From the forwarder to who records: a bounded channel, so that a slow disk never holds forwarding up.

use crate::batch::Batch;
use crate::device::{Arrival, Source};
use crate::error::Error;
use crate::packet::Packet;
use crate::waker::{Waker, Wakeup, waker};
use api::{DropReason, Drops};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};

/// Packets that may wait.
const WAITING_MAX: usize = 16_384;

/// What the forwarder could not hand over.
#[derive(Debug, Default)]
struct Lost {
    /// The channel was full.
    full: AtomicU64,
    /// There was no memory for a copy.
    memory: AtomicU64,
}

/// The forwarder's end. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ViewSender {
    packets: SyncSender<Packet>,
    waker: Arc<Waker>,
    lost: Arc<Lost>,
    beside: Option<Box<ViewSender>>,
}

/// The end that a worker reads. It ends when all senders are gone, or it is stopped and empty.
#[derive(Debug)]
pub struct ViewSource {
    packets: Receiver<Packet>,
    wakeup: Wakeup,
    lost: Arc<Lost>,
    is_stopped: bool,
}

/// Makes both ends.
///
/// # Errors
/// If the process has no descriptor left.
pub fn views() -> Result<(ViewSender, ViewSource), Error> {
    let (waker, wakeup) = waker().map_err(|e| Error::system("make a channel for views", e))?;
    let (sender, packets) = sync_channel(WAITING_MAX);
    let lost = Arc::new(Lost::default());
    let source = ViewSource { packets, wakeup, lost: Arc::clone(&lost), is_stopped: false };
    Ok((ViewSender { packets: sender, waker: Arc::new(waker), lost, beside: None }, source))
}

impl ViewSender {
    /// Gives each copy to another channel, too.
    #[must_use]
    pub fn beside(mut self, other: ViewSender) -> ViewSender {
        self.beside = Some(Box::new(other));
        self
    }

    /// Hands a copy over, if there is one; counts it otherwise. Never waits.
    pub fn give(&self, copy: Option<Packet>) {
        if let Some(beside) = &self.beside {
            // No pool is at hand; the channels' bounds are those of the memory.
            beside.give(copy.as_ref().map(Packet::copy));
        }
        let Some(packet) = copy else {
            self.lost.memory.fetch_add(1, Ordering::Relaxed);
            return;
        };
        match self.packets.try_send(packet) {
            // Nobody records any more: what comes now is not wanted.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.lost.full.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Has the worker look.
    pub fn wake(&self) {
        self.waker.wake();
        self.beside.as_deref().into_iter().for_each(ViewSender::wake);
    }
}

impl Drop for ViewSender {
    fn drop(&mut self) {
        // The last one's end is news, too.
        self.waker.wake();
    }
}

impl Source for ViewSource {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        self.wakeup.clear();
        let before = batch.len();
        while batch.room() > 0 {
            match self.packets.try_recv() {
                Ok(packet) => batch.push(packet),
                Err(TryRecvError::Disconnected) if batch.len() == before => {
                    return Ok(Arrival::End);
                }
                Err(TryRecvError::Empty) if self.is_stopped && batch.len() == before => {
                    return Ok(Arrival::End);
                }
                Err(_) => break,
            }
        }
        if batch.len() > before || batch.room() == 0 {
            // More may be there, and the wake-up was taken.
            return Ok(Arrival::Packets);
        }
        Ok(Arrival::Idle)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wakeup.as_fd())
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.is_stopped = true;
        Ok(())
    }

    fn drops(&mut self) -> Drops {
        let mut drops = Drops::default();
        drops.add_many(DropReason::QueueFull, self.lost.full.load(Ordering::Relaxed));
        drops.add_many(DropReason::PoolExhausted, self.lost.memory.load(Ordering::Relaxed));
        drops
    }

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Data, Direction, InterfaceId, Meta};
    use wire::LinkType;

    fn packet() -> Packet {
        let meta = Meta {
            ts_ns: 1,
            origlen: 3,
            link_type: LinkType::ETHERNET,
            interface: InterfaceId(0),
            direction: Direction::In,
            outer: None,
            packet_id: None,
            gso: None,
            decided: false,
            flow_hash: None,
        };
        Packet { data: Data::copy_of(b"abc"), meta }
    }

    #[test]
    fn what_is_given_arrives_or_is_counted() {
        let (sender, mut source) = views().unwrap();
        for _ in 0..WAITING_MAX + 5 {
            sender.give(Some(packet()));
        }
        sender.give(None);
        let (mut batch, mut arrived) = (Batch::new(), 0);
        while source.receive(&mut batch).unwrap() == Arrival::Packets {
            arrived += batch.len();
            batch.clear();
        }
        assert_eq!(arrived, WAITING_MAX);
        assert_eq!(source.drops().get(DropReason::QueueFull), 5);
        assert_eq!(source.drops().get(DropReason::PoolExhausted), 1);
    }

    #[test]
    fn one_beside_another_gets_the_same() {
        let ((sender, mut source), (other, mut beside)) = (views().unwrap(), views().unwrap());
        let sender = sender.beside(other);
        sender.give(Some(packet()));
        sender.give(None);
        for source in [&mut source, &mut beside] {
            let mut batch = Batch::new();
            assert_eq!(source.receive(&mut batch).unwrap(), Arrival::Packets);
            assert_eq!(batch.len(), 1);
            assert_eq!(source.drops().get(DropReason::PoolExhausted), 1);
        }
        drop(sender);
        for source in [&mut source, &mut beside] {
            assert_eq!(source.receive(&mut Batch::new()).unwrap(), Arrival::End);
        }
    }

    #[test]
    fn it_ends_with_its_senders_or_when_it_is_stopped() {
        let (sender, mut source) = views().unwrap();
        let mut batch = Batch::new();
        assert_eq!(source.receive(&mut batch).unwrap(), Arrival::Idle);
        let other = sender.clone();
        other.give(Some(packet()));
        drop((sender, other));
        assert_eq!(source.receive(&mut batch).unwrap(), Arrival::Packets);
        assert_eq!(source.receive(&mut batch).unwrap(), Arrival::End);
        let (_sender, mut source) = views().unwrap();
        source.stop().unwrap();
        assert_eq!(source.receive(&mut Batch::new()).unwrap(), Arrival::End);
    }
}
