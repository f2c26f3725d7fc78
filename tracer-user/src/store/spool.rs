//! Where sweep files wait while their store is away: a folder of this host, bounded. Beyond its bound the oldest go, and that is
//! said.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::file::SweepFile;
use super::place::{EXTENSION, Place};

/// How the name of a file ends that is not whole yet.
const UNFINISHED: &str = ".part";

/// A folder with the files that wait for one store.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: PathBuf,
    most_bytes: u64,
}

/// What waits in a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Spool {
    /// The spool of a store, whose name is that of a folder within `folder`. Nothing is made before there is a file.
    pub fn new(folder: &Path, store: &str, most_bytes: u64) -> Spool {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
        let name: String = store.chars().map(plain).collect();
        // Names of different stores may look alike once they are plain.
        let hash = store.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let tail = name.len().saturating_sub(64);
        Spool { folder: folder.join(format!("{}-{hash:016x}", &name[tail..])), most_bytes }
    }

    /// Keeps a file. Returns how many older ones had to go for it.
    ///
    /// # Errors
    /// The folder cannot be written, or the file alone is more than the spool may hold.
    pub fn keep(&self, file: &SweepFile) -> Result<u64, StoreError> {
        let place = file.place.to_string();
        let name = place.rsplit('/').next().unwrap_or(&place);
        let path = self.folder.join(name);
        let fail = |source| StoreError::Spool { path: path.clone(), source };
        let size = file.bytes.len() as u64;
        if size > self.most_bytes {
            let why = format!("the sweep has {size} bytes, and the spool may have {}", self.most_bytes);
            return Err(fail(io::Error::other(why)));
        }
        fs::create_dir_all(&self.folder).map_err(fail)?;
        let gone = self.make_room(size).map_err(fail)?;
        let unfinished = self.folder.join(format!("{name}{UNFINISHED}"));
        fs::write(&unfinished, &file.bytes).and_then(|()| fs::rename(&unfinished, &path)).map_err(fail)?;
        Ok(gone)
    }

    /// The files that wait, oldest first. Where the folder cannot be read, there are none.
    pub fn files(&self) -> Vec<(Place, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<_> =
            entries.filter_map(|entry| Some((place_of(&entry.path())?, entry.path()))).collect();
        files.sort();
        files
    }

    /// What waits.
    pub fn waiting(&self) -> Waiting {
        self.files().iter().fold(Waiting::default(), |waiting, (_, path)| Waiting {
            files: waiting.files + 1,
            bytes: waiting.bytes + size(path),
        })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn make_room(&self, size_of_new: u64) -> io::Result<u64> {
        let files = self.files();
        let mut bytes: u64 = files.iter().map(|(_, path)| size(path)).sum();
        let mut gone = 0;
        for (_, path) in files {
            if bytes + size_of_new <= self.most_bytes {
                break;
            }
            bytes -= size(&path);
            match fs::remove_file(&path) {
                Ok(()) => gone += 1,
                // Another golife has sent it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The place in the store that a file in the spool is for; `None` for other files.
fn place_of(path: &Path) -> Option<Place> {
    let name = path.file_name()?.to_str().filter(|name| name.ends_with(EXTENSION))?;
    Place::of_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(second: i64, bytes: usize) -> SweepFile {
        SweepFile { place: Place::new("h", 1_795_837_512_123 + second * 1000, 7), bytes: vec![0; bytes] }
    }

    #[test]
    fn the_oldest_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path(), "s3://bucket/fleet", 100);
        assert_eq!(spool.waiting(), Waiting::default());
        for second in [2, 0, 1] {
            assert_eq!(spool.keep(&file(second, 30)).unwrap(), 0);
        }
        assert_eq!(spool.waiting(), Waiting { files: 3, bytes: 90 });
        assert_eq!(spool.keep(&file(3, 60)).unwrap(), 2);
        let places: Vec<_> = spool.files().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, [file(2, 0).place, file(3, 0).place]);
        assert!(spool.keep(&file(4, 101)).unwrap_err().to_string().contains("101 bytes"));
    }

    #[test]
    fn stores_have_spools_of_their_own() {
        let folder = |store| Spool::new(Path::new("/spool"), store, 1).folder().to_owned();
        assert_ne!(folder("s3://a/b"), folder("s3://a_b"));
        assert!(folder("../../etc").starts_with("/spool"));
    }
}
