// What scrolls sideways can be reached and moved by keyboard; what does not is no stop for the tabulator.
function reachable() {
  for (const part of document.querySelectorAll(".cell_output, mjx-container"))
    if (part.scrollWidth > part.clientWidth + 2) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
}

// A bracket before a formula and a full stop after it stay on the formula's line.
function glue() {
  for (const formula of document.querySelectorAll("span.math")) {
    const { previousSibling: before, nextSibling: after } = formula;
    const opening = before?.nodeType === Node.TEXT_NODE ? before.data.match(/[^\s—–]*$/)[0] : "";
    const closing = after?.nodeType === Node.TEXT_NODE ? after.data.match(/^[^\s—–]*/)[0] : "";
    if (!opening && !closing) continue;
    const whole = document.createElement("span");
    whole.className = "with-formula";
    formula.replaceWith(whole);
    if (opening) before.data = before.data.slice(0, -opening.length);
    if (closing) after.data = after.data.slice(closing.length);
    whole.append(opening, formula, closing);
  }
}

// The switch in the header hides the code of every page, and stays as it was left.
function hideCode(hidden) {
  document.documentElement.classList.toggle("without-code", hidden);
  document.getElementById("hide-code")?.setAttribute("aria-pressed", hidden);
  localStorage.setItem("without-code", hidden ? "yes" : "");
  reachable();
}

addEventListener("DOMContentLoaded", () => {
  glue();
  hideCode(Boolean(localStorage.getItem("without-code")));
  const button = document.getElementById("hide-code");
  button?.addEventListener("click", () => hideCode(button.getAttribute("aria-pressed") === "false"));
});
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  reachable();
});
addEventListener("resize", reachable);
addEventListener("toggle", reachable, true); // a hint was unfolded

// Paper is white, nobody can unfold a hint on it, and a line of it has room for 640 pixels of a formula.
const formulas = () => document.querySelectorAll("mjx-container[display]");
addEventListener("beforeprint", () => {
  const page = document.documentElement;
  page.dataset.screen = page.dataset.theme;
  page.dataset.theme = "light";
  for (const hint of document.querySelectorAll("details:not(.hide, [open])")) {
    hint.open = true;
    hint.dataset.printed = "";
  }
  for (const formula of formulas()) formula.style.zoom = Math.min(1, 640 / formula.firstElementChild.offsetWidth);
});
addEventListener("afterprint", () => {
  document.documentElement.dataset.theme = document.documentElement.dataset.screen;
  for (const hint of document.querySelectorAll("details[data-printed]")) {
    hint.open = false;
    delete hint.dataset.printed;
  }
  for (const formula of formulas()) formula.style.zoom = "";
});
