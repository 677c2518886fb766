"use strict";
// Draws the charts, and ties them to the page's buttons. Everything untrusted is set as text, never as HTML.
(() => {
  const views = new Map();
  const tip = document.getElementById("tip");

  function showTip(handler, event, item, value) {
    if (value === null || value === undefined || value === "") {
      tip.hidden = true;
      return;
    }
    tip.replaceChildren();
    String(value).split("\n").forEach((line, i) => {
      const row = document.createElement(i ? "span" : "strong");
      row.textContent = line;
      tip.append(row);
    });
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const right = document.documentElement.clientWidth - box.width - 8;
    const above = event.clientY - box.height - 14;
    tip.style.left = `${Math.max(8, Math.min(event.clientX + 12, right))}px`;
    tip.style.top = `${above > 8 ? above : event.clientY + 18}px`;
  }

  // A finger does not hover: a tap shows what is said about the nearest mark.
  function tapped(plot, event) {
    let [nearest, reach] = [null, 24];
    for (const path of plot.querySelectorAll(".mark-symbol path")) {
      const box = path.getBoundingClientRect();
      const away = Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
      if (path.__data__ && path.__data__.tooltip && away < reach) [nearest, reach] = [path.__data__, away];
    }
    showTip(null, event, nearest, nearest && nearest.tooltip);
  }

  async function draw(plot, spec, config) {
    const result = await window.vegaEmbed(plot.firstElementChild, spec, {
      mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false, config, tooltip: showTip,
    });
    views.set(plot.dataset.figure, result.view);
    plot.addEventListener("click", (event) => tapped(plot, event));
    performance.mark(plot.dataset.figure);
  }

  function send(group, value) {
    for (const id of group.dataset.figures.split(" ")) {
      const view = views.get(id);
      if (view) view.signal(group.dataset.param, value).runAsync();
    }
  }

  function pressed(group) {
    return [...group.querySelectorAll("[aria-pressed=true]")].map((button) => button.dataset.value);
  }

  function press(button, on) {
    button.setAttribute("aria-pressed", String(on));
  }

  function zoom(view, factor) {
    for (const channel of ["x", "y"]) {
      const signal = `zoom_${channel}`;
      if (!(signal in view.getState().signals)) continue;
      if (factor === 0) {
        view.signal(signal, null);
        continue;
      }
      const scale = view.scale(channel);
      const [from, to] = scale.range();
      const [middle, half] = [(from + to) / 2, ((to - from) / 2) * factor];
      view.signal(signal, [scale.invert(middle - half), scale.invert(middle + half)]);
    }
    view.runAsync();
  }

  for (const group of document.querySelectorAll(".controls")) {
    const buttons = [...group.querySelectorAll("button")];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        if (group.classList.contains("zoom")) {
          const view = views.get(group.dataset.figures);
          if (view) zoom(view, Number(button.dataset.zoom));
        } else if (group.classList.contains("choice")) {
          buttons.forEach((each) => press(each, each === button));
          send(group, button.dataset.value);
        } else {
          press(button, button.getAttribute("aria-pressed") !== "true");
          send(group, pressed(group));
        }
      });
    }
  }

  function sortable(table) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => {
          const cell = row.cells[column];
          const number = cell.dataset.sort === undefined ? parseFloat(cell.textContent) : Number(cell.dataset.sort);
          return [Number.isNaN(number), number, cell.textContent];
        };
        const order = (a, b) => {
          const [[noA, x, s], [noB, y, t]] = [key(a), key(b)];
          if (noA !== noB) return noA ? 1 : -1;
          const difference = noA ? s.localeCompare(t) : x - y;
          return down ? -difference : difference;
        };
        body.append(...[...body.rows].sort(order));
      });
    });
  }

  async function start() {
    document.querySelectorAll("table").forEach(sortable);
    const { config, specs } = JSON.parse(document.getElementById("data").textContent);
    for (const plot of document.querySelectorAll(".plot")) {
      await new Promise((go) => setTimeout(go)); // what is there already is painted, and can be used
      try {
        await draw(plot, specs[plot.dataset.figure], config);
      } catch (error) {
        plot.textContent = "This chart could not be drawn; its data stands below.";
        console.error(error);
      }
    }
    document.documentElement.dataset.ready = "true";
  }

  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
  start();
})();
