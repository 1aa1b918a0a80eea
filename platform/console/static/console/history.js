// A form that is sent again with the same values adds no entry to the browser's history.

document.addEventListener("htmx:beforeHistoryUpdate", ({ detail: { history } }) => {
  if (history.type === "push" && history.path === location.pathname + location.search) history.type = "replace";
});
