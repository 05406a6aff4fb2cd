//! What a pcapng section says about its writer, and an interface about its losses.

/// Contents of a Section Header Block. All absent in pcap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SectionInfo {
    /// `shb_hardware`: the machine.
    pub hardware: Option<String>,
    /// `shb_os`: its operating system.
    pub os: Option<String>,
    /// `shb_userappl`: the program that wrote the section.
    pub application: Option<String>,
    /// `opt_comment`, the first.
    pub comment: Option<String>,
}

/// Contents of an Interface Statistics Block. Counts are packets; `None` is "not counted".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statistics {
    /// `isb_starttime`: when capturing began, nanoseconds since 1970 UTC.
    pub start_ns: Option<u64>,
    /// `isb_endtime`: when capturing ended, nanoseconds since 1970 UTC.
    pub end_ns: Option<u64>,
    /// `isb_ifrecv`: packets the interface received.
    pub received: Option<u64>,
    /// `isb_ifdrop`: packets the interface dropped for want of room.
    pub dropped: Option<u64>,
    /// `isb_filteraccept`: packets the filter took.
    pub filter_accepted: Option<u64>,
    /// `isb_osdrop`: packets the operating system dropped.
    pub os_drop: Option<u64>,
    /// `isb_usrdeliv`: packets given to the user, lost ones not included.
    pub delivered: Option<u64>,
    /// `opt_comment`, the first.
    pub comment: Option<String>,
}
