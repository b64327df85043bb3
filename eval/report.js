"use strict";

// What the page shows was made by eval/report.py: `report.codecs` were measured, `report.published` are others' curves.
const report = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const MEANS = ""; // the value of "mean of all pictures" in a select

// ---------------------------------------------------------------- helpers

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** Entries are [value, text]. */
function fill(select, entries, value = select.value) {
  select.replaceChildren(...entries.map(([key, text]) => element("option", { value: key }, text)));
  if (entries.some(([key]) => key === value)) select.value = value;
}

/** Python writes an infinite number as "inf". */
function number(value, digits, sign = false) {
  if (value === null || value === undefined) return "–";
  if (value === "inf") return "∞";
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 ? "−" : sign ? "+" : "") + text;
}

const thousands = (value) => Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
const measureOf = (key) => report.measures.find((measure) => measure.key === key);
const codecOf = (name) => report.codecs.find((codec) => codec.name === name);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const pictureNames = [...new Set(report.codecs.flatMap((c) => c.points.flatMap((p) => p.images.map((i) => i.name))))];

/** Figures of a point: its means, or those of one picture; undefined where it lacks the picture. */
function figuresOf(point, picture) {
  if (picture !== MEANS) return point.images.find((image) => image.name === picture);
  const bytes = point.images.length ? mean(point.images.map((image) => image.bytes)) : null;
  return { ...point.mean, bytes };
}

/** Colours are made for white paper; on a dark page they are mixed with white. */
function shade(colour) {
  if (!darkScheme.matches) return colour;
  if (colour === "#000000") return "#ffffff";
  const parts = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
  return `rgb(${parts.map((part) => Math.round(part + 0.45 * (255 - part))).join(",")})`;
}

function plotLayout(changes) {
  const style = getComputedStyle(document.documentElement);
  const [text, line, raised] = ["--text", "--line", "--raised"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, size: 13, family: getComputedStyle(document.body).fontFamily },
    margin: { l: 50, r: 10, t: 34, b: 46 },
    hoverlabel: { bgcolor: raised, bordercolor: line, font: { color: text }, align: "left", namelength: -1 },
    modebar: { color: text, activecolor: style.getPropertyValue("--accent").trim(), bgcolor: "rgba(0,0,0,0)" },
    // A finger on the plot scrolls the page.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    ...changes,
    xaxis: { ...axis, ...changes.xaxis },
    yaxis: { ...axis, ...changes.yaxis },
  };
}
// Of the library's buttons those that stay on this page; one of the others would send the plot to its maker.
const PLOT_CONFIG = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false,
  plotlyServerURL: "",
  modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
};

// ---------------------------------------------------------------- rate and quality

const shown = new Set([
  ...report.codecs.map((codec) => codec.name),
  ...report.published.filter((curve) => curve.shown).map((curve) => curve.name),
]);

/** Points of the chosen measure: {x, y, labels}, in order of rate. */
function curvePoints(entry, key, picture) {
  let points;
  if (Array.isArray(entry.points)) {
    points = entry.points
      .map((point) => [figuresOf(point, picture), point.label])
      .filter(([figures]) => figures && Number.isFinite(figures[key]))
      .map(([figures, label]) => [figures.bpp, figures[key], `quality ${label}, ${picture || "mean"}`]);
  } else {
    points = picture === MEANS ? (entry.points[key] ?? []).map(([x, y]) => [x, y, "published"]) : [];
  }
  points.sort((a, b) => a[0] - b[0]);
  return { x: points.map((p) => p[0]), y: points.map((p) => p[1]), labels: points.map((p) => p[2]) };
}

/** Of a trace's values those up to a rate, with that where its line leaves the plot. */
function visibleValues({ x, y }, most) {
  const values = y.filter((_, k) => x[k] <= most);
  const k = x.findIndex((rate) => rate > most);
  if (k > 0) values.push(y[k - 1] + ((y[k] - y[k - 1]) * (most - x[k - 1])) / (x[k] - x[k - 1]));
  return values;
}

function drawCurves() {
  const measure = measureOf($("measure").value);
  const picture = $("curve-picture").value;
  const most = Number($("max-rate").value) || Infinity;
  const traces = [];
  for (const entry of [...report.codecs, ...report.published]) {
    const published = !Array.isArray(entry.points);
    const { x, y, labels } = curvePoints(entry, measure.key, picture);
    const row = document.querySelector(`#curve-list [data-name="${CSS.escape(entry.name)}"]`);
    row.hidden = x.length === 0;
    if (!x.length || !shown.has(entry.name)) continue;
    const unit = measure.unit ? ` ${measure.unit}` : "";
    traces.push({
      x, y,
      name: entry.name,
      customdata: labels,
      mode: "lines+markers",
      line: { color: shade(entry.colour), width: published ? 1.3 : 2.2, dash: published ? "dash" : "solid" },
      marker: { color: shade(entry.colour), symbol: entry.symbol, size: published ? 6 : 8 },
      hovertemplate: `<b>%{fullData.name}</b><br>%{customdata}<br>%{x:.4f} bpp<br>%{y:.${measure.digits}f}${unit}` +
        `<extra></extra>`,
    });
  }
  const rates = traces.flatMap((trace) => trace.x), values = traces.flatMap((trace) => visibleValues(trace, most));
  const log = $("log").checked;
  const xaxis = { type: log ? "log" : "linear", title: { text: "rate, bits per pixel (whole file)" } };
  const yaxis = { title: { text: measure.title } };
  if (values.length) {
    const [low, high] = [Math.min(...rates), Math.min(most, 1.03 * Math.max(...rates))];
    xaxis.range = log ? [Math.log10(low / 1.1), Math.log10(high)] : [0, high];
    const margin = 0.05 * (Math.max(...values) - Math.min(...values)) || 0.5;
    yaxis.range = [Math.min(...values) - margin, Math.max(...values) + margin];
  }
  if (log) xaxis.tickvals = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];
  Plotly.react("curve-plot", traces, plotLayout({ xaxis, yaxis, showlegend: false, hovermode: "closest" }), PLOT_CONFIG);
}

function curveGroup(title, entries, published) {
  const boxes = entries.map((entry) => {
    const box = element("input", { type: "checkbox", checked: shown.has(entry.name), value: entry.name });
    box.addEventListener("change", () => {
      if (box.checked) shown.add(entry.name);
      else shown.delete(entry.name);
      drawCurves();
    });
    return box;
  });
  const set = (on) => {
    for (const box of boxes) {
      box.checked = on;
      if (on) shown.add(box.value);
      else shown.delete(box.value);
    }
    drawCurves();
  };
  const button = (text, on) => {
    const made = element("button", { type: "button", "aria-label": `${title}: ${text}` }, text);
    made.addEventListener("click", () => set(on));
    return made;
  };
  const rows = entries.map((entry, k) => {
    const swatch = element("span", { className: published ? "swatch published" : "swatch" });
    swatch.dataset.colour = entry.colour;
    return element("label", { "data-name": entry.name }, boxes[k], swatch, entry.name);
  });
  return element("fieldset", {}, element("legend", {}, title, button("all", true), button("none", false)), ...rows);
}

function startCurves() {
  $("curve-list").append(curveGroup("Measured", report.codecs, false));
  if (report.published.length) $("curve-list").append(curveGroup("Published", report.published, true));
  fill($("measure"), report.measures.map((measure) => [measure.key, measure.title]));
  fill($("curve-picture"), pictureEntries());
  fill($("max-rate"), [["0.25", "0.25 bpp"], ["0.5", "0.5 bpp"], ["1", "1 bpp"], ["2", "2 bpp"], ["", "all rates"]], "1");
  for (const id of ["measure", "curve-picture", "max-rate", "log"]) $(id).addEventListener("change", drawCurves);
}

function pictureEntries() {
  const means = pictureNames.length ? `mean of ${pictureNames.length} pictures` : "means";
  return [[MEANS, means], ...pictureNames.map((name) => [name, name])];
}

// ---------------------------------------------------------------- tables

/** Columns are {title, value(row), cell(row)}; a click on a title sorts by its value. */
function drawTable(table, columns, rows, rowClass = () => "") {
  const body = element("tbody");
  const show = (ordered) => {
    body.replaceChildren(...ordered.map((row) => {
      const cells = columns.map((column) => {
        const cell = element("td", { className: column.className ?? "" });
        cell.append(...[column.cell(row)].flat());
        return cell;
      });
      return element("tr", { className: rowClass(row) }, ...cells);
    }));
  };
  const heads = columns.map((column) => {
    const head = element("th", { scope: "col", className: column.className ?? "" });
    if (!column.value) {
      head.append(column.title);
      return head;
    }
    const button = element("button", { type: "button", title: "sort" }, column.title);
    head.append(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const of = (row) => column.value(row) ?? Infinity; // what is missing stands last
      const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b || 0);
      show([...rows].sort((a, b) => (falling ? -1 : 1) * compare(of(a), of(b))));
    });
    return head;
  });
  show(rows);
  table.replaceChildren(element("thead", {}, element("tr", {}, ...heads)), body);
}

function comparisonCell(found, digits) {
  if (found.value === null) return [element("span", { className: "interval" }, found.refused)];
  const parts = [number(found.value, digits, true)];
  if (found.interval) {
    const [low, high] = found.interval.map((bound) => number(bound, digits, true));
    parts.push(" ", element("span", { className: "interval" }, `[${low}, ${high}]`));
  }
  if (found.verdict) parts.push(" ", element("span", { className: found.verdict }, found.verdict));
  return parts;
}

function drawComparisons() {
  const measure = measureOf($("bd-measure").value);
  const over = (found, digits) => (found.over ? found.over.map((bound) => number(bound, digits)).join(" … ") : "–");
  const columns = [
    { title: "codec", value: (row) => row.name, cell: (row) => row.name },
    { title: "BD-rate, %", value: (row) => row.rate.value, cell: (row) => comparisonCell(row.rate, 1) },
    { title: `over ${measure.unit || measure.label}`, cell: (row) => over(row.rate, measure.digits) },
    {
      title: `BD-quality${measure.unit && ", " + measure.unit}`,
      value: (row) => row.quality.value,
      cell: (row) => comparisonCell(row.quality, measure.digits),
    },
    { title: "over bpp", cell: (row) => over(row.quality, 3) },
  ];
  drawTable($("bd-table"), columns, report.comparisons[measure.key], (row) => (row.published ? "published" : ""));
}

function startComparisons() {
  $("anchor").textContent = report.anchor;
  fill($("bd-measure"), report.measures
    .filter((measure) => report.comparisons[measure.key].length)
    .map((measure) => [measure.key, measure.title]));
  $("bd-note").textContent =
    "BD-rate: rate at equal quality in percent (negative: smaller files). BD-quality: the measure at equal rate. Both " +
    "by Akima interpolation over what the two curves share, which is stated. In brackets the " +
    `${Math.round(100 * report.confidence)} % interval over pictures (paired bootstrap, ${report.resamples} resamples); ` +
    "‘better’ and ‘worse’ stand only where it excludes 0. Published curves, in italics, have no interval.";
  $("bd-measure").addEventListener("change", drawComparisons);
  if ($("bd-measure").value) drawComparisons();
  else $("bd").hidden = true;
}

const ALL = "*";

function drawFigures() {
  const [wanted, picture] = [$("table-codec").value, $("table-picture").value];
  const rows = [];
  for (const codec of report.codecs.filter((one) => wanted === ALL || one.name === wanted)) {
    for (const point of codec.points) {
      const names = picture === ALL ? point.images.map((image) => image.name) : [picture];
      for (const name of names) {
        const figures = figuresOf(point, name);
        if (figures) rows.push({ codec: codec.name, label: point.label, picture: name, figures });
      }
    }
  }
  const figure = (title, key, digits) => ({
    title,
    value: (row) => (row.figures[key] === "inf" ? Infinity : row.figures[key]),
    cell: (row) => number(row.figures[key], digits),
  });
  const columns = [
    { title: "codec", value: (row) => row.codec, cell: (row) => row.codec },
    { title: "quality", value: (row) => row.label, cell: (row) => row.label },
    ...(picture === ALL ? [{ title: "picture", value: (row) => row.picture, cell: (row) => row.picture }] : []),
    { title: "bytes", value: (row) => row.figures.bytes,
      cell: (row) => (row.figures.bytes === null ? "–" : thousands(row.figures.bytes)) },
    figure("bpp", "bpp", 4),
    ...report.measures
      .filter((measure) => rows.some((row) => (row.figures[measure.key] ?? null) !== null))
      .map((measure) => figure([measure.label, measure.unit].filter(Boolean).join(", "), measure.key, measure.digits)),
    figure("encode, s", "encode_seconds", 3),
    figure("decode, s", "decode_seconds", 3),
  ];
  drawTable($("figure-table"), columns, rows);
}

function startFigures() {
  fill($("table-codec"), [[ALL, "all codecs"], ...report.codecs.map((codec) => [codec.name, codec.name])]);
  const each = pictureNames.length ? [[ALL, "each picture"]] : [];
  fill($("table-picture"), [pictureEntries()[0], ...each, ...pictureEntries().slice(1)]);
  for (const id of ["table-codec", "table-picture"]) $(id).addEventListener("change", drawFigures);
  drawFigures();
}

function drawOrigin() {
  const columns = [
    { title: "codec", cell: (codec) => codec.name },
    { title: "weights", className: "text", cell: (codec) => codec.weights?.slice(0, 12) ?? "–" },
    { title: "pictures", className: "text", cell: (codec) =>
      `${codec.points[0].images.length || "–"}${codec.manifest ? `, manifest ${codec.manifest.slice(0, 12)}` : ""}` },
    { title: "measured", className: "text wide", cell: ({ provenance: where }) => where === null ? "elsewhere" :
      `${where.date}, commit ${(where.commit ?? "unknown").slice(0, 12)}, ${where.machine}, ` +
      `${where.processes} × ${where.threads} threads` },
    { title: "distances of sets", className: "text", cell: (codec) => codec.distances ?? "–" },
    { title: "unavailable", className: "text", cell: (codec) =>
      Object.entries(codec.unavailable).map(([name, why]) => `${name}: ${why}`).join("; ") || "–" },
  ];
  drawTable($("origin-table"), columns, report.codecs);
}

// ---------------------------------------------------------------- bytes by section

const SECTION_COLOURS = ["#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#eeca3b", "#9d755d",
  "#ff9da6", "#79706e"];

function drawLedger() {
  const codec = codecOf($("ledger-codec").value);
  const picture = $("ledger-picture").value, share = $("share").checked;
  const bars = [];
  for (const point of codec.points) {
    const images = point.images.filter((image) => picture === MEANS || image.name === picture);
    if (!images.length) continue;
    const sections = {};
    for (const image of images) {
      for (const [name, bytes] of Object.entries(image.ledger)) {
        sections[name] = (sections[name] ?? 0) + bytes / images.length;
      }
    }
    const bpp = mean(images.map((image) => image.bpp));
    bars.push({ title: `${point.label}<br>${bpp.toFixed(3)} bpp`, sections });
  }
  const names = [...new Set(bars.flatMap((bar) => Object.keys(bar.sections)))];
  const whole = (bar) => Object.values(bar.sections).reduce((sum, bytes) => sum + bytes, 0);
  const traces = names.map((name, k) => ({
    type: "bar",
    name,
    x: bars.map((bar) => bar.title),
    y: bars.map((bar) => (bar.sections[name] ?? 0) / (share ? whole(bar) / 100 : 1)),
    customdata: bars.map((bar) => [thousands(bar.sections[name] ?? 0), thousands(whole(bar))]),
    marker: { color: shade(SECTION_COLOURS[k % SECTION_COLOURS.length]) },
    hovertemplate: "<b>%{fullData.name}</b><br>%{customdata[0]} of %{customdata[1]} bytes<extra></extra>",
  }));
  const layout = plotLayout({
    barmode: "stack",
    showlegend: true,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" },
    xaxis: { title: { text: "quality and rate" }, type: "category" },
    yaxis: { title: { text: share ? "share of the file, %" : "bytes" } },
  });
  Plotly.react("ledger-plot", traces, layout, { ...PLOT_CONFIG, displayModeBar: false });
}

function startLedger() {
  const having = report.codecs.filter((codec) => codec.points.some((point) => point.images.length));
  if (!having.length) {
    $("ledger").hidden = true;
    return;
  }
  // The codec with the most sections says the most.
  const sections = (codec) => Object.keys(codec.points[0].images[0]?.ledger ?? {}).length;
  const first = having.reduce((best, codec) => (sections(codec) > sections(best) ? codec : best));
  fill($("ledger-codec"), having.map((codec) => [codec.name, codec.name]), first.name);
  fill($("ledger-picture"), pictureEntries());
  for (const id of ["ledger-codec", "ledger-picture", "share"]) $(id).addEventListener("change", drawLedger);
}

// ---------------------------------------------------------------- pictures

const ORIGINAL = "original";
const MODES = { wipe: "Wipe", flicker: "Flicker", side: "Side by side", difference: "Difference" };
const FLICKER_MILLISECONDS = 700; // below three flashes a second
const view = {
  mode: "wipe",
  zoom: 1, // 1: the whole picture
  centre: [0, 0], // of what is seen, in pixels of the picture
  original: false, // shown in place of left and right
  map: false, // laid over the pictures
  flipped: false, // while flickering: right is seen
  rate: report.viewer.rate, // of the left file: the next picture shows its like
};

const viewed = () => report.viewer.pictures[$("view-picture").selectedIndex];
const filesOf = (codec) => viewed().files.filter((file) => file.codec === codec);

/** The chosen file of a side; null for the original. */
function chosen(side) {
  if ($(`${side}-codec`).value === ORIGINAL) return null;
  return filesOf($(`${side}-codec`).value)[$(`${side}-file`).selectedIndex] ?? null;
}

function fileText(file) {
  return `${file.label}: ${thousands(file.figures.bytes)} bytes, ${number(file.figures.bpp, 3)} bpp`;
}

/** Fills a side's files, and selects the k-th. */
function fillFiles(side, k) {
  const codec = $(`${side}-codec`).value, select = $(`${side}-file`);
  const files = codec === ORIGINAL ? [] : filesOf(codec);
  fill(select, files.map((file, k) => [String(k), fileText(file)]));
  select.hidden = codec === ORIGINAL;
  if (files.length) select.selectedIndex = Math.min(k, files.length - 1);
}

const unequal = (a, b) => Math.abs(Math.log(a.figures.bytes / b.figures.bytes));

/** Selects files for the chosen codecs: where they are to match, of all pairs that which is nearest to the rate and
    equal in bytes, as `_apart` in eval/report.py reckons it; else the nearest to the rate. */
function chooseFiles() {
  const [left, right] = ["left", "right"].map((side) => {
    const codec = $(`${side}-codec`).value;
    return codec === ORIGINAL ? [] : filesOf(codec);
  });
  const off = (file) => Math.abs(Math.log(file.figures.bpp / view.rate));
  const best = (entries, cost) => entries.reduce((a, b) => (cost(b) < cost(a) ? b : a));
  const nearest = (files) => files.length ? files.indexOf(best(files, off)) : 0;
  let pair = [nearest(left), nearest(right)];
  if ($("match").checked && left.length && right.length) {
    const pairs = left.flatMap((_, k) => right.map((_, m) => [k, m]));
    pair = best(pairs, ([k, m]) => off(left[k]) + 20 * Math.max(0, unequal(left[k], right[m]) - 0.03));
  }
  ["left", "right"].forEach((side, k) => fillFiles(side, pair[k]));
}

/** The right file nearest in bytes to the left one, where they are to match. */
function match() {
  const left = chosen("left");
  if (!$("match").checked || left === null || chosen("right") === null) return;
  const files = filesOf($("right-codec").value);
  $("right-file").selectedIndex = files.indexOf(files.reduce((a, b) => (unequal(b, left) < unequal(a, left) ? b : a)));
}

function choosePicture() {
  const picture = viewed();
  const codecs = [...new Set(picture.files.map((file) => file.codec))];
  codecs.sort();
  const entries = [[ORIGINAL, ORIGINAL], ...codecs.map((name) => [name, name])];
  const [left, right] = report.viewer.first.filter((name) => codecs.includes(name));
  fill($("left-codec"), entries, $("left-codec").value || left || ORIGINAL);
  fill($("right-codec"), entries, $("right-codec").value || right || left || ORIGINAL);
  chooseFiles();
  fit();
  drawStage();
}

function fit() {
  Object.assign(view, { zoom: 1, centre: [viewed().width / 2, viewed().height / 2] });
}

// Decoded once; a canvas has the picture's own pixels.
const loaded = new Map();
function load(source) {
  if (!loaded.has(source)) {
    const image = new Image();
    image.src = source;
    loaded.set(source, image.decode().then(() => image));
    if (loaded.size > 24) loaded.delete(loaded.keys().next().value);
  }
  return loaded.get(source);
}

async function pictureCanvas(canvas, source) {
  const image = await load(source);
  canvas.getContext("2d").drawImage(image, 0, 0);
}

async function pixels(source) {
  const image = await load(source);
  const canvas = element("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/** Mean absolute difference of the three channels times the gain: black, red, yellow, white. */
async function differenceCanvas(canvas, source, original) {
  const [a, b] = [await pixels(source), await pixels(original)];
  const gain = Number($("gain").value);
  for (let k = 0; k < a.data.length; k += 4) {
    const difference =
      Math.abs(a.data[k] - b.data[k]) + Math.abs(a.data[k + 1] - b.data[k + 1]) + Math.abs(a.data[k + 2] - b.data[k + 2]);
    const heat = difference * gain; // 765 is white
    a.data[k] = Math.min(255, heat);
    a.data[k + 1] = Math.min(255, heat - 255);
    a.data[k + 2] = Math.min(255, heat - 510);
  }
  canvas.getContext("2d").putImageData(a, 0, 0);
}

/** The map in red, the more the higher its values. */
async function mapCanvas(canvas, source) {
  const map = await pixels(source);
  let most = 1;
  for (let k = 0; k < map.data.length; k += 4) most = Math.max(most, map.data[k]);
  for (let k = 0; k < map.data.length; k += 4) {
    map.data.set([230, 0, 80, Math.round((140 * map.data[k]) / most)], k);
  }
  canvas.getContext("2d").putImageData(map, 0, 0);
}

let drawing = 0; // of several overlapping drawings the last one is shown

async function drawStage() {
  const run = ++drawing;
  const picture = viewed();
  const original = { text: ORIGINAL, source: picture.original };
  const sides = ["left", "right"].map((side) => {
    const file = chosen(side);
    return file === null ? original : { text: `${file.codec} ${file.label}`, source: file.source };
  });
  view.rate = (chosen("left") ?? chosen("right"))?.figures.bpp ?? view.rate;
  const canvas = () => element("canvas", { width: picture.width, height: picture.height });
  const jobs = [];
  const layer = (entry) => {
    const made = canvas();
    jobs.push(pictureCanvas(made, entry.source));
    return element("div", { className: "layer" }, made);
  };
  const tag = (text, right = false) => element("span", { className: right ? "tag right" : "tag" }, text);
  const panes = [];
  if (view.original && view.mode !== "side" && view.mode !== "difference") {
    panes.push(element("div", { className: "pane" }, layer(original), tag(ORIGINAL)));
  } else if (view.mode === "wipe") {
    const [left, right] = [layer(sides[0]), layer(sides[1])];
    left.id = "wiped";
    const edge = element("div", { className: "edge", id: "edge" });
    panes.push(element("div", { className: "pane" }, right, left, tag(sides[0].text), tag(sides[1].text, true), edge));
  } else if (view.mode === "flicker") {
    const [left, right] = [layer(sides[0]), layer(sides[1])];
    left.append(tag(sides[0].text));
    right.append(tag(sides[1].text, true));
    right.id = "flipped";
    panes.push(element("div", { className: "pane" }, left, right));
  } else if (view.mode === "side") {
    const shownOnce = [original, ...sides].filter((entry, k, all) => all.findIndex((e) => e.source === entry.source) === k);
    panes.push(...shownOnce.map((entry) => element("div", { className: "pane" }, layer(entry), tag(entry.text))));
  } else {
    const others = sides.filter((entry) => entry !== original);
    for (const entry of others.length ? others : [original]) {
      const made = canvas();
      jobs.push(differenceCanvas(made, entry.source, picture.original));
      const text = tag(`${entry.text} to the original`);
      panes.push(element("div", { className: "pane" }, element("div", { className: "layer" }, made), text));
    }
  }
  for (const pane of view.map && picture.map ? panes : []) {
    const made = canvas();
    jobs.push(mapCanvas(made, picture.map));
    pane.append(element("div", { className: "layer map" }, made));
  }
  await Promise.all(jobs);
  if (run !== drawing) return;
  const stage = $("stage");
  stage.className = panes.length === 1 ? "one" : "three";
  stage.style.setProperty("--ratio", picture.width / picture.height);
  for (const pane of panes) pane.style.aspectRatio = `${picture.width} / ${picture.height}`;
  stage.replaceChildren(...panes);
  drawControls();
  place();
  drawFacts();
}

function drawControls() {
  for (const button of $("modes").children) {
    button.setAttribute("aria-checked", button.value === view.mode);
    button.tabIndex = button.value === view.mode ? 0 : -1;
  }
  const covers = view.mode === "wipe" || view.mode === "flicker";
  $("show-original").hidden = !covers;
  $("show-original").setAttribute("aria-pressed", view.original);
  $("show-map").hidden = viewed().map === null;
  $("show-map").setAttribute("aria-pressed", view.map);
  $("wipe-control").hidden = view.mode !== "wipe";
  $("flicker-control").hidden = view.mode !== "flicker";
  $("gain-control").hidden = view.mode !== "difference";
  $("gain-value").textContent = `${$("gain").value}×`;
}

/** Zoom, wipe and flip, which need no new pixels; all panes show the same part. */
function place() {
  const picture = viewed();
  const half = [picture.width / 2 / view.zoom, picture.height / 2 / view.zoom];
  view.centre = view.centre.map((c, k) => {
    const length = k ? picture.height : picture.width;
    return Math.min(Math.max(c, half[k]), length - half[k]);
  });
  for (const canvas of document.querySelectorAll("#stage canvas")) {
    const scale = paneScale() * view.zoom;
    const [x, y] = [view.centre[0] - half[0], view.centre[1] - half[1]];
    canvas.style.transform = `scale(${scale}) translate(${-x}px, ${-y}px)`;
    canvas.style.imageRendering = scale * devicePixelRatio >= 2 ? "pixelated" : "auto";
  }
  const wipe = $("wipe").value;
  if ($("wiped")) {
    $("wiped").style.clipPath = `inset(0 ${100 - wipe}% 0 0)`;
    $("edge").style.left = `${wipe}%`;
  }
  if ($("flipped")) $("flipped").style.visibility = view.flipped ? "visible" : "hidden";
  $("stage").classList.toggle("zoomed", view.zoom > 1);
  $("zoom").textContent = view.zoom === 1 ? "fit" : `${Number(view.zoom.toFixed(1))}×`;
}

/** Pixels of the page a pixel of the picture takes in a pane when the whole picture is seen. */
function paneScale() {
  const pane = document.querySelector("#stage .pane");
  return pane ? pane.clientWidth / viewed().width : 1;
}

const MATCHED_PERCENT = 10; // a difference in bytes beyond which two files are not called matched

function tellBytes() {
  const [left, right] = [chosen("left"), chosen("right")];
  $("matched").textContent = "";
  if (left === null || right === null) return;
  const percent = 100 * (right.figures.bytes / left.figures.bytes - 1);
  const matched = Math.abs(percent) <= MATCHED_PERCENT;
  const more = `${number(Math.abs(percent), 1)} % ${percent < 0 ? "fewer" : "more"} bytes`;
  $("matched").textContent = `${matched ? "" : "not matched: "}right has ${more}`;
  $("matched").className = matched ? "" : "worse";
}

function drawFacts() {
  tellBytes();
  const picture = viewed();
  const rows = ["left", "right"].map((side) => [side, chosen(side)]).filter(([, file]) => file !== null);
  const measures = report.measures.filter((m) => rows.some(([, file]) => (file.figures[m.key] ?? null) !== null));
  const columns = [
    { title: "", cell: ([side, file]) => `${side}: ${file.codec}` },
    { title: "quality", cell: ([, file]) => file.label },
    { title: "bytes", cell: ([, file]) => thousands(file.figures.bytes) },
    { title: "bpp", cell: ([, file]) => number(file.figures.bpp, 4) },
    ...measures.map((m) => ({
      title: [m.label, m.unit].filter(Boolean).join(", "),
      cell: ([, file]) => number(file.figures[m.key], m.digits),
    })),
  ];
  drawTable($("view-facts"), columns, rows);
  if (!picture.whole) $("view-facts").append(element("caption", { className: "note" }, "Figures are of the whole picture."));
}

function zoomBy(factor) {
  view.zoom = Math.min(16, Math.max(1, view.zoom * factor));
  if (view.zoom < 1.05) view.zoom = 1;
  place();
}

/** Moves what is seen by pixels of the page. */
function pan(x, y) {
  const scale = paneScale() * view.zoom;
  view.centre = [view.centre[0] - x / scale, view.centre[1] - y / scale];
  place();
}

function wipeTo(value) {
  $("wipe").value = value;
  place();
}

function setMode(mode) {
  Object.assign(view, { mode, original: false, flipped: false });
  drawStage();
}

function flip() {
  view.flipped = !view.flipped;
  place();
}

function toggleOriginal() {
  view.original = !view.original;
  drawStage();
}

function toggleMap() {
  view.map = !view.map;
  drawStage();
}

function step(by) {
  const select = $("view-picture");
  select.selectedIndex = (select.selectedIndex + by + select.length) % select.length;
  choosePicture();
}

const KEYS = {
  w: () => setMode("wipe"),
  f: () => setMode("flicker"),
  s: () => setMode("side"),
  d: () => setMode("difference"),
  o: toggleOriginal,
  m: toggleMap,
  n: () => step(1),
  p: () => step(-1),
  "+": () => zoomBy(1.5),
  "=": () => zoomBy(1.5),
  "-": () => zoomBy(1 / 1.5),
  "0": () => { fit(); place(); },
  " ": () => { $("flicker").checked = false; flip(); },
  ArrowLeft: (event) => (event.shiftKey ? pan(60, 0) : wipeTo(Number($("wipe").value) - 2)),
  ArrowRight: (event) => (event.shiftKey ? pan(-60, 0) : wipeTo(Number($("wipe").value) + 2)),
  ArrowUp: (event) => event.shiftKey && pan(0, 60),
  ArrowDown: (event) => event.shiftKey && pan(0, -60),
};

function listenToStage() {
  const stage = $("stage");
  stage.addEventListener("keydown", (event) => {
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const scrolls = /^Arrow(Up|Down)$/.test(event.key) && !event.shiftKey;
    if (!act || scrolls || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act(event);
  });
  stage.addEventListener("wheel", (event) => {
    // Without the focus the wheel scrolls the page, as elsewhere.
    if (document.activeElement !== stage && !event.ctrlKey) return;
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2);
  }, { passive: false });
  const fingers = new Map();
  let wiping = false;
  stage.addEventListener("pointerdown", (event) => {
    wiping = event.target.id === "edge";
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    event.target.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    if (wiping) {
      const box = $("edge").parentElement.getBoundingClientRect();
      wipeTo((100 * (event.clientX - box.left)) / box.width);
    } else if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      zoomBy(apart([event.clientX, event.clientY]) / Math.max(apart(before), 1));
    } else {
      pan(event.clientX - before[0], event.clientY - before[1]);
    }
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  new ResizeObserver(place).observe(stage);
}

function startViewer() {
  const viewer = report.viewer;
  $("view-notes").replaceChildren(...viewer.notes.map((note) => element("p", {}, note)));
  if (!viewer.pictures.length) {
    $("view-body").hidden = true;
    if (!viewer.notes.length) $("viewer").hidden = true;
    return;
  }
  fill($("view-picture"), viewer.pictures.map((picture) => [picture.name, picture.name]));
  for (const [mode, title] of Object.entries(MODES)) {
    const button = element("button", { type: "button", role: "radio", value: mode }, title);
    button.addEventListener("click", () => setMode(mode));
    $("modes").append(button);
  }
  $("modes").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const buttons = [...$("modes").children];
    const next = buttons[(buttons.findIndex((b) => b.value === view.mode) + by + buttons.length) % buttons.length];
    setMode(next.value);
    next.focus();
  });
  $("view-picture").addEventListener("change", choosePicture);
  for (const id of ["left-codec", "right-codec", "match"]) {
    $(id).addEventListener("change", () => { chooseFiles(); drawStage(); });
  }
  $("left-file").addEventListener("change", () => { match(); drawStage(); });
  $("right-file").addEventListener("change", () => { $("match").checked = false; drawStage(); });
  $("show-original").addEventListener("click", toggleOriginal);
  $("show-map").addEventListener("click", toggleMap);
  $("zoom-in").addEventListener("click", () => zoomBy(1.5));
  $("zoom-out").addEventListener("click", () => zoomBy(1 / 1.5));
  $("zoom-fit").addEventListener("click", KEYS["0"]);
  $("wipe").addEventListener("input", place);
  $("gain").addEventListener("input", drawStage);
  $("flicker").checked = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  setInterval(() => view.mode === "flicker" && !view.original && $("flicker").checked && flip(), FLICKER_MILLISECONDS);
  listenToStage();
  choosePicture();
}

// ---------------------------------------------------------------- start

function drawPlots() {
  for (const swatch of document.querySelectorAll(".swatch")) swatch.style.borderColor = shade(swatch.dataset.colour);
  drawCurves();
  if (!$("ledger").hidden) drawLedger();
}

document.title = `genic: rate and distortion on ${report.data}`;
$("title").textContent = `Rate and distortion on ${report.data}`;
$("summary").textContent = [
  `${report.codecs.length} codecs measured` + (pictureNames.length ? ` on ${pictureNames.length} pictures` : ""),
  report.published.length ? `${report.published.length} published curves` : "",
].filter(Boolean).join(", ") + ".";
startCurves();
startComparisons();
startFigures();
startLedger();
drawOrigin();
startViewer();
drawPlots();
darkScheme.addEventListener("change", drawPlots);
