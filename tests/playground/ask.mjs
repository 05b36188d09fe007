// Asks the playground's module what tests compare: `node ask.mjs FOLDER`, which has module.mjs and what to ask in
// ask.json; the answer goes to answer.json. Each question is [name of a function below, its arguments].
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const { DigitCNN, attack, digitOf, occlusion, readHalves } = await import(pathToFileURL(`${folder}/module.mjs`));
const file = (name) => new Uint8Array(readFileSync(`${folder}/${name}`));
const wide = (name) => new Float32Array(file(name).buffer);
const image = (pixels) => Float64Array.from(pixels);

const networks = {};
const network = (name) => networks[name] ??= name.endsWith(".f32") ? new DigitCNN(wide(name)) : DigitCNN.read(file(name));
const last = (steps) => [...steps].at(-1);

const questions = {
  read: (name) => [...readHalves(file(name))],
  refused: (name) => { try { network(name); return "accepted"; } catch (error) { return error.message; } },
  maps: (name, pixels) => { const { conv1, conv2 } = network(name).forward(image(pixels)); return [[...conv1], [...conv2]]; },
  both: (name, pixels, label) => {
    const seen = network(name).forward(image(pixels));
    return [[...seen.logits], [...network(name).gradient(seen, label)], [...seen.probs], seen.label];
  },
  occlusion: (name, pixels, label) => [...occlusion(network(name), image(pixels), label)],
  attack: (name, pixels, goal) => [...last(attack(network(name), image(pixels), goal)).image],
  digit: (strokes) => [...digitOf(strokes)],
};

const asked = JSON.parse(readFileSync(`${folder}/ask.json`));
writeFileSync(`${folder}/answer.json`, JSON.stringify(asked.map(([name, ...given]) => questions[name](...given))));
