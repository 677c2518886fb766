"use strict";
(() => {
  const filters = [...document.querySelectorAll("[data-filter]")];
  const answers = [...document.querySelectorAll("article")];
  const output = document.querySelector("output");
  const nothing = document.getElementById("nothing");
  function show() {
    const wanted = filters.map((f) => [f.dataset.filter, f.type === "checkbox" ? (f.checked ? "1" : "") : f.value]);
    let n = 0;
    for (const each of answers) {
      each.hidden = wanted.some(([name, value]) => value && each.dataset[name] !== value);
      n += each.hidden ? 0 : 1;
    }
    output.textContent = `${n} of ${answers.length} answers`;
    nothing.hidden = n > 0;
  }
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  for (const each of filters) each.addEventListener("change", show);
  show();
  document.documentElement.dataset.ready = "";
})();
