// The film on the screen: two canvases (film below, marks above), the heatmap between them, the loupe beside, and
// what pointers do to them. Knows no verdicts: it tells `asks` where the reviewer points.

import { Camera } from "/page/camera.js";
import { drawMarks } from "/page/marks.js";

const STILL = 4; // css px that a click may wander before it is a drag
const REACH = { mouse: 12, pen: 16, touch: 26 }; // css px from a mark that still hit it
const TWICE = 250; // ms in which a second click is a slip of the finger
const LOUPE = 4; // times the screen's zoom, at least this many css px a raw px
const SHARP = 3; // css px a raw px from which pixels are shown as squares

export class Stage {
  // `asks`: points() to draw, edges(), look(), active() raw px, select(i), drag(i, at, done), place(at), moved(), and
  // turned(by): whether the wheel was meant for something else than the zoom.
  constructor(asks) {
    this.asks = asks;
    this.camera = new Camera();
    this.film = document.querySelector("#film");
    this.marks = document.querySelector("#marks");
    this.heat = document.querySelector("#heat");
    this.bar = document.querySelector("#bar");
    this.loupe = document.querySelector("#loupe canvas");
    this.picture = null; // Image, in raw px
    this.fitted = true; // shows the whole film, and goes on doing so when the window changes
    this.pointers = new Map();
    this.gesture = null;
    this.panning = false; // the pan key is down
    this.focus = null; // raw px that the loupe shows
    this.placed = 0;
    new ResizeObserver(() => this.resize()).observe(document.querySelector("#stage"));
    for (const kind of ["down", "move", "up", "cancel"]) {
      this.marks.addEventListener(`pointer${kind}`, (event) => this[kind](event));
    }
    this.marks.addEventListener("pointerleave", () => this.look(null));
    this.marks.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.marks.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  get size() {
    return { width: this.marks.clientWidth, height: this.marks.clientHeight };
  }

  // The part that no buttons cover.
  get free() {
    const { width, height } = this.size;
    return { width, height: height - this.bar.offsetHeight - 20 };
  }

  // Zoom at which the whole film shows.
  get whole() {
    return Math.min(this.free.width / this.picture.width, this.free.height / this.picture.height);
  }

  get limits() {
    return { min: this.whole * 0.5, max: Math.max(40, this.whole * 40) };
  }

  // `camera`: a state to take up, null for the whole film, undefined for the view as it is.
  show(picture, camera) {
    const resized = !this.picture || this.picture.width !== picture.width || this.picture.height !== picture.height;
    this.picture = picture;
    this.gesture = null;
    this.focus = null;
    if (camera) {
      this.fitted = false;
      this.camera.state = camera;
    } else if (camera === null || resized || this.fitted) this.fit();
    this.draw();
  }

  clear() {
    this.picture = null;
    for (const canvas of [this.film, this.marks, this.loupe]) {
      canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    }
    this.heat.hidden = true;
  }

  resize() {
    const before = this.last;
    this.last = this.size;
    if (this.fitted) this.fit();
    else if (before) this.camera.pan((this.size.width - before.width) / 2, (this.size.height - before.height) / 2);
    this.draw();
  }

  fit() {
    if (!this.picture) return;
    this.camera.fit(this.picture, this.free);
    this.fitted = true;
    this.draw();
  }

  zoom(factor, at = [this.size.width / 2, this.size.height / 2]) {
    if (!this.picture) return;
    this.camera.zoomAt(at, factor, this.limits);
    this.settle();
  }

  centre(at, zoom) {
    if (!this.picture || !at) return;
    this.camera.centre(at, this.free, zoom && Math.min(Math.max(this.camera.zoom, zoom), this.limits.max));
    this.settle();
  }

  // Brings a point into view if it is not.
  reach(at) {
    if (!this.picture || !at) return;
    const [x, y] = this.camera.toScreen(at);
    const margin = 40;
    const inside = x > margin && y > margin && x < this.free.width - margin && y < this.free.height;
    if (!inside) this.centre(at);
  }

  settle() {
    this.fitted = false;
    this.camera.hold(this.picture, this.size);
    this.asks.moved();
    this.draw();
  }

  // Draws once a frame, however often it is asked.
  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      if (this.picture) this.drawNow();
    });
  }

  drawNow() {
    const { camera, picture } = this;
    const film = sized(this.film, this.size);
    film.imageSmoothingEnabled = camera.zoom < SHARP;
    film.imageSmoothingQuality = "high";
    film.drawImage(picture, camera.left, camera.top, picture.width * camera.zoom, picture.height * camera.zoom);
    const marks = sized(this.marks, this.size);
    drawMarks(marks, camera, this.asks.points(), this.asks.edges(), this.asks.look());
    Object.assign(this.heat.style, {
      left: `${camera.left}px`, top: `${camera.top}px`,
      width: `${picture.width * camera.zoom}px`, height: `${picture.height * camera.zoom}px`,
    });
    this.drawLoupe();
  }

  drawLoupe() {
    const box = this.loupe.parentElement;
    const size = { width: box.clientWidth, height: box.clientHeight };
    const context = sized(this.loupe, size);
    const at = this.focus || this.asks.active();
    box.classList.toggle("empty", !at);
    if (!at) return;
    const camera = new Camera();
    camera.centre(at, size, Math.max(2.5 * this.camera.zoom, LOUPE * Math.min(1, 1000 / this.picture.height)));
    context.imageSmoothingEnabled = camera.zoom < 2 * SHARP;
    const [w, h] = [this.picture.width * camera.zoom, this.picture.height * camera.zoom];
    context.drawImage(this.picture, camera.left, camera.top, w, h);
  }

  at(event) {
    const box = this.marks.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  inside(screen) {
    const [x, y] = this.camera.toRaw(screen);
    const { width, height } = this.picture;
    return [Math.min(Math.max(x, 0), width - 1), Math.min(Math.max(y, 0), height - 1)];
  }

  hit(screen, kind) {
    let best = null;
    this.asks.points().forEach((point, i) => {
      if (!point.at) return;
      const [x, y] = this.camera.toScreen(point.at);
      const away = Math.hypot(x - screen[0], y - screen[1]) - (point.active ? 4 : 0);
      if (away < (REACH[kind] || REACH.mouse) && (!best || away < best.away)) best = { i, away, at: point.at };
    });
    return best;
  }

  down(event) {
    if (!this.picture) return;
    this.marks.focus({ preventScroll: true });
    this.marks.setPointerCapture(event.pointerId);
    const at = this.at(event);
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2) {
      this.drop();
      this.gesture = { kind: "pinch" };
      return;
    }
    const hit = event.altKey ? null : this.hit(at, event.pointerType);
    if (this.panning || event.button > 0) this.gesture = { kind: "pan", start: at };
    else if (hit) {
      const [x, y] = this.camera.toScreen(hit.at);
      this.gesture = { kind: "grab", i: hit.i, start: at, grip: [x - at[0], y - at[1]] };
      this.asks.select(hit.i);
    } else this.gesture = { kind: "press", start: at };
  }

  move(event) {
    if (!this.picture) return;
    const at = this.at(event);
    const before = this.pointers.get(event.pointerId);
    const gesture = this.gesture;
    if (!before || !gesture) {
      const hit = this.hit(at, event.pointerType);
      this.marks.style.cursor = this.panning ? "grab" : hit ? "move" : "crosshair";
      this.look(this.inside(at));
      return;
    }
    if (gesture.kind === "pinch") {
      this.pinch(event.pointerId, at);
      return;
    }
    this.pointers.set(event.pointerId, at);
    const far = Math.hypot(at[0] - gesture.start[0], at[1] - gesture.start[1]) > STILL;
    if (gesture.kind === "press" && far) gesture.kind = "pan";
    if (gesture.kind === "grab" && far) gesture.kind = "drag";
    if (gesture.kind === "pan") {
      this.marks.style.cursor = "grabbing";
      this.camera.pan(at[0] - before[0], at[1] - before[1]);
      this.settle();
    }
    if (gesture.kind === "drag") {
      this.focus = this.inside([at[0] + gesture.grip[0], at[1] + gesture.grip[1]]);
      this.asks.drag(gesture.i, this.focus, false);
    }
  }

  // The loupe shows `at`, raw px, or the active point.
  look(at) {
    if (this.gesture || !this.picture) return;
    this.focus = at;
    this.drawLoupe();
  }

  pinch(id, at) {
    const others = [...this.pointers].filter(([other]) => other !== id).map(([, place]) => place);
    const [before, other] = [this.pointers.get(id), others[0]];
    this.pointers.set(id, at);
    const spread = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
    this.camera.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
    this.zoom(spread(at) / Math.max(spread(before), 1), [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2]);
  }

  up(event) {
    const gesture = this.gesture;
    const at = this.at(event);
    this.pointers.delete(event.pointerId);
    if (!this.picture || !gesture) return;
    if (this.pointers.size === 0) this.gesture = null;
    if (gesture.kind === "drag") this.asks.drag(gesture.i, this.focus, true);
    if (gesture.kind === "press" && event.timeStamp - this.placed > TWICE) {
      this.placed = event.timeStamp;
      this.asks.place(this.inside(at));
    }
    this.focus = null;
    this.draw();
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    this.drop();
  }

  // Ends a gesture without a verdict.
  drop() {
    if (this.gesture?.kind === "drag") this.asks.drag(this.gesture.i, null, true);
    this.gesture = null;
    this.focus = null;
    this.draw();
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    const turn = -event.deltaY * lines;
    if (this.asks.turned(turn)) return;
    this.zoom(Math.exp(Math.min(Math.max(turn, -300), 300) * (event.ctrlKey ? 0.01 : 0.0016)), this.at(event));
  }
}

// A canvas of this size on the screen, sharp on dense displays, empty; its context draws in css px.
function sized(canvas, { width, height }) {
  const dense = devicePixelRatio || 1;
  const [w, h] = [Math.round(width * dense), Math.round(height * dense)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(dense, 0, 0, dense, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
