//! The server: buckets are folders.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use tokio::runtime::Runtime;

/// The only key that is known.
pub const ACCESS_KEY: &str = "tapline-access";
/// Its secret.
pub const SECRET_KEY: &str = "tapline-secret";

/// An S3 server on a thread of its own, as long as this value lives.
pub struct Server {
    address: SocketAddr,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves the folders below `root` as buckets, at an address such as `127.0.0.1:0`.
    ///
    /// # Errors
    /// If the folder cannot be read or the address is taken.
    pub fn start(root: &Path, address: &str) -> std::io::Result<Server> {
        let files = FileSystem::new(root).map_err(|e| std::io::Error::other(format!("{e:?}")))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    // A client that goes away is its own affair.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Server { address, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // So that an asynchronous test may have one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
