// What is kept computed, what it takes, and what it saves.

import { api } from "./api.js";
import { el, empty, fill } from "./dom.js";
import { bytes, count, seconds, when } from "./format.js";

export const INTRODUCTION = "Keys and values of texts that chats begin with, computed once. Every chat that begins with one saves its time again.";

export async function show(root, context) {
  const { caches, why_none: whyNone } = await api.get("caches", { cube: context.cube.cube_id });
  if (!context.isShown()) return;
  if (!caches.length) {
    fill(root, whyNone
      ? empty("This cube keeps no caches", whyNone)
      : empty("No caches yet", "The scheduler keeps what chats recall often; the command mos kv keeps a text at once."));
    return;
  }
  const sum = (value) => caches.reduce((total, cache) => total + value(cache), 0);
  const figure = (value, name) => el("div", { class: "card figure" }, el("b", {}, value), el("span", {}, name));
  // What a prompt takes that a server keeps computed is the server's to know.
  const known = (number, shown) => (number ? shown(number) : "not known");
  const saved = (cache) => (cache.n_chats ?? 0) * cache.seconds_per_chat;
  fill(root,
    el("div", { class: "figures" },
      figure(count(caches.length), "caches"), figure(bytes(sum((cache) => cache.n_bytes)), "in size"),
      figure(count(sum((cache) => cache.n_chats ?? 0)), "counted hits"), figure(seconds(sum(saved)), "saved by them")),
    el("div", { class: "card scrolls" }, el("table", {},
      el("thead", {}, el("tr", {}, ["Text", "Kind", "Model"].map((name) => el("th", { scope: "col" }, name)),
        ["Tokens", "Size", "Per chat", "Hits", "Saved"].map((name) => el("th", { scope: "col", class: "number" }, name)))),
      el("tbody", {}, caches.map((cache) => el("tr", {},
        el("td", {}, texts(cache), el("p", { class: "small quiet" }, when(cache.made_at))),
        el("td", {}, cache.is_promoted ? (cache.is_used ? "Promoted, in use" : "Promoted") : "Kept"),
        el("td", {}, cache.model ?? "not known"),
        el("td", { class: "number" }, known(cache.n_tokens, count)),
        el("td", { class: "number" }, known(cache.n_bytes, bytes)),
        el("td", { class: "number" }, known(cache.seconds_per_chat, seconds)),
        el("td", { class: "number" }, cache.n_chats === null ? "not counted" : count(cache.n_chats)),
        el("td", { class: "number" }, cache.n_chats === null ? "" : seconds(saved(cache)))))))));
}

function texts(cache) {
  const first = cache.texts[0] ?? cache.id;
  if (cache.texts.length < 2 && first.length < 120) return el("span", {}, first);
  return el("details", {}, el("summary", {}, `${first.slice(0, 100)} …`),
    el("ul", { class: "stack" }, cache.texts.map((text) => el("li", {}, text))));
}
