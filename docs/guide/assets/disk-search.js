// Search in pages that are opened from a disk: a browser gives them no workers, so the search runs in a frame of the page.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      document.body.append(frame);
      this.inside = frame.contentWindow;
      this.waiting = [];
      // what the search says goes to the page; what the page says to the search waits until it is there
      this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = frame.contentDocument.createElement("script");
      script.src = new URL(address, location).href;
      script.onload = () => { const waiting = this.waiting; this.waiting = null; waiting.forEach((data) => this.postMessage(data)); };
      frame.contentDocument.body.append(script);
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }));
    }

    terminate() { this.inside.frameElement.remove(); }
  };
}
