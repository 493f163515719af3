//! Takes the digests of the images again when they are booted: a file that was replaced during a run is another kernel.

use super::Start;
use luqual_files::digest;
use luqual_model::bounds::IMAGE;
use std::path::PathBuf;

/// Checks that the images of a boot are those of its record. An error names the kernel, and says what its image is now.
pub async fn unchanged_images(start: &Start<'_>) -> Result<(), String> {
    for (info, image) in start.images {
        let (path, known, name) = (image.to_owned(), info.image_sha256.clone(), info.name.clone());
        // Megabytes: do not block the event loop that watches other machines.
        let checked = tokio::task::spawn_blocking(move || unchanged(path, &known, &name)).await;
        checked.map_err(|error| error.to_string())??;
    }
    Ok(())
}

fn unchanged(path: PathBuf, known: &str, name: &str) -> Result<(), String> {
    let bytes = luqual_files::read(&path, IMAGE).map_err(|error| format!("{}: {error}", path.display()))?;
    let found = digest::of_bytes(&bytes);
    if found == known {
        return Ok(());
    }
    Err(format!(
        "the image of the kernel {name} was replaced during the run: {} had the digest {known}, and has {found}",
        path.display()
    ))
}
