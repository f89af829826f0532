// What a reviewer's events add up to. The rules are those of stages/core/review/events.py: an event counts as
// long as no event that itself counts supersedes it, so that undoing an undo is a redo.

const GROUP = 16; // hex digits that the events of one action share: they are undone together

const hex = (digits) =>
  Array.from(crypto.getRandomValues(new Uint8Array(digits / 2)), (b) => b.toString(16).padStart(2, "0")).join("");

export const groupOf = (event) => event.event_id.slice(0, GROUP);

// Events of one action. `said`: [{landmark, verdict, x?, y?, supersedes}]; the time is shared among them.
export function action(said, milliseconds) {
  const group = hex(GROUP);
  return said.map((one) => ({
    event_id: group + hex(32 - GROUP),
    dwell_ms: Math.round(Math.max(0, milliseconds) / said.length),
    ...one,
  }));
}

// Landmark -> the verdict that counts, of the events of one film in their order. `place`: its number in order.
export function standing(events) {
  const replacedBy = new Map();
  for (const event of events) {
    if (event.supersedes) replacedBy.set(event.supersedes, [...(replacedBy.get(event.supersedes) || []), event]);
  }
  const counts = (event) => !(replacedBy.get(event.event_id) || []).some(counts);
  const last = new Map();
  events.forEach((event, place) => {
    if (event.verdict !== "undo" && counts(event)) last.set(event.landmark, { ...event, place });
  });
  return last;
}

// The verdicts of the last action that counts.
export function lastAction(events) {
  const counting = [...standing(events).values()];
  if (!counting.length) return [];
  const latest = counting.reduce((a, b) => (b.place > a.place ? b : a));
  return counting.filter((event) => groupOf(event) === groupOf(latest));
}
