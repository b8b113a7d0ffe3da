// Signing in.

import { api, keeper } from "./api.js";
import { el, failure, field, fill } from "./dom.js";
import { themeButton } from "./theme.js";

/** Shows the page before somebody is known; `done(session)` goes on. `told` says why one is here. */
export function showSignIn(app, done, told) {
  const place = el("div", { "aria-live": "polite" }, told && el("p", { class: "notice" }, told));
  const key = el("input", { type: "password", name: "key", autocomplete: "off", spellcheck: "false", id: "key" });
  const submit = el("button", { class: "primary", type: "submit" }, "Sign in");
  const form = el("form", { class: "stack", onsubmit: async (event) => {
    event.preventDefault();
    submit.disabled = true;
    keeper.sign(key.value.trim(), "");
    try {
      await enter(app, await api.get("session"), done);
    } catch (error) {
      keeper.forget();
      const text = error.status === 401 ? new Error(key.value.trim() ? "This key is not known here, or was taken back. See that no character is missing." : "This server asks for a key.")
        : error;
      fill(place, failure(text));
      key.focus();
    }
    submit.disabled = false;
  } }, field("Key", key), place, submit);
  frame(app, form, el("p", { class: "quiet small" },
    "The key was shown once when the server started first; whoever administers it can make others. It is kept in this tab only, and forgotten when the tab is closed. Leave it empty if the server asks for none."));
  key.focus();
}

/** Goes on with a session; a key for any user is asked for whom. */
export async function enter(app, session, done) {
  if (session.user_id) return done(session);
  return showWho(app, session, done);
}

function showWho(app, session, done) {
  const place = el("div");
  const list = el("datalist", { id: "users" }, session.users.map((user) => el("option", { value: user })));
  const user = el("input", { name: "user", list: "users", required: true, autocomplete: "off", spellcheck: "false" });
  const submit = el("button", { class: "primary", type: "submit" }, "Continue");
  const form = el("form", { class: "stack", onsubmit: async (event) => {
    event.preventDefault();
    submit.disabled = true;
    keeper.sign(keeper.key, user.value.trim());
    try {
      done(await api.get("session"));
    } catch (error) {
      keeper.sign(keeper.key, "");
      fill(place, failure(error));
      submit.disabled = false;
    }
  } }, field("User", user), list, place, submit);
  const why = keeper.key ? "This key acts for any user." : "This server asks for no key: everybody who reaches it may act for any user.";
  frame(app, el("p", { class: "quiet" }, `${why} Whose memories do you want to see?`), form);
  user.focus();
}

function frame(app, ...content) {
  document.title = "Sign in · mos";
  fill(app, el("main", { id: "main", class: "signin stack", tabindex: "-1" },
    el("div", { class: "row apart" },
      el("h1", { class: "brand" }, el("img", { src: "/assets/icon.svg", alt: "" }), "mos"), themeButton()),
    content));
}
