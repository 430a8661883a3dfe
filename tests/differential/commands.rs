//! Random pipelines: commands that both servers know, in all spellings, with mistakes.

use crate::exchange::put_sentinel;
use crate::support::{Rng, put_command};

/// Words of a command.
type Words = Vec<Vec<u8>>;

const KEYS: [&[u8]; 6] = [b"a", b"key:2", b"m\0\r\n", b"q q", b"\xff\xfe", b"z"];
const NAMES: [&str; 16] = [
    "ping", "echo", "set", "get", "del", "exists", "unlink", "strlen", "type", "mget", "mset", "multi",
    "exec", "discard", "dbsize", "select",
];

/// What a pipeline may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// What Redis knows too.
    Redis,
    /// Everything that answers the same twice.
    Tskv,
}

/// A pipeline, the sentinel included.
pub(crate) fn pipeline(rng: &mut Rng, dialect: Dialect) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..1 + rng.index(12) {
        let words = match dialect {
            Dialect::Tskv if rng.one_in(2) => series_command(rng),
            _ => command(rng),
        };
        if rng.one_in(4) { put_inline(rng, &mut out, &words) } else { put_multibulk(rng, &mut out, &words) }
    }
    if rng.one_in(4) {
        malform(rng, &mut out);
    } else if dialect == Dialect::Tskv && rng.one_in(3) {
        // Last: they go from shard to shard, and may see what was sent behind them (DESIGN §6).
        out.extend_from_slice(b"KEYS *\r\n");
    }
    put_sentinel(&mut out);
    if rng.one_in(60) {
        // A request that never ends is waited for, by both.
        out.truncate(out.len() - 1 - rng.index(30));
    }
    out
}

/// Cuts a pipeline in up to four pieces.
pub(crate) fn pieces<'a>(rng: &mut Rng, bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = (0..rng.index(4)).map(|_| rng.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).filter(|piece| !piece.is_empty()).collect()
}

fn key(rng: &mut Rng) -> Vec<u8> {
    KEYS[rng.index(KEYS.len())].to_vec()
}

fn value(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.below(12) {
        0 => 0,
        1 => rng.index(8000),
        _ => rng.index(40),
    };
    (0..length).map(|_| rng.next().to_le_bytes()[0]).collect()
}

fn command(rng: &mut Rng) -> Words {
    let name = NAMES[rng.index(NAMES.len())];
    let mut words = vec![name.as_bytes().to_vec()];
    match name {
        "ping" if rng.one_in(2) => {}
        "ping" | "echo" => words.push(value(rng)),
        "set" => {
            words.extend([key(rng), value(rng)]);
            for option in ["NX", "xx", "Get", "junk"] {
                if rng.one_in(if option == "junk" { 30 } else { 4 }) {
                    words.push(option.into());
                }
            }
        }
        "mset" => (0..1 + rng.index(4)).for_each(|_| words.extend([key(rng), value(rng)])),
        "del" | "exists" | "unlink" | "mget" => words.extend((0..1 + rng.index(5)).map(|_| key(rng))),
        "get" | "strlen" | "type" => words.push(key(rng)),
        "select" => words.push(if rng.one_in(4) { b"zero".to_vec() } else { b"0".to_vec() }),
        _ => {}
    }
    // A mistake now and then: too many words, too few, or another name.
    match rng.below(24) {
        0 => words.push(b"extra".to_vec()),
        1 if words.len() > 1 => drop(words.pop()),
        2 => words[0] = [b"no", &*value(rng)].concat(),
        _ => {}
    }
    if rng.one_in(3) {
        words[0].make_ascii_uppercase();
    }
    words
}

fn series_command(rng: &mut Rng) -> Words {
    const POLICIES: [&str; 6] = ["BLOCK", "FIRST", "LAST", "MIN", "MAX", "SUM"];
    const AGGREGATIONS: [&str; 8] = ["avg", "sum", "min", "max", "count", "first", "last", "range"];
    let series = format!("{}ts{}", if rng.one_in(2) { "a" } else { "z" }, rng.below(3));
    let mut time = || rng.below(200).to_string();
    let (from, to) = (time(), time());
    let number = format!("{}", rng.below(1000) as f64 / 8.0);
    let count = (1 + rng.below(50)).to_string();
    let policy = POLICIES[rng.index(POLICIES.len())];
    let aggregation = AGGREGATIONS[rng.index(AGGREGATIONS.len())];
    let text = match rng.below(10) {
        0 => format!("TS.CREATE {series} DUPLICATE_POLICY {policy} LABELS a b"),
        1 => format!("TS.ADD {series} {from} {number} ON_DUPLICATE {policy}"),
        2 => format!("TS.MADD {series} {from} {number} ats0 {to} 1 zts1 {from} nan"),
        3 => format!("TS.DEL {series} {from} {to}"),
        4 => format!("TS.GET {series}"),
        5 => format!("TS.RANGE {series} - + COUNT {count}"),
        6 => format!("TS.RANGE {series} {from} {to} AGGREGATION {aggregation} {count}"),
        7 => format!("TS.REVRANGE {series} - {to} AGGREGATION {aggregation} {count} BUCKETTIMESTAMP mid"),
        8 => format!("TYPE {series}"),
        _ => format!("TS.ADD {series} {from} {number}"),
    };
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn put_multibulk(rng: &mut Rng, out: &mut Vec<u8>, words: &[Vec<u8>]) {
    if rng.one_in(40) {
        out.extend_from_slice([&b"*0\r\n"[..], b"*-1\r\n", b"*-7\r\n"][rng.index(3)]);
    }
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    put_command(out, &words);
}

/// The words on a line, quoted in one of the ways that Redis knows.
fn put_inline(rng: &mut Rng, out: &mut Vec<u8>, words: &[Vec<u8>]) {
    for word in words {
        (0..1 + rng.index(2)).for_each(|_| out.push(if rng.one_in(8) { b'\t' } else { b' ' }));
        let plain = !word.is_empty() && word.iter().all(u8::is_ascii_alphanumeric);
        if plain && !rng.one_in(4) {
            out.extend_from_slice(word);
        } else if rng.one_in(2) && word.iter().all(|byte| !matches!(byte, b'\0' | b'\n' | b'\r')) {
            out.push(b'\'');
            word.iter().for_each(|byte| {
                out.extend_from_slice(if *byte == b'\'' { b"\\'" } else { std::slice::from_ref(byte) })
            });
            out.push(b'\'');
        } else {
            out.push(b'"');
            word.iter().for_each(|byte| match byte {
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                7 => out.extend_from_slice(b"\\a"),
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
                b' '..=b'~' => out.push(*byte),
                other => out.extend_from_slice(format!("\\x{other:02x}").as_bytes()),
            });
            out.push(b'"');
        }
    }
    out.extend_from_slice(if rng.one_in(2) { b"\r\n" } else { b"\n" });
}

/// A mistake in the framing, behind what is right: one whose answer is the same in Redis (`redis::DEPARTURES` are not).
fn malform(rng: &mut Rng, out: &mut Vec<u8>) {
    const MISTAKES: [&[u8]; 24] = [
        b"*x\r\n",
        b"*1x\r\n",
        b"* 1\r\n",
        b"*+1\r\n",
        b"*01\r\n",
        b"*1 \r\n",
        b"*\r\n",
        b"*-\r\n",
        b"*9223372036854775808\r\n",
        b"*-9223372036854775809\r\n",
        b"*2147483648\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n+OK\r\n",
        b"*1\r\n-1\r\n",
        b"*2\r\n$4\r\nECHO\r\n*1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$+4\r\n",
        b"*1\r\n$\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"SET \"a b\r\n",
        b"SET 'a'b c\r\n",
        b"GET \"a\"b\n",
    ];
    out.extend_from_slice(MISTAKES[rng.index(MISTAKES.len())]);
}
