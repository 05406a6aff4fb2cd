//! The mapped TPACKET_V3 ring: blocks of frames shared with the kernel.
//!
//! Source: Linux `Documentation/networking/packet_mmap.rst`, `net/packet/af_packet.c`
//! (`tpacket_rcv`), `include/uapi/linux/if_packet.h` and `virtio_net.h`.
//!
//! ```text
//! block:  tpacket_block_desc (48 B) | private area | frame | frame | …
//! frame:  tpacket3_hdr | sockaddr_ll | … slack … | virtio_net_hdr (10 B) | bytes from the MAC header on
//!         ^ offset                                                      ^ offset + tp_mac
//! ```
//! A block belongs to the kernel until it sets `TP_STATUS_USER`, and to us until we clear it.

#![allow(unsafe_code)]

use crate::pool::Data;
use crate::pool::sys::Chunk;
use crate::sys::set_option;
use filter::Instruction;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Length of the virtio-net header in front of each frame (`struct virtio_net_hdr`).
const VNET_HDR_LEN: usize = 10;
/// `struct sockaddr_ll` stands behind the frame header, aligned.
const SOCKADDR_OFFSET: usize = size_of::<libc::tpacket3_hdr>().next_multiple_of(16);

/// How large the ring is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// Bytes of a block; a multiple of the page size. The largest frame fits into one.
    pub block_bytes: u32,
    pub blocks: u32,
    /// A block that is not full is handed over after this time.
    pub retire_ms: u32,
}

impl Geometry {
    /// Bytes of the ring.
    pub(super) fn bytes(&self) -> usize {
        self.block_bytes as usize * self.blocks as usize
    }
}

/// A packet socket with a mapped receive ring.
pub(super) struct Ring {
    socket: OwnedFd,
    blocks: Vec<Arc<Chunk>>,
    base: NonNull<u8>,
    block_bytes: usize,
    /// Blocks handed to us whose frames were all delivered and may still be in use, from here …
    oldest: usize,
    /// … to here; the block at this place is the next to come.
    next: usize,
    /// Blocks between `oldest` and `next`.
    held: usize,
}

// SAFETY: the pointer is to the mapping that the chunks keep alive; the ring is used by one thread
// at a time through `&mut self`, and blocks in use are guarded by their status word.
unsafe impl Send for Ring {}

/// The kernel's mapping, unmapped when the ring and all its packets are gone.
struct Mapping {
    base: *mut libc::c_void,
    len: usize,
}

// SAFETY: only an address and a length; unmapping may happen on any thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing is done through a shared reference.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `Ring::open` with this length, and no chunk of it is left.
        unsafe { libc::munmap(self.base, self.len) };
    }
}

/// One frame of the ring, as the kernel describes it.
pub(super) struct Frame {
    /// The bytes from the MAC header on; headroom for a VLAN tag in front.
    pub data: Data,
    pub ts_ns: u64,
    /// Bytes of the frame before the ring cut it.
    pub len: u32,
    /// Of them those of the link's header.
    pub link_bytes: u16,
    /// `TP_STATUS_…` bits.
    pub status: u32,
    pub vlan_tci: u16,
    pub vlan_tpid: u16,
    /// `PACKET_HOST`, `PACKET_OUTGOING` and so on.
    pub packet_type: u8,
    /// The interface's index and its hardware type (`ARPHRD_…`).
    pub interface: i32,
    pub hardware: u16,
    /// The offload state.
    pub vnet: VnetHeader,
}

impl Frame {
    /// Takes the link's header off: what is left begins with the network's.
    pub fn leave_link(&mut self) {
        let bytes = std::mem::take(&mut self.link_bytes);
        self.data.trim_front(self.data.len().min(bytes.into()));
        self.len = self.len.saturating_sub(bytes.into());
        self.vnet.csum_start = self.vnet.csum_start.saturating_sub(bytes);
    }
}

/// `struct virtio_net_hdr`: what the NIC was to do, or has done, with the frame.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct VnetHeader {
    pub flags: u8,
    pub gso_type: u8,
    pub gso_size: u16,
    pub csum_start: u16,
    pub csum_offset: u16,
}

/// Walks the frames of the block at hand.
pub(super) struct Cursor {
    block: usize,
    offset: usize,
    left: u32,
}

impl Ring {
    /// Makes a ring into which nothing arrives yet: see [`Self::bind`].
    pub(super) fn new(geometry: Geometry) -> Result<Ring, (&'static str, io::Error)> {
        // Protocol 0: nothing arrives before the ring stands and the socket is bound.
        // SAFETY: plain call; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(("open a packet socket", io::Error::last_os_error()));
        }
        // SAFETY: a new descriptor that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let set =
            |name: i32, value: u32| set_option(socket.as_fd(), libc::SOL_PACKET, name, &value);
        set(libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V3 as u32)
            .map_err(|e| ("choose TPACKET_V3", e))?;
        set(libc::PACKET_VNET_HDR, 1).map_err(|e| ("ask for virtio-net headers", e))?;
        let request = libc::tpacket_req3 {
            tp_block_size: geometry.block_bytes,
            tp_block_nr: geometry.blocks,
            // Frames of V3 have any length; the kernel still checks that the product fits.
            tp_frame_size: geometry.block_bytes,
            tp_frame_nr: geometry.blocks,
            tp_retire_blk_tov: geometry.retire_ms,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
            .map_err(|e| ("allocate the ring", e))?;
        let block_bytes = geometry.block_bytes as usize;
        let len = geometry.bytes();
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(("map the ring", io::Error::last_os_error()));
        }
        let mapping = Arc::new(Mapping { base, len });
        let base = NonNull::new(base.cast::<u8>()).expect("mmap does not map address 0");
        let blocks = (0..geometry.blocks as usize)
            .map(|index| {
                // SAFETY: block `index` lies inside the mapping, which the chunk keeps alive, and
                // belongs to no other chunk.
                let chunk = unsafe {
                    let start = base.add(index * block_bytes);
                    Chunk::mapped(start, block_bytes, Arc::clone(&mapping) as Arc<dyn Send + Sync>)
                };
                Arc::new(chunk)
            })
            .collect();
        Ok(Ring { socket, blocks, base, block_bytes, oldest: 0, next: 0, held: 0 })
    }

    /// Has the frames of an interface arrive from now on, or those of all if its index is 0; of all
    /// protocols (`ETH_P_ALL`), or of one EtherType. A ring whose interface is gone may be bound
    /// again; an interface may be down, and come up later.
    pub(super) fn bind(&self, interface_index: i32, protocol: u16) -> io::Result<()> {
        // SAFETY: an all-zero sockaddr_ll is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = interface_index;
        // SAFETY: the pointer and the length describe `address`.
        let result = unsafe {
            libc::bind(
                self.socket.as_raw_fd(),
                std::ptr::from_ref(&address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Bytes of the ring.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.len() * self.block_bytes
    }

    /// The socket, for polling and for options.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Has the interface take every frame for as long as the socket is open.
    pub(super) fn set_promiscuous(&self, interface_index: i32) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: interface_index,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set_option(self.socket(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// Makes a fan-out group of this ring, which is bound to an interface; gives its id, which no
    /// other group of the network namespace has.
    pub(super) fn make_group(&self) -> io::Result<u16> {
        let kind = libc::PACKET_FANOUT_CBPF | libc::PACKET_FANOUT_FLAG_UNIQUEID;
        self.set_group(kind << 16)?;
        let mut words = [0u32; 1]; // id, kind, flags: 16, 8 and 8 bits
        crate::sys::get_words(self.socket(), libc::SOL_PACKET, libc::PACKET_FANOUT, &mut words)?;
        Ok(words[0] as u16)
    }

    /// Joins a fan-out group of the same interface.
    pub(super) fn join_group(&self, id: u16) -> io::Result<()> {
        self.set_group(libc::PACKET_FANOUT_CBPF << 16 | u32::from(id))
    }

    fn set_group(&self, value: u32) -> io::Result<()> {
        set_option(self.socket(), libc::SOL_PACKET, libc::PACKET_FANOUT, &value)
    }

    /// Sets the program by which the group of this ring shares frames out.
    pub(super) fn share_by(&self, program: &[Instruction]) -> io::Result<()> {
        let mut program: Vec<libc::sock_filter> = program
            .iter()
            .map(|&Instruction { code, jt, jf, k }| libc::sock_filter { code, jt, jf, k })
            .collect();
        let len = u16::try_from(program.len()).map_err(io::Error::other)?;
        // The kernel copies the program inside the call.
        let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
        set_option(self.socket(), libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, &program)
    }

    /// Frames and lost frames since the last call: the kernel clears them when read.
    pub(super) fn statistics(&self) -> io::Result<(u32, u32)> {
        let mut words = [0u32; 3]; // tp_packets, tp_drops, tp_freeze_q_cnt
        crate::sys::get_words(
            self.socket(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            &mut words,
        )?;
        Ok((words[0], words[1]))
    }

    /// Reads and clears the socket's pending error, such as `ENETDOWN`.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let mut words = [0u32; 1];
        crate::sys::get_words(self.socket(), libc::SOL_SOCKET, libc::SO_ERROR, &mut words)?;
        Ok((words[0] != 0).then(|| io::Error::from_raw_os_error(words[0] as i32)))
    }

    /// Opens the next block if the kernel has handed it over.
    pub(super) fn next_block(&mut self) -> Option<Cursor> {
        if self.held == self.blocks.len() {
            return None;
        }
        let block = self.next;
        if self.status(block).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the block is ours since its status says so, and starts with this descriptor.
        let header = unsafe {
            let descriptor = self.block_start(block).cast::<libc::tpacket_block_desc>();
            (*descriptor.as_ptr()).hdr.bh1
        };
        self.next = (block + 1) % self.blocks.len();
        self.held += 1;
        Some(Cursor { block, offset: header.offset_to_first_pkt as usize, left: header.num_pkts })
    }

    /// Takes the next frame of a block; `None` at the block's end.
    pub(super) fn next_frame(&mut self, cursor: &mut Cursor) -> Option<Frame> {
        while cursor.left > 0 {
            let start = cursor.offset;
            assert!(
                start.is_multiple_of(8)
                    && start + SOCKADDR_OFFSET + size_of::<libc::sockaddr_ll>() <= self.block_bytes,
                "the kernel's frame offset lies inside its block"
            );
            // SAFETY: the header lies inside the block (asserted), is aligned, and the block is ours.
            let header = unsafe {
                self.block_start(cursor.block).add(start).cast::<libc::tpacket3_hdr>().read()
            };
            cursor.left -= 1;
            cursor.offset = start + header.tp_next_offset as usize;
            // The kernel gives up a frame whose offload state it cannot express after it has given
            // it a place: the rest of that header is of an older frame. It counts it as lost.
            if header.tp_status & libc::TP_STATUS_USER != 0 {
                return Some(self.frame(cursor.block, start, &header));
            }
        }
        None
    }

    fn frame(&self, block: usize, start: usize, header: &libc::tpacket3_hdr) -> Frame {
        // SAFETY: the address stands behind the header, aligned, inside the block (asserted by the
        // caller), and is plain data.
        let address = unsafe {
            let at = self.block_start(block).add(start + SOCKADDR_OFFSET);
            at.cast::<libc::sockaddr_ll>().read()
        };
        let mac = start + usize::from(header.tp_mac);
        let free_from = start + SOCKADDR_OFFSET + size_of::<libc::sockaddr_ll>();
        // A frame that did not fit at all has no bytes and no virtio-net header (`tpacket_rcv`).
        let caplen = header.tp_snaplen as usize;
        let headroom = mac.saturating_sub(free_from);
        let vnet = if caplen > 0 && headroom >= VNET_HDR_LEN && mac <= self.block_bytes {
            // SAFETY: the header lies in front of the frame, inside the block (checked above).
            unsafe { read_vnet(self.block_start(block).add(mac - VNET_HDR_LEN)) }
        } else {
            VnetHeader::default()
        };
        // SAFETY: the block is ours until all its ranges are gone (`release`), each frame is taken
        // once, and frames of a block do not overlap. The headroom is the frame's own slack,
        // whose virtio-net header has been read.
        let data = unsafe { self.blocks[block].range(mac, caplen, headroom) };
        Frame {
            data,
            ts_ns: u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec),
            len: header.tp_len,
            link_bytes: header.tp_net.saturating_sub(header.tp_mac),
            status: header.tp_status,
            vlan_tci: header.hv1.tp_vlan_tci as u16,
            vlan_tpid: header.hv1.tp_vlan_tpid,
            packet_type: address.sll_pkttype,
            interface: address.sll_ifindex,
            hardware: address.sll_hatype,
            vnet,
        }
    }

    /// Gives back to the kernel, in order, the blocks that no packet uses any more.
    ///
    /// `at_hand`: the block that is still being walked, if any.
    pub(super) fn release(&mut self, at_hand: Option<&Cursor>) {
        while self.held > 0 {
            let block = self.oldest;
            if at_hand.is_some_and(|cursor| cursor.block == block)
                || Arc::get_mut(&mut self.blocks[block]).is_none()
            {
                return;
            }
            self.status(block).store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.oldest = (block + 1) % self.blocks.len();
            self.held -= 1;
        }
    }

    fn block_start(&self, block: usize) -> NonNull<u8> {
        // SAFETY: `block` is below the number of blocks, so the address is inside the mapping.
        unsafe { self.base.add(block * self.block_bytes) }
    }

    fn status(&self, block: usize) -> &AtomicU32 {
        let offset = std::mem::offset_of!(libc::tpacket_block_desc, hdr)
            + std::mem::offset_of!(libc::tpacket_hdr_v1, block_status);
        // SAFETY: the status word is an aligned u32 inside the block's descriptor, in the mapping;
        // both sides access it atomically.
        unsafe { AtomicU32::from_ptr(self.block_start(block).add(offset).cast().as_ptr()) }
    }
}

/// # Safety
/// [`VNET_HDR_LEN`] bytes must be readable there.
unsafe fn read_vnet(at: NonNull<u8>) -> VnetHeader {
    // SAFETY: promised by the caller; bytes have no alignment.
    let b = unsafe { at.cast::<[u8; VNET_HDR_LEN]>().read() };
    let word = |i: usize| u16::from_ne_bytes([b[i], b[i + 1]]);
    VnetHeader {
        flags: b[0],
        gso_type: b[1],
        gso_size: word(4),
        csum_start: word(6),
        csum_offset: word(8),
    }
}
