/**
 * The course's network in plain typed arrays: its logits, the gradient by the image, an attack, an occlusion map, and
 * how a drawing becomes an image like MNIST's.
 *
 * An image is a Float64Array (28 * 28) in [0, 1], row by row, 0 the background. All is computed in float64.
 */

export const SIDE = 28, CLASSES = 10;

/**
 * What a file of weights holds: every parameter in this order and shape, as float16, little-endian, with no header.
 * Batch norm is folded into the convolution before it.
 */
const LAYOUT = {
  "conv1.weight": [32, 1, 3, 3], "conv1.bias": [32],
  "conv2.weight": [32, 32, 3, 3], "conv2.bias": [32],
  "fc1.weight": [500, 32 * 7 * 7], "fc1.bias": [500],
  "fc2.weight": [10, 500], "fc2.bias": [10],
};
const sizeOf = (shape) => shape.reduce((product, side) => product * side);
const PARAMETERS = Object.values(LAYOUT).map(sizeOf).reduce((sum, size) => sum + size);

/**
 * Read float16 numbers, little-endian.
 * @param {Uint8Array} bytes (2 * N)
 * @returns {Float32Array} (N), exactly these numbers
 */
export function readHalves(bytes) {
  const values = new Float32Array(bytes.length >> 1);
  for (let i = 0; i < values.length; i++) {
    const bits = bytes[2 * i] | (bytes[2 * i + 1] << 8);
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24
      : exponent === 31 ? (fraction ? NaN : Infinity)
        : (1024 + fraction) * 2 ** (exponent - 25);
    values[i] = bits >> 15 ? -size : size;
  }
  return values;
}

/** The network: two convolutions, each with ReLU and 2 x 2 max-pooling, and two linear layers. */
export class DigitCNN {
  /** @param {Float32Array} values (799,078), as in LAYOUT */
  constructor(values) {
    if (values.length !== PARAMETERS)
      throw new Error(`expected ${PARAMETERS} weights of DigitCNN, got ${values.length}`);
    if (!values.every(Number.isFinite)) throw new Error("NaN or infinity among the weights of DigitCNN");
    let start = 0;
    for (const [name, shape] of Object.entries(LAYOUT))
      this[name] = values.subarray(start, start += sizeOf(shape));
    this.back1 = turned(this["conv1.weight"], 32, 1);
    this.back2 = turned(this["conv2.weight"], 32, 32);
  }

  /** @param {Uint8Array} bytes (1,598,156), as in LAYOUT */
  static read(bytes) {
    if (bytes.length !== 2 * PARAMETERS)
      throw new Error(`expected ${2 * PARAMETERS} bytes of weights (${PARAMETERS} float16), got ${bytes.length}`);
    return new DigitCNN(readHalves(bytes));
  }

  /**
   * @param {Float64Array} image (28 * 28)
   * @returns what every layer made of it: conv1 (32 * 28 * 28) and conv2 (32 * 14 * 14) after ReLU, pool1, pool2 with
   *   where each maximum was, hidden (500), logits (10), probs (10), and the label, which is the largest logit's
   */
  forward(image) {
    const conv1 = relu(convolve(image, this["conv1.weight"], this["conv1.bias"], 28)); // (32, 28, 28)
    const pool1 = pool(conv1, 28); // (32, 14, 14)
    const conv2 = relu(convolve(pool1.values, this["conv2.weight"], this["conv2.bias"], 14)); // (32, 14, 14)
    const pool2 = pool(conv2, 14); // (32, 7, 7)
    const hidden = relu(linear(pool2.values, this["fc1.weight"], this["fc1.bias"])); // (500)
    const logits = linear(hidden, this["fc2.weight"], this["fc2.bias"]); // (10)
    return { conv1, pool1, conv2, pool2, hidden, logits, probs: softmax(logits), label: argmax(logits) };
  }

  /**
   * The gradient of log-sum-exp of the other logits minus the label's own, by the image.
   * @param seen what `forward` returned for the image
   * @param {number} label 0..9
   * @returns {Float64Array} (28 * 28)
   */
  gradient(seen, label) {
    const others = seen.logits.map((logit, digit) => (digit === label ? -Infinity : logit));
    const byLogits = softmax(others).map((share, digit) => (digit === label ? -1 : share)); // (10)
    const byHidden = where(seen.hidden, transposed(byLogits, this["fc2.weight"])); // (500)
    const byPool2 = transposed(byHidden, this["fc1.weight"]); // (32 * 7 * 7)
    const byConv2 = unpool(byPool2, seen.pool2, seen.conv2); // (32, 14, 14)
    const byPool1 = convolve(byConv2, this.back2, new Float64Array(32), 14); // (32, 14, 14)
    const byConv1 = unpool(byPool1, seen.pool1, seen.conv1); // (32, 28, 28)
    return convolve(byConv1, this.back1, new Float64Array(1), 28); // (28, 28)
  }
}

/** Kernels (out, in, 3, 3) as the gradient needs them: (in, out, 3, 3), each turned by 180 degrees. */
function turned(weight, outs, ins) {
  const result = new Float32Array(weight.length);
  for (let o = 0; o < outs; o++)
    for (let i = 0; i < ins; i++)
      for (let tap = 0; tap < 9; tap++) result[(i * outs + o) * 9 + tap] = weight[(o * ins + i) * 9 + 8 - tap];
  return result;
}

/** Convolve x (in, side, side) with weight (out, in, 3, 3) and zeros around: (out, side, side). */
function convolve(x, weight, bias, side) {
  const area = side * side, ins = x.length / area, framed = frame(x, ins, side);
  const y = new Float64Array(bias.length * area);
  for (let o = 0; o < bias.length; o++) {
    y.fill(bias[o], o * area, (o + 1) * area);
    for (let i = 0; i < ins; i++) addPlane(y, o * area, framed, i * (side + 2) ** 2, weight, (o * ins + i) * 9, side);
  }
  return y;
}

/** Add one plane under one 3 x 3 kernel; `to`, `from` and `at` are where plane, framed plane and kernel begin. */
function addPlane(y, to, x, from, weight, at, side) {
  const [a, b, c, d, e, f, g, h, i] = weight.subarray(at, at + 9), wide = side + 2;
  for (let row = 0; row < side; row++) {
    let top = from + row * wide, middle = top + wide, bottom = middle + wide;
    for (const end = to + side; to < end; to++, top++, middle++, bottom++)
      y[to] += a * x[top] + b * x[top + 1] + c * x[top + 2]
        + d * x[middle] + e * x[middle + 1] + f * x[middle + 2]
        + g * x[bottom] + h * x[bottom + 1] + i * x[bottom + 2];
  }
}

/** Put a frame of zeros around every plane of x (planes, side, side): (planes, side + 2, side + 2). */
function frame(x, planes, side) {
  const wide = side + 2, framed = new Float64Array(planes * wide * wide);
  for (let row = 0; row < planes * side; row++) {
    const start = Math.floor(row / side) * wide * wide + ((row % side) + 1) * wide + 1;
    framed.set(x.subarray(row * side, (row + 1) * side), start);
  }
  return framed;
}

/** The largest of every 2 x 2 pixels of x (planes, side, side), and where in x it is: (planes, side / 2, side / 2). */
function pool(x, side) {
  const values = new Float64Array(x.length / 4), places = new Int32Array(x.length / 4), half = side / 2;
  for (let i = 0; i < values.length; i++) {
    const corner = Math.floor(i / half) * 2 * side + (i % half) * 2;
    let best = corner;
    for (const place of [corner + 1, corner + side, corner + side + 1]) if (x[place] > x[best]) best = place;
    values[i] = x[best];
    places[i] = best;
  }
  return { values, places };
}

/** The gradient before pooling and ReLU from that after: only the maxima get it, and only those above 0. */
function unpool(after, pooled, x) {
  const before = new Float64Array(x.length);
  after.forEach((value, i) => { if (pooled.values[i] > 0) before[pooled.places[i]] = value; });
  return before;
}

function linear(x, weight, bias) {
  return Float64Array.from(bias, (start, o) => {
    let sum = start;
    for (let i = 0, at = o * x.length; i < x.length; i++, at++) sum += weight[at] * x[i];
    return sum;
  });
}

/** y (out) times weight (out, in): (in). */
function transposed(y, weight) {
  const width = weight.length / y.length, x = new Float64Array(width);
  for (let o = 0; o < y.length; o++) {
    const factor = y[o];
    if (factor !== 0) for (let i = 0, at = o * width; i < width; i++, at++) x[i] += factor * weight[at];
  }
  return x;
}

function relu(x) {
  for (let i = 0; i < x.length; i++) if (x[i] < 0) x[i] = 0;
  return x;
}

const where = (active, x) => x.map((value, i) => (active[i] > 0 ? value : 0));

const argmax = (values) => values.indexOf(Math.max(...values));

function softmax(logits) {
  const largest = Math.max(...logits), powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((total, power) => total + power);
  return powers.map((power) => power / sum);
}

/** The size of a step: one step goes all the way, several together two and a half times as far as needed. */
const stepSize = (eps, steps) => Math.min(eps, (2.5 * eps) / steps);

/**
 * PGD; with one step FGSM. Yields after every step what the network now makes of the image.
 * @param {Float64Array} image (28 * 28)
 * @param {{label: number, target: number?, eps: number, steps: number}} goal the label to leave, or the target to reach
 * @yields {{image: Float64Array, seen: object, step: number}}
 */
export function* attack(network, image, { label, target = null, eps, steps }) {
  const alpha = stepSize(eps, steps) * (target === null ? 1 : -1);
  let x = image, seen = network.forward(x);
  yield { image: x, seen, step: 0 };
  for (let step = 1; step <= steps; step++) {
    const gradient = network.gradient(seen, target ?? label);
    x = x.map((value, i) => {
      const moved = value + alpha * Math.sign(gradient[i]);
      const inBall = Math.min(Math.max(moved, image[i] - eps), image[i] + eps);
      return Math.min(Math.max(inBall, 0), 1);
    });
    seen = network.forward(x);
    yield { image: x, seen, step };
  }
}

export const PATCH = 7, POSITIONS = SIDE - PATCH + 1;

/**
 * The label's probability with a grey 7 x 7 patch at every position, row by row.
 * @yields {number} the next of 22 * 22 probabilities
 */
export function* occlusion(network, image, label) {
  for (let place = 0; place < POSITIONS ** 2; place++) {
    const covered = image.slice(), corner = Math.floor(place / POSITIONS) * SIDE + (place % POSITIONS);
    for (let row = 0; row < PATCH; row++)
      covered.fill(0.5, corner + row * SIDE, corner + row * SIDE + PATCH);
    yield network.forward(covered).probs[label];
  }
}

const BOX = 20, PEN = 2.6, MIDDLE = 14.5; // pixels; MNIST's centres of mass lie in the middle of pixel 14
const SMALLEST = 0.2; // of the pad: a smaller drawing stays smaller than the box, or a dot would fill it

/**
 * A drawing as an image of MNIST's: its longer side is 20 pixels, unless it is tiny, and its centre of mass lies where
 * MNIST's do.
 * What is scaled is the line that was drawn, not its thickness: the pen is as wide as MNIST's, at every size.
 * @param {number[][][]} strokes each a list of points [x, y] in [0, 1], from the pad's top left
 * @returns {Float64Array} (28 * 28), of the 256 greys that MNIST has; all 0 if nothing is drawn
 */
export function digitOf(strokes) {
  const points = strokes.flat();
  if (!points.length) return new Float64Array(SIDE * SIDE);
  const [[left, right], [top, bottom]] = [0, 1].map((axis) => range(points.map((point) => point[axis])));
  const scale = (BOX - PEN) / Math.max(right - left, bottom - top, SMALLEST);
  const placed = strokes.map((stroke) => stroke.map(([x, y]) => [
    (x - (left + right) / 2) * scale + MIDDLE, (y - (top + bottom) / 2) * scale + MIDDLE,
  ]));
  const [x, y] = centreOfMass(ink(placed));
  const centred = placed.map((stroke) => stroke.map((point) => [point[0] + MIDDLE - x, point[1] + MIDDLE - y]));
  return ink(centred).map((value) => Math.round(value * 255) / 255);
}

const range = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [1, 0]);

/** Draw strokes, in pixels, with a round pen and soft edges. */
function ink(strokes) {
  const image = new Float64Array(SIDE * SIDE), reach = PEN / 2 + 0.5;
  const from = (a, b) => Math.max(Math.floor(Math.min(a, b) - reach), 0);
  const to = (a, b) => Math.min(Math.ceil(Math.max(a, b) + reach), SIDE);
  for (const stroke of strokes)
    for (const [i, end] of stroke.entries()) {
      const start = stroke[Math.max(i - 1, 0)];
      for (let row = from(start[1], end[1]); row < to(start[1], end[1]); row++)
        for (let column = from(start[0], end[0]); column < to(start[0], end[0]); column++) {
          const at = row * SIDE + column, inked = reach - distance(column + 0.5, row + 0.5, start, end);
          image[at] = Math.max(image[at], Math.min(inked, 1));
        }
    }
  return image;
}

/** The distance of (x, y) from the straight line between two points. */
function distance(x, y, [x0, y0], [x1, y1]) {
  const dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy;
  const along = length ? Math.min(Math.max(((x - x0) * dx + (y - y0) * dy) / length, 0), 1) : 0;
  return Math.hypot(x - x0 - along * dx, y - y0 - along * dy);
}

function centreOfMass(image) {
  let mass = 0, x = 0, y = 0;
  image.forEach((value, at) => {
    mass += value;
    x += value * ((at % SIDE) + 0.5);
    y += value * (Math.floor(at / SIDE) + 0.5);
  });
  return [x / mass, y / mass];
}
