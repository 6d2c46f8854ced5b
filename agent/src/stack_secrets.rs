//! The secrets of the tenant's stack: made on the droplet at first start, never anywhere else. They leave it only sealed
//! to the recovery key.

use data_encoding::HEXLOWER;
use genesis_shared::report::EscrowContent;
use genesis_shared::secret::Secret;

use crate::ports::{Entropy, FileError, Files};

/// File names within the data folder.
const N8N_ENCRYPTION_KEY_FILE: &str = "n8n-encryption-key";
const POSTGRES_PASSWORD_FILE: &str = "postgres-password";

/// The secrets, each 64 hexadecimal digits.
pub struct StackSecrets {
    /// What n8n encrypts its credentials with (`N8N_ENCRYPTION_KEY`).
    pub n8n_encryption_key: Secret<String>,
    /// The password of n8n's database.
    pub postgres_password: Secret<String>,
}

impl StackSecrets {
    /// Reads the secrets, making those that are missing.
    ///
    /// # Errors
    /// A file cannot be read or written. One that cannot be read is never replaced: a new encryption key would make
    /// every credential in n8n unreadable.
    pub fn load_or_create(files: &impl Files, entropy: &impl Entropy) -> Result<Self, FileError> {
        Ok(Self {
            n8n_encryption_key: text_file(files, entropy, N8N_ENCRYPTION_KEY_FILE)?,
            postgres_password: text_file(files, entropy, POSTGRES_PASSWORD_FILE)?,
        })
    }

    /// What is deposited for the recovery key, as JSON.
    pub fn escrow(&self) -> Secret<Vec<u8>> {
        let content = EscrowContent {
            n8n_encryption_key: self.n8n_encryption_key.expose().clone(),
            postgres_password: self.postgres_password.expose().clone(),
        };
        Secret::new(serde_json::to_vec(&content).expect("two texts have a JSON form"))
    }
}

fn text_file(files: &impl Files, entropy: &impl Entropy, name: &'static str) -> Result<Secret<String>, FileError> {
    if let Some(content) = files.read_secret(name)? {
        let text = String::from_utf8(content.expose().clone()).ok().filter(|text| !text.trim().is_empty());
        return text.map(|text| Secret::new(text.trim().to_owned())).ok_or_else(|| FileError {
            operation: "read",
            path: name.to_owned(),
            source: std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "it is empty or no text; restore it from the escrow",
            ),
        });
    }
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    let text = HEXLOWER.encode(&bytes);
    files.write_secret(name, &Secret::new(text.clone().into_bytes()))?;
    Ok(Secret::new(text))
}
