// Building elements. Data only ever becomes text: nothing here reads markup.

/** Returns an element. `properties` sets attributes; `on…` functions are listeners; children are nodes or texts. */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

/** Appends nodes and texts, passing over what is absent. */
export function add(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return parent;
}

/** Puts children in place of what an element holds. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  return add(parent, children);
}

let fields = 0;

/** Returns a labelled field. */
export function field(label, control) {
  fields += 1;
  control.id ||= `field-${fields}`;
  return el("div", { class: "field" }, el("label", { for: control.id }, label), control);
}

/** Returns a select of `[value, text]` pairs. */
export function choice(pairs, chosen, properties = {}) {
  const options = pairs.map(([value, text]) => el("option", { value, selected: value === chosen }, text));
  return el("select", properties, options);
}

/** Returns what stands where there is nothing: what that means, and what to do. */
export function empty(title, text, ...actions) {
  const row = actions.length ? el("div", { class: "row" }, actions) : null;
  if (row) row.style.justifyContent = "center";
  return el("div", { class: "empty" }, el("h2", {}, title), el("p", {}, text), row);
}

/** Returns what stands where something failed, with what to do. */
export function failure(error, again) {
  const hint = {
    0: "The server cannot be reached. See whether it still runs, then try again.",
    401: "The key is not known any more. Sign in again.",
    403: "Ask the owner of the cube, or use a key that may do this.",
    404: "It may have been removed meanwhile. Go back and load the list again.",
    409: "Somebody else changed the same thing. Load it again, then repeat your change.",
    429: "Too many requests, or no tokens left. Wait a moment, then try again.",
    503: "This part of the server is not available now. Try again in a moment.",
  }[error.status];
  return el("div", { class: "notice error stack", role: "alert" },
    el("p", {}, el("strong", {}, "That did not work. "), error.message),
    hint && el("p", { class: "quiet small" }, hint),
    again && el("div", {}, el("button", { type: "button", onclick: again }, "Try again")));
}

/** Tells something shortly; `action` is `[text, function]`. */
export function tell(text, action) {
  const act = action && el("button", { type: "button", onclick: () => { hush(); action[1](); } }, action[0]);
  fill(document.getElementById("told"), el("div", {}, el("span", {}, text), act,
    el("button", { type: "button", "aria-label": "Close this message", onclick: hush }, "Close")));
}

/** Takes away what was told. */
export function hush() {
  document.getElementById("told").replaceChildren();
}

/** Runs what a form or button asks for, with the control off meanwhile; a failure is shown in `place`. */
export async function doing(control, place, work) {
  control.disabled = true;
  place.replaceChildren();
  try {
    return await work();
  } catch (error) {
    fill(place, failure(error));
    return undefined;
  } finally {
    control.disabled = false;
  }
}
