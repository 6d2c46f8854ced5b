//! What may go wrong on purpose: scripted faults, matched against requests, and the phases of a start.

use std::time::Duration;

use serde_json::{Value, json};

use super::answer::{Answer, Request};

/// What happens to a request that a [`Fault`] matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is not handled; this is the answer instead.
    Answer(Answer),
    /// It is not handled and not answered, until somebody calls `release`.
    Hang,
    /// It is not handled; the connection closes.
    DropBefore,
    /// It is handled, and then the connection closes without an answer: the ambiguous case.
    DropAfter,
    /// It is handled, and half of the answer's body arrives.
    HalfBody,
    /// It is handled, and the answer comes late.
    Delay(Duration),
    /// No answer, and it is handled after so many further requests: n8n was stopped and goes on.
    HandledLater(u32),
}

/// As a fault's method: every method but GET.
pub const CHANGE: &str = "CHANGE";

/// One scripted fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The method it matches; none matches all, [`CHANGE`] all but GET.
    pub method: Option<String>,
    /// What the path must begin with.
    pub path: String,
    /// How many matches pass unharmed first.
    pub skip: u32,
    /// How many matches it then hits; none means all.
    pub count: Option<u32>,
    /// What it does.
    pub kind: Kind,
}

impl Fault {
    /// A fault that hits the first match only.
    pub fn once(method: &str, path: &str, kind: Kind) -> Self {
        Self { method: Some(method.to_owned()), path: path.to_owned(), skip: 0, count: Some(1), kind }
    }

    /// A fault that hits the n-th match only, counted from 1.
    pub fn nth(n: u32, method: &str, path: &str, kind: Kind) -> Self {
        Self { skip: n.saturating_sub(1), ..Self::once(method, path, kind) }
    }

    fn matches(&self, request: &Request) -> bool {
        self.count != Some(0)
            && self.method.as_ref().is_none_or(|method| match method.as_str() {
                CHANGE => request.method != "GET",
                method => method == request.method,
            })
            && request.path.starts_with(&self.path)
    }

    /// Reads `{"method","path","skip" or "nth","count","kind","status","body","content_type","ms"}`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        let word = |name: &str| value.get(name).and_then(Value::as_str);
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        let small = |name: &str| number(name).and_then(|number| u32::try_from(number).ok());
        let kind = match word("kind").ok_or("kind is missing")? {
            "answer" => {
                let status =
                    number("status").and_then(|status| u16::try_from(status).ok()).ok_or("status is missing")?;
                Kind::Answer(match value.get("body") {
                    Some(Value::String(text)) => Answer::html(status, text),
                    Some(body) => Answer::json(status, body),
                    None => Answer::message(status, "scripted fault"),
                })
            }
            "hang" => Kind::Hang,
            "drop_before" => Kind::DropBefore,
            "drop_after" => Kind::DropAfter,
            "half_body" => Kind::HalfBody,
            "handled_later" => Kind::HandledLater(small("requests").unwrap_or(1)),
            "delay" => Kind::Delay(Duration::from_millis(number("ms").ok_or("ms is missing")?)),
            other => return Err(format!("unknown kind {other}")),
        };
        let count = match value.get("count") {
            Some(Value::Null) => None,
            _ => Some(small("count").unwrap_or(1)),
        };
        let skip = small("skip").or_else(|| Some(small("nth")?.saturating_sub(1))).unwrap_or(0);
        let path = word("path").unwrap_or("/").to_owned();
        Ok(Self { method: word("method").map(str::to_uppercase), path, skip, count, kind })
    }
}

/// How far the pretend process has come with its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nobody listens.
    Refusing,
    /// Health says 200, readiness 503, and everything else 200 with a text.
    Migrating,
    /// Health and readiness say 200, and everything else 404 with a page.
    Loading,
    /// It works.
    #[default]
    Up,
}

impl Phase {
    /// Reads the phase's name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "refusing" => Some(Self::Refusing),
            "migrating" => Some(Self::Migrating),
            "loading" => Some(Self::Loading),
            "up" => Some(Self::Up),
            _ => None,
        }
    }

    /// What a process in this phase answers; none if the request goes through.
    pub fn answer(self, request: &Request) -> Option<Answer> {
        let path = request.path.as_str();
        let health = path == "/healthz" || path == "/healthz/readiness";
        match self {
            Self::Refusing | Self::Up => None,
            Self::Migrating if path == "/healthz/readiness" => Some(Answer::json(503, &json!({ "status": "error" }))),
            Self::Migrating | Self::Loading if health => Some(Answer::ok(&json!({ "status": "ok" }))),
            Self::Migrating => Some(Answer::html(200, "n8n is starting up. Please wait")),
            Self::Loading => Some(Answer::cannot(&request.method, path)),
        }
    }
}

/// All faults, first in, first asked.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    list: Vec<Fault>,
}

impl Faults {
    /// Adds a fault behind the others.
    pub fn push(&mut self, fault: Fault) {
        self.list.push(fault);
    }

    /// Forgets all faults.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Whether a fault that hits a bounded number of requests has not hit them all: a test that scripted it missed.
    pub fn any_left(&self) -> bool {
        self.list.iter().any(|fault| fault.count.is_some_and(|count| count > 0))
    }

    /// The fault that hits this request. Every fault that matches up to it counts the request.
    pub fn hit(&mut self, request: &Request) -> Option<Kind> {
        for fault in self.list.iter_mut().filter(|fault| fault.matches(request)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.count = fault.count.map(|count| count - 1);
            return Some(fault.kind.clone());
        }
        None
    }
}
