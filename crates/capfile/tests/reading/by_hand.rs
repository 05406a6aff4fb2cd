//! Capture files put together by hand, in either byte order, independent of the writers.

use capfile::Endian;

/// Bytes of a file, with the ends of its blocks.
#[derive(Debug, Clone)]
pub struct File {
    pub endian: Endian,
    pub bytes: Vec<u8>,
    /// Offset behind each block or record, and whether it is a packet.
    pub ends: Vec<(u64, bool)>,
}

impl File {
    pub fn new(endian: Endian) -> Self {
        File { endian, bytes: Vec::new(), ends: Vec::new() }
    }

    pub fn u16(&self, n: u16) -> Vec<u8> {
        match self.endian {
            Endian::Little => n.to_le_bytes().to_vec(),
            Endian::Big => n.to_be_bytes().to_vec(),
        }
    }

    pub fn u32(&self, n: u32) -> Vec<u8> {
        match self.endian {
            Endian::Little => n.to_le_bytes().to_vec(),
            Endian::Big => n.to_be_bytes().to_vec(),
        }
    }

    pub fn u64(&self, n: u64) -> Vec<u8> {
        match self.endian {
            Endian::Little => n.to_le_bytes().to_vec(),
            Endian::Big => n.to_be_bytes().to_vec(),
        }
    }

    pub fn u32s(&self, numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|&n| self.u32(n)).collect()
    }

    /// An option, padded.
    pub fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut out = [self.u16(code), self.u16(value.len() as u16), value.to_vec()].concat();
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn push(&mut self, bytes: &[u8], is_packet: bool) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push((self.bytes.len() as u64, is_packet));
    }

    /// A pcapng block with right lengths around `parts`.
    pub fn block(&mut self, kind: u32, parts: &[&[u8]]) -> &mut Self {
        let body = parts.concat();
        let len = self.u32(body.len() as u32 + 12);
        let block = [self.u32(kind), len.clone(), body, len].concat();
        self.push(&block, [2, 3, 6].contains(&kind));
        self
    }

    /// A section header; the blocks behind it are in `endian`.
    pub fn section(&mut self, endian: Endian, length: u64, options: &[u8]) -> &mut Self {
        self.endian = endian;
        let version = [self.u16(1), self.u16(0)].concat();
        let (magic, length) = (self.u32(0x1a2b_3c4d), self.u64(length));
        self.block(0x0a0d_0d0a, &[&magic, &version, &length, options])
    }

    pub fn interface(&mut self, link_type: u16, snaplen: u32, options: &[u8]) -> &mut Self {
        let head = [self.u16(link_type), vec![0xee; 2], self.u32(snaplen)].concat();
        self.block(1, &[&head, options])
    }

    /// An enhanced packet of `origlen` bytes.
    pub fn packet(
        &mut self,
        interface: u32,
        ticks: u64,
        origlen: u32,
        data: &[u8],
        options: &[u8],
    ) -> &mut Self {
        let ticks = [(ticks >> 32) as u32, ticks as u32];
        let head = self.u32s(&[interface, ticks[0], ticks[1], data.len() as u32, origlen]);
        let mut data = data.to_vec();
        data.resize(data.len().next_multiple_of(4), 0xee);
        self.block(6, &[&head, &data, options])
    }

    /// A pcap file header.
    pub fn pcap(endian: Endian, magic: u32, link_type: u32) -> Self {
        let mut file = File::new(endian);
        let version = [file.u16(2), file.u16(4)].concat();
        let header = [file.u32(magic), version, file.u32s(&[0, 0, 65535, link_type])].concat();
        file.push(&header, false);
        file
    }

    /// A pcap record.
    pub fn record(&mut self, seconds: u32, fraction: u32, origlen: u32, data: &[u8]) -> &mut Self {
        let head = self.u32s(&[seconds, fraction, data.len() as u32, origlen]);
        self.push(&[&head, data].concat(), true);
        self
    }
}

/// A file of every kind of block in three sections of changing byte order.
pub fn every_block() -> File {
    let mut f = File::new(Endian::Big);
    let end = [0; 4];
    let app = f.option(4, b"hand");
    f.section(Endian::Big, u64::MAX, &[&app[..], &end].concat());
    f.interface(1, 100, &[]);
    let (tsresol, tsoffset) = (f.option(9, &[0x8a]), f.option(14, &f.u64(2)));
    f.interface(113, 0, &[tsresol, tsoffset].concat());
    f.packet(0, 1_000_001, 5, b"hello", &[]);
    f.block(4, &[&f.u32s(&[0])]);
    let flags = f.option(2, &f.u32(0xffff_fff1));
    f.packet(1, 1536, 1500, b"four", &[&flags[..], &end].concat());
    f.block(10, &[&f.u32s(&[0x544c_534b, 4]), b"keys"]);
    let simple = [f.u32(3), b"abc\0".to_vec()].concat();
    f.block(3, &[&simple]);
    let received = f.option(4, &f.u64(7));
    f.block(5, &[&f.u32s(&[0, 0, 9]), &received]);

    f.section(Endian::Little, 0x1000, &[]);
    f.interface(101, 0, &f.option(9, &[9]));
    let comment = f.option(1, "né".as_bytes());
    let flags = f.option(2, &f.u32(2));
    f.packet(0, 1 << 40, 2, b"longer than origlen", &[comment, flags, end.to_vec()].concat());
    f.block(0xbad, &[&f.u32(32473), b"custom__"]);
    f.block(0x4000_0bad, &[&f.u32(32473)]);
    f.block(0x8000_1234, &[]);

    f.section(Endian::Big, u64::MAX, &[]);
    f.interface(1, 2, &[]);
    let obsolete = [f.u16(0), f.u16(3), f.u32s(&[0, 5, 3, 3]), b"old\0".to_vec()].concat();
    let flags = f.option(2, &f.u32(1));
    f.block(2, &[&obsolete, &flags]);
    let simple = [f.u32(3), b"abc\0".to_vec()].concat();
    f.block(3, &[&simple]);
    f
}
