// Two stick figures over time on a canvas: what went in (grey) and what came out (left blue, right orange).
// Poses are millimetres in the camera's frame (x right, y down, z away); the drag turns the camera about them.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("poses").textContent);
  const canvas = document.getElementById("stage"), draw = canvas.getContext("2d");
  const slider = document.getElementById("frame"), button = document.getElementById("play");
  const label = document.getElementById("time"), turnBox = document.getElementById("turn");
  const colours = getComputedStyle(document.documentElement);
  const colour = (name) => colours.getPropertyValue("--" + name).trim();
  const n = data.before.length;
  let playing = false, started = 0, startFrame = 0;
  slider.max = n - 1;

  function figure(pose, turn, left, width, faded) {
    const c = Math.cos(turn), s = Math.sin(turn), scale = canvas.height / 2300;
    const place = (j) => {
      const x = pose[3 * j], y = pose[3 * j + 1], z = pose[3 * j + 2];
      return [left + width / 2 + scale * (c * x - s * z), canvas.height * 0.48 + scale * y];
    };
    for (const [a, b, side] of data.edges) {
      draw.strokeStyle = colour(faded ? "before" : side === "left" ? "model" : side === "right" ? "prediction" : "ink");
      draw.lineWidth = faded ? 3 : 4;
      draw.setLineDash(faded ? [6, 4] : []);
      draw.beginPath();
      draw.moveTo(...place(a));
      draw.lineTo(...place(b));
      draw.stroke();
    }
  }

  function show() {
    const k = Number(slider.value), turn = Number(turnBox.value) * Math.PI / 180, half = canvas.width / 2;
    draw.clearRect(0, 0, canvas.width, canvas.height);
    draw.fillStyle = colour("muted");
    draw.font = "15px system-ui, sans-serif";
    draw.fillText("as the camera sees it, turned by " + turnBox.value + "°", 12, 22);
    draw.fillText("a quarter turn further: from the side", half + 12, 22);
    [turn, turn + Math.PI / 2].forEach((angle, i) => {
      figure(data.before[k], angle, i * half, half, data.after !== null);
      if (data.after !== null) figure(data.after[k], angle, i * half, half, false);
    });
    label.textContent = (k * data.step / data.fps).toFixed(2) + " s, frame " + k * data.step;
  }

  function tick(now) {
    if (!playing) return;
    slider.value = (startFrame + Math.floor((now - started) / 1000 * data.fps / data.step)) % n;
    show();
    requestAnimationFrame(tick);
  }

  button.addEventListener("click", () => {
    playing = !playing;
    button.textContent = playing ? "pause" : "play";
    started = performance.now();
    startFrame = Number(slider.value);
    requestAnimationFrame(tick);
  });
  slider.addEventListener("input", () => { started = performance.now(); startFrame = Number(slider.value); show(); });
  turnBox.addEventListener("input", show);
  let from = null;
  canvas.addEventListener("pointerdown", (event) => { from = event.clientX; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => { from = null; });
  canvas.addEventListener("pointermove", (event) => {
    if (from === null) return;
    turnBox.value = (Number(turnBox.value) + (event.clientX - from) / 2 + 540) % 360 - 180;
    from = event.clientX;
    show();
  });
  show();
})();
