//! Claiming packets for the ring at every interface, so that IP does not go on with them.
//!
//! It only saves work: at an interface without the program, IP goes on with a packet as far as the
//! socket that rejects it ([`super::quiet`]), and the ring takes it all the same.

use crate::bpf::{IngressProgram, PrefixMap};
use crate::error::Error;
use crate::netlink::{Netlink, Question, word};
use filter::ebpf::Code;
use std::collections::HashMap;
use std::os::fd::OwnedFd;

const IFINFOMSG_LEN: usize = 16;
/// Where the index stands in it.
const INDEX: usize = 4;
/// Interfaces that have the program at most; each takes a descriptor.
const INTERFACES_MAX: usize = 256;

/// A program at each interface.
#[derive(Debug)]
pub(super) struct Claims {
    program: IngressProgram,
    /// What keeps it there, by the interface's index; `None` where it could not be put.
    links: HashMap<i32, Option<OwnedFd>>,
    questions: Netlink,
    news: Netlink,
}

impl Claims {
    /// Has the program run at all interfaces of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::System`] where the kernel does not take it at any.
    pub fn make(code: &Code, prefixes: &PrefixMap) -> Result<Claims, Error> {
        let failed = |error| Error::system("list the interfaces", error);
        let open = || Netlink::open(libc::NETLINK_ROUTE).map_err(failed);
        let (questions, news) = (open()?, open()?);
        news.follow(libc::RTNLGRP_LINK, true).map_err(failed)?;
        let program = IngressProgram::load(code, prefixes)?;
        let mut claims = Claims { program, links: HashMap::new(), questions, news };
        let refused = claims.follow_interfaces();
        match refused {
            Some(error) if claims.interfaces() == 0 => Err(error),
            _ => Ok(claims),
        }
    }

    /// At how many interfaces it runs.
    pub fn interfaces(&self) -> usize {
        self.links.values().flatten().count()
    }

    /// Looks for new interfaces, if there is news of any.
    pub fn follow(&mut self) {
        if self.news.take_news()
            && let Some(error) = self.follow_interfaces()
        {
            tracing::debug!("{error}; packets from there cost more");
        }
    }

    /// Puts the program where it is not, and forgets interfaces that are gone. Returns a refusal.
    fn follow_interfaces(&mut self) -> Option<Error> {
        let mut present = Vec::new();
        let question = Question::new(libc::RTM_GETLINK, &[0; IFINFOMSG_LEN]);
        let add = |link: &[u8]| present.extend(word(link, INDEX).map(u32::cast_signed));
        if let Err(error) = self.questions.list(question, add) {
            return Some(Error::system("list the interfaces", error));
        }
        self.links.retain(|index, _| present.contains(index));
        let mut refused = None;
        for index in present {
            if self.links.contains_key(&index) || self.links.len() >= INTERFACES_MAX {
                continue;
            }
            let link = self.program.attach(index).map_err(|error| refused = Some(error));
            self.links.insert(index, link.ok());
        }
        refused
    }
}
