use super::*;
use rig::{Host, Topology};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

fn open(host: &Host, remote: impl Into<IpAddr>) -> Underlay {
    let remote = SocketAddr::from((remote.into(), 4789));
    host.netns.run(|| Underlay::open(remote, None, 0, Now::read()).unwrap()).unwrap()
}

/// Looks until the way is as wanted.
#[track_caller]
fn wait_for(underlay: &mut Underlay, wanted: impl Fn(Option<&Path>) -> bool) {
    let begin = Instant::now();
    while !wanted(underlay.path()) {
        assert!(begin.elapsed() < Duration::from_secs(10), "it is still {:?}", underlay.path());
        std::thread::sleep(Duration::from_millis(10));
        underlay.look(Now::read());
    }
}

fn mac(text: &str) -> [u8; 6] {
    let octets: Vec<u8> = text.split(':').map(|o| u8::from_str_radix(o, 16).unwrap()).collect();
    octets.try_into().unwrap()
}

#[test]
fn the_way_to_a_neighbour_is_known() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).mtu(1400).build();
    let (left, right) = (net.host("left"), net.host("right"));
    let frame =
        FrameAddresses { destination: mac(&right.mac("left")), source: mac(&left.mac("right")) };
    let ends: [(IpAddr, IpAddr); 2] = [
        (left.v4("right").into(), right.v4("left").into()),
        (left.v6("right").into(), right.v6("left").into()),
    ];
    for (source, remote) in ends {
        let underlay = open(left, remote);
        let path = *underlay.path().unwrap();
        assert!(path.interface > 1, "{path:?}");
        let (interface, is_up, is_stale) = (path.interface, true, false);
        let (is_routed, frame) = (false, Some(frame));
        let expected = Path { source, mtu: 1400, interface, is_up, is_routed, frame, is_stale };
        assert_eq!(path, expected);
    }
}

#[test]
fn this_host_itself_and_what_has_no_route_have_no_frame() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let left = net.host("left");
    for address in [left.v4("right").into(), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let underlay = open(left, address);
        let path = underlay.path().unwrap();
        assert_eq!((path.interface, path.frame), (1, None), "{address}");
    }
    let mut underlay = open(left, [192, 0, 2, 1]);
    assert_eq!(underlay.path(), None);
    left.ip("route add 192.0.2.0/24 via 10.71.0.2");
    wait_for(&mut underlay, |path| path.is_some_and(|p| p.frame.is_some()));
}

#[test]
fn changes_are_followed() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let (left, right) = (net.host("left"), net.host("right"));
    let ends: [IpAddr; 2] = [right.v4("left").into(), right.v6("left").into()];
    for remote in ends {
        let mut underlay = open(left, remote);
        left.ip("link set right mtu 1300");
        wait_for(&mut underlay, |path| path.is_some_and(|p| p.mtu == 1300));
        left.ip("link set right mtu 1500");
        wait_for(&mut underlay, |path| path.is_some_and(|p| p.mtu == 1500));
        let destination = |path: &Path| path.frame.map(|frame| frame.destination);
        let neighbour = |words: &str| left.ip(&format!("neigh replace {remote} dev right {words}"));
        neighbour("lladdr 02:00:00:00:00:99 nud reachable");
        wait_for(&mut underlay, |path| path.and_then(destination) == Some([2, 0, 0, 0, 0, 0x99]));
        neighbour("lladdr 02:00:00:00:00:98 nud stale");
        wait_for(&mut underlay, |path| {
            path.is_some_and(|p| p.is_stale && destination(p) == Some([2, 0, 0, 0, 0, 0x98]))
        });
        left.ip(&format!("neigh del {remote} dev right"));
        wait_for(&mut underlay, |path| path.is_some_and(|p| p.frame.is_none()));
        neighbour("lladdr 02:00:00:00:00:97 nud permanent");
        wait_for(&mut underlay, |path| path.is_some_and(|p| p.frame.is_some() && !p.is_stale));
        right.ip("link set left down");
        wait_for(&mut underlay, |path| path.is_none_or(|p| !p.is_up));
        right.ip("link set left up");
        wait_for(&mut underlay, |path| path.is_some_and(|p| p.is_up));
    }
}

#[test]
fn the_metric_of_a_route_and_the_choice_of_its_source_count() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let left = net.host("left");
    left.ip("addr add 10.71.0.9/24 dev right");
    left.ip("route add 192.0.2.0/24 via 10.71.0.2 mtu 1234");
    let mut underlay = open(left, [192, 0, 2, 1]);
    assert_eq!(underlay.path().unwrap().mtu, 1234);
    left.ip("route replace 192.0.2.0/24 via 10.71.0.2 src 10.71.0.9");
    wait_for(&mut underlay, |path| {
        path.is_some_and(|p| p.mtu == 1500 && p.source == IpAddr::from([10, 71, 0, 9]))
    });
}

#[test]
fn a_host_that_encrypts_gets_no_frames() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let (left, right) = (net.host("left"), net.host("right"));
    let ends = "src 10.71.0.1 dst 10.71.0.2";
    let policy = format!("xfrm policy add {ends} dir out tmpl {ends} proto esp mode transport");
    let mut underlay = open(left, right.v4("left"));
    assert!(underlay.path().unwrap().frame.is_some());
    if let Err(error) = left.netns.ip(&policy) {
        rig::skip(&format!("this kernel has no IPsec: {error}"));
        return;
    }
    wait_for(&mut underlay, |path| path.is_none_or(|p| p.frame.is_none()));
    left.ip(&format!("xfrm policy delete {ends} dir out"));
    wait_for(&mut underlay, |path| path.is_some_and(|p| p.frame.is_some()));
}

#[test]
fn packets_come_from_the_address_that_was_asked_for() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let (left, right) = (net.host("left"), net.host("right"));
    left.ip("addr add 10.71.0.77/24 dev right");
    left.ip("addr add fd71::77/64 dev right nodad");
    let ends: [(IpAddr, IpAddr); 2] = [
        ("10.71.0.77".parse().unwrap(), right.v4("left").into()),
        ("fd71::77".parse().unwrap(), right.v6("left").into()),
    ];
    let open = |source: IpAddr, remote: IpAddr| {
        let remote = SocketAddr::from((remote, 0));
        left.netns.run(|| Underlay::open(remote, Some(source), 0, Now::read())).unwrap()
    };
    for (source, remote) in ends {
        let mut underlay = open(source, remote).unwrap();
        let is_asked_for =
            |path: Option<&Path>| path.is_some_and(|path| path.source == source && path.is_up);
        assert!(is_asked_for(underlay.path()), "{:?}", underlay.path());
        // Asked for again, it stays.
        underlay.ask(Now::read());
        assert!(is_asked_for(underlay.path()), "{:?}", underlay.path());
        // Another host's address is none to send from.
        assert!(open(remote, remote).is_err());
    }
}
