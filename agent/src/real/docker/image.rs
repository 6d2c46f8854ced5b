//! Images: found by digest or id, brought by digest, removed when nobody needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bollard::models::ImageSummary;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptions, RemoveImageOptions,
};
use futures_util::StreamExt;
use genesis_shared::stack::ImageRef;

use super::failure::{Fate, failed, silent};
use super::{Docker, MIB};
use crate::ports::stack::ImageInfo;
use crate::ports::{EffectError, ErrorKind};
use crate::real::host;

/// How long a pull may be without any news: the engine tells of its progress every second while bytes come, and
/// unpacking a layer of a gigabyte on a slow disk takes a minute or two.
const PULL_SILENCE: Duration = Duration::from_secs(300);
/// How long a pull may take in all: 2 GB at 1 MB/s is half an hour, twice that.
const PULL_TIMEOUT: Duration = Duration::from_secs(3600);

impl Docker {
    /// The image by its digest in a registry, or, where it came without one, by its own id.
    pub(super) async fn find_image(&self, image: &ImageRef) -> Result<Option<ImageInfo>, EffectError> {
        for name in [image.pinned(), image.digest().to_string()] {
            let call = |client: bollard::Docker| async move { client.inspect_image(&name).await };
            let Some(found) = self.settle("look at an image", call).await?.done() else { continue };
            let env = found.config.and_then(|config| config.env).unwrap_or_default();
            let env = env.iter().filter_map(|line| line.split_once('='));
            return Ok(Some(ImageInfo {
                id: found.id.unwrap_or_default(),
                size_mb: found.size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default() / MIB,
                env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
            }));
        }
        Ok(None)
    }

    pub(super) async fn bring_image(&self, image: &ImageRef) -> Result<ImageInfo, EffectError> {
        if let Some(there) = self.find_image(image).await? {
            return Ok(there);
        }
        match tokio::time::timeout(PULL_TIMEOUT, self.pull_to_its_end(image)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(silent("pull an image", PULL_TIMEOUT)),
        }
        self.find_image(image).await?.ok_or_else(|| {
            let message = format!("the registry gave something else for {image}; check name and digest");
            EffectError::new(ErrorKind::Permanent, "image_not_found", message)
        })
    }

    async fn pull_to_its_end(&self, image: &ImageRef) -> Result<(), EffectError> {
        let doing = format!("pull {image}");
        let digest = image.digest().to_string();
        let options = CreateImageOptionsBuilder::new().from_image(image.repository()).tag(&digest).build();
        let client = self.client(PULL_SILENCE)?;
        let mut progress = client.create_image(Some(options), None, None);
        loop {
            match tokio::time::timeout(PULL_SILENCE, progress.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(news)) => news.map_err(|error| not_brought(&doing, &error))?,
                Err(_) => return Err(silent(&doing, PULL_SILENCE)),
            };
        }
    }

    /// Removes images by their names, never by force: the engine then refuses to take one from a container that came
    /// into being meanwhile.
    pub(super) async fn prune_images(&self, keep: &[ImageRef]) -> Result<u64, EffectError> {
        let mut kept = BTreeSet::new();
        for image in keep {
            kept.extend(self.find_image(image).await?.map(|found| found.id));
        }
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let call = |client: bollard::Docker| async move { client.list_containers(Some(options)).await };
        let containers = self.ask("list containers", call).await?;
        kept.extend(containers.into_iter().filter_map(|container| container.image_id));

        let call = |client: bollard::Docker| async move { client.list_images(None::<ListImagesOptions>).await };
        let images = self.ask("list images", call).await?;
        let root = self.ask("ask the engine who it is", |client| async move { client.info().await }).await?;
        let root = root.docker_root_dir.unwrap_or_default();
        let free_before = host::free_bytes(root.as_ref());
        let mut removed = 0;
        for image in images.iter().filter(|image| !kept.contains(&image.id)) {
            if self.remove_image(image).await? {
                removed += u64::try_from(image.size).unwrap_or_default();
            }
        }
        // Layers may be shared, so sizes say too much; what the disk shows is what counts.
        Ok(match (free_before, host::free_bytes(root.as_ref())) {
            (Some(before), Some(after)) if removed > 0 => after.saturating_sub(before),
            _ => removed,
        })
    }

    /// Whether it is gone.
    async fn remove_image(&self, image: &ImageSummary) -> Result<bool, EffectError> {
        let is_name = |name: &&String| !name.contains("<none>");
        let mut names: Vec<&String> = image.repo_tags.iter().chain(&image.repo_digests).filter(is_name).collect();
        names.push(&image.id);
        for name in names {
            let name = name.clone();
            let options = None::<RemoveImageOptions>;
            let call = |client: bollard::Docker| async move { client.remove_image(&name, options, None).await };
            match self.settle("remove an image", call).await? {
                // Its last name took it along.
                Fate::Done(_) | Fate::Missing => {}
                Fate::Already => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// "Not found" at a pull is the registry's word, whatever the engine calls it.
fn not_brought(doing: &str, error: &bollard::errors::Error) -> EffectError {
    let failed = failed(doing, error);
    let is_unnamed = matches!(failed.code, "engine_refused" | "image_missing");
    if is_unnamed && failed.message.to_lowercase().contains("not found") {
        return EffectError { code: "image_not_found", ..failed };
    }
    failed
}
