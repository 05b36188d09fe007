/** What is seen of the playground: a pad, the network's answer, an attack on it, and a look inside. */

import { CLASSES, DigitCNN, PATCH, POSITIONS, SIDE, attack, occlusion } from "./network.js";
import { Pad } from "./pad.js";
import { AMOUNT, SIGNED, eachToOne, paint } from "./paint.js";

const LARGEST = 0.4; // eps
const SLICE = 9; // milliseconds of computing between two frames
const STILL = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const percent = (share) => (share > 0.9995 ? "> 99.9 %" : share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1);
const an = (digit) => (digit === 8 ? "an 8" : `a ${digit}`);
const each = (piece) => Array.from({ length: CLASSES }, (_, digit) => piece(digit)).join("");

// The page is written as HTML; what has a `data-play` is found by that name afterwards.
const figure = (name, label, caption, kind = "") => `
  <figure><canvas class="play-pixels ${kind}" role="img" aria-label="${label}" data-play="${name}"></canvas>
    <figcaption>${caption}</figcaption></figure>`;

const slider = (name, label, range) => `
  <label><span>${label}</span><input type="range" aria-label="${label}" data-play="${name}" ${range}>
    <span class="play-value"></span></label>`;

const choice = (name, legend, options, group = Math.random()) => `
  <fieldset class="play-choice" data-play="${name}"><legend>${legend}</legend>${options.map((option, i) => `
    <label><input type="radio" name="${group}" value="${option}" ${i ? "" : "checked"}> ${option}</label>`).join("")}
  </fieldset>`;

const answer = (name, caption, kind = "") => `
  <table class="play-answer ${kind}" data-play="${name}">
    <caption>${caption}</caption>
    <thead><tr><th scope="col">digit</th><th scope="col">probability</th><th scope="col">logit</th></tr></thead>
    <tbody>${each((digit) => `
      <tr><th scope="row">${digit}</th><td><span class="play-bar"></span><span></span></td><td></td></tr>`)}
    </tbody>
  </table>`;

/** The legend of a colour map. */
function scale(map, low, high, text) {
  const stops = Array.from({ length: 9 }, (_, i) => 3 * Math.round((255 * i) / 8))
    .map((at) => `rgb(${map.subarray(at, at + 3).join()})`);
  const bar = `<span class="play-scale-bar" style="background: linear-gradient(90deg, ${stops})"></span>`;
  return `<div class="play-scale"><span>${low}</span>${bar}<span>${high}</span><span>${text}</span></div>`;
}

const page = (networks) => `
  <div class="play" data-lm-suppress-shortcuts="true">
    <section aria-label="Draw a digit">
      <h3>Draw a digit</h3>
      <p class="play-about">By mouse or finger. By keyboard: arrow keys move the pen, the space bar puts it down and
        lifts it.</p>
      <div class="play-columns play-drawing">
        <div>
          <canvas class="play-pad" width="560" height="560" tabindex="0" role="application" data-play="pad"
            aria-label="Drawing pad. Arrow keys move the pen; the space bar puts it down and lifts it."></canvas>
          <div class="play-line"><button type="button" data-play="clear">Clear</button><span>or take one:</span>
            <div class="play-picks" role="group" aria-label="test digits" data-play="picks">${each((digit) => `
              <button type="button" aria-label="take ${an(digit)}"><canvas aria-hidden="true"></canvas></button>`)}
            </div></div>
        </div>
        ${figure("given", "what the network gets, 28 by 28 pixels", `What the network gets: your lines, scaled to 20
          pixels, unless they are tiny, and moved until their centre of mass lies where that of MNIST’s digits does.`)}
        <div><p class="play-verdict" data-play="status"></p>${answer("answer", "What the network answers")}
          ${networks.length > 1 ? choice("network", "Network", networks) : ""}</div>
      </div>
    </section>
    <section aria-label="Fool the network">
      <h3>Fool the network</h3>
      <p class="play-about">Each pixel may change by ε at most. Each step follows the sign of the network’s own
        gradient.</p>
      <div class="play-line play-controls" data-play="controls">
        <label><span>make it</span><select data-play="target"><option value="">any other digit</option>
          ${each((digit) => `<option>${digit}</option>`)}</select></label>
        ${slider("eps", "size ε", `min="0" max="${LARGEST}" step="0.01" value="0.05"`)}
        ${slider("steps", "steps", `min="1" max="40" value="10"`)}
        <button type="button" data-play="raise" disabled>Raise ε until the answer flips</button>
      </div>
      <div class="play-columns play-attack">
        <div class="play-equation">${figure("before", "the image", "image")}<span>+</span>
          ${figure("change", "the perturbation, red where it adds, blue where it takes away", "perturbation")}
          <span>=</span>${figure("sum", "the sum", "sum")}
          ${scale(SIGNED, `−${LARGEST}`, `+${LARGEST}`, "a pixel’s change")}
        </div>
        <div><p class="play-verdict" data-play="attacked"></p>
          ${answer("sumAnswer", "What it answers to the sum", "play-other")}</div>
      </div>
    </section>
    <section aria-label="Look inside">
      <h3>Look inside</h3>
      ${choice("looksAt", "Look at", ["the image", "the sum"])}
      <div class="play-columns play-inside">
        ${figure("maps1", "the 32 maps of conv1",
          "The 32 maps of conv1, the first layer, after ReLU: dark is 0, bright the largest value of that map.")}
        ${figure("maps2", "the 32 maps of conv2",
          "Those of conv2, the second, after pooling: 14 × 14 instead of 28 × 28.")}
        <div>${figure("cover", "the occlusion map", `<span data-play="covered"></span>`, "play-cover")}
          ${scale(AMOUNT, 0, 1, "probability")}</div>
      </div>
    </section>
    <p class="play-heard" role="status" aria-live="polite" data-play="heard"></p>
  </div>`;

/** Fill a table of the ten probabilities, drawn as bars, and logits; where nothing was seen, empty it. */
function fill(table, seen) {
  for (const [digit, row] of [...table.tBodies[0].rows].entries()) {
    const [bar, share] = row.cells[1].children;
    row.classList.toggle("play-first", digit === seen?.label);
    bar.style.width = `${seen ? 100 * seen.probs[digit] : 0}%`;
    share.textContent = seen ? percent(seen.probs[digit]) : "";
    row.cells[2].textContent = seen ? signed(seen.logits[digit]) : "";
  }
}

/**
 * Computes in slices between the frames, so that drawing stays fluid: first the attack, then the occlusion map. A job
 * is a generator that shows by itself what it finds; it yields after each small step, "frame" where that is to be seen.
 */
class Work {
  jobs = new Map();

  /** Begin a job, "attack" or "occlusion", in the place of the one of that name. */
  start(name, job) {
    this.jobs.set(name, job);
    this.running ||= requestAnimationFrame(() => this.slice());
  }

  slice() {
    const end = performance.now() + SLICE;
    try {
      while (this.jobs.size && performance.now() < end) {
        const name = this.jobs.has("attack") ? "attack" : "occlusion", job = this.jobs.get(name);
        const { done, value } = job.next();
        if (done && this.jobs.get(name) === job) this.jobs.delete(name); // unless it has begun another
        if (value === "frame" && !STILL()) break; // to be seen before it goes on
      }
    } finally { // whatever became of one job, the others go on
      this.running = this.jobs.size ? requestAnimationFrame(() => this.slice()) : 0;
    }
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
    home.innerHTML = page(Object.keys(networks));
    const parts = Array.from(home.querySelectorAll("[data-play]"), (part) => [part.dataset.play, part]);
    Object.assign(this, { networks, changed, image: first, work: new Work(), parts: Object.fromEntries(parts) });
    this.listen(digits);
    this.label();
    this.pad.put(first);
    this.choose(Object.keys(networks)[0]);
  }

  listen(digits) {
    const { pad, clear, picks, network, controls, raise, looksAt, heard } = this.parts;
    this.pad = new Pad(pad, (image) => this.show(image), (text) => { heard.textContent = text; });
    clear.onclick = () => this.put(new Float64Array(SIDE ** 2));
    for (const [digit, button] of [...picks.children].entries()) {
      paint(button.firstElementChild, digits[digit]);
      button.onclick = () => this.put(digits[digit]);
    }
    if (network) network.onchange = (event) => this.choose(event.target.value);
    controls.oninput = () => { this.label(); this.startAttack(); };
    raise.onclick = () => this.work.start("attack", this.raising());
    looksAt.onchange = (event) => { this.atSum = event.target.value === "the sum"; this.lookInside(); };
  }

  /** Write its value beside each slider, and what it means for who hears it. */
  label() {
    const { eps, steps } = this.parts;
    const kind = steps.value === "1" ? "FGSM" : "PGD";
    for (const [input, text] of [[eps, Number(eps.value).toFixed(2)], [steps, `${steps.value}: ${kind}`]]) {
      input.nextElementSibling.textContent = text;
      input.setAttribute("aria-valuetext", text);
    }
  }

  async choose(name) {
    const { status } = this.parts;
    this.chosen = name;
    status.textContent = "The network is on its way …";
    try {
      const network = DigitCNN.read(await this.networks[name]());
      if (this.chosen !== name) return; // another was chosen meanwhile
      this.network = network;
      this.show(this.image);
    } catch (error) {
      if (this.chosen === name) this.lose(`The network cannot be read: ${error.message}`);
    }
  }

  /** Say why there is no network, and show nothing of the one before. */
  lose(why) {
    const { status, heard, answer, sumAnswer, attacked, raise, ...others } = this.parts;
    Object.assign(this, { network: null, result: null });
    this.work.jobs.clear();
    clearTimeout(this.telling);
    heard.textContent = status.textContent = why;
    attacked.textContent = others.covered.textContent = "";
    for (const table of [answer, sumAnswer]) fill(table, null);
    for (const canvas of [others.change, others.sum, others.maps1, others.maps2, others.cover])
      canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    raise.disabled = true;
  }

  put(image) {
    this.pad.put(image.some((value) => value > 0) ? image : null);
    this.show(image);
  }

  /** Show an image and all that the network makes of it; what takes long follows between the frames. */
  show(image) {
    const { given, answer, status, raise } = this.parts;
    this.image = image;
    this.changed(image);
    paint(given, image);
    if (!this.network) return;
    this.seen = this.network.forward(image);
    this.empty = !image.some((value) => value > 0);
    fill(answer, this.empty ? null : this.seen);
    status.replaceChildren(...this.empty ? ["Draw a digit."] : reads("Read as", this.seen));
    raise.disabled = this.empty;
    this.startAttack();
    if (!this.atSum) this.lookInside();
  }

  get goal() {
    const { target, eps, steps } = this.parts;
    return {
      label: this.seen.label, target: target.value === "" ? null : Number(target.value),
      eps: Number(eps.value), steps: this.empty ? 0 : Number(steps.value),
    };
  }

  startAttack() {
    if (this.network) this.work.start("attack", this.attacking());
  }

  /** Attack, and return what the last step made of the image. */
  *attacked(goal) {
    clearTimeout(this.telling);
    let now;
    for (now of attack(this.network, this.image, goal)) yield;
    return now;
  }

  *attacking() {
    this.showAttacked(yield* this.attacked(this.goal));
  }

  /** Attack with a larger and larger eps, until the answer is another, or the target; where none is enough, say so. */
  *raising() {
    const { label, target } = this.goal, most = Math.round(100 * LARGEST);
    for (let hundredths = 0, done = false; hundredths <= most && !done; hundredths++) {
      const now = yield* this.attacked({ ...this.goal, eps: hundredths / 100 });
      done = target === null ? now.seen.label !== label : now.seen.label === target;
      if (!done && hundredths < most && STILL()) continue; // only where it ends is seen
      this.parts.eps.value = hundredths / 100;
      this.label();
      this.showAttacked(now, !done && hundredths === most ? `No ε up to ${LARGEST.toFixed(2)} is enough.`
        : done && hundredths === 0 ? "It is so without a perturbation." : "");
      yield "frame";
    }
  }

  /** Show what an attack made of the image, and a remark on it. */
  showAttacked({ image, seen }, remark = "") {
    const { before, change, sum, sumAnswer, attacked } = this.parts;
    this.result = { image, seen, remark };
    paint(before, this.image);
    paint(change, image.map((value, i) => value - this.image[i]), { map: SIGNED, low: -LARGEST, high: LARGEST });
    paint(sum, image);
    fill(sumAnswer, this.empty ? null : seen);
    const flipped = !this.empty && seen.label !== this.seen.label;
    attacked.classList.toggle("play-flipped", flipped);
    attacked.replaceChildren(...this.empty ? [] : reads(flipped ? "Now read as" : "Still read as", seen));
    if (remark) attacked.append(`. ${remark}`);
    if (this.atSum) this.lookInside();
    this.telling = setTimeout(() => this.tell(), 400); // unless another attack begins meanwhile
  }

  lookInside() {
    if (!this.network) return;
    const { image, seen } = (this.atSum && this.result) || this;
    paint(this.parts.maps1, eachToOne(seen.conv1, 28), { columns: 8, map: AMOUNT });
    paint(this.parts.maps2, eachToOne(seen.conv2, 14), { side: 14, columns: 8, map: AMOUNT });
    this.work.start("occlusion", this.covering(image, seen.label));
  }

  /** Fill the occlusion map, each value in the middle of its patch. */
  *covering(image, label) {
    const { cover, covered } = this.parts;
    const map = new Float64Array(SIDE ** 2).fill(NaN), middle = (PATCH - 1) / 2;
    covered.textContent = this.empty ? "The occlusion map: draw a digit."
      : `How sure it stays of the ${label} while a grey patch of 7 × 7 covers that place.`;
    cover.setAttribute("aria-label", "the occlusion map");
    paint(cover, map, { map: AMOUNT });
    if (this.empty) return;
    let place = 0, least = { share: Infinity };
    for (const share of occlusion(this.network, image, label)) {
      const row = Math.floor(place / POSITIONS) + middle, column = (place % POSITIONS) + middle;
      map[row * SIDE + column] = share;
      if (share < least.share) least = { share, row, column };
      if (++place % POSITIONS === 0 && !(STILL() && place < POSITIONS ** 2)) paint(cover, map, { map: AMOUNT });
      yield;
    }
    cover.setAttribute("aria-label", `the occlusion map of the ${label}: the lowest probability is `
      + `${percent(least.share)}, with the patch around row ${least.row + 1}, column ${least.column + 1} of ${SIDE}`);
  }

  /** Say in words what is shown, now that it has come to rest. */
  tell() {
    const reading = ({ label, probs }) => `reads ${an(label)}, probability ${percent(probs[label])}`;
    this.parts.heard.textContent = this.empty ? "The pad is empty."
      : `The network ${reading(this.seen)}. With a perturbation of size ${this.goal.eps.toFixed(2)} it `
        + `${reading(this.result.seen)}. ${this.result.remark}`.trimEnd();
  }
}

/** What a verdict says, for `replaceChildren`. */
function reads(verb, { label, probs }) {
  const strong = document.createElement("strong");
  strong.append(an(label));
  return [`${verb} `, strong, ` · ${percent(probs[label])}`];
}

/** Bytes 0..255 (N * 784) as N images. */
export function imagesOf(bytes) {
  return Array.from({ length: bytes.length / SIDE ** 2 }, (_, i) =>
    Float64Array.from(bytes.subarray(i * SIDE ** 2, (i + 1) * SIDE ** 2), (grey) => grey / 255));
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
  const playground = new Playground(el, { networks, digits: imagesOf(bytesOf(model.get("digits"))), first, changed });
  return () => playground.work.jobs.clear();
}

export default { render };
