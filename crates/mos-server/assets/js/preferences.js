// What the user prefers, stated or concluded.

import { api } from "./api.js";
import { el, empty, fill } from "./dom.js";
import { count, counted, when } from "./format.js";

export const INTRODUCTION = "What was learned about how the user wants things: stated by the user, or concluded from conversations.";

const PAGE = 50;

export async function show(root, context) {
  let page = 1;
  async function load() {
    const found = await api.get("preferences", { cube: context.cube.cube_id, page, limit: PAGE });
    if (!context.isShown()) return;
    if (!found.is_kept) {
      fill(root, empty("This cube keeps no preferences", "Cubes learn them whose configuration names a preference memory: set pref_mem to pref_text."));
      return;
    }
    if (!found.total) {
      fill(root, empty("No preferences yet", "They are learned from conversations: chat, or add messages, with a language model configured."));
      return;
    }
    const kinds = [["explicit_preference", "Stated"], ["implicit_preference", "Concluded"]];
    const turn = (by) => () => { page += by; load(); };
    fill(root,
      el("p", { class: "quiet small" }, counted(found.total, "preference", "preferences")),
      kinds.map(([kind, title]) => group(title, found.preferences.filter((one) => one.metadata.preference_type === kind))),
      found.total > PAGE && el("nav", { class: "row", "aria-label": "Pages" },
        el("button", { type: "button", disabled: page === 1, onclick: turn(-1) }, "Earlier"),
        el("span", { class: "small quiet" }, `Page ${count(page)}`),
        el("button", { type: "button", disabled: page * PAGE >= found.total, onclick: turn(1) }, "Later")));
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
