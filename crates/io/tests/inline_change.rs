//! A table in the kernel whose rules change under load: every copy goes where its rule said.

mod inline;

use api::{InlineFail, InlineView, RingSize};
use inline::{Bump, WAIT, udp};
use io::forward::{Capture, Forwarder, ReadyForwarder, Table, ViewSource, views};
use io::{Arrival, Batch, InterfaceId, Source};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Packets that are sent at most: two copies of each fit the channel.
const PACKETS_MAX: u64 = 8000;
const BEFORE_THE_CHANGE: u64 = 1500;

fn table(bump: &Bump, rule: &str) -> (Table, ViewSource) {
    let mut config = bump.config(&[rule]);
    // Then it needs no place to be pinned.
    config.fail = InlineFail::Closed;
    config.rules[0].views = vec![InlineView::Ingress, InlineView::Egress];
    let (sender, source) = views().expect("there are descriptors");
    let interfaces = [0, 1, 2].map(|number| Some(InterfaceId(number)));
    (Table::new(config, vec![Some(Capture { sender, interfaces })]), source)
}

fn count(source: &mut ViewSource) -> u64 {
    let (mut batch, mut packets) = (Batch::new(), 0);
    while source.receive(&mut batch).expect("it does not fail") == Arrival::Packets {
        packets += batch.drain().count() as u64;
    }
    packets
}

#[test]
fn copies_of_a_rule_that_is_taken_away_go_where_it_said() {
    let Some(bump) = Bump::new() else { return };
    let (ours, next) = (bump.ours(false), bump.next_address(false));
    let (first, mut first_views) = table(&bump, &format!("udp://{ours}:53={next}"));
    let (second, mut second_views) = table(&bump, &format!("udp://{ours}:54={next}"));
    let begin = || {
        let (ready, _) = ReadyForwarder::open_in_kernel(first, RingSize::Bytes(32 << 20))?;
        Forwarder::start(ready)
    };
    let forwarder = bump.us().netns.run(begin).unwrap().unwrap_or_else(|e| panic!("{e}"));
    let client = udp(bump.client(), SocketAddr::new(bump.client_address(false), 0));
    let (sent, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) && sent.load(Ordering::Relaxed) < PACKETS_MAX {
                client.send_to(b"x", SocketAddr::new(ours, 53)).unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        rig::wait_until("packets flow", WAIT, || sent.load(Ordering::Relaxed) > BEFORE_THE_CHANGE);
        forwarder.replace(second).unwrap_or_else(|e| panic!("{e}"));
        is_over.store(true, Ordering::Relaxed);
    });
    forwarder.stop();
    let report = forwarder.join();
    assert_eq!(report.failure, None);
    // Nobody listens at the next host, which says so.
    let forwarded = report.gone[0].there.forwarded + report.gone[0].back.forwarded;
    assert!(forwarded > BEFORE_THE_CHANGE / 2, "{report:?}");
    assert_eq!((count(&mut first_views), count(&mut second_views)), (2 * forwarded, 0));
    assert_eq!(report.other.drops.total(), 0, "{:?}", report.other);
}
