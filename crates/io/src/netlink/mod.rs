//! Questions to the kernel's tables of links, routes and neighbours, and word of their changes.
//!
//! Source: netlink(7), rtnetlink(7); RFC 3549 section 2. The kernel answers a question inside the
//! call that sends it, and sends news of a table to who has joined its group.
//!
//! ```text
//! question  nlmsghdr (16 B): length 4, kind 2, flags 2, sequence 4, port 4 | body | attributes
//! answer    nlmsghdr (16 B), the sequence of the question                  | body | attributes
//! refusal   nlmsghdr (16 B), kind NLMSG_ERROR                              | negative errno 4 B | …
//! attribute length 2, kind 2, value, padded to a multiple of 4 B
//! ```

mod sys;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const HEADER_LEN: usize = 16;
/// The kernel makes the parts of a list as large as the buffer, up to this.
const LIST_BYTES_MAX: usize = 32 << 10;
/// Parts of a list: some hundred entries in each.
const LIST_PARTS_MAX: usize = 1024;
/// Bytes of news that are looked at: the header, and the begin of the body.
const NEWS_BYTES: usize = HEADER_LEN + 16;
const ATTRIBUTE_LEN: usize = 4;
/// The flags in an attribute's kind: nested, in network order.
const KIND_MASK: u16 = 0x3fff;
/// More than any news; the begin of an answer is enough.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Messages that are looked through for an answer, and news taken at once.
const MESSAGES_MAX: usize = 256;

/// A socket for questions and news, in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    /// News that came in front of an answer.
    has_news: bool,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace; `protocol` is `NETLINK_…`.
    pub fn open(protocol: i32) -> io::Result<Netlink> {
        Ok(Netlink { socket: sys::open(protocol)?, sequence: 0, has_news: false })
    }

    /// Has the socket become readable when something changes in the table of a group, or no longer.
    pub fn follow(&self, group: u32, wanted: bool) -> io::Result<()> {
        sys::subscribe(self.socket.as_fd(), group, wanted)
    }

    /// Asks a question; returns the answer's kind and its body, of which the end may be cut off.
    ///
    /// # Errors
    /// The kernel's refusal; `WouldBlock` if no answer is found among the news.
    pub fn ask(&mut self, question: Question) -> io::Result<(u16, Vec<u8>)> {
        self.sequence = self.sequence.wrapping_add(1);
        sys::send(self.socket.as_fd(), &question.message(self.sequence))?;
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        for _ in 0..MESSAGES_MAX {
            let message = match sys::receive(self.socket.as_fd(), &mut buffer) {
                Ok(message) => message,
                // There were more news than the socket holds.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.has_news = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match answer(message, self.sequence) {
                Some(answer) => return answer.map(|(kind, body)| (kind, body.to_vec())),
                None => self.has_news = true,
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Has the kernel change something, and takes its word that it has; `flags` are `NLM_F_…` beside
    /// those that every change has.
    ///
    /// # Errors
    /// The kernel's refusal; `WouldBlock` if no answer is found among the news.
    pub fn change(&mut self, question: Question, flags: i32) -> io::Result<()> {
        match self.ask(question.flagged(libc::NLM_F_ACK | flags)) {
            Err(error) if error.raw_os_error() != Some(0) => Err(error),
            _ => Ok(()),
        }
    }

    /// Has the kernel heed all of a question for a list, not only what is listed. Kernels before 4.20
    /// cannot.
    pub fn ask_strictly(&self) -> io::Result<()> {
        sys::ask_strictly(self.socket.as_fd())
    }

    /// Asks for a list; `each` gets the bodies of its entries. Returns whether the kernel says that it
    /// stayed as it was meanwhile. For a socket that follows nothing.
    ///
    /// # Errors
    /// The kernel's refusal; `FileTooLarge` beyond some 100,000 entries.
    pub fn list(
        &mut self,
        mut question: Question,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        question.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        sys::send(self.socket.as_fd(), &question.message(self.sequence))?;
        let mut buffer = vec![0; LIST_BYTES_MAX];
        let mut is_consistent = true;
        for _ in 0..LIST_PARTS_MAX {
            let part = sys::receive(self.socket.as_fd(), &mut buffer)?;
            for message in messages(part) {
                let Some(answer) = answer(message, self.sequence) else {
                    continue;
                };
                let (kind, body) = answer?;
                let flags = half(message, 6).unwrap_or(0);
                is_consistent &= flags & libc::NLM_F_DUMP_INTR as u16 == 0;
                if i32::from(kind) == libc::NLMSG_DONE {
                    return Ok(is_consistent);
                }
                each(body);
            }
        }
        Err(io::ErrorKind::FileTooLarge.into())
    }

    /// Takes the news that wait; returns whether there were any since the last call. They only say
    /// that it is time to look: what is there now is asked for.
    pub fn take_news(&mut self) -> bool {
        self.take_news_of(|_| true)
    }

    /// Takes the news that wait; returns whether any of them, by the begin of their bodies, matter, or
    /// may have been lost.
    pub fn take_news_of(&mut self, matter: impl Fn(&[u8]) -> bool) -> bool {
        let mut had_news = std::mem::take(&mut self.has_news);
        let mut buffer = [0; NEWS_BYTES];
        for _ in 0..MESSAGES_MAX {
            match sys::receive(self.socket.as_fd(), &mut buffer) {
                Ok(news) => had_news |= matter(news.get(HEADER_LEN..).unwrap_or_default()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => had_news = true,
                Err(_) => break,
            }
        }
        had_news
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A question: its kind, the fixed part, and attributes behind it.
#[derive(Debug)]
pub(crate) struct Question {
    bytes: Vec<u8>,
}

impl Question {
    /// A question of this kind (`RTM_GET…`); `body` is its fixed part, a multiple of 4 bytes.
    pub fn new(kind: u16, body: &[u8]) -> Question {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
        bytes.extend(body);
        Question { bytes }
    }

    /// Adds an attribute.
    pub fn with(mut self, kind: u16, value: &[u8]) -> Question {
        self.bytes.extend(attribute(kind, value));
        self
    }

    /// Sets flags (`NLM_F_…`) beside those that it has.
    fn flagged(mut self, flags: i32) -> Question {
        let now = half(&self.bytes, 6).unwrap_or_default() | flags as u16;
        self.bytes[6..8].copy_from_slice(&now.to_ne_bytes());
        self
    }

    fn message(mut self, sequence: u32) -> Vec<u8> {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// An attribute, padded: for those that hold others, whose kinds have `NLA_F_NESTED`.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((ATTRIBUTE_LEN + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes that stand behind the fixed part of a body, up to the first that is cut off.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(half(bytes, 0)?);
        let attribute = (half(bytes, 2)? & KIND_MASK, bytes.get(ATTRIBUTE_LEN..len)?);
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(attribute)
    })
}

/// A 32-bit word of a message, in the host's order.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A 16-bit word of a message, in the host's order.
pub(crate) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The messages of a part of a list, up to the first that is cut off.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = word(bytes, 0)? as usize;
        let message = bytes.get(..len).filter(|_| len >= HEADER_LEN)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// What a message says in answer to a question; `None` if it answers another or none.
fn answer(message: &[u8], sequence: u32) -> Option<io::Result<(u16, &[u8])>> {
    if word(message, 8)? != sequence {
        return None;
    }
    let (kind, body) = (half(message, 4)?, message.get(HEADER_LEN..)?);
    if i32::from(kind) == libc::NLMSG_ERROR {
        let errno = word(body, 0)?.cast_signed().wrapping_neg();
        return Some(Err(io::Error::from_raw_os_error(errno)));
    }
    Some(Ok((kind, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u8) -> Question {
        let mut body = [0; 16];
        body[4] = index;
        Question::new(libc::RTM_GETLINK, &body)
    }

    #[test]
    fn a_question_has_its_answer_or_its_refusal() {
        let mut netlink = Netlink::open(libc::NETLINK_ROUTE).unwrap();
        let (kind, body) = netlink.ask(link(1)).unwrap();
        assert_eq!((kind, word(&body, 4)), (libc::RTM_NEWLINK, Some(1)));
        let names: Vec<_> =
            attributes(&body[16..]).filter(|(k, _)| *k == libc::IFLA_IFNAME).collect();
        assert_eq!(names, [(libc::IFLA_IFNAME, &b"lo\0"[..])]);
        let error = netlink.ask(Question::new(libc::RTM_GETLINK, &[0xff; 16])).unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
        assert!(!netlink.take_news());
    }

    #[test]
    fn other_answers_and_short_ones_are_passed_over() {
        let mut netlink = Netlink::open(libc::NETLINK_ROUTE).unwrap();
        sys::send(netlink.as_fd(), &link(1).message(77)).unwrap();
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let message = sys::receive(netlink.as_fd(), &mut buffer).unwrap().to_vec();
        assert!(answer(&message, 76).is_none());
        assert_eq!(word(answer(&message, 77).unwrap().unwrap().1, 4), Some(1));
        for len in 0..HEADER_LEN {
            assert!(answer(&message[..len], 77).is_none(), "{len} bytes");
        }
        for len in 0..message.len() {
            attributes(&message[..len]).for_each(|(_, value)| assert!(value.len() < len));
        }
        // An answer that nobody took does not confuse the next question, and counts as news.
        sys::send(netlink.as_fd(), &link(1).message(78)).unwrap();
        assert!(netlink.ask(link(1)).is_ok());
        assert!(netlink.take_news() && !netlink.take_news());
    }

    #[test]
    fn a_list_has_all_entries() {
        let mut netlink = Netlink::open(libc::NETLINK_ROUTE).unwrap();
        let mut indices = Vec::new();
        for _ in 0..2 {
            netlink.list(link(0), |body| indices.push(word(body, 4))).unwrap();
        }
        assert_eq!(indices.iter().filter(|index| **index == Some(1)).count(), 2);
        let error = netlink.list(Question::new(libc::RTM_NEWLINK, &[0; 16]), |_| ()).err();
        assert!(error.is_some());
    }

    #[test]
    fn messages_of_lying_lengths_end_a_list() {
        let whole = link(1).message(7);
        assert_eq!(messages(&[whole.clone(), whole.clone()].concat()).count(), 2);
        for len in 0..whole.len() {
            assert_eq!(messages(&whole[..len]).count(), 0, "{len} bytes");
        }
        assert_eq!(messages(&[0; 64]).count(), 0);
    }

    #[test]
    fn attributes_of_lying_lengths_end_the_list() {
        let [a, b] = 6u16.to_ne_bytes();
        let [c, d] = (0x8000u16 | 4).to_ne_bytes();
        assert_eq!(attributes(&[a, b, c, d, 1, 2]).collect::<Vec<_>>(), [(4, &[1u8, 2][..])]);
        for bytes in [&[0, 0, 0, 0][..], &[3, 0, 1, 0, 9, 9], &[0xff, 0xff, 1, 0, 9, 9], &[8]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }
}
