//! The filters of traffic control at an interface's clsact or ingress qdisc.
//!
//! Source: rtnetlink(7), `RTM_GETTFILTER`; Linux `include/uapi/linux/pkt_sched.h` and `pkt_cls.h`.
//!
//! ```text
//! struct tcmsg   family 1, padding 3 | interface index 4 | handle 4 | parent 4 | info 4 | attributes
//! ```

use super::{Attached, Hook, program_name, text};
use crate::bpf::Way;
use crate::netlink::{Netlink, Question, attributes, word};
use std::io;

const TCMSG_LEN: usize = 20;
/// The two classes of a clsact qdisc; an ingress qdisc has the former.
const PARENT_INGRESS: u32 = 0xffff_fff2;
const PARENT_EGRESS: u32 = 0xffff_fff3;
/// `TCA_KIND` and `TCA_OPTIONS`; in the options of a program `TCA_BPF_NAME` and `TCA_BPF_ID`.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const BPF_NAME: u16 = 7;
const BPF_ID: u16 = 11;

/// The filters of a direction, in the order in which they are asked.
pub(super) fn at(interface_index: i32, way: Way) -> io::Result<Vec<Attached>> {
    let parent = match way {
        Way::Ingress => PARENT_INGRESS,
        Way::Egress => PARENT_EGRESS,
    };
    let mut body = [0; TCMSG_LEN];
    body[4..8].copy_from_slice(&interface_index.to_ne_bytes());
    body[12..16].copy_from_slice(&parent.to_ne_bytes());
    let mut found = Vec::new();
    let mut netlink = Netlink::open(libc::NETLINK_ROUTE)?;
    let question = Question::new(libc::RTM_GETTFILTER, &body);
    netlink.list(question, |answer| found.extend(filter(answer, way)))?;
    Ok(found)
}

/// One filter; `None` for the entry that stands for all of a priority, and for what is cut short.
fn filter(body: &[u8], way: Way) -> Option<Attached> {
    if word(body, 8)? == 0 {
        return None;
    }
    let (mut kind, mut program, mut name) = (String::new(), None, None);
    for (number, value) in attributes(body.get(TCMSG_LEN..)?) {
        match number {
            KIND => kind = text(value),
            OPTIONS => {
                for (number, value) in attributes(value) {
                    match number {
                        BPF_NAME => name = Some(text(value)),
                        BPF_ID => program = word(value, 0),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    // A classic program has no id, and the name that tc gives it says no more than the kind.
    let name = match program {
        Some(id) => Some(program_name(id)).filter(|name| !name.is_empty()).or(name),
        None => None,
    };
    Some(Attached { hook: Hook::Clsact, way, program, link: None, name: name.unwrap_or(kind) })
}
