//! The parts of a tenant's stack and their images, as commands, reports and the agent name them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::{Digest, IdError};

/// One container of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The database, started first.
    Postgres,
    /// The workflow engine.
    N8n,
    /// The proxy in front of it, the only one that the world reaches.
    Caddy,
}

impl Service {
    /// Every service in the order in which they start.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::N8n, Self::Caddy];

    /// The name on the wire, and its host name on the stack's network.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::N8n => "n8n",
            Self::Caddy => "caddy",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An image pinned by digest, `repository[:tag]@sha256:…` (OCI distribution specification, "Pulling manifests").
///
/// The digest is what counts; the tag is for people. An engine that was filled without a registry knows no digest of a
/// manifest: there the image's own id stands for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    name: String,
    digest: Digest,
}

impl ImageRef {
    /// Repository and tag, without the digest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Repository without tag and digest.
    pub fn repository(&self) -> &str {
        match self.name.rfind(':') {
            // A colon before the last slash is a registry's port.
            Some(colon) if !self.name[colon..].contains('/') => &self.name[..colon],
            _ => &self.name,
        }
    }

    /// What pins it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// `repository@sha256:…`, what a pull asks for.
    pub fn pinned(&self) -> String {
        format!("{}@{}", self.repository(), self.digest)
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.digest)
    }
}

impl FromStr for ImageRef {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let refused = || IdError::new(text, "an image with its digest: repository[:tag]@sha256:…");
        let (name, digest) = text.split_once('@').ok_or_else(refused)?;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':');
        let fits = (1..=255).contains(&name.len())
            && name.as_bytes()[0].is_ascii_alphanumeric()
            && name.bytes().all(is_plain)
            && !name.contains("//");
        if !fits {
            return Err(refused());
        }
        Ok(Self { name: name.to_owned(), digest: digest.parse().map_err(|_| refused())? })
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn an_image_is_pinned_by_its_digest_whatever_its_tag() {
        let image: ImageRef = format!("registry.example:5000/n8nio/n8n:2.8.4@{DIGEST}").parse().unwrap();
        assert_eq!(image.repository(), "registry.example:5000/n8nio/n8n");
        assert_eq!(image.pinned(), format!("registry.example:5000/n8nio/n8n@{DIGEST}"));
        let untagged: ImageRef = format!("registry.example:5000/caddy@{DIGEST}").parse().unwrap();
        assert_eq!(untagged.repository(), "registry.example:5000/caddy");
        let json = serde_json::to_string(&image).unwrap();
        assert_eq!(serde_json::from_str::<ImageRef>(&json).unwrap(), image);
    }

    #[test]
    fn refuses_an_image_without_a_digest_or_with_a_strange_name() {
        for text in ["n8nio/n8n:latest", "n8nio/n8n@sha256:12", "@sha256:12", "a b@", &format!("-x@{DIGEST}")] {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
        assert!(format!("a//b@{DIGEST}").parse::<ImageRef>().is_err());
    }
}
