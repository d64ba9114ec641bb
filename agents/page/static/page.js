// Keeps the live part of a page as the agent tells it. The HTML comes from the agent's own templates.
"use strict";
const live = document.getElementById("live");
let source = null;

function follow() {
  if (source !== null || document.hidden) return;
  source = new EventSource(live.dataset.stream);
  source.addEventListener("update", (event) => {
    const part = JSON.parse(event.data);
    live.innerHTML = part.html;
    if (part.stamp !== live.dataset.stamp) location.reload();
  });
  source.addEventListener("over", () => location.reload());
  source.addEventListener("error", () => {
    if (source !== null && source.readyState === EventSource.CLOSED) {
      leave();
      setTimeout(follow, 5000);
    }
  });
}

function leave() {
  if (source !== null) source.close();
  source = null;
}

if (live !== null) {
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : follow()));
  addEventListener("pagehide", leave);
  follow();
}
