//! The replies to COMMAND, COMMAND COUNT, LIST, INFO and DOCS, from the command table.

use super::encode::{array_header, bulk, integer, map_header, null, null_array, set_header, simple};
use super::request::Protocol;
use super::table::{CommandSpec, find_command, specs};

/// Commands of their own, without subcommands.
fn top_level() -> impl Iterator<Item = &'static CommandSpec> + Clone {
    specs().iter().filter(|spec| !spec.name.contains('|'))
}

/// COMMAND COUNT.
pub fn command_count(out: &mut Vec<u8>) {
    integer(out, i64::try_from(top_level().count()).unwrap_or(i64::MAX));
}

/// COMMAND LIST.
pub fn command_list(out: &mut Vec<u8>) {
    array_header(out, top_level().count());
    top_level().for_each(|spec| bulk(out, spec.name.as_bytes()));
}

/// COMMAND, and COMMAND INFO without names.
pub fn command_all(out: &mut Vec<u8>, protocol: Protocol) {
    array_header(out, top_level().count());
    top_level().for_each(|spec| describe(out, protocol, spec));
}

/// COMMAND INFO; an unknown name gets a null. Without names, all commands.
pub fn command_info(out: &mut Vec<u8>, protocol: Protocol, names: &[&[u8]]) {
    if names.is_empty() {
        return command_all(out, protocol);
    }
    array_header(out, names.len());
    for name in names {
        match find_command(name) {
            Some(spec) => describe(out, protocol, spec),
            None => null_array(out, protocol),
        }
    }
}

/// COMMAND DOCS; unknown names are left out. Without names, all commands.
pub fn command_docs(out: &mut Vec<u8>, protocol: Protocol, names: &[&[u8]]) {
    let known: Vec<_> = match names {
        [] => top_level().collect(),
        names => names.iter().filter_map(|name| find_command(name)).collect(),
    };
    map_header(out, protocol, known.len());
    for spec in known {
        bulk(out, spec.name.as_bytes());
        map_header(out, protocol, 3);
        bulk(out, b"summary");
        bulk(out, spec.summary.as_bytes());
        bulk(out, b"since");
        bulk(out, b"0.1.0");
        bulk(out, b"group");
        bulk(out, spec.group.name().as_bytes());
    }
}

/// One command as COMMAND INFO has it: name, arity, flags, first key, last key, step, ACL categories, tips, key
/// specifications, subcommands.
fn describe(out: &mut Vec<u8>, protocol: Protocol, spec: &CommandSpec) {
    let (first, last, step) = spec.keys;
    array_header(out, 10);
    bulk(out, spec.name.as_bytes());
    integer(out, i64::from(spec.arity));
    set_header(out, protocol, spec.flags.len());
    spec.flags.iter().for_each(|flag| simple(out, flag));
    [first, last, step].into_iter().for_each(|position| integer(out, i64::from(position)));
    set_header(out, protocol, 0);
    array_header(out, 0);
    array_header(out, 0);
    array_header(out, 0);
}

/// MODULE LIST: the one module whose presence clients of the TS.* commands check.
pub fn module_list(out: &mut Vec<u8>, protocol: Protocol, version: i64) {
    array_header(out, 1);
    map_header(out, protocol, 4);
    bulk(out, b"name");
    bulk(out, b"timeseries");
    bulk(out, b"ver");
    integer(out, version);
    bulk(out, b"path");
    bulk(out, b"");
    bulk(out, b"args");
    array_header(out, 0);
}

/// HELLO's map.
pub fn hello(out: &mut Vec<u8>, protocol: Protocol, version: &str, client_id: i64, module_version: i64) {
    map_header(out, protocol, 7);
    bulk(out, b"server");
    bulk(out, b"redis");
    bulk(out, b"version");
    bulk(out, version.as_bytes());
    bulk(out, b"proto");
    integer(out, if protocol == Protocol::Resp3 { 3 } else { 2 });
    bulk(out, b"id");
    integer(out, client_id);
    bulk(out, b"mode");
    bulk(out, b"standalone");
    bulk(out, b"role");
    bulk(out, b"master");
    bulk(out, b"modules");
    module_list(out, protocol, module_version);
}

/// Nothing was set: CLIENT GETNAME of a connection without a name.
pub fn client_name(out: &mut Vec<u8>, protocol: Protocol, name: Option<&[u8]>) {
    match name {
        Some(name) => bulk(out, name),
        None => null(out, protocol),
    }
}
