// The whole fleet: a map with a cell per droplet, what waits in the queues, how rollouts go, what just happened.
import { NotFound, api, events, every } from "./api.js";
import { clear, colour, count, dot, el, eventItem, stateName, track, when } from "./ui.js";

const EVENTS_SHOWN = 60;
// From what asks for a look to what is well.
const WORST = ["ZOMBIE", "QUARANTINED", "DRIFT_DETECTED", "ACTIVE_DEGRADED"];
const LOOKED_AT = 9;

export function fleet(page) {
  const { main, signal } = page;
  document.title = "Genesis fleet";
  page.crumbs.append("Fleet");
  const title = el("h1", {}, "Fleet");
  const sub = el("p", { class: "sub" }, "Asking the hub …");
  const share = el("div", { class: "share", "aria-hidden": "true" });
  const tiles = el("div", { class: "tiles", role: "group", "aria-label": "Droplets by state; choose one to see where they are" });
  const regions = el("div", { class: "regions" });
  const look = el("div", { class: "look", hidden: "" });
  const hint = el("span", { class: "soft" }, "one cell per droplet");
  const queues = el("div");
  const rollouts = el("div");
  const rolloutCard = el("section", { class: "card", hidden: "" }, el("header", {}, el("h2", {}, "Rollouts")), rollouts);
  const list = el("ol", { class: "events", "aria-live": "off" });
  main.append(
    el("div", { class: "top" }, el("div", {}, title, sub)), share, tiles,
    el("div", { class: "grid" },
      el("div", { class: "stack" },
        el("section", { class: "card" }, el("header", {}, el("h2", {}, "Map"), hint), regions, look), rolloutCard),
      el("div", { class: "stack" },
        el("section", { class: "card" }, el("header", {}, el("h2", {}, "Queues")), queues),
        el("section", { class: "card" }, el("header", {}, el("h2", {}, "Events")), list))));

  const map = fleetMap(regions, look, signal);
  every(5, signal, async () => {
    const [seen, summary] = await Promise.all([api("/api/v1/fleet/map", signal), api("/api/v1/fleet/summary", signal)]);
    if (signal.aborted) return;
    title.textContent = `${count(summary.droplets)} droplet${summary.droplets === 1 ? "" : "s"}`;
    const well = summary.states.ACTIVE_HEALTHY ?? 0;
    const percent = summary.droplets ? Math.floor((1000 * well) / summary.droplets) / 10 : 100;
    sub.textContent = `${percent} % healthy · ${count(summary.polls_waiting)} waiting for work · hub ${summary.version}`;
    draw(share, tiles, summary, map);
    map.show(seen);
    drawQueues(queues, summary.queues);
    ready();
    map.learn(await idsOf(map, seen.order, signal));
  }, page.fail);
  every(5, signal, async () => drawRollouts(rolloutCard, rollouts, await api("/api/v1/rollouts", signal)), (error) => {
    if (!(error instanceof NotFound)) page.fail(error);
  });
  follow(page, list);
}

/** For whoever measures: when the first view stood. */
function ready() {
  const root = document.documentElement;
  if (root.dataset.ready) return;
  root.dataset.ready = "fleet";
  root.dataset.contentMs = String(Math.round(performance.now()));
}

let known = { order: "", ids: [] };
async function idsOf(map, order, signal) {
  if (known.order !== order) known = await api("/api/v1/fleet/ids", signal);
  // They may have changed again in between; then the next look gets those.
  return known.order === order ? known.ids : null;
}

function draw(share, tiles, summary, map) {
  const states = Object.entries(summary.states).sort(([a], [b]) => rank(a) - rank(b));
  clear(share).append(...states.filter(([, number]) => number > 0).map(([state, number]) => {
    const part = el("i");
    part.style.flexGrow = String(number);
    part.style.background = `var(--${state}, var(--other))`;
    return part;
  }));
  // The same tiles stay, so that focus and choice do.
  for (const [state, number] of states) {
    let tile = tiles.querySelector(`[data-state="${state}"]`);
    if (!tile) {
      tile = el("button", { type: "button", class: "tile", "data-state": state, "aria-pressed": "false" },
        el("b"), el("span", {}, dot(state), stateName(state)));
      tile.addEventListener("click", () => {
        const chosen = map.choose(state);
        for (const other of tiles.children) other.setAttribute("aria-pressed", String(other.dataset.state === chosen));
      });
      tiles.append(tile);
    }
    tile.firstChild.textContent = count(number);
    tile.classList.toggle("none", number === 0);
  }
}
const ORDER = ["ACTIVE_HEALTHY", "ACTIVE_DEGRADED", "DRIFT_DETECTED", "QUARANTINED", "ZOMBIE", "INITIALIZING", "HANDSHAKE_PENDING"];
const rank = (state) => (ORDER.indexOf(state) + ORDER.length + 1) % (ORDER.length + 1);

/** The map. One canvas per region: 15,000 elements would take seconds, 15,000 rectangles take milliseconds. */
function fleetMap(host, look, signal) {
  const tip = document.getElementById("tip");
  let seen = null;
  let ids = null;
  let chosen = null;
  let blocks = [];

  function layout() {
    const names = seen.regions.map((region) => region.region).join("\n");
    if (host.dataset.names === names && blocks.length) return;
    host.dataset.names = names;
    host.className = `regions ${seen.regions.length >= 3 ? "three" : seen.regions.length === 2 ? "two" : ""}`;
    blocks = seen.regions.map(({ region }) => {
      const canvas = el("canvas", { role: "img" });
      const off = el("span", { class: "off" });
      const size = el("span");
      const block = { canvas, off, size, region, from: 0, droplets: 0, columns: 1, cell: 1 };
      block.node = el("section", { class: "region" }, el("h3", {}, region || "no region", size, off), canvas);
      canvas.addEventListener("pointermove", (event) => hover(block, event));
      canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
      canvas.addEventListener("click", (event) => {
        const id = ids?.[at(block, event)];
        if (id) location.hash = `#/droplet/${encodeURIComponent(id)}`;
      });
      return block;
    });
    clear(host).append(...blocks.map((block) => block.node));
  }

  /** Cells as large as fit: the map of 15,000 fills a screen, one of twenty does not have giants. */
  function cellSize(width) {
    const rows = Math.ceil(seen.regions.length / Math.max(1, Math.round(host.clientWidth / Math.max(width, 1))));
    const room = (width * 520) / Math.max(rows, 1);
    const most = Math.max(...seen.regions.map((region) => region.droplets), 1);
    return Math.min(22, Math.max(4, Math.floor(Math.sqrt(room / most))));
  }

  function paint() {
    if (!seen) return;
    layout();
    const colours = seen.names.map(colour);
    const width = Math.max(blocks[0]?.node.clientWidth ?? 0, 60);
    const cell = cellSize(width);
    const gap = cell > 5 ? 1 : 0.5;
    const ratio = devicePixelRatio || 1;
    let from = 0;
    blocks.forEach((block, index) => {
      const { droplets } = seen.regions[index];
      const columns = Math.max(1, Math.floor(width / cell));
      const rows = Math.ceil(droplets / columns);
      Object.assign(block, { from, droplets, columns, cell });
      const { canvas } = block;
      const [w, h] = [Math.round(columns * cell * ratio), Math.round(rows * cell * ratio)];
      if (canvas.width !== w || canvas.height !== h) {
        canvas.width = w;
        canvas.height = h;
        canvas.style.width = `${columns * cell}px`;
        canvas.style.height = `${rows * cell}px`;
      }
      const brush = canvas.getContext("2d");
      brush.setTransform(ratio, 0, 0, ratio, 0, 0);
      brush.clearRect(0, 0, columns * cell, rows * cell);
      let off = 0;
      // State by state: a change of colour is dearer than a rectangle.
      seen.names.forEach((name, digit) => {
        brush.fillStyle = colours[digit];
        brush.globalAlpha = chosen && chosen !== name ? 0.13 : 1;
        const wanted = String.fromCharCode(48 + digit);
        for (let n = 0; n < droplets; n += 1) {
          if (seen.states[from + n] !== wanted) continue;
          if (WORST.includes(name)) off += 1;
          brush.fillRect((n % columns) * cell, Math.floor(n / columns) * cell, cell - gap, cell - gap);
        }
      });
      block.size.textContent = count(droplets);
      block.off.textContent = off ? `${count(off)} to look at` : "";
      canvas.setAttribute("aria-label", `${block.region || "no region"}: ${count(droplets)} droplets, ${count(off)} of them not well`);
      from += droplets;
    });
    lookAt();
  }

  function at(block, event) {
    const box = block.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / block.cell);
    const n = Math.floor((event.clientY - box.top) / block.cell) * block.columns + column;
    return column >= 0 && column < block.columns && n >= 0 && n < block.droplets ? block.from + n : -1;
  }

  function hover(block, event) {
    const place = at(block, event);
    tip.hidden = place < 0;
    if (place < 0) return;
    tip.textContent = `${ids?.[place] ?? "…"} · ${stateName(seen.names[Number(seen.states[place])])}`;
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    tip.style.transform = `translate(${left}px, ${event.clientY + 16}px)`;
  }

  /** Those to look at by name, the worst first, for whoever cannot or will not point at cells. */
  function lookAt() {
    if (!ids) return;
    const most = chosen ? LOOKED_AT * 6 : LOOKED_AT;
    const rows = (chosen ? [chosen] : WORST).map((state) => {
      const digit = String(seen.names.indexOf(state));
      const found = [];
      let all = 0;
      for (let place = 0; place < ids.length; place += 1) {
        if (seen.states[place] !== digit) continue;
        all += 1;
        if (found.length < most) found.push(ids[place]);
      }
      if (!all) return null;
      const more = all > found.length ? el("span", { class: "soft" }, `and ${count(all - found.length)} more`) : null;
      return el("div", {}, el("span", {}, dot(state), stateName(state)), el("span", {},
        found.map((id) => el("a", { href: `#/droplet/${encodeURIComponent(id)}`, class: "mono" }, id)), more));
    }).filter(Boolean);
    look.hidden = rows.length === 0;
    clear(look).append(...rows);
  }

  const repaint = () => requestAnimationFrame(paint);
  new ResizeObserver(repaint).observe(host);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint, { signal });
  signal.addEventListener("abort", () => { tip.hidden = true; });
  return {
    show(next) { seen = next; paint(); },
    learn(next) { ids = next ?? ids; if (seen) lookAt(); },
    choose(state) { chosen = chosen === state ? null : state; paint(); return chosen; },
  };
}

const STATES = ["queued", "leased", "accepted", "dead"];
const WORDS = { queued: "waiting", leased: "handed out", accepted: "at work", dead: "dead letters" };

function drawQueues(host, queues) {
  if (!queues.length) return void clear(host).append(el("p", { class: "empty" }, "Nothing waits, nothing is under way."));
  const most = Math.max(...queues.map((queue) => STATES.reduce((sum, state) => sum + queue[state], 0)));
  clear(host).append(...queues.map((queue) => {
    const total = STATES.reduce((sum, state) => sum + queue[state], 0);
    const said = STATES.filter((state) => queue[state]).map((state) => `${count(queue[state])} ${WORDS[state]}`).join(", ");
    return el("div", { class: "queue", title: said }, el("span", {}, queue.queue),
      track(STATES.map((state) => [state, queue[state]]), most), el("span", { class: "total", "aria-label": said }, count(total)));
  }), el("div", { class: "key", "aria-hidden": "true" }, STATES.map((state) =>
    el("span", {}, el("i", { class: `dot ${state}` }), WORDS[state]))));
}

function drawRollouts(card, host, answer) {
  const rollouts = Array.isArray(answer) ? answer : answer.items ?? [];
  card.hidden = rollouts.length === 0;
  clear(host).append(...rollouts.slice(0, 6).map((rollout) => {
    const counts = rollout.counts ?? {};
    const all = rollout.waves?.at(-1) ?? counts.released ?? 0;
    const phase = typeof rollout.phase === "string" ? rollout.phase : rollout.phase?.phase ?? Object.keys(rollout.phase ?? {})[0] ?? "";
    const bad = (counts.failed ?? 0) + (counts.missing ?? 0);
    const parts = [["accepted", counts.succeeded ?? 0], ["failed", bad], ["running", counts.running ?? 0]];
    return el("div", { class: "rollout" },
      el("p", {}, el("span", { class: "mono" }, rollout.rollout_id.slice(0, 8)), el("b", {}, phase.replaceAll("_", " ")),
        el("span", { class: "soft" }, `wave ${rollout.wave} of ${rollout.waves?.length ?? "?"} · ${count(counts.succeeded ?? 0)} of ${count(all)}${bad ? ` · ${count(bad)} failed` : ""}`)),
      track(parts, all));
  }));
}

async function follow(page, list) {
  const { signal, link } = page;
  const is = (state) => {
    link.dataset.is = state;
    link.firstChild.textContent = state === "on" ? "live" : "reconnecting";
  };
  try {
    const first = await api("/api/v1/events?limit=50", signal);
    const now = Date.now();
    list.append(...first.items.map((event) => eventItem(event, now, true)));
    if (!first.items.length) list.append(el("li", { class: "empty" }, "Nothing has happened yet."));
    const last = first.items[0]?.number ?? 0;
    document.documentElement.dataset.events = String(first.items.length);
    await events(last, signal, (event) => {
      list.querySelector(".empty")?.remove();
      const item = eventItem(event, Date.now(), true);
      item.classList.add("new");
      list.prepend(item);
      while (list.children.length > EVENTS_SHOWN) list.lastChild.remove();
      document.documentElement.dataset.latest = event.code;
    }, is, page.fail);
  } catch (error) {
    page.fail(error);
  }
}

// Distances grow while nobody touches them.
setInterval(() => {
  const now = Date.now();
  for (const node of document.querySelectorAll(".events time")) node.textContent = when(node.dateTime, now).textContent;
}, 10_000);
