//! A small web site on a loopback address.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use openledger_wire::worker::FetchSetup;
use openledger_wire::{List, Text};

/// A page long enough to be a document.
pub(crate) fn article() -> String {
    let words = "The planner of a database chooses between several ways to answer a question and \
                 estimates what each of them will cost. It reads the statistics that were gathered \
                 when the table was last analysed, and it prefers an index where few rows match. ";
    let more = "When the statistics are old the estimate is wrong, and a slow way is taken although \
                a fast one was there. An administrator can see the chosen way with a command that \
                explains it, and should then compare the estimated rows with the real ones. ";
    let tail = "Sorting needs memory as well; if there is too little of it, the rows go to disk and \
                come back in order later, which takes longer but always works in the end. ";
    format!(
        "<!doctype html><html lang=en><head><title>Planning</title></head><body><main><h1>Planning</h1>\
         <p>{words}</p><p>{more}</p><p>{tail}</p></main></body></html>"
    )
}

/// A running site; it serves until the test process ends.
pub(crate) struct Site {
    address: SocketAddr,
}

impl Site {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { address }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://docs.test:{}{path}", self.address.port())
    }

    /// A setup that opens this site only.
    pub(crate) fn setup(&self) -> FetchSetup {
        let host = format!("docs.test:{}", self.address.port());
        FetchSetup {
            coordinator: Text::clipped("devnet"),
            contact: Text::clipped("https://openledger.example/abuse"),
            private_hosts: BTreeMap::from([(host, List::new(vec![self.address]).unwrap())]),
            allow: List::default(),
            deny: List::default(),
            bind: None,
        }
    }
}

fn serve(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    if reader.read_line(&mut first).is_err() {
        return;
    }
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(read) if read > 2 => {}
            _ => break,
        }
    }
    let (status, kind, body) = match first.split_whitespace().nth(1) {
        Some("/robots.txt") => {
            ("200 OK", "text/plain", "User-agent: *\nDisallow: /private\n".to_owned())
        }
        Some("/article") => ("200 OK", "text/html; charset=utf-8", article()),
        _ => ("404 Not Found", "text/html", "<p>nothing here</p>".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nx-robots-tag: noai\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}
