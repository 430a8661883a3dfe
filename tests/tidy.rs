//! The house rules that a machine can check: who imports whom, headers, names, `unsafe`, leftovers, tests that speak.
//!
//! A single package has no crate walls, so the import rule stands here. Each rule is a function from a file to its
//! breaches; the last test plants one breach per rule, so that a rule that went blind is seen.
#![expect(clippy::unwrap_used, reason = "a test's helpers panic like the test itself")]

use std::path::Path;

/// Who may import whom. A module may always import itself; what is not listed may import nothing.
const MAY_IMPORT: [(&str, &[&str]); 18] = [
    // Bugs planted on purpose: for those where one is planted.
    ("teeth", &[]),
    ("limits", &[]),
    ("encoding", &[]),
    ("metrics", &[]),
    ("guide", &[]),
    ("buffer", &["limits"]),
    ("model", &["limits"]),
    ("storage", &["model", "encoding", "limits", "teeth"]),
    ("protocol", &["model", "encoding", "limits"]),
    ("shard", &["storage", "model", "buffer", "metrics", "limits", "teeth"]),
    ("io", &["buffer", "model", "limits", "teeth"]),
    ("jobs", &["storage", "model", "io", "encoding", "metrics", "limits", "teeth"]),
    // Two policies are parsed here and belong to those who keep them: the backend's kind and the sync policy.
    ("config", &["io", "storage", "model", "limits"]),
    (
        "server",
        &[
            "shard", "protocol", "jobs", "io", "storage", "model", "buffer", "config", "metrics", "limits",
            "teeth",
        ],
    ),
    ("client", &["protocol", "model", "limits"]),
    ("load", &["client", "protocol", "io", "model", "buffer", "metrics", "encoding", "limits"]),
    (
        "simulator",
        &[
            "server", "shard", "protocol", "jobs", "io", "storage", "model", "buffer", "config", "metrics",
            "limits", "teeth",
        ],
    ),
    (
        "cli",
        &[
            "simulator",
            "server",
            "client",
            "config",
            "load",
            "jobs",
            "io",
            "storage",
            "protocol",
            "metrics",
            "encoding",
            "model",
            "limits",
        ],
    ),
];
/// Of `io`, `jobs` may see the files and the threads, never a backend.
const JOBS_MAY_SEE_OF_IO: [&str; 6] = ["Files", "Spawner", "FileLock", "DirEntry", "EntryKind", "Errno"];
/// Of `io` and `storage`, `config` may see what an operator chooses, and how large a write the log takes.
const CONFIG_MAY_SEE: [&str; 5] = [
    "crate::io::BackendKind",
    "crate::storage::wal::SyncPolicy",
    "crate::storage::wal::Record",
    "crate::storage::wal::record_bytes",
    "crate::storage::wal::record_bytes_max",
];
/// The files that may hold `unsafe`: what talks to the kernel, and what the kernel writes into.
const UNSAFE_FILES: [&str; 17] = [
    "src/buffer/mod.rs",
    "src/buffer/quarantine.rs",
    "src/io/epoll/file_call.rs",
    "src/io/epoll/poller.rs",
    "src/io/os_files.rs",
    "src/io/sys/clock.rs",
    "src/io/sys/cpu.rs",
    "src/io/sys/event_fd/counter.rs",
    "src/io/sys/rlimit.rs",
    "src/io/sys/socket.rs",
    "src/io/sys/thread.rs",
    "src/io/uring/completion.rs",
    "src/io/uring/submission.rs",
    "tests/allocations/main.rs",
    "tests/backend_contract/canary.rs",
    "tests/fuzz/bodies/allocation.rs",
    "tests/disks/kernel.rs",
];
/// Modules that no `expect` can open to `unsafe`.
const FORBID_UNSAFE: [&str; 4] = ["storage", "shard", "protocol", "jobs"];
/// Names that say nothing: what has no better name has no owner.
const FORBIDDEN_NAMES: [&str; 6] = ["utils", "common", "helpers", "misc", "core", "types"];

/// A Rust file of the package.
struct Source {
    /// From the package's root, with slashes.
    path: String,
    /// As it is.
    text: String,
    /// The same with comments and the contents of strings blanked out.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: code_of(text) }
    }
    /// The module right under `src/` that the file belongs to; none for `lib.rs`, `main.rs`, tests and benches.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let module =
            inside.split_once('/').map_or_else(|| inside.trim_end_matches(".rs"), |(folder, _)| folder);
        (!matches!(module, "lib" | "main")).then_some(module)
    }
    fn breach(&self, offset: usize, what: &str) -> String {
        let line = self.text[..offset].matches('\n').count() + 1;
        format!("{}:{line}: {what}", self.path)
    }
}

/// Blanks comments and the contents of strings, byte for byte, so that offsets stay.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string_hashes(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 2;
            rest[body..].find(&close).map_or(rest.len(), |end| body + end + close.len())
        } else if bytes[at] == b'"' {
            quoted_end(rest.as_bytes(), b'"')
        } else if bytes[at] == b'\'' && is_character(rest) {
            quoted_end(rest.as_bytes(), b'\'')
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        code[at..at + end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at += end;
    }
    String::from_utf8(code).unwrap()
}

/// `r"` or `r#"`: how many `#` there are.
fn raw_string_hashes(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    (after.as_bytes().get(hashes) == Some(&b'"')).then_some(hashes)
}

/// A quote that opens a character, not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut characters = rest.chars().skip(1);
    let first = characters.next();
    first == Some('\\') || characters.next() == Some('\'')
}

/// Bytes of a quoted literal with its quotes.
fn quoted_end(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// All Rust files under the package's `src`, `tests` and `benches`.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec!["src".to_owned(), "tests".to_owned(), "benches".to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let path = format!("{folder}/{name}");
            // Hidden folders hold what tools install; `target` what they build.
            if entry.file_type().unwrap().is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(".rs") {
                found.push(Source::new(&path, &std::fs::read_to_string(entry.path()).unwrap()));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 100, "the sources were not found: {} files", found.len());
    found
}

/// Runs a rule over the package.
fn keep(rule: fn(&Source) -> Vec<String>) {
    let breaches: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
}

/// Where `word` stands as a whole word in `code`.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    code.match_indices(word).map(|(offset, _)| offset).filter(move |offset| {
        let before = offset.checked_sub(1).and_then(|before| code.as_bytes().get(before));
        !is_word(before) && !is_word(code.as_bytes().get(offset + word.len()))
    })
}

/// The paths from the crate's root that a file names: `crate::a::b`, and each of `crate::{a, b}` and `crate::a::{b}`.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    for offset in words(code, "crate") {
        let Some(rest) = code[offset..].strip_prefix("crate::") else { continue };
        expand(rest, "crate", &mut |path| paths.push((offset, path)));
    }
    paths
}

/// Walks one path or group of paths; gives what follows it.
fn expand<'a>(rest: &'a str, prefix: &str, each: &mut dyn FnMut(String)) -> &'a str {
    let rest = rest.trim_start();
    if let Some(mut rest) = rest.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if rest.is_empty() || rest.starts_with('}') {
                return rest.get(1..).unwrap_or_default();
            }
            let after = expand(rest, prefix, each);
            // `a as b`, or what this reader does not know: on to the next member.
            rest = if after.len() == rest.len() { &rest[1..] } else { after };
        }
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let path = format!("{prefix}::{}", &rest[..end]);
    match rest[end..].strip_prefix("::") {
        Some(deeper) if end > 0 && !deeper.starts_with('<') => expand(deeper, &path, each),
        _ => {
            each(path);
            &rest[end..]
        }
    }
}

fn imports_keep_the_rule_in(source: &Source) -> Vec<String> {
    let Some(module) = source.module() else { return Vec::new() };
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{}: module {module} is not in the table of tests/tidy.rs", source.path)];
    };
    let mut breaches = Vec::new();
    for (offset, path) in crate_paths(&source.code) {
        let mut parts = path.split("::").skip(1);
        let (target, item) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if target == module {
            continue;
        }
        if !allowed.contains(&target) {
            breaches.push(source.breach(offset, &format!("{module} must not import {target} ({path})")));
        } else if module == "jobs"
            && target == "io"
            && !JOBS_MAY_SEE_OF_IO.contains(&item)
            // Its tests run it on the real and on the simulated machine.
            && !source.path.starts_with("src/jobs/tests/")
        {
            breaches.push(source.breach(offset, &format!("jobs must not see {path}")));
        } else if module == "config"
            && matches!(target, "io" | "storage")
            && !CONFIG_MAY_SEE.contains(&path.as_str())
        {
            breaches.push(source.breach(offset, &format!("config must not see {path}")));
        }
    }
    breaches
}

fn globs_are_absent_from(source: &Source) -> Vec<String> {
    // `use super::*` in a module's own tests hides nothing, and proptest's macros want its prelude.
    const ALLOWED: [&str; 2] = ["use super::*;", "use proptest::prelude::*;"];
    let globs = source.code.match_indices("::*").map(|(offset, _)| offset);
    globs
        .filter(|offset| {
            let line = &source.code[source.code[..*offset].rfind('\n').map_or(0, |at| at + 1)..];
            let line = line.trim_start();
            line.starts_with("use ") && !ALLOWED.iter().any(|allowed| line.starts_with(allowed))
        })
        .map(|offset| source.breach(offset, "a glob import hides where names come from"))
        .collect()
}

fn header_opens(source: &Source) -> Vec<String> {
    let has_header =
        source.text.starts_with("//! ") && source.text.lines().next().is_some_and(|l| l.len() > 12);
    if has_header { Vec::new() } else { vec![source.breach(0, "the file does not open with a //! header")] }
}

fn name_says_something(source: &Source) -> Vec<String> {
    let names = source.path.trim_end_matches(".rs").split('/').filter(|name| FORBIDDEN_NAMES.contains(name));
    names.map(|name| format!("{}: a module called {name} has no owner", source.path)).collect()
}

fn unsafe_is_fenced_in(source: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    let is_listed = UNSAFE_FILES.contains(&source.path.as_str());
    for offset in words(&source.code, "unsafe") {
        if !is_listed {
            breaches.push(source.breach(offset, "unsafe outside the files that tests/tidy.rs lists"));
        } else if !is_explained(&source.text, offset) {
            breaches.push(source.breach(offset, "unsafe without a SAFETY comment right above"));
        }
    }
    for offset in words(&source.code, "unsafe_code") {
        let line = source.code[..offset].rfind('\n').map_or(0, |at| at + 1);
        if !is_listed && !source.code[line..offset].contains("forbid(") {
            breaches.push(source.breach(offset, "unsafe_code is opened in a file that is not listed"));
        }
    }
    let module = source.module().unwrap_or_default();
    let is_root = source.path == format!("src/{module}/mod.rs");
    if is_root && FORBID_UNSAFE.contains(&module) && !source.code.contains("#![forbid(unsafe_code)]") {
        breaches.push(source.breach(0, "the module must say #![forbid(unsafe_code)]"));
    }
    breaches
}

/// Whether a `SAFETY:` or `# Safety` comment stands above the statement that holds `offset`, with nothing but
/// attributes and the statement's own lines between.
fn is_explained(text: &str, offset: usize) -> bool {
    let line_start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let mut is_comment = false;
    for line in text[..line_start].lines().rev().take(16) {
        let line = line.trim();
        if line.starts_with("//") {
            is_comment = true;
            if line.contains("SAFETY:") || line.contains("# Safety") {
                return true;
            }
        } else if is_comment || line.ends_with(';') || line.ends_with('}') || line.is_empty() {
            return false;
        }
    }
    false
}

fn nothing_is_left_behind_in(source: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    for word in ["TODO", "FIXME", "XXX", "HACK"] {
        // A word in a string is data; this file's own list is.
        let comments =
            source.text.match_indices(word).filter(|(offset, _)| in_comment(&source.text, *offset));
        breaches.extend(comments.map(|(offset, _)| source.breach(offset, &format!("{word} is left behind"))));
    }
    for macro_name in ["todo!", "unimplemented!", "dbg!"] {
        let calls = source.code.match_indices(macro_name);
        breaches
            .extend(calls.map(|(offset, _)| source.breach(offset, &format!("{macro_name} is left behind"))));
    }
    breaches
}

fn in_comment(text: &str, offset: usize) -> bool {
    let line = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    text[line..offset].trim_start().starts_with("//")
}

fn lints_are_expected_with_a_reason_in(source: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    for attribute in ["#[allow(", "#![allow("] {
        let found = source.code.match_indices(attribute);
        let found = found.filter(|(offset, _)| !is_shared_by_tests(source, *offset));
        breaches.extend(found.map(|(offset, _)| source.breach(offset, "use #[expect(lint, reason = …)]")));
    }
    for (offset, _) in source.code.match_indices("#[ignore") {
        if !source.code[offset..].starts_with("#[ignore =") {
            breaches.push(source.breach(offset, "#[ignore] without a reason"));
        }
    }
    breaches
}

/// What several test programs share is partly unused in each, and which part differs: nothing could be expected.
fn is_shared_by_tests(source: &Source, offset: usize) -> bool {
    let allows = |lint: &str| source.code[offset..].starts_with(lint);
    source.path == "tests/support/mod.rs" && allows("#![allow(dead_code, reason")
        || source.path.starts_with("tests/fuzz/bodies/")
            && (allows("#[allow(dead_code, reason") || allows("#[allow(unused_imports, reason"))
}

fn tests_say_what_goes_wrong_in(source: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    for (offset, _) in source.code.match_indices("#[test]") {
        let mut lines = source.text[offset..].lines();
        let opening = lines.by_ref().find(|line| line.trim_end().ends_with('{'));
        let first = lines.next().unwrap_or_default().trim();
        if opening.is_some() && !first.starts_with("//") {
            breaches.push(source.breach(offset, "a test's first line says what goes wrong if it fails"));
        }
    }
    breaches
}

#[test]
fn imports_keep_the_rule() {
    // Without crate walls the layers grow into each other one convenient import at a time.
    keep(imports_keep_the_rule_in);
    keep(globs_are_absent_from);
}

#[test]
fn every_file_has_a_header() {
    // A reader must not have to guess what a file owns.
    keep(header_opens);
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    // `utils` collects what nobody owns.
    keep(name_says_something);
}

#[test]
fn unsafe_stays_where_it_is_listed_and_explained() {
    // A reviewer of memory safety has to read these files and no others.
    keep(unsafe_is_fenced_in);
    let found = sources();
    for path in UNSAFE_FILES {
        let is_used =
            found.iter().any(|source| source.path == path && words(&source.code, "unsafe").next().is_some());
        assert!(is_used, "{path} holds no unsafe any more: take it from the list");
    }
}

#[test]
fn nothing_is_left_behind() {
    // What is promised in a comment is kept by nobody.
    keep(nothing_is_left_behind_in);
}

#[test]
fn lints_are_expected_and_never_allowed() {
    // An `allow` outlives what it was for, and a test that is ignored for no reason is dead.
    keep(lints_are_expected_with_a_reason_in);
}

#[test]
fn tests_say_what_goes_wrong() {
    // Whoever sees a test fail wants to know what breaks for the user, not only that it broke.
    keep(tests_say_what_goes_wrong_in);
}

#[test]
fn each_rule_catches_a_planted_breach() {
    // A rule that reads nothing is always kept.
    type Rule = fn(&Source) -> Vec<String>;
    let plants: [(Rule, &str, &str); 21] = [
        (imports_keep_the_rule_in, "src/storage/wal/x.rs", "use crate::io::Files;"),
        (imports_keep_the_rule_in, "src/shard/x.rs", "use crate::{model::Key, protocol::resp};"),
        (imports_keep_the_rule_in, "src/io/x.rs", "use crate::{\n    buffer::{A, B},\n    shard::Event,\n};"),
        (imports_keep_the_rule_in, "src/metrics/x.rs", "fn f() { crate::server::run() }"),
        (imports_keep_the_rule_in, "src/jobs/x.rs", "use crate::io::{Files, Backend};"),
        (imports_keep_the_rule_in, "src/config/x.rs", "use crate::storage::sstable::Block;"),
        (imports_keep_the_rule_in, "src/limits.rs", "use crate::model::Key;"),
        (imports_keep_the_rule_in, "src/newcomer/mod.rs", ""),
        (globs_are_absent_from, "src/shard/x.rs", "use crate::model::*;"),
        (header_opens, "src/shard/x.rs", "use std::fmt;\n"),
        (name_says_something, "src/shard/utils.rs", ""),
        (name_says_something, "src/shard/common/y.rs", ""),
        (unsafe_is_fenced_in, "src/shard/x.rs", "fn f() {\n    // SAFETY: no.\n    unsafe { g() }\n}"),
        (unsafe_is_fenced_in, "src/shard/x.rs", "#![expect(unsafe_code, reason = \"because\")]"),
        (unsafe_is_fenced_in, "src/buffer/mod.rs", "fn f() {\n    let a = 1;\n    unsafe { g() }\n}"),
        (unsafe_is_fenced_in, "src/storage/mod.rs", "//! Storage.\n"),
        (nothing_is_left_behind_in, "src/shard/x.rs", "    // TODO: later\n"),
        (nothing_is_left_behind_in, "src/shard/x.rs", "fn f() { todo!() }"),
        (lints_are_expected_with_a_reason_in, "src/shard/x.rs", "#[allow(dead_code)]"),
        (lints_are_expected_with_a_reason_in, "src/shard/x.rs", "#[test]\n#[ignore]\nfn f() {}"),
        (tests_say_what_goes_wrong_in, "src/shard/x.rs", "#[test]\nfn f() {\n    assert!(true);\n}"),
    ];
    for (index, (rule, path, text)) in plants.into_iter().enumerate() {
        let breaches = rule(&Source::new(path, text));
        assert_eq!(breaches.len(), 1, "plant {index}, {path}: {text}: {breaches:?}");
    }
    // What only looks like a breach: names in comments, strings and documentation links.
    let innocent = "//! The shard, fed by [`crate::server`].\nconst A: &str = \"crate::io unsafe todo!\"; // crate::io\n\
                    const B: char = '\"'; const C: &str = r#\"crate::cli \" unsafe\"#; fn f<'a>(_: &'a str) {}\n";
    let source = Source::new("src/shard/x.rs", innocent);
    for rule in [imports_keep_the_rule_in, unsafe_is_fenced_in, nothing_is_left_behind_in, header_opens] {
        assert_eq!(rule(&source), Vec::<String>::new());
    }
}
