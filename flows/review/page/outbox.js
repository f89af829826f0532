// Verdicts on their way to the server. Each lies in localStorage until the server has said that it is on disk, so
// that neither a reload nor a server that is away loses one. An entry is one action: its events are taken together.

import { Refused, Unreachable, send } from "/page/api.js";

const WAITS = [500, 1000, 2000, 4000, 8000, 15000]; // ms between attempts while the server is away
const FINAL = [400, 403, 404, 409, 413, 415, 421, 422]; // sending the same again will not help

export class Outbox {
  // `told`: { state(name, waiting), stored(entry, item), refused(entry, error) }
  constructor(session, told) {
    this.prefix = `plumbline.outbox.${session.lane}.${session.round}.`;
    this.refusedPrefix = `plumbline.refused.${session.lane}.${session.round}.`;
    this.told = told;
    this.versions = new Map(); // item and annotator -> version that the server told last
    this.attempt = 0;
    this.count = 0;
    this.timer = null;
    this.busy = false;
    addEventListener("online", () => this.flush());
    addEventListener("storage", (event) => event.key?.startsWith(this.prefix) && this.say());
  }

  keys() {
    return Object.keys(localStorage).filter((key) => key.startsWith(this.prefix)).sort();
  }

  entries() {
    return this.keys().map((key) => JSON.parse(localStorage.getItem(key)));
  }

  // Events of an item that the server may not have yet, in their order.
  waiting(rank, annotator) {
    return this.entries().filter((e) => e.rank === rank && e.annotator === annotator).flatMap((e) => e.events);
  }

  put(rank, annotator, events) {
    const order = `${Date.now().toString().padStart(15, "0")}.${(this.count++).toString().padStart(6, "0")}`;
    localStorage.setItem(`${this.prefix}${order}.${events[0].event_id}`, JSON.stringify({ rank, annotator, events }));
    this.say();
    this.flush();
  }

  knows(item, annotator) {
    this.versions.set(`${item.rank} ${annotator}`, item.version);
  }

  say() {
    const waiting = this.keys().length;
    this.told.state(!waiting ? "saved" : this.attempt ? "offline" : "saving", waiting);
  }

  async flush() {
    if (this.busy) return;
    this.busy = true;
    clearTimeout(this.timer);
    try {
      let key;
      while ((key = this.keys()[0])) {
        await this.deliver(key, JSON.parse(localStorage.getItem(key)));
        this.attempt = 0;
      }
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      this.timer = setTimeout(() => this.flush(), WAITS[Math.min(this.attempt++, WAITS.length - 1)]);
    } finally {
      this.busy = false;
      this.say();
    }
  }

  async deliver(key, entry) {
    const { rank, annotator, events } = entry;
    const version = this.versions.get(`${rank} ${annotator}`);
    try {
      const headers = version === undefined ? {} : { "if-match": `"${version}"` };
      const told = await send(`/api/items/${rank}/events`, { annotator, events }, headers);
      localStorage.removeItem(key);
      this.knows(told.item, annotator);
      this.told.stored(entry, told.item);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 412) {
        this.versions.delete(`${rank} ${annotator}`); // another window of the same person: both go on, in turn
        this.told.refused(entry, error);
        return;
      }
      if (!FINAL.includes(error.status)) throw new Unreachable(error.message);
      if (!error.facts.kept_aside) {
        localStorage.setItem(key.replace(this.prefix, this.refusedPrefix), JSON.stringify({ ...entry, error: error.message }));
      }
      localStorage.removeItem(key);
      this.told.refused(entry, error);
    }
  }
}
