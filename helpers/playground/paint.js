/** Pictures of pixels: the colour maps, and how values become tiles of colours. */

import { SIDE } from "./network.js";

/** A colour map of 256 colours, red, green, blue one after another, evenly between the stops. */
function colours(...stops) {
  return Uint8ClampedArray.from({ length: 768 }, (_, i) => {
    const at = (Math.floor(i / 3) / 255) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    const [from, to] = [stops[low][i % 3], stops[low + 1][i % 3]];
    return from + (at - low) * (to - from);
  });
}
const GREY = colours([0, 0, 0], [255, 255, 255]);
export const AMOUNT = colours([68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137],
  [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]); // matplotlib's viridis
export const SIGNED = colours([5, 48, 97], [67, 147, 195], [247, 247, 247], [214, 96, 77], [103, 0, 31]); // its RdBu_r

/** Paint values (planes, side, side) from low to high as tiles with a gap of one pixel; what is NaN stays clear. */
export function paint(canvas, values, { side = SIDE, columns = 1, map = GREY, low = 0, high = 1 } = {}) {
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

/** Maps (planes, side, side), each divided by its largest value. */
export function eachToOne(maps, side) {
  const area = side ** 2, plane = (i) => maps.subarray(i * area, (i + 1) * area);
  const most = Array.from({ length: maps.length / area }, (_, i) => Math.max(...plane(i), 1e-9));
  return maps.map((value, i) => value / most[Math.floor(i / area)]);
}
