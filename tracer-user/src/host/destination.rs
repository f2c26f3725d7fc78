//! Where `ssh` is to go, as people write it: `[user@]host[:port]`, a line each. A list may come from anywhere, so a name can
//! mean nothing to `ssh` but a name.

use std::fmt;
use std::net::Ipv6Addr;

/// A host, as whom to log in and at which port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// The user; `None` for whom `ssh` takes by itself.
    pub user: Option<String>,
    /// The name or address, or an alias that the configuration of `ssh` has. An IPv6 address has no brackets here.
    pub host: String,
    /// The port; `None` for the one that `ssh` takes by itself.
    pub port: Option<u16>,
}

/// Why a line names no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDestination {
    /// There is no name in it.
    #[error("there is no host in it")]
    Empty,
    /// A part of it begins with a hyphen, so that it would be an option.
    #[error("a user or host cannot begin with a hyphen")]
    Hyphen,
    /// A part of it has a character that is in no name.
    #[error("no user, host or address has {0:?} in it")]
    Character(char),
    /// What is behind the colon is no port.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// It has several colons.
    #[error("an IPv6 address has brackets: [::1] or [::1]:22")]
    Brackets,
    /// There is no IPv6 address in the brackets.
    #[error("there is no IPv6 address in the brackets")]
    Address,
}

/// A line of a list that names no host.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {found:?}: {why}")]
pub struct BadLine {
    /// The number of the line, from 1.
    pub line: usize,
    /// What stands there, or its beginning.
    pub found: String,
    /// What is wrong with it.
    pub why: NoDestination,
}

impl Destination {
    /// Reads `[user@]host[:port]`.
    ///
    /// # Errors
    /// It is none, or could be more to `ssh` than a user, a host and a port.
    pub fn parse(text: &str) -> Result<Destination, NoDestination> {
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(named(user, is_of_user)?), rest),
            None => (None, text),
        };
        let port = |text: &str| {
            let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
            text.parse().ok().filter(|port| is_number && *port > 0).ok_or(NoDestination::Port)
        };
        if let Some(rest) = rest.strip_prefix('[') {
            let (address, after) = rest.split_once(']').ok_or(NoDestination::Brackets)?;
            let (plain, zone) = address.split_once('%').map_or((address, None), |(a, zone)| (a, Some(zone)));
            plain.parse::<Ipv6Addr>().map_err(|_| NoDestination::Address)?;
            zone.map(|zone| named(zone, is_of_host)).transpose()?;
            let port = match after.strip_prefix(':') {
                Some(text) => Some(port(text)?),
                None if after.is_empty() => None,
                None => return Err(NoDestination::Brackets),
            };
            return Ok(Destination { user, host: address.to_owned(), port });
        }
        let (host, port) = match rest.split_once(':') {
            Some((_, more)) if more.contains(':') => return Err(NoDestination::Brackets),
            Some((host, text)) => (host, Some(port(text)?)),
            None => (rest, None),
        };
        Ok(Destination { user, host: named(host, is_of_host)?, port })
    }

    /// Reads a list: a host a line, with comments from `#` on. A host that is listed again is there once.
    ///
    /// # Errors
    /// All lines that name no host.
    pub fn list(text: &str) -> Result<Vec<Destination>, Vec<BadLine>> {
        let (mut hosts, mut bad) = (Vec::new(), Vec::new());
        let mut seen = std::collections::BTreeSet::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split_once('#').map_or(line, |(line, _)| line).trim();
            match Destination::parse(line) {
                _ if line.is_empty() => {}
                Ok(host) if seen.insert(host.clone()) => hosts.push(host),
                Ok(_) => {}
                Err(why) => {
                    bad.push(BadLine { line: number, found: line.chars().take(80).collect(), why });
                }
            }
        }
        if bad.is_empty() { Ok(hosts) } else { Err(bad) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A name of which every character can be in one. What begins with a hyphen would be an option to some program on the way.
fn named(text: &str, is_of_name: fn(char) -> bool) -> Result<String, NoDestination> {
    match text.chars().find(|char| !is_of_name(*char)) {
        _ if text.is_empty() => Err(NoDestination::Empty),
        _ if text.starts_with('-') => Err(NoDestination::Hyphen),
        Some(char) => Err(NoDestination::Character(char)),
        None => Ok(text.to_owned()),
    }
}

fn is_of_host(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_')
}

/// Directories of users also have `DOMAIN\user` and `user@domain`.
fn is_of_user(char: char) -> bool {
    is_of_host(char) || matches!(char, '+' | '\\' | '@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_hosts_and_ports() {
        let of = |user: Option<&str>, host: &str, port| Destination {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
        };
        let cases = [
            ("web-1", of(None, "web-1", None)),
            ("root@web-1.example.com:2222", of(Some("root"), "web-1.example.com", Some(2_222))),
            ("10.0.0.7:22", of(None, "10.0.0.7", Some(22))),
            ("[::1]", of(None, "::1", None)),
            ("ops@[fe80::1%eth0]:22", of(Some("ops"), "fe80::1%eth0", Some(22))),
            ("ann@example.com@web_1", of(Some("ann@example.com"), "web_1", None)),
            ("EXAMPLE\\ann@web-1", of(Some("EXAMPLE\\ann"), "web-1", None)),
        ];
        for (text, want) in cases {
            let read = Destination::parse(text).unwrap();
            assert_eq!(read, want);
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn what_could_be_more_than_a_name_is_refused() {
        use NoDestination::{Address, Brackets, Character, Empty, Hyphen, Port};
        let cases = [
            ("-oProxyCommand=id", Hyphen),
            ("root@-v", Hyphen),
            ("-l@web", Hyphen),
            ("web 1", Character(' ')),
            ("web;id", Character(';')),
            ("$(id)", Character('$')),
            ("web`id`", Character('`')),
            ("a'b@web", Character('\'')),
            ("web\u{1b}[31m", Character('\u{1b}')),
            ("web\u{202e}", Character('\u{202e}')),
            ("%h", Character('%')),
            ("ssh://web", Port),
            ("", Empty),
            ("root@", Empty),
            ("@web", Empty),
            (":22", Empty),
            ("web:", Port),
            ("web:0", Port),
            ("web:+22", Port),
            ("web:65536", Port),
            ("::1", Brackets),
            ("[::1", Brackets),
            ("[::1]x", Brackets),
            ("[web]", Address),
            ("[::1%-e]", Hyphen),
        ];
        for (text, why) in cases {
            assert_eq!(Destination::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_list_has_comments_and_names_each_line_that_is_wrong() {
        let text = "\u{feff}# all of them\r\n\r\nweb-1\r\n  root@web-2:2222 # the new one\nweb-1\n";
        let names: Vec<_> = Destination::list(text).unwrap().iter().map(Destination::to_string).collect();
        assert_eq!(names, ["web-1", "root@web-2:2222"]);
        let bad = Destination::list("web-1\n-oProxyCommand=id\n\nweb 2 # two words\n").unwrap_err();
        let said: Vec<_> = bad.iter().map(BadLine::to_string).collect();
        assert_eq!(
            said,
            [
                "line 2: \"-oProxyCommand=id\": a user or host cannot begin with a hyphen",
                "line 4: \"web 2\": no user, host or address has ' ' in it",
            ]
        );
        assert_eq!(Destination::list("# none\n").unwrap(), []);
    }
}
