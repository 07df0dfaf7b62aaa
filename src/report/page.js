"use strict";
(() => {
  const root = document.documentElement;
  const remember = (value) => { try { localStorage.setItem("rekindle-theme", value); } catch { /* a file may have no storage */ } };
  const recall = () => { try { return localStorage.getItem("rekindle-theme"); } catch { return null; } };
  const theme = document.getElementById("theme");
  const known = recall();
  if (known) root.dataset.theme = known;
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remember(root.dataset.theme);
  });
  // Paper has no folds.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details.checkpoint:not([open])")];
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of folded) one.open = false; });

  // Values under the pointer, or under the arrow keys.
  function readable(plot) {
    const data = JSON.parse(plot.dataset.chart);
    const area = plot.querySelector(".area");
    const cursor = plot.querySelector(".cursor");
    const tip = plot.querySelector(".tip");
    let at = -1;
    const show = (index) => {
      at = Math.max(0, Math.min(data.x.length - 1, index));
      cursor.style.left = `${data.at[at] * 100}%`;
      cursor.hidden = tip.hidden = false;
      tip.replaceChildren();
      const head = document.createElement("b");
      head.textContent = `epoch ${data.x[at]}`;
      tip.append(head);
      for (const series of data.series) {
        const value = series.values[at];
        if (!value) continue;
        const line = document.createElement("div");
        line.className = `c${series.colour}`;
        const name = document.createElement("span");
        name.textContent = series.name;
        const number = document.createElement("b");
        number.textContent = value[1];
        line.append(name, number);
        tip.append(line);
      }
      const room = area.clientWidth;
      const left = data.at[at] * room;
      tip.style.left = `${left + tip.offsetWidth + 14 > room ? Math.max(0, left - tip.offsetWidth - 12) : left + 12}px`;
    };
    const hide = () => { at = -1; cursor.hidden = tip.hidden = true; };
    area.addEventListener("pointermove", (event) => {
      const box = area.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      let nearest = 0;
      data.at.forEach((place, index) => {
        if (Math.abs(place - share) < Math.abs(data.at[nearest] - share)) nearest = index;
      });
      show(nearest);
    });
    area.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: at < 0 ? data.x.length - 1 : at - 1, ArrowRight: at + 1, Home: 0, End: data.x.length - 1 };
      if (event.key in moves) { show(moves[event.key]); event.preventDefault(); }
      if (event.key === "Escape") hide();
    });
  }
  const prepare = () => { for (const plot of document.querySelectorAll(".plot[data-chart]")) readable(plot); };
  prepare();
  // The page of a training that goes on gets new charts.
  addEventListener("rekindle-content", prepare);
})();
