//! HTTP/2 frames written by hand.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls of one connection at once.
pub(crate) const STREAMS: u32 = 100;

/// Types and flags of frames, RFC 9113 section 6.
const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A peer whose frames leave as they are written, whatever was answered until
/// then: as they do when both cross on their way.
pub(crate) struct Wire {
    stream: TcpStream,
    pub(crate) next: u32,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let mut wire = Self { stream, next: 1 };
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        push(&mut hello, SETTINGS, 0, 0, &[]);
        // Room for all answers.
        push(&mut hello, WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
        wire.write(&hello).await;
        wire
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the connection is open");
    }

    /// Begins so many calls, their bodies still open.
    async fn begin(&mut self, path: &str, count: u32) -> Vec<u32> {
        let block = header_block(path);
        let streams: Vec<u32> = (0..count).map(|n| self.next + 2 * n).collect();
        self.next += 2 * count;
        let mut bytes = Vec::new();
        for stream in &streams {
            push(&mut bytes, HEADERS, END_HEADERS, *stream, &block);
        }
        self.write(&bytes).await;
        streams
    }

    /// The same frame on each of these streams.
    async fn send(&mut self, kind: u8, flags: u8, streams: &[u32], payload: &[u8]) {
        let mut bytes = Vec::new();
        for stream in streams {
            push(&mut bytes, kind, flags, *stream, payload);
        }
        self.write(&bytes).await;
    }

    /// Reads until so many streams have ended.
    async fn ended(&mut self, mut count: u32) {
        while count > 0 {
            let mut header = [0; 9];
            let read = timeout(PATIENCE, self.stream.read_exact(&mut header)).await;
            read.expect("an answer in time").expect("the connection is open");
            let [a, b, c, kind, flags, ..] = header;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).await.expect("a whole frame");
            assert_ne!(kind, GOAWAY, "{}", String::from_utf8_lossy(&payload));
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                count -= 1;
            }
        }
    }
}

/// One frame, RFC 9113 section 4.1.
pub(crate) fn push(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    bytes.extend_from_slice(length.get(1..).expect("three bytes"));
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// The headers of a call as HPACK's literals, RFC 7541 section 6.2.2.
pub(crate) fn header_block(path: &str) -> Vec<u8> {
    // Of the static table: `:method: POST` and `:scheme: http`.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (":path", path),
        (":authority", "directory.example"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len()).expect("a short text");
            assert!(length < 127, "one byte of length");
            block.push(length);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// So many calls on each of all streams, one after the other, whose bodies come after
/// the server has decided. Each is an empty message.
pub(crate) async fn calls_late(wire: &mut Wire, path: &str, times: usize) {
    for _ in 0..times {
        let streams = wire.begin(path, STREAMS).await;
        sleep(Duration::from_millis(30)).await;
        wire.send(DATA, END_STREAM, &streams, &[0; 5]).await;
        wire.ended(STREAMS).await;
    }
}
