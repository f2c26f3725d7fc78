//! Draws a flame graph as SVG. A frame is as wide as it has goroutines, and coloured by the verdict on their sites.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{self, Options};

use super::folded::{self, Folded};
use super::profile::{Profile, SAMPLES};
use crate::human::{clean, count, duration, shorten};
use crate::report::Level;

/// Largest number of goroutines of one stack, so that the library's sum does not overflow.
const MOST: u64 = u64::MAX >> 20;
/// Width of the graph in pixels.
const WIDTH: usize = 1200;
/// Most characters that fit into the title.
const TITLE: usize = 115;

const WHITE: Color = Color { r: 255, g: 255, b: 255 };

/// What the verdicts say about a frame's goroutines. The library colours frames by their names, so each name gets a
/// suffix. The four suffixes are those that the library knows as annotations and does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Leaks,
    Watched,
    Healthy,
    /// Nobody judged the goroutines, too little is known, the user ignores them, or they are of several classes.
    Unknown,
}

impl Class {
    fn of(level: Option<Level>) -> Class {
        match level {
            Some(Level::Proven | Level::Suspect) => Class::Leaks,
            Some(Level::Watch) => Class::Watched,
            Some(Level::Healthy) => Class::Healthy,
            Some(Level::Unknown) | None => Class::Unknown,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Class::Leaks => "_[k]",
            Class::Watched => "_[w]",
            Class::Healthy => "_[i]",
            Class::Unknown => "_[j]",
        }
    }

    fn colour(self) -> Color {
        match self {
            Class::Leaks => Color { r: 230, g: 84, b: 70 },
            Class::Watched => Color { r: 240, g: 170, b: 60 },
            Class::Healthy => Color { r: 130, g: 190, b: 110 },
            Class::Unknown => Color { r: 200, g: 200, b: 195 },
        }
    }
}

/// Writes the graph.
///
/// # Errors
/// The graph cannot be drawn, or not be written to `out`.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let stacks = folded::fold(profile);
    if stacks.is_empty() {
        // The library reports an error if there is nothing to draw, so an empty graph is written here.
        return writeln!(
            out,
            "<?xml version=\"1.0\" standalone=\"no\"?>\n<svg version=\"1.1\" width=\"{WIDTH}\" height=\"60\" \
             xmlns=\"http://www.w3.org/2000/svg\"><text x=\"20\" y=\"35\">no living goroutine</text></svg>"
        );
    }
    let is_judged = stacks.values().any(|folded| folded.level.is_some());
    let counts = stacks.iter().map(|(stack, folded)| (stack.clone(), folded.count.min(MOST)));
    let (counts, mut palette) =
        if is_judged { coloured(&stacks) } else { (counts.collect(), PaletteMap::default()) };
    let mut options = Options::default();
    options.title = shorten(&title(profile), TITLE);
    options.subtitle = is_judged.then(|| {
        "red: leak suspects; orange: watched; green: healthy; grey: not told, silenced, or several of these".into()
    });
    options.bgcolors = Some(BackgroundColor::Flat(WHITE));
    options.image_width = Some(WIDTH);
    options.count_name = counted(profile, 2).into();
    // The notes are written into an XML comment, which two dashes would end.
    options.notes = profile.gaps.join("; ").replace('-', "–");
    options.deterministic = true;
    options.palette_map = Some(&mut palette);
    // The stacks are sorted already. The library would sort whole lines, including the counts.
    options.no_sort = true;
    let lines: Vec<String> = counts.iter().map(|(stack, count)| format!("{stack} {count}")).collect();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut *out)?;
    writeln!(out)
}

/// A title such as `1,903 goroutines of api (pid 42), after 30 s`, with the first thing that is missing in the profile.
fn title(profile: &Profile) -> String {
    let of = match profile.processes.as_slice() {
        [process] => format!("{} (pid {})", clean(&process.service), process.pid),
        many => format!("{} processes", many.len()),
    };
    let total = profile.total(0);
    let counted = counted(profile, total);
    let window = if profile.duration.is_zero() {
        String::new()
    } else {
        format!(", after {}", duration(profile.duration.as_nanos().try_into().unwrap_or(u64::MAX)))
    };
    let gap = profile.gaps.first().map(|gap| format!("; {}", clean(gap))).unwrap_or_default();
    format!("{} {counted} of {of}{window}{gap}", count(total))
}

/// What the graph's numbers count.
fn counted(profile: &Profile, number: u64) -> &'static str {
    match (profile.kinds.first().map(|kind| kind.name), number) {
        (Some(SAMPLES), _) => SAMPLES,
        (_, 1) => "goroutine",
        _ => "goroutines",
    }
}

/// Adds to the name of each frame the suffix for the verdicts on all stacks that go through this frame. Also returns
/// the colours for these names.
fn coloured(stacks: &BTreeMap<String, Folded>) -> (BTreeMap<String, u64>, PaletteMap) {
    let mut classes: HashMap<&str, Class> = HashMap::new();
    for (stack, folded) in stacks {
        let class = Class::of(folded.level);
        for part in prefixes(stack) {
            let known = classes.entry(part).or_insert(class);
            if *known != class {
                *known = Class::Unknown;
            }
        }
    }
    let mut annotated = BTreeMap::new();
    let mut palette = PaletteMap::default();
    // The library draws a frame with an empty name below all others.
    palette.insert("", Class::Unknown.colour());
    for (stack, folded) in stacks {
        let frames = stack.split(';').zip(prefixes(stack)).map(|(frame, part)| {
            let class = classes.get(part).copied().unwrap_or(Class::Unknown);
            let frame = format!("{frame}{}", class.suffix());
            palette.insert(&frame, class.colour());
            frame
        });
        annotated.insert(frames.collect::<Vec<_>>().join(";"), folded.count.min(MOST));
    }
    (annotated, palette)
}

/// For `a;b;c` the beginnings `a`, `a;b` and `a;b;c`.
fn prefixes(stack: &str) -> impl Iterator<Item = &str> {
    stack.match_indices(';').map(|(end, _)| &stack[..end]).chain(std::iter::once(stack))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::profile::testing::two_processes;
    use proptest::prelude::*;
    use quick_xml::{Reader, XmlVersion, events::Event};

    /// The text and the titles of the SVG. Panics if it is not XML.
    fn texts(profile: &Profile) -> (String, Vec<String>) {
        let mut out = Vec::new();
        write(profile, &mut out).unwrap();
        let svg = String::from_utf8(out).unwrap();
        let mut reader = Reader::from_str(&svg);
        reader.config_mut().check_comments = true;
        let mut depth = 0;
        let mut texts = vec![String::new()];
        loop {
            match reader.read_event().unwrap() {
                Event::Start(_) => {
                    depth += 1;
                    texts.push(String::new());
                }
                Event::End(_) => {
                    depth -= 1;
                    texts.push(String::new());
                }
                Event::Text(text) => {
                    *texts.last_mut().unwrap() += &text.xml_content(XmlVersion::Implicit1_0).unwrap()
                }
                Event::GeneralRef(name) => {
                    let name = name.decode().unwrap();
                    let char = quick_xml::escape::resolve_xml_entity(&name).unwrap();
                    *texts.last_mut().unwrap() += char;
                }
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(depth, 0, "{svg}");
        (svg, texts)
    }

    #[test]
    fn each_frame_is_named_with_its_number() {
        let (_, texts) = texts(&two_processes());
        for text in [
            "4 goroutines of 2 processes",
            "api (pid 11) (3 goroutines, 75.00%)",
            "main.wait (3 goroutines, 75.00%)",
            "[chan receive] (2 goroutines, 50.00%)",
            "worker (pid 12) (1 goroutines, 25.00%)",
        ] {
            assert!(texts.iter().any(|known| known == text), "{text} in {texts:?}");
        }
    }

    #[test]
    fn frames_have_the_colour_of_what_is_above_them() {
        let mut profile = two_processes();
        profile.samples[1].level = Some(Level::Watch);
        let stacks = folded::fold(&profile);
        let (stacks, palette) = coloured(&stacks);
        let stacks: Vec<(&str, u64)> = stacks.iter().map(|(stack, count)| (stack.as_str(), *count)).collect();
        assert_eq!(
            stacks,
            [
                ("api (pid 11)_[j];main.main.func1_[j];main.wait_[j];[chan receive]_[k]", 2),
                ("api (pid 11)_[j];main.main.func1_[j];main.wait_[j];[select]_[w]", 1),
                ("worker (pid 12)_[i];main.main.func1_[i];main.wait_[i];[select]_[i]", 1),
            ]
        );
        assert_eq!(palette.get("[chan receive]_[k]"), Some(Class::Leaks.colour()));
        assert_eq!(palette.get("main.wait_[i]"), Some(Class::Healthy.colour()));
    }

    #[test]
    fn names_cannot_break_out_of_their_place() {
        let mut profile = two_processes();
        profile.samples[0].stack[0].function = "</text><script>alert(1)</script>&\0\"' 1 2".into();
        profile.processes[0].service = "--><svg>]]>".into();
        profile.gaps = vec!["--><script>alert(2)</script>".into()];
        let (svg, texts) = texts(&profile);
        assert!(!svg.contains("<script>alert"));
        assert!(texts.iter().any(|text| text.contains("</text><script>alert(1)</script>&")), "{texts:?}");
    }

    proptest! {
        #[test]
        fn any_names_make_a_picture(names in proptest::collection::vec(any::<String>(), 6), count in any::<u64>()) {
            let mut profile = two_processes();
            for (sample, names) in profile.samples.iter_mut().zip(names.chunks(2)) {
                sample.stack[0].function = names[0].clone();
                sample.reason = Some(names[1].clone());
                sample.values = vec![count];
            }
            texts(&profile);
        }
    }

    #[test]
    fn nothing_alive_is_a_picture_too() {
        let mut profile = two_processes();
        profile.samples.clear();
        assert!(texts(&profile).1.contains(&"no living goroutine".to_owned()));
    }
}
