//! The texts of `/etc/resolv.conf` and `/etc/hosts` that a step sees.

use std::net::IpAddr;

use crate::step::{DEFAULT_HOSTNAME, ExtraHost, Network};

/// Servers for machines that name none, as Docker and BuildKit have them: Google's.
const DEFAULT_SERVERS: &str = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n";

/// Makes `/etc/hosts`.
pub(super) fn hosts(hostname: &str, extra: &[ExtraHost]) -> String {
    let hostname = if hostname.is_empty() { DEFAULT_HOSTNAME } else { hostname };
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for host in extra {
        text.push_str(&format!("{}\t{}\n", host.ip, host.host));
    }
    text
}

/// Makes `/etc/resolv.conf` from the machine's.
///
/// A server on the loopback interface answers steps in the machine's network only.
pub(super) fn resolv_conf(machine: &str, network: Network) -> String {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next().unwrap_or_default().to_owned())
    };
    let keep = |line: &&str| match (network, server(line)) {
        (Network::None, Some(address)) => {
            let address = address.split('%').next().unwrap_or_default();
            !address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        _ => true,
    };
    let mut text = String::new();
    for line in machine.lines().filter(keep) {
        text.push_str(line);
        text.push('\n');
    }
    if !text.lines().any(|line| server(line).is_some()) {
        text.push_str(DEFAULT_SERVERS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_file() {
        let extra = [ExtraHost { host: "db".into(), ip: "10.0.0.7".into() }];
        assert_eq!(
            hosts("box", &extra),
            "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.7\tdb\n"
        );
        assert!(hosts("", &[]).starts_with("127.0.0.1\tlocalhost buildkitsandbox\n"));
    }

    #[test]
    fn name_servers() {
        let machine =
            "# by hand\nsearch example.org\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.1";
        assert_eq!(resolv_conf(machine, Network::Host), format!("{machine}\n"));
        assert_eq!(
            resolv_conf(machine, Network::None),
            "# by hand\nsearch example.org\nnameserver 10.0.0.1\n"
        );
        assert_eq!(resolv_conf("", Network::Host), DEFAULT_SERVERS);
        assert_eq!(resolv_conf("nameserver 127.0.0.1\n", Network::None), DEFAULT_SERVERS);
    }
}
