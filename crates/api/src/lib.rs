//! Types shared by configuration, command line and machine-readable output.
