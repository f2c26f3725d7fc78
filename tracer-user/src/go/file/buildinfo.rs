//! What the Go linker says about how a program was built: the Go version, the module, the settings.
//! Go's own reader: <https://cs.opensource.google/go/go/+/master:src/debug/buildinfo/buildinfo.go>.

use std::{fmt, ops::Range};

use super::budget::TooMuch;
use super::error::GoErrorKind;
use super::image::{Image, u64_at};

const MAGIC: &[u8; 14] = b"\xff Go buildinf:";
/// The blob is aligned to this many bytes.
const ALIGN: usize = 16;
/// Flag: strings follow inline (Go 1.18 and newer); without it two pointers follow.
const INLINE: u8 = 2;
/// Bytes of noise at each end of the module text, by which the runtime knows it.
const SENTINEL: usize = 16;
/// Version texts of more bytes than this are not from a Go linker.
const MAX_VERSION: usize = 256;
/// Bytes of the shortest version text that is possible, `go1.18`.
const SHORTEST_VERSION: u64 = 6;
/// Places with the magic bytes that are looked at. Programs have one or two; a file that has many was made to take time.
const MAX_CANDIDATES: usize = 16;
/// Settings of a build that are kept, many more than any build has.
const MAX_SETTINGS: usize = 4096;

/// A Go release, as in `go1.26.8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoVersion {
    /// The number before the first dot: 1 of `go1.26.8`.
    pub major: u16,
    /// The number that each new version of Go raises: 26 of `go1.26.8`.
    pub minor: u16,
    /// The number of corrections: 8 of `go1.26.8`, 0 for release candidates and development versions.
    pub patch: u16,
}

impl GoVersion {
    /// Finds the release in a version text: `go1.26.8-X:race`, `go1.27rc1`, `devel go1.28-2d1b7a3`. None where the text
    /// has no version of Go 1.
    pub fn parse(text: &str) -> Option<GoVersion> {
        let start = text.find("go1.").map(|at| at + 2)?;
        let mut numbers = text[start..].split('.');
        let major = numbers.next()?.parse().ok()?;
        let minor = leading_number(numbers.next()?)?;
        let patch = numbers.next().and_then(leading_number).unwrap_or(0);
        Some(GoVersion { major, minor, patch })
    }
}

fn leading_number(text: &str) -> Option<u16> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

impl fmt::Display for GoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "go{}.{}", self.major, self.minor)?;
        if self.patch > 0 { write!(f, ".{}", self.patch) } else { Ok(()) }
    }
}

/// What the linker recorded about the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// The release.
    pub version: GoVersion,
    /// The version as written, with experiments: `go1.26.8-X:nogreenteagc`.
    pub version_text: String,
    /// Import path of the main package; none for programs built outside modules.
    pub path: Option<String>,
    /// Path of the main module.
    pub module: Option<String>,
    /// Version of the main module, `(devel)` where built from a checkout.
    pub module_version: Option<String>,
    /// `key=value` settings of the build: `-race`, `GOARCH`, `vcs.revision` and so on.
    pub settings: Vec<(String, String)>,
}

impl BuildInfo {
    /// Reads the build info of an executable, and refuses one that was built by an older Go than `oldest`.
    ///
    /// # Errors
    /// - [`GoErrorKind::NoBuildInfo`]: it has none, because it was removed or because this is no Go program.
    /// - [`GoErrorKind::TooOld`]: it was built by an older Go.
    /// - [`GoErrorKind::UnknownVersion`]: its version text has no version.
    /// - [`GoErrorKind::Corrupt`]: the build info is cut off.
    /// - [`GoErrorKind::TooMuch`]: there is too much to search for it.
    pub fn read(image: &Image, oldest: GoVersion) -> Result<BuildInfo, GoErrorKind> {
        let blob = find(image)?.ok_or(GoErrorKind::NoBuildInfo)?;
        let flags = *blob.get(15).ok_or_else(cut_off)?;
        if flags & INLINE == 0 {
            let version = pointed_version(image, blob).unwrap_or_else(|| "Go 1.17 or older".into());
            return Err(GoErrorKind::TooOld(version));
        }
        let (version, rest) = string(blob.get(2 * ALIGN..).ok_or_else(cut_off)?).ok_or_else(cut_off)?;
        let (modules, _) = string(rest).ok_or_else(cut_off)?;
        let mut info = BuildInfo::of_version(version, oldest)?;
        let text = modules.get(SENTINEL..modules.len().saturating_sub(SENTINEL)).unwrap_or_default();
        info.read_modules(&String::from_utf8_lossy(text));
        Ok(info)
    }

    /// Whether the program is one of Go's own tools, such as its compiler or the `go` command: import paths that begin with
    /// `cmd/` are Go's own. The tests of these tools are none.
    pub fn is_go_tool(&self) -> bool {
        self.path.as_deref().is_some_and(|path| path.starts_with("cmd/") && !path.ends_with(".test"))
    }

    /// Finds the version in an executable whose build info was removed: the runtime keeps it in `runtime.buildVersion`,
    /// the one variable in the given range of initialised data that is a string and reads as a Go version. Module and
    /// settings stay unknown.
    ///
    /// # Errors
    /// [`GoErrorKind::NoBuildInfo`] where there is none, or several that differ; else as [`BuildInfo::read`].
    pub(crate) fn of_variable(
        image: &Image,
        data: Range<u64>,
        oldest: GoVersion,
    ) -> Result<BuildInfo, GoErrorKind> {
        let count = (data.end.saturating_sub(data.start) / 8) as usize;
        let words = image.words(data.start, count).ok_or(GoErrorKind::NoBuildInfo)?;
        let mut versions = words.windows(2).filter_map(|header| {
            let (&start, &length) = (header.first()?, header.get(1)?);
            if !(SHORTEST_VERSION..=MAX_VERSION as u64).contains(&length) {
                return None;
            }
            let text = image.bytes(start..start.checked_add(length)?)?;
            (is_version(text) && BuildInfo::of_version(text, oldest).is_ok()).then_some(text)
        });
        let version = versions.next().ok_or(GoErrorKind::NoBuildInfo)?;
        if versions.any(|other| other != version) {
            return Err(GoErrorKind::NoBuildInfo);
        }
        BuildInfo::of_version(version, oldest)
    }

    /// A build of which nothing but the version is known.
    fn of_version(version: &[u8], oldest: GoVersion) -> Result<BuildInfo, GoErrorKind> {
        if version.len() > MAX_VERSION {
            return Err(GoErrorKind::Corrupt(format!("a Go version of {} bytes", version.len())));
        }
        let version_text = String::from_utf8_lossy(version).into_owned();
        let version = GoVersion::parse(&version_text)
            .ok_or_else(|| GoErrorKind::UnknownVersion(version_text.clone()))?;
        if version < oldest {
            return Err(GoErrorKind::TooOld(version_text));
        }
        Ok(BuildInfo {
            version,
            version_text,
            path: None,
            module: None,
            module_version: None,
            settings: vec![],
        })
    }

    /// Reads the text that `go version -m` prints: a kind and values in each line, with tabs between them.
    fn read_modules(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split('\t');
            match words.next() {
                Some("path") => self.path = words.next().map(str::to_owned),
                Some("mod") => {
                    self.module = words.next().map(str::to_owned);
                    self.module_version = words.next().map(str::to_owned);
                }
                Some("build") if self.settings.len() < MAX_SETTINGS => {
                    if let Some((key, value)) = words.next().and_then(|setting| setting.split_once('=')) {
                        self.settings.push((key.to_owned(), value.to_owned()));
                    }
                }
                _ => {}
            }
        }
    }

    /// The value of a build setting, as `-race` or `vcs.revision`.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The commit that it was built from, as its version control writes it. None where the build was not told.
    pub fn revision(&self) -> Option<&str> {
        self.setting("vcs.revision")
    }

    /// The experiments that the toolchain was told to use, from the version text: ` X:` up to Go 1.25, `-X:` after.
    pub fn experiments(&self) -> impl Iterator<Item = &str> {
        let list = self.version_text.split_once("X:").map_or("", |(_, list)| list);
        list.split(',').map(str::trim).filter(|name| !name.is_empty())
    }
}

/// Finds the bytes of the build info, with what follows them in the same section or segment.
fn find(image: &Image) -> Result<Option<&[u8]>, TooMuch> {
    if let Some(section) = image.section(".go.buildinfo") {
        let data = image.section_data(section);
        if data.starts_with(MAGIC) {
            return Ok(Some(data));
        }
    }
    // No section: Go's linker puts it at the start of the data segment, other linkers somewhere in it.
    let found = image.search(
        |segment| !segment.executable,
        |vaddr, data| {
            let misaligned = (ALIGN - (vaddr as usize % ALIGN)) % ALIGN;
            let places = (misaligned..data.len()).step_by(ALIGN).map(|at| &data[at..]);
            let candidates = places.filter(|place| place.starts_with(MAGIC)).take(MAX_CANDIDATES);
            candidates.into_iter().find(|candidate| is_believable(image, candidate))
        },
    )?;
    Ok(found)
}

/// Whether a Go version follows the magic bytes. Programs that read build info, golife itself among them, have the magic
/// bytes as a constant, which may happen to be aligned like build info.
fn is_believable(image: &Image, blob: &[u8]) -> bool {
    match blob.get(15) {
        Some(flags) if flags & INLINE != 0 => {
            blob.get(2 * ALIGN..).and_then(string).is_some_and(|(version, _)| is_version(version))
        }
        Some(_) => pointed_version(image, blob).is_some_and(|version| is_version(version.as_bytes())),
        None => false,
    }
}

fn is_version(text: &[u8]) -> bool {
    text.starts_with(b"go") || text.starts_with(b"devel")
}

/// The version text where the blob has pointers to Go strings (Go 1.17 and older).
fn pointed_version(image: &Image, blob: &[u8]) -> Option<String> {
    let at = (blob.as_ptr() as usize).checked_sub(image.data().as_ptr() as usize)?;
    let vaddr = image.file_offset_to_vaddr(at as u64)?;
    let header = *image.words(vaddr.checked_add(16)?, 1)?.first()?;
    let text = *image.words(header, 1)?.first()?;
    let length = u64_at(image.bytes_from(header.checked_add(8)?)?, 0)?;
    let bytes = image.bytes(text..text.checked_add(length.min(MAX_VERSION as u64))?)?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// Reads a string that has its length in front, and returns it with what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0usize;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes.get(index + 1..)?.split_at_checked(length);
        }
    }
    None
}

fn cut_off() -> GoErrorKind {
    GoErrorKind::Corrupt("the build info is cut off".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The magic as a constant on the boundary where Go's linker would put it.
    #[repr(align(16))]
    struct Decoy([u8; 64]);

    static DECOY: Decoy = {
        let mut bytes = [0; 64];
        let mut at = 0;
        while at < MAGIC.len() {
            bytes[at] = MAGIC[at];
            at += 1;
        }
        bytes[14] = 8;
        Decoy(bytes)
    };

    const OLD: GoVersion = GoVersion { major: 1, minor: 18, patch: 0 };

    #[test]
    fn a_program_that_only_knows_the_magic_is_no_go_program() {
        assert!(std::hint::black_box(&DECOY).0.starts_with(MAGIC));
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let image = Image::open(&file, std::path::Path::new("/proc/self/exe")).unwrap();
        assert!(matches!(BuildInfo::read(&image, OLD), Err(GoErrorKind::NoBuildInfo)));
    }

    #[test]
    fn versions_are_read_as_go_writes_them() {
        let version = |text| GoVersion::parse(text).map(|v| (v.major, v.minor, v.patch));
        assert_eq!(version("go1.26.8"), Some((1, 26, 8)));
        assert_eq!(version("go1.18"), Some((1, 18, 0)));
        assert_eq!(version("go1.27rc1"), Some((1, 27, 0)));
        assert_eq!(version("go1.25.5 X:greenteagc"), Some((1, 25, 5)));
        assert_eq!(version("go1.26.8-X:boringcrypto"), Some((1, 26, 8)));
        assert_eq!(version("devel go1.28-2d1b7a3 Tue"), Some((1, 28, 0)));
        assert_eq!(version("go1.99999999.1"), None);
        assert_eq!(version("go2"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn a_string_with_an_absurd_length_is_refused() {
        assert_eq!(string(&[0xff; 20]), None);
        assert_eq!(string(&[5, b'a']), None);
        assert_eq!(string(&[1, b'a', b'b']), Some((&b"a"[..], &b"b"[..])));
        assert_eq!(string(&[]), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, text: String) {
            let _ = string(&bytes);
            let _ = GoVersion::parse(&text);
        }
    }
}
