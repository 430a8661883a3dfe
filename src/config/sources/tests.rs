//! Flag, environment and file: which wins, and what each refuses.

use super::*;
use std::os::unix::ffi::OsStringExt;

fn flags(pairs: &[(&'static str, &str)]) -> BTreeMap<&'static str, Vec<String>> {
    pairs.iter().map(|(name, value)| (*name, vec![(*value).to_owned()])).collect()
}
fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}
/// A configuration file, kept until the directory is dropped.
fn file(content: &[u8]) -> (tempfile::TempDir, Option<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tskv.toml");
    std::fs::write(&path, content).unwrap();
    (directory, Some(path))
}
fn load_file(content: &[u8]) -> Result<Loaded, ConfigError> {
    let (_directory, file) = file(content);
    Sources { file, ..Sources::default() }.load()
}

#[test]
fn flag_beats_environment_beats_file() {
    // The operator who overrides one setting for one run must get it.
    let (_directory, file) = file(b"max-clients = 1\nbloom_bits = 1\nbackground-threads = 1\n");
    let sources = Sources {
        flags: flags(&[("max-clients", "3")]),
        environment: environment(&[("TSKV_MAX_CLIENTS", "2"), ("TSKV_BLOOM_BITS", "2"), ("PATH", "/bin")]),
        file,
    };
    let config = sources.load().unwrap().config;
    assert_eq!((config.max_clients, config.bloom_bits, config.background_threads), (3, 2, 1));
}

#[test]
fn variable_names_the_file_and_repeats_by_commas() {
    // A container configured by variables alone needs both.
    let (_directory, file) = file(b"bloom-bits = 3\n");
    let path = file.unwrap();
    let variables =
        [("TSKV_CONFIG", path.to_str().unwrap()), ("TSKV_LISTEN", "127.0.0.1:1,[::1]:2"), ("TSKV_SYNC", "")];
    let config =
        Sources { environment: environment(&variables), ..Sources::default() }.load().unwrap().config;
    assert_eq!((config.bloom_bits, config.listen.len()), (3, 2));
    assert_eq!(config.sync, Config::default().sync, "an empty variable is unset");
}

#[test]
fn every_spelling_of_a_file_is_read() {
    // Editors add byte order marks and CRLF; both must not make a file unreadable.
    for content in
        [&b""[..], b"# nothing\n", b"\xef\xbb\xbfmax-clients = 10000\r\nlisten = [\"127.0.0.1:7878\"]\r\n"]
    {
        assert_eq!(load_file(content).unwrap().config, Config::default());
    }
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    // Each would else be a hang, a full memory, or a setting silently ignored.
    for (content, hint) in [
        (&b"bloom-bit = 3\n"[..], "did you mean 'bloom-bits'"),
        (b"banana = 3\n", "--help"),
        (b"bloom-bits = 3\nbloom-bits = 4\n", "duplicate key"),
        (b"bloom-bits = 3\nbloom_bits = 4\n", "keep one"),
        (b"bloom-bits = 3.5\n", "float"),
        (b"bloom-bits = -1\n", "0 to 32"),
        (b"bloom-bits = [1, 2]\n", "takes one value"),
        (b"listen = []\n", "at least one"),
        (b"listen = [[\"a\"]]\n", "array inside"),
        (b"data = \"\"\n", "empty"),
        (b"[serve]\nbloom-bits = 3\n", "no setting 'serve'"),
        (b"bloom-bits\n", "line 1"),
        (b"data = \"\xff\"\n", "UTF-8 (byte 8)"),
        (&[b'#'; (1 << 20) + 1], "longer than"),
    ] {
        let message = load_file(content).expect_err(hint).to_string();
        assert!(message.contains(hint) && message.contains("tskv.toml"), "{hint}: {message}");
    }
    for path in ["/dev/zero", "/", "/no/such/file"] {
        let sources = Sources { file: Some(PathBuf::from(path)), ..Sources::default() };
        assert!(sources.load().is_err_and(|error| error.to_string().contains(path)));
    }
}

#[test]
fn bad_values_name_their_source() {
    // With three sources, a message that does not name one sends the operator hunting.
    let bad = Sources { flags: flags(&[("cores", "0")]), ..Sources::default() };
    assert!(bad.load().is_err_and(|error| error.to_string().starts_with("--cores: ")));
    let bad = Sources { environment: environment(&[("TSKV_MAX_CLIENTS", "x")]), ..Sources::default() };
    assert!(bad.load().is_err_and(|error| error.to_string().starts_with("TSKV_MAX_CLIENTS: ")));
    let not_text = vec![(OsString::from("TSKV_DATA"), OsString::from_vec(vec![0xff]))];
    let bad = Sources { environment: not_text, ..Sources::default() };
    assert!(bad.load().is_err_and(|error| error.to_string().contains("TSKV_DATA")));
}

#[test]
fn mistyped_variable_warns() {
    // A variable that nothing reads is a setting that its owner believes in.
    let sources = Sources {
        environment: environment(&[("TSKV_MAXCLIENTS", "1"), ("TSKV_ADDR", "x")]),
        ..Sources::default()
    };
    let warnings = sources.load().unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("TSKV_MAX_CLIENTS"));
}

#[test]
fn edit_distance_counts_single_mistakes() {
    // A wrong distance suggests nonsense, or nothing.
    assert_eq!(edit_distance("kitten", "sitting"), 3);
    assert_eq!(edit_distance("data", "data"), 0);
    assert_eq!(edit_distance("", "abc"), 3);
    assert_eq!(edit_distance("abc", "acb"), 2);
}
