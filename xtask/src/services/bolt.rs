//! The few words of Bolt, Neo4j's protocol, that tell whether the server lets us in and runs a statement.
//!
//! Version 4.4 of the protocol, which Neo4j 4.4 and all of 5 speak. Values are PackStream's shortest forms.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, bail};

use super::probe;

const MAGIC: [u8; 4] = [0x60, 0x60, 0xB0, 0x17];
const VERSION: [u8; 4] = [0, 0, 4, 4];
const SUCCESS: u8 = 0x70;
const RECORD: u8 = 0x71;
const EMPTY_MAP: u8 = 0xA0;

/// Logs in and runs `RETURN 1`.
pub(super) fn check(address: SocketAddr, user: &str, password: &str) -> anyhow::Result<()> {
    let mut stream = probe::connect(address)?;
    stream.write_all(&[MAGIC, VERSION, [0; 4], [0; 4], [0; 4]].concat())?;
    let mut agreed = [0; 4];
    stream.read_exact(&mut agreed).context("Neo4j hung up")?;
    anyhow::ensure!(agreed == VERSION, "the server does not speak Bolt 4.4");

    let entries = [("user_agent", "mos-xtask/1"), ("scheme", "basic"), ("principal", user), ("credentials", password)];
    send(&mut stream, &[vec![0xB1, 0x01], map(&entries)?].concat())?;
    expect(&mut stream, SUCCESS).context("Neo4j refuses the login")?;

    send(&mut stream, &[vec![0xB3, 0x10], text("RETURN 1")?, vec![EMPTY_MAP, EMPTY_MAP]].concat())?;
    send(&mut stream, &[vec![0xB1, 0x3F, 0xA1], text("n")?, vec![0xFF]].concat())?; // all rows: n = -1
    for kind in [SUCCESS, RECORD, SUCCESS] {
        expect(&mut stream, kind).context("Neo4j runs no statements")?;
    }
    send(&mut stream, &[0xB0, 0x02])
}

fn map(entries: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
    let mut packed = vec![EMPTY_MAP | u8::try_from(entries.len())?];
    for (key, value) in entries {
        packed.extend(text(key)?);
        packed.extend(text(value)?);
    }
    Ok(packed)
}

/// Text of up to 255 bytes.
fn text(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut packed = match u8::try_from(text.len()).context("the text is too long")? {
        length @ 0..16 => vec![0x80 | length],
        length => vec![0xD0, length],
    };
    packed.extend(text.as_bytes());
    Ok(packed)
}

/// One message: here always one chunk, then an empty one.
fn send(stream: &mut TcpStream, message: &[u8]) -> anyhow::Result<()> {
    let length = u16::try_from(message.len())?.to_be_bytes();
    Ok(stream.write_all(&[&length, message, &[0, 0]].concat())?)
}

fn expect(stream: &mut TcpStream, kind: u8) -> anyhow::Result<()> {
    let message = receive(stream)?;
    if message.get(1) != Some(&kind) {
        bail!("{}", String::from_utf8_lossy(&message).replace(char::is_control, " "));
    }
    Ok(())
}

fn receive(stream: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).context("Neo4j hung up")?;
        let length = u16::from_be_bytes(length);
        // Empty chunks before a message only keep the connection alive.
        if length == 0 && !message.is_empty() {
            return Ok(message);
        }
        stream.take(u64::from(length)).read_to_end(&mut message)?;
    }
}
