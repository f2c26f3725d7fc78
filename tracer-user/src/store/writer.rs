//! Brings sweep files to their store: what waits in the spool first, then the new one. What the store does not take waits.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::error::StoreError;
use super::file::SweepFile;
use super::location::Location;
use super::spool::{Spool, Waiting};

/// A store that has just not answered is not asked again for so long, so that the sweeps of many hosts do not wait for it one
/// after the other.
const AWAY: Duration = Duration::from_secs(60);

/// Writes to one store, with a spool for the time in which it is away.
#[derive(Debug)]
pub struct Writer {
    location: Location,
    spool: Spool,
    /// When the store did not take a file, and why.
    refused: RefCell<Option<(Instant, String)>>,
}

/// What became of a file.
#[derive(Debug)]
pub enum Delivered {
    /// It is in the store, and so are as many that had waited.
    Stored {
        /// Number of files that had waited and are in the store now.
        caught_up: u64,
    },
    /// The store is away, and the file waits.
    Kept {
        /// Why it was not stored.
        why: String,
        /// What waits now.
        waiting: Waiting,
        /// Number of older files that had to go for it.
        gone: u64,
    },
}

impl Writer {
    /// Writes to `location`, and to `spool` while that is away.
    pub fn new(location: Location, spool: Spool) -> Writer {
        Writer { location, spool, refused: RefCell::default() }
    }

    /// The store.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The spool.
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Stores a file, and what has waited after it.
    ///
    /// # Errors
    /// Neither the store nor the spool takes the file.
    pub async fn deliver(&self, file: &SweepFile) -> Result<Delivered, StoreError> {
        let refused = self.refused.borrow().clone();
        let put = match refused.filter(|(since, _)| since.elapsed() < AWAY) {
            Some((_, why)) => Err(why),
            None => self.location.put(file).await.map_err(|error| error.to_string()).inspect_err(|why| {
                self.refused.replace(Some((Instant::now(), why.clone())));
            }),
        };
        match put {
            Ok(_) => Ok(Delivered::Stored { caught_up: self.catch_up().await }),
            Err(why) => {
                let gone = self.spool.keep(file)?;
                Ok(Delivered::Kept { why, waiting: self.spool.waiting(), gone })
            }
        }
    }

    /// Stores what waits, oldest first, until the store is away again. Returns how many it took.
    async fn catch_up(&self) -> u64 {
        let mut sent = 0;
        for (place, path) in self.spool.files() {
            // Another golife may have sent it meanwhile.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            if self.location.put(&SweepFile { place, bytes }).await.is_err() {
                break;
            }
            let _ = std::fs::remove_file(&path);
            sent += 1;
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Place;

    #[tokio::test]
    async fn what_the_store_does_not_take_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        let location = || Location::open(store.to_str().unwrap(), Duration::from_secs(1)).unwrap();
        let spool = || Spool::new(&folder.path().join("spool"), "store", 1000);
        let writer = Writer::new(location(), spool());
        let file = |random| SweepFile { place: Place::new("h", 0, random), bytes: vec![1] };
        // A file in the place of the folder: the store is away.
        std::fs::remove_dir(&store).unwrap();
        std::fs::write(&store, "").unwrap();
        for random in [1, 2] {
            let delivered = writer.deliver(&file(random)).await.unwrap();
            let Delivered::Kept { waiting, gone: 0, .. } = delivered else { panic!("{delivered:?}") };
            assert_eq!(waiting.files, u64::from(random));
        }
        std::fs::remove_file(&store).unwrap();
        std::fs::create_dir(&store).unwrap();
        let delivered = writer.deliver(&file(4)).await.unwrap();
        assert!(matches!(delivered, Delivered::Kept { .. }), "it is not asked again at once: {delivered:?}");
        // Another golife asks at once.
        let writer = Writer::new(location(), spool());
        let delivered = writer.deliver(&file(3)).await.unwrap();
        assert!(matches!(delivered, Delivered::Stored { caught_up: 3 }), "{delivered:?}");
        assert_eq!(writer.spool().waiting().files, 0);
        for random in 1..=4 {
            assert!(store.join(file(random).place.to_string()).exists());
        }
    }
}
