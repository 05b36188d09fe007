// Figures that scroll sideways can be reached and moved by keyboard.
function reachable() {
  for (const output of document.querySelectorAll(".cell_output"))
    output.tabIndex = output.scrollWidth > output.clientWidth ? 0 : -1;
}
addEventListener("load", reachable);
addEventListener("resize", reachable);
