// One film under review: what the server told of it, what the reviewer said since, and what that adds up to.

import { action, lastAction, standing } from "/page/verdicts.js";

const IDLE = 30000; // ms without a sign of life that do not count as time on a point

export class Reading {
  // `item`: the server's view. `waiting`: events that are still on their way to it.
  constructor(session, item, waiting, remembered) {
    this.session = session;
    this.item = item;
    this.own = waiting;
    this.redoable = remembered?.redoable ?? []; // groups of [undo event id, landmark]
    this.draft = null; // {i, at}: a point in the hand, not yet said
    this.active = 0;
    this.active = remembered?.active ?? this.firstOpen();
    this.spent = 0;
    this.alive = performance.now();
  }

  get landmarks() {
    return this.session.landmarks;
  }

  get events() {
    const known = new Set(this.item.events.map((event) => event.event_id));
    return [...this.item.events, ...this.own.filter((event) => !known.has(event.event_id))];
  }

  get counting() {
    return standing(this.events);
  }

  get done() {
    return this.counting.size === this.landmarks.length;
  }

  get remembered() {
    return { rank: this.item.rank, active: this.active, redoable: this.redoable };
  }

  // What the screen shows of each landmark; `at`, `predicted` and `ring` in raw px.
  points() {
    const counting = this.counting;
    return this.landmarks.map((name, i) => {
      const verdict = counting.get(name);
      const predicted = this.item.predicted?.[i] ?? null;
      const ring = this.item.expected_error_px?.[i] ?? null;
      const held = this.draft?.i === i ? this.draft.at : null;
      const placed = Number.isFinite(verdict?.x) ? [verdict.x, verdict.y] : predicted;
      const state = held ? "correct" : verdict?.verdict ?? (predicted ? "model" : "open");
      const at = held ?? placed;
      return {
        name, state, at, predicted, ring, active: i === this.active, verdict,
        error: ring === null ? null : this.length(ring, ring, true),
        moved: at && predicted ? this.length(at[0] - predicted[0], at[1] - predicted[1], false) : null,
      };
    });
  }

  // A distance in mm, or in raw px where the spacing is unknown. `round`: dx is a radius, the same in all directions.
  length(dx, dy, round) {
    const [sx, sy] = this.item.spacing_mm ?? [1, 1];
    const value = round ? (dx * (sx + sy)) / 2 : Math.hypot(dx * sx, dy * sy);
    return { value, unit: this.item.spacing_mm ? "mm" : "px" };
  }

  // A sign of life; the time since the last one counts unless the reviewer was away.
  touch() {
    const now = performance.now();
    this.spent += Math.min(now - this.alive, IDLE);
    this.alive = now;
  }

  // Says something of landmarks: `said` is [{i, verdict, at}]; returns the events to send.
  say(said) {
    this.touch();
    const counting = this.counting;
    const events = action(
      said.map(({ i, verdict, at }) => ({
        landmark: this.landmarks[i],
        verdict,
        ...(at ? { x: at[0], y: at[1] } : {}),
        supersedes: counting.get(this.landmarks[i])?.event_id ?? null,
      })),
      this.spent,
    );
    this.spent = 0;
    this.redoable = [];
    this.own.push(...events);
    return events;
  }

  undo() {
    const last = lastAction(this.events);
    if (!last.length) return [];
    const events = this.takeBack(last.map((event) => [event.event_id, event.landmark]));
    this.redoable.push(events.map((event) => [event.event_id, event.landmark]));
    return events;
  }

  redo() {
    return this.redoable.length ? this.takeBack(this.redoable.pop()) : [];
  }

  takeBack(targets) {
    this.touch();
    const events = action(
      targets.map(([supersedes, landmark]) => ({ landmark, verdict: "undo", supersedes })),
      this.spent,
    );
    this.spent = 0;
    this.own.push(...events);
    this.active = this.landmarks.indexOf(targets[0][1]);
    return events;
  }

  // The server's view after it took in some of what was said here.
  takeOver(item) {
    const known = new Set(item.events.map((event) => event.event_id));
    this.item = item;
    this.own = this.own.filter((event) => !known.has(event.event_id));
  }

  // The point to begin with: the one that the model is least sure of, or the first where it says nothing.
  firstOpen() {
    const open = this.points().map((point, i) => ({ i, worth: point.verdict ? -1 : point.ring ?? 0 }));
    return open.reduce((a, b) => (b.worth > a.worth ? b : a)).i;
  }

  // The first landmark without a verdict after the active one, around the end; null where all have one.
  nextOpen() {
    const counting = this.counting;
    const n = this.landmarks.length;
    for (let step = 1; step <= n; step++) {
      const i = (this.active + step) % n;
      if (!counting.has(this.landmarks[i])) return i;
    }
    return null;
  }
}
