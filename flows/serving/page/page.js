"use strict";
// One film at a time: send it, draw the points that come back. Text is always set as text, never as markup.
const byId = (id) => document.getElementById(id);
const ERRORS = { radius_px: "radius, px", expected_error_raw_px: "exp. error, px", expected_error_px: "exp. error, px" };
let shown = { picture: null, answer: null, active: -1 };
let asked = 0;

async function start() {
  const models = await (await fetch("models")).json();
  for (const lane of Object.keys(models)) byId("lane").append(new Option(lane, lane));
  byId("lane").addEventListener("change", () => tellModel(models));
  tellModel(models);
}

function tellModel(models) {
  const champion = (models[byId("lane").value] || {}).champion;
  byId("model").textContent = champion ? name(champion) : "no model is loaded yet";
}

function name(model) {
  const version = model.version === null ? "unregistered" : `version ${model.version}`;
  return `${model.registered_name}, ${version}, trained on ${model.trained_on}`;
}

async function send(file) {
  const turn = ++asked;
  byId("hint").textContent = "";
  say("reading ...");
  const body = new FormData();
  body.append("film", file);
  const [picture, response] = await Promise.all([
    createImageBitmap(file).catch(() => null), // browsers show no DICOM and no TIFF: points on black then
    fetch(`predict/${encodeURIComponent(byId("lane").value)}`, { method: "POST", body }).catch(() => null),
  ]);
  const answer = response ? await response.json() : { error: { detail: "the service does not answer" } };
  if (turn !== asked) return; // another film was dropped meanwhile
  if (answer.error) {
    shown = { picture: null, answer: null, active: -1 };
    say(answer.error.detail, true);
  } else {
    shown = { picture, answer, active: -1 };
    const warnings = (answer.warnings || []).join("; ");
    say(`${name(answer.model)}. Research use only. ${angles(answer)} ${warnings}`);
  }
  draw();
  list();
}

function angles(answer) {
  const found = answer.cobb_degrees || answer.angles_deg || {};
  return Object.entries(found).map(([angle, degrees]) => `${angle} ${degrees}°`).join(", ");
}

function say(text, failed = false) {
  byId("said").textContent = text;
  byId("said").className = failed ? "failed" : "";
}

function draw() {
  const canvas = byId("view"), context = canvas.getContext("2d"), { picture, answer, active } = shown;
  if (!answer) { context.clearRect(0, 0, canvas.width, canvas.height); return; }
  // As large as the window allows, so that marks keep their size whatever the film's.
  const room = byId("drop"), scale = Math.min((room.clientWidth - 32) / answer.width, (room.clientHeight - 32) / answer.height);
  canvas.width = Math.round(answer.width * scale);
  canvas.height = Math.round(answer.height * scale);
  context.fillStyle = "black";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (picture) context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  answer.landmarks.forEach((point, i) => {
    const x = (point.x + 0.5) * scale, y = (point.y + 0.5) * scale; // a pixel's centre has whole numbers
    context.strokeStyle = context.fillStyle = i === active ? "#ffffff" : "#ffb000";
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(x, y, i === active ? 5 : 3, 0, 2 * Math.PI);
    context.fill();
    const reach = errorOf(point);
    if (reach !== null) {
      context.globalAlpha = 0.6;
      context.beginPath();
      context.arc(x, y, reach * scale, 0, 2 * Math.PI);
      context.stroke();
      context.globalAlpha = 1;
    }
    if (i === active) {
      context.font = "14px system-ui, sans-serif";
      context.fillText(point.name, x + 8, y - 8);
    }
  });
}

function errorOf(point) {
  const field = Object.keys(ERRORS).find((key) => typeof point[key] === "number");
  return field === undefined ? null : point[field];
}

function list() {
  const body = byId("points");
  body.replaceChildren();
  const points = shown.answer ? shown.answer.landmarks : [];
  const field = points.length ? Object.keys(ERRORS).find((key) => key in points[0]) : undefined;
  byId("error-name").textContent = field ? ERRORS[field] : "";
  points.forEach((point, i) => {
    const row = body.insertRow(), reach = errorOf(point);
    const numbers = [point.x, point.y, reach].map((v) => (v === null ? "" : v.toFixed(1)));
    for (const text of [point.name, ...numbers]) row.insertCell().textContent = text;
    row.addEventListener("pointerenter", () => { shown.active = i; row.className = "active"; draw(); });
    row.addEventListener("pointerleave", () => { shown.active = -1; row.className = ""; draw(); });
  });
}

const drop = byId("drop");
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.className = "over"; });
drop.addEventListener("dragleave", () => { drop.className = ""; });
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.className = "";
  if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
});
byId("file").addEventListener("change", (event) => { if (event.target.files.length) send(event.target.files[0]); });
window.addEventListener("resize", draw);
start();
