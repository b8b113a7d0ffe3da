// Work in the background, live.

import { api, follow } from "./api.js";
import { doing, el, empty, fill } from "./dom.js";
import { count, seconds, when } from "./format.js";

export const INTRODUCTION = "What is done in the background for this cube, and what happened to memories because of it.";

const MAX_EVENTS = 200;
const EVERY = 5000;

export async function show(root, context) {
  const query = { cube: context.cube.cube_id };
  const state = await api.get("scheduler", query);
  if (!context.isShown()) return;
  if (!state.is_there) {
    fill(root, empty("There is no scheduler", "Nothing is done in the background. Set enable_mem_scheduler: true in the settings and start the server again."));
    return;
  }
  const top = el("div", { class: "stack" });
  const live = el("span", { class: "live", role: "status" }, "Connecting");
  const list = el("ol", { class: "events", tabindex: "0", "aria-label": "Events, newest first" });
  const nothing = el("p", { class: "quiet" }, "Nothing happened yet. Add a memory or chat, and it shows here.");
  fill(root, top, el("section", { class: "card stack" },
    el("div", { class: "row apart" }, el("h2", {}, "Events"), live), nothing, list));
  // The rows that are shown, by the ids of their events.
  const rows = new Map();

  /** Shows events, newest first, each that is not shown yet above the next older one. */
  function merge(events) {
    const newer = rows.get(events.findLast((event) => rows.has(event.id))?.id);
    let older = null;
    for (const event of [...events].reverse()) {
      let row = rows.get(event.id);
      if (!row) {
        row = rowOf(event);
        rows.set(event.id, row);
        if (older) older.before(row);
        else if (newer) newer.after(row);
        else list.prepend(row);
      }
      older = row;
    }
    nothing.classList.toggle("hidden", rows.size > 0);
    while (rows.size > MAX_EVENTS) {
      rows.delete(list.lastChild.dataset.event);
      list.lastChild.remove();
    }
  }

  /** Reads what was recorded: nothing is told live of other servers, and while no stream is open. */
  async function catchUp() {
    const { events } = await api.get("events", query);
    if (context.isShown()) merge(events);
  }

  async function refresh() {
    try {
      const now = await api.get("scheduler", query);
      if (context.isShown()) status(top, now, context, refresh);
    } catch { /* The stream tells that the server is away. */ }
  }

  async function refreshAll() {
    await refresh();
    await catchUp().catch(() => { /* As above. */ });
  }

  status(top, state, context, refresh);
  const stop = new AbortController();
  const timer = setInterval(() => { if (!document.hidden) refreshAll(); }, EVERY);
  context.onLeave(() => { stop.abort(); clearInterval(timer); });
  await catchUp();
  listen(query, stop, live, (event) => {
    if (event.type === "event") {
      merge([event]);
      refresh();
    } else {
      // The stream begins, or some came too fast for it.
      refreshAll();
    }
  });
}

function rowOf(event) {
  return el("li", { "data-event": event.id }, el("span", { class: "quiet" }, when(event.at)),
    el("span", {}, el("span", { class: "chip" }, event.label)),
    el("span", {}, event.text, event.from && event.to && event.from !== event.to && el("span", { class: "quiet" }, ` (${event.from} to ${event.to})`)));
}

async function listen(query, stop, live, each) {
  const say = (text, isOn) => { live.textContent = text; live.classList.toggle("on", isOn); };
  while (!stop.signal.aborted) {
    try {
      await follow("events/stream", query, stop.signal, (event) => { say("Live", true); each(event); });
    } catch (error) {
      if (stop.signal.aborted || error.status === 401 || error.status === 403) return;
    }
    say("Connecting again", false);
    await new Promise((resolve) => { setTimeout(resolve, 2000); });
  }
}

function status(top, state, context, refresh) {
  // What somebody is about to press stays where it is.
  if (top.contains(document.activeElement)) return;
  const figure = (value, name) => el("div", { class: "card figure" }, el("b", {}, value), el("span", {}, name));
  const { queue } = state;
  fill(top,
    !state.is_running && el("p", { class: "notice" }, "The scheduler of this server does not handle messages now. What waits is handled after its next start, or by another server."),
    el("div", { class: "figures" },
      figure(count(queue.waiting), "waiting"), figure(count(queue.claimed), "being handled"), figure(count(queue.dead), "given up"),
      el("div", { class: "card figure" }, el("b", { class: "words" }, queue.oldest ? when(queue.oldest) : "none"), el("span", {}, "oldest in the queue"))),
    state.running.length > 0 && el("section", { class: "card scrolls" }, el("table", {}, el("caption", {}, "Running now"),
      el("tbody", {}, state.running.map((task) => el("tr", {}, el("td", {}, task.task_name), el("td", {}, task.task_info), el("td", {}, when(task.start_time))))))),
    state.given_up.length > 0 && givenUp(state.given_up, context, refresh),
    state.labels && Object.keys(state.labels).length > 0 && labels(state.labels));
}

function givenUp(messages, context, refresh) {
  const place = el("div");
  const again = (ids) => async (event) => {
    await doing(event.currentTarget, place, () => api.post("scheduler/retry", { cube: context.cube.cube_id }, { ids }));
    document.getElementById("main").focus();
    refresh();
  };
  return el("section", { class: "card scrolls stack" }, el("table", {}, el("caption", {}, "Given up"),
    el("thead", {}, el("tr", {}, ["What", "Why", "When", "Action"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, messages.map((message) => el("tr", {}, el("td", {}, message.label),
      el("td", {}, `${message.reason} (after ${message.attempts} attempts)`), el("td", {}, when(message.at)),
      el("td", {}, context.mayWrite && el("button", { type: "button", onclick: again([message.id]) }, "Try again")))))),
  place, context.mayWrite && el("div", {}, el("button", { type: "button", onclick: again(messages.map((message) => message.id)) }, "Try all again")));
}

function labels(metrics) {
  const names = ["submitted", "completed", "retried", "failed"];
  return el("section", { class: "card scrolls" }, el("table", {}, el("caption", {}, "Since the server began, of all users"),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Label"), [...names, "time"].map((name) => el("th", { scope: "col", class: "number" }, name)))),
    el("tbody", {}, Object.entries(metrics).map(([label, sums]) => el("tr", {}, el("td", {}, label),
      names.map((name) => el("td", { class: "number" }, count(sums[name]))), el("td", { class: "number" }, seconds(sums.seconds)))))));
}
