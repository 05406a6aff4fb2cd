//! What the parts of a broker say of each other: names that lead nowhere, parts that nothing uses, and
//! two that are one.

use super::{BrokerConfig, BrokerMistake, Name, Origin, Part, Start};
use crate::file::{Spelling, nearest};
use crate::{Endpoint, Group, TunnelEndpoint};
use std::net::IpAddr;
use std::path::Path;

impl BrokerConfig {
    /// Checks what can be known without the host: every name leads to a part, every part is used, and
    /// no two take or write the same.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self) -> Result<(), BrokerMistake> {
        self.sources_stand_apart()?;
        self.targets_stand_apart()?;
        self.names_are_unique()?;
        self.maps_lead_somewhere()?;
        self.all_is_used()?;
        self.history_is_kept()
    }

    fn names_are_unique(&self) -> Result<(), BrokerMistake> {
        fn second<'a>(names: impl Iterator<Item = &'a Name>) -> Option<usize> {
            let mut seen = std::collections::BTreeSet::new();
            names.into_iter().position(|name| !seen.insert(name))
        }
        let sources = second(self.sources.iter().map(|source| &source.name)).map(Part::Source);
        let maps = || second(self.maps.iter().map(|map| &map.name)).map(Part::Map);
        let targets = || second(self.targets.iter().map(|target| &target.name)).map(Part::Target);
        let Some(part) = sources.or_else(maps).or_else(targets) else {
            return Ok(());
        };
        let kind = part.kind();
        let reason =
            format!("a {kind} before is called so too: give each {kind} a `name` of its own");
        Err(BrokerMistake::new(self, part, "name", reason))
    }

    fn maps_lead_somewhere(&self) -> Result<(), BrokerMistake> {
        let sources: Vec<&str> = self.sources.iter().map(|source| source.name.as_str()).collect();
        let targets: Vec<&str> = self.targets.iter().map(|target| target.name.as_str()).collect();
        for (n, map) in self.maps.iter().enumerate() {
            for (key, named, kind, known) in
                [("from", &map.from, "source", &sources), ("to", &map.to, "target", &targets)]
            {
                let wrong = |reason| BrokerMistake::new(self, Part::Map(n), key, reason);
                if named.is_empty() {
                    return Err(wrong(format!("it leads {key} nowhere; name a {kind}")));
                }
                for (item, name) in named.iter().enumerate() {
                    if !known.contains(&name.as_str()) {
                        let mend = match known.is_empty() {
                            true => format!("there is none; begin one with [[{kind}]]"),
                            false => nearest(name, known, Spelling::Snake)
                                .replace("it may have", "there are"),
                        };
                        return Err(wrong(format!("there is no {kind} `{name}`; {mend}")).at(item));
                    }
                    if named[..item].contains(name) {
                        return Err(
                            wrong(format!("{kind} `{name}` is named twice; leave one")).at(item)
                        );
                    }
                }
            }
        }
        Ok(())
    }

    fn all_is_used(&self) -> Result<(), BrokerMistake> {
        let is_taken = |name: &Name| self.maps.iter().any(|map| map.from.contains(name));
        let is_fed = |name: &Name| self.maps.iter().any(|map| map.to.contains(name));
        if let Some(n) = self.sources.iter().position(|source| !is_taken(&source.name)) {
            let reason = "no map takes its packets; name it in the `from` of one, or leave it out";
            return Err(BrokerMistake::new(self, Part::Source(n), "name", reason));
        }
        if let Some(n) = self.targets.iter().position(|target| !is_fed(&target.name)) {
            let reason = "no map leads to it; name it in the `to` of one, or leave it out";
            return Err(BrokerMistake::new(self, Part::Target(n), "name", reason));
        }
        Ok(())
    }

    fn sources_stand_apart(&self) -> Result<(), BrokerMistake> {
        for (n, source) in self.sources.iter().enumerate() {
            for earlier in &self.sources[..n] {
                let other = &earlier.name;
                let wrong = |key, reason| BrokerMistake::new(self, Part::Source(n), key, reason);
                match (&source.origin, &earlier.origin) {
                    (
                        Origin::Interface { interface, .. },
                        Origin::Interface { interface: before, .. },
                    ) if interface == before || interface == "any" || before == "any" => {
                        return Err(wrong(
                            "interface",
                            format!(
                                "source {other} takes the packets of {before} already, so that \
                                 they would come twice; use two maps from one source"
                            ),
                        ));
                    }
                    (Origin::File { path, .. }, Origin::File { path: before, .. })
                        if path == before && path == Path::new("-") =>
                    {
                        return Err(wrong(
                            "read",
                            format!(
                                "source {other} reads standard input already: each would get a part"
                            ),
                        ));
                    }
                    _ => {}
                }
            }
            let Origin::Tunnels { listen, .. } = &source.origin else {
                continue;
            };
            for (item, tunnel) in listen.iter().enumerate() {
                let of_earlier = self.sources[..n].iter().flat_map(|earlier| {
                    let listen = match &earlier.origin {
                        Origin::Tunnels { listen, .. } => listen.as_slice(),
                        _ => &[],
                    };
                    listen.iter().map(|tunnel| (earlier.name.as_str(), tunnel))
                });
                let own = listen[..item].iter().map(|tunnel| (source.name.as_str(), tunnel));
                let taken = of_earlier.chain(own).find(|(_, other)| overlap(tunnel, other));
                if let Some((name, other)) = taken {
                    let key = tunnel.scheme.id_key();
                    let reason = format!(
                        "{tunnel}: source {name} listens for the same packets ({other}); give each \
                         its own `{key}` or address, or use two maps from one source"
                    );
                    return Err(
                        BrokerMistake::new(self, Part::Source(n), "listen", reason).at(item)
                    );
                }
            }
        }
        Ok(())
    }

    fn targets_stand_apart(&self) -> Result<(), BrokerMistake> {
        let mut taken: Vec<(String, &Name)> = Vec::new();
        for (n, target) in self.targets.iter().enumerate() {
            let Group(members) = &target.to;
            let wrong = |reason| BrokerMistake::new(self, Part::Target(n), "to", reason);
            for (item, member) in members.iter().enumerate() {
                let place = member.canonical();
                if let Some((_, other)) = taken.iter().find(|(of, _)| *of == place)
                    && *member != Endpoint::Null
                {
                    let reason = format!(
                        "{place}: target {other} sends there too; let maps lead to that one, or \
                         give each its own"
                    );
                    return Err(wrong(reason).at(item));
                }
                if let Endpoint::Pcap { path } = member
                    && let Some(reader) = self.sources.iter().find(|source| {
                        matches!(&source.origin, Origin::File { path: read, .. }
                            if read == path && read != Path::new("-"))
                    })
                {
                    let name = &reader.name;
                    let reason = format!(
                        "{place}: source {name} reads this file, which would be written over; \
                         write to another one"
                    );
                    return Err(wrong(reason).at(item));
                }
                taken.push((place, &target.name));
            }
        }
        Ok(())
    }

    /// A target that begins with the oldest packets needs a map that keeps some.
    fn history_is_kept(&self) -> Result<(), BrokerMistake> {
        for (n, target) in self.targets.iter().enumerate() {
            let keeps = |map: &&super::MapConfig| map.to.contains(&target.name) && map.history > 0;
            if target.start == Start::Oldest && self.maps.iter().find(keeps).is_none() {
                let reason = "no map that leads to it keeps packets; add `history = \"16MB\"` to \
                              one, or leave `from` out";
                return Err(BrokerMistake::new(self, Part::Target(n), "from", reason));
            }
        }
        Ok(())
    }
}

/// Whether two listening endpoints take the same packets.
fn overlap(one: &TunnelEndpoint, other: &TunnelEndpoint) -> bool {
    let address = |tunnel: &TunnelEndpoint| tunnel.host.parse::<IpAddr>().ok();
    let hosts = match (address(one), address(other)) {
        (Some(one), Some(other)) => {
            one == other
                || (one.is_ipv4() == other.is_ipv4()
                    && (one.is_unspecified() || other.is_unspecified()))
        }
        _ => one.host == other.host,
    };
    let ids = one.id.is_none() || other.id.is_none() || one.id == other.id;
    hosts && ids && one.scheme.kind == other.scheme.kind && one.carrier == other.carrier
}
