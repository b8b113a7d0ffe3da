//! Asks the server how it would run every statement. The driver does not tell plans, so this speaks Bolt 4.4 itself.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use super::statements::ALL;
use super::{Neo4jOptions, Neo4jStore};

/// How a memory is found whose id is known.
const BY_ID: &str = "NodeUniqueIndexSeek";

const HELLO: u8 = 0x01;
const RUN: u8 = 0x10;
const PULL: u8 = 0x3f;
const SUCCESS: u8 = 0x70;

#[derive(Clone, Debug)]
enum Pack {
    Text(String),
    Integer(i64),
    List(Vec<Pack>),
    Map(BTreeMap<String, Pack>),
    Other,
}

fn text(value: &str) -> Pack {
    Pack::Text(value.to_owned())
}

fn map<const N: usize>(entries: [(&str, Pack); N]) -> Pack {
    Pack::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn encode(value: &Pack, bytes: &mut Vec<u8>) {
    match value {
        Pack::Text(text) => {
            bytes.push(0xd1);
            bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        Pack::Integer(number) => {
            bytes.push(0xcb);
            bytes.extend(number.to_be_bytes());
        }
        Pack::List(values) => {
            bytes.extend([0xd4, u8::try_from(values.len()).unwrap()]);
            values.iter().for_each(|value| encode(value, bytes));
        }
        Pack::Map(entries) => {
            bytes.extend([0xd8, u8::try_from(entries.len()).unwrap()]);
            for (key, value) in entries {
                encode(&text(key), bytes);
                encode(value, bytes);
            }
        }
        Pack::Other => bytes.push(0xc0),
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, n: usize) -> &[u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    fn number(&mut self, n_bytes: usize) -> usize {
        self.take(n_bytes).iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    fn text(&mut self, n: usize) -> Pack {
        Pack::Text(String::from_utf8(self.take(n).to_vec()).unwrap())
    }

    fn list(&mut self, n: usize) -> Pack {
        Pack::List((0..n).map(|_| self.value()).collect())
    }

    fn map(&mut self, n: usize) -> Pack {
        let mut entries = BTreeMap::new();
        for _ in 0..n {
            let Pack::Text(key) = self.value() else { panic!("a key that is no text") };
            entries.insert(key, self.value());
        }
        Pack::Map(entries)
    }

    fn value(&mut self) -> Pack {
        let marker = self.number(1) as u8;
        let short = usize::from(marker & 0x0f);
        // Lengths of one, two and four bytes follow each other in the markers.
        let mut long = |first: u8| self.number(1 << (marker - first));
        match marker {
            0x80..=0x8f => self.text(short),
            0xd0..=0xd2 => {
                let n = long(0xd0);
                self.text(n)
            }
            0x90..=0x9f => self.list(short),
            0xd4..=0xd6 => {
                let n = long(0xd4);
                self.list(n)
            }
            0xa0..=0xaf => self.map(short),
            0xd8..=0xda => {
                let n = long(0xd8);
                self.map(n)
            }
            0xc1 | 0xcb => {
                self.take(8);
                Pack::Other
            }
            0xc8..=0xca => {
                self.take(1 << (marker - 0xc8));
                Pack::Other
            }
            _ => Pack::Other,
        }
    }
}

/// Sends a message and returns the code and the content of the answer.
fn ask(stream: &mut TcpStream, code: u8, fields: &[Pack]) -> (u8, Pack) {
    let mut bytes = vec![0xb0 | u8::try_from(fields.len()).unwrap(), code];
    fields.iter().for_each(|field| encode(field, &mut bytes));
    let mut framed = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(bytes);
    framed.extend([0, 0]);
    stream.write_all(&framed).unwrap();
    let mut message = Vec::new();
    loop {
        let mut size = [0; 2];
        stream.read_exact(&mut size).unwrap();
        match (usize::from(u16::from_be_bytes(size)), message.is_empty()) {
            (0, true) => {}
            (0, false) => break,
            (size, _) => {
                let begin = message.len();
                message.resize(begin + size, 0);
                stream.read_exact(&mut message[begin..]).unwrap();
            }
        }
    }
    let mut reader = Reader(&message[2..]);
    (message[1], reader.value())
}

fn connect(address: &str, user: &str, password: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&[0x60, 0x60, 0xb0, 0x17, 0, 0, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let mut version = [0; 4];
    stream.read_exact(&mut version).unwrap();
    assert_eq!(version, [0, 0, 4, 4]);
    let hello = map([
        ("user_agent", text("mos-test/1")),
        ("scheme", text("basic")),
        ("principal", text(user)),
        ("credentials", text(password)),
    ]);
    let (code, answer) = ask(&mut stream, HELLO, &[hello]);
    assert_eq!(code, SUCCESS, "{answer:?}");
    stream
}

/// Values of the kinds that the statements take.
fn parameters() -> Pack {
    let row = map([
        ("id", text("a")),
        ("source", text("a")),
        ("target", text("b")),
        ("kind", text("X")),
        ("key", text("k")),
        ("properties", map([("a", text("b"))])),
        ("sequence", Pack::Integer(1)),
        ("number", Pack::Integer(1)),
    ]);
    map([
        ("tenant", text("nobody")),
        ("prefix", text("nobody")),
        ("id", text("a")),
        ("ids", Pack::List(vec![text("a")])),
        ("rows", Pack::List(vec![row])),
        ("kind", text("X")),
        ("key", text("k")),
        ("name", text("n")),
        ("space", text("s")),
        ("query", text("q")),
        ("vector", Pack::List(vec![Pack::Integer(1)])),
        ("tags", Pack::List(vec![text("t")])),
        ("tokens", Pack::List(vec![text("t")])),
        ("necessary", Pack::List(vec![map([("field", text("f")), ("value", text("v"))])])),
        ("offset", Pack::Integer(0)),
        ("limit", Pack::Integer(10)),
        ("least", Pack::Integer(1)),
        ("after", Pack::Integer(0)),
        ("before", Pack::Integer(9)),
        ("made_at", text("u")),
        ("listed", Pack::List(vec![text("l")])),
        ("at", text("now")),
        ("at_s", Pack::Integer(1)),
        ("number", Pack::Integer(1)),
        ("receipt", text("r")),
        ("properties", map([("a", text("b"))])),
        ("version", Pack::Integer(1)),
    ])
}

fn operators(plan: &Pack, found: &mut Vec<String>) {
    let Pack::Map(entries) = plan else { panic!("no plan: {plan:?}") };
    match entries.get("operatorType") {
        Some(Pack::Text(name)) => found.push(name.split('@').next().unwrap_or_default().to_owned()),
        other => panic!("a plan without an operator: {other:?}"),
    }
    if let Some(Pack::List(children)) = entries.get("children") {
        children.iter().for_each(|child| operators(child, found));
    }
}

fn plan(stream: &mut TcpStream, statement: &str) -> Vec<String> {
    let run = [text(&format!("EXPLAIN {statement}")), parameters(), map([])];
    let (code, answer) = ask(stream, RUN, &run);
    assert_eq!(code, SUCCESS, "{statement}: {answer:?}");
    let (code, answer) = ask(stream, PULL, &[map([("n", Pack::Integer(-1))])]);
    assert_eq!(code, SUCCESS, "{statement}: {answer:?}");
    let Pack::Map(metadata) = answer else { panic!("{answer:?}") };
    let mut found = Vec::new();
    operators(metadata.get("plan").unwrap_or_else(|| panic!("{statement}: {metadata:?}")), &mut found);
    found
}

#[tokio::test]
async fn no_statement_looks_at_all_nodes() {
    let [Some(uri), Some(user), Some(password)] =
        ["NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD"].map(mos_testkit::services::address)
    else {
        return;
    };
    let options = Neo4jOptions::at(uri, &user, &password);
    let address = options.check().unwrap();
    Neo4jStore::open(options, Arc::new(mos_core::SystemClock)).await.unwrap();
    let mut stream = connect(&address, &user, &password);
    let mut faults = Vec::new();
    for (name, statement) in ALL {
        let found = plan(&mut stream, statement);
        // An index of the tenants alone would find a memory too, by looking at all of the tenant's.
        let n_by_id = statement.matches(":Memory {user_name: $tenant, id: ").count();
        let is_by_id = found.iter().filter(|operator| operator.starts_with(BY_ID)).count() >= n_by_id;
        if !is_by_id || found.iter().any(|operator| operator.contains("Scan")) {
            faults.push(format!("{name}: {found:?}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    for (name, statement) in ALL.iter().filter(|(name, _)| ["OLDEST", "LATEST", "NEWEST", "NEWEST_IDS"].contains(name))
    {
        let found = plan(&mut stream, statement);
        // `PartialTop` sorts memories of the same moment only.
        let sorts_all = |operator: &String| operator.starts_with("Sort") || operator.starts_with("Top");
        assert!(!found.iter().any(sorts_all), "{name} is read in the order of an index: {found:?}");
    }
    let scan = plan(&mut stream, "MATCH (n:Memory) WHERE n.key = $key RETURN n");
    assert!(scan.contains(&"NodeByLabelScan".to_owned()), "the test knows a scan when it sees one: {scan:?}");
}
