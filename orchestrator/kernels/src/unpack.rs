//! Unpacks a source package or tarball.

use crate::error::KernelError;
use crate::progress::BuildProgress;
use luqual_model::bounds::{DECOMPRESSOR, PACKAGES};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Unpacks a `linux-source` .deb or a tarball into `folder`, and returns the top of the tree.
pub(crate) async fn unpack(
    package: &Path,
    folder: &Path,
    progress: &dyn BuildProgress,
) -> Result<PathBuf, KernelError> {
    let wrong = |why: String| KernelError::Package { path: package.to_owned(), why };
    let file = File::open(package).map_err(KernelError::file(package))?;
    let length = file.metadata().map_err(KernelError::file(package))?.len();
    let read = Rc::new(Cell::new(0));
    let file = BufReader::with_capacity(1 << 20, Counted { inner: file, read: read.clone() });
    progress.start("unpacking", Some(length));
    if package.extension().is_some_and(|extension| extension == "deb") {
        let mut archive = ar::Archive::new(file);
        while let Some(member) = archive.next_entry() {
            let member = member.map_err(|error| wrong(error.to_string()))?;
            if !member.header().identifier().starts_with(b"data.tar") {
                continue;
            }
            let mut data = tar::Archive::new(opened(member).map_err(|error| wrong(error.to_string()))?);
            for entry in data.entries().map_err(|error| wrong(error.to_string()))? {
                let entry = entry.map_err(|error| wrong(error.to_string()))?;
                let is_source = entry.path().is_ok_and(|path| {
                    let path = path.to_string_lossy();
                    path.contains("usr/src/linux-source-") && path.contains(".tar")
                });
                if is_source {
                    return tree(entry, folder, &read, progress).await.map_err(|error| failed(error, package, folder));
                }
            }
        }
        return Err(wrong("the package has no usr/src/linux-source-*.tar.*".to_owned()));
    }
    tree(file, folder, &read, progress).await.map_err(|error| failed(error, package, folder))
}

/// The error of an unpack: a full disk is reported for `folder`, anything else for `package`.
fn failed(error: io::Error, package: &Path, folder: &Path) -> KernelError {
    let full = error.kind() == io::ErrorKind::StorageFull || error.to_string().contains("os error 28");
    if full {
        KernelError::file(folder)(io::Error::from_raw_os_error(28))
    } else {
        KernelError::Package { path: package.to_owned(), why: format!("unpacking: {error}") }
    }
}

async fn tree(packed: impl Read, folder: &Path, read: &Cell<u64>, progress: &dyn BuildProgress) -> io::Result<PathBuf> {
    let mut archive = tar::Archive::new(opened(packed)?);
    archive.set_preserve_mtime(false);
    for (number, entry) in archive.entries()?.enumerate() {
        // unpack_in does not write outside of the folder.
        entry?.unpack_in(folder)?;
        if number % 200 == 0 {
            progress.at(read.get());
            // The user can end the command here.
            tokio::task::yield_now().await;
        }
    }
    progress.end();
    let mut tops =
        fs::read_dir(folder)?.flatten().map(|entry| entry.path()).filter(|path| path.join("Kbuild").exists());
    tops.next().ok_or_else(|| io::Error::other("the archive has no kernel source tree"))
}

/// Reads the files of a .deb: its data.tar, unpacked.
pub(crate) fn deb_data<T>(package: impl Read, read: impl FnOnce(&mut dyn Read) -> io::Result<T>) -> io::Result<T> {
    let mut archive = ar::Archive::new(package);
    while let Some(member) = archive.next_entry() {
        let member = member?;
        if member.header().identifier().starts_with(b"data.tar") {
            return read(&mut opened(member)?);
        }
    }
    Err(io::Error::other("it has no data.tar, as a package of Debian has"))
}

/// Unpacks a stream; its first bytes tell the compression.
pub(crate) fn opened<'a>(mut packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = [0; 6];
    packed.read_exact(&mut magic)?;
    let whole = io::Cursor::new(magic).chain(packed);
    Ok(match magic {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            let stream = liblzma::stream::Stream::new_stream_decoder(DECOMPRESSOR, 0)?;
            Box::new(liblzma::read::XzDecoder::new_stream(whole, stream))
        }
        [0x1f, 0x8b, ..] => Box::new(flate2::read::GzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(
            ruzstd::decoding::StreamingDecoder::new(whole).map_err(|error| io::Error::other(error.to_string()))?,
        ),
        _ => Box::new(whole),
    })
}

/// Reads what is behind an archive's end, so that the decompressor sees whether its checksum is right.
pub(crate) fn to_the_end(unpacked: impl Read) -> io::Result<()> {
    io::copy(&mut unpacked.take(PACKAGES), &mut io::sink()).map(drop)
}

struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(bytes)?;
        self.read.set(self.read.get() + length as u64);
        Ok(length)
    }
}
