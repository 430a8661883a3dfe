//! Where mutations start: the golden files, what the present encoders write, and inputs by hand.

use crate::bodies::{put_piece, take_apart_segment};
use std::path::Path;
use tskv::encoding::Reader;
use tskv::limits::PAGE_BYTES;
use tskv::model::{EntryOp, Seqno, Slot, StoreId, TableId, Value};
use tskv::storage::sstable::{Effort, TableBuilder, TableOptions};

/// A name and an input.
type Seed = (String, Vec<u8>);

/// The seeds of a target.
pub(crate) fn of(target: &str) -> Vec<Seed> {
    match target {
        "native_request" => frames("frame_requests_v1.hex"),
        "native_response" => frames("frame_responses_v1.hex"),
        "resp" => by_hand(&[&[0, 6], &[1, 255]], &RESP),
        "http" => by_hand(&[&[20]], &HTTP),
        "wal" => segments(),
        "table" => tables(),
        "manifest" => manifests(),
        "config" => configurations(),
        "csv" => by_hand(&[&[]], &CSV),
        "glob" => patterns(),
        other => panic!("no seeds for {other}"),
    }
}

fn by_hand(flags: &[&[u8]], inputs: &[(&str, &[u8])]) -> Vec<Seed> {
    let make = |(index, (name, input)): (usize, &(&str, &[u8]))| {
        ((*name).to_owned(), [flags[index % flags.len()], input].concat())
    };
    inputs.iter().enumerate().map(make).collect()
}

fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Each golden frame alone, and all of them as one stream; checksums are put right.
fn frames(name: &str) -> Vec<Seed> {
    let text = golden(name);
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
    let frames: Vec<(String, Vec<u8>)> =
        lines.map(|(name, hex)| (format!("golden-{name}"), from_hex(hex))).collect();
    let stream: Vec<u8> = frames.iter().flat_map(|(_, frame)| frame.clone()).collect();
    let with_flags = |frame: &[u8]| [&[1, 17], frame].concat();
    let mut seeds: Vec<Seed> = frames.iter().map(|(name, frame)| (name.clone(), with_flags(frame))).collect();
    seeds.push(("golden-all".to_owned(), with_flags(&stream)));
    seeds
}

const RESP: [(&str, &[u8]); 18] = [
    ("ping", b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$2\r\n\r\n\r\n"),
    ("inline", b"PING\r\nSET k \"a\\x41\\n\\\"b\" \r\nGET 'it\\'s'\n\r\nECHO ''\r\n"),
    ("set", b"*6\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n$2\r\nNX\r\n$3\r\nGET\r\n$7\r\nKEEPTTL\r\n"),
    ("many", b"MGET a b c d e f\r\nMSET a 1 b 2 c 3\r\nDEL a b c\r\nEXISTS a a\r\nUNLINK x\r\n"),
    ("session", b"HELLO 3 AUTH default x SETNAME n\r\nCLIENT SETINFO LIB-NAME redis-py\r\nCLIENT LIST\r\nSELECT 0\r\n"),
    ("transaction", b"MULTI\r\nSET a 1\r\nGET a\r\nEXEC\r\nDISCARD\r\nRESET\r\nQUIT\r\n"),
    ("server", b"INFO server\r\nCOMMAND DOCS get\r\nCONFIG GET max* [a-z]*\r\nMODULE LIST\r\nTIME\r\nDBSIZE\r\nFLUSHALL ASYNC\r\n"),
    ("scan", b"SCAN 18446744073709551615 MATCH h[^a-c]\\?* COUNT 100 TYPE string\r\nKEYS *\r\n"),
    ("ts-add", b"TS.ADD k * 1.5e3 RETENTION 60000 ENCODING UNCOMPRESSED CHUNK_SIZE 128 DUPLICATE_POLICY MAX LABELS a b c d\r\n"),
    ("ts-create", b"TS.CREATE k RETENTION 0 IGNORE 5 0.5 LABELS\r\nTS.ALTER k RETENTION 5\r\nTS.INFO k DEBUG\r\n"),
    ("ts-madd", b"TS.MADD a 1 2 b 3 nan c * -inf\r\n"),
    ("ts-range", b"TS.RANGE k - + LATEST FILTER_BY_TS 1 2 3 FILTER_BY_VALUE 1 2 COUNT 5 ALIGN start AGGREGATION avg 1000 BUCKETTIMESTAMP mid EMPTY\r\n"),
    ("ts-revrange", b"TS.REVRANGE k 0 9223372036854775807 AGGREGATION twa 1\r\nTS.GET k LATEST\r\nTS.DEL k 1 2\r\n"),
    ("nothing", b"*0\r\n*-1\r\n\r\n\n*-9223372036854775808\r\n"),
    ("too-much", b"*1048577\r\n$536870913\r\n"),
    ("cross-protocol", b"*2\r\n$5\r\nHost:\r\n$1\r\nx\r\nPOST / HTTP/1.1\r\n"),
    ("unbalanced", b"SET k \"v\r\nSET 'k'v x\r\n"),
    ("unknown", b"*2\r\n$9\r\nno\r\nsuch\0\r\n$3\r\n\r\n-\r\n"),
];

const HTTP: [(&str, &[u8]); 6] = [
    ("metrics", b"GET /metrics?a=b HTTP/1.1\r\nHost: localhost:7879\r\nAccept: */*\r\n\r\n"),
    ("head", b"HEAD /healthz HTTP/1.0\r\n\r\n"),
    ("post", b"POST /metrics HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nabcd"),
    ("folded", b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\tX: y\r\n\r\n"),
    ("absolute", b"GET http://[::1]/../metrics%00#f HTTP/1.1\r\n\r\nGET / HTTP/9.9\r\n\r\n"),
    ("resp", b"*1\r\n$4\r\nPING\r\n"),
];

const CSV: [(&str, &[u8]); 5] = [
    ("plain", b"series,timestamp_ms,value\ncpu.idle,1517420000123,99.5\nevents,-1,{\"a\":1,\"b\":2}\n"),
    ("crlf", b"\xef\xbb\xbfseries,timestamp_ns,value\r\na,9223372036854775807,-0\r\nb,0,1e-320"),
    ("units", b"series,timestamp_us,value\na,1,9223372036854775807\na,2,inf\na,3,NaN\na,4,1e309\n"),
    ("broken", b"series,timestamp_ms,value\n,1,2\na,b,c\n\n"),
    // `printf 'series,timestamp_ms,value\na,1,2\na,2,3\n' | gzip -n9`
    (
        "gzip",
        &[
            0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x2b, 0x4e, 0x2d, 0xca, 0x4c, 0x2d,
            0xd6, 0x29, 0xc9, 0xcc, 0x4d, 0x2d, 0x2e, 0x49, 0xcc, 0x2d, 0x88, 0xcf, 0x2d, 0xd6, 0x29, 0x4b,
            0xcc, 0x29, 0x4d, 0xe5, 0x4a, 0xd4, 0x31, 0xd4, 0x31, 0xe2, 0x4a, 0xd4, 0x31, 0xd2, 0x31, 0xe6,
            0x02, 0x00,
        ],
    ),
];

fn patterns() -> Vec<Seed> {
    let pairs: [(&str, &str); 10] = [
        ("*", "anything"),
        ("h?llo", "hello"),
        ("h[^e-g]llo*", "hallo there"),
        ("*a*b*", "xxaxxbxx"),
        ("a\\*[\\]-]", "a*]"),
        ("[abc", "c"),
        ("[z-a][^]x", "mqx"),
        ("**?**", "q"),
        ("\\", "\\"),
        ("a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa"),
    ];
    let make = |(index, (pattern, text)): (usize, &(&str, &str))| {
        let length = u8::try_from(pattern.len()).unwrap();
        (format!("pair-{index}"), [&[length], pattern.as_bytes(), text.as_bytes()].concat())
    };
    pairs.iter().enumerate().map(make).collect()
}

fn segments() -> Vec<Seed> {
    let text = golden("wal_segment_v1.hex");
    let mut segments = [vec![0; 6 * PAGE_BYTES], vec![0; 6 * PAGE_BYTES]];
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').map(str::trim).collect();
        let (segment, at) =
            (fields[0].parse::<usize>().unwrap(), usize::from_str_radix(fields[1], 16).unwrap());
        segments[segment][at..at + 16].copy_from_slice(&from_hex(fields[2]));
    }
    let [first, second] = &segments;
    let as_it_is = [&[2], &second[..3 * PAGE_BYTES]].concat();
    vec![
        ("golden-first".to_owned(), take_apart_segment(first, 0)),
        ("golden-second".to_owned(), take_apart_segment(second, 0)),
        ("golden-flags".to_owned(), take_apart_segment(first, 1)),
        ("golden-as-it-is".to_owned(), as_it_is),
    ]
}

/// Each table whole, its blocks, and its sections.
fn tables() -> Vec<Seed> {
    let files = [
        ("golden-samples", from_hex(&golden("table_samples_counted_v1.hex"))),
        ("golden-samples-older", from_hex(&golden("table_samples_v1.hex"))),
        ("golden-rest", from_hex(&golden("table_rest_counted_v1.hex"))),
        ("golden-rest-older", from_hex(&golden("table_rest_v1.hex"))),
        ("golden-quick", from_hex(&golden("table_quick_v1.hex"))),
        ("golden-thorough", from_hex(&golden("table_thorough_v1.hex"))),
        ("built-quick", built_table(Effort::Quick)),
        ("built-thorough", built_table(Effort::Thorough)),
    ];
    let mut seeds = Vec::new();
    for (name, file) in files {
        let footer = file.len() - 108;
        let mut reader = Reader::new(&file[footer + 56..]);
        let mut starts: Vec<usize> =
            (0..4).map(|_| usize::try_from(reader.u64().unwrap()).unwrap()).collect();
        starts.push(footer);
        let mut sections = vec![2];
        starts.windows(2).for_each(|pair| put_piece(&mut sections, &file[pair[0]..pair[1] - 4]));
        seeds.push((format!("{name}-file"), [&[0], &*file].concat()));
        seeds.push((format!("{name}-block"), [&[1], &file[..starts[0] - 4]].concat()));
        seeds.push((format!("{name}-sections"), sections));
    }
    seeds
}

/// A small table with every kind of column that the present encoder picks.
fn built_table(effort: Effort) -> Vec<u8> {
    let (store, span) = (StoreId::default(), Some((0, (1 << 40) - 1)));
    let mut builder =
        TableBuilder::new(TableOptions { store, id: TableId(7), span, level: 0, bloom_bits: 10, effort });
    let mut bytes = Vec::new();
    for series in 0..8_i64 {
        let key = format!("host-{series}/cpu");
        for index in 0..40_i64 {
            let time = index * 1000 + if series > 3 { index * index % 7 } else { 0 };
            let text = "x".repeat(usize::try_from(index % 5).unwrap());
            let value = match series {
                0 => Value::F64(1.5),
                1 => Value::F64((index * 37 % 100) as f64 / 10.0),
                2 => Value::I64(index * 3),
                3 => Value::I64(index * index * index - 5),
                4 => Value::Bytes(text.as_bytes()),
                5 => Value::Bytes(b"same"),
                _ => Value::F64((index as f64).sqrt()),
            };
            let op = if series == 6 && index % 9 == 0 { EntryOp::Delete } else { EntryOp::Put(value) };
            let seqno = Seqno((series * 100 + index).cast_unsigned());
            builder.add(key.as_bytes(), Slot::Time(time), seqno, op);
        }
    }
    bytes.extend(builder.take_bytes());
    bytes.extend(builder.finish().0);
    bytes
}

fn manifests() -> Vec<Seed> {
    let file = from_hex(&golden("manifest_counted_v1.hex"));
    let mut edits = vec![0];
    let mut at = 48;
    while at < file.len() {
        let length = u32::from_le_bytes(*file[at + 4..].first_chunk().unwrap()) as usize;
        put_piece(&mut edits, &file[at + 24..at + 24 + length]);
        at += 24 + length;
    }
    let mut ages = vec![0];
    put_piece(&mut ages, &from_hex(&golden("manifest_retention_v1.hex")));
    vec![
        ("golden-edits".to_owned(), edits),
        ("golden-retention".to_owned(), ages),
        ("golden-file".to_owned(), [&[1], &*file].concat()),
        ("golden-as-it-is".to_owned(), [&[3], &*file].concat()),
        ("golden-current".to_owned(), [&[2], &*from_hex(&golden("current_v1.hex"))].concat()),
    ]
}

fn configurations() -> Vec<Seed> {
    let all: String =
        tskv::config::FLAGS.iter().map(|flag| format!("{} = \"{}\"\n", flag.name, flag.default)).collect();
    let file = |text: &str| [&[0], text.as_bytes()].concat();
    let mut flags = vec![1];
    for (index, flag) in (0u8..).zip(tskv::config::FLAGS) {
        if !flag.default.is_empty() {
            put_piece(&mut flags, &[&[index], flag.default.as_bytes()].concat());
        }
    }
    vec![
        ("defaults".to_owned(), file(&all.replace("= \"\"\n", "= \"1\"\n"))),
        (
            "sizes".to_owned(),
            file(
                "memtable_bytes = \"48MiB\"\ncache-bytes = 0\nwal-segment-bytes = 67108864\nmax_value_bytes = '1_000'\n",
            ),
        ),
        (
            "lists".to_owned(),
            file(
                "\u{feff}listen = [\"127.0.0.1:0\", \"[::1]:7878\"]\nsplit_at = [\"a\", \"b\\u0000\"]\ncores = \"0-1,3\"\r\n",
            ),
        ),
        (
            "sync".to_owned(),
            file("sync = \"interval=10ms\"\nspin = \"50us\"\ntime-unit = \"ns\"\nadmin = \"off\"\n"),
        ),
        ("flags".to_owned(), flags),
    ]
}
