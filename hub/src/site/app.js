// The fleet page: reads the API with the token that its visitor gives, and changes nothing.
import { announce, clear, el } from "./ui.js";
import { fleet } from "./fleet.js";
import { droplet } from "./droplet.js";
import { Unauthorised, api, forget, token, tokenIs } from "./api.js";

const main = document.getElementById("main");
const crumbs = document.getElementById("crumbs");
const find = document.getElementById("find");
const leave = document.getElementById("leave");
const link = document.getElementById("link");

// What is on the page now; a new view ends the one before.
let view = new AbortController();

function door(wrong) {
  document.title = "Sign in · Genesis fleet";
  for (const part of [find, leave, link]) part.hidden = true;
  clear(crumbs);
  const input = el("input", { type: "password", id: "token", name: "token", autocomplete: "off", spellcheck: "false", required: "" });
  const form = el("form", {},
    el("label", { for: "token" }, "API token"), input,
    wrong ? el("p", { class: "wrong", role: "alert" }, wrong) : null,
    el("button", { type: "submit" }, "Open the fleet"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    tokenIs(input.value.trim());
    try {
      await api("/api/v1/fleet/summary");
      route();
    } catch (error) {
      door(error instanceof Unauthorised ? error.message : `The hub cannot be asked now: ${error.message}`);
    }
  });
  clear(main).append(el("section", { class: "card door" },
    el("h1", {}, "Genesis fleet"),
    el("p", { class: "sub" }, "A token with the scope read opens this page. It stays in this tab and is gone when the tab is closed."),
    form,
    el("p", { class: "sub mono" }, "genesis-hub token create --name me --scope read")));
  input.focus();
  document.documentElement.dataset.view = "door";
}

function route() {
  view.abort();
  view = new AbortController();
  delete document.documentElement.dataset.ready;
  if (!token()) return door();
  for (const part of [find, leave, link]) part.hidden = false;
  clear(main);
  clear(crumbs);
  const id = decodeURIComponent(location.hash.match(/^#\/droplet\/([^/]+)$/)?.[1] ?? "");
  const page = { main, crumbs, link, signal: view.signal, fail };
  document.documentElement.dataset.view = id ? "droplet" : "fleet";
  if (id) droplet(page, id); else fleet(page);
}

// Whatever a view cannot go on after.
function fail(error) {
  if (error.name === "AbortError") return;
  if (error instanceof Unauthorised) {
    forget();
    view.abort();
    return door(error.message);
  }
  announce(main, error.message);
}

find.addEventListener("submit", (event) => {
  event.preventDefault();
  const id = new FormData(find).get("id").trim();
  if (id) location.hash = `#/droplet/${encodeURIComponent(id)}`;
});
leave.addEventListener("click", () => { forget(); route(); });
addEventListener("hashchange", route);
route();
