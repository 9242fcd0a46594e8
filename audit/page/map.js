// The map: a canvas that is panned, zoomed, pointed at, and walked by keys.

const REACH = 16; // pixels from a pointer within which a clip is met
const MOST_ZOOM = 200;
const FAINT = 0.1; // of clips that a filter leaves out
const DENSEST = 2; // device pixels to a pixel; more are not seen and cost time

class ClipMap {
  /** @param {function(number)} onChoose is told the clip that was chosen, and whether it was to be heard */
  constructor(canvas, onChoose) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true }); // keeps it in memory, where pixels are put
    this.onChoose = onChoose;
    this.colours = new Uint32Array(numPoints);
    this.isShown = new Uint8Array(numPoints).fill(1);
    this.chosen = -1;
    this.pointed = -1;
    // Clips lie sorted in a pack: in their order the last family would cover the others. This order is as good as drawn.
    this.order = Uint32Array.from({ length: numPoints }, (_, place) => place);
    this.order.sort((one, other) => ((one * 2654435761) >>> 0) - ((other * 2654435761) >>> 0));
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.listen();
    this.resize();
  }

  /** Fits the canvas to its box; what was in the middle stays there. */
  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || (width === this.width && height === this.height && this.image)) return;
    [this.width, this.height, this.density] = [width, height, Math.min(DENSEST, devicePixelRatio || 1)];
    [this.canvas.width, this.canvas.height] = [Math.round(width * this.density), Math.round(height * this.density)];
    this.image = this.context.createImageData(this.canvas.width, this.canvas.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    const zoom = this.zoom;
    this.fit();
    if (this.centre) this.scale = this.least * zoom;
    else this.showAll();
    this.draw(); // at once: a canvas of a new size is blank, and would flicker
  }

  fit() {
    const bounds = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    this.bounds ??= numPoints ? [bounds(clips.x), bounds(clips.y)] : [[0, 1], [0, 1]];
    const [[left, right], [top, bottom]] = this.bounds;
    this.least = 0.92 * Math.min(this.width / Math.max(1, right - left), this.height / Math.max(1, bottom - top));
    if (numPoints < 2) this.least = 1;
  }

  showAll() {
    this.scale = this.least;
    this.centre = this.bounds.map(([low, high]) => (low + high) / 2);
    this.requestDraw();
  }

  get zoom() {
    return this.scale / this.least;
  }

  get radius() {
    const base = Math.min(4, Math.max(1.4, 160 / Math.sqrt(numPoints || 1)));
    return base * Math.min(3, Math.max(0.8, this.zoom ** 0.35));
  }

  /** Where a clip lies on the canvas. */
  at(place) {
    return [
      (clips.x[place] - this.centre[0]) * this.scale + this.width / 2,
      (clips.y[place] - this.centre[1]) * this.scale + this.height / 2,
    ];
  }

  requestDraw() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = undefined;
    if (!this.image) return;
    const { canvas, context, pixels, density, isShown, colours } = this;
    const { width, height } = canvas;
    pixels.fill(packed(theme.ground));
    const radius = this.radius * density;
    const stamp = stampOf(radius);
    const scale = this.scale * density;
    const [left, top] = [width / 2 - this.centre[0] * scale, height / 2 - this.centre[1] * scale];
    for (const strength of [FAINT, 1]) {
      const wanted = strength === 1 ? 1 : 0;
      for (const place of this.order) {
        if (isShown[place] !== wanted) continue;
        const [x, y] = [clips.x[place] * scale + left, clips.y[place] * scale + top];
        if (x < -radius || y < -radius || x > width + radius || y > height + radius) continue;
        paintDisc(pixels, width, height, x, y, stamp, colours[place], strength);
      }
    }
    context.putImageData(this.image, 0, 0);
    context.setTransform(density, 0, 0, density, 0, 0);
    this.drawChosen();
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  /** The chosen clip with lines to its neighbours, and the one pointed at. */
  drawChosen() {
    const { context } = this;
    context.strokeStyle = context.fillStyle = `rgb(${theme.ink})`;
    const ring = (place, more) => {
      context.beginPath();
      context.arc(...this.at(place), this.radius + more, 0, 2 * Math.PI);
      context.stroke();
    };
    if (this.chosen >= 0) {
      context.lineWidth = 1;
      for (const { place } of nearestOf(this.chosen)) {
        if (place >= numPoints) continue;
        context.beginPath();
        context.moveTo(...this.at(this.chosen));
        context.lineTo(...this.at(place));
        context.stroke();
        ring(place, 2);
      }
      context.lineWidth = 2.5;
      ring(this.chosen, 4);
    }
    context.lineWidth = 1.5;
    if (this.pointed >= 0) ring(this.pointed, 2.5);
  }

  /** The nearest shown clip to a point on the canvas, or -1. */
  near(x, y, reach = REACH, accepts = () => true) {
    let [found, least] = [-1, reach * reach];
    for (let place = 0; place < numPoints; place++) {
      if (!this.isShown[place]) continue;
      const dx = (clips.x[place] - this.centre[0]) * this.scale + this.width / 2 - x;
      const dy = (clips.y[place] - this.centre[1]) * this.scale + this.height / 2 - y;
      const square = dx * dx + dy * dy;
      if (square < least && accepts(place)) [found, least] = [place, square];
    }
    return found;
  }

  choose(place, isHeard = true) {
    this.chosen = place < numPoints ? place : -1;
    this.onChoose(place, isHeard);
    this.requestDraw();
  }

  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.min(this.least * MOST_ZOOM, Math.max(this.least * 0.5, this.scale * factor));
    const shift = 1 / this.scale - 1 / scale; // what lies under the pointer stays there
    this.centre = [this.centre[0] + (x - this.width / 2) * shift, this.centre[1] + (y - this.height / 2) * shift];
    this.scale = scale;
    this.requestDraw();
  }

  moveBy(x, y) {
    this.centre = [this.centre[0] - x / this.scale, this.centre[1] - y / this.scale];
    this.requestDraw();
  }

  point(x, y) {
    const found = this.near(x, y);
    showTip(found, x, y, this.width, this.height);
    this.canvas.classList.toggle("met", found >= 0);
    if (found === this.pointed) return;
    this.pointed = found;
    this.requestDraw();
  }

  leave() {
    this.pointed = -1;
    showTip(-1);
    this.requestDraw();
  }

  /** Goes from the chosen clip to the next one in a direction, as keys ask. */
  step(x, y) {
    const from = this.chosen < 0 ? [this.width / 2, this.height / 2] : this.at(this.chosen);
    if (this.chosen < 0) return this.choose(this.near(...from, Infinity), false);
    let [found, least] = [-1, Infinity];
    for (let place = 0; place < numPoints; place++) {
      if (!this.isShown[place] || place === this.chosen) continue;
      const at = this.at(place);
      const [dx, dy] = [at[0] - from[0], at[1] - from[1]];
      const [along, aside] = [dx * x + dy * y, Math.abs(dx * y - dy * x)];
      if (along > 0 && aside <= along && along + 2 * aside < least) [found, least] = [place, along + 2 * aside];
    }
    if (found >= 0) {
      this.choose(found, false);
      this.reveal(found);
    }
  }

  /** Moves the map if a clip lies outside. */
  reveal(place) {
    const [x, y] = this.at(place);
    const isInside = x > REACH && y > REACH && x < this.width - REACH && y < this.height - REACH;
    if (!isInside) this.moveBy(this.width / 2 - x, this.height / 2 - y);
  }

  listen() {
    const { canvas } = this;
    const held = new Map(); // pointers that are down, where they were last
    let travelled = 0;
    const of = (event) => [event.offsetX, event.offsetY];
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      if (!held.size) travelled = 0;
      held.set(event.pointerId, of(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = held.get(event.pointerId);
      if (!before) return event.pointerType === "mouse" && this.point(...of(event));
      const now = of(event);
      const other = [...held].find(([id]) => id !== event.pointerId)?.[1];
      held.set(event.pointerId, now);
      travelled += Math.hypot(now[0] - before[0], now[1] - before[1]);
      if (other) {
        const apart = (point) => Math.max(1, Math.hypot(point[0] - other[0], point[1] - other[1]));
        this.zoomBy(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      } else if (travelled > 4) {
        this.moveBy(now[0] - before[0], now[1] - before[1]);
        showTip(-1);
      }
    });
    canvas.addEventListener("pointerup", (event) => {
      held.delete(event.pointerId);
      if (travelled > 4 || held.size) return;
      const found = this.near(...of(event), event.pointerType === "mouse" ? REACH : 1.5 * REACH);
      if (found >= 0) this.choose(found);
    });
    canvas.addEventListener("pointercancel", (event) => held.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this.leave());
    canvas.addEventListener("dblclick", (event) => this.zoomBy(2, ...of(event)));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...of(event));
    }, { passive: false });
    const keys = {
      ArrowLeft: () => this.step(-1, 0), ArrowRight: () => this.step(1, 0),
      ArrowUp: () => this.step(0, -1), ArrowDown: () => this.step(0, 1),
      "+": () => this.zoomBy(1.5), "=": () => this.zoomBy(1.5), "-": () => this.zoomBy(1 / 1.5),
      0: () => this.showAll(),
      Enter: () => this.chosen >= 0 && this.choose(this.chosen), " ": () => this.chosen >= 0 && this.choose(this.chosen),
    };
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
  }
}
