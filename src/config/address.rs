//! `host:port` as operators write it: IPv4, bracketed IPv6 with or without a scope, host names.

use std::net::{SocketAddr, ToSocketAddrs};

/// Resolves `host:port`. A host name that has several addresses gives its first, IPv4 before IPv6.
///
/// # Errors
/// A sentence fragment that says what is wrong and what to write instead.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = split_port(text)?;
    if host.is_empty() {
        return Err(format!(
            "'{text}' has no host; write 127.0.0.1:{port}, or 0.0.0.0:{port} for all interfaces"
        ));
    }
    let port = parse_port(port)?;
    let mut addresses: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("the host '{host}' cannot be resolved: {error}"))?
        .collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| format!("the host '{host}' has no address"))
}

/// Splits at the last colon, outside brackets.
fn split_port(text: &str) -> Result<(&str, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        return rest
            .split_once("]:")
            .ok_or_else(|| format!("'{text}' has no port after the bracket; write [::1]:7878"));
    }
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("'{text}' has no port; write HOST:PORT as in 127.0.0.1:7878"))?;
    if host.contains(':') {
        return Err(format!("'{text}': an IPv6 address goes in brackets, as in [::1]:7878"));
    }
    Ok((host, port))
}

/// A port number; 0 lets the kernel choose.
fn parse_port(text: &str) -> Result<u16, String> {
    let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits_only => Ok(port),
        _ => Err(format!("the port '{text}' is not a number from 0 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_and_names_resolve() {
        // An operator who binds IPv6 or a name must get exactly that, not a refusal.
        assert_eq!(parse_address("127.0.0.1:0").map(|address| address.port()), Ok(0));
        assert_eq!(parse_address("[::1]:7878").map(|address| address.is_ipv6()), Ok(true));
        assert_eq!(parse_address("localhost:65535").map(|address| address.ip().is_loopback()), Ok(true));
        let scoped = parse_address("[fe80::1%lo]:7878");
        assert!(matches!(scoped, Ok(SocketAddr::V6(address)) if address.scope_id() != 0), "{scoped:?}");
    }

    #[test]
    fn malformed_addresses_say_what_to_write() {
        // "invalid socket address syntax" leaves a newcomer guessing.
        for (text, hint) in [
            ("7878", "HOST:PORT"),
            (":7878", "127.0.0.1:7878"),
            ("::1:7878", "[::1]:7878"),
            ("[::1]", "[::1]:7878"),
            ("127.0.0.1:65536", "0 to 65535"),
            ("127.0.0.1:-1", "0 to 65535"),
            ("127.0.0.1:+1", "0 to 65535"),
            ("127.0.0.1:", "0 to 65535"),
            ("no.such.host.invalid:1", "cannot be resolved"),
        ] {
            let reason = parse_address(text).expect_err(text);
            assert!(reason.contains(hint), "{text}: {reason}");
        }
    }
}
