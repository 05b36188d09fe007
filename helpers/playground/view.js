/** What is seen of the playground: a pad, the network's answer, an attack on it, and a look inside. */

import { CLASSES, DigitCNN, PATCH, POSITIONS, SIDE, attack, digitOf, occlusion } from "./network.js";

const LARGEST = 0.4; // eps
const ANY = "any", SLICE = 9; // milliseconds of computing between two frames
const STILL = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const percent = (share) => (share > 0.9995 ? "> 99.9 %" : share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1);
const an = (digit) => (digit === 8 ? "an 8" : `a ${digit}`);

/** Maps (planes, side, side), each divided by its largest value. */
function eachToOne(maps, side) {
  const area = side ** 2, most = new Float64Array(maps.length / area).fill(1e-9);
  for (let i = 0; i < maps.length; i++) most[Math.floor(i / area)] = Math.max(most[Math.floor(i / area)], maps[i]);
  return maps.map((value, i) => value / most[Math.floor(i / area)]);
}

/** Make an element; `on...` attributes are listeners, `true` and `false` switch an attribute on and off. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A colour map of 256 colours, red, green, blue one after another, evenly between the stops. */
function colours(...stops) {
  return Uint8ClampedArray.from({ length: 768 }, (_, i) => {
    const at = (Math.floor(i / 3) / 255) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    const [from, to] = [stops[low][i % 3], stops[low + 1][i % 3]];
    return from + (at - low) * (to - from);
  });
}
const GREY = colours([0, 0, 0], [255, 255, 255]);
const AMOUNT = colours([68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137],
  [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]); // matplotlib's viridis
const SIGNED = colours([5, 48, 97], [67, 147, 195], [247, 247, 247], [214, 96, 77], [103, 0, 31]); // and its RdBu_r

/** Paint values (planes, side, side) from low to high as tiles with a gap of one pixel; what is NaN stays clear. */
function paint(canvas, values, { side = SIDE, columns = 1, map = GREY, low = 0, high = 1 } = {}) {
  const planes = values.length / side ** 2, rows = Math.ceil(planes / columns);
  canvas.width = columns * (side + 1) - 1;
  canvas.height = rows * (side + 1) - 1;
  const pixels = new ImageData(canvas.width, canvas.height);
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) continue;
    const plane = Math.floor(i / side ** 2), row = Math.floor(i / side) % side, column = i % side;
    const y = Math.floor(plane / columns) * (side + 1) + row, x = (plane % columns) * (side + 1) + column;
    const share = Math.min(Math.max((values[i] - low) / (high - low), 0), 1), tone = 3 * Math.round(255 * share);
    const to = 4 * (y * canvas.width + x);
    for (let part = 0; part < 3; part++) pixels.data[to + part] = map[tone + part];
    pixels.data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

const picture = (label, kind = "") =>
  make("canvas", { role: "img", "aria-label": label, class: `play-pixels ${kind}` });
const figure = (canvas, ...caption) => make("figure", {}, canvas, make("figcaption", {}, ...caption));

/** A table of the ten probabilities, drawn as bars, and logits. */
class Answer {
  constructor(caption, kind) {
    this.rows = Array.from({ length: CLASSES }, (_, digit) => {
      const bar = make("span", { class: "play-bar" }), share = make("span"), logit = make("td");
      const row = make("tr", {}, make("th", { scope: "row" }, `${digit}`), make("td", {}, bar, share), logit);
      return { row, bar, share, logit };
    });
    const head = make("tr", {}, ...["digit", "probability", "logit"].map((text) => make("th", { scope: "col" }, text)));
    this.element = make("table", { class: `play-answer ${kind}` }, make("caption", {}, caption),
      make("thead", {}, head), make("tbody", {}, ...this.rows.map(({ row }) => row)));
  }

  show(seen) {
    this.rows.forEach(({ row, bar, share, logit }, digit) => {
      row.classList.toggle("play-first", digit === seen?.label);
      bar.style.width = `${seen ? 100 * seen.probs[digit] : 0}%`;
      share.textContent = seen ? percent(seen.probs[digit]) : "";
      logit.textContent = seen ? signed(seen.logits[digit]) : "";
    });
  }
}

/** A pad for the mouse, a finger or the keyboard; its strokes are lists of points in [0, 1]. */
class Pad {
  constructor(changed, say) {
    Object.assign(this, { changed, say, strokes: [], image: null, cursor: [0.5, 0.3], down: false, keys: false });
    this.canvas = make("canvas", {
      class: "play-pad", width: 560, height: 560, tabindex: 0, role: "application",
      "aria-label": "Drawing pad. Arrow keys move the pen; the space bar puts it down and lifts it.",
      onpointerdown: (event) => this.begin(event), onpointermove: (event) => this.follow(event),
      onpointerup: () => this.lift(), onpointercancel: () => this.lift(),
      onkeydown: (event) => this.key(event), onblur: () => { this.keys = false; this.lift(); },
    });
  }

  /** Put an image of 28 x 28 on the pad, which the next stroke takes away, or nothing. */
  put(image) {
    Object.assign(this, { strokes: [], image, down: false });
    this.draw();
  }

  begin(event) {
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.keys = false;
    this.start(this.place(event));
  }

  follow(event) {
    if (!this.down || this.keys) return;
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
    this.image = null;
    this.down = true;
    this.stroke = [point];
    this.strokes.push(this.stroke);
    this.drawn();
  }

  lift() {
    this.down = false;
    this.draw();
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    this.keys = true;
    if (!step) {
      if (this.down) this.lift();
      else this.start([...this.cursor]);
      return this.say(this.down ? "pen down" : "pen up");
    }
    this.cursor = this.cursor.map((value, i) => Math.min(Math.max(value + 0.04 * step[i], 0.04), 0.96));
    if (this.down) {
      this.stroke.push([...this.cursor]);
      this.drawn();
    } else this.draw();
  }

  drawn() {
    this.draw();
    this.changed(digitOf(this.strokes));
  }

  draw() {
    const pen = this.canvas.getContext("2d"), side = this.canvas.width;
    pen.fillStyle = "black";
    pen.fillRect(0, 0, side, side);
    if (this.image) this.drawImage(pen, side);
    Object.assign(pen, { strokeStyle: "white", lineWidth: side / 13, lineCap: "round", lineJoin: "round" });
    for (const stroke of this.strokes) {
      pen.beginPath();
      for (const [x, y] of [stroke[0], ...stroke]) pen.lineTo(x * side, y * side);
      pen.stroke();
    }
    if (this.keys) this.drawCursor(pen, side);
  }

  drawImage(pen, side) {
    const small = make("canvas");
    paint(small, this.image);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, side, side);
  }

  drawCursor(pen, side) {
    pen.beginPath();
    pen.arc(this.cursor[0] * side, this.cursor[1] * side, side / 26, 0, 2 * Math.PI);
    Object.assign(pen, { lineWidth: 5, strokeStyle: "#E69F00", fillStyle: "#E69F00" });
    if (this.down) pen.fill();
    pen.stroke();
  }
}

/**
 * Computes in slices between the frames, so that drawing stays fluid: first the attack, then the occlusion map. A job
 * is a generator that shows by itself what it finds; it yields after each small step, "frame" where that is to be seen.
 */
class Work {
  constructor() {
    this.jobs = new Map();
  }

  /** Begin a job, "attack" or "occlusion", in the place of the one of that name. */
  start(name, job) {
    this.jobs.set(name, job);
    this.running ||= requestAnimationFrame(() => this.slice());
  }

  slice() {
    const end = performance.now() + SLICE;
    while (this.jobs.size && performance.now() < end) {
      const name = this.jobs.has("attack") ? "attack" : "occlusion", job = this.jobs.get(name);
      const { done, value } = job.next();
      if (done && this.jobs.get(name) === job) this.jobs.delete(name); // unless it has begun another
      if (value === "frame" && !STILL()) break; // to be seen before it goes on
    }
    this.running = this.jobs.size ? requestAnimationFrame(() => this.slice()) : 0;
  }
}

/** The whole playground, in an element. */
export class Playground {
  /**
   * @param {HTMLElement} home what it is put into
   * @param {Object<string, function(): Promise<Uint8Array>>} networks the weights of each network, by its name
   * @param {Float64Array[]} digits ten images to pick from
   * @param {Float64Array} first the image that lies on the pad at first
   * @param {function(Float64Array)} changed is told each new image
   */
  constructor(home, { networks, digits, first, changed = () => {} }) {
    Object.assign(this, { networks, digits, changed, work: new Work(), eps: 0.05, steps: 10, target: null });
    this.image = first;
    this.build(home);
    this.pad.put(first);
    this.choose(Object.keys(networks)[0]);
  }

  async choose(name) {
    this.chosen = name;
    this.status.textContent = "The network is on its way …";
    try {
      const network = DigitCNN.read(await this.networks[name]());
      if (this.chosen !== name) return; // another was chosen meanwhile
      this.network = network;
      this.show(this.image);
    } catch (error) {
      this.status.textContent = `The network cannot be read: ${error.message}`;
    }
  }

  build(home) {
    this.status = make("p", { class: "play-verdict" });
    this.heard = make("p", { class: "play-heard", role: "status", "aria-live": "polite" });
    home.replaceChildren(make("div", { class: "play", "data-lm-suppress-shortcuts": "true" },
      this.buildDrawing(), this.buildAttack(), this.buildInside(), this.heard));
  }

  buildDrawing() {
    this.pad = new Pad((image) => this.show(image), (text) => { this.heard.textContent = text; });
    this.seenImage = picture("what the network gets, 28 by 28 pixels");
    this.answer = new Answer("What the network answers", "play-own");
    const picks = this.digits.map((digit, i) => {
      const canvas = make("canvas", { "aria-hidden": "true" });
      paint(canvas, digit);
      return make("button", { type: "button", "aria-label": `take ${an(i)}`, onclick: () => this.put(digit) }, canvas);
    });
    const clear = make("button", { type: "button", onclick: () => this.put(new Float64Array(SIDE ** 2)) }, "Clear");
    return part("Draw a digit",
      "By mouse or finger. By keyboard: arrow keys move the pen, the space bar puts it down and lifts it.",
      make("div", { class: "play-columns play-drawing" },
        make("div", {}, this.pad.canvas, make("div", { class: "play-line" }, clear, make("span", {}, "or take one:"),
          make("div", { class: "play-picks", role: "group", "aria-label": "test digits" }, ...picks))),
        figure(this.seenImage, "What the network gets: your lines, scaled to 20 pixels and moved until their centre of",
          " mass lies in the middle of 28 × 28, as MNIST’s digits were."),
        make("div", {}, this.status, this.answer.element, ...this.buildSwitch())));
  }

  /** A switch between the networks, where there are several. */
  buildSwitch() {
    const names = Object.keys(this.networks);
    return names.length < 2 ? [] : [this.buildChoice("Network", names, (name) => this.choose(name))];
  }

  buildChoice(legend, names, chosen) {
    const group = `play-${Math.random()}`;
    const choices = names.map((name, i) => make("label", {},
      make("input", { type: "radio", name: group, checked: i === 0, onchange: () => chosen(name) }), ` ${name}`));
    return make("fieldset", { class: "play-choice" }, make("legend", {}, legend), ...choices);
  }

  buildAttack() {
    const any = make("option", { value: ANY }, "any other digit");
    const digits = Array.from({ length: CLASSES }, (_, digit) => make("option", { value: digit }, `${digit}`));
    const select = make("select", { onchange: () => {
      this.target = select.value === ANY ? null : Number(select.value);
      this.startAttack();
    } }, any, ...digits);
    this.epsSlider = this.buildSlider("size ε", 0, LARGEST, 0.01, "eps", (value) => value.toFixed(2));
    const steps = this.buildSlider("steps", 1, 40, 1, "steps", (value) => (value === 1 ? "1: FGSM" : `${value}: PGD`));
    this.raise = make("button", { type: "button", onclick: () => this.work.start("attack", this.raising()) },
      "Raise ε until the answer flips");
    this.attacked = make("p", { class: "play-verdict" });
    this.before = picture("the image");
    this.change = picture("the perturbation, red where it adds, blue where it takes away");
    this.sum = picture("the sum");
    this.sumAnswer = new Answer("What it answers to the sum", "play-other");
    return part("Fool the network",
      "Each pixel may change by ε at most. Each step follows the sign of the network’s own gradient.",
      make("div", { class: "play-line play-controls" }, make("label", {}, make("span", {}, "make it"), select),
        this.epsSlider.label, steps.label, this.raise),
      make("div", { class: "play-columns play-attack" },
        make("div", { class: "play-equation" }, figure(this.before, "image"), make("span", {}, "+"),
          figure(this.change, "perturbation"), make("span", {}, "="), figure(this.sum, "sum"),
          scale(SIGNED, `−${LARGEST}`, `+${LARGEST}`, "a pixel’s change")),
        make("div", {}, this.attacked, this.sumAnswer.element)));
  }

  /** A slider of one of this object's numbers, with its value beside it. */
  buildSlider(name, min, max, step, key, tell) {
    const output = make("span", { class: "play-value" }, tell(this[key]));
    const input = make("input", { type: "range", "aria-label": name, min, max, step, value: this[key], oninput: () => {
      set(Number(input.value));
      this.startAttack();
    } });
    const set = (value) => {
      this[key] = value;
      input.value = value;
      output.textContent = tell(value);
    };
    return { set, label: make("label", {}, make("span", {}, name), input, output) };
  }

  buildInside() {
    this.maps1 = picture("the 32 maps of conv1");
    this.maps2 = picture("the 32 maps of conv2");
    this.cover = picture("the occlusion map", "play-cover");
    this.covered = make("span");
    const looksAt = this.buildChoice("Look at", ["the image", "the sum"], (name) => {
      this.atSum = name === "the sum";
      this.lookInside();
    });
    return part("Look inside", "", looksAt,
      make("div", { class: "play-columns play-inside" },
        figure(this.maps1, "The 32 maps of conv1 after ReLU: dark is 0, bright the largest value of that map."),
        figure(this.maps2, "Those of conv2, after pooling: 14 × 14 instead of 28 × 28."),
        make("div", {}, figure(this.cover, this.covered), scale(AMOUNT, "0", "1", "probability"))));
  }

  put(image) {
    this.pad.put(image.some((value) => value > 0) ? image : null);
    this.show(image);
  }

  /** Show an image and all that the network makes of it; what takes long follows between the frames. */
  show(image) {
    this.image = image;
    this.changed(image);
    paint(this.seenImage, image);
    if (!this.network) return;
    this.seen = this.network.forward(image);
    this.empty = !image.some((value) => value > 0);
    this.answer.show(this.empty ? null : this.seen);
    this.status.replaceChildren(...this.empty ? ["Draw a digit."] : reads("Read as", this.seen));
    this.raise.disabled = this.empty;
    this.startAttack();
    if (!this.atSum) this.lookInside();
  }

  get goal() {
    return { label: this.seen.label, target: this.target, eps: this.eps, steps: this.steps };
  }

  startAttack() {
    if (this.network) this.work.start("attack", this.attacking());
  }

  *attacking() {
    for (const now of attack(this.network, this.image, this.goal)) {
      if (now.step === this.steps || this.empty) this.showAttacked(now);
      yield;
    }
    this.tell();
  }

  /** Attack with a larger and larger eps, until the answer is another, or the target. */
  *raising() {
    const goal = this.target ?? this.seen.label;
    for (let hundredths = 0; hundredths <= 100 * LARGEST; hundredths++) {
      this.epsSlider.set(hundredths / 100);
      let last = null;
      for (const now of attack(this.network, this.image, this.goal)) {
        last = now;
        yield;
      }
      this.showAttacked(last);
      if ((last.seen.label === goal) !== (this.target === null)) break;
      yield "frame";
    }
    this.tell();
  }

  showAttacked({ image, seen }) {
    this.result = { image, seen };
    paint(this.before, this.image);
    paint(this.change, image.map((value, i) => value - this.image[i]), { map: SIGNED, low: -LARGEST, high: LARGEST });
    paint(this.sum, image);
    this.sumAnswer.show(this.empty ? null : seen);
    const flipped = !this.empty && seen.label !== this.seen.label;
    this.attacked.classList.toggle("play-flipped", flipped);
    this.attacked.replaceChildren(...this.empty ? [] : reads(flipped ? "Now read as" : "Still read as", seen));
    if (this.atSum) this.lookInside();
  }

  lookInside() {
    if (!this.network) return;
    const { image, seen } = (this.atSum && this.result) || this;
    paint(this.maps1, eachToOne(seen.conv1, 28), { columns: 8, map: AMOUNT });
    paint(this.maps2, eachToOne(seen.conv2, 14), { side: 14, columns: 8, map: AMOUNT });
    this.work.start("occlusion", this.covering(image, seen.label));
  }

  /** Fill the occlusion map, each value in the middle of its patch. */
  *covering(image, label) {
    const map = new Float64Array(SIDE ** 2).fill(NaN), middle = (PATCH - 1) / 2;
    this.covered.textContent = this.empty ? "The occlusion map: draw a digit."
      : `How sure it stays of the ${label} while a grey patch of 7 × 7 covers that place.`;
    paint(this.cover, map, { map: AMOUNT });
    if (this.empty) return;
    let place = 0;
    for (const share of occlusion(this.network, image, label)) {
      const row = Math.floor(place / POSITIONS) + middle, column = (place % POSITIONS) + middle;
      map[row * SIDE + column] = share;
      if (++place % POSITIONS === 0 && !(STILL() && place < POSITIONS ** 2)) paint(this.cover, map, { map: AMOUNT });
      yield;
    }
    this.cover.setAttribute("aria-label", `the occlusion map of the ${label}: ${told(map)}`);
  }

  /** Say in words what is shown, once it has come to rest. */
  tell() {
    clearTimeout(this.telling);
    this.telling = setTimeout(() => {
      const sum = this.result.seen;
      this.heard.textContent = this.empty ? "The pad is empty."
        : `The network reads ${an(this.seen.label)}, probability ${percent(this.seen.probs[this.seen.label])}. `
          + `With a perturbation of size ${this.eps.toFixed(2)} it reads ${an(sum.label)}, `
          + `probability ${percent(sum.probs[sum.label])}.`;
    }, 400);
  }
}

const reads = (verb, { label, probs }) => [`${verb} `, make("strong", {}, an(label)), ` · ${percent(probs[label])}`];

function told(map) {
  const lowest = map.reduce((least, value) => (value < least ? value : least), 1);
  return `the lowest probability is ${percent(lowest)}`;
}

/** A part of the playground, with its heading and a sentence. */
function part(title, text, ...children) {
  const about = text ? [make("p", { class: "play-about" }, text)] : [];
  return make("section", { "aria-label": title }, make("h3", {}, title), ...about, ...children);
}

/** The legend of a colour map. */
function scale(map, low, high, text) {
  const stops = Array.from({ length: 9 }, (_, i) => 3 * Math.round((255 * i) / 8))
    .map((at) => `rgb(${map.subarray(at, at + 3).join()})`);
  const bar = make("span", { class: "play-scale-bar", style: `background: linear-gradient(90deg, ${stops})` });
  const [first, last, about] = [low, high, text].map((said) => make("span", {}, said));
  return make("div", { class: "play-scale" }, first, bar, last, about);
}

/** Bytes 0..255 (N * 784) as N images. */
export function imagesOf(bytes) {
  const images = [];
  for (let start = 0; start < bytes.length; start += SIDE ** 2)
    images.push(Float64Array.from(bytes.subarray(start, start + SIDE ** 2), (grey) => grey / 255));
  return images;
}

const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/** Show the playground in a notebook, as anywidget asks for it; `pixels`, 784 numbers 0..255, go back to Python. */
function render({ model, el }) {
  const networks = Object.fromEntries(Object.entries(model.get("networks"))
    .map(([name, view]) => [name, async () => bytesOf(view)]));
  let waiting = 0;
  const changed = (image) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      model.set("pixels", Array.from(image, (value) => Math.round(value * 255)));
      model.save_changes();
    }, 100);
  };
  const [first] = imagesOf(Uint8Array.from(model.get("pixels")));
  new Playground(el, { networks, digits: imagesOf(bytesOf(model.get("digits"))), first, changed });
}

export default { render };
