//! Where packets come from that arrive in tunnels: a ring for all endpoints, or a socket for each
//! place.

use crate::cli::ReceiveDatapath;
use crate::failure::Failure;
use api::{DecapStats, RingSize, TunnelEndpoint};
use io::decap::{Decap, DecapOptions, DecapStatus, Policy};
use io::ring::Handover;
use io::ring_listen::{ListenPoint, RingListenOptions, RingListener};
use io::tunnel::{ListenOptions, TunnelSource, Wanted};
use io::underlay::receives_by_ipsec;
use io::{Interfaces, Source};
use pipeline::Input;
use std::net::SocketAddr;
use std::sync::Arc;
use wire::decap::Rules;
use wire::tunnel::{Carrier, Kind};

/// Sources that are open, and what to say of them when it begins.
pub struct Listeners {
    pub inputs: Vec<Input>,
    pub begun: Vec<String>,
    pub tunnels: Tunnels,
}

/// What is listened for, and how.
#[derive(Debug, Clone)]
pub struct Listening {
    /// Tunnels that end at this host.
    pub endpoints: Vec<TunnelEndpoint>,
    /// A ring, sockets, or what is better.
    pub datapath: ReceiveDatapath,
    /// Layers of tunnels that packets are taken out of; 0: none.
    pub layers: u8,
    /// The ring, or each socket's receive buffer, bytes.
    pub buffer_bytes: u64,
    /// How soon a ring hands over what it has.
    pub handover: Handover,
}

/// The counters of what comes out of the tunnels.
#[derive(Default)]
pub struct Tunnels {
    sources: Vec<Arc<DecapStatus>>,
    /// Of further layers behind a socket: they count the same packets again.
    further: Vec<Arc<DecapStatus>>,
}

impl Tunnels {
    /// Adds those of other listeners.
    pub fn add(&mut self, other: Tunnels) {
        self.sources.extend(other.sources);
        self.further.extend(other.further);
    }

    /// What came out so far; `None` if nothing is taken out.
    pub fn counters(&self) -> Option<DecapStats> {
        let mut sum = DecapStats::default();
        self.sources.iter().for_each(|status| sum.merge(&status.get()));
        for status in &self.further {
            sum.merge(&DecapStats { decapsulated: 0, ..status.get() });
        }
        (!self.sources.is_empty()).then_some(sum)
    }
}

impl Listeners {
    /// Begins to listen. Nothing is taken from the interfaces `fed`, by their indices.
    ///
    /// # Errors
    /// If one cannot: an address is not of this host, a port is taken, a right is missing.
    pub fn open(
        options: &Listening,
        fed: &[i32],
        interfaces: &Interfaces,
    ) -> Result<Listeners, Failure> {
        let places = places(&options.endpoints)?;
        match options.datapath {
            ReceiveDatapath::Ring => Listeners::on_ring(options, &places, fed, interfaces),
            ReceiveDatapath::Socket => Listeners::on_sockets(options, &places, interfaces),
            ReceiveDatapath::Auto => {
                let because = |why: &str| {
                    let listeners = Listeners::on_sockets(options, &places, interfaces)?;
                    tracing::info!("receiving from sockets, not from a ring: {why}");
                    Ok(listeners)
                };
                let may_be_sockets = options.layers > 0;
                if may_be_sockets && receives_by_ipsec() {
                    return because("this host has IPsec policies, by which a ring passes");
                }
                match Listeners::on_ring(options, &places, fed, interfaces) {
                    Err(why) if may_be_sockets => because(why.message().unwrap_or_default()),
                    result => result,
                }
            }
        }
    }

    /// One ring for all, or one for each version of IP.
    fn on_ring(
        options: &Listening,
        places: &[Place],
        fed: &[i32],
        interfaces: &Interfaces,
    ) -> Result<Listeners, Failure> {
        let rules = rules(places)?;
        let endpoints: Vec<TunnelEndpoint> =
            places.iter().flat_map(|place| place.endpoints.clone()).collect();
        let wanted = Wanted::new(&endpoints, &rules);
        let rings = RingListener::open(
            &RingListenOptions {
                points: places.iter().map(Place::point).collect(),
                ring_size: RingSize::Bytes(options.buffer_bytes as usize),
                handover: options.handover,
                except: fed.to_vec(),
            },
            interfaces,
        )?;
        let mut begun: Vec<String> =
            places.iter().map(|place| format!("listening on {}", place.name())).collect();
        let mut inputs = Vec::with_capacity(rings.len());
        let mut tunnels = Tunnels::default();
        let is_alone = rings.len() == 1;
        for ring in rings {
            let names: Vec<String> = places.iter().map(Place::name).collect();
            let mut name = names.join(", ");
            if !is_alone {
                name = format!("{name} ({})", ring.version());
            }
            begun.push(format!("ring of {} KiB for {}", ring.ring_bytes() >> 10, ring.version()));
            let source: Box<dyn Source> = match options.layers {
                0 => Box::new(ring),
                layers => {
                    let policy = Policy::Receive(wanted.clone());
                    let options = DecapOptions { layers, rules: rules.clone(), policy };
                    let decap = Decap::new(Box::new(ring), options, interfaces);
                    tunnels.sources.push(decap.status());
                    Box::new(decap)
                }
            };
            inputs.push(Input { name, source });
        }
        Ok(Listeners { inputs, begun, tunnels })
    }

    /// A socket for each place.
    fn on_sockets(
        options: &Listening,
        places: &[Place],
        interfaces: &Interfaces,
    ) -> Result<Listeners, Failure> {
        let Some(further) = options.layers.checked_sub(1) else {
            return Err(Failure::Usage(
                "a socket gives no outer headers: leave --decap 0 or --datapath socket out".into(),
            ));
        };
        let (mut inputs, mut begun) = (Vec::new(), Vec::new());
        let mut tunnels = Tunnels::default();
        for place in places {
            let listen = ListenOptions {
                local: place.local,
                endpoints: place.endpoints.clone(),
                buffer_bytes: options.buffer_bytes as usize,
            };
            let source = TunnelSource::open(&listen, interfaces)?;
            tunnels.sources.push(source.status());
            let source: Box<dyn Source> = match further {
                0 => Box::new(source),
                layers => {
                    let (rules, policy) = (rules(places)?, Policy::Capture);
                    let options = DecapOptions { layers, rules, policy };
                    let decap = Decap::new(Box::new(source), options, interfaces);
                    tunnels.further.push(decap.status());
                    Box::new(decap)
                }
            };
            begun.push(format!("listening on {}", place.name()));
            inputs.push(Input { name: place.name(), source });
        }
        Ok(Listeners { inputs, begun, tunnels })
    }
}

/// The endpoints that listen at one place: each apart would count the others' packets as strangers'.
struct Place {
    local: SocketAddr,
    /// At least one.
    endpoints: Vec<TunnelEndpoint>,
}

impl Place {
    fn name(&self) -> String {
        let names: Vec<String> = self.endpoints.iter().map(ToString::to_string).collect();
        names.join(", ")
    }

    fn point(&self) -> ListenPoint {
        ListenPoint { address: self.local.ip(), carrier: self.endpoints[0].carrier }
    }
}

/// Where these endpoints listen.
fn places(listen: &[TunnelEndpoint]) -> Result<Vec<Place>, Failure> {
    let mut places: Vec<Place> = Vec::new();
    for tunnel in listen {
        let local = tunnel.resolve()?;
        let same = |place: &&mut Place| {
            place.local == local && place.endpoints[0].carrier == tunnel.carrier
        };
        let Some(place) = places.iter_mut().find(same) else {
            places.push(Place { local, endpoints: vec![tunnel.clone()] });
            continue;
        };
        let first = &place.endpoints[0];
        if family(first.scheme.kind) != family(tunnel.scheme.kind) {
            return Err(Failure::Usage(format!(
                "{first} and {tunnel} cannot share a port: packets do not say which tunnel they \
                 are; give one of them another port"
            )));
        }
        place.endpoints.push(tunnel.clone());
    }
    Ok(places)
}

/// Which tunnels are at which UDP ports.
fn rules(places: &[Place]) -> Result<Rules, Failure> {
    let mut rules = Rules::default();
    let mut taken: Vec<(u16, &TunnelEndpoint)> = Vec::new();
    for first in places.iter().map(|place| &place.endpoints[0]) {
        let Carrier::Udp { port } = first.carrier else {
            continue;
        };
        let kind = family(first.scheme.kind);
        let other = taken.iter().find(|(at, of)| *at == port && family(of.scheme.kind) != kind);
        if let Some((_, other)) = other {
            return Err(Failure::Usage(format!(
                "{other} and {first} cannot share a port in one ring; give one of them another \
                 port, or receive from sockets (--datapath socket)"
            )));
        }
        taken.push((port, first));
        rules = rules.with_port(kind, port);
    }
    Ok(rules)
}

/// The kind whose header tells the others of its family apart.
fn family(kind: Kind) -> Kind {
    match kind {
        Kind::Gretap | Kind::Erspan => Kind::Gre,
        kind => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Endpoint;

    fn places_of(endpoints: &[&str]) -> Result<Vec<Place>, String> {
        let listener = |text: &&str| Endpoint::listener(text).unwrap().tunnel().unwrap().clone();
        let listen: Vec<TunnelEndpoint> = endpoints.iter().map(listener).collect();
        places(&listen).map_err(|failure| failure.message().unwrap_or_default().to_owned())
    }

    #[test]
    fn endpoints_share_places() {
        let places = places_of(&[
            "gre://127.0.0.1",
            "vxlan://127.0.0.1?vni=1",
            "erspan://127.0.0.1?session=1",
            "vxlan://127.0.0.1?vni=2",
            "vxlan://127.0.0.2",
        ])
        .unwrap();
        let counts: Vec<usize> = places.iter().map(|place| place.endpoints.len()).collect();
        assert_eq!(counts, [2, 2, 1]);
        assert_eq!(places[0].point().carrier, Carrier::Ip { protocol: 47 });
        let error = places_of(&["vxlan://127.0.0.1:9", "geneve://127.0.0.1:9"]).err().unwrap();
        assert!(error.contains("cannot share a port"), "{error}");
    }

    #[test]
    fn a_ring_has_one_kind_for_each_port() {
        let places = places_of(&["vxlan://127.0.0.1:9", "geneve://127.0.0.2:9"]).unwrap();
        let error = rules(&places).err().unwrap();
        let error = error.message().unwrap();
        assert!(error.contains("--datapath socket"), "{error}");
        assert!(rules(&places[..1]).is_ok());
    }
}
