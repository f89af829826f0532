// The beginning: reads the session, asks for a name, and wires keys, buttons and pointers to the review.

import { Refused, read, send } from "/page/api.js";
import { Keys } from "/page/keys.js";
import { limitsInWords, toast } from "/page/panels.js";
import { Review } from "/page/review.js";
import { Settings } from "/page/settings.js";
import { Stage } from "/page/stage.js";

const $ = (selector) => document.querySelector(selector);
const NUDGE = { ArrowLeft: [-0.5, 0], ArrowRight: [0.5, 0], ArrowUp: [0, -0.5], ArrowDown: [0, 0.5] };
const CLOSE_UP = 4; // times the whole film
const RENEW = 60000; // ms; a film stays with a reviewer who is there
const REFRESH = 20000;

let session, review, settings, stage, keys;
const held = new Set(); // actions whose key is down

const DO = {
  accept: () => review.judge("accept"),
  acceptRest: () => review.acceptRest(),
  notVisible: () => review.judge("not_visible"),
  unsure: () => review.judge("unsure"),
  nextPoint: () => review.step(1),
  previousPoint: () => review.step(-1),
  nextFilm: () => review.skip(),
  previousFilm: () => review.goBack(),
  undo: () => review.takeBack("undo"),
  redo: () => review.takeBack("redo"),
  focus: () => stage.centre(asks.active(), stage.whole * CLOSE_UP),
  reset() {
    settings.plainPicture();
    stage.fit();
  },
  zoomIn: () => stage.zoom(1.25),
  zoomOut: () => stage.zoom(0.8),
  brighter: () => settings.scale("brightness", 1.1),
  darker: () => settings.scale("brightness", 1 / 1.1),
  moreContrast: () => settings.scale("contrast", 1.1),
  lessContrast: () => settings.scale("contrast", 1 / 1.1),
  invert: () => settings.toggle("invert"),
  heatmap: () => (session.heatmaps ? settings.toggle("heatmap") : toast("no model is at hand for heatmaps")),
  names: () => settings.toggle("names"),
  lines: () => settings.toggle("lines"),
  help() {
    keys.show($("#keylist"));
    $("#keys").showModal();
  },
};

// What the stage wants to know, and tells.
const asks = {
  points: () => review.reading?.points() ?? [],
  edges: () => session.edges,
  look: () => settings,
  active: () => review.reading?.points()[review.reading.active].at ?? null,
  select: (i) => review.select(i),
  drag: (i, at, done) => review.dragPoint(i, at, done),
  place: (at) => review.placeActive(at),
  moved: () => review.keep(),
  turned(turn) {
    const name = held.has("holdBrightness") ? "brightness" : held.has("holdContrast") ? "contrast" : null;
    if (name) settings.scale(name, Math.exp(turn * 0.001));
    return name !== null;
  },
};

function pressed(event) {
  const onField = event.target.matches("input:not([type=range]):not([type=checkbox])");
  const onButton = event.target.matches("button, a") && ["Enter", " ", "Tab"].includes(event.key);
  if ($("dialog[open]") || onField || onButton) return;
  const bare = !event.ctrlKey && !event.altKey && !event.metaKey && !event.target.matches("input");
  if (NUDGE[event.key] && bare) {
    event.preventDefault();
    review.nudge(NUDGE[event.key], event.shiftKey);
    return;
  }
  const name = keys.action(event);
  if (!name) return;
  event.preventDefault();
  if (name.startsWith("hold")) hold(name, true);
  else DO[name]();
}

function hold(name, down) {
  if (down) held.add(name);
  else held.delete(name);
  stage.panning = held.has("holdPan");
}

function released(event) {
  const name = keys.action(event);
  if (name?.startsWith("hold")) hold(name, false);
}

function wire() {
  addEventListener("keydown", pressed);
  addEventListener("keyup", released);
  addEventListener("blur", () => [...held].forEach((name) => hold(name, false)));
  for (const button of document.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => DO[button.dataset.do]());
    button.addEventListener("mousedown", (event) => event.preventDefault()); // the keys go on working
  }
  $("#help").addEventListener("click", DO.help);
  $("#who").addEventListener("click", () => {
    review.commitDraft();
    review.release();
    askName();
  });
  $("#resetkeys").addEventListener("click", () => {
    keys.reset();
    keys.show($("#keylist"));
  });
  $("#naming").addEventListener("cancel", (event) => review.annotator || event.preventDefault());
  $("#naming").addEventListener("close", () => begin($("#name").value.trim() || review.annotator));
  addEventListener("pagehide", () => {
    review.commitDraft();
    review.keep();
  });
  addEventListener("visibilitychange", () => document.hidden && review.commitDraft());
  setInterval(renew, RENEW);
  setInterval(() => document.hidden || review.poll(), REFRESH);
}

function renew() {
  const { reading, annotator } = review;
  if (!reading || session.read_only || performance.now() - reading.alive > 2 * RENEW) return;
  send(`/api/items/${reading.item.rank}/renew`, { annotator }).catch((error) => {
    if (error instanceof Refused) toast(error.message, "bad");
  });
}

function askName() {
  $("#name").value = review.annotator ?? "";
  $("#naming").showModal();
  $("#name").select();
}

async function begin(name) {
  localStorage.setItem("plumbline.name", name);
  $("#who").textContent = name;
  await review.begin(name);
}

async function main() {
  session = await read("/api/session");
  keys = new Keys();
  stage = new Stage(asks);
  settings = new Settings(() => {
    review.showHeat();
    stage.draw();
  });
  review = new Review(session, settings, stage);
  const model = session.dataset === "phantom" ? "generated films" : session.dataset;
  $("#about").textContent = `${session.lane} · round ${session.round} · model trained on ${model} · ${session.notice}`;
  $("#points").title = limitsInWords;
  $("#heatswitch").hidden = !session.heatmaps;
  document.body.classList.toggle("readonly", session.read_only);
  wire();
  const asked = new URLSearchParams(location.search).get("name");
  const name = asked || session.annotator || localStorage.getItem("plumbline.name");
  if (name) await begin(name);
  else askName();
}

main().catch((error) => {
  $("#cover").hidden = false;
  $("#cover").textContent = `The page cannot start: ${error.message}. Is \`plumbline review\` still running?`;
});
