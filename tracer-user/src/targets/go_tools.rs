//! Which programs are Go's own tools. A build runs hundreds of them, so a file is looked at once, and only its build info.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use crate::go::{BuildInfo, Image, versions};
use crate::host::files::FileStamp;

/// Most files that are remembered. Beyond this, all are forgotten and looked at anew.
const MOST: usize = 1 << 16;

/// The files that were looked at, and whether they are Go's own tools. They are not kept open, so more than their identity is
/// remembered.
#[derive(Default)]
pub(super) struct GoTools(HashMap<FileStamp, bool>);

impl GoTools {
    /// Whether a file is one of Go's own tools.
    pub(super) fn has(&mut self, file: &File) -> bool {
        let Ok(stamp) = FileStamp::of(file) else { return false };
        if self.0.len() >= MOST {
            self.0.clear();
        }
        *self.0.entry(stamp).or_insert_with(|| {
            let image = Image::of_go(file, Path::new(""));
            let info = image.and_then(|image| BuildInfo::read(&image, versions::OLDEST).ok());
            info.is_some_and(|info| info.is_go_tool())
        })
    }
}
