// A stream of server-sent events that is closed while its page is hidden: a browser keeps six connections to a host at most,
// and each stream holds one of them.

const RETRY_MS = 2000;

export class Stream {
  constructor(url) {
    this.url = url;
    this.listeners = [];
    this.ended = false;
    this.changed = () => (document.hidden ? this.leave() : this.join());
    document.addEventListener("visibilitychange", this.changed);
    addEventListener("pagehide", () => this.leave());
    addEventListener("pageshow", (event) => event.persisted && this.changed());
    if (!document.hidden) this.join();
  }

  // As of an EventSource: `onopen`, `onerror`, `readyState`, `addEventListener`, `removeEventListener` and `close`.

  get readyState() {
    if (this.ended) return EventSource.CLOSED;
    return this.source?.readyState === EventSource.OPEN ? EventSource.OPEN : EventSource.CONNECTING;
  }

  addEventListener(name, listener) {
    this.listeners.push([name, listener]);
    this.source?.addEventListener(name, listener);
  }

  removeEventListener(name, listener) {
    this.listeners = this.listeners.filter((one) => one[0] !== name || one[1] !== listener);
    this.source?.removeEventListener(name, listener);
  }

  close() {
    this.ended = true;
    document.removeEventListener("visibilitychange", this.changed);
    this.leave();
  }

  join() {
    if (this.ended || this.source) return;
    const source = (this.source = new EventSource(this.url));
    source.onopen = (event) => this.onopen?.(event);
    source.onerror = (event) => {
      this.onerror?.(event);
      // A browser gives up after some errors, such as a restart of the console with another token.
      if (source.readyState === EventSource.CLOSED && source === this.source) {
        this.leave();
        this.timer = setTimeout(this.changed, RETRY_MS);
      }
    };
    for (const [name, listener] of this.listeners) source.addEventListener(name, listener);
  }

  leave() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = undefined;
  }
}

// The extension of htmx uses it too.
if (window.htmx) window.htmx.createEventSource = (url) => new Stream(url);
