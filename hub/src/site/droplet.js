// One droplet: how it is, how it was over the last hours, and what it was told to do.
import { NotFound, api, events, every } from "./api.js";
import { clear, count, dot, el, eventItem, span, stateName, svg, track, when } from "./ui.js";

const HOURS = 3;

export function droplet(page, id) {
  const { main, signal } = page;
  document.title = `${id} · Genesis fleet`;
  page.crumbs.append(el("a", { href: "#/" }, "Fleet"), el("span", { "aria-hidden": "true" }, "/"), el("span", { class: "mono" }, id));
  const head = el("div", { class: "top" }, el("div", {}, el("h1", { class: "mono" }, id), el("p", { class: "sub" }, "Asking the hub …")));
  const facts = el("dl", { class: "facts" });
  const charts = el("div", { class: "charts" });
  const since = el("span", { class: "soft" });
  const timeline = el("ol", { class: "timeline" });
  const happened = el("ol", { class: "events" });
  main.append(head, el("div", { class: "grid" },
    el("div", { class: "stack" },
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Health"), since), charts),
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Commands")), timeline)),
    el("div", { class: "stack" },
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "About")), facts),
      el("section", { class: "card" }, el("header", {}, el("h2", {}, "Events")), happened))));
  const path = `/api/v1/droplets/${encodeURIComponent(id)}`;
  const open = new Set();
  every(10, signal, async () => {
    const [view, history] = await Promise.all([api(path, signal), api(`${path}/health`, signal)]);
    const jobs = await api(`/api/v1/jobs?limit=40&workspace_id=${encodeURIComponent(view.workspace_id)}`, signal);
    if (signal.aborted) return;
    drawHead(head, view);
    drawFacts(facts, view);
    drawCharts(charts, since, view, history);
    drawTimeline(timeline, jobs.items, open);
    document.documentElement.dataset.ready ??= "droplet";
  }, (error) => {
    if (error instanceof NotFound) clear(main).append(el("section", { class: "card door" }, el("h1", {}, "No such droplet"),
      el("p", { class: "sub" }, error.message), el("p", {}, el("a", { href: "#/" }, "Back to the fleet"))));
    else page.fail(error);
  });
  follow(page, id, happened);
}

function drawHead(head, view) {
  const heard = view.last_seen_at ? el("span", {}, " · heard ", when(view.last_seen_at, Date.now())) : " · never heard";
  clear(head).append(
    el("div", {},
      el("div", { class: "named" }, el("h1", {}, view.name || view.droplet_id),
        el("span", { class: "pill" }, dot(view.state), stateName(view.state))),
      el("p", { class: "sub" }, view.name ? el("span", { class: "mono" }, `${view.droplet_id} · `) : null, view.region ?? "no region", heard)));
  if (view.quarantine) head.append(el("p", { class: "note" }, `${view.quarantine.code.replaceAll("_", " ")}: ${view.quarantine.message}`));
}

function drawFacts(host, view) {
  const health = view.health ?? {};
  const labels = Object.entries(view.labels).map(([name, value]) => `${name}=${value}`).join(", ");
  const gib = (mb) => (mb >= 1024 ? `${(mb / 1024).toFixed(1)} GiB` : `${mb} MiB`);
  const all = [
    ["Lifecycle", view.lifecycle],
    ["n8n", health.n8n_status && `${health.n8n_version ?? ""} ${health.n8n_status}`],
    ["Active workflows", health.active_workflows],
    ["Agent", health.agent_version],
    ["Memory", health.memory_total_mb && gib(health.memory_total_mb)],
    ["Swap in use", health.swap_used_mb !== undefined && gib(health.swap_used_mb)],
    ["Up for", health.uptime_seconds && span(health.uptime_seconds * 1000)],
    ["Differences", health.drift_count],
    ["Desired generation", health.desired_generation],
    ["Reports waiting", health.outbox_depth],
    ["Certificate until", health.certificate_expires_at && new Date(health.certificate_expires_at).toLocaleDateString()],
    ["Enrolled", view.enrolled_at && new Date(view.enrolled_at).toLocaleDateString()],
    ["Labels", labels],
  ];
  const wide = el("div", {}, el("dt", {}, "Workspace"), el("dd", { class: "mono" }, view.workspace_id));
  wide.style.gridColumn = "1 / -1";
  clear(host).append(wide, ...all.filter(([, value]) => value !== undefined && value !== null && value !== false && value !== "")
    .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
}

function drawCharts(host, since, view, history) {
  const { samples } = history;
  const now = Date.now();
  since.textContent = samples.length ? `last ${HOURS} hours, one sample a minute` : "";
  if (!samples.length) return void clear(host).append(el("p", { class: "empty" },
    "No sample yet: the hub keeps those of the last hours in memory, and has been looking since ", when(history.since, now), "."));
  clear(host).append(
    chart("Processor", samples, "cpu_percent", "INITIALIZING", 80, now),
    chart("Memory", samples, "memory_percent", "DRIFT_DETECTED", 85, now),
    chart("Disk", samples, "disk_percent", "well", 90, now));
}

/** A curve over the last hours, 0 to 100, with the limit at which the agent calls itself degraded. */
function chart(name, samples, member, colour, limit, now) {
  const [W, H] = [300, 100];
  const begin = now - HOURS * 3_600_000;
  const x = (at) => Math.max(0, (W * (Date.parse(at) - begin)) / (now - begin));
  const y = (value) => H - (H * value) / 100;
  // A gap of several minutes is a gap, not a slope.
  const runs = [];
  samples.forEach((sample, at) => {
    const gap = at === 0 || Date.parse(sample.at) - Date.parse(samples[at - 1].at) > 240_000;
    if (gap) runs.push([]);
    runs.at(-1).push([x(sample.at).toFixed(1), y(sample[member]).toFixed(1)]);
  });
  const line = runs.map((run) => `M${run.map((point) => point.join(" ")).join("L")}${run.length === 1 ? "h1" : ""}`).join("");
  const area = runs.map((run) => `M${run[0][0]} ${H}L${run.map((point) => point.join(" ")).join("L")}L${run.at(-1)[0]} ${H}Z`).join("");
  const sick = samples.filter((sample) => !sample.healthy).map((sample) =>
    svg("rect", { class: "sick", x: x(sample.at).toFixed(1), y: 0, width: (W / (HOURS * 60)).toFixed(2), height: H }));
  const latest = samples.at(-1)[member];
  const drawing = svg("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img", "aria-label": `${name}: ${latest} percent now` },
    sick,
    [0, 50, 100].map((value) => svg("line", { class: "rule", x1: 0, x2: W, y1: y(value), y2: y(value) })),
    svg("line", { class: "limit", x1: 0, x2: W, y1: y(limit), y2: y(limit) }),
    svg("path", { class: "area", d: area }), svg("path", { class: "line", d: line }));
  const figure = el("figure", { class: "chart" }, el("figcaption", {}, name, el("b", {}, `${latest} %`)), drawing,
    el("div", { class: "axis", "aria-hidden": "true" }, el("span", {}, `${HOURS} h ago`), el("span", {}, "now")));
  figure.style.setProperty("--c", `var(--${colour})`);
  return figure;
}

const ENDED = { succeeded: "done", failed: "failed, undone", rejected: "refused", expired: "expired", stuck: "stuck", dead: "given up",
  cancelled: "withdrawn", queued: "waits for the droplet", leased: "handed out", accepted: "at work" };

function drawTimeline(host, jobs, open) {
  const now = Date.now();
  if (!jobs.length) return void clear(host).append(el("li", { class: "empty" }, "It was told nothing yet."));
  clear(host).append(...jobs.map((job) => {
    const at = (moment) => (moment ? Date.parse(moment) : null);
    const [asked, taken, ended] = [job.created_at, job.accepted_at, job.finished_at].map(at);
    const times = [
      taken && `waited ${span(taken - asked)}`,
      ended && taken && `ran ${span(ended - taken)}`,
      job.attempts > 1 && `handed out ${job.attempts} times`,
    ].filter(Boolean).join(" · ");
    const result = job.result;
    const failure = result && result.state !== "succeeded" ? `${result.code}: ${result.message}` : null;
    return el("li", { class: `job-${job.state}` }, el("span", { class: "mark", "aria-hidden": "true" }),
      el("p", {}, el("span", { class: "name" }, actions(job.action)), el("span", { class: "soft" }, ENDED[job.state] ?? job.state),
        el("span", { class: "when" }, when(job.created_at, now))),
      el("p", { class: "said" }, [job.queue, `priority ${job.priority}`, times].filter(Boolean).join(" · ")),
      failure ? el("p", { class: "said" }, failure) : null,
      result?.steps?.length ? steps(job, result.steps, open) : null);
  }));
}

/** DEPLOY_WORKFLOW,DEPLOY_WORKFLOW,… -> Deploy workflow × 7, … */
function actions(text) {
  const counted = new Map();
  for (const name of text.split(",")) counted.set(name, (counted.get(name) ?? 0) + 1);
  const said = [...counted].map(([name, times]) => stateName(name) + (times > 1 ? ` × ${times}` : ""));
  return said.length > 3 ? `${said.slice(0, 3).join(", ")} and ${said.length - 3} more` : said.join(", ");
}

function steps(job, all, open) {
  const most = Math.max(...all.map((step) => step.ms), 1);
  const details = el("details", {}, el("summary", {}, `${count(all.length)} step${all.length === 1 ? "" : "s"}`),
    el("div", { class: "steps" }, all.flatMap((step) => [
      el("span", { class: "mono" }, step.name + (step.attempts > 1 ? ` (${step.attempts} tries)` : "")),
      track([[`step ${step.state}`, step.ms]], most),
      el("span", { class: "ms" }, step.state === "done" ? span(step.ms) : step.state)])));
  details.open = open.has(job.job_id);
  details.addEventListener("toggle", () => { open[details.open ? "add" : "delete"](job.job_id); });
  return details;
}

async function follow(page, id, list) {
  const { signal, link } = page;
  const is = (state) => {
    link.dataset.is = state;
    link.firstChild.textContent = state === "on" ? "live" : "reconnecting";
  };
  try {
    const [latest, first] = await Promise.all([api("/api/v1/events?limit=1", signal),
      api(`/api/v1/events?limit=30&droplet_id=${encodeURIComponent(id)}`, signal)]);
    const now = Date.now();
    list.append(...first.items.map((event) => eventItem(event, now, false)));
    if (!first.items.length) list.append(el("li", { class: "empty" }, "Nothing that somebody had to look at."));
    await events(latest.items[0]?.number ?? 0, signal, (event) => {
      if (event.droplet_id !== id) return;
      list.querySelector(".empty")?.remove();
      list.prepend(eventItem(event, Date.now(), false));
    }, is, page.fail);
  } catch (error) {
    page.fail(error);
  }
}
