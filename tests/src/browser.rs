//! A real browser without a window, steered over the DevTools protocol.
//!
//! The protocol's messages go over two pipes (`--remote-debugging-pipe`), each ended by a zero byte: no port, no socket,
//! no library.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::PATIENCE;

/// A browser with one page open.
pub struct Browser {
    child: Child,
    ask: ChildStdin,
    answers: Receiver<Value>,
    session: String,
    next: u64,
    complaints: Vec<String>,
}

impl Browser {
    /// Starts the browser that `GENESIS_CHROMIUM` names. It trusts any certificate: the hub's is the test's own.
    pub fn start(folder: &Path) -> Self {
        let program = std::env::var_os("GENESIS_CHROMIUM").expect("GENESIS_CHROMIUM is not set; tests/run.sh sets it");
        // The browser reads from descriptor 3 and writes to 4; a shell can give them to it, safe Rust cannot.
        let script = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >&2";
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(program).args([
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            "--ignore-certificate-errors",
        ]);
        command.arg(format!("--user-data-dir={}", folder.join("browser").display()));
        let log = std::fs::File::create(folder.join("browser.log")).unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let (ask, told) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            let mut told = BufReader::new(told);
            let mut bytes = Vec::new();
            while told.read_until(0, &mut bytes).is_ok_and(|length| length > 1) {
                bytes.pop();
                let message = serde_json::from_slice(&bytes).unwrap();
                bytes.clear();
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self { child, ask, answers, session: String::new(), next: 1, complaints: Vec::new() };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        browser.session = browser.call("Target.attachToTarget", attach)["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// One command of the protocol; its result.
    ///
    /// # Panics
    /// The browser refuses it, or does not answer.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.attempt(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The same; what the browser says where it refuses.
    fn attempt(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.next;
        self.next += 1;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.ask.write_all(message.to_string().as_bytes()).unwrap();
        self.ask.write_all(&[0]).unwrap();
        self.ask.flush().unwrap();
        loop {
            let told = self.answers.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the browser answers {method}"));
            if told["id"] == id {
                return told.get("error").map_or_else(|| Ok(told["result"].clone()), |error| Err(error.clone()));
            }
            self.hear(&told);
        }
    }

    /// Keeps what the browser complains of.
    fn hear(&mut self, told: &Value) {
        let params = &told["params"];
        let complaint = match told["method"].as_str().unwrap_or("") {
            "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
            "Log.entryAdded" if params["entry"]["level"] == "error" => Some(params["entry"].to_string()),
            "Runtime.consoleAPICalled" if params["type"] == "error" => Some(params["args"].to_string()),
            _ => None,
        };
        self.complaints.extend(complaint);
    }

    /// What the browser complained of since this was asked last: exceptions, refused loads, violations of the policy.
    pub fn complaints(&mut self) -> Vec<String> {
        // Whatever was said before this answer has been heard by then.
        self.eval("0");
        std::mem::take(&mut self.complaints)
    }

    /// Opens an address.
    pub fn open(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({ "url": url }));
        assert!(answer.get("errorText").is_none(), "{url}: {answer}");
    }

    /// The value of an expression in the page; promises are waited for.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[allow(clippy::disallowed_methods, reason = "patience is measured, not simulated; the page is another process")]
    pub fn until(&mut self, expression: &str) {
        let started = std::time::Instant::now();
        // Between two documents there may be none, or one that has just gone.
        let expression = format!("(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()");
        let params = json!({"expression": expression, "returnByValue": true});
        while !self.attempt("Runtime.evaluate", params.clone()).is_ok_and(|answer| answer["result"]["value"] == true) {
            let page = self.complaints.join("\n");
            assert!(started.elapsed() < PATIENCE, "waited {} s for {expression}\n{page}", PATIENCE.as_secs());
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
    }

    /// What the page believes of its surroundings.
    pub fn look(&mut self, width: u32, height: u32, dark: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"}]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
        // Two frames: one to lay out, one to paint.
        self.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
    }

    /// Saves what is to be seen as a PNG; its bytes.
    pub fn screenshot(&mut self, path: PathBuf) -> Vec<u8> {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": false}));
        let png = BASE64.decode(answer["data"].as_str().unwrap().as_bytes()).unwrap();
        std::fs::write(path, &png).unwrap();
        png
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers end when it does; it may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
