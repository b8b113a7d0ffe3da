// One memory: how it looks in a list, why it was recalled, and what can be done with it.

import { api, memoryPath } from "./api.js";
import { confirm, open } from "./dialog.js";
import { doing, el, failure, field, fill, tell } from "./dom.js";
import { count, score, typeName, when } from "./format.js";

const SIGNALS = {
  words: "Words", full_text: "Words", vector: "Meaning", context: "Meaning around it", speaker: "Who said it", date: "Days named",
  time: "Tells a time", question: "Is a question", drawn: "Drawn by a model", graph: "Keys, tags, edges",
  session_priority: "Session named", session: "Same session", superseded: "No longer true", conflict_candidate: "May conflict",
};
const PATHS = {
  question: "the question itself", statement: "a statement that may answer it", sub_question: "a part of the question",
  internet: "the internet", deep: "a later stage of a deep search",
};

const TRUST = {
  user: "what the user said", system: "whoever set the conversation up", assistant: "what a model said or concluded",
  document: "a text or file that the user gave", external: "untrusted: a tool, a page or a file at an address",
};

/** Source and trust in a few words; path, name or address only `withPlace`. */
function origin({ provenance }, withPlace) {
  if (!provenance) return "";
  const { source, place, trust } = provenance;
  return `${source}${withPlace && place ? `: ${place}` : ""}${trust === "external" ? ", untrusted" : ""}`;
}

/** Why a memory is kept apart, when it is. */
function apart(memory) {
  return memory.quarantine && el("p", { class: "notice small" }, `Kept apart: it ${memory.quarantine}. No search finds it until it is released.`);
}

/** Returns a list entry. `context.changed()` is called when something was changed. */
export function card(memory, cube, context, scales) {
  const { metadata } = memory;
  const isHit = memory.relativity !== undefined || metadata.relativity !== undefined;
  const text = el("p", { class: "text clamped" }, memory.memory);
  const source = origin(memory, false);
  const action = (name, kind, work) => el("button", { type: "button", class: `plain ${kind}`, onclick: work }, name,
    el("span", { class: "only-read" }, ` ${memory.memory.slice(0, 60)}`));
  // There is no dialog around it that would have to be closed.
  const stay = () => {};
  return el("li", { class: "card memory" },
    metadata.key || isHit ? el("div", { class: "top" },
      el("h2", {}, metadata.key ?? ""),
      isHit && el("span", { class: "fit", title: "How well it fits, from 0 to 1" }, `fits ${score(metadata.relativity)}`)) : null,
    text,
    apart(memory),
    el("div", { class: "foot" },
      metadata.memory_type && el("span", { class: "chip" }, typeName(metadata.memory_type)),
      source && el("span", { class: memory.provenance.trust === "external" ? "chip warn" : "chip", title: "Source and trust" }, source),
      metadata.status && metadata.status !== "activated" && el("span", { class: "chip warn" }, memory.quarantine ? "kept apart" : metadata.status),
      (metadata.tags ?? []).slice(0, 8).map((tag) => el("span", { class: "chip tag" }, tag)),
      el("span", {}, when(metadata.updated_at ?? metadata.created_at)),
      cube.isNamed && el("span", {}, `in ${cube.cube_id}`),
      memory.id && el("span", { class: "actions" },
        memory.quarantine && context.mayWrite && [
          action("Release", "", () => release(stay, memory.id, cube, context)),
          action("Delete", "danger", () => remove(stay, memory.id, cube, context)),
        ],
        action("Open", "", () => openMemory(memory.id, cube, context)))),
    isHit && why(memory, scales));
}

/** Returns why a hit was recalled; `scales` has the highest value of each signal among the hits. */
export function why(hit, scales = {}) {
  const signals = Object.entries(hit.signals ?? {});
  const highest = (name, value) => Math.max(scales[name] ?? value, 0.001);
  const row = (name, value) => [el("dt", {}, name), el("dd", {}, value)];
  return el("details", { class: "why" },
    el("summary", {}, "Why was this recalled?"),
    el("dl", {},
      row("Signals", signals.length ? el("ul", { class: "bars" }, signals.map(([name, value]) =>
        el("li", {}, el("span", {}, SIGNALS[name] ?? name),
          el("meter", { min: "0", max: String(highest(name, value)), value: String(Math.max(0, value)), "aria-label": `${name} ${score(value)}` }),
          el("span", { class: "mono" }, `${name} ${score(value)}`)))) : "None was told."),
      row("Score", `${score(hit.score)} of all signals together; it fits ${score(hit.metadata.relativity)} from 0 to 1.`),
      row("Found by", (hit.paths ?? []).map((path) => PATHS[path] ?? path).join(", ") || "the question itself"),
      row("Reranker", hit.rerank ? `${hit.rerank.name}: ${score(hit.rerank.score)}` : "None; the order is that of the score."),
      row("Drawn from", sources(hit.sources))));
}

function sources(all) {
  if (!all || !all.length) return "Not known; it was added as it is.";
  const facts = (source) => Object.entries(source)
    .filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`);
  return el("ul", {}, all.map((source) => el("li", {}, facts(source).join(" · "))));
}

/** Opens one memory with everything that can be done with it. */
export function openMemory(id, cube, context) {
  open("Memory", (body, close) => load(body, close, id, cube, context));
}

async function load(body, close, id, cube, context) {
  fill(body, el("p", { class: "quiet" }, "Loading …"));
  try {
    show(body, close, await api.get(memoryPath(id), { cube: cube.cube_id }), cube, context);
  } catch (error) {
    fill(body, failure(error), el("div", { class: "row" }, historyButton(id, cube, context, close)));
  }
}

function show(body, close, memory, cube, context) {
  const { id, metadata } = memory;
  const facts = [
    ["Type", typeName(metadata.memory_type)], ["Status", metadata.status], ["Tags", (metadata.tags ?? []).join(", ")],
    ["Changed", when(metadata.updated_at)], ["Version", count(metadata.version)], ["Source", origin(memory, true)],
    ["Trust", TRUST[memory.provenance?.trust]],
    ["Conversation", metadata.session_id], ["True from", when(metadata.valid_from)], ["True to", when(metadata.valid_to)], ["Id", id],
  ].filter(([, value]) => value);
  fill(body,
    metadata.key && el("h3", {}, metadata.key),
    el("p", { class: "memory-text text" }, memory.memory),
    apart(memory),
    el("dl", { class: "facts" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    el("div", { class: "row" },
      context.mayWrite && el("button", { type: "button", class: "primary", onclick: () => edit(body, close, memory, cube, context) }, "Edit"),
      context.mayWrite && memory.quarantine && el("button", { type: "button", onclick: () => release(close, id, cube, context) }, "Release"),
      historyButton(id, cube, context, close),
      // A graph is that of the chosen cube.
      cube.cube_id === context.cube.cube_id && el("button", { type: "button", onclick: () => { close(); context.go(`graph/${encodeURIComponent(id)}`); } }, "Show in graph"),
      context.mayWrite && el("button", { type: "button", class: "danger", onclick: () => remove(close, id, cube, context) }, "Delete")));
  body.querySelector("button")?.focus();
}

function edit(body, close, memory, cube, context) {
  const place = el("div");
  const text = el("textarea", { name: "text", required: true, value: memory.memory });
  const tags = el("input", { name: "tags", value: (memory.metadata.tags ?? []).join(", "), autocomplete: "off" });
  const submit = el("button", { class: "primary", type: "submit" }, "Save");
  const words = () => tags.value.split(",").map((tag) => tag.trim()).filter(Boolean);
  fill(body, el("form", { class: "stack", onsubmit: (event) => {
    event.preventDefault();
    doing(submit, place, async () => {
      const change = { text: text.value, version: memory.metadata.version };
      if (words().join() !== (memory.metadata.tags ?? []).join()) change.tags = words();
      await api.put(memoryPath(memory.id), { cube: cube.cube_id }, change);
      close();
      context.changed();
      tell("The memory was changed.", ["Undo", () => undo(memory.id, cube, context)]);
    });
  } }, field("Text", text), field("Tags, with commas between", tags), place,
  el("div", { class: "row end" },
    el("button", { type: "button", onclick: () => show(body, close, memory, cube, context) }, "Cancel"), submit)));
  text.focus();
}

function remove(close, id, cube, context) {
  confirm("Delete this memory?", "No search finds it any more. Its history stays, and you can undo this.", "Delete", async () => {
    await api.remove(memoryPath(id), { cube: cube.cube_id });
    close();
    context.changed();
    tell("The memory was deleted.", ["Undo", () => undo(id, cube, context)]);
  });
}

function release(close, id, cube, context) {
  confirm("Release this memory?", "Searches find it then, and assistants are given its text, marked with its source. Its history tells who released it, and you can undo this.", "Release", async () => {
    await api.post(memoryPath(id, "release"), { cube: cube.cube_id });
    close();
    context.changed();
    tell("The memory was released.", ["Undo", () => undo(id, cube, context)]);
  });
}

async function undo(id, cube, context) {
  try {
    await api.post(memoryPath(id, "undo"), { cube: cube.cube_id });
    context.changed();
    tell("The last change was taken back.");
  } catch (error) {
    tell(error.message);
  }
}

function historyButton(id, cube, context, closeFirst) {
  return el("button", { type: "button", onclick: () => { closeFirst(); openHistory(id, cube, context); } }, "History");
}

function openHistory(id, cube, context) {
  open("History", async (body, close) => {
    fill(body, el("p", { class: "quiet" }, "Loading …"));
    try {
      const { versions, total } = await api.get(memoryPath(id, "history"), { cube: cube.cube_id });
      const place = el("div");
      const back = el("button", { type: "button", class: "primary", onclick: () => doing(back, place, async () => {
        await api.post(memoryPath(id, "undo"), { cube: cube.cube_id });
        close();
        context.changed();
        tell("The last change was taken back.");
      }) }, "Undo the last change");
      fill(body,
        el("p", { class: "quiet" }, versions.length < total ? `The newest ${versions.length} of ${count(total)} states.` : "Newest first."),
        el("ol", { class: "history" }, versions.map(state)), place,
        el("div", { class: "row" }, context.mayWrite && total > 1 && back,
          el("button", { type: "button", onclick: () => { close(); openMemory(id, cube, context); } }, "Back to the memory")));
      body.querySelector("button")?.focus();
    } catch (error) {
      fill(body, failure(error));
    }
  });
}

function state(version) {
  return el("li", {},
    el("p", { class: "small quiet" }, `${version.number}. ${version.reason || "changed"} by ${version.actor || "somebody"}, ${when(version.at)}`),
    version.memory === null ? el("p", { class: "quiet" }, "Removed.") : el("p", { class: "text" }, version.memory),
    (version.tags ?? []).map((tag) => el("span", { class: "chip tag" }, tag)));
}
