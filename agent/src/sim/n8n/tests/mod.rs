//! The tables of the real n8n, row by row, and the helper that the tests share.

mod credentials;
mod faults;
mod generic;
mod publish;
mod references;
mod setup;
mod socket;
mod workflows;

use serde_json::{Value, json};

use super::{Answer, Config, N8n, Request};

/// An n8n with an owner and a key.
struct Lab {
    n8n: N8n,
    cookie: String,
    key: String,
}

fn owner() -> Value {
    json!({ "email": "o@example.com", "firstName": "O", "lastName": "W", "password": "Genesis123" })
}

impl Lab {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let mut lab = Self { n8n: N8n::new(config, 1), cookie: String::new(), key: String::new() };
        let answer = lab.n8n.handle(&Request::new("POST", "/rest/owner/setup").json(&owner()));
        lab.cookie = answer.set_cookie.unwrap().split(';').next().unwrap().to_owned();
        let key = lab.rest("POST", "/rest/api-keys", &key("agent")).value();
        lab.key = key["data"]["rawApiKey"].as_str().unwrap().to_owned();
        lab
    }

    fn rest(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        self.n8n.handle(&Request::new(method, path).header("Cookie", &self.cookie).json(body))
    }

    fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, &format!("/api/v1/{path}")).header("X-N8N-API-KEY", &self.key)
    }

    fn bare(&mut self, method: &str, path: &str) -> Answer {
        let request = self.request(method, path);
        self.n8n.handle(&request)
    }

    fn call(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let request = self.request(method, path).json(body);
        self.n8n.handle(&request)
    }

    /// A call that must succeed.
    fn good(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.call(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.value());
        answer.value()
    }

    /// A call that must fail so.
    fn bad(&mut self, method: &str, path: &str, body: &Value, status: u16, message: &str) {
        let answer = self.call(method, path, body);
        assert_eq!((answer.status, answer.value()["message"].as_str()), (status, Some(message)), "{method} {path}");
    }

    fn create(&mut self, nodes: Value) -> String {
        text(&self.good("POST", "workflows", &workflow(nodes)), "id")
    }

    fn credential(&mut self, name: &str) -> String {
        let body = json!({ "name": name, "type": "httpHeaderAuth", "data": {} });
        text(&self.good("POST", "credentials", &body), "id")
    }

    fn get(&mut self, id: &str) -> Value {
        self.bare("GET", &format!("workflows/{id}")).value()
    }

    fn webhook(&mut self, method: &str, path: &str) -> Answer {
        self.n8n.handle(&Request::new(method, &format!("/webhook/{path}")))
    }
}

fn key(label: &str) -> Value {
    json!({ "label": label, "scopes": ["workflow:read"], "expiresAt": null })
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn workflow(nodes: Value) -> Value {
    json!({ "name": "w", "nodes": nodes, "connections": {}, "settings": {} })
}

fn hook(path: &str) -> Value {
    json!({
        "id": "n1", "name": "Webhook", "type": "n8n-nodes-base.webhook", "typeVersion": 2, "position": [0, 0],
        "webhookId": "wh-1", "parameters": { "httpMethod": "POST", "path": path }
    })
}

fn node(kind: &str) -> Value {
    json!({ "id": "x", "name": "T", "type": kind, "typeVersion": 1, "position": [0, 0], "parameters": {} })
}
