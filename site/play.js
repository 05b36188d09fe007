// The playground on the page. It works from the file system, too, where a page may run scripts but fetch nothing: so
// the weights come as scripts, each of which calls `playWeights`. tools/play.py fills in what stands in @...@.
(() => {
  /* @module@ */

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const folder = new URL(".", document.currentScript.src), loading = {}, arrived = {};
  window.playWeights = (file, text) => arrived[file](bytes(text));
  const load = (file) => loading[file] ??= new Promise((resolve, reject) => {
    arrived[file] = resolve;
    const script = document.createElement("script");
    script.src = new URL(file, folder);
    script.onerror = () => {
      delete loading[file]; // to be asked for again
      reject(new Error(`${file} is missing`));
    };
    document.head.append(script);
  });

  const networks = Object.fromEntries("@networks@".map(([name, file]) => [name, () => load(file)]));
  const digits = imagesOf(bytes("@digits@"));
  new Playground(document.getElementById("playground"), { networks, digits, first: digits[5] });
})();
