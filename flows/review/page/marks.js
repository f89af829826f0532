// Drawing points. Marks have the same size on the screen at any zoom, and differ in shape as well as in colour
// (Okabe and Ito's palette). Their middle is left open: one sees what lies under the point.

export const LOOKS = {
  model: { colour: "#56b4e9", glyph: "○", word: "model" },
  accept: { colour: "#2fc79a", glyph: "✓", word: "accepted" },
  correct: { colour: "#f0a03c", glyph: "◆", word: "placed" },
  not_visible: { colour: "#a7b1bc", glyph: "✕", word: "not visible" },
  unsure: { colour: "#dd93c0", glyph: "?", word: "unsure" },
  open: { colour: "#8d98a3", glyph: "·", word: "to place" },
};
export const BANDS_MM = [2, 4];
const HALO = "rgba(0, 0, 0, .75)";
const DASHES = [[], [7, 4], [2, 4]]; // of the ring: under 2 mm, 2 to 4 mm, more

// 0, 1 or 2 of an expected error {value, unit}; 0 where it is not in mm.
export const band = (error) => (error?.unit === "mm" ? BANDS_MM.filter((limit) => error.value >= limit).length : 0);

// Draws each stroke twice, so that it shows on bone and on air.
function stroke(context, colour, width, path) {
  for (const [style, extra] of [[HALO, 2], [colour, 0]]) {
    context.strokeStyle = style;
    context.lineWidth = width + extra;
    context.beginPath();
    path(context);
    context.stroke();
  }
}

const circle = (x, y, r) => (c) => c.arc(x, y, r, 0, 2 * Math.PI);
const diamond = (x, y, r) => (c) => {
  c.moveTo(x, y - r);
  c.lineTo(x + r, y);
  c.lineTo(x, y + r);
  c.lineTo(x - r, y);
  c.closePath();
};
const cross = (x, y, r) => (c) => {
  c.moveTo(x - r, y - r);
  c.lineTo(x + r, y + r);
  c.moveTo(x - r, y + r);
  c.lineTo(x + r, y - r);
};
const tick = (x, y, r) => (c) => {
  c.moveTo(x + 0.5 * r, y - 1.15 * r);
  c.lineTo(x + 0.85 * r, y - 0.75 * r);
  c.lineTo(x + 1.6 * r, y - 1.7 * r);
};
const brackets = (x, y, r) => (c) => {
  for (const [dx, dy] of [[-1, -1], [1, -1], [1, 1], [-1, 1]]) {
    c.moveTo(x + dx * r, y + dy * r * 0.45);
    c.lineTo(x + dx * r, y + dy * r);
    c.lineTo(x + dx * r * 0.45, y + dy * r);
  }
};

const SHAPES = { accept: circle, model: circle, unsure: circle, correct: diamond, not_visible: cross };

// `points`: [{name, state, at, predicted, ring, error, active}]; `at`, `predicted` and `ring` in raw px or null.
export function drawMarks(context, camera, points, edges, look) {
  const screen = points.map((point) => point.at && camera.toScreen(point.at));
  if (look.lines) drawLines(context, screen, edges);
  points.forEach((point, i) => screen[i] && !point.active && drawPoint(context, camera, point, screen[i], look));
  const active = points.findIndex((point) => point.active);
  if (active >= 0 && screen[active]) drawPoint(context, camera, points[active], screen[active], look);
  drawNames(context, points, screen, look);
}

function drawLines(context, screen, edges) {
  context.strokeStyle = "rgba(255, 255, 255, .28)";
  context.lineWidth = 1;
  context.beginPath();
  for (const [a, b] of edges) {
    if (!screen[a] || !screen[b]) continue;
    context.moveTo(...screen[a]);
    context.lineTo(...screen[b]);
  }
  context.stroke();
}

function drawPoint(context, camera, point, [x, y], look) {
  const { colour } = LOOKS[point.state];
  const r = look.marker;
  context.globalAlpha = point.state === "not_visible" ? 0.6 : 1;
  const ring = point.ring * camera.zoom;
  if (ring > r + 1 && (point.state === "model" || point.active)) {
    const level = band(point.error);
    context.setLineDash(DASHES[level]);
    context.globalAlpha = point.active ? 0.95 : 0.6;
    stroke(context, colour, level === 2 ? 1.8 : 1.1, circle(...camera.toScreen(point.predicted), ring));
    context.setLineDash([]);
    context.globalAlpha = 1;
  }
  if (point.state === "correct" && point.predicted) {
    const from = camera.toScreen(point.predicted);
    stroke(context, colour, 1, (c) => {
      c.moveTo(...from);
      c.lineTo(x, y);
    });
    stroke(context, LOOKS.model.colour, 1, circle(...from, 2.5));
  }
  stroke(context, colour, point.active ? 2.2 : 1.6, SHAPES[point.state](x, y, r));
  if (point.state === "accept") stroke(context, colour, 2, tick(x, y, r));
  if (point.state === "unsure") write(context, "?", x + r, y - r, "bold 13px system-ui, sans-serif", colour);
  context.fillStyle = colour;
  context.fillRect(x - 0.75, y - 0.75, 1.5, 1.5);
  if (point.active) stroke(context, "#ffffff", 1.4, brackets(x, y, r + 7));
  context.globalAlpha = 1;
}

function write(context, text, x, y, font, colour) {
  context.font = font;
  context.fillStyle = "rgba(10, 14, 18, .62)";
  context.beginPath();
  context.roundRect(x - 3, y - 11, context.measureText(text).width + 6, 15, 4);
  context.fill();
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

// Names beside their points, each on the first of four sides where it covers no other name and no mark.
function drawNames(context, points, screen, look) {
  const r = look.marker;
  const taken = screen.filter(Boolean).map(([x, y]) => [x - r, y - r, x + r, y + r]);
  const order = points.map((_, i) => i).sort((a, b) => points[b].active - points[a].active);
  for (const i of order) {
    if (!screen[i] || !(look.names || points[i].active)) continue;
    const text = `${i + 1} ${points[i].name.replaceAll("_", " ")}`;
    const font = points[i].active ? "600 13px system-ui, sans-serif" : "11.5px system-ui, sans-serif";
    context.font = font;
    const width = context.measureText(text).width;
    const gap = r + (points[i].active ? 11 : 5);
    const [x, y] = screen[i];
    const sides = [[x + gap, y + 4], [x - gap - width, y + 4], [x - width / 2, y - gap - 2], [x - width / 2, y + gap + 11],
      [x + gap * 0.7, y - gap], [x + gap * 0.7, y + gap + 8], [x - gap * 0.7 - width, y - gap], [x - gap * 0.7 - width, y + gap + 8]];
    const box = ([left, base]) => [left - 3, base - 11, left + width + 3, base + 4];
    const free = (b) => !taken.some((t) => b[0] < t[2] && b[2] > t[0] && b[1] < t[3] && b[3] > t[1]);
    const place = sides.find((side) => free(box(side))) || (points[i].active ? sides[0] : null);
    if (!place) continue;
    taken.push(box(place));
    write(context, text, ...place, font, points[i].active ? "#ffffff" : LOOKS[points[i].state].colour);
  }
}
