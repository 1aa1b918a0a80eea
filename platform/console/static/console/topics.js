// Where the keyboard goes when a part of the page has been replaced: the control that was used is gone.
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target?.id === "more") event.detail.target.previousElementSibling?.setAttribute("data-last", "");
});
document.body.addEventListener("htmx:afterSettle", (event) => {
  const last = document.querySelector("[data-last]");
  if (last) {
    last.removeAttribute("data-last");
    (last.nextElementSibling?.querySelector("a") ?? document.querySelector("#next"))?.focus();
  }
  // A page that is restored from the browser's history has no target.
  if (event.detail.target?.id === "content-of-record") document.querySelector("#payload")?.focus();
});
