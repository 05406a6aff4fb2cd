//! `s3-server ROOT [ADDRESS]`: serves the folders below ROOT as buckets until it is killed.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(root) = arguments.next() else {
        eprintln!("s3-server ROOT [ADDRESS:PORT]");
        std::process::exit(2);
    };
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let server = s3_server::Server::start(Path::new(&root), &address)?;
    println!("listening on {}", server.address());
    loop {
        std::thread::park();
    }
}
