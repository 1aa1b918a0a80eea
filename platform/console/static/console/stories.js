// The page of a story: the keyboard in its diagram, and the details of the chosen step. Without it, every step is a link.

import "./stream.js";

const diagram = document.getElementById("sequence");

if (diagram) {
  const steps = [...diagram.querySelectorAll("a.step")];
  let current = steps.find((step) => step.tabIndex === 0) ?? steps[0];
  let timer;

  const show = (step) => {
    const { details, folds, opened } = diagram.dataset;
    const url = step.dataset.fold ? `${folds}${step.dataset.fold}?${opened}` : details + step.dataset.span;
    clearTimeout(timer);
    // A key that is held down passes many steps.
    timer = setTimeout(() => htmx.ajax("GET", url, { target: "#detail", swap: "innerHTML" }), 80);
    const address = new URL(location.href);
    address.searchParams.set("span", step.dataset.span);
    address.hash = "";
    history.replaceState(history.state, "", address);
  };

  const choose = (step) => {
    if (!step) return;
    if (current) {
      current.tabIndex = -1;
      current.removeAttribute("aria-current");
    }
    current = step;
    step.tabIndex = 0;
    step.setAttribute("aria-current", "true");
    step.focus({ preventScroll: true });
    step.querySelector(".what").scrollIntoView({ block: "nearest", inline: "nearest" });
    show(step);
  };

  const at = (offset) => steps[Math.min(steps.length - 1, Math.max(0, steps.indexOf(current) + offset))];
  const later = () => steps.slice(steps.indexOf(current) + 1);
  const targets = {
    ArrowDown: () => at(1),
    ArrowUp: () => at(-1),
    PageDown: () => at(10),
    PageUp: () => at(-10),
    Home: () => steps[0],
    End: () => steps.at(-1),
    ArrowLeft: () => steps.find((step) => step.dataset.span === current.dataset.parent),
    ArrowRight: () => steps.find((step) => step.dataset.parent === current.dataset.span),
    e: () => later().find((step) => step.classList.contains("failed")) ?? steps.find((step) => step.classList.contains("failed")),
  };

  diagram.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !(event.key in targets)) return;
    event.preventDefault();
    choose(targets[event.key]());
  });

  diagram.addEventListener("click", (event) => {
    const step = event.target.closest("a.step");
    if (!step || event.ctrlKey || event.metaKey || event.shiftKey || step.dataset.fold) return;
    event.preventDefault();
    choose(step);
  });

  // By Tab, a step is focused without being chosen. (Chromium lets Tab stop at an SVG that listens for focus itself.)
  diagram.parentElement.addEventListener("focusin", (event) => {
    const step = event.target.closest("a.step");
    if (step && !(step === current && step.hasAttribute("aria-current"))) choose(step);
  });

  document.getElementById("detail").addEventListener("click", (event) => {
    const link = event.target.closest("a[data-go]");
    const step = link && steps.find((one) => one.dataset.span === link.dataset.go);
    if (!step) return; // folded: the link opens it on a page of its own
    event.preventDefault();
    choose(step);
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy], button[data-copy-link]");
  if (!button) return;
  const { copy, copyLink } = button.dataset;
  const text = copy ? document.getElementById(copy).textContent : document.getElementById(copyLink).href;
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed by the browser";
  }
  setTimeout(() => (button.textContent = label), 2000);
});

// Empty filters do not belong in the address. (The form has a field named id, which hides its own.)
document.addEventListener("htmx:configRequest", (event) => {
  if (!event.target.matches("#filters")) return;
  const data = event.detail.formData;
  for (const [name, value] of [...data]) if (value === "") data.delete(name);
});

document.addEventListener("htmx:afterSwap", (event) => event.target.removeAttribute?.("aria-busy"));
