// How the reviewer likes the picture: kept from film to film and from day to day.

const STORE = "plumbline.settings";
const PLAIN = {
  brightness: 1, contrast: 1, invert: false, names: true, lines: true, heatmap: false, keepZoom: false,
  advance: true, marker: 6,
};
const LIMITS = { brightness: [0.3, 3], contrast: [0.3, 4], marker: [4, 14] };

export class Settings {
  // `changed`: called after every change.
  constructor(changed) {
    Object.assign(this, PLAIN, JSON.parse(localStorage.getItem(STORE) || "{}"));
    this.changed = changed;
    for (const name of Object.keys(PLAIN)) {
      const input = document.querySelector(`#${name}`);
      const get = () => (input.type === "checkbox" ? input.checked : Number(input.value));
      input.addEventListener("input", () => this.set(name, get()));
      input.addEventListener("change", () => input.blur());
    }
    this.show();
  }

  set(name, value) {
    const [low, high] = LIMITS[name] || [value, value];
    this[name] = typeof value === "number" ? Math.min(Math.max(value, low), high) : value;
    localStorage.setItem(STORE, JSON.stringify(Object.fromEntries(Object.keys(PLAIN).map((key) => [key, this[key]]))));
    this.show();
    this.changed();
  }

  toggle(name) {
    this.set(name, !this[name]);
  }

  scale(name, factor) {
    this.set(name, this[name] * factor);
  }

  plainPicture() {
    for (const name of ["brightness", "contrast", "invert"]) this.set(name, PLAIN[name]);
  }

  show() {
    for (const name of Object.keys(PLAIN)) {
      const input = document.querySelector(`#${name}`);
      if (input.type === "checkbox") input.checked = this[name];
      else input.value = this[name];
      const output = input.parentElement.querySelector("output");
      if (output) output.textContent = `${Math.round(100 * this[name])} %`;
    }
    const filter = `brightness(${this.brightness}) contrast(${this.contrast})${this.invert ? " invert(1)" : ""}`;
    for (const canvas of document.querySelectorAll("#film, #loupe canvas")) canvas.style.filter = filter;
  }
}
