//! Search in segments that were sealed: what the manifest and the indexes leave out, and that nothing is
//! missing for it.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use archive::manifest::{Chain, Event, Removal, SegmentRecord};
use archive::seal::{SealOptions, seal};
use archive::search::{Expression, Outcome, Plan, Query, plan};
use archive::store::{Store, StoreOptions};
use archive::{Location, Part, SegmentName, Window};
use bytes::Bytes;
use capfile::{Direction, Interface, LINKTYPE_ETHERNET, PcapngWriter, SectionInfo};
use s3_server::{ACCESS_KEY, SECRET_KEY, Server};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use ulid::Ulid;
use wire::LinkType;

const HOUR: u64 = 1_795_784_400_000_000_000; // 2026-11-27 13:00:00 UTC
const HOUR_NS: u64 = 3_600_000_000_000;

/// Ethernet, IPv4 and UDP or TCP; so long, and so random, that a segment has several frames.
fn frame(tcp: bool, ends: (u8, u8), ports: (u16, u16), number: u32) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let len = 20 + 20 + 4000_u16;
    frame.extend([0x45, 0]);
    frame.extend(len.to_be_bytes());
    frame.extend([
        0,
        0,
        0,
        0,
        64,
        if tcp { 6 } else { 17 },
        0,
        0,
        10,
        0,
        0,
        ends.0,
        10,
        0,
        0,
        ends.1,
    ]);
    frame.extend(ports.0.to_be_bytes());
    frame.extend(ports.1.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0, 9, 0, 0, 0, 0]);
    let mut state = u64::from(number) << 8 | u64::from(ends.0) | 1;
    frame.resize_with(14 + usize::from(len) - 4, || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    frame.extend(number.to_be_bytes());
    frame
}

struct Archive {
    store: Store,
    /// Time, source and bytes of all packets.
    packets: Vec<(u64, String, Vec<u8>)>,
    records: Vec<SegmentRecord>,
    chain: Chain,
}

impl Archive {
    async fn new(store: Store) -> Archive {
        let chain = Chain::open(&store, Ulid::from_parts(1, 1)).await.unwrap();
        Archive { store, packets: Vec::new(), records: Vec::new(), chain }
    }

    async fn add(&mut self, source: &str, packets: Vec<(u64, Vec<u8>)>) -> SegmentRecord {
        let scratch = rig::Scratch::new("search-pruned");
        let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default()).unwrap();
        let interface =
            Interface { name: Some(source.into()), ..Interface::new(LINKTYPE_ETHERNET) };
        writer.add_interface(&interface).unwrap();
        for (ts_ns, data) in &packets {
            writer.write(0, *ts_ns, data.len() as u32, Direction::In, data, None).unwrap();
        }
        let closed = scratch.path("closed.pcapng");
        std::fs::write(&closed, writer.into_inner()).unwrap();
        let name = SegmentName {
            first_ns: packets.iter().map(|packet| packet.0).min().unwrap(),
            last_ns: packets.iter().map(|packet| packet.0).max().unwrap(),
            id: Ulid::from_parts(2, self.records.len() as u128),
            source: source.into(),
        };
        let sealed = seal(&closed, &name, scratch.folder(), &SealOptions::default()).unwrap();
        for (part, file) in [(Part::Data, &sealed.data), (Part::Index, &sealed.index)] {
            let bytes = Bytes::from(std::fs::read(file).unwrap());
            self.store.put(&name.key(part), bytes).await.unwrap();
        }
        self.chain.append(Event::Stored(sealed.record.clone()), HOUR).await.unwrap();
        self.records.push(sealed.record.clone());
        let packets = packets.into_iter().map(|(ts_ns, data)| (ts_ns, source.to_string(), data));
        self.packets.extend(packets);
        sealed.record
    }

    async fn plan(&self, query: &Query) -> Plan {
        plan(&self.store, None, query.clone()).await.unwrap()
    }

    /// Searches, and compares with the filter over all packets.
    async fn search(&self, query: &Query) -> (Outcome, usize) {
        let mut found = Vec::new();
        let cancel = AtomicBool::new(false);
        let plan = self.plan(query).await;
        let outcome = plan.run(&cancel, |packet| {
            found.push((packet.ts_ns, packet.source.to_string(), packet.data.to_vec()));
            ControlFlow::Continue(())
        });
        let outcome = outcome.await.unwrap();
        let program = query.expression.program(LinkType::ETHERNET).unwrap();
        let mut expected = self.packets.clone();
        expected.retain(|(ts_ns, source, data)| {
            query.window.contains(*ts_ns)
                && query.wants_source(source)
                && program.matches(data, data.len() as u32)
        });
        expected.sort();
        assert!(found.is_sorted_by_key(|packet| packet.0));
        found.sort();
        assert!(found == expected, "{} of {}: {query:?}", found.len(), expected.len());
        assert!(outcome.is_complete(), "{outcome:?}");
        (outcome, found.len())
    }
}

fn query(text: &str) -> Query {
    Query { expression: Expression::new(text).unwrap(), ..Query::all(Window::ALL) }
}

/// Six segments of 400 packets; of each, flow 9 is in a few packets next to each other.
async fn six_segments_in(store: Store) -> Archive {
    let mut archive = Archive::new(store).await;
    for (hour, source) in [
        (0, "a"),
        (0, "vxlan-71-192.0.2.1"),
        (1, "a"),
        (1, "vxlan-72-192.0.2.1"),
        (2, "a"),
        (3, "b"),
    ] {
        let segment = archive.records.len() as u8;
        let packets = (0..400).map(|n| {
            let ts_ns = HOUR + hour * HOUR_NS + u64::from(n) * 1_000_000;
            let data = if (200..210).contains(&n) {
                frame(true, (100 + segment, 200), (40_000, 443), n)
            } else {
                frame(n % 3 == 0, (1, 2 + (n % 5) as u8), (53 + (n % 7) as u16, 80), n)
            };
            (ts_ns, data)
        });
        archive.add(source, packets.collect()).await;
    }
    archive
}

async fn six_segments() -> Archive {
    six_segments_in(Store::memory()).await
}

#[tokio::test]
async fn a_folder_and_a_bucket_are_searched_alike() {
    let scratch = rig::Scratch::new("search-stores");
    let folder = Location::Directory(scratch.path("archive"));
    std::fs::create_dir_all(scratch.path("s3/bucket")).unwrap();
    let server = Server::start(&scratch.path("s3"), "127.0.0.1:0").unwrap();
    let options = StoreOptions::default()
        .with("aws_endpoint", format!("http://{}", server.address()))
        .with("aws_allow_http", "true")
        .with("aws_access_key_id", ACCESS_KEY)
        .with("aws_secret_access_key", SECRET_KEY);
    let bucket = "s3://bucket/some/prefix".parse().unwrap();
    let mut reads = Vec::new();
    for (location, options) in [(folder, StoreOptions::default()), (bucket, options)] {
        let archive = six_segments_in(Store::open(&location, &options).unwrap()).await;
        let window = Window { after_ns: HOUR + 205_000_000, before_ns: Some(HOUR + HOUR_NS + 1) };
        archive.search(&Query { window, ..query("tcp") }).await;
        let (outcome, found) = archive.search(&query("host 10.0.0.103")).await;
        assert_eq!(found, 10);
        reads.push((outcome.range_reads, outcome.bytes));
    }
    assert_eq!(reads[0].0, reads[1].0, "{reads:?}");
}

#[tokio::test]
async fn results_are_those_of_the_filter_over_everything() {
    let archive = six_segments().await;
    for text in [
        "",
        "tcp",
        "udp port 55",
        "port 443",
        "host 10.0.0.103",
        "host 10.0.0.103 and host 10.0.0.200 and tcp port 443",
        "host 10.0.0.3 and not port 55",
        "not tcp",
        "net 10.0.0.96/27 or udp src port 58",
        "portrange 54-55 and len > 100",
        "arp",
        "vlan 7",
    ] {
        for window in [
            Window::ALL,
            Window { after_ns: HOUR + HOUR_NS, before_ns: Some(HOUR + HOUR_NS + 205_000_000) },
            Window { after_ns: HOUR + 1, before_ns: Some(HOUR + 2 * HOUR_NS + 1) },
            Window { after_ns: HOUR + 9 * HOUR_NS, before_ns: None },
        ] {
            archive.search(&Query { window, ..query(text) }).await;
            let sources = vec!["vxlan-*".to_string(), "b".to_string()];
            archive.search(&Query { window, sources, ..query(text) }).await;
        }
    }
}

#[tokio::test]
async fn one_flow_is_found_by_few_reads() {
    let archive = six_segments().await;
    let query = query("host 10.0.0.103 and tcp port 443");
    let plan = archive.plan(&query).await;
    assert_eq!((plan.segments_listed, plan.segments), (6, 1), "{plan:?}");
    let (outcome, found) = archive.search(&query).await;
    assert_eq!((found, outcome.segments_read), (10, 1));
    // Manifest, index, table, interfaces, frames.
    assert_eq!(outcome.range_reads, 5, "{outcome:?}");
    // An address that is nowhere: the manifest alone.
    let nowhere = Query { expression: Expression::new("host 192.0.2.99").unwrap(), ..query };
    let (outcome, found) = archive.search(&nowhere).await;
    assert_eq!((found, outcome.segments_read, outcome.range_reads), (0, 0, 1));
    // No address: the indexes.
    let (outcome, _) = archive.search(&self::query("port 444")).await;
    assert_eq!((outcome.segments_read, outcome.range_reads), (0, 7));
}

#[tokio::test]
async fn tunnels_and_community_ids_choose() {
    let archive = six_segments().await;
    let count = async |query: Query| {
        let cancel = AtomicBool::new(false);
        let plan = archive.plan(&query).await;
        plan.run(&cancel, |_| ControlFlow::Continue(())).await.unwrap().packets
    };
    let all = Query::all(Window::ALL);
    assert_eq!(count(Query { tunnel_ids: vec![71], ..all.clone() }).await, 400);
    assert_eq!(count(Query { tunnel_ids: vec![71, 72], ..all.clone() }).await, 800);
    assert_eq!(count(Query { tunnel_ids: vec![7], ..all.clone() }).await, 0);
    // The one flow of segment 3, by the id that its index tells.
    let key = archive.records[3].object.replace(".pcapng.zst", ".index.parquet");
    let rows = archive::index::rows_of(archive.store.get(&key).await.unwrap()).unwrap();
    let flows = rows.iter().filter_map(|row| row.flow.as_ref());
    let mut ids = flows.filter(|flow| flow.port_lo == Some(40_000) || flow.port_hi == Some(40_000));
    let id = ids.next().unwrap().community_id.clone().unwrap();
    assert_eq!(count(Query { community_ids: vec![id.clone()], ..all.clone() }).await, 10);
    let ids = vec![id, "1:AAAAAAAAAAAAAAAAAAAAAAAAAAA=".into()];
    assert_eq!(count(Query { community_ids: ids, ..all }).await, 10);
}

#[tokio::test]
async fn what_expired_and_what_is_missing_is_told() {
    let mut archive = six_segments().await;
    let [expired, missing] = [0, 2].map(|n| archive.records[n].clone());
    let removed = Event::Removed {
        object: expired.object.clone(),
        reason: Removal::Age,
        packets: Some(400),
        bytes: expired.bytes,
    };
    archive.chain.append(removed, HOUR).await.unwrap();
    for record in [&expired, &missing] {
        archive.store.delete(&record.object).await.unwrap();
    }
    let plan = archive.plan(&query("tcp")).await;
    assert_eq!(plan.segments, 4);
    assert_eq!((plan.expired.segments, &plan.expired.objects[..]), (1, &[expired.object][..]));
    assert_eq!((plan.missing.segments, &plan.missing.objects[..]), (1, &[missing.object][..]));
    assert_eq!(plan.missing.span_ns, Some((HOUR + HOUR_NS, HOUR + HOUR_NS + 399_000_000)));
    // Not of this range.
    let window = Window { after_ns: HOUR + 2 * HOUR_NS, before_ns: None };
    let plan = archive.plan(&Query { window, ..query("tcp") }).await;
    assert_eq!((plan.expired.segments, plan.missing.segments), (0, 0));
}

#[tokio::test]
async fn an_index_that_is_gone_or_damaged_costs_time_alone() {
    let archive = six_segments().await;
    for (record, index) in [(0, None), (1, Some(&b"PAR1 and no more"[..]))] {
        let key = archive.records[record].object.replace(".pcapng.zst", ".index.parquet");
        match index {
            None => archive.store.delete(&key).await.unwrap(),
            Some(bytes) => archive.store.put(&key, Bytes::from_static(bytes)).await.unwrap(),
        }
    }
    archive.search(&query("tcp port 443")).await;
    archive.search(&query("udp port 55")).await;
}
