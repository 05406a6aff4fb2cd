//! A packet's way through the forwarder.

use super::Running;
use super::ways::To;
use crate::clock::Now;
use crate::forward::neighbours::{self, Question};
use crate::forward::sessions::{Key, Refused, Session, Wanted};
use crate::packet::{Direction, Packet};
use crate::underlay::FrameAddresses;
use api::{DropReason, InlineView};
use std::net::IpAddr;
use wire::LinkType;
use wire::translate::{
    ANSWER_LEN_MAX, Answer, End, Fragments as Cut, Hops, Kind, Mapping, Reading, answer, translate,
    translate_from,
};
use wire::walk::protocol;

const ETHERNET_LEN: usize = 14;
const TCP_FLAGS_AT: usize = 13;

/// Whose a packet is.
enum Whose {
    /// Of a session.
    Session(u32),
    /// Of a rule, and going no further.
    Lost(u32, DropReason),
    /// For one of our addresses, and of no session.
    Stray(DropReason),
    /// Not ours.
    Nobody,
}

impl Running {
    /// Forwards a packet, answers it, or counts why not.
    pub(super) fn handle(&mut self, mut packet: Packet, side: usize, now: Now) {
        if !Running::came_in(packet.meta.direction) {
            return;
        }
        let Some((to, kind)) = head(&packet.data) else {
            return self.pass_over();
        };
        let is_for_us = to == self.sides[side].mac;
        if let Some(question) = Question::of(&packet.data)
            && (is_for_us || to[0] & 1 == 1)
            && self.is_answered(side, question.wanted())
        {
            return self.answer_question(&packet, &question, side);
        }
        let is_ip = matches!(kind, 0x0800 | 0x86dd);
        let reading = Reading::of(LinkType::ETHERNET, &packet.data)
            .filter(|reading| is_for_us && is_ip && reading.ip_at as usize == ETHERNET_LEN);
        let Some(reading) = reading else { return self.pass_over() };
        let (has_clients, has_next_hosts) = self.roles(side);
        let is_forward = has_clients && self.table.is_ours(reading.destination.address);
        let is_reply =
            !is_forward && has_next_hosts && self.table.is_source(reading.destination.address);
        let whose = match (is_forward, is_reply) {
            (true, _) => self.of_client(&packet, &reading, side, now),
            (_, true) => self.of_next_host(&packet, &reading, side, now),
            _ => Whose::Nobody,
        };
        match whose {
            Whose::Session(number) => {
                packet.data.truncate(reading.end as usize);
                self.forward(packet, &reading, number, is_reply, side, now);
            }
            Whose::Lost(rule, reason) => self.lose(rule, is_reply, reason),
            Whose::Stray(reason) => {
                self.other.seen += 1;
                self.lose_other(reason);
            }
            Whose::Nobody => self.pass_over(),
        }
    }

    /// A frame that is nobody's business here.
    fn pass_over(&mut self) {
        self.other.seen += 1;
        self.other.filtered += 1;
    }

    /// Answers who asks for one of our addresses.
    fn answer_question(&mut self, packet: &Packet, question: &Question, side: usize) {
        let mut out = [0; neighbours::ANSWER_LEN_MAX];
        let len = question.answer(self.sides[side].mac, &mut out);
        self.other.seen += 1;
        self.other.filtered += 1;
        self.other.answered += 1;
        self.sides[side].answer(packet, &out[..len], &mut self.pool);
    }

    /// Tells the sender why its packet goes no further, unless too many have been told.
    fn tell(&mut self, packet: &Packet, reading: &Reading, why: Answer, side: usize, now: Now) {
        let mut out = [0; ETHERNET_LEN + ANSWER_LEN_MAX];
        let from = reading.destination.address;
        let side = &mut self.sides[side];
        if side.may_answer(now.monotonic_ns)
            && let Some(len) = answer(&packet.data, reading, why, from, &mut out)
        {
            side.answer(packet, &out[..len], &mut self.pool);
        }
    }

    /// Whose a packet for one of the addresses is that clients speak to.
    fn of_client(&mut self, packet: &Packet, reading: &Reading, side: usize, now: Now) -> Whose {
        let now_ns = now.monotonic_ns;
        let ours = reading.destination;
        let rule = self.table.find(reading.protocol, ours);
        let found = match reading.kind {
            Kind::Foreign => return rule.map_or(Whose::Nobody, no_session),
            Kind::Later => {
                let first = self.fragments.find(reading, false, now_ns);
                let found = first.and_then(|key| self.sessions.find(&key, false, now_ns));
                let Some(number) = found else {
                    return match rule.or(self.table.find(reading.protocol, End { port: 0, ..ours }))
                    {
                        Some(rule) => Whose::Lost(rule, DropReason::Fragment),
                        None => Whose::Stray(DropReason::Fragment),
                    };
                };
                Some(number)
            }
            Kind::Error(about) => {
                let (remote, local) = (about.destination, about.source);
                let key = Key { protocol: about.protocol, remote, local };
                match self.sessions.find(&key, false, now_ns) {
                    Some(number) => Some(number),
                    None => return Whose::Stray(DropReason::NoSession),
                }
            }
            Kind::Ports | Kind::Query { .. } | Kind::Plain => {
                let key = Key { protocol: reading.protocol, remote: reading.source, local: ours };
                self.sessions.find(&key, false, now_ns)
            }
        };
        let known = found.and_then(|number| self.sessions.get(number)).map(|session| session.rule);
        let Some(rule) = known.or(rule) else { return Whose::Nobody };
        if reading.hops <= 1 {
            self.tell(packet, reading, Answer::TimeExceeded, side, now);
            return Whose::Lost(rule, DropReason::TtlExceeded);
        }
        if let Some(number) = found {
            return Whose::Session(number);
        }
        if let Kind::Query { is_reply: true } = reading.kind {
            return no_session(rule);
        }
        let of = self.table.rule(rule);
        let Some(source) = of.source else { return no_session(rule) };
        let wanted = Wanted {
            rule,
            protocol: reading.protocol,
            client: reading.source,
            ours,
            source,
            next: End { address: of.next_host, port: of.next_port.unwrap_or(ours.port) },
        };
        match self.sessions.begin(&wanted, now_ns) {
            Ok(number) => Whose::Session(number),
            Err(Refused::Full) => Whose::Lost(rule, DropReason::SessionTable),
            Err(Refused::NoPort) => Whose::Lost(rule, DropReason::NoPort),
        }
    }

    /// Whose a packet for one of the addresses is that next hosts see.
    fn of_next_host(&mut self, packet: &Packet, reading: &Reading, side: usize, now: Now) -> Whose {
        let now_ns = now.monotonic_ns;
        let key = match reading.kind {
            Kind::Foreign => return Whose::Stray(DropReason::NoSession),
            Kind::Later => self.fragments.find(reading, true, now_ns),
            Kind::Error(about) => Some(Key {
                protocol: about.protocol,
                remote: about.destination,
                local: about.source,
            }),
            Kind::Ports | Kind::Query { .. } | Kind::Plain => Some(Key {
                protocol: reading.protocol,
                remote: reading.source,
                local: reading.destination,
            }),
        };
        let found = key.and_then(|key| self.sessions.find(&key, true, now_ns));
        let session = found.and_then(|number| Some((number, self.sessions.get(number)?.rule)));
        let Some((number, rule)) = session else {
            return Whose::Stray(match reading.kind {
                Kind::Later => DropReason::Fragment,
                _ => DropReason::NoSession,
            });
        };
        if reading.hops <= 1 {
            self.tell(packet, reading, Answer::TimeExceeded, side, now);
            return Whose::Lost(rule, DropReason::TtlExceeded);
        }
        Whose::Session(number)
    }

    /// Translates a packet of a session and hands it to the other side.
    fn forward(
        &mut self,
        mut packet: Packet,
        reading: &Reading,
        number: u32,
        is_reply: bool,
        side: usize,
        now: Now,
    ) {
        let Some(session) = self.sessions.get(number).copied() else {
            return self.pass_over();
        };
        let rule = session.rule;
        let to_side = if is_reply { 0 } else { self.sides.len() - 1 };
        let (macs, mtu) = match self.link_to(&session, is_reply, to_side, now) {
            Ok(link) => link,
            Err(is_hopeless) => {
                if is_hopeless {
                    self.tell(&packet, reading, Answer::Unreachable, side, now);
                }
                return self.lose(rule, is_reply, DropReason::Unreachable);
            }
        };
        if reading.ip_len() > mtu && !reading.may_fragment {
            let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
            self.tell(&packet, reading, Answer::TooBig(mtu), side, now);
            return self.lose(rule, is_reply, DropReason::Oversize);
        }
        if let Some(fragment) = reading.fragment
            && fragment.offset == 0
        {
            let key = if is_reply { session.reply_key() } else { session.key() };
            self.fragments.note(reading, is_reply, key, now.monotonic_ns);
        }
        if !is_reply && let Some(mac) = packet.data.get(6..12).and_then(<[u8]>::first_chunk) {
            self.sessions.came_from(number, *mac);
        }
        let is_error = matches!(reading.kind, Kind::Error(_));
        if !is_error {
            let flags = flags(&packet.data, reading);
            self.sessions.touch(number, is_reply, flags, now.monotonic_ns);
        }
        let mapping = if is_reply { session.back() } else { session.there() };
        self.view(&packet, reading, rule, InlineView::Ingress, Direction::In, None);
        let inline = match is_reply {
            true => session.inline().turned(),
            false => session.inline(),
        };
        // A router's error stays the router's.
        let remote = if is_reply { session.next } else { session.client };
        let is_routers = is_error && reading.source.address != remote.address;
        let router = is_routers.then_some(reading.source.address);
        self.view(
            &packet,
            reading,
            rule,
            InlineView::Inline,
            Direction::Unknown,
            Some((inline, router)),
        );
        let from = router.filter(|_| is_reply).unwrap_or(mapping.source.address);
        translate_from(&mut packet.data, reading, &mapping, from, Hops::Lower);
        packet.data[..6].copy_from_slice(&macs.destination);
        packet.data[6..12].copy_from_slice(&macs.source);
        let line = &mut self.rules[rule as usize];
        let counts = if is_reply { &mut line.back } else { &mut line.there };
        counts.seen += 1;
        counts.forwarded += 1;
        counts.bytes += packet.data.len() as u64;
        packet.meta.origlen = packet.data.len() as u32;
        match Cut::new(reading, &packet.data, mtu) {
            None => {
                self.view(&packet, reading, rule, InlineView::Egress, Direction::Out, None);
                self.sides[to_side].push(packet);
            }
            Some(cut) => self.send_in_fragments(&packet, reading, rule, &cut, to_side),
        }
    }

    /// The addresses of the frame, and how large a packet may be. An error says whether
    /// it is time to tell the sender.
    fn link_to(
        &self,
        session: &Session,
        is_reply: bool,
        to_side: usize,
        now: Now,
    ) -> Result<(FrameAddresses, usize), bool> {
        let side = &self.sides[to_side];
        if is_reply {
            return match session.client_mac {
                [0, 0, 0, 0, 0, 0] => Err(false),
                destination => Ok((FrameAddresses { destination, source: side.mac }, side.mtu)),
            };
        }
        match self.ways.to(session.next.address, now) {
            To::Frame(frame, interface, mtu) if interface == side.index => {
                Ok((FrameAddresses { source: side.mac, ..frame }, mtu.min(side.mtu)))
            }
            To::Frame(..) | To::Unreachable => Err(true),
            To::Unknown => Err(false),
        }
    }

    /// Sends a packet in pieces, each of which is in the egress view as it is sent.
    fn send_in_fragments(
        &mut self,
        packet: &Packet,
        reading: &Reading,
        rule: u32,
        cut: &Cut,
        to_side: usize,
    ) {
        self.sides[to_side].fragmented += 1;
        self.sides[to_side].fragments += cut.count() as u64;
        for i in 0..cut.count() {
            let Some(mut data) = self.pool.take(cut.len(i)) else {
                self.sides[to_side].lose(DropReason::PoolExhausted);
                continue;
            };
            cut.emit(&packet.data, i, &mut data);
            let mut meta = packet.meta.clone();
            meta.origlen = data.len() as u32;
            let fragment = Packet { data, meta };
            self.view(&fragment, reading, rule, InlineView::Egress, Direction::Out, None);
            self.sides[to_side].push(fragment);
        }
    }

    /// Gives a copy of a packet to who records a view of its rule.
    fn view(
        &mut self,
        packet: &Packet,
        reading: &Reading,
        rule: u32,
        view: InlineView,
        direction: Direction,
        mapping: Option<(Mapping, Option<IpAddr>)>,
    ) {
        let Some(capture) = &self.table.captures[rule as usize] else { return };
        let Some(interface) = capture.interface(view) else { return };
        let snaplen = self.table.rule(rule).snapshot_length as usize;
        let copy = self.pool.copy(&packet.data).map(|data| {
            let mut copy = Packet { data, meta: packet.meta.clone() };
            match mapping {
                Some((mapping, Some(router))) => {
                    translate_from(&mut copy.data, reading, &mapping, router, Hops::Keep);
                }
                Some((mapping, None)) => translate(&mut copy.data, reading, &mapping, Hops::Keep),
                None => {}
            }
            let meta = &mut copy.meta;
            (meta.origlen, meta.interface) = (packet.data.len() as u32, interface);
            (meta.direction, meta.packet_id) = (direction, None);
            meta.flow_hash = None;
            if (1..copy.data.len()).contains(&snaplen) {
                // The ports may be cut off.
                copy.meta.flow_hash = Some(copy.compute_flow_hash());
                copy.data.truncate(snaplen);
            }
            copy
        });
        capture.sender.give(copy);
    }
}

fn no_session(rule: u32) -> Whose {
    Whose::Lost(rule, DropReason::NoSession)
}

/// Whom an Ethernet frame is for, and its EtherType.
fn head(frame: &[u8]) -> Option<([u8; 6], u16)> {
    let head = frame.first_chunk::<ETHERNET_LEN>()?;
    Some((*head.first_chunk()?, u16::from_be_bytes([head[12], head[13]])))
}

/// The flags of a TCP segment that has them.
fn flags(frame: &[u8], reading: &Reading) -> Option<u8> {
    match reading.protocol {
        protocol::TCP if reading.kind == Kind::Ports => {
            frame.get(reading.transport_at as usize + TCP_FLAGS_AT).copied()
        }
        _ => None,
    }
}
