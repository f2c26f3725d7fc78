//! What of a file is searched, for headers that were made to make it much.

use super::*;

/// The headers of a program with these loadable segments, as (link-time address, offset, size in the file).
fn headers(segments: &[(u64, u64, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16] = 2;
    bytes[18] = if cfg!(target_arch = "aarch64") { 0xb7 } else { 0x3e };
    bytes[20] = 1;
    bytes[32] = 64;
    bytes[52] = 64;
    bytes[54] = 56;
    bytes[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
    bytes[58] = 64;
    for &(vaddr, offset, size) in segments {
        bytes.extend([1u32.to_le_bytes(), 4u32.to_le_bytes()].as_flattened());
        for word in [offset, vaddr, 0, size, size, 4096] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes
}

fn searched(image: &Image) -> Vec<(u64, usize)> {
    let mut found = Vec::new();
    let all = image.search(
        |_| true,
        |vaddr, bytes| {
            found.push((vaddr, bytes.len()));
            None::<()>
        },
    );
    all.unwrap();
    found
}

#[test]
fn bytes_that_segments_share_are_searched_once() {
    let same: Vec<_> = (0..100).map(|at| (0x1000_0000 * (at + 1), 0, 1 << 16)).collect();
    let mut bytes = headers(&same);
    bytes.resize(1 << 16, 0);
    let image = Image::from_bytes(&bytes, "same".as_ref()).unwrap();
    assert_eq!(searched(&image), [(0x1000_0000, 1 << 16)]);
    let mut bytes = headers(&[(0x9000, 0x3000, 0x3000), (0x2000, 0x2000, 0x2000)]);
    bytes.resize(0x6000, 0);
    let image = Image::from_bytes(&bytes, "overlapping".as_ref()).unwrap();
    assert_eq!(searched(&image), [(0x2000, 0x2000), (0xa000, 0x2000)]);
}

#[test]
fn holes_of_a_sparse_file_are_not_searched() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let size = 32u64 << 30;
    std::fs::write(file.path(), headers(&[(0x40_0000, 0, size)])).unwrap();
    file.as_file().set_len(size).unwrap();
    let image = Image::open(file.as_file(), file.path()).unwrap();
    let read: usize = searched(&image).iter().map(|(_, bytes)| bytes).sum();
    assert!((100..1 << 20).contains(&read), "{read} bytes");
}

#[test]
fn more_than_any_program_has_is_not_searched() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let size = MAX_SEARCHED + 4096;
    std::fs::write(file.path(), headers(&[(0x40_0000, 0, size)])).unwrap();
    file.as_file().set_len(size).unwrap();
    // As if the file system did not say where the holes are.
    let image = Image {
        on_disk: std::iter::once(0..size as usize).collect(),
        ..Image::open(file.as_file(), file.path()).unwrap()
    };
    let at_start = image.search(|_| true, |vaddr, _| Some(vaddr));
    assert!(at_start.unwrap().is_some(), "what is within the limit is found");
    let error = image.search(|_| true, |_, _| None::<()>).unwrap_err();
    assert_eq!((error.what, error.limit), ("its segments", MAX_SEARCHED));
}
