//! An S3 server that checks signatures, on a free loopback port: what archives are tested against.

mod server;

pub use server::{ACCESS_KEY, SECRET_KEY, Server};
