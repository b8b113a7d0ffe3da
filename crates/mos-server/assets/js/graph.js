// The memories of a cube as a graph: nodes by type, edges by relation.

import cytoscape from "../vendor/cytoscape.js";
import { api } from "./api.js";
import { choice, el, empty, failure, field, fill } from "./dom.js";
import { count, TYPE_PAIRS, typeName } from "./format.js";
import { openMemory } from "./memory.js";
import { colour } from "./theme.js";

export const INTRODUCTION = "How memories belong together. Choose one to see what lies around it.";

// Told apart also without colours: by shape.
const LOOKS = {
  LongTermMemory: ["#2a78b8", "ellipse"], UserMemory: ["#0f8573", "round-rectangle"], WorkingMemory: ["#a9761b", "diamond"],
  SkillMemory: ["#8458b3", "hexagon"], ToolSchemaMemory: ["#b3531d", "triangle"], ToolTrajectoryMemory: ["#b3531d", "vee"],
  RawFileMemory: ["#6b7480", "rectangle"], PreferenceMemory: ["#b8487d", "star"], OuterMemory: ["#5c7f1f", "pentagon"],
};
const OTHER = ["#6b7480", "octagon"];
const RELATIONS = ["#5c7f1f", "#b3531d", "#2a78b8", "#b8487d", "#8458b3", "#a9761b", "#0f8573"];

const looks = (type) => LOOKS[type] ?? OTHER;

export async function show(root, context) {
  const center = context.rest[0] ?? "";
  const limit = choice([["100", "100"], ["200", "200"], ["500", "500"]], "200");
  const type = choice([["", "All"], ...TYPE_PAIRS], "");
  const depth = choice([["1", "1 step"], ["2", "2 steps"], ["3", "3 steps"]], "1");
  const place = el("div", { class: "stack" });
  let drawing = null;
  const leave = () => { if (drawing) drawing.destroy(); drawing = null; };

  async function load() {
    leave();
    fill(place, el("p", { class: "quiet" }, "Loading …"));
    try {
      const query = center ? { center, depth: depth.value } : { types: type.value };
      const graph = await api.get("graph", { cube: context.cube.cube_id, limit: limit.value, ...query });
      if (!context.isShown()) return;
      if (!graph.nodes.length) {
        fill(place, empty("Nothing to draw", type.value ? "There are no memories of this type. Choose another." : "Add memories first; the scheduler and the reader connect them."));
        return;
      }
      drawing = draw(place, graph, center, context, load);
    } catch (error) {
      if (context.isShown()) fill(place, failure(error, load));
    }
  }

  for (const control of [limit, type, depth]) control.addEventListener("change", load);
  const repaint = () => { if (drawing) drawing.style(style()); };
  document.addEventListener("mos-theme", repaint);
  context.onLeave(() => { document.removeEventListener("mos-theme", repaint); leave(); });
  fill(root, el("div", { class: "filters" },
    center ? field("Around the memory", depth) : field("Type", type), field("Most memories", limit),
    center && el("button", { type: "button", onclick: () => context.go("graph") }, "Whole graph")), place);
  await load();
}

function style() {
  const ink = colour("ink");
  const node = (type, [fillColour, shape]) => ({ selector: `node[type = "${type}"]`, style: { "background-color": fillColour, shape } });
  return [
    { selector: "node", style: {
      "background-color": OTHER[0], shape: OTHER[1], width: 22, height: 22, label: "data(label)", "font-size": 10, color: ink,
      "text-wrap": "ellipsis", "text-max-width": "110px", "text-valign": "bottom", "text-margin-y": 4, "min-zoomed-font-size": 7,
      "border-width": 1, "border-color": colour("surface"),
    } },
    ...Object.entries(LOOKS).map(([type, look]) => node(type, look)),
    { selector: "node.faded", style: { opacity: 0.25 } },
    { selector: "node:selected, node.center", style: { "border-width": 4, "border-color": colour("accent"), width: 30, height: 30 } },
    { selector: "edge", style: {
      width: 1.5, "line-color": "data(colour)", "target-arrow-color": "data(colour)", "target-arrow-shape": "triangle", "curve-style": "bezier",
    } },
    { selector: "edge.near", style: {
      width: 2.5, label: "data(kind)", "font-size": 9, color: ink, "text-rotation": "autorotate", "z-index": 2,
      "text-background-color": colour("surface"), "text-background-opacity": 0.85, "text-background-padding": 1,
    } },
    { selector: "edge.away, node.away", style: { display: "none" } },
  ];
}

function cut(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

/** Where a node begins: the same drawing comes out each time. */
function spiral(at) {
  const angle = at * 2.4;
  const distance = 40 * Math.sqrt(at);
  return { x: distance * Math.cos(angle), y: distance * Math.sin(angle) };
}

function draw(place, graph, center, context, again) {
  const kinds = [...new Set(graph.edges.map((edge) => edge.type))].sort();
  const colours = new Map(kinds.map((kind, at) => [kind, RELATIONS[at % RELATIONS.length]]));
  const short = (node) => cut(node.key || node.memory, 40);
  const elements = [
    ...graph.nodes.map((node, at) => ({
      data: { id: node.id, label: short(node), type: node.memory_type ?? "" }, classes: node.id === center ? "center" : "", position: spiral(at),
    })),
    ...graph.edges.map((edge, at) => ({ data: { id: `edge-${at}`, source: edge.source, target: edge.target, kind: edge.type, colour: colours.get(edge.type) } })),
  ];
  const canvas = el("div", { class: "canvas", role: "img", "aria-label": `A drawing of ${count(graph.nodes.length)} memories and ${count(graph.edges.length)} edges; the list beside it holds the same.` });
  const chosen = el("section", { class: "card stack", "aria-live": "polite" }, el("p", { class: "quiet small" }, "Choose a memory in the drawing or in the list."));
  const buttons = new Map(graph.nodes.map((node) => [node.id, el("button", { type: "button", "aria-pressed": "false", onclick: () => choose(node.id, true) }, short(node))]));
  const types = [...new Set(graph.nodes.map((node) => node.memory_type ?? ""))];
  const swatchOf = (value, isLine) => {
    const swatch = el("span", { class: isLine ? "swatch line" : "swatch", "aria-hidden": "true" });
    swatch.style.backgroundColor = value;
    return swatch;
  };
  const toggle = (name, swatch, elements) => {
    const box = el("input", { type: "checkbox", checked: true, onchange: () => elements().toggleClass("away", !box.checked) });
    return el("label", {}, box, swatch, el("span", {}, name));
  };
  const typeToggles = types.map((type) => toggle(typeName(type || undefined), swatchOf(looks(type)[0], false),
    () => drawing.nodes().filter((node) => node.data("type") === type)));
  const kindToggles = kinds.map((kind) => toggle(kind, swatchOf(colours.get(kind), true),
    () => drawing.edges().filter((edge) => edge.data("kind") === kind)));
  const told = graph.is_cut
    ? `${count(graph.nodes.length)} memories are drawn${graph.total_nodes > graph.nodes.length ? ` of ${count(graph.total_nodes)}, the newest` : "; there are more around"}. Choose a type, or look around one memory, to see others.`
    : "";
  fill(place,
    told && el("p", { class: "notice small", role: "status" }, told),
    el("div", { class: "graphwork" },
      el("div", { class: "stack" }, canvas, el("div", { class: "row" },
        el("button", { type: "button", onclick: () => drawing.fit(undefined, 30) }, "Fit"),
        el("button", { type: "button", onclick: () => zoom(1.3) }, "Closer"), el("button", { type: "button", onclick: () => zoom(1 / 1.3) }, "Farther"),
        el("button", { type: "button", onclick: again }, "Load again"))),
      el("div", { class: "stack" }, chosen,
        el("section", { class: "card stack" }, el("h2", {}, "Memories"), el("div", { class: "nodes" }, [...buttons.values()])),
        el("section", { class: "card stack" }, el("h2", {}, "Types"), el("div", { class: "legend" }, typeToggles)),
        el("section", { class: "card stack" }, el("h2", {}, "Relations"),
          kinds.length ? el("div", { class: "legend" }, kindToggles) : el("p", { class: "quiet small" }, "No edges here yet. Organising a tree connects its memories.")))));

  const drawing = cytoscape({
    container: canvas, elements, style: style(), minZoom: 0.1, maxZoom: 4, boxSelectionEnabled: false,
    layout: {
      name: graph.edges.length ? "cose" : "grid", animate: false, padding: 30, randomize: false, nodeDimensionsIncludeLabels: true,
      nodeRepulsion: () => 6000, idealEdgeLength: () => 40, componentSpacing: 60, gravity: 1,
    },
  });

  function zoom(by) {
    drawing.zoom({ level: drawing.zoom() * by, renderedPosition: { x: canvas.clientWidth / 2, y: canvas.clientHeight / 2 } });
  }

  function choose(id, moves) {
    const node = graph.nodes.find((one) => one.id === id);
    for (const [name, button] of buttons) button.setAttribute("aria-pressed", String(name === id));
    const inDrawing = drawing.getElementById(id);
    drawing.nodes().unselect();
    inDrawing.select();
    drawing.nodes().addClass("faded");
    inDrawing.closedNeighborhood().nodes().removeClass("faded");
    drawing.edges().removeClass("near");
    inDrawing.connectedEdges().addClass("near");
    if (moves) {
      drawing.fit(inDrawing.closedNeighborhood(), 70);
      if (drawing.zoom() > 1.3) zoom(1.3 / drawing.zoom());
    }
    const work = { ...context, changed: again };
    fill(chosen, el("h2", {}, node.key || typeName(node.memory_type)), el("p", {}, node.memory), el("p", { class: "small quiet" }, (node.tags ?? []).join(", ")),
      el("div", { class: "row" },
        el("button", { type: "button", class: "primary", onclick: () => openMemory(id, context.cube, work) }, "Open"),
        id !== center && el("button", { type: "button", onclick: () => context.go(`graph/${encodeURIComponent(id)}`) }, "Look around it")));
  }

  drawing.on("tap", "node", (event) => choose(event.target.id(), false));
  drawing.on("tap", (event) => { if (event.target === drawing) drawing.elements().removeClass("faded near").unselect(); });
  if (center && buttons.has(center)) choose(center, false);
  return drawing;
}
