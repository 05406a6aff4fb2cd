//! The program serves what the library does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn the_program_serves_and_refuses_who_does_not_sign() {
    let root = std::env::temp_dir().join(format!("s3-server-{}", std::process::id()));
    std::fs::create_dir_all(root.join("bucket")).expect("the temporary folder can be written to");
    let mut child = Command::new(env!("CARGO_BIN_EXE_s3-server"))
        .arg(&root)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
    let address = line.trim().strip_prefix("listening on ").expect("it listens").to_string();
    let mut answer = String::new();
    let mut stream = TcpStream::connect(&address).expect("it accepts");
    let request = format!("GET /bucket/x HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    stream.read_to_string(&mut answer).expect("it answers");
    let _ = child.kill();
    let _ = child.wait();
    let _ = std::fs::remove_dir_all(&root);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}
