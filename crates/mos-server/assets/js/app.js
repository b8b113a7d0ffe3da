// The frame: who is signed in, which cube, which view.

import { api, keeper } from "./api.js";
import { open } from "./dialog.js";
import { choice, doing, el, empty, failure, field, fill, hush, tell } from "./dom.js";
import { enter, showSignIn } from "./signin.js";
import { applyTheme, themeButton } from "./theme.js";
import * as caches from "./caches.js";
import * as graph from "./graph.js";
import * as memories from "./memories.js";
import * as preferences from "./preferences.js";
import * as quarantine from "./quarantine.js";
import * as scheduler from "./scheduler.js";
import * as usage from "./usage.js";

const VIEWS = { memories, graph, preferences, quarantine, scheduler, caches, usage };
const NAMES = {
  memories: "Memories", graph: "Graph", preferences: "Preferences", quarantine: "Quarantine", scheduler: "Scheduler",
  caches: "Caches", usage: "Usage",
};
const CUBE = "mos.cube";
const app = document.getElementById("app");

let session = null;
let leave = null;
// Counts changes of the view, so that an answer that comes late is not shown in another.
let turn = 0;

/** A part of an address; one that was cut off stays as it is. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function place() {
  const [view, ...rest] = location.hash.slice(1).split("/");
  return { view: VIEWS[view] ? view : "memories", rest: rest.map(decoded) };
}

function cubeNow() {
  const kept = sessionStorage.getItem(CUBE);
  const known = session.cubes.find((cube) => cube.cube_id === kept);
  return known ?? session.cubes.find((cube) => cube.is_registered) ?? session.cubes[0] ?? null;
}

function leaveView() {
  turn += 1;
  if (leave) leave();
  leave = null;
}

async function showView() {
  if (!session) return;
  leaveView();
  const mine = turn;
  const { view, rest } = place();
  for (const link of app.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${NAMES[view]} · mos`;
  const main = document.getElementById("main");
  const cube = cubeNow();
  const module = VIEWS[view];
  const root = el("div", { class: "stack wide" });
  fill(main, el("header", {}, el("h1", {}, NAMES[view]), el("p", {}, module.INTRODUCTION)), root);
  if (!cube && view !== "usage") {
    fill(root, empty("No cube yet", "A cube holds the memories of one purpose: a person, a project, an assistant. Make one to begin.",
      mayWrite() && el("button", { class: "primary", type: "button", onclick: makeCube }, "Make a cube")));
    return;
  }
  const context = {
    session, cube, rest, mayWrite: mayWriteTo(cube),
    mayWriteTo: (id) => mayWriteTo(session?.cubes.find((one) => one.cube_id === id)),
    isShown: () => mine === turn,
    go: (hash) => { location.hash = hash; },
    again: showView,
    onLeave: (work) => { if (mine === turn) leave = work; else work(); },
  };
  try {
    await module.show(root, context);
  } catch (error) {
    if (mine === turn) fill(root, failure(error, showView));
  }
}

function mayWrite() {
  return Boolean(session?.scopes.includes("write"));
}

function mayWriteTo(cube) {
  return mayWrite() && cube?.access !== "reader";
}

function makeCube() {
  open("Make a cube", (body, close) => {
    const result = el("div");
    const id = el("input", { name: "cube", required: true, maxlength: "200", spellcheck: "false", autocomplete: "off" });
    const submit = el("button", { class: "primary", type: "submit" }, "Make it");
    fill(body, el("form", { class: "stack", onsubmit: (event) => {
      event.preventDefault();
      doing(submit, result, async () => {
        const made = await api.post("cubes", {}, { cube_id: id.value.trim() });
        sessionStorage.setItem(CUBE, made.cube_id);
        session = await api.get("session");
        close();
        showFrame();
        tell(`The cube ${made.cube_id} is there.`);
      });
    } }, field("Name", id), el("p", { class: "quiet small" }, "A short word, for example notes. It cannot be changed later."), result,
    el("div", { class: "row end" }, submit)));
  });
}

function signOut(told) {
  leaveView();
  keeper.forget();
  sessionStorage.removeItem(CUBE);
  session = null;
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
  // What it offers would be done as whoever signs in next.
  hush();
  showSignIn(app, begin, told);
}

/** What there is to know of a cube, in a few words. */
function about(cube) {
  const rights = { owner: "yours", member: `shared by ${cube.owner_id}`, reader: `shared by ${cube.owner_id}, to read` };
  return [rights[cube.access] ?? cube.access, cube.text_memory, cube.is_registered ? "" : "not registered"].filter(Boolean).join(" · ");
}

function showFrame() {
  const chosen = cubeNow();
  const named = (cube) => cube.cube_name && cube.cube_name !== cube.cube_id ? `${cube.cube_name} (${cube.cube_id})` : cube.cube_id;
  const cubes = choice(session.cubes.map((cube) => [cube.cube_id, named(cube)]), chosen?.cube_id, {
    id: "cube",
    onchange: () => {
      sessionStorage.setItem(CUBE, cubes.value);
      fill(app.querySelector(".about"), about(cubeNow()));
      showView();
    },
  });
  const side = el("header", { class: "side" },
    el("div", { class: "brand" }, el("img", { src: "/assets/icon.svg", alt: "" }), "mos"),
    el("div", { class: "cube" },
      session.cubes.length > 0 && field("Cube", cubes),
      chosen && el("p", { class: "small quiet about" }, about(chosen)),
      mayWrite() && el("button", { type: "button", class: "plain", onclick: makeCube }, "New cube")),
    el("nav", { "aria-label": "Views" }, el("ul", {}, Object.entries(NAMES).map(([view, name]) =>
      el("li", {}, el("a", { href: `#${view}` }, name))))),
    el("div", { class: "who" },
      el("p", {}, el("span", { class: "quiet" }, "Signed in as "), el("strong", {}, session.user_id)),
      el("div", { class: "row" }, themeButton(),
        el("button", { type: "button", class: "plain", onclick: () => signOut() }, "Sign out"))));
  fill(app, el("div", { class: "frame" }, side, el("main", { id: "main", tabindex: "-1" })));
  showView();
}

function begin(found) {
  session = found;
  showFrame();
}

async function start() {
  applyTheme();
  if (!keeper.key && !keeper.user) {
    showSignIn(app, begin);
    return;
  }
  try {
    await enter(app, await api.get("session"), begin);
  } catch (error) {
    if (error.status === 401) {
      const told = keeper.key ? "The key is not known any more. Sign in again." : "";
      keeper.forget();
      showSignIn(app, begin, told);
    } else {
      fill(app, el("main", { id: "main", class: "signin stack" }, failure(error, start),
        el("div", {}, el("button", { type: "button", onclick: () => signOut() }, "Sign out"))));
    }
  }
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main")?.focus();
});
addEventListener("hashchange", showView);
document.addEventListener("mos-signed-out", () => { if (session) signOut("The key is not known any more. Sign in again."); });
start();
