// Memories that are kept apart: what they say, why they wait, and whether they may take part.

import { api } from "./api.js";
import { el, empty, failure, fill } from "./dom.js";
import { count, counted } from "./format.js";
import { card } from "./memory.js";

export const INTRODUCTION = "What tools, pages and files at addresses said in the manner of orders to a model. It is kept apart: no search finds it until somebody releases it.";

const PAGE = 25;

export async function show(root, context) {
  // What was asked for last; an answer to something older is not shown.
  let asked = 0;
  let offset = 0;
  const work = { ...context, changed: () => load() };

  async function load() {
    asked += 1;
    const mine = asked;
    const isLate = () => mine !== asked || !context.isShown();
    try {
      const page = await api.get("quarantine", { cube: context.cube.cube_id, offset, limit: PAGE });
      if (isLate()) return;
      if (offset && offset >= page.total) {
        // The last ones of the page are gone.
        offset = Math.max(0, page.total - PAGE);
        await load();
        return;
      }
      put(list(page));
    } catch (error) {
      if (!isLate()) put(failure(error, load));
    }
  }

  /** Shows something else; a focus that stood on what is gone goes to the view. */
  function put(shown) {
    const isInside = root.contains(document.activeElement);
    fill(root, shown);
    if (isInside) document.getElementById("main")?.focus();
  }

  function list(page) {
    if (!page.total) {
      return empty("Nothing is kept apart", "When a tool, a page or a file at an address gives orders to a model, its text waits here until it is released or deleted. What users and assistants say is never kept apart.");
    }
    const to = Math.min(offset + page.memories.length, page.total);
    const turn = (by) => () => { offset = Math.max(0, offset + by); load(); root.scrollIntoView(); };
    return [
      el("p", { class: "quiet small", role: "status" }, `${count(offset + 1)} to ${count(to)} of ${counted(page.total, "memory", "memories")}, oldest first`),
      page.is_cut && el("p", { class: "notice small" }, "There are more. Release or delete some of these to see them."),
      el("ul", { class: "memories" }, page.memories.map((memory) => card(memory, context.cube, work))),
      page.total > PAGE && el("nav", { class: "row", "aria-label": "Pages" },
        el("button", { type: "button", disabled: offset === 0, onclick: turn(-PAGE) }, "Earlier"),
        el("button", { type: "button", disabled: to >= page.total, onclick: turn(PAGE) }, "Later")),
    ];
  }

  await load();
}
