"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figures"), table = read("trials");

  // Colours are named as CSS variables, so that figures follow the light or dark scheme of the page.
  const paint = (value, style) => {
    if (typeof value === "string" && value.startsWith("--")) return style.getPropertyValue(value).trim();
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map((v) => paint(v, style));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, paint(v, style)]));
    return value;
  };

  const draw = (place) => {
    const style = getComputedStyle(document.documentElement);
    const { data, layout } = paint(figures[Number(place.dataset.figure)], style);
    const ink = paint("--ink", style), soft = paint("--ink-soft", style), grid = paint("--grid", style);
    const axis = { gridcolor: grid, linecolor: soft, zeroline: false, automargin: true, tickfont: { color: soft } };
    for (const name of Object.keys(layout)) if (/^[xy]axis/.test(name)) layout[name] = { ...axis, ...layout[name] };
    if (data.some((d) => d.yaxis === "y2"))
      layout.yaxis2 = { overlaying: "y", range: [0, 1], visible: false, fixedrange: true };
    Plotly.react(place, data, {
      height: 400, margin: { l: 64, r: 16, t: 44, b: 56 }, hovermode: "closest", autosize: true,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: ink },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: soft } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink },
      ...layout,
    }, {
      responsive: true, displaylogo: false, displayModeBar: place.closest(".triple, .pair") ? false : "hover",
      // Only buttons that keep the data in the page: the library also offers one that sends it to a web service.
      modeBarButtons: [data[0]?.type === "parcoords" ? ["toImage"] : ["toImage", "zoom2d", "pan2d", "resetScale2d"]],
      plotlyServerURL: "",
    });
  };

  const places = [...document.querySelectorAll("[data-figure]")];
  const shown = new Set();
  const show = (place) => { shown.add(place); draw(place); };
  for (const place of places) if (!place.closest("details:not([open])")) show(place);
  for (const box of document.querySelectorAll("details"))
    box.addEventListener("toggle", () => {
      for (const place of box.querySelectorAll("[data-figure]")) if (!shown.has(place)) show(place);
    });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown.forEach(draw));

  // The table of trials: a page of rows at a time, so that twenty thousand stay light.
  const body = document.getElementById("rows");
  if (!body) return;
  const more = document.getElementById("more"), told = document.getElementById("told");
  const filter = document.getElementById("filter"), heads = [...document.querySelectorAll("#head th")];
  const words = table.rows.map((row) => row.join(" ").toLowerCase());
  let order = table.rows.map((_, i) => i), limit = 50, by = -1, up = true;

  const cell = (value, kind) => {
    const td = document.createElement("td");
    td.className = kind;
    td.textContent = value === null ? "" : typeof value === "number"
      ? value.toLocaleString("en-US", { maximumSignificantDigits: 5 }) : value;
    return td;
  };
  const fill = () => {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = order.filter((i) => wanted.every((w) => words[i].includes(w)));
    body.replaceChildren(...found.slice(0, limit).map((i) => {
      const tr = document.createElement("tr");
      if (table.failed.includes(i)) tr.className = "failed";
      tr.append(...table.rows[i].map((v, j) => cell(v, table.kinds[j])));
      return tr;
    }));
    told.textContent = `${Math.min(limit, found.length)} of ${found.length} shown`;
    more.hidden = found.length <= limit;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b), "en", { numeric: true }));
  heads.forEach((head, j) => head.querySelector("button").addEventListener("click", () => {
    up = by === j ? !up : true;
    by = j;
    heads.forEach((h, k) => h.setAttribute("aria-sort", k !== j ? "none" : up ? "ascending" : "descending"));
    order.sort((a, b) => {
      const x = table.rows[a][j], y = table.rows[b][j];
      if (x === null || y === null) return (x === null) - (y === null);  // what is not known comes last
      return up ? compare(x, y) : compare(y, x);
    });
    fill();
  }));
  filter.addEventListener("input", () => { limit = 50; fill(); });
  more.addEventListener("click", () => { limit += 200; fill(); });
  fill();
})();
