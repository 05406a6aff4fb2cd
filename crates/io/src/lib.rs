//! Packets, sources and sinks: rings, sockets, files, memory.
