/** What is drawn on. */

import { digitOf } from "./network.js";
import { paint } from "./paint.js";

/**
 * A pad for the mouse, a finger or the keyboard; its strokes are lists of points in [0, 1]. However many points come
 * between two frames, they are drawn, and what changed is told, once a frame.
 */
export class Pad {
  constructor(canvas, changed, say) {
    Object.assign(this, { canvas, changed, say, strokes: [], cursor: [0.5, 0.3], down: false, keys: false, frame: 0 });
    canvas.onpointerdown = (event) => this.begin(event);
    canvas.onpointermove = (event) => this.follow(event);
    canvas.onpointerup = canvas.onpointercancel = (event) => event.isPrimary && this.lift();
    canvas.onkeydown = (event) => this.key(event);
    canvas.onblur = () => { this.keys = false; this.lift(); };
  }

  /** Put an image of 28 x 28 on the pad, which the next stroke takes away, or nothing. */
  put(image) {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    Object.assign(this, { strokes: [], image: image && document.createElement("canvas"), down: false });
    if (image) paint(this.image, image);
    this.draw();
  }

  begin(event) {
    if (!event.isPrimary || event.button) return; // a second finger, or a menu's button
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.keys = false;
    this.start(this.place(event));
  }

  follow(event) {
    if (!this.down || this.keys || !event.isPrimary) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) this.stroke.push(this.place(one));
    this.drawn();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return at.map((value) => Math.min(Math.max(value, 0), 1));
  }

  start(point) {
    this.stroke = [point];
    this.strokes.push(this.stroke);
    Object.assign(this, { image: null, down: true });
    this.drawn();
  }

  lift() {
    this.down = false;
    this.draw();
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if ((!step && event.key !== " ") || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.keys = true;
    if (step) {
      this.cursor = this.cursor.map((value, i) => Math.min(Math.max(value + 0.04 * step[i], 0.04), 0.96));
      if (this.down) this.stroke.push(this.cursor);
      return this.down ? this.drawn() : this.draw();
    }
    if (this.down) this.lift();
    else this.start(this.cursor);
    this.say(this.down ? "pen down" : "pen up");
  }

  drawn() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
      this.changed(digitOf(this.strokes));
    });
  }

  draw() {
    const pen = this.canvas.getContext("2d"), side = this.canvas.width;
    Object.assign(pen, { fillStyle: "black", strokeStyle: "white", lineWidth: side / 13 });
    Object.assign(pen, { lineCap: "round", lineJoin: "round", imageSmoothingEnabled: false });
    pen.fillRect(0, 0, side, side);
    if (this.image) pen.drawImage(this.image, 0, 0, side, side);
    for (const stroke of this.strokes) {
      pen.beginPath();
      for (const [x, y] of [stroke[0], ...stroke]) pen.lineTo(x * side, y * side);
      pen.stroke();
    }
    if (this.keys) this.drawCursor(pen, side);
  }

  drawCursor(pen, side) {
    pen.beginPath();
    pen.arc(this.cursor[0] * side, this.cursor[1] * side, side / 26, 0, 2 * Math.PI);
    Object.assign(pen, { lineWidth: 5, strokeStyle: "#E69F00", fillStyle: "#E69F00" });
    if (this.down) pen.fill();
    pen.stroke();
  }
}
