// The way to the hub: the token, requests, and the stream of events.

const KEY = "genesis-token";

// sessionStorage: gone with the tab, and never sent by the browser itself.
export const token = () => sessionStorage.getItem(KEY) ?? "";
export const tokenIs = (value) => sessionStorage.setItem(KEY, value);
export const forget = () => sessionStorage.removeItem(KEY);

export class Unauthorised extends Error {}
export class NotFound extends Error {}

const sleep = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
});

async function ask(path, options = {}) {
  const headers = { authorization: `Bearer ${token()}`, ...options.headers };
  const answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  const message = problem.message ?? `${answer.status} ${answer.statusText}`;
  if (answer.status === 401 || answer.status === 403) throw new Unauthorised(message);
  if (answer.status === 404) throw new NotFound(message);
  const error = new Error(message);
  error.retryAfter = Number(answer.headers.get("retry-after")) || 0;
  throw error;
}

/** One answer as JSON. */
export async function api(path, signal) {
  return (await ask(path, { signal })).json();
}

/** Calls `work` now and every `seconds` while the page is looked at. `fail` hears what cannot be helped by waiting. */
export async function every(seconds, signal, work, fail) {
  while (!signal.aborted) {
    let wait = seconds;
    if (!document.hidden) {
      try {
        await work();
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Unauthorised || error instanceof NotFound) return fail(error);
        wait = Math.max(seconds, error.retryAfter ?? 0);
      }
    }
    await sleep(wait * 1000, signal);
  }
}

/** Reads the stream of events until the view ends, and comes back where it was cut. `tell(event)` gets each event,
 *  `is(state)` whether the stream is "on" or "late". EventSource is no way: it cannot send a token but in the address. */
export async function events(after, signal, tell, is, fail) {
  let last = after;
  let pause = 1;
  while (!signal.aborted) {
    try {
      const headers = { "last-event-id": String(last), accept: "text/event-stream" };
      const answer = await ask("/api/v1/events/stream", { signal, headers });
      is("on");
      pause = 1;
      let text = "";
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const blocks = (text + value).split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const field = (name) => block.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1];
          const id = field("id");
          if (id === undefined) continue;
          last = Number(id);
          tell(JSON.parse(field("data")));
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Unauthorised) return fail(error);
      pause = Math.max(pause, error.retryAfter ?? 0);
    }
    is("late");
    // Not all tabs at once after a restart of the hub.
    await sleep(pause * 1000 * (0.5 + Math.random()), signal);
    pause = Math.min(pause * 2, 30);
  }
}
