//! Addresses as text.

use std::fmt::Display;

/// `host:port`, with brackets where the host needs them.
pub fn host_port(host: &str, port: impl Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_version_6_stand_in_brackets() {
        assert_eq!(host_port("h", 9092), "h:9092");
        assert_eq!(host_port("::1", 9092_i32), "[::1]:9092");
    }
}
