"use strict";
(() => {
  const live = document.getElementById("live");
  const stop = live.querySelector("button");
  const bar = live.querySelector("progress");
  const line = live.querySelector("span");
  const time = (seconds) => seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} min`;
  let ended = null;
  // The page as it is now takes the place of what is shown, without losing the reader's place.
  const renew = async () => {
    const answer = await fetch("/", { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.getElementById("main").replaceChildren(...fresh.getElementById("main").childNodes);
    dispatchEvent(new Event("rekindle-content"));
  };
  const show = (now) => {
    live.dataset.phase = now.phase;
    bar.max = Math.max(now.of, 1);
    bar.value = now.items;
    const parts = [now.phase];
    if (now.epochs) parts.push(`epoch ${now.epoch} of ${now.epochs}`, `step ${now.step}`);
    if (now.loss !== null) parts.push(`loss ${now.loss.toPrecision(4)}`);
    if (now.score !== null) parts.push(`${now.metric} ${now.score}`);
    if (now.phase === "training" && now.rate) parts.push(`${Math.round(now.rate)} items/s`, `${time(now.left)} left in this epoch`);
    line.textContent = parts.join(" · ");
    stop.disabled = !["starting", "training"].includes(now.phase);
    if (ended !== now.ended) renew().catch(() => {});
    ended = now.ended;
  };
  const events = new EventSource("/events");
  events.addEventListener("message", (event) => {
    const now = JSON.parse(event.data);
    show(now);
    if (["finished", "interrupted", "failed", "stopped early"].includes(now.phase)) events.close();
  });
  events.addEventListener("error", () => {
    events.close();
    stop.disabled = true;
    live.dataset.phase = "gone";
    line.textContent += " · the training's process has ended";
  });
  stop.addEventListener("click", () => {
    stop.disabled = true;
    fetch("/stop", { method: "POST" }).catch(() => {});
  });
})();
