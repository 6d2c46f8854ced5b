// A tiny n8n: answers as n8n does in each phase of its start, echoes what it is sent, and counts every request by id.
const http = require("http"), crypto = require("crypto");
let mode = "up";
const seen = {};
const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const { url } = request, body = Buffer.concat(parts);
    const json = (value) => response.setHeader("content-type", "application/json").end(JSON.stringify(value));
    if (url.startsWith("/test/mode/")) { mode = url.slice(11); return json({ mode }); }
    if (url === "/test/seen") return json(seen);
    if (mode === "migrating") return response.setHeader("content-type", "text/html").end("n8n is starting up. Please wait");
    if (mode === "loading") { response.statusCode = 404; return response.end("Cannot " + request.method); }
    if (url === "/rest/settings") return json({ data: { userManagement: {} } });
    const id = request.headers["x-id"];
    if (id) seen[id] = (seen[id] || 0) + 1;
    if (url === "/die") return request.socket.destroy();
    if (url === "/events") {
      response.setHeader("content-type", "text/event-stream");
      let n = 0;
      const timer = setInterval(() => response.write(`data: ${n++}\n\n`), 50);
      return response.on("close", () => clearInterval(timer));
    }
    const digest = "sha256:" + crypto.createHash("sha256").update(body).digest("hex");
    json({ digest, headers: request.headers });
  });
});
server.on("upgrade", (_, socket) => {
  socket.on("error", () => {});
  socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
  socket.pipe(socket);
});
server.listen(5678);
process.on("SIGTERM", () => process.exit(0));
