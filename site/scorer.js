// How Sphinx's search orders what it finds: its own numbers, and a page or section whose title has the words comes first.
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  score: ([, title, , , score]) => {
    const query = new URLSearchParams(location.search).get("q") ?? "";
    const words = query.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
    const found = words.filter((word) => title.toLowerCase().includes(word));
    return score + (20 * found.length) / Math.max(words.length, 1);
  },
};
