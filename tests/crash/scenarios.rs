//! Stories of single keys through flushes, merges and restarts, where each step starts the daemon with other cores.

use crate::support::{Daemon, Reply, Resp};
use std::path::PathBuf;
use tempfile::TempDir;
use tskv::client::{Client, ClientOptions};
use tskv::model::{DeleteScope, KeyRange, OwnedValue, ScanAnswer, ScanRequest, Slot, StoredEntry, Value};

/// A store that is killed and started again and again.
struct Store {
    _dir: TempDir,
    data: PathBuf,
    starts: usize,
    flags: Vec<String>,
    daemon: Option<Daemon>,
}

impl Store {
    fn new(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("store");
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut store = Self { _dir: dir, data, starts: 0, flags, daemon: None };
        store.crash();
        store
    }
    /// Kills the daemon and starts it with the other backend and another number of cores.
    fn crash(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
        let cores = [2, 1, 4, 3][self.starts % 4].to_string();
        let backend = ["io_uring", "epoll", "epoll", "io_uring", "epoll"][self.starts % 5];
        let mut flags: Vec<_> = ["--cores", &cores, "--backend", backend].map(str::to_owned).into();
        flags.extend(self.flags.iter().cloned());
        self.starts += 1;
        self.daemon = Some(Daemon::start(&self.data, &flags));
    }
    fn address(&self) -> String {
        self.daemon.as_ref().unwrap().address()
    }
    fn resp(&self) -> Resp {
        Resp::connect(&self.address()).unwrap()
    }
    fn native(&self) -> Client {
        Client::connect(&self.address(), &ClientOptions::default()).unwrap()
    }
    fn flush(&self) {
        self.native().flush().unwrap();
    }
    fn compact(&self) {
        self.native().compact().unwrap();
    }
    /// Each way that memory becomes tables, after which the same must be seen.
    fn through(&mut self, way: usize) {
        match way {
            0 => self.crash(),
            1 => self.flush(),
            2 => self.compact(),
            3 => {
                self.flush();
                self.crash();
            }
            _ => {
                self.crash();
                self.compact();
                self.crash();
            }
        }
    }
}

const WAYS: usize = 5;

fn bulk(text: &str) -> Reply {
    Reply::Bulk(Some(text.as_bytes().to_vec()))
}

fn samples(pairs: &[(i64, &str)]) -> Reply {
    let row = |(time, value): &(i64, &str)| {
        Reply::Array(vec![Reply::Integer(*time), Reply::Simple((*value).to_owned())])
    };
    Reply::Array(pairs.iter().map(row).collect())
}

#[test]
fn an_overwritten_string_stays_overwritten() {
    // An older version that a table still holds must never show again.
    let mut store = Store::new(&[]);
    for way in (0..WAYS).chain(0..WAYS) {
        let text = format!("version-{way}-{}", store.starts);
        assert_eq!(store.resp().ask(&format!("SET key {text}")), Reply::ok());
        assert_eq!(store.resp().ask("GET key"), bulk(&text));
        store.through(way);
        assert_eq!(store.resp().ask("GET key"), bulk(&text), "way {way}");
    }
}

#[test]
fn a_deleted_key_stays_deleted_and_can_be_written_again() {
    // The delete and what it hides lie in different files, and either may be merged first.
    let mut store = Store::new(&[]);
    for way in 0..WAYS {
        for second in 0..WAYS {
            let mut client = store.resp();
            assert_eq!(client.ask("SET key old"), Reply::ok());
            assert_eq!(client.ask("TS.ADD series 10 1"), Reply::Integer(10));
            assert_eq!(client.ask("TS.ADD series 20 2"), Reply::Integer(20));
            store.through(way);
            let mut client = store.resp();
            assert_eq!(client.ask("DEL key series"), Reply::Integer(2), "way {way}");
            store.through(second);
            let mut client = store.resp();
            let context = format!("way {way}, then {second}");
            assert_eq!(client.ask("EXISTS key series"), Reply::Integer(0), "{context}");
            assert_eq!(client.ask("DBSIZE"), Reply::Integer(0), "{context}");
            // The key may now be of the other type.
            assert_eq!(client.ask("SET series text"), Reply::ok(), "{context}");
            assert_eq!(client.ask("TS.ADD key 5 7"), Reply::Integer(5), "{context}");
            store.through(second);
            let mut client = store.resp();
            assert_eq!(client.ask("GET series"), bulk("text"), "{context}");
            assert_eq!(client.ask("TS.RANGE key - +"), samples(&[(5, "7")]), "{context}");
            assert_eq!(client.ask("DEL key series"), Reply::Integer(2), "{context}");
        }
    }
}

#[test]
fn samples_added_after_a_delete_of_their_times_are_there() {
    // A range delete hides what is older than itself, not what comes later for the same times.
    let mut store = Store::new(&[]);
    for way in 0..WAYS {
        let key = format!("series{way}");
        let mut client = store.resp();
        for time in 1..=50 {
            assert_eq!(client.ask(&format!("TS.ADD {key} {time} {time}")), Reply::Integer(time));
        }
        store.through(way);
        assert_eq!(store.resp().ask(&format!("TS.DEL {key} 10 40")), Reply::Integer(31), "way {way}");
        store.through(way);
        let mut client = store.resp();
        assert_eq!(client.ask(&format!("TS.ADD {key} 20 200")), Reply::Integer(20), "way {way}");
        store.through((way + 1) % WAYS);
        let mut client = store.resp();
        let expected = samples(&[(9, "9"), (20, "200"), (41, "41")]);
        assert_eq!(client.ask(&format!("TS.RANGE {key} 9 41")), expected, "way {way}");
        assert_eq!(client.ask(&format!("TS.DEL {key} 0 100")), Reply::Integer(20), "way {way}");
        store.through(way);
        let mut client = store.resp();
        assert_eq!(client.ask(&format!("TS.RANGE {key} - +")), samples(&[]), "way {way}");
        assert_eq!(client.ask(&format!("TYPE {key}")), Reply::Simple("TSDB-TYPE".to_owned()), "way {way}");
    }
}

#[test]
fn flushall_and_prefix_deletes_reach_every_shard_and_nothing_else() {
    // Each shard logs its part with its own seqno; replayed under other boundaries it must hide the same.
    let mut store = Store::new(&[]);
    for way in 0..WAYS {
        let letters = ["a", "h", "k", "m", "q", "z"];
        let mut client = store.resp();
        for letter in letters {
            for number in 0..30 {
                assert_eq!(client.ask(&format!("SET {letter}{number} old")), Reply::ok());
            }
        }
        store.through(way);
        assert_eq!(store.resp().ask("FLUSHALL"), Reply::ok());
        // Every connection may land on another core, whose seqnos have got less far.
        for letter in letters {
            assert_eq!(store.resp().ask(&format!("SET {letter}-new x")), Reply::ok());
        }
        store.through(way);
        let mut client = store.resp();
        assert_eq!(client.ask("DBSIZE"), Reply::Integer(6), "way {way}");
        for letter in letters {
            assert_eq!(client.ask(&format!("GET {letter}-new")), bulk("x"), "way {way}");
        }
        let mut native = store.native();
        native.put(b"m", Slot::Time(1), Value::I64(1)).unwrap();
        native.put(b"n", Slot::Time(1), Value::I64(1)).unwrap();
        native.put(b"m\xff", Slot::Time(1), Value::I64(1)).unwrap();
        store.through(way);
        store.native().delete(DeleteScope::Prefix { prefix: b"m" }).unwrap();
        store.native().put(b"m\xff\xff", Slot::Time(2), Value::I64(2)).unwrap();
        store.through(way);
        let mut client = store.resp();
        assert_eq!(client.ask("EXISTS m-new m n"), Reply::Integer(1), "way {way}");
        assert_eq!(client.ask("DBSIZE"), Reply::Integer(7), "way {way}");
        assert_eq!(
            store.native().get_newest(b"m\xff\xff").unwrap(),
            Some((2, OwnedValue::I64(2))),
            "way {way}"
        );
        store.native().delete(DeleteScope::All).unwrap();
        store.through(way);
        assert_eq!(store.resp().ask("DBSIZE"), Reply::Integer(0), "way {way}");
    }
}

#[test]
fn large_values_and_long_keys_survive() {
    // They take frames and blocks of their own, and the first small segment may not hold them.
    let mut store = Store::new(&[]);
    let value: Vec<u8> = (0..1 << 20).map(|index: u32| index.to_le_bytes()[index as usize % 3]).collect();
    let long: Vec<Vec<u8>> = (0..4_u8).map(|letter| vec![b'a' + letter * 7; 1024]).collect();
    for way in 0..WAYS {
        let mut client = store.resp();
        for key in &long {
            assert_eq!(client.call(&[b"SET", key, &value]).unwrap(), Reply::ok());
            assert_eq!(client.call(&[b"SET", key, &value[way..]]).unwrap(), Reply::ok());
        }
        let entries: Vec<_> = (0..6)
            .map(|time| StoredEntry { series: b"bytes", slot: Slot::Time(time), value: Value::Bytes(&value) })
            .collect();
        store.native().put_batch(&entries).unwrap();
        store.through(way);
        let mut client = store.resp();
        for key in &long {
            let found = client.call(&[b"GET", key]).unwrap();
            assert!(found == Reply::Bulk(Some(value[way..].to_vec())), "way {way}");
        }
        let found = store.native().get_at(b"bytes", 5).unwrap();
        assert!(found == Some(OwnedValue::Bytes(value.clone().into())), "way {way}");
    }
}

#[test]
fn times_at_the_ends_of_i64_survive() {
    // Spans and chunks compute with times: at the ends they must not wrap.
    let mut store = Store::new(&[]);
    let times = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    for way in 0..WAYS {
        for time in times {
            store.native().put(b"edge", Slot::Time(time), Value::I64(time)).unwrap();
        }
        store.through(way);
        for reverse in [false, true] {
            let keys = KeyRange::prefix(b"edge");
            let request = ScanRequest {
                keys,
                from: i64::MIN,
                to: i64::MAX,
                all_slots: false,
                reverse,
                limit: u64::MAX,
                answer: ScanAnswer::Entries,
            };
            let mut found = Vec::new();
            let mut client = store.native();
            client
                .scan(request)
                .unwrap()
                .for_each(|(_, slot, value)| found.push((slot, value.into_owned())))
                .unwrap();
            let mut expected: Vec<_> =
                times.iter().map(|time| (Slot::Time(*time), OwnedValue::I64(*time))).collect();
            if reverse {
                expected.reverse();
            }
            assert_eq!(found, expected, "way {way}");
        }
        store.native().delete(DeleteScope::TimeRange { series: b"edge", from: i64::MIN, to: -1 }).unwrap();
        store.through(way);
        assert_eq!(store.native().get_at(b"edge", i64::MIN).unwrap(), None, "way {way}");
        assert_eq!(store.native().get_at(b"edge", 0).unwrap(), Some(OwnedValue::I64(0)), "way {way}");
    }
}

#[test]
fn writes_wait_for_a_slow_flush_and_are_not_refused() {
    // A memtable that fills faster than it is flushed slows its writers down; BUSY is for a store that stands still.
    let mut store = Store::new(&[
        "--memtable-bytes",
        "1MiB",
        "--wal-segment-bytes",
        "1MiB",
        "--max-value-bytes",
        "64KiB",
        "--background-threads",
        "1",
    ]);
    let value = vec![b'v'; 16 << 10];
    let keys: Vec<_> =
        (0..3000).map(|number| format!("{}{number}", char::from(b'a' + (number % 26) as u8))).collect();
    for way in [0, 3] {
        let mut client = store.resp();
        for part in keys.chunks(100) {
            let mut bytes = Vec::new();
            for key in part {
                crate::support::put_command(&mut bytes, &[b"SET", key.as_bytes(), &value]);
            }
            client.send(&bytes).unwrap();
            for key in part {
                assert_eq!(client.reply().unwrap(), Reply::ok(), "way {way}: SET {key}");
            }
        }
        store.through(way);
        assert_eq!(store.resp().ask("DBSIZE"), Reply::Integer(3000), "way {way}");
    }
}
