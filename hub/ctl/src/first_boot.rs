//! Renders what a new droplet is given at its first boot from the operator's own file: the pin of the trust root then does
//! not rest on the hub's word.

use std::collections::BTreeMap;
use std::path::Path;

use genesis_shared::chain::Chain;
use genesis_shared::first_boot::{FirstBoot, FirstBootError, NewDroplet};
use genesis_shared::wire::DropletCreate;

use crate::error::Error;
use crate::files;

/// The file, read.
#[derive(Debug)]
pub struct Fleet {
    settings: FirstBoot,
    ca_pem: Option<String>,
    file: String,
}

impl Fleet {
    /// Reads the file, which holds what `[first_boot]` of a hub's configuration does, and the authority that it names.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Argument`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        let settings: FirstBoot = toml::from_str(&text(path)?)
            .map_err(|e| Error::Argument { what: file.clone(), why: Chain(&e).to_string() })?;
        let ca_pem = settings.hub_ca_file.as_deref().map(text).transpose()?;
        Ok(Self { settings, ca_pem, file })
    }

    /// The user-data of a droplet, with its token in it.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn user_data(&self, droplet: &DropletCreate, token: &str) -> Result<String, Error> {
        self.settings.user_data(&self.described(droplet, token)).map_err(|error| self.refused(&error))
    }

    /// The agent's configuration on a droplet.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn agent_toml(&self, droplet: &DropletCreate) -> Result<String, Error> {
        self.settings.agent_toml(&self.described(droplet, "")).map_err(|error| self.refused(&error))
    }

    fn described<'a>(&'a self, droplet: &'a DropletCreate, provisioning_token: &'a str) -> NewDroplet<'a> {
        let labels: &BTreeMap<String, String> = &droplet.labels;
        let (workspace_id, droplet_id) = (droplet.workspace_id, &droplet.droplet_id);
        NewDroplet { workspace_id, droplet_id, labels, provisioning_token, hub_ca_pem: self.ca_pem.as_deref() }
    }

    fn refused(&self, error: &FirstBootError) -> Error {
        Error::Argument { what: self.file.clone(), why: error.to_string() }
    }
}

fn text(path: &Path) -> Result<String, Error> {
    let why = || Error::Argument { what: path.display().to_string(), why: "is not text".into() };
    String::from_utf8(files::read(path)?).map_err(|_| why())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_file_and_what_is_wrong_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fleet.toml");
        let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        std::fs::write(&path, format!("hub_uri = 'https://hub'\ntrust_root_digest = '{digest}'")).unwrap();
        let error = Chain(&Fleet::read(&path).unwrap_err()).to_string();
        assert!(error.contains("fleet.toml") && error.contains("hub_uri"), "{error}");
        std::fs::write(&path, format!("hub_url = 'http://hub'\ntrust_root_digest = '{digest}'")).unwrap();
        let droplet = DropletCreate {
            workspace_id: "0192f0a1-1111-7000-8000-000000000001".parse().unwrap(),
            droplet_id: "412".parse().unwrap(),
            name: None,
            region: None,
            labels: BTreeMap::new(),
        };
        let error = Fleet::read(&path).unwrap().user_data(&droplet, "t").unwrap_err().to_string();
        assert!(error.contains("fleet.toml") && error.contains("hub_url"), "{error}");
    }
}
