//! pcap and pcapng files, read and written as streams.
