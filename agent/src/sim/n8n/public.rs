//! The public API under `/api/v1`: which calls there are, and the checks that come before each of them.
//!
//! The order is the real one: body parser, path, method, key, query, content type, schema, the call itself.

use serde_json::{Value, json};

use super::{
    answer::{Answer, Outcome, Request, percent_decode},
    body_schema, credentials, executions,
    model::N8n,
    publish, tags, workflows,
};

/// The most items that one page may hold.
const PAGE_ITEMS_MAX: usize = 250;
const PAGE_ITEMS_DEFAULT: usize = 100;

type Act = fn(&mut N8n, &Call) -> Outcome;

/// One call, checked and taken apart.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// What stood in the path for `{}`, in order.
    pub ids: Vec<String>,
    /// The decoded query.
    pub query: Vec<(String, String)>,
    /// The body, null if there is none.
    pub body: Value,
}

impl Call {
    /// The n-th id of the path.
    pub fn id(&self, at: usize) -> &str {
        self.ids.get(at).map(String::as_str).unwrap_or_default()
    }

    /// A query parameter.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

struct Route {
    method: &'static str,
    path: &'static str,
    query: &'static [&'static str],
    body: Option<&'static str>,
    body_optional: bool,
    act: Act,
}

const fn route(method: &'static str, path: &'static str, act: Act) -> Route {
    Route { method, path, query: &[], body: None, body_optional: true, act }
}

const fn with_body(method: &'static str, path: &'static str, body: &'static str, act: Act) -> Route {
    Route { method, path, query: &[], body: Some(body), body_optional: false, act }
}

const fn with_query(path: &'static str, query: &'static [&'static str], act: Act) -> Route {
    Route { method: "GET", path, query, body: None, body_optional: true, act }
}

const PAGE: &[&str] = &["limit", "cursor"];
const WORKFLOWS: &[&str] = &["active", "tags", "name", "projectId", "excludePinnedData", "limit", "cursor"];
const EXECUTIONS: &[&str] = &["includeData", "status", "workflowId", "projectId", "limit", "cursor"];

/// Paths without a placeholder stand before those with one.
const ROUTES: &[Route] = &[
    with_query("workflows", WORKFLOWS, workflows::list),
    with_body("POST", "workflows", "workflow", workflows::create),
    with_query("workflows/{}", &["excludePinnedData"], workflows::get),
    with_body("PUT", "workflows/{}", "workflow", workflows::update),
    route("DELETE", "workflows/{}", workflows::delete),
    Route { body_optional: true, ..with_body("POST", "workflows/{}/activate", "activate", publish::activate_call) },
    route("POST", "workflows/{}/deactivate", publish::deactivate),
    route("GET", "workflows/{}/tags", tags::of_workflow),
    with_body("PUT", "workflows/{}/tags", "tagIds", tags::set_of_workflow),
    route("GET", "workflows/{}/{}", workflows::get_version),
    with_query("credentials", PAGE, credentials::list),
    with_body("POST", "credentials", "credential", credentials::create),
    with_body("PATCH", "credentials/{}", "update-credential", credentials::update),
    route("DELETE", "credentials/{}", credentials::delete),
    route("GET", "credentials/schema/{}", credentials::schema),
    with_query("executions", EXECUTIONS, executions::list),
    with_query("executions/{}", &["includeData"], executions::get),
    route("DELETE", "executions/{}", executions::delete),
    with_query("tags", PAGE, tags::list),
    with_body("POST", "tags", "tag", tags::create),
    route("GET", "tags/{}", tags::get),
    with_body("PUT", "tags/{}", "tag", tags::rename),
    route("DELETE", "tags/{}", tags::delete),
    with_query("users", &["limit", "cursor", "includeRole", "projectId"], users),
    with_query("projects", PAGE, |_, _| Err(unlicensed("feat:projectRole:admin"))),
    with_query("variables", PAGE, |_, _| Err(unlicensed("feat:variables"))),
];

/// Answers a request under `/api`.
///
/// # Errors
/// The refusal, as an answer.
pub fn handle(n8n: &mut N8n, request: &Request) -> Outcome {
    let body = n8n.parse_body(request)?;
    let Some(path) = request.path.strip_prefix("/api/v1") else {
        return Err(Answer::cannot(&request.method, &request.path));
    };
    let segments: Vec<_> = path.trim_matches('/').split('/').collect();
    let (route, ids) = find(n8n, &request.method, &segments)?;
    check_key(n8n, request)?;
    let mut call = Call { ids, query: request.query_pairs(), body: Value::Null };
    check_query(route, &call)?;
    if let Some(schema) = route.body {
        let kind = request.header_value("content-type");
        let body = match (body, kind) {
            (Some(body), _) => body,
            (None, None) if route.body_optional => Value::Object(serde_json::Map::new()),
            (None, kind) => {
                let kind = kind.unwrap_or("undefined");
                return Err(Answer::message(415, format!("unsupported media type {kind}")));
            }
        };
        body_schema::check(schema, &body).map_err(|complaint| Answer::message(400, complaint))?;
        call.body = body;
    }
    (route.act)(n8n, &call)
}

fn find(n8n: &N8n, method: &str, segments: &[&str]) -> Result<(&'static Route, Vec<String>), Answer> {
    let offered = |route: &&Route| match (route.method, route.path) {
        ("GET", "credentials") => n8n.config.credentials_list,
        ("PATCH", "credentials/{}") => n8n.config.credentials_update,
        _ => true,
    };
    let path = ROUTES.iter().find_map(|route| matches(route.path, segments).then_some(route.path));
    let Some(path) = path else { return Err(Answer::message(404, "not found")) };
    let route = ROUTES.iter().filter(offered).find(|route| route.path == path && route.method == method);
    let route = route.ok_or_else(|| Answer::message(405, format!("{method} method not allowed")))?;
    let ids = path.split('/').zip(segments).filter(|(pattern, _)| *pattern == "{}");
    Ok((route, ids.map(|(_, segment)| percent_decode(segment)).collect()))
}

fn matches(pattern: &str, segments: &[&str]) -> bool {
    let parts: Vec<_> = pattern.split('/').collect();
    parts.len() == segments.len()
        && parts.iter().zip(segments).all(|(part, segment)| part == segment || (*part == "{}" && !segment.is_empty()))
}

fn check_key(n8n: &N8n, request: &Request) -> Result<(), Answer> {
    let Some(sent) = request.header_value("x-n8n-api-key") else {
        return Err(Answer::message(401, "'X-N8N-API-KEY' header required"));
    };
    let now = n8n.seed.now_ms() / 1000;
    let valid = n8n.api_keys.iter().any(|key| key.raw == sent && key.expires_at.is_none_or(|until| until > now));
    if valid { Ok(()) } else { Err(Answer::message(401, "unauthorized")) }
}

fn check_query(route: &Route, call: &Call) -> Result<(), Answer> {
    for (name, value) in &call.query {
        if !route.query.contains(&name.as_str()) {
            return Err(Answer::message(400, format!("Unknown query parameter '{name}'")));
        }
        if value.is_empty() {
            return Err(Answer::message(400, format!("Empty value found for query parameter '{name}'")));
        }
        let complaint = match name.as_str() {
            "limit" => match value.parse::<f64>() {
                Err(_) => "must be number",
                Ok(limit) if limit > 250.0 => "must be <= 250",
                Ok(_) => continue,
            },
            "active" | "excludePinnedData" | "includeData" | "includeRole" if value != "true" && value != "false" => {
                "must be boolean"
            }
            "status" if !executions::FILTERS.contains(&value.as_str()) => {
                let allowed = executions::FILTERS.join(", ");
                let message = format!("request/query/status must be equal to one of the allowed values: {allowed}");
                return Err(Answer::message(400, message));
            }
            _ => continue,
        };
        return Err(Answer::message(400, format!("request/query/{name} {complaint}")));
    }
    Ok(())
}

/// Where a page begins and how long it may be.
pub struct Page {
    /// The most items on it.
    pub limit: usize,
    /// How many items come before it.
    pub offset: usize,
    /// The execution after which it begins.
    pub last_id: Option<u64>,
}

impl Page {
    /// Reads `limit` and `cursor`; the limit in a cursor wins.
    ///
    /// # Errors
    /// 400 for a cursor that n8n did not make.
    pub fn of(call: &Call) -> Result<Self, Answer> {
        let limit = call.query("limit").and_then(|limit| limit.parse().ok()).filter(|&limit| limit > 0);
        let mut page =
            Self { limit: limit.unwrap_or(PAGE_ITEMS_DEFAULT).min(PAGE_ITEMS_MAX), offset: 0, last_id: None };
        if let Some(cursor) = call.query("cursor") {
            let bytes = data_encoding::BASE64.decode(cursor.as_bytes()).unwrap_or_default();
            let cursor: Value =
                serde_json::from_slice(&bytes).map_err(|_| Answer::message(400, "An invalid cursor was provided"))?;
            let number = |name: &str| cursor.get(name).and_then(Value::as_u64);
            page.limit = number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(page.limit);
            page.offset = number("offset").and_then(|offset| usize::try_from(offset).ok()).unwrap_or(0);
            page.last_id = cursor.get("lastId").and_then(Value::as_str).and_then(|id| id.parse().ok());
        }
        Ok(page)
    }

    /// Cuts this page out of all items and shows it.
    pub fn cut<'a, T: 'a>(&self, all: impl Iterator<Item = &'a T>, show: impl Fn(&T) -> Value) -> Answer {
        let all: Vec<_> = all.collect();
        let items: Vec<_> = all.iter().skip(self.offset).take(self.limit).map(|item| show(item)).collect();
        let end = self.offset.saturating_add(self.limit);
        let next = (end < all.len()).then(|| cursor(&json!({ "limit": self.limit, "offset": end })));
        Answer::ok(&json!({ "data": items, "nextCursor": next }))
    }
}

/// A cursor as n8n writes it.
pub fn cursor(content: &Value) -> String {
    data_encoding::BASE64.encode(content.to_string().as_bytes())
}

fn users(n8n: &mut N8n, _call: &Call) -> Outcome {
    let users: Vec<_> = n8n
        .owner
        .iter()
        .map(|owner| {
            let at = super::seed::iso(owner.created_at);
            json!({
                "id": owner.id, "email": owner.email, "firstName": owner.first_name, "lastName": owner.last_name,
                "createdAt": at, "updatedAt": at, "isPending": false
            })
        })
        .collect();
    Ok(Answer::ok(&json!({ "data": users, "nextCursor": null })))
}

fn unlicensed(feature: &str) -> Answer {
    let message = format!(
        "Your license does not allow for {feature}. To enable {feature}, please upgrade to a license that supports \
         this feature."
    );
    Answer::message(403, message)
}
