// The review at work: which film is open, what the reviewer says of its points, and what the screen shows of it.

import { Refused, read, send } from "/page/api.js";
import { Outbox } from "/page/outbox.js";
import { showPoints, showProgress, showQueue, showReason, showSaved, toast } from "/page/panels.js";
import { Reading } from "/page/reading.js";

const $ = (selector) => document.querySelector(selector);
const NUDGE_BIG = 10; // times as far with Shift
const SETTLED = 700; // ms after the last nudge until the point counts as placed
const GO_ON = 900; // ms that a finished film stays, for an undo

export class Review {
  constructor(session, settings, stage) {
    Object.assign(this, { session, settings, stage });
    this.annotator = null;
    this.reading = null;
    this.queue = { items: [], points: 0 };
    this.upcoming = null; // Image of the film that probably comes next
    this.opening = 0; // counts attempts to open a film: only the last one shows
    this.outbox = new Outbox(session, this);
  }

  // -- films --------------------------------------------------------------------------------------------------------

  get place() {
    return `plumbline.place.${this.session.lane}.${this.session.round}.${this.annotator}`;
  }

  // Starts, or goes on where this person was before a reload.
  async begin(annotator) {
    Object.assign(this, { annotator, reading: null, trail: [], skipped: [] });
    this.stage.clear();
    this.outbox.say();
    const remembered = JSON.parse(localStorage.getItem(this.place) || "null");
    if (remembered) await this.open(remembered.rank, remembered);
    else await this.openNext();
    this.outbox.flush();
  }

  open(rank, remembered) {
    if (this.reading?.item.rank === rank && !remembered) return null;
    return this.take(() => send(`/api/items/${rank}/open`, { annotator: this.annotator }), remembered);
  }

  openNext() {
    const next = async (skip) => (await send("/api/next", { annotator: this.annotator, skip })).item;
    return this.take(async () => {
      const item = await next(this.skipped);
      if (item || !this.skipped.length) return item;
      const here = this.reading && !this.reading.done ? [this.reading.item.rank] : [];
      this.skipped = [];
      return (await next(here)) || next([]);
    });
  }

  skip() {
    this.commitDraft();
    if (this.reading && !this.reading.done) this.skipped.push(this.reading.item.rank);
    return this.openNext();
  }

  goBack() {
    if (this.trail.length) this.open(this.trail.pop(), {});
    else toast("this is the first film that you opened");
  }

  // Opens what `ask` gets from the server: an item, or null where nothing is left.
  async take(ask, remembered) {
    this.commitDraft();
    clearTimeout(this.leaving);
    const turn = ++this.opening;
    let item;
    try {
      await this.outbox.flush();
      item = await ask();
    } catch (error) {
      if (turn !== this.opening) return;
      toast(error.message, "bad");
      if (error instanceof Refused && !this.reading && remembered) await this.openNext();
      return;
    }
    const picture = item && (await this.load(item.film));
    if (turn !== this.opening) return;
    if (item) this.show(item, picture, remembered);
    else this.finishQueue();
    await this.poll();
    this.prefetch();
  }

  show(item, picture, remembered) {
    if (this.reading && this.reading.item.rank !== item.rank && !remembered) this.trail.push(this.reading.item.rank);
    this.outbox.knows(item, this.annotator);
    this.reading = new Reading(this.session, item, this.outbox.waiting(item.rank, this.annotator), remembered);
    $("#cover").hidden = true;
    this.stage.show(picture, remembered?.camera ?? (this.settings.keepZoom ? undefined : null));
    this.refresh();
  }

  load(film) {
    const source = `/api/films/${encodeURIComponent(film)}/picture`;
    const picture = this.upcoming?.src.endsWith(source) ? this.upcoming : Object.assign(new Image(), { src: source });
    return picture.decode().then(
      () => picture,
      () => {
        toast("this film's picture could not be loaded: try again with N", "bad");
        return Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
      },
    );
  }

  prefetch() {
    const here = this.reading?.item.rank;
    const after = this.queue.items.find((row) => row.rank > here && row.mine < this.queue.points && !row.held_by);
    if (after) this.upcoming = Object.assign(new Image(), { src: `/api/films/${encodeURIComponent(after.film)}/picture` });
  }

  finishQueue() {
    this.release();
    this.reading = null;
    this.stage.clear();
    $("#cover").hidden = false;
    $("#cover").textContent = this.queue.items.some((row) => row.held_by)
      ? "Nothing is left for you now; others hold the rest. Thank you."
      : "Every film of this round is reviewed. Thank you. `plumbline round` learns from it.";
    this.refresh();
  }

  release() {
    const { reading, annotator } = this;
    if (reading && !this.session.read_only) send(`/api/items/${reading.item.rank}/release`, { annotator }).catch(() => {});
  }

  // -- verdicts -----------------------------------------------------------------------------------------------------

  get judging() {
    if (this.session.read_only) toast("this page is read-only");
    return this.reading && !this.session.read_only;
  }

  // Hands verdicts to the outbox, and stops what would leave the film.
  put(events) {
    clearTimeout(this.leaving);
    this.outbox.put(this.reading.item.rank, this.annotator, events);
    this.refresh();
  }

  // On to the next open point; where there is none, the film is done.
  goOn() {
    const next = this.reading.nextOpen();
    if (next === null) this.finishFilm();
    else if (this.settings.advance) this.select(next);
  }

  async finishFilm() {
    const { rank } = this.reading.item;
    await this.outbox.flush();
    if (this.reading?.item.rank !== rank || !this.reading.done) return;
    this.poll();
    if (this.reading.item.blinded) toast("All placed. The blue points are the model's. N: next film", "good");
    else if (!this.settings.advance) toast("Film done. N: next film", "good");
    else {
      toast("Film done", "good");
      this.leaving = setTimeout(() => this.openNext(), GO_ON);
    }
  }

  judge(verdict) {
    if (!this.judging) return;
    this.commitDraft();
    const { reading } = this;
    const { state } = reading.points()[reading.active];
    if (verdict === "accept" && state === "open") {
      toast("Place this point first: click where you see it");
      return;
    }
    const said = state === verdict || (verdict === "accept" && state === "correct");
    if (!said) this.put(reading.say([{ i: reading.active, verdict }]));
    this.goOn();
  }

  acceptRest() {
    if (!this.judging) return;
    this.commitDraft();
    if (this.reading.item.hidden) {
      toast("On this film you place every point yourself");
      return;
    }
    const rest = this.reading.points().flatMap((point, i) => (point.verdict ? [] : [{ i, verdict: "accept" }]));
    if (rest.length) this.put(this.reading.say(rest));
    this.goOn();
  }

  correct(i, at) {
    const [x, y] = at.map((value) => Math.round(value * 100) / 100);
    this.put(this.reading.say([{ i, verdict: "correct", at: [x, y] }]));
  }

  // A click beside the marks places the active point.
  placeActive(at) {
    if (!this.judging) return;
    this.commitDraft();
    const { reading } = this;
    const first = !reading.points()[reading.active].verdict;
    this.correct(reading.active, at);
    if (first) this.goOn();
  }

  // A mark follows the pointer; `at` is null where the pointer was lost.
  dragPoint(i, at, done) {
    if (!this.judging) return;
    clearTimeout(this.leaving);
    this.reading.touch();
    this.reading.draft = at && { i, at };
    if (done && at) this.commitDraft();
    this.refresh();
  }

  nudge(direction, big) {
    if (!this.judging) return;
    clearTimeout(this.leaving);
    const { reading } = this;
    const { at } = reading.points()[reading.active];
    if (!at) return;
    const { width, height } = reading.item;
    const [dx, dy] = direction.map((step) => step * (big ? NUDGE_BIG : 1));
    const x = Math.min(Math.max(at[0] + dx, 0), width - 1);
    const y = Math.min(Math.max(at[1] + dy, 0), height - 1);
    reading.draft = { i: reading.active, at: [x, y] };
    this.stage.reach([x, y]);
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.commitDraft(), SETTLED);
    this.refresh();
  }

  // A point in the hand becomes a verdict: before anything else happens, and before the page goes away.
  commitDraft() {
    clearTimeout(this.settling);
    if (!this.reading?.draft) return;
    const { i, at } = this.reading.draft;
    const wasDone = this.reading.done;
    this.reading.draft = null;
    this.correct(i, at);
    if (!wasDone && this.reading.done) this.finishFilm();
  }

  // `what`: "undo" or "redo".
  takeBack(what) {
    if (!this.judging) return;
    this.commitDraft();
    const events = this.reading[what]();
    if (events.length) this.put(events);
    else toast(`nothing to ${what}`);
  }

  select(i) {
    if (!this.reading) return;
    this.commitDraft();
    this.reading.touch();
    this.reading.active = i;
    this.stage.focus = null;
    this.stage.reach(this.reading.points()[i].at);
    this.refresh();
  }

  step(by) {
    const n = this.session.landmarks.length;
    if (this.reading) this.select((this.reading.active + by + n) % n);
  }

  // -- what the outbox tells ----------------------------------------------------------------------------------------

  state(name, waiting) {
    showSaved(this.session.read_only ? "readonly" : name, waiting);
  }

  isOpen(entry) {
    return this.reading?.item.rank === entry.rank && entry.annotator === this.annotator;
  }

  stored(entry, item) {
    if (!this.isOpen(entry)) return;
    this.reading.takeOver(item);
    this.refresh();
  }

  refused(entry, error) {
    toast(error.message, "bad");
    if (!this.isOpen(entry)) return;
    if (!error.facts.kept_aside) {
      this.reload();
      return;
    }
    this.reading = null; // the film is another's by now
    this.stage.clear();
    this.refresh();
    this.openNext();
  }

  // Shows the film as the server has it: after a verdict was refused, or another window went on.
  async reload() {
    const { rank } = this.reading.item;
    const item = await read(`/api/items/${rank}`, this.annotator).catch(() => null);
    if (!item || this.reading?.item.rank !== rank) return;
    this.outbox.knows(item, this.annotator);
    this.reading.own = this.outbox.waiting(rank, this.annotator);
    this.reading.takeOver(item);
    this.refresh();
  }

  // -- the screen ---------------------------------------------------------------------------------------------------

  refresh() {
    showReason(this.reading?.item);
    showPoints(this.reading ? this.reading.points() : [], (i) => this.select(i));
    this.showHeat();
    this.stage.draw();
    this.keep();
  }

  keep() {
    if (!this.reading) return;
    const kept = { ...this.reading.remembered, camera: this.stage.fitted ? null : this.stage.camera.state };
    localStorage.setItem(this.place, JSON.stringify(kept));
  }

  showHeat() {
    const image = this.stage.heat;
    const wanted = this.settings.heatmap && this.session.heatmaps && this.reading && !this.reading.item.hidden;
    image.hidden = !wanted;
    if (!wanted) return;
    const landmark = encodeURIComponent(this.session.landmarks[this.reading.active]);
    const who = new URLSearchParams({ annotator: this.annotator });
    const source = `/api/items/${this.reading.item.rank}/heatmap/${landmark}?${who}`;
    if (image.getAttribute("src") !== source) image.src = source;
  }

  async poll() {
    if (!this.annotator) return;
    try {
      const [queue, told] = await Promise.all([
        read("/api/queue", this.annotator),
        read("/api/progress", this.annotator),
      ]);
      this.queue = queue;
      showQueue(queue, this.reading?.item.rank, (rank) => this.open(rank));
      showProgress(told);
    } catch { /* the outbox tells of a server that is away */ }
  }
}
