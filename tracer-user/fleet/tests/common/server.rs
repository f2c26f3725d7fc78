//! A server of HTTP that does what a test wants: answer, refuse, or say nothing for as long as anybody waits.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What somebody has asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<String>,
    pub body: String,
}

/// What a server does.
pub enum Reply {
    /// Answers with this status, header lines and body.
    Answer(u16, &'static str, String),
    /// Holds the connection and says nothing.
    Nothing,
}

/// A server that goes with the test program.
pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts it. What it replies depends on the request and on how many there were before.
    pub fn start(reply: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (seen, reply) = (asked.clone(), Arc::new(reply));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (seen, reply) = (seen.clone(), reply.clone());
                thread::spawn(move || serve(connection.unwrap(), &seen, &*reply));
            }
        });
        Server { url, asked }
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(connection: TcpStream, seen: &Mutex<Vec<Request>>, reply: &dyn Fn(&Request, usize) -> Reply) {
    let mut reader = BufReader::new(connection);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(count) if count > 2 => lines.push(line.trim_end().to_owned()),
            _ => break,
        }
    }
    let Some(first) = lines.first().cloned() else { return };
    let mut words = first.split(' ').map(str::to_owned);
    let length =
        lines.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        headers: lines.split_off(1),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let mut connection = reader.into_inner();
    match reply(&request, before) {
        Reply::Answer(status, headers, body) => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
            );
            // Whoever has asked may be gone.
            let _ = connection.write_all((head + &body).as_bytes());
        }
        Reply::Nothing => {
            let _ = connection.read(&mut [0]);
        }
    }
}
