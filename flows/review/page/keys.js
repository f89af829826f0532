// Actions, the keys that call them, and the choice of other keys, kept in localStorage.

const STORE = "plumbline.keys";

// Name -> [what it does, keys]. `hold` keys act while they are down, together with the wheel or the pointer.
export const ACTIONS = {
  accept: ["accept the point", ["a", "Enter"]],
  acceptRest: ["accept all points that are left", ["Shift+A"]],
  notVisible: ["point not visible", ["x"]],
  unsure: ["unsure: ask a second reader", ["u"]],
  nudge: ["move the point half a pixel; with Shift five", ["Arrow keys"]],
  nextPoint: ["next point", ["Tab"]],
  previousPoint: ["point before", ["Shift+Tab"]],
  nextFilm: ["next film", ["n"]],
  previousFilm: ["film before", ["p"]],
  undo: ["undo", ["z", "Ctrl+z"]],
  redo: ["redo", ["y", "Ctrl+y", "Ctrl+Shift+Z"]],
  focus: ["close up on the point", ["f"]],
  reset: ["whole film, picture as it came", ["0"]],
  zoomIn: ["zoom in (or wheel)", ["+", "="]],
  zoomOut: ["zoom out", ["-"]],
  brighter: ["brighter", ["]"]],
  darker: ["darker", ["["]],
  moreContrast: ["more contrast", ["}"]],
  lessContrast: ["less contrast", ["{"]],
  holdBrightness: ["hold, and wheel: brightness", ["b"]],
  holdContrast: ["hold, and wheel: contrast", ["c"]],
  holdPan: ["hold, and drag: move the film", ["Space"]],
  invert: ["invert", ["i"]],
  heatmap: ["heatmap of the point", ["h"]],
  names: ["names on or off", ["l"]],
  lines: ["lines on or off", ["e"]],
  help: ["this list", ["?"]],
};
const FIXED = ["nudge"];

export const keyName = (event) => {
  const key = event.key === " " ? "Space" : event.key;
  const shown = key.length > 1 || key.toLowerCase() !== key.toUpperCase();
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${event.shiftKey && shown ? "Shift+" : ""}${key}`;
};

export class Keys {
  constructor() {
    this.chosen = JSON.parse(localStorage.getItem(STORE) || "{}");
  }

  of(name) {
    return this.chosen[name] || ACTIONS[name][1];
  }

  // The action of a pressed key, or undefined. Letters count in either case unless Shift has an action of its own.
  action(event) {
    const pressed = keyName(event);
    const find = (key) => Object.keys(ACTIONS).find((name) => !FIXED.includes(name) && this.of(name).includes(key));
    return find(pressed) || (event.key.length === 1 && !event.shiftKey ? find(pressed.toLowerCase()) : undefined);
  }

  // Gives `name` one key, and takes it from the action that had it.
  choose(name, key) {
    for (const other of Object.keys(ACTIONS)) {
      const kept = this.of(other).filter((k) => k !== key);
      if (kept.length !== this.of(other).length) this.chosen[other] = kept;
    }
    this.chosen[name] = [key];
    localStorage.setItem(STORE, JSON.stringify(this.chosen));
  }

  reset() {
    this.chosen = {};
    localStorage.removeItem(STORE);
  }

  // Fills `list` with all actions; a click on one waits for the key it shall have.
  show(list) {
    list.replaceChildren();
    for (const [name, [what]] of Object.entries(ACTIONS)) {
      const button = document.createElement("button");
      button.type = "button";
      button.disabled = FIXED.includes(name);
      button.append(...this.of(name).map((key) => Object.assign(document.createElement("kbd"), { textContent: key })));
      if (!this.of(name).length) button.textContent = "none";
      button.addEventListener("click", () => this.wait(button, name, list));
      list.append(button, Object.assign(document.createElement("span"), { textContent: what }));
    }
  }

  wait(button, name, list) {
    button.textContent = "press a key";
    const taken = (event) => {
      if (["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      removeEventListener("keydown", taken, true);
      if (event.key !== "Escape") this.choose(name, keyName(event));
      this.show(list);
    };
    addEventListener("keydown", taken, true);
  }
}
