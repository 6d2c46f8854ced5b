//! What comes in and what goes out: a request, an answer, and the shapes n8n gives its errors.

use serde_json::{Value, json};

/// One HTTP request, already read to its end.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The method in upper case.
    pub method: String,
    /// The path as sent, still percent-encoded.
    pub path: String,
    /// What follows the question mark, without it.
    pub query: String,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// The bytes of the body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without headers; `target` may carry a query.
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), ..Self::default() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// Sets a JSON body and its content type.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.header("content-type", "application/json")
    }

    /// The value of a header, by its name in lower case.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The query as decoded pairs.
    pub fn query_pairs(&self) -> Vec<(String, String)> {
        self.query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(name, value)| (percent_decode(name), percent_decode(&value.replace('+', " "))))
            .collect()
    }
}

/// One HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The content type; none only where n8n sends none.
    pub content_type: Option<&'static str>,
    /// A cookie that the answer sets.
    pub set_cookie: Option<String>,
    /// The bytes of the body.
    pub body: Vec<u8>,
}

/// `Err` is an answer too: the one that refuses.
pub type Outcome = Result<Answer, Answer>;

impl Answer {
    /// A JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        let content_type = Some("application/json; charset=utf-8");
        Self { status, content_type, set_cookie: None, body: body.to_string().into_bytes() }
    }

    /// 200 with a JSON body.
    pub fn ok(body: &Value) -> Self {
        Self::json(200, body)
    }

    /// The public API's form of an error.
    pub fn message(status: u16, message: impl Into<String>) -> Self {
        Self::json(status, &json!({ "message": message.into() }))
    }

    /// The internal API's and the webhooks' form of an error.
    pub fn coded(status: u16, code: u16, message: &str) -> Self {
        Self::json(status, &json!({ "code": code, "message": message }))
    }

    /// Text under the type text/html, as express sends it.
    pub fn html(status: u16, text: &str) -> Self {
        let content_type = Some("text/html; charset=utf-8");
        Self { status, content_type, set_cookie: None, body: text.as_bytes().to_vec() }
    }

    /// The error page of express.
    pub fn page(status: u16, text: &str) -> Self {
        Self::html(
            status,
            &format!(
                "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n\
                 <body>\n<pre>{text}</pre>\n</body>\n</html>\n"
            ),
        )
    }

    /// The page for a path that nothing serves.
    pub fn cannot(method: &str, path: &str) -> Self {
        Self::page(404, &format!("Cannot {method} {path}"))
    }

    /// The body as JSON, null if it is not.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// Decodes %XX; what is not a valid escape stays as it is.
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The escapes of JavaScript's `encodeURIComponent`.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
