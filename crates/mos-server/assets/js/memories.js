// Memories of a cube: the newest, or those that fit a question.

import { api } from "./api.js";
import { open } from "./dialog.js";
import { choice, doing, el, empty, failure, field, fill, tell } from "./dom.js";
import { count, counted, TYPE_PAIRS } from "./format.js";
import { card } from "./memory.js";

export const INTRODUCTION = "What is remembered. Ask a question to see what would be recalled, and why.";

const PAGE = 25;

export async function show(root, context) {
  const results = el("section", { class: "stack", "aria-label": "Memories" });
  const query = el("input", { type: "search", name: "query", placeholder: "Ask in plain words", "aria-label": "Question", autocomplete: "off" });
  const controls = {
    mode: choice([["fast", "Fast: no model is asked"], ["fine", "Fine: a model rephrases"], ["mixture", "Both together"]], "fast"),
    top: el("input", { type: "number", min: "1", max: "100", value: "10" }),
    where: choice([["one", `In ${context.cube.cube_id}`], ["all", "In all my cubes"]], "one"),
    type: choice([["", "All"], ...TYPE_PAIRS], ""),
    tag: el("input", { name: "tag", autocomplete: "off" }),
    since: el("input", { type: "date" }),
    until: el("input", { type: "date" }),
    asOf: el("input", { type: "date" }),
  };
  // What was asked for last; an answer to something older is not shown.
  let asked = 0;
  let offset = 0;
  const conditions = () => ({
    types: controls.type.value, tag: controls.tag.value.trim(), since: controls.since.value, until: controls.until.value,
  });
  const work = { ...context, changed: () => load() };
  const workIn = (cube) => ({ ...work, mayWrite: context.mayWriteTo(cube) });

  async function load() {
    asked += 1;
    const mine = asked;
    results.setAttribute("aria-busy", "true");
    try {
      const shown = query.value.trim() ? await find() : await list();
      if (mine === asked && context.isShown()) fill(results, shown);
    } catch (error) {
      if (mine === asked && context.isShown()) fill(results, failure(error, load));
    }
    results.removeAttribute("aria-busy");
  }

  async function list() {
    const page = await api.get("memories", { cube: context.cube.cube_id, offset, limit: PAGE, ...conditions() });
    const isFiltered = Object.values(conditions()).some(Boolean);
    if (!page.total) {
      return isFiltered
        ? empty("Nothing passes these filters", "Take one of them away.", el("button", { type: "button", onclick: reset }, "Clear filters"))
        : empty("No memories yet", "Add one here, or let an assistant write some: through the REST API, an OpenAI client, or MCP.",
          context.mayWrite && addButton(true));
    }
    const to = Math.min(offset + page.memories.length, page.total);
    const turn = (by) => () => { offset = Math.max(0, offset + by); load(); results.scrollIntoView(); };
    return [
      el("p", { class: "quiet small", role: "status" }, `${count(offset + 1)} to ${count(to)} of ${counted(page.total, "memory", "memories")}, newest first`),
      el("ul", { class: "memories" }, page.memories.map((memory) => card(memory, context.cube, work))),
      page.total > PAGE && el("nav", { class: "row", "aria-label": "Pages" },
        el("button", { type: "button", disabled: offset === 0, onclick: turn(-PAGE) }, "Newer"),
        el("button", { type: "button", disabled: to >= page.total, onclick: turn(PAGE) }, "Older")),
    ];
  }

  async function find() {
    const { types, ...rest } = conditions();
    const found = await api.post("search", {}, {
      query: query.value, mode: controls.mode.value, top_k: Number(controls.top.value) || 10, as_of: controls.asOf.value,
      cubes: controls.where.value === "one" ? [context.cube.cube_id] : [], types: types ? [types] : [], ...rest,
    });
    const isNamed = controls.where.value === "all";
    const hits = found.text_mem.flatMap((cube) => cube.memories.map((memory) => ({ memory, cube: { cube_id: cube.cube_id, isNamed } })));
    hits.sort((left, right) => right.memory.metadata.relativity - left.memory.metadata.relativity);
    const scales = {};
    for (const { memory } of hits) {
      for (const [name, value] of Object.entries(memory.signals ?? {})) scales[name] = Math.max(scales[name] ?? 0, value);
    }
    const notes = [
      ...found.text_mem.flatMap((cube) => cube.notes ?? []),
      ...(found.skipped ?? []).map((cube) => `${cube.cube_id} was passed over: ${cube.reason}`),
    ];
    return [
      el("p", { class: "quiet small", role: "status" }, `${counted(hits.length, "memory", "memories")}, best first`),
      notes.map((note) => el("p", { class: "notice small" }, note)),
      hits.length
        ? el("ul", { class: "memories" }, hits.map((hit) => card(hit.memory, hit.cube, workIn(hit.cube.cube_id), scales)))
        : empty("Nothing was recalled", "Ask with other words, take filters away, or look at what there is.",
          el("button", { type: "button", onclick: reset }, "Show all")),
    ];
  }

  function reset() {
    query.value = "";
    for (const name of ["type", "tag", "since", "until", "asOf"]) controls[name].value = "";
    offset = 0;
    load();
    query.focus();
  }

  function addButton(isFirst) {
    return el("button", { type: "button", class: isFirst ? "primary" : "", onclick: () => addMemory(context, () => { offset = 0; query.value = ""; load(); }) }, "Add a memory");
  }

  const form = el("form", { class: "stack", role: "search", onsubmit: (event) => {
    event.preventDefault();
    offset = 0;
    load();
  } },
  el("div", { class: "searchline" }, query, el("button", { class: "primary", type: "submit" }, "Search"), context.mayWrite ? addButton(false) : el("span")),
  el("details", { class: "more" }, el("summary", {}, "Filters and mode"),
    el("div", { class: "filters" },
      field("Type", controls.type), field("Tag", controls.tag), field("Changed since", controls.since), field("Changed until", controls.until),
      field("Mode", controls.mode), field("Most hits", controls.top), field("Where", controls.where), field("As it was on", controls.asOf),
      el("button", { type: "submit" }, "Apply"), el("button", { type: "button", class: "plain", onclick: reset }, "Clear"))));
  fill(root, form, results);
  await load();
}

function addMemory(context, done) {
  open("Add a memory", (body, close) => {
    const place = el("div");
    const text = el("textarea", { name: "text", required: true });
    const submit = el("button", { class: "primary", type: "submit" }, "Add");
    fill(body, el("form", { class: "stack", onsubmit: (event) => {
      event.preventDefault();
      doing(submit, place, async () => {
        await api.post("memories", { cube: context.cube.cube_id }, { text: text.value });
        close();
        done();
        tell("The memory was added.");
      });
    } }, field("Text", text), el("p", { class: "quiet small" }, `It is stored word for word in ${context.cube.cube_id}.`), place,
    el("div", { class: "row end" }, el("button", { type: "button", onclick: close }, "Cancel"), submit)));
  });
}
