//! A flame graph as SVG: the folded stacks, as wide as they have goroutines, coloured by the verdict on their sites.

use std::collections::BTreeMap;
use std::io::{self, Write};

use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{self, Options};

use super::folded::{self, Folded};
use super::human::{clean, count, duration};
use super::profile::Profile;
use crate::report::Level;

/// Pixels.
const WIDTH: usize = 1200;

const RED: Color = Color { r: 230, g: 84, b: 70 };
const ORANGE: Color = Color { r: 240, g: 170, b: 60 };
const GREEN: Color = Color { r: 130, g: 190, b: 110 };
const WHITE: Color = Color { r: 255, g: 255, b: 255 };
const GREY: Color = Color { r: 200, g: 200, b: 195 };

/// Writes the graph.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let stacks = folded::fold(profile);
    if stacks.is_empty() {
        // One that cannot be drawn would be an error to the library.
        return writeln!(
            out,
            "<?xml version=\"1.0\" standalone=\"no\"?>\n<svg version=\"1.1\" width=\"{WIDTH}\" height=\"60\" \
             xmlns=\"http://www.w3.org/2000/svg\"><text x=\"20\" y=\"35\">no living goroutine</text></svg>"
        );
    }
    let is_judged = stacks.values().any(|folded| folded.level.is_some());
    let mut palette = if is_judged { colours(&stacks) } else { PaletteMap::default() };
    let mut options = Options::default();
    options.title = title(profile);
    options.subtitle = is_judged.then(|| {
        "red: of leak suspects alone; orange: watched; green: healthy; grey: not known, or of several".into()
    });
    options.bgcolors = Some(BackgroundColor::Flat(WHITE));
    options.image_width = Some(WIDTH);
    options.count_name = "goroutines".into();
    options.notes = profile.gaps.join("; ");
    options.deterministic = true;
    options.palette_map = Some(&mut palette);
    // They are ordered already, by the stacks without the counts.
    options.no_sort = true;
    let lines: Vec<String> = stacks
        .iter()
        .map(|(stack, folded)| format!("{stack} {}", folded.count.min(u64::MAX >> 20)))
        .collect();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut *out)?;
    writeln!(out)
}

/// `1,903 goroutines of api (pid 42), at the end of 30 s`
fn title(profile: &Profile) -> String {
    let of = match profile.processes.as_slice() {
        [process] => format!("{} (pid {})", clean(&process.service), process.pid),
        many => format!("{} processes", many.len()),
    };
    let total = profile.total(0);
    let plural = if total == 1 { "goroutine" } else { "goroutines" };
    let window = if profile.is_snapshot {
        String::new()
    } else {
        format!(", at the end of {}", duration(profile.duration.as_nanos().try_into().unwrap_or(u64::MAX)))
    };
    format!("{} {plural} of {of}{window}", count(total))
}

/// A colour for each frame: that of the verdict on its goroutines, where there is but one.
fn colours(stacks: &BTreeMap<String, Folded>) -> PaletteMap {
    let mut frames: BTreeMap<&str, Color> = BTreeMap::new();
    for (stack, folded) in stacks {
        let colour = match folded.level {
            Some(Level::Proven | Level::Suspect) => RED,
            Some(Level::Watch) => ORANGE,
            Some(Level::Healthy) => GREEN,
            Some(Level::Unknown) | None => GREY,
        };
        for frame in stack.split(';') {
            let known = frames.entry(frame).or_insert(colour);
            if *known != colour {
                *known = GREY;
            }
        }
    }
    let mut palette = PaletteMap::default();
    // What the library calls the frame below all.
    palette.insert("", GREY);
    for (frame, colour) in frames {
        palette.insert(frame, colour);
    }
    palette
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::profile::testing::two_processes;
    use quick_xml::{Reader, XmlVersion, events::Event};

    /// The text and the titles of an SVG; fails where it is no XML.
    fn texts(profile: &Profile) -> (String, Vec<String>) {
        let mut out = Vec::new();
        write(profile, &mut out).unwrap();
        let svg = String::from_utf8(out).unwrap();
        let mut reader = Reader::from_str(&svg);
        reader.config_mut().check_end_names = true;
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
            "4 goroutines of 2 processes, at the end of 0 ns",
            "api (pid 11) (3 goroutines, 75.00%)",
            "main.wait (3 goroutines, 75.00%)",
            "[chan receive] (2 goroutines, 50.00%)",
            "worker (pid 12) (1 goroutines, 25.00%)",
        ] {
            assert!(texts.iter().any(|known| known == text), "{text} in {texts:?}");
        }
    }

    #[test]
    fn frames_have_the_colour_of_their_verdict() {
        let stacks = folded::fold(&two_processes());
        let palette = colours(&stacks);
        let colour = |name| palette.get(name).unwrap();
        assert_eq!(colour("api (pid 11)"), RED);
        assert_eq!(colour("[chan receive]"), RED);
        assert_eq!(colour("worker (pid 12)"), GREEN);
        assert_eq!((colour("main.wait"), colour("[select]")), (GREY, GREY));
    }

    #[test]
    fn names_cannot_break_out_of_their_place() {
        let mut profile = two_processes();
        profile.samples[0].stack[0].function = "</text><script>alert(1)</script>&\0\"' 1 2".into();
        profile.processes[0].service = "--><svg>]]>".into();
        let (svg, texts) = texts(&profile);
        assert!(!svg.contains("<script>alert"));
        assert!(texts.iter().any(|text| text.contains("</text><script>alert(1)</script>&")), "{texts:?}");
    }

    #[test]
    fn nothing_alive_is_a_picture_too() {
        let mut profile = two_processes();
        profile.samples.clear();
        assert!(texts(&profile).1.contains(&"no living goroutine".to_owned()));
    }
}
