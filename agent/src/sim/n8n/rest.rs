//! The internal API under `/rest`, as far as setting up the instance needs it.

use serde_json::{Map, Value, json};

use super::{
    answer::{Answer, Outcome, Request},
    model::{ApiKey, N8n, Owner},
    seed::iso,
};

/// Attempts to log in with one address within [`LOGIN_WINDOW_MS`]; good ones count too.
const LOGIN_ATTEMPTS_MAX: u32 = 5;
const LOGIN_WINDOW_MS: u64 = 60_000;

/// The scopes of an unlicensed owner's key, whatever was asked for.
const SCOPES: &str = "credential:create credential:delete credential:list credential:move credential:update \
    dataTable:create dataTable:delete dataTable:list dataTable:read dataTable:update project:create project:delete \
    project:list project:update securityAudit:generate sourceControl:pull tag:create tag:delete tag:list tag:read \
    tag:update user:changeRole user:create user:delete user:enforceMfa user:list user:read variable:create \
    variable:delete variable:list variable:update workflow:create workflow:delete workflow:list workflow:move \
    workflow:read workflow:update workflowTags:update workflowTags:list workflow:activate workflow:deactivate \
    execution:delete execution:read execution:retry execution:list dataTableRow:create dataTableRow:read \
    dataTableRow:update dataTableRow:delete dataTableRow:upsert";

/// Answers a request under `/rest`.
///
/// # Errors
/// The refusal, as an answer.
pub fn handle(n8n: &mut N8n, request: &Request) -> Outcome {
    let body = n8n.parse_body(request)?.unwrap_or(Value::Null);
    let signed_in = signed_in(n8n, request);
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/rest/settings") => return Ok(settings(n8n, signed_in)),
        ("POST", "/rest/owner/setup") => return set_up_owner(n8n, &body),
        ("POST", "/rest/login") => return log_in(n8n, &body),
        _ => {}
    }
    let key_id = request.path.strip_prefix("/rest/api-keys/");
    let known = matches!(request.path.as_str(), "/rest/api-keys" | "/rest/credentials" | "/rest/login");
    if !known && key_id.is_none() {
        return Err(Answer::cannot(&request.method, &request.path));
    }
    if !signed_in {
        return Err(Answer::json(401, &json!({ "status": "error", "message": "Unauthorized" })));
    }
    match (request.method.as_str(), request.path.as_str(), key_id) {
        ("GET", "/rest/login", _) => Ok(Answer::ok(&json!({ "data": user(n8n) }))),
        ("GET", "/rest/credentials", _) => Ok(list_credentials(n8n)),
        ("GET", "/rest/api-keys", _) => {
            let keys: Vec<_> = n8n.api_keys.iter().map(|key| api_key(n8n, key, false)).collect();
            Ok(Answer::ok(&json!({ "data": keys })))
        }
        ("POST", "/rest/api-keys", _) => create_api_key(n8n, &body),
        ("DELETE", _, Some(id)) => {
            n8n.api_keys.retain(|key| key.id != id);
            Ok(Answer::ok(&json!({ "data": { "success": true } })))
        }
        _ => Err(Answer::cannot(&request.method, &request.path)),
    }
}

fn signed_in(n8n: &N8n, request: &Request) -> bool {
    let cookies = request.header_value("cookie").unwrap_or_default();
    cookies
        .split(';')
        .filter_map(|cookie| cookie.trim().strip_prefix("n8n-auth="))
        .any(|token| n8n.sessions.iter().any(|known| known == token))
}

fn settings(n8n: &N8n, signed_in: bool) -> Answer {
    let users = json!({
        "authenticationMethod": "email", "showSetupOnFirstLoad": n8n.owner.is_none(), "smtpSetup": false
    });
    let base = &n8n.config.webhook_base;
    let data = if signed_in {
        json!({
            "settingsMode": "authenticated", "databaseType": "sqlite", "endpointWebhook": "webhook",
            "endpointWebhookTest": "webhook-test", "executionTimeout": -1, "timezone": "America/New_York",
            "urlBaseWebhook": base, "urlBaseEditor": base.trim_end_matches('/'),
            "versionCli": n8n.config.version, "concurrency": -1, "authCookie": { "secure": true },
            "instanceId": "5".repeat(64), "personalizationSurveyEnabled": false, "defaultLocale": "en",
            "userManagement": users,
            "publicApi": { "enabled": true, "latestVersion": 1, "path": "api", "swaggerUi": { "enabled": true } },
            "executionMode": "regular", "license": { "planName": "Community", "environment": "production" }
        })
    } else {
        json!({
            "settingsMode": "public", "defaultLocale": "en", "userManagement": users,
            "sso": {
                "saml": { "loginEnabled": false }, "ldap": { "loginEnabled": false, "loginLabel": "" },
                "oidc": { "loginEnabled": false, "loginUrl": format!("{base}rest/sso/oidc/login") }
            },
            "authCookie": { "secure": true }, "previewMode": false,
            "enterprise": { "saml": false, "ldap": false, "oidc": false }, "communityNodesEnabled": true
        })
    };
    Answer::ok(&json!({ "data": data }))
}

fn required(body: &Value, name: &str, wanted: &str) -> Result<String, Answer> {
    let received = match body.get(name) {
        Some(Value::String(text)) => return Ok(text.clone()),
        None => "undefined",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(_)) => "number",
        Some(Value::Array(_)) => "array",
        Some(Value::Object(_)) => "object",
    };
    let message =
        if received == "undefined" { "Required".to_owned() } else { format!("Expected {wanted}, received {received}") };
    Err(Answer::json(
        400,
        &json!({
            "code": "invalid_type", "expected": wanted, "received": received, "path": [name], "message": message
        }),
    ))
}

fn bad_password(message: &str) -> Answer {
    Answer::json(400, &json!({ "code": "custom", "message": message, "path": ["password"] }))
}

fn set_up_owner(n8n: &mut N8n, body: &Value) -> Outcome {
    if n8n.owner.is_some() {
        return Err(Answer::coded(400, 400, "Instance owner already setup"));
    }
    let email = required(body, "email", "string")?;
    if !email.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.')) {
        return Err(Answer::json(
            400,
            &json!({
                "validation": "email", "code": "invalid_string", "message": "Invalid email", "path": ["email"]
            }),
        ));
    }
    let first_name = required(body, "firstName", "string")?;
    let last_name = required(body, "lastName", "string")?;
    let password = required(body, "password", "string")?;
    let length = password.chars().count();
    if !(8..=64).contains(&length) {
        let (code, bound, limit) = if length < 8 { ("too_small", "minimum", 8) } else { ("too_big", "maximum", 64) };
        return Err(Answer::json(
            400,
            &json!({
                "code": code, bound: limit, "type": "string", "inclusive": true, "exact": false,
                "message": "Password must be 8 to 64 characters long.", "path": ["password"]
            }),
        ));
    }
    if !password.contains(|letter: char| letter.is_ascii_digit()) {
        return Err(bad_password("Password must contain at least 1 number."));
    }
    if !password.contains(|letter: char| letter.is_ascii_uppercase()) {
        return Err(bad_password("Password must contain at least 1 uppercase letter."));
    }
    let (id, project_id, created_at) = (n8n.seed.uuid(), n8n.seed.id(), n8n.seed.now_ms());
    n8n.owner = Some(Owner { id, project_id, email, first_name, last_name, password, created_at });
    Ok(sign_in(n8n))
}

fn log_in(n8n: &mut N8n, body: &Value) -> Outcome {
    let id = required(body, "emailOrLdapLoginId", "string")?;
    let now = n8n.seed.now_ms();
    let (since, attempts) = n8n.logins.entry(id.clone()).or_insert((now, 0));
    if now >= since.saturating_add(LOGIN_WINDOW_MS) {
        (*since, *attempts) = (now, 0);
    }
    *attempts += 1;
    if *attempts > LOGIN_ATTEMPTS_MAX {
        return Err(Answer::html(429, "Too many requests, please try again later."));
    }
    let password = required(body, "password", "string")?;
    let right = n8n.owner.as_ref().is_some_and(|owner| owner.email == id && owner.password == password);
    if !right {
        return Err(Answer::coded(401, 401, "Wrong username or password. Do you have caps lock on?"));
    }
    Ok(sign_in(n8n))
}

fn sign_in(n8n: &mut N8n) -> Answer {
    let subject = n8n.owner.as_ref().map(|owner| owner.id.clone()).unwrap_or_default();
    let token = n8n.seed.jwt(&subject, "n8n");
    n8n.sessions.push(token.clone());
    let mut answer = Answer::ok(&json!({ "data": user(n8n) }));
    answer.set_cookie = Some(format!(
        "n8n-auth={token}; Max-Age=604800; Path=/; Expires=Thu, 01 Jan 2099 00:00:00 GMT; HttpOnly; Secure; SameSite=Lax"
    ));
    answer
}

fn user(n8n: &N8n) -> Value {
    let Some(owner) = &n8n.owner else { return Value::Null };
    json!({
        "createdAt": iso(owner.created_at), "id": owner.id, "email": owner.email, "firstName": owner.first_name,
        "lastName": owner.last_name, "personalizationAnswers": null, "settings": { "userActivated": false },
        "disabled": false, "mfaEnabled": false, "isPending": false, "role": "global:owner", "signInType": "email",
        "isOwner": true, "featureFlags": {}, "globalScopes": ["apiKey:manage", "credential:create", "workflow:create"]
    })
}

fn create_api_key(n8n: &mut N8n, body: &Value) -> Outcome {
    let label = required(body, "label", "string")?;
    if label.is_empty() {
        return Err(Answer::json(
            400,
            &json!({
                "code": "too_small", "minimum": 1, "type": "string", "inclusive": true, "exact": false,
                "message": "String must contain at least 1 character(s)", "path": ["label"]
            }),
        ));
    }
    let scopes = body.get("scopes").and_then(Value::as_array);
    let Some(scopes) = scopes else {
        return Err(required(body, "scopes", "array").err().unwrap_or_else(|| bad_password("Invalid scopes")));
    };
    if scopes.is_empty() {
        return Err(Answer::json(
            400,
            &json!({
                "code": "too_small", "minimum": 1, "type": "array", "inclusive": true, "exact": false,
                "message": "Array must contain at least 1 element(s)", "path": ["scopes"]
            }),
        ));
    }
    let expires_at = match body.get("expiresAt") {
        Some(Value::Null) => None,
        Some(Value::Number(number)) => Some(number.as_u64().unwrap_or(0)),
        _ => {
            return Err(required(body, "expiresAt", "number")
                .err()
                .unwrap_or_else(|| Answer::message(400, "expiresAt")));
        }
    };
    let now = n8n.seed.now_ms();
    if expires_at.is_some_and(|seconds| seconds <= now / 1000) {
        let message = "Expiration date must be in the future or null";
        return Err(Answer::json(400, &json!({ "code": "custom", "message": message, "path": ["expiresAt"] })));
    }
    if n8n.api_keys.iter().any(|key| key.label == label) {
        return Err(Answer::coded(500, 0, "There is already an entry with this name"));
    }
    let subject = n8n.owner.as_ref().map(|owner| owner.id.clone()).unwrap_or_default();
    let key =
        ApiKey { id: n8n.seed.id(), label, raw: n8n.seed.jwt(&subject, "public-api"), expires_at, created_at: now };
    let answer = Answer::ok(&json!({ "data": api_key(n8n, &key, true) }));
    n8n.api_keys.push(key);
    Ok(answer)
}

fn api_key(n8n: &N8n, key: &ApiKey, fresh: bool) -> Value {
    let last = key.raw.get(key.raw.len().saturating_sub(4)..).unwrap_or_default();
    let mut shown = Map::new();
    shown.insert("updatedAt".to_owned(), iso(key.created_at));
    shown.insert("createdAt".to_owned(), iso(key.created_at));
    shown.insert("id".to_owned(), json!(key.id));
    shown.insert("userId".to_owned(), json!(n8n.owner.as_ref().map(|owner| &owner.id)));
    shown.insert("label".to_owned(), json!(key.label));
    shown.insert("scopes".to_owned(), SCOPES.split_whitespace().collect());
    shown.insert("apiKey".to_owned(), json!(format!("******{last}")));
    shown.insert("audience".to_owned(), json!("public-api"));
    if fresh {
        shown.insert("rawApiKey".to_owned(), json!(key.raw));
    }
    shown.insert("expiresAt".to_owned(), json!(key.expires_at));
    Value::Object(shown)
}

fn list_credentials(n8n: &N8n) -> Answer {
    let home = n8n.owner.as_ref().map(|owner| {
        let name = format!("{} {} <{}>", owner.first_name, owner.last_name, owner.email);
        json!({ "id": owner.project_id, "type": "personal", "name": name, "icon": null })
    });
    let all: Vec<_> = n8n
        .credentials
        .iter()
        .map(|credential| {
            json!({
                "updatedAt": iso(credential.updated_at), "createdAt": iso(credential.created_at), "id": credential.id,
                "name": credential.name, "type": credential.kind, "isManaged": false, "isGlobal": false,
                "isResolvable": false, "resolvableAllowFallback": false, "resolverId": null, "homeProject": home,
                "sharedWithProjects": []
            })
        })
        .collect();
    Answer::ok(&json!({ "data": all }))
}
