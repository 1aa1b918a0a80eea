// Swagger UI in the catalogue. It sends no requests: the gateway accepts none from pages of other origins.

const place = document.getElementById("swagger");
addEventListener("load", () => {
  window.SwaggerUIBundle({ url: place.dataset.document, domNode: place, supportedSubmitMethods: [], tagsSorter: "alpha" });
});
