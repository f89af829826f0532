// The lists beside the film. Text goes in as text: a name never becomes markup.

import { BANDS_MM, LOOKS, band } from "/page/marks.js";

const $ = (selector) => document.querySelector(selector);
const BARS = ["▂", "▂▅", "▂▅█"]; // of the expected error: under 2 mm, 2 to 4, more
const KINDS = { uncertain: "model unsure", random_audit: "chance", repeat: "once more" };

export function element(tag, text, classes = "") {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (classes) made.className = classes;
  return made;
}


// Why a film is in the queue; a reason may begin with the kind itself.
function whyIn({ kind, reason }) {
  const own = reason?.startsWith(`${kind}:`) ? reason.slice(kind.length + 1) : reason;
  return `${KINDS[kind]}: ${own === null ? "read without help" : own.trim().replaceAll("_", " ")}`;
}

const shortName = (film) => film.split("-").pop().slice(0, 8);
const distance = (value, unit) => `${value.toFixed(unit === "mm" ? 1 : 0)} ${unit}`;

// `queue`: answer of /api/queue. `open`: called with the rank of a film that was clicked.
export function showQueue(queue, current, open) {
  const list = $("#films");
  const items = queue.items.map((row) => {
    const done = row.mine === queue.points;
    const line = element("li", undefined, [row.rank === current && "current", done && "done"].filter(Boolean).join(" "));
    const button = element("button");
    button.type = "button";
    button.dataset.rank = row.rank;
    if (row.rank === current) button.setAttribute("aria-current", "true");
    const error = row.expected_error === null ? "no hints" : distance(row.expected_error, row.unit);
    const level = row.unit === "mm" ? BARS[band({ value: row.expected_error, unit: row.unit })] : "";
    const head = element("span", undefined, "head");
    head.append(
      element("b", String(row.rank)),
      element("span", shortName(row.film), "film"),
      element("span", error, "error"),
      element("i", level, `bars level${level.length}`),
    );
    const by = row.done_by.length && !done ? `done by ${row.done_by.join(", ")}` : "";
    const held = row.held_by ? `⊘ with ${row.held_by}` : by;
    const state = done ? "✓ done" : row.mine ? `${row.mine} of ${queue.points}` : held;
    const why = whyIn(row);
    button.append(head, element("span", why, "why"), element("span", state, done || row.mine ? "state mine" : "state"));
    button.title = why;
    button.addEventListener("click", () => open(row.rank));
    line.append(button);
    return line;
  });
  const scrolled = list.scrollTop;
  list.replaceChildren(...items);
  list.scrollTop = scrolled;
  const line = list.querySelector(".current");
  if (line) line.scrollIntoView({ block: "nearest" });
}

// `points`: drawable points with `error` ({value, unit} or null) and `moved` (the same).
export function showPoints(points, select) {
  const list = $("#points");
  if (list.children.length !== points.length) {
    list.replaceChildren(
      ...points.map((point, i) => {
        const line = element("li");
        const button = element("button");
        button.type = "button";
        button.append(element("b"), element("span", "", "name"), element("span", "", "error"), element("i", "", "glyph"));
        button.addEventListener("click", () => select(i));
        line.append(button);
        return line;
      }),
    );
  }
  points.forEach((point, i) => {
    const button = list.children[i].firstChild;
    const [number, name, error, glyph] = button.children;
    const { glyph: sign, colour, word } = LOOKS[point.state];
    number.textContent = i + 1;
    name.textContent = point.name.replaceAll("_", " ");
    const level = point.error?.unit === "mm" ? ` ${BARS[band(point.error)]}` : "";
    const moved = point.moved && point.state === "correct";
    error.textContent = moved ? `moved ${distance(point.moved.value, point.moved.unit)}`
      : point.error ? `± ${distance(point.error.value, point.error.unit)}${level}` : "";
    glyph.textContent = sign;
    glyph.style.color = colour;
    button.title = `${point.name.replaceAll("_", " ")}: ${word}`;
    button.setAttribute("aria-label", `${i + 1} ${point.name}, ${word}, ${error.textContent}`);
    list.children[i].className = `${point.active ? "current" : ""} ${point.state}`;
    if (point.active) list.children[i].scrollIntoView({ block: "nearest" });
  });
}

// `told`: answer of /api/progress.
export function showProgress(told) {
  const bar = $("#progress");
  bar.setAttribute("aria-valuemax", told.films);
  bar.setAttribute("aria-valuenow", told.films_done);
  bar.querySelector("i").style.width = `${(100 * told.films_done) / told.films}%`;
  bar.querySelector("b").textContent = `${told.films_done} of ${told.films} films`;
  const judged = told.accepted + told.corrected;
  const rows = [
    ["films", told.films_mine],
    ["accepted", judged ? `${told.accepted} (${Math.round((100 * told.accepted) / judged)} %)` : "0"],
    ["corrected", told.corrected],
    ["not visible, unsure", `${told.not_visible}, ${told.unsure}`],
    ["moved, median", told.median_moved_mm === null ? "–" : `${told.median_moved_mm.toFixed(2)} mm`],
    ["a film takes", told.median_seconds_per_film === null ? "–" : `${Math.round(told.median_seconds_per_film)} s`],
    ["films an hour", told.films_per_hour === null ? "–" : Math.round(told.films_per_hour)],
  ];
  $("#mine dl").replaceChildren(...rows.flatMap(([what, value]) => [element("dt", what), element("dd", String(value))]));
}

export function showReason(item) {
  $("#reason h2").textContent = item ? `Film ${item.rank}` : "";
  $("#reason p").textContent = item ? whyIn(item) : "";
  $("#blind").hidden = !item?.hidden;
}

export function showSaved(name, waiting) {
  const words = {
    saved: "all saved",
    saving: `saving ${waiting}`,
    offline: `server away: ${waiting} kept here, trying again`,
    readonly: "read-only",
  };
  $("#saved").className = name;
  $("#saved span").textContent = words[name];
}

export function toast(text, kind = "") {
  const made = element("p", text, kind);
  $("#toasts").append(made);
  while ($("#toasts").children.length > 3) $("#toasts").firstChild.remove();
  setTimeout(() => made.remove(), kind === "bad" ? 9000 : 3500);
}

export const limitsInWords = `rings: solid under ${BANDS_MM[0]} mm, dashed under ${BANDS_MM[1]} mm, dotted beyond`;
