//! Downloads, which are resumed after an error and verified by their digest.

use crate::base::{self, Base, Origin, Whole};
use crate::catalog::{Entry, Source};
use crate::debian::DebianPackage;
use crate::error::KernelError;
use crate::lock;
use crate::progress::BuildProgress;
use futures_util::StreamExt;
use luqual_files::digest;
use luqual_model::ARCH;
use reqwest::StatusCode;
use reqwest::header::RANGE;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a build takes from elsewhere.
pub(crate) struct Fetched {
    /// The package or tarball with the source; `None` for a source on this host.
    pub(crate) package: Option<PathBuf>,
    /// The whole configuration that it starts from; `None` for allnoconfig.
    pub(crate) config: Option<String>,
}

/// Where downloads come from, and where they are kept.
pub(crate) struct Downloads<'a> {
    /// The Debian mirror, if the user gave one.
    pub(crate) mirror: Option<&'a str>,
    pub(crate) folder: PathBuf,
}

impl Downloads<'_> {
    /// Downloads what an entry needs, unless it is there.
    pub(crate) async fn of(&self, entry: &Entry, progress: &dyn BuildProgress) -> Result<Fetched, KernelError> {
        let package = self.source(&entry.source, progress).await?;
        let config = match &entry.base {
            Base::AllNo => None,
            Base::Whole(Whole { from: Origin::File(text), .. }) => Some(text.clone()),
            Base::Whole(Whole { name, from: Origin::Debian(package), .. }) => {
                Some(base::in_package(&self.debian(package, ARCH.debian, progress).await?, name)?)
            }
        };
        Ok(Fetched { package, config })
    }

    async fn source(&self, source: &Source, progress: &dyn BuildProgress) -> Result<Option<PathBuf>, KernelError> {
        match source {
            Source::Tree(_) | Source::Commit { .. } => Ok(None),
            Source::Debian(package) => self.debian(package, "all", progress).await.map(Some),
            Source::Tarball { url, sha256 } => {
                self.file(url, url.rsplit('/').next().unwrap_or("source"), sha256, progress).await.map(Some)
            }
        }
    }

    async fn debian(
        &self,
        package: &DebianPackage,
        architecture: &str,
        progress: &dyn BuildProgress,
    ) -> Result<PathBuf, KernelError> {
        let name = package.file_name(architecture);
        let url = format!("{}/pool/main/l/linux/{name}", debian_mirror(self.mirror));
        self.file(&url, &name, &package.sha256, progress).await
    }

    async fn file(
        &self,
        url: &str,
        name: &str,
        sha256: &str,
        progress: &dyn BuildProgress,
    ) -> Result<PathBuf, KernelError> {
        fs::create_dir_all(&self.folder).map_err(KernelError::file(&self.folder))?;
        let file = self.folder.join(name);
        fetch(url, sha256, &file, progress).await?;
        Ok(file)
    }
}

/// Downloads `url` (http, https, file) to `file`, unless it is there. A file with another digest is removed.
async fn fetch(url: &str, sha256: &str, file: &Path, progress: &dyn BuildProgress) -> Result<(), KernelError> {
    let part = part_of(file);
    while !file.exists() {
        // Several kernels can have the same source: one process downloads it, and the others wait.
        let Some(open) = take_part(&part, progress).await? else { continue };
        if file.exists() {
            // Another process finished the download before this one had the lock; the new part is empty.
            let _ = fs::remove_file(&part);
            break;
        }
        match url.strip_prefix("file://") {
            Some(path) => copy(Path::new(path), &open, &part)?,
            None => download(url, &open, &part, progress).await?,
        }
        // A process that waits for the lock then sees that the file was renamed.
        check(url, sha256, &part, progress).await?;
        return fs::rename(&part, file).map_err(KernelError::file(file));
    }
    check(url, sha256, file, progress).await
}

/// Opens and locks the partial file of a download; `None` if the previous owner has renamed or removed it.
async fn take_part(part: &Path, progress: &dyn BuildProgress) -> Result<Option<File>, KernelError> {
    let open = File::options().create(true).write(true).truncate(false).open(part).map_err(KernelError::file(part))?;
    let name = part.file_stem().unwrap_or_default().to_string_lossy();
    let open = lock::wait_for(open, part, &format!("downloads {name}"), progress).await?;
    let (ours, there) = (open.metadata().map_err(KernelError::file(part))?, fs::metadata(part).ok());
    let is_there = there.is_some_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
    Ok(is_there.then_some(open))
}

/// Checks the digest of a file, and removes the file if it is not the catalog's.
async fn check(url: &str, sha256: &str, file: &Path, progress: &dyn BuildProgress) -> Result<(), KernelError> {
    progress.start("checking the digest", None);
    let path = file.to_owned();
    let read = tokio::task::spawn_blocking(move || digest::of_file(&path)).await;
    let observed = read.map_err(io::Error::other).and_then(|read| read).map_err(KernelError::file(file))?;
    progress.end();
    if observed == sha256 {
        return Ok(());
    }
    match fs::remove_file(file) {
        // Another luqual removed it already.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(KernelError::file(file)(error)),
        Ok(()) | Err(_) => {}
    }
    Err(KernelError::WrongDigest { url: url.to_owned(), expected: sha256.to_owned(), observed })
}

fn part_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    file.with_file_name(name)
}

/// Copies a file that the user named: the mirror is a folder, or the catalog has a local tarball.
fn copy(from: &Path, mut to: &File, part: &Path) -> Result<(), KernelError> {
    let mut source = luqual_files::open(from).map_err(KernelError::named(from))?;
    to.set_len(0).map_err(KernelError::file(part))?;
    io::copy(&mut source, &mut to).map(drop).map_err(KernelError::file(part))
}

/// Continues a download at the end of `part`, which is open as `file`.
async fn download(url: &str, mut file: &File, part: &Path, progress: &dyn BuildProgress) -> Result<(), KernelError> {
    let failed = |why: String| KernelError::Download { url: url.to_owned(), why };
    // An error means that a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(30))
        // The limit between two chunks: a mirror that is silent for a minute is treated as gone.
        .read_timeout(Duration::from_secs(60))
        .build()
        .map_err(|error| failed(causes(&error)))?;
    let mut have = fs::metadata(part).map_or(0, |metadata| metadata.len());
    let mut request = client.get(url);
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let response = request.send().await.map_err(|error| failed(causes(&error)))?;
    let status = response.status();
    if status == StatusCode::RANGE_NOT_SATISFIABLE {
        // The file was complete already.
        return Ok(());
    }
    if !status.is_success() {
        return Err(failed(format!("the server answered {status}")));
    }
    if status != StatusCode::PARTIAL_CONTENT {
        have = 0;
        file.set_len(0).map_err(KernelError::file(part))?;
    }
    file.seek(SeekFrom::Start(have)).map_err(KernelError::file(part))?;
    let total = response.content_length().map(|rest| rest + have);
    let name = url.rsplit('/').next().unwrap_or(url);
    progress.start(&format!("downloading {name}"), total);
    progress.at(have);
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece =
            piece.map_err(|error| failed(format!("the download ended after {have} bytes: {}", causes(&error))))?;
        file.write_all(&piece).map_err(KernelError::file(part))?;
        have += piece.len() as u64;
        progress.at(have);
    }
    progress.end();
    match total {
        Some(total) if total != have => Err(failed(format!("the download ended after {have} of {total} bytes"))),
        _ => Ok(()),
    }
}

/// The causes of an error; reqwest's own message omits them.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

/// The default mirror, Debian's own, if the host's apt names none.
const DEFAULT_MIRROR: &str = "https://deb.debian.org/debian";

/// The Debian mirror: the requested one, or the first in the host's apt configuration.
fn debian_mirror(asked: Option<&str>) -> String {
    if let Some(asked) = asked {
        let is_url = asked.contains("://");
        return if is_url { asked.to_owned() } else { format!("file://{asked}") };
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()));
    files.sort();
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    texts.into_iter().find_map(|text| mirror_in(&text)).unwrap_or_else(|| DEFAULT_MIRROR.to_owned())
}

/// The first Debian archive in a sources.list(5) of either format: its path ends in `/debian`.
fn mirror_in(text: &str) -> Option<String> {
    let uris = text.lines().map(str::trim).filter_map(|line| {
        let one_line = line.strip_prefix("deb ").or_else(|| line.strip_prefix("deb-src "));
        one_line.or_else(|| line.strip_prefix("URIs:"))
    });
    uris.flat_map(str::split_whitespace)
        .map(|uri| uri.trim_end_matches('/'))
        .find(|uri| uri.starts_with("http") && uri.ends_with("/debian"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests;
