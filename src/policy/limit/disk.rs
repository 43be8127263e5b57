//! How counts lie on disk: all keys of one quota in one file, which is whole or none.
//!
//! A mark, the seed of the keys, a row of 20 bytes for each key, and at the end a checksum of all that.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path as File;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256, digest};

use super::calendar;
use super::quota::{Book, Used};

const MARK: &[u8; 16] = b"yumen quota v1 \n";
const ROW: usize = 20;
const SUM: usize = 32;
/// A larger file is none of ours: more than 50 million keys.
const MOST: u64 = 1 << 30;
/// What has ended is left out so long after: by then no clock is wrong any more.
const STALE: u32 = 7 * 24;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    pub seed: [u8; 16],
    pub rows: Vec<(u64, Used)>,
}

/// What lies there; nothing where there is no file. The error is a sentence.
pub fn read(file: &File) -> Result<Option<Page>, String> {
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why.to_string()),
    };
    let mut bytes = Vec::new();
    opened.take(MOST + 1).read_to_end(&mut bytes).map_err(|why| why.to_string())?;
    if bytes.len() as u64 > MOST {
        return Err("it is too large".to_owned());
    }
    page(&bytes).map(Some).ok_or_else(|| "it is damaged".to_owned())
}

fn page(bytes: &[u8]) -> Option<Page> {
    let (body, sum) = bytes.split_last_chunk::<SUM>()?;
    if digest(&SHA256, body).as_ref() != sum {
        return None;
    }
    let (seed, rows) = body.strip_prefix(MARK)?.split_first_chunk::<16>()?;
    let rows = rows.chunks(ROW).map(row).collect::<Option<_>>()?;
    Some(Page { seed: *seed, rows })
}

fn row(bytes: &[u8]) -> Option<(u64, Used)> {
    let (key, rest) = bytes.split_first_chunk::<8>()?;
    let (ends, rest) = rest.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let before: &[u8; 4] = rest.try_into().ok()?;
    let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
    let used = Used { ends: number(ends), count: number(count), before: number(before) };
    Some((u64::from_le_bytes(*key), used)).filter(|(key, _)| *key > 0)
}

fn bytes(book: &Book, now: Duration) -> Vec<u8> {
    let (mut bytes, hour) = (MARK.to_vec(), calendar::hours(now));
    bytes.extend_from_slice(&book.cells.seed());
    book.cells.each(|key, used| {
        if used.ends.saturating_add(STALE) > hour {
            bytes.extend_from_slice(&key.to_le_bytes());
            for one in [used.ends, used.count, used.before] {
                bytes.extend_from_slice(&one.to_le_bytes());
            }
        }
    });
    let mut sum = Context::new(&SHA256);
    sum.update(&bytes);
    bytes.extend_from_slice(sum.finish().as_ref());
    bytes
}

/// Puts a new file into the place of the old one. The directory above its own has to be there.
pub fn write(file: &File, book: &Book, now: Duration) -> std::io::Result<()> {
    let bytes = bytes(book, now);
    let made = std::fs::create_dir(file.parent().unwrap_or(File::new("/")));
    made.or_else(|why| if why.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(why) })?;
    // Not `with_extension`: what stands behind the last dot is the period.
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let mut opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    opened.write_all(&bytes)?;
    opened.sync_data()?;
    std::fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> Book {
        let book = Book::default();
        for key in 1..=1000_u64 {
            let used = Used { ends: 100, count: u32::try_from(key).unwrap(), before: 7 };
            book.cells.change(key, 0, 5000, |_| false, |cell, _| *cell = used);
        }
        book
    }

    #[test]
    fn what_was_written_is_read_back_and_what_is_over_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("quotas/limits.a.month");
        assert_eq!(read(&file).unwrap(), None);
        let book = book();
        write(&file, &book, Duration::ZERO).unwrap();
        let mut page = read(&file).unwrap().unwrap();
        page.rows.sort_unstable_by_key(|(key, _)| *key);
        assert_eq!((page.seed, page.rows.len()), (book.cells.seed(), 1000));
        assert_eq!(page.rows[41], (42, Used { ends: 100, count: 42, before: 7 }));
        write(&file, &book, Duration::from_hours(100 + 7 * 24)).unwrap();
        assert!(read(&file).unwrap().unwrap().rows.is_empty());
    }

    #[test]
    fn a_file_that_is_not_whole_is_none() {
        let whole = bytes(&book(), Duration::ZERO);
        assert!(page(&whole).is_some());
        for end in [0, 15, 31, 63, 64, 100, whole.len() - 1] {
            assert!(page(&whole[..end]).is_none(), "{end}");
        }
        for at in [0, 20, 40, whole.len() - 1] {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert!(page(&other).is_none(), "{at}");
        }
    }

    #[test]
    fn where_there_is_no_directory_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(&dir.path().join("none/quotas/a"), &book(), Duration::ZERO).is_err());
    }
}
