//! A bucket on a server of our own, behind a proxy that fails as it is told.

use archive::store::{Store, StoreOptions};
use rig::Scratch;
use s3_server::{ACCESS_KEY, Proxy, SECRET_KEY, Server};
use sha2::{Digest, Sha256};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

pub struct Bucket {
    pub scratch: Scratch,
    pub proxy: Proxy,
    _server: Server,
}

/// A file, what is in it, and its SHA-256.
pub struct Content {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub sha256: [u8; 32],
}

pub fn options(address: SocketAddr) -> StoreOptions {
    StoreOptions::default()
        .with("aws_endpoint", format!("http://{address}"))
        .with("aws_allow_http", "true")
        .with("aws_access_key_id", ACCESS_KEY)
        .with("aws_secret_access_key", SECRET_KEY)
}

impl Bucket {
    pub fn new(test: &str) -> Bucket {
        let scratch = Scratch::new(test);
        fs::create_dir_all(scratch.path("s3/bucket")).unwrap();
        let server = Server::start(&scratch.path("s3"), "127.0.0.1:0").unwrap();
        let proxy = Proxy::start(server.address()).unwrap();
        Bucket { scratch, proxy, _server: server }
    }

    /// The archive below a prefix of the bucket.
    pub fn store(&self) -> Store {
        self.store_with(self.options())
    }

    pub fn options(&self) -> StoreOptions {
        options(self.proxy.address())
    }

    pub fn store_with(&self, options: StoreOptions) -> Store {
        Store::open(&"s3://bucket/some/prefix".parse().unwrap(), &options).unwrap()
    }

    /// What the server's disk has of an object.
    pub fn on_disk(&self, key: &str) -> Option<Vec<u8>> {
        fs::read(self.scratch.path("s3/bucket/some/prefix").join(key)).ok()
    }
}

/// Bytes that do not repeat.
pub fn content(scratch: &Scratch, name: &str, bytes: usize) -> Content {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ bytes as u64;
    let mut all = Vec::with_capacity(bytes + 8);
    while all.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(bytes);
    let path = scratch.path(name);
    fs::write(&path, &all).unwrap();
    Content { path, sha256: Sha256::digest(&all).into(), bytes: all }
}
