//! Made-up values of a made-up tenant: the right shape for n8n, and nobody's.

use std::collections::BTreeMap;

use genesis_shared::id::CredentialType;
use genesis_shared::secret::Secret;
use serde_json::{Value, json};

use crate::error::Error;
use crate::ignition::{Template, Tenant};
use crate::sealing::Recipient;

/// The made-up secret variable; sealed, it may appear nowhere in the clear outside n8n.
pub const WEBHOOK_TOKEN: &str = "demo-webhook-token-7f3a91c2";

/// A tenant that brings everything that the template asks for.
///
/// # Errors
/// [`Error::Template`] for a credential type that this demo knows no data for.
pub fn tenant(template: &Template, recipient: Recipient) -> Result<Tenant, Error> {
    let seal = |(placeholder, kind): (String, CredentialType)| {
        let data = data(&placeholder, &kind)
            .ok_or_else(|| Error::Template(format!("the demo has no made-up data for type {kind}")))?;
        Ok((placeholder, Secret::new(data.to_string().into_bytes())))
    };
    let workspace = recipient.workspace.to_string();
    let variables = [
        ("YOUR_DASHBOARD_URL", "https://dashboard.example.com"),
        ("YOUR_SENDER_EMAIL", "mara@example.com"),
        ("YOUR_NAME", "Mara \"M.\" Müller"),
        ("YOUR_COMPANY_NAME", "Example & Söhne"),
        ("YOUR_CALENDLY_LINK_1", "https://calendly.com/example/30min"),
        ("YOUR_SUPABASE_URL", "https://example.supabase.co"),
        ("YOUR_WORKSPACE_ID", &workspace),
        ("YOUR_LEADS_TABLE", "leads_demo"),
    ];
    Ok(Tenant {
        recipient,
        credentials: template.placeholders()?.into_iter().map(seal).collect::<Result<BTreeMap<_, _>, Error>>()?,
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        secret_variables: BTreeMap::from([("YOUR_WEBHOOK_TOKEN".to_owned(), Secret::new(WEBHOOK_TOKEN.to_owned()))]),
    })
}

/// n8n's `data` object for a type, with every member that n8n's schema demands and none that it forbids.
fn data(placeholder: &str, kind: &CredentialType) -> Option<Value> {
    let key = format!("demo-{}", placeholder.to_ascii_lowercase().replace('_', "-"));
    Some(match kind.as_str() {
        "gmailOAuth2" | "googleSheetsOAuth2Api" => json!({
            "clientId": "demo.apps.example.com", "clientSecret": key, "serverUrl": "",
            "sendAdditionalBodyProperties": false, "additionalBodyProperties": "",
            "oauthTokenData": {
                "access_token": "demo-access", "refresh_token": "demo-refresh", "expires_in": 3599,
                "token_type": "Bearer", "scope": "https://www.googleapis.com/auth/gmail.send"
            }
        }),
        "openAiApi" | "anthropicApi" => json!({ "apiKey": key, "header": false }),
        "supabaseApi" => json!({ "host": "https://example.supabase.co", "serviceRole": key }),
        "smtp" => json!({
            "host": "smtp.example.com", "port": 587, "user": "mara@example.com", "password": key, "secure": true
        }),
        "httpHeaderAuth" => json!({ "name": "Authorization", "value": format!("Bearer {key}") }),
        "postgres" => json!({
            "host": "db.example.com", "database": "leads", "user": "demo", "password": key, "port": 5432,
            "ssl": "disable", "sshTunnel": false
        }),
        _ => return None,
    })
}
