//! Ports of `EXPOSE`: `[ip:]public:private/proto`, ranges included.

use std::net::IpAddr;

use crate::error::LineRange;
use crate::gofmt;
use crate::lint::{self, Linter};

/// Reads port specifications into `PORT/PROTO` texts, in order, ranges written out.
pub(crate) fn parse_ports(
    ports: &[String],
    lines: &[LineRange],
    linter: &Linter,
) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for port in ports {
        parse_port(port, lines, linter, &mut out)?;
    }
    Ok(out)
}

fn parse_port(raw: &str, lines: &[LineRange], linter: &Linter, out: &mut Vec<String>) -> Result<(), String> {
    let (ip, host, container) = split(raw);
    let (protocol, container) = split_protocol(container)
        .map_err(|message| format!("invalid port: {}: {message}", gofmt::quote(raw)))?;
    if protocol != protocol.to_lowercase() {
        let message = format!("Defined protocol '{raw}' in EXPOSE instruction should be lowercase");
        linter.report(&lint::EXPOSE_PROTO_CASING, lines, message);
    }
    if !ip.is_empty() || !host.is_empty() {
        let message =
            format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{raw}'");
        linter.report(&lint::EXPOSE_INVALID_FORMAT, lines, message);
    }
    if !ip.is_empty() {
        check_ip(ip)?;
    }
    let (start, end) = range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    if !host.is_empty() {
        let (host_start, host_end) = range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        if end - start != host_end - host_start && end != start {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {container} and {host}"
            ));
        }
    }
    let protocol = protocol.to_lowercase();
    out.extend((start..=end).map(|port| format!("{port}/{protocol}")));
    Ok(())
}

/// Address, host port and container port; what is absent is empty. Colons before the last two belong to the address.
fn split(raw: &str) -> (&str, &str, &str) {
    match raw.rsplit_once(':') {
        None => ("", "", raw),
        Some((front, container)) => match front.rsplit_once(':') {
            None => ("", front, container),
            Some((ip, host)) => (ip, host, container),
        },
    }
}

fn split_protocol(raw: &str) -> Result<(&str, &str), String> {
    let (port, protocol) = raw.split_once('/').unwrap_or((raw, ""));
    if port.is_empty() {
        return Err("no port specified".to_owned());
    }
    match protocol.to_lowercase().as_str() {
        "" => Ok(("tcp", port)),
        "tcp" | "udp" | "sctp" => Ok((protocol, port)),
        _ => Err(format!("invalid proto: {protocol}")),
    }
}

fn check_ip(text: &str) -> Result<(), String> {
    let mut ip = text;
    if let Some(inner) = text.strip_prefix('[') {
        ip = match inner.split_once(']') {
            Some((ip, "")) => ip,
            Some((_, rest)) => {
                let reason = if rest.starts_with(':') {
                    "too many colons in address"
                } else {
                    "missing port in address"
                };
                return Err(format!("invalid IP address {text}: address {text}:: {reason}"));
            }
            None => {
                return Err(format!("invalid IP address {text}: address {text}:: missing ']' in address"));
            }
        };
    }
    // A zone, as in `fe80::1%eth0`, is not part of an address for Go's net.ParseIP either.
    if ip.is_empty() || ip.parse::<IpAddr>().is_ok() {
        Ok(())
    } else {
        Err(format!("invalid IP address: {ip}"))
    }
}

/// First and last port of `8000` or `8000-8010`.
fn range(text: &str) -> Option<(u32, u32)> {
    let (start, end) = match text.split_once('-') {
        None => (text, text),
        Some((start, end)) => (start, end),
    };
    let first = port(start)?;
    // Equal texts are one port, whatever they say.
    let last = if start == end { first } else { port(end)? };
    (first <= last).then_some((first, last))
}

fn port(text: &str) -> Option<u32> {
    let value = gofmt::parse_int(text).ok()?;
    u32::try_from(value).ok().filter(|port| *port <= 65535)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::Config;

    fn ports(raw: &str) -> (Result<Vec<String>, String>, Vec<&'static str>) {
        let linter = Linter::new(Config::default(), true);
        let result = parse_ports(&[raw.to_owned()], &[], &linter);
        (result, linter.findings().iter().map(|warning| warning.rule).collect())
    }

    #[test]
    fn reads() {
        for (raw, expected, rules) in [
            ("80", vec!["80/tcp"], vec![]),
            ("53/UDP", vec!["53/udp"], vec!["ExposeProtoCasing"]),
            ("7000-7002/sctp", vec!["7000/sctp", "7001/sctp", "7002/sctp"], vec![]),
            ("127.0.0.1:8080:80", vec!["80/tcp"], vec!["ExposeInvalidFormat"]),
            ("[::1]:8080:80", vec!["80/tcp"], vec!["ExposeInvalidFormat"]),
            ("8000-8001:80", vec!["80/tcp"], vec!["ExposeInvalidFormat"]),
        ] {
            assert_eq!(ports(raw), (Ok(expected.into_iter().map(str::to_owned).collect()), rules), "{raw}");
        }
    }

    #[test]
    fn refuses() {
        for (raw, message) in [
            ("", "invalid port: \"\": no port specified"),
            ("80/http", "invalid port: \"80/http\": invalid proto: http"),
            ("99999", "invalid containerPort: 99999"),
            ("-1-80", "invalid containerPort: -1-80"),
            ("x:80", "invalid hostPort: x"),
            ("1-2:5-9", "invalid ranges specified for container and host Ports: 5-9 and 1-2"),
            ("1.2.3:1:80", "invalid IP address: 1.2.3"),
        ] {
            assert_eq!(ports(raw).0.unwrap_err(), message, "{raw}");
        }
    }
}
