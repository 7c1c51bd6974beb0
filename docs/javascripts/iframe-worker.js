// Browsers start no worker from a file, and the search of the site is one: run it in a frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.documentElement.append(frame)
      this.scope = frame.contentWindow
      this.scope.postMessage = (data) => {
        this.dispatchEvent(new MessageEvent("message", { data }))
      }
      const script = this.scope.document.createElement("script")
      this.loaded = new Promise((resolve) => { script.onload = resolve })
      script.src = url
      this.scope.document.documentElement.append(script)
    }

    postMessage(data) {
      this.loaded.then(() => this.scope.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
