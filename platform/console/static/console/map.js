// The live map: applies one frame per second to the drawing and its table, and lets events move along the arrows.

import { Stream } from "./stream.js";

const MOST_MOVING = 5; // dots per arrow and second
const TRAVEL_MS = 900;
const WAVE_MS = 130; // an arrow begins so much later than the one before it on the way of an event
const ORDER = { http: 0, sql: 1, outbox: 2, kafka: 3 };
const LEVELS = ["good", "warn", "bad", "stuck", "unknown"];
const SVG = "http://www.w3.org/2000/svg";
const still = matchMedia("(prefers-reduced-motion: reduce)");
const title = document.title;

class LiveMap {
  constructor(root) {
    this.root = root;
    this.version = root.dataset.version;
    this.index();
    this.connect();
  }

  index() {
    const by = (name) => new Map([...this.root.querySelectorAll(`[data-${name}]`)].map((one) => [one.dataset[name], one]));
    this.nodes = by("node");
    this.edges = by("edge");
    this.rows = by("row");
    this.moving = this.root.querySelector("[data-moving]");
  }

  connect() {
    const stream = new Stream(this.root.dataset.stream);
    stream.addEventListener("message", (message) => this.show(JSON.parse(message.data)));
    stream.onopen = () => this.lost(false);
    stream.onerror = () => this.lost(true);
  }

  lost(is) {
    const notice = this.root.querySelector("[data-lost]");
    notice.hidden = !is;
    setText(notice, is ? notice.dataset.lost : "");
    this.root.classList.toggle("lost", is);
  }

  async show(frame) {
    if (frame.version !== this.version && !(await this.redraw(frame.version))) return;
    for (const [id, figures] of Object.entries(frame.nodes)) this.showNode(id, figures);
    for (const [id, figures] of Object.entries(frame.edges)) this.showEdge(id, figures);
    const whole = this.root.querySelector("[data-whole]");
    setLevel(whole, frame.level);
    setText(whole.querySelector("[data-text]"), frame.text);
    document.title = frame.level === "good" ? title : `${frame.level === "bad" ? "✕" : "!"} ${frame.text} · ${title}`;
  }

  async redraw(version) {
    const response = await fetch(this.root.dataset.drawing);
    if (!response.ok) return false;
    this.root.querySelector("[data-drawn]").innerHTML = await response.text();
    this.version = version;
    this.index();
    return true;
  }

  showNode(id, { level, word, line, note, reason }) {
    const node = this.nodes.get(id);
    if (!node) return;
    setLevel(node, level);
    setText(node.querySelector("[data-line]"), line);
    setText(node.querySelector("[data-note]"), note);
    setText(node.querySelector("title"), reason);
    const shown = [node.querySelector(".name").textContent, line, note].filter(Boolean).join(" ");
    node.setAttribute("aria-label", `${shown}, ${node.dataset.what}, ${word || level}`);
    const row = this.rows.get(id);
    const state = row.querySelector("[data-state]");
    setLevel(state, level);
    setText(state, word || level);
    setText(row.querySelector("[data-figures]"), line);
    setText(row.querySelector("[data-why]"), reason);
  }

  showEdge(id, { label, rate, moved, broken }) {
    const edge = this.edges.get(id);
    if (!edge) return;
    edge.classList.toggle("busy", rate > 0);
    edge.classList.toggle("broken", broken);
    setText(edge.querySelector(".label"), label);
    if (moved > 0 && !still.matches && !document.hidden) this.move(edge, Math.min(moved, MOST_MOVING));
  }

  move(edge, count) {
    const path = edge.querySelector("path").getAttribute("d");
    const kind = [...edge.classList].find((name) => name in ORDER);
    for (let number = 0; number < count; number++) {
      const dot = document.createElementNS(SVG, "circle");
      dot.setAttribute("class", `moving ${kind}`);
      dot.style.offsetPath = `path("${path}")`;
      this.moving.append(dot);
      const begin = ORDER[kind] * WAVE_MS + (number * 1000) / count;
      const way = [{ offsetDistance: "0%", opacity: 1 }, { offsetDistance: "100%", opacity: 1 }];
      const animation = dot.animate(way, { duration: TRAVEL_MS, delay: begin, easing: "ease-in-out" });
      dot.setAttribute("opacity", "0"); // before and after its way
      animation.onfinish = animation.oncancel = () => dot.remove();
    }
  }
}

function setLevel(element, level) {
  if (element.classList.contains(level)) return;
  element.classList.remove(...LEVELS);
  element.classList.add(level);
  element.querySelector(".glyph use")?.setAttribute("href", `#glyph-${level}`);
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

for (const root of document.querySelectorAll("[data-map]")) new LiveMap(root);
