// Swagger UI in the catalogue. It sends no requests: the gateway accepts none from pages of other origins.

const place = document.getElementById("swagger");

// Its lists of choices have no names, which a screen reader would say.
const NAMES = { "#servers": "Server", ".examples-select-element": "Example", ".content-type": "Media type" };
function name() {
  for (const [selector, text] of Object.entries(NAMES)) {
    for (const list of place.querySelectorAll(`select${selector}:not([aria-label])`)) list.setAttribute("aria-label", text);
  }
}
new MutationObserver(name).observe(place, { childList: true, subtree: true });

addEventListener("load", () => {
  window.SwaggerUIBundle({ url: place.dataset.document, domNode: place, supportedSubmitMethods: [], tagsSorter: "alpha" });
});
