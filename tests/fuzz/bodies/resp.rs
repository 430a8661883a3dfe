//! RESP requests: framing, inline words, commands.
//!
//! Input: a flag byte (1: the client has not authenticated), a byte that says in what pieces the stream arrives, then
//! the stream.

use super::allocation::bounded;
use super::blobs::split_flags;
use tskv::protocol::resp::{
    Args, CommandContext, ParseState, Parsed, Request, RespError, RespLimits, StoredArgs, parse,
    parse_command,
};

/// A word of seven bytes on the wire is a command of its own in memory (`MGET a a a`), and both the list of words and
/// that of commands grow by doubling.
const FACTOR: usize = 64;
const CONTEXT: CommandContext = CommandContext { now: 1_700_000_000_000, value_bytes_max: 1 << 16 };

pub(crate) fn pipeline(input: &[u8]) {
    let (flags, rest) = split_flags(input);
    let (step, stream) = split_flags(rest);
    let limits = if flags & 1 == 0 { RespLimits::authenticated() } else { RespLimits::unauthenticated() };
    let mut state = ParseState::default();
    let mut pieces = ParseState::default();
    let mut left = stream;
    // Each request is looked at in full; a stream of empty lines is long enough with this many.
    for _ in 0..1000 {
        let of_whole = bounded(left.len(), FACTOR, || parse(left, &limits, &mut state));
        let of_pieces = parse_in_pieces(left, usize::from(step) + 1, &limits, &mut pieces);
        match (of_whole, of_pieces) {
            (Ok(Parsed::Request { consumed }), Ok(Parsed::Request { consumed: again })) => {
                assert_eq!(consumed, again, "pieces move the end of a request");
                let args = state.args(left);
                assert!(args.iter().eq(pieces.args(left).iter()), "pieces change the words of a request");
                command(args);
                survives_being_sent_again(args, consumed);
                left = &left[consumed..];
            }
            (Ok(Parsed::Nothing { consumed }), Ok(Parsed::Nothing { consumed: again })) => {
                assert!(consumed == again && consumed > 0, "a request of nothing takes nothing");
                left = &left[consumed..];
            }
            (Ok(Parsed::Incomplete { needed }), Ok(Parsed::Incomplete { .. })) => {
                return assert!(
                    needed > left.len(),
                    "{needed} bytes are awaited and {} are there",
                    left.len()
                );
            }
            (Err(error), Err(again)) => {
                assert_eq!(error, again, "pieces change the complaint");
                return assert!(!error.to_string().contains(['\r', '\n', '\0']));
            }
            (whole, pieces) => panic!("as a whole {whole:?}, in pieces {pieces:?}"),
        }
    }
}

/// The stream as it comes from a socket, a few bytes more at a time.
fn parse_in_pieces(
    stream: &[u8],
    step: usize,
    limits: &RespLimits,
    state: &mut ParseState,
) -> Result<Parsed, RespError> {
    let mut end = step.min(stream.len());
    loop {
        match parse(&stream[..end], limits, state)? {
            Parsed::Incomplete { .. } if end < stream.len() => end = (end + step).min(stream.len()),
            parsed => return Ok(parsed),
        }
    }
}

fn command(args: Args<'_>) {
    let bytes: usize = args.iter().map(<[u8]>::len).sum();
    match bounded(bytes + 16 * args.len(), FACTOR, || parse_command(args, &CONTEXT)) {
        Ok(Request::Data(command)) => {
            // What a shard parks must be what the client asked for.
            assert_eq!(format!("{command:?}"), format!("{:?}", command.to_stored().borrow()));
        }
        Ok(Request::Gather { commands, .. }) => assert!(!commands.is_empty() && commands.len() < args.len()),
        Ok(_) => {}
        Err(error) => {
            let text = error.text();
            assert!(!text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "a text ends its own line");
            assert!(text.len() < 1024, "a client makes an error of {} bytes", text.len());
        }
    }
}

/// The words, sent as an array of bulk strings, are the same words.
fn survives_being_sent_again(args: Args<'_>, consumed: usize) {
    let mut sent = format!("*{}\r\n", args.len()).into_bytes();
    for word in args.iter() {
        sent.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        sent.extend_from_slice(word);
        sent.extend_from_slice(b"\r\n");
    }
    let mut state = ParseState::default();
    match parse(&sent, &RespLimits::authenticated(), &mut state) {
        Ok(Parsed::Request { consumed }) => {
            assert_eq!(consumed, sent.len());
            assert!(args.iter().eq(state.args(&sent).iter()));
            assert!(StoredArgs::collect(args.iter()).borrow().iter().eq(args.iter()));
        }
        // Browsers are turned away in either form, but an inline `POST` was let through to here by nobody.
        other => panic!("{consumed} bytes were a request, its array form is {other:?}"),
    }
}
