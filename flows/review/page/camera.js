// From raw px to the screen and back. Points are pixel centres: the first pixel of a film lies at 0 and covers
// -0.5 to 0.5. This is the only place in the page that knows of half pixels.

export class Camera {
  constructor() {
    this.zoom = 1; // css px a raw px
    this.left = 0; // of the film's edge, css px
    this.top = 0;
  }

  toScreen([x, y]) {
    return [(x + 0.5) * this.zoom + this.left, (y + 0.5) * this.zoom + this.top];
  }

  toRaw([x, y]) {
    return [(x - this.left) / this.zoom - 0.5, (y - this.top) / this.zoom - 0.5];
  }

  // The whole film, centred in the part of the stage that is free.
  fit(film, free) {
    this.zoom = Math.min(free.width / film.width, free.height / film.height) * 0.98;
    this.left = (free.width - film.width * this.zoom) / 2;
    this.top = (free.height - film.height * this.zoom) / 2;
  }

  // What is under (x, y), css px, stays there.
  zoomAt([x, y], factor, limits) {
    const zoom = Math.min(Math.max(this.zoom * factor, limits.min), limits.max);
    this.left = x - ((x - this.left) * zoom) / this.zoom;
    this.top = y - ((y - this.top) * zoom) / this.zoom;
    this.zoom = zoom;
  }

  centre(point, stage, zoom = this.zoom) {
    this.zoom = zoom;
    this.left = stage.width / 2 - (point[0] + 0.5) * zoom;
    this.top = stage.height / 2 - (point[1] + 0.5) * zoom;
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
  }

  // At least a corner of the film stays on the stage.
  hold(film, stage) {
    const keep = 60;
    this.left = Math.min(Math.max(this.left, keep - film.width * this.zoom), stage.width - keep);
    this.top = Math.min(Math.max(this.top, keep - film.height * this.zoom), stage.height - keep);
  }

  get state() {
    return [this.zoom, this.left, this.top];
  }

  set state([zoom, left, top]) {
    Object.assign(this, { zoom, left, top });
  }
}
