//! A few files over HTTP, for droplets that fetch their package.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;

type Content = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// The server; it ends with its runtime.
pub struct Files {
    address: SocketAddr,
    content: Content,
}

impl Files {
    /// Serves these files, by path, on a free port.
    pub async fn serve(host: &str, files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = tokio::net::TcpListener::bind((host, 0)).await.unwrap();
        let (address, content) = (listener.local_addr().unwrap(), Content::new(Mutex::new(files)));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&content));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, content }
    }

    /// Where a file is.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves this there from now on.
    pub fn put(&self, path: &str, content: Vec<u8>) {
        self.content.lock().unwrap().insert(path.to_owned(), content);
    }
}

async fn answer(State(content): State<Content>, request: Request) -> (StatusCode, Vec<u8>) {
    match content.lock().unwrap().get(request.uri().path()) {
        Some(file) => (StatusCode::OK, file.clone()),
        None => (StatusCode::NOT_FOUND, Vec::new()),
    }
}
