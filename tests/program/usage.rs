//! Wrong usage and wrong configuration: exit status 2, and a message that says what to do.

use crate::support::tskv;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Runs a command line that must be refused before anything happens; what it said.
fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let output = tskv()
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?} {environment:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}: errors do not go to stdout");
    assert_eq!(directory.path().read_dir().unwrap().count(), 0, "{arguments:?} left something behind");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn refusals_say_what_to_do() {
    // RELIABILITY §2.3 (e): each of these is somebody's first contact with tskv.
    for (arguments, hint) in [
        (&["serve", "--max-client", "5"][..], "--max-clients"),
        (&["serve", "--cores", "0"], "1 to 128"),
        (&["serve", "--cores", "cpu:9-1"], "1-9"),
        (&["serve", "--listen", "127.0.0.1:65536"], "0 to 65535"),
        (&["serve", "--listen", "127.0.0.1:-1"], "0 to 65535"),
        (&["serve", "--listen", "7878"], "127.0.0.1:7878"),
        (&["serve", "--memtable-bytes", "0"], "at least"),
        (&["serve", "--memtable-bytes", "16E"], "not one of"),
        (&["serve", "--cache-bytes", "10M"], "10MiB"),
        (&["serve", "--sync", "interval=10"], "10ms"),
        (&["serve", "--config", "/dev/zero"], "no regular file"),
        (&["serve", "--config", "absent.toml"], "absent.toml"),
        (&["serve", "--data", "/etc/passwd"], "must be a directory"),
        (&["serve", "--password-file", "/etc/passwd"], "chmod 600"),
        (&["srve"], "serve"),
        (&["put", "a", "later", "1"], "now"),
        (&["put", "a", "1", "x"], "not a number"),
        (&["put", "", "1", "1"], "key is empty"),
        (&["delete"], "Usage"),
        (&["bench", "--duration", "10"], "10s"),
        (&["dump", "/etc/passwd"], "none of CURRENT"),
    ] {
        let said = refused(arguments, &[]);
        assert!(said.contains(hint), "{arguments:?}: {said}");
    }
    assert!(refused(&["serve"], &[("TSKV_BLOOM_BITS", "99")]).contains("TSKV_BLOOM_BITS"));
}

#[test]
fn configuration_files_are_checked_to_the_last_key() {
    // A key that is ignored is a setting that its owner believes in.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tskv.toml");
    let argument = path.to_str().unwrap().to_owned();
    for (content, hint) in [
        (&b"max-client = 5\n"[..], "max-clients"),
        (b"bloom-bits = 1\nbloom-bits = 1\n", "duplicate"),
        (b"data = \"\xff\"\n", "UTF-8"),
        (b"\xef\xbb\xbfbloom-bits = 99\r\n", "0 to 32"),
    ] {
        std::fs::File::create(&path).unwrap().write_all(content).unwrap();
        let said = refused(&["serve", "--config", &argument], &[]);
        assert!(said.contains(hint), "{said}");
    }
}

#[test]
fn secret_that_others_can_read_is_refused() {
    // A password in a file with mode 0644 is public.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, "geheim\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = refused(&["serve", "--password-file", path.to_str().unwrap()], &[]);
    assert!(said.contains("chmod 600") && !said.contains("geheim"), "{said}");
}

#[test]
fn failures_are_not_usage() {
    // Scripts tell "try again" (1) from "fix the command" (2) by the status.
    for arguments in
        [&["ping", "--addr", "127.0.0.1:1"][..], &["check", "/no/such/store"], &["dump", "/no/such.sst"]]
    {
        let output = tskv().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("tskv: "));
    }
    assert!(!Path::new("/no").exists());
}

#[test]
fn help_teaches() {
    // The help is the manual that is always at hand.
    for (arguments, hint) in [
        (&["--help"][..], "tskv put cpu.idle now 99.5"),
        (&["serve", "--help"], "--wal-segment-bytes"),
        (&["import", "--help"], "series,timestamp_ms,value"),
        (&["delete", "--help"], "--everything"),
    ] {
        let output = tskv().args(arguments).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains(hint), "{arguments:?}");
    }
}
