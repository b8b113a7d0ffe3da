// What the user prefers, stated or concluded.

import { api } from "./api.js";
import { el, empty, failure, fill } from "./dom.js";
import { count, counted, when } from "./format.js";

export const INTRODUCTION = "What was learned about how the user wants things: stated by the user, or concluded from conversations.";

const PAGE = 50;

export async function show(root, context) {
  // What was asked for last; an answer to something older is not shown.
  let asked = 0;
  let page = 1;

  async function load() {
    asked += 1;
    const mine = asked;
    const isLate = () => mine !== asked || !context.isShown();
    try {
      const found = await api.get("preferences", { cube: context.cube.cube_id, page, limit: PAGE });
      if (!isLate()) fill(root, list(found));
    } catch (error) {
      if (!isLate()) fill(root, failure(error, load));
    }
  }

  function list(found) {
    if (!found.is_kept) {
      return empty("This cube keeps no preferences", "Cubes learn them whose configuration names a preference memory: set pref_mem to pref_text.");
    }
    if (!found.total) {
      return empty("No preferences yet", "They are learned from conversations: chat, or add messages, with a language model configured.");
    }
    const kinds = [["explicit_preference", "Stated"], ["implicit_preference", "Concluded"]];
    const turn = (by) => () => { page += by; load(); };
    return [
      el("p", { class: "quiet small" }, counted(found.total, "preference", "preferences")),
      kinds.map(([kind, title]) => group(title, found.preferences.filter((one) => one.metadata.preference_type === kind))),
      found.total > PAGE && el("nav", { class: "row", "aria-label": "Pages" },
        el("button", { type: "button", disabled: page === 1, onclick: turn(-1) }, "Earlier"),
        el("span", { class: "small quiet" }, `Page ${count(page)}`),
        el("button", { type: "button", disabled: page * PAGE >= found.total, onclick: turn(1) }, "Later")),
    ];
  }

  await load();
}

function group(title, preferences) {
  if (!preferences.length) return null;
  return el("section", { class: "stack" }, el("h2", {}, title),
    el("ul", { class: "memories" }, preferences.map((one) => el("li", { class: "card memory" },
      el("p", { class: "text" }, one.metadata.preference ?? one.memory),
      one.metadata.reasoning && el("p", { class: "small quiet" }, one.metadata.reasoning),
      el("p", { class: "foot" },
        one.metadata.status !== "activated" && el("span", { class: "chip warn" }, one.metadata.status),
        when(one.metadata.updated_at ?? one.metadata.created_at))))));
}
