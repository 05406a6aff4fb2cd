//! An S3 server that checks signatures, on a free loopback port, and a proxy that fails as it is told:
//! what archives are tested against.

mod proxy;
mod server;

pub use proxy::{Fault, Proxy};
pub use server::{ACCESS_KEY, SECRET_KEY, Server};
