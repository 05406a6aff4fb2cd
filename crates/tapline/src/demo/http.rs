//! Just enough HTTP/1.1 to make traffic: a server of files of several sizes, and a client.

use super::stream::Digest;
use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// How long a connection may stand still.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The sizes of the files, by the last digits of their number.
const FILE_BYTES: [usize; 4] = [16 << 10, 48 << 10, 96 << 10, 192 << 10];

/// Answers each connection on a thread of its own, as long as the process lives.
pub fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        // A client that breaks off costs only its own connection.
        std::thread::spawn(move || answer_all(stream));
    }
}

fn answer_all(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(Request { path, last }) = Request::read(&mut reader)? {
        let body = body(&path);
        let connection = if last { "close" } else { "keep-alive" };
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\
             Connection: {connection}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        answer.extend(body);
        stream.write_all(&answer)?;
        if last {
            break;
        }
    }
    Ok(())
}

struct Request {
    path: String,
    /// The client asks for nothing more on this connection.
    last: bool,
}

impl Request {
    fn read(reader: &mut impl BufRead) -> Result<Option<Request>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_string();
        let mut last = false;
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            last |= line == "Connection: close\r\n";
        }
        Ok(Some(Request { path, last }))
    }
}

/// The path of a numbered file.
pub fn file(number: u64) -> String {
    format!("/file-{number}.bin")
}

/// Bytes that repeat neither within a file nor in the next one.
fn body(path: &str) -> Vec<u8> {
    let digits: String = path.chars().filter(char::is_ascii_digit).collect();
    let Ok(number) = digits.parse::<u32>() else {
        return b"fine\n".to_vec();
    };
    let words = FILE_BYTES[number as usize % FILE_BYTES.len()] as u32 / 4;
    (0..words).flat_map(|word| (number << 16 | word).to_be_bytes()).collect()
}

/// A connection to a server, and what went through it.
pub struct Client {
    reader: BufReader<TcpStream>,
    host: String,
    pub sent: Digest,
    pub received: Digest,
}

impl Client {
    pub fn new(stream: TcpStream) -> Result<Client> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let host = stream.peer_addr()?.ip().to_string();
        let reader = BufReader::new(stream);
        Ok(Client { reader, host, sent: Digest::default(), received: Digest::default() })
    }

    /// Asks for a path and reads the whole answer; gives the bytes of its body.
    pub fn get(&mut self, path: &str, last: bool) -> Result<u64> {
        let connection = if last { "close" } else { "keep-alive" };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: tapline-demo\r\n\
             Connection: {connection}\r\n\r\n",
            self.host
        );
        self.reader.get_mut().write_all(request.as_bytes())?;
        self.sent.add(request.as_bytes());
        let length = self.read_header()?;
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        self.received.add(&body);
        Ok(length as u64)
    }

    /// Reads until the server closes: the end of the last answer.
    pub fn finish(mut self) -> Result<()> {
        match self.reader.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(Error::other("the server goes on after the last answer")),
        }
    }

    fn read_header(&mut self) -> Result<usize> {
        let mut length = None;
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            self.received.add(line.as_bytes());
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse().ok(),
                _ if line == "\r\n" => break,
                _ if line.is_empty() => return Err(Error::other("the server closed too early")),
                _ => {}
            }
        }
        length.ok_or_else(|| Error::other("the server's answer has no Content-Length"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_whole_on_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(&listener));
        let mut client = Client::new(TcpStream::connect(address).unwrap()).unwrap();
        let sizes = [0, 1, 2, 3].map(|number| client.get(&file(number), false).unwrap());
        assert_eq!(sizes, FILE_BYTES.map(|bytes| bytes as u64));
        assert_eq!(client.get("/health", true).unwrap(), 5);
        assert!(client.received.bytes > sizes.iter().sum());
        client.finish().unwrap();
        assert_ne!(body(&file(0)), body(&file(4)));
    }
}
