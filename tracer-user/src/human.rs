//! Numbers, durations, foreign text and errors, as people read them.

use std::borrow::Cow;

/// Adds numbers that may be anybody's, as those of a saved report: where they are too large, the sum is the largest.
pub fn sum(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, u64::saturating_add)
}

/// A number with thousands separators: `1,204`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many of what: `1 site`, `1,204 sites`.
pub fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A duration in ns to about three digits: `850 µs`, `1.2 s`, `4 h 12 m`.
pub fn duration(ns: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000, "µs"), (1_000_000, "ms"), (1_000_000_000, "s")];
    const MINUTE: u64 = 60_000_000_000;
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| {
        let rest = if small == 0 { String::new() } else { format!(" {small} {small_unit}") };
        format!("{large} {large_unit}{rest}")
    };
    if ns >= MINUTE {
        let seconds = ns.saturating_add(500_000_000) / 1_000_000_000;
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        return match (days, seconds / 3_600) {
            (0, 0) => two(minutes, "m", seconds % 60, "s"),
            (0, hours) => two(hours, "h", minutes, "m"),
            (days, _) => two(days, "d", hours, "h"),
        };
    }
    // Rounded to whole seconds, this would be printed as `60 s`.
    if ns >= MINUTE - 500_000_000 {
        return "1 m".into();
    }
    let Some((unit, name)) = UNITS.into_iter().rev().find(|&(unit, _)| ns >= unit - unit / 2_000) else {
        return format!("{ns} ns");
    };
    let value = ns as f64 / unit as f64;
    let text = if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") };
    format!("{} {name}", text.strip_suffix(".0").unwrap_or(&text))
}

/// A rate in events per second: `0.04/s`, `1.2/s`, `1,204/s`.
pub fn rate(per_second: f64) -> String {
    if per_second >= 99.5 {
        format!("{}/s", count(per_second.round() as u64))
    } else if per_second >= 9.95 {
        format!("{per_second:.0}/s")
    } else if per_second >= 0.095 {
        format!("{per_second:.1}/s")
    } else if per_second >= 0.005 {
        format!("{per_second:.2}/s")
    } else if per_second > 0.0 {
        "< 0.01/s".into()
    } else {
        "0/s".into()
    }
}

/// A number of bytes in binary units: `15 MiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") };
    format!("{} {}", text.strip_suffix(".0").unwrap_or(&text), UNITS[unit])
}

/// Whether a character can control a terminal, or reorder or hide the text beside it: control characters, bidirectional
/// controls, characters without width, and tags (<https://www.unicode.org/reports/tr36/>). Text from a target is never
/// shown with such a character.
pub fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(char, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Makes text from a target safe for a terminal: characters that are not ([`is_unsafe`]) are escaped, and the text is
/// cut after 400 characters.
pub fn clean(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut clean = String::with_capacity(text.len());
    for (at, char) in text.chars().enumerate() {
        if at == LONGEST {
            clean.push('…');
            break;
        }
        if is_unsafe(char) {
            clean.extend(char.escape_default());
        } else {
            clean.push(char);
        }
    }
    clean
}

/// A text in ASCII, for terminals that show nothing else: golife's own signs by what comes closest, what is left of
/// others escaped.
pub fn ascii(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            'µ' => ascii.push('u'),
            '≥' => ascii.push_str(">="),
            '…' => ascii.push_str("..."),
            '–' | '−' | '—' => ascii.push('-'),
            '×' => ascii.push('x'),
            '→' => ascii.push_str("->"),
            '·' => ascii.push('*'),
            // Full and partial blocks, of which bars are made.
            '\u{2581}'..='\u{258f}' => ascii.push('#'),
            char if char.is_ascii() => ascii.push(char),
            char => ascii.extend(char.escape_unicode()),
        }
    }
    ascii
}

/// The name of a function without the directories of its package: `example.com/api/hub.(*Hub).Run` becomes
/// `hub.(*Hub).Run`. A major version names nothing alone: `example.com/api/v2.Get` becomes `api/v2.Get`. The package is
/// written as it is imported: see [`imported`].
pub fn short_function(name: &str) -> Cow<'_, str> {
    let path = name.find(['(', '[']).map_or(name, |end| &name[..end]);
    let short = path.rfind('/').map(|slash| {
        let is_version = path[slash + 1..].strip_prefix('v').and_then(|rest| rest.split_once('.'));
        match is_version {
            Some((version, _))
                if !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                path[..slash].rfind('/').map_or(name, |before| &name[before + 1..])
            }
            _ => &name[slash + 1..],
        }
    });
    imported(short.unwrap_or(name))
}

/// The name of a package, or of what is in it, as it is imported: `nats-io/nats%2ego.Connect` becomes
/// `nats-io/nats.go.Connect`. The linker has escaped the dots in the last part of its path, since the first one ends it, and
/// some other characters: `PathToPrefix` in <https://cs.opensource.google/go/go/+/master:src/cmd/internal/objabi/path.go>.
pub fn imported(name: &str) -> Cow<'_, str> {
    let mut parts = name.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let escaped = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => bytes.push(byte),
            None => bytes.push(b'%'),
        }
        bytes.extend(&part.as_bytes()[escaped.map_or(0, str::len)..]);
    }
    match bytes.len() == name.len() {
        true => Cow::Borrowed(name),
        false => String::from_utf8(bytes).map_or(Cow::Borrowed(name), Cow::Owned),
    }
}

/// The last component of a path: `/src/hub.go` becomes `hub.go`.
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Puts parts beside each other, as many as fit into a line of `most` columns. A part that is too long for a line of
/// its own is broken at spaces.
pub fn fill(parts: &[String], most: usize) -> Vec<String> {
    const GAP: &str = "   ";
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut().filter(|line| width(line) + GAP.len() + width(part) <= most) {
            Some(line) => {
                line.push_str(GAP);
                line.push_str(part);
            }
            None => lines.extend(wrap(part, most)),
        }
    }
    lines
}

/// Breaks a text at spaces into lines of at most `most` columns. A longer word gets a line of its own.
pub fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| width(line) + 1 + width(word) <= most) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_string()),
        }
    }
    lines
}

/// The columns that a text takes in a terminal, counted as one for each `char`, which is near enough.
pub fn width(text: &str) -> usize {
    text.chars().count()
}

/// Cuts a text to `most` columns. The cut is in the middle, since Go names differ at both ends.
pub fn shorten(text: &str, most: usize) -> String {
    let length = width(text);
    if length <= most || most < 5 {
        return text.chars().take(most.max(1)).collect();
    }
    let head = (most - 1) / 3;
    let tail = most - 1 - head;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    format!("{start}…{end}")
}

/// An error and its sources in one line, without sources whose text the line already contains.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let link = error.to_string();
        if !text.contains(&link) {
            text = format!("{text}: {link}");
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        assert_eq!([0, 12, 999, 1_000, 1_234_567].map(count), ["0", "12", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn durations_have_two_or_three_digits() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1 µs"),
            (850_000, "850 µs"),
            (999_999, "1 ms"),
            (1_200_000_000, "1.2 s"),
            (59_400_000_000, "59 s"),
            (59_990_000_000, "1 m"),
            (60_000_000_000, "1 m"),
            (90_000_000_000, "1 m 30 s"),
            (15_120_000_000_000, "4 h 12 m"),
            (3_599_600_000_000, "1 h"),
            (200_000_000_000_000, "2 d 7 h"),
            (u64::MAX, "213503 d 23 h"),
        ];
        for (ns, want) in cases {
            assert_eq!(duration(ns), want);
        }
    }

    #[test]
    fn rates_and_bytes() {
        assert_eq!(
            [0.0, 0.001, 0.04, 0.5, 12.3, 1_204.4].map(rate),
            ["0/s", "< 0.01/s", "0.04/s", "0.5/s", "12/s", "1,204/s"]
        );
        assert_eq!([12, 1_536, 15 << 20, 1023 << 20].map(bytes), ["12 B", "1.5 KiB", "15 MiB", "1023 MiB"]);
    }

    #[test]
    fn foreign_text_cannot_control_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\n\u{202e}c"), "a\\u{1b}[31mb\\n\\u{202e}c");
        assert!(width(&clean(&"x".repeat(10_000))) < 500);
    }

    #[test]
    fn everything_has_a_form_in_ascii() {
        assert_eq!(ascii("≥ 8.9 µs × 2 – é █▌"), ">= 8.9 us x 2 - \\u{e9} ##");
    }

    #[test]
    fn functions_lose_their_directories() {
        let cases = [
            ("example.com/api/hub.(*Hub).Run.func1", "hub.(*Hub).Run.func1"),
            ("example.com/a.F[example.com/b.T]", "a.F[example.com/b.T]"),
            ("net/http.(*Server).Serve", "http.(*Server).Serve"),
            ("main.main", "main.main"),
            ("example.com/redis/v9.(*Client).Close", "redis/v9.(*Client).Close"),
            ("example.com/v2x.Close", "v2x.Close"),
            ("github.com/nats-io/nats%2ego.(*Conn).readLoop", "nats.go.(*Conn).readLoop"),
            ("gopkg.in/yaml%2ev3.parse", "yaml.v3.parse"),
        ];
        for (name, want) in cases {
            assert_eq!(short_function(name), want);
        }
    }

    #[test]
    fn packages_are_named_as_they_are_imported() {
        let cases = [
            ("github.com/nats-io/nats%2ego", "github.com/nats-io/nats.go"),
            ("example.com/m%c3%bcll%2ego.Run", "example.com/müll.go.Run"),
            ("x/100%25.F", "x/100%.F"),
            // What the linker does not write stays as it is.
            ("a%2", "a%2"),
            ("%", "%"),
            ("a%+fb%zz%é", "a%+fb%zz%é"),
            ("x/%ff.F", "x/%ff.F"),
        ];
        for (name, want) in cases {
            assert_eq!(imported(name), want);
        }
    }

    #[test]
    fn long_lines_break_between_parts_or_at_spaces() {
        let parts = ["live 1,903", "oldest 4 h", "averyveryverylongword of two"].map(String::from);
        assert_eq!(fill(&parts, 26), ["live 1,903   oldest 4 h", "averyveryverylongword of", "two"]);
        assert_eq!(wrap("averyveryverylongword x", 5), ["averyveryverylongword", "x"]);
    }

    #[test]
    fn long_names_keep_both_ends() {
        let short = shorten("example.com/api/hub.(*Hub).Subscribe.func1", 21);
        assert_eq!(short, "exampl…ubscribe.func1");
        assert_eq!(shorten("short", 21), "short");
    }
}
