// Tokens that models took.

import { api } from "./api.js";
import { el, empty, fill } from "./dom.js";
import { count } from "./format.js";

export const INTRODUCTION = "Tokens that models took for this user: for chats, for reading, for searches, and to embed texts.";

const SUMS = ["prompt_tokens", "cached_tokens", "completion_tokens", "embedded_tokens"];
const NAMES = ["Prompts", "of them cached", "Answers", "Embedded"];

export async function show(root, context) {
  const usage = await api.get("usage");
  if (!context.isShown()) return;
  if (!usage.entries.length) {
    fill(root, empty("No tokens yet", "They are counted as soon as a model works for this user: chat, search, or add a memory."));
    return;
  }
  const figure = (value, name) => el("div", { class: "card figure" }, el("b", {}, value), el("span", {}, name));
  const sums = usage.total;
  const left = usage.left_today ?? usage.left_in_all;
  fill(root,
    sums && el("div", { class: "figures" },
      figure(count(usage.today.prompt_tokens + usage.today.completion_tokens), "tokens today"),
      figure(count(sums.prompt_tokens + sums.completion_tokens), "tokens in all"),
      figure(sums.prompt_tokens ? `${Math.round((100 * sums.cached_tokens) / sums.prompt_tokens)} %` : "none", "of prompts from caches"),
      figure(count(sums.embedded_tokens), "tokens embedded"),
      left !== null && left !== undefined && figure(count(left), "left to use")),
    days(usage.entries),
    table(usage.entries),
    usage.is_cut && el("p", { class: "notice small" }, "Older days are left out here; the command line tells them."));
}

function days(entries) {
  const byDay = new Map();
  for (const entry of entries) {
    const tokens = entry.prompt_tokens + entry.completion_tokens + entry.embedded_tokens;
    byDay.set(entry.day, (byDay.get(entry.day) ?? 0) + tokens);
  }
  const newest = [...byDay].slice(-14);
  const most = Math.max(1, ...newest.map(([, tokens]) => tokens));
  return el("section", { class: "card" }, el("table", {}, el("caption", {}, "By day"),
    el("tbody", {}, newest.reverse().map(([day, tokens]) => {
      const bar = el("span", { class: "bar" });
      bar.style.width = `${(100 * tokens) / most}%`;
      return el("tr", {}, el("th", { scope: "row" }, day || "earlier"), el("td", { class: "barcell" }, bar), el("td", { class: "number" }, count(tokens)));
    }))));
}

function table(entries) {
  return el("section", { class: "card scrolls" }, el("table", {}, el("caption", {}, "By cube and model"),
    el("thead", {}, el("tr", {}, ["Day", "Cube", "Model"].map((name) => el("th", { scope: "col" }, name)),
      ["Calls", ...NAMES].map((name) => el("th", { scope: "col", class: "number" }, name)))),
    el("tbody", {}, [...entries].reverse().slice(0, 200).map((entry) => el("tr", {},
      el("td", {}, entry.day || "earlier"), el("td", {}, entry.cube_id ?? "several"), el("td", {}, entry.model),
      ["calls", ...SUMS].map((name) => el("td", { class: "number" }, count(entry[name]))))))));
}
