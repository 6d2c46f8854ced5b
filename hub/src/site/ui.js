// Small parts that views share. Text from the hub only ever becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}

export const el = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
export const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);
export const clear = (node) => { node.replaceChildren(); return node; };

export const count = (number) => number.toLocaleString("en");
const NAMES = {
  HANDSHAKE_PENDING: "Pending", INITIALIZING: "Initialising", ACTIVE_HEALTHY: "Healthy", ACTIVE_DEGRADED: "Degraded",
  DRIFT_DETECTED: "Drifted", QUARANTINED: "Quarantined", ZOMBIE: "Silent",
};
/** HIBERNATING -> Hibernating. */
export const stateName = (state) => NAMES[state] ?? (state[0] + state.slice(1).toLowerCase()).replaceAll("_", " ");
/** The colour of a state as the sheet has it in this light. */
export function colour(state) {
  const style = getComputedStyle(document.documentElement);
  return style.getPropertyValue(`--${state}`).trim() || style.getPropertyValue("--other").trim();
}
export function dot(state) {
  const node = el("span", { class: "dot", "aria-hidden": "true" });
  node.style.background = `var(--${state}, var(--other))`;
  return node;
}
/** A bar of a stack: `[class, number]` each, of a whole. */
export function track(parts, whole) {
  return el("div", { class: "track", "aria-hidden": "true" }, parts.filter(([, number]) => number > 0).map(([name, number]) => {
    const part = el("i", { class: name });
    part.style.width = `${(100 * number) / Math.max(whole, 1)}%`;
    return part;
  }));
}

/** 950 ms, 1.2 s, 14 s, 3 min, 5 h, 12 d. */
export function span(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}
/** A moment, told by its distance; exact in the title. */
export function when(at, now) {
  const ms = now - Date.parse(at);
  const text = ms < 1500 ? "now" : `${span(ms)} ago`;
  return el("time", { datetime: at, title: new Date(at).toLocaleString() }, text);
}

/** Says above a view that something went wrong. */
export function announce(main, message) {
  main.querySelector(".note")?.remove();
  main.prepend(el("p", { class: "note", role: "alert" }, message));
}

/** One event as a list item; a droplet's name leads to it. */
export function eventItem(event, now, withDroplet) {
  const droplet = withDroplet && event.droplet_id;
  return el("li", { "data-number": event.number },
    el("p", {}, el("span", { class: "what" }, event.code.replaceAll("_", " ")),
      droplet ? el("a", { href: `#/droplet/${encodeURIComponent(droplet)}`, class: "mono" }, droplet) : null,
      when(event.at, now)),
    el("span", { class: "said" }, event.message));
}
