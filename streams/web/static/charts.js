// Small charts in SVG, drawn from plain numbers. They know nothing about the router.

const SVG = "http://www.w3.org/2000/svg";

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (key === "class") node.className = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function nothing(text) {
  return el("p", { class: "nothing" }, text);
}

export function replace(id, ...nodes) {
  document.getElementById(id).replaceChildren(...nodes);
}

// Width of a chart in an element, so that its text has the size of the page's.
export const widthOf = (id) => Math.max(280, Math.min(1200, document.getElementById(id).clientWidth || 560));

const round = (x) => Math.round(x * 100) / 100;

// A point without a neighbour is drawn as a line of length zero, which round ends turn into a dot.
function path(points) {
  const known = ([, y]) => y !== null && Number.isFinite(y);
  return points.map(([x, y], i) => {
    if (!known([x, y])) return "";
    const before = i > 0 && known(points[i - 1]), after = i + 1 < points.length && known(points[i + 1]);
    return `${before ? "L" : "M"}${round(x)} ${round(y)}${before || after ? "" : "l0 0"}`;
  }).join("");
}

export function ticks(low, high, about = 4) {
  const span = high - low || 1;
  const raw = span / about, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => span / s <= about) ?? 10 * power;
  const found = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-6; t += step) found.push(Math.abs(t) < step * 1e-9 ? 0 : t);
  return found;
}

// Powers of ten with 2 and 5 between them, as [logarithm, value].
export function logTicks(low, high, about = 5) {
  for (const mantissas of [[1, 2, 5], [1, 3], [1]]) {
    const found = [];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const m of mantissas) {
        const at = power + Math.log10(m);
        if (at >= low - 1e-9 && at <= high + 1e-9) found.push([at, m * 10 ** power]);
      }
    }
    if (found.length <= about || mantissas.length === 1) return found;
  }
}

// A frame with axes; returns its scales.
function frame({ label, width = 560, height = 220, left = 46, right = 12, top = 10, bottom = 24, x, y, xTicks, yTicks }) {
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, svg("title", {}, label));
  const px = (v) => left + ((v - x[0]) / (x[1] - x[0] || 1)) * (width - left - right);
  const py = (v) => height - bottom - ((v - y[0]) / (y[1] - y[0] || 1)) * (height - top - bottom);
  for (const [value, text] of yTicks) {
    root.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: round(py(value)), y2: round(py(value)) }));
    root.append(svg("text", { x: left - 7, y: round(py(value)) + 4, "text-anchor": "end" }, text));
  }
  for (const [value, text] of xTicks) {
    const anchor = px(value) > width - right - 20 ? "end" : px(value) < left + 12 ? "start" : "middle";
    root.append(svg("text", { x: round(px(value)), y: height - 6, "text-anchor": anchor }, text));
  }
  return { root, px, py, left, right: width - right, bottom: height - bottom, top };
}

// lines: [{points: [[x, y]], color, width, dash, fill, name, step}]
// below: values under this one have a marked background
export function lineChart({ lines, below = null, ...rest }) {
  const f = frame(rest);
  if (below !== null) {
    f.root.append(svg("rect", { class: "below", x: f.left, y: round(f.py(below)), width: f.right - f.left, height: Math.max(0, round(f.bottom - f.py(below))) }));
    f.root.append(svg("line", { class: "limit", x1: f.left, x2: f.right, y1: round(f.py(below)), y2: round(f.py(below)) }));
  }
  for (const line of lines) {
    let points = line.points.map(([x, y]) => [f.px(x), y === null ? null : f.py(y)]);
    if (line.step) points = points.flatMap(([x, y], i) => (i ? [[x, points[i - 1][1]], [x, y]] : [[x, y]]));
    if (line.fill && points.length > 1) {
      const solid = points.filter(([, y]) => y !== null);
      if (solid.length > 1) {
        const d = `${path(solid)}L${round(solid.at(-1)[0])} ${f.bottom}L${round(solid[0][0])} ${f.bottom}Z`;
        f.root.append(svg("path", { d, fill: line.color, opacity: 0.13 }));
      }
    }
    const drawn = svg("path", {
      d: path(points), fill: "none", stroke: line.color, "stroke-width": line.width ?? 1.8,
      "stroke-dasharray": line.dash, "stroke-linejoin": "round", "stroke-linecap": line.dash ? null : "round", opacity: line.opacity,
    });
    if (line.name) drawn.append(svg("title", {}, line.name));
    f.root.append(drawn);
    const last = line.points.at(-1);
    if (line.dot && last && last[1] !== null) f.root.append(svg("circle", { cx: round(f.px(last[0])), cy: round(f.py(last[1])), r: 3.6, fill: line.color }));
    if (line.note && last && last[1] !== null) {
      const late = f.px(last[0]) > f.right - 90;
      f.root.append(svg("text", { class: "value", x: round(f.px(last[0])) + (late ? -8 : 8), y: round(f.py(last[1])) + (late ? -8 : 4), "text-anchor": late ? "end" : "start" }, line.note));
    }
  }
  return f.root;
}

const NARROWEST = 2;

// spans: [[from, to]]; layers: [{name, color, values: [share]}], one value for each span, null without queries. Shares
// of a span add up to 1. Each span is as wide as its duration, but never too narrow to be visible.
export function shareChart({ spans, layers, ...rest }) {
  const f = frame(rest);
  const edges = spans.map(([from, to]) => {
    const a = f.px(from), b = f.px(to), more = Math.max(0, NARROWEST - (b - a)) / 2;
    return [Math.max(f.left, a - more), Math.min(f.right, b + more)];
  });
  const base = spans.map(() => 0);
  for (const layer of layers) {
    let d = "";
    edges.forEach(([a, b], i) => {
      const value = layer.values[i];
      if (value === null || value <= 0) return;
      const low = f.py(base[i]), high = f.py(base[i] + value);
      d += `M${round(a)} ${round(low)}V${round(high)}H${round(b)}V${round(low)}Z`;
      base[i] += value;
    });
    if (!d) continue;
    const area = svg("path", { d, fill: layer.color });
    area.append(svg("title", {}, layer.name));
    f.root.append(area);
  }
  return f.root;
}

// rows: [{name, p50, p95, p99}] in seconds, on a logarithmic scale
export function rangeChart({ rows, label, format, width = 560 }) {
  const all = rows.flatMap((row) => [row.p50, row.p99]).filter((v) => v > 0);
  const low = 10 ** Math.floor(Math.log10(Math.min(...all))), high = 10 ** Math.ceil(Math.log10(Math.max(...all) * 1.0001));
  const left = 86, right = width < 420 ? 142 : 178, step = 30, height = rows.length * step + 26;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, svg("title", {}, label));
  const px = (v) => left + (Math.log10(Math.max(v, low) / low) / Math.log10(high / low)) * (width - left - right);
  const decades = Math.round(Math.log10(high / low)), every = width < 420 ? Math.ceil(decades / 3) : 1;
  for (let d = 0; d <= decades; d += every) {
    const t = low * 10 ** d;
    root.append(svg("line", { class: "grid", x1: round(px(t)), x2: round(px(t)), y1: 2, y2: height - 22 }));
    root.append(svg("text", { x: round(px(t)), y: height - 6, "text-anchor": "middle" }, format(t)));
  }
  rows.forEach((row, i) => {
    const y = i * step + 15;
    root.append(svg("text", { class: "value", x: left - 12, y: y + 4, "text-anchor": "end" }, row.name));
    root.append(svg("line", { x1: round(px(row.p50)), x2: round(px(row.p99)), y1: y, y2: y, stroke: "var(--reserved)", "stroke-width": 7, "stroke-linecap": "round" }));
    root.append(svg("circle", { cx: round(px(row.p50)), cy: y, r: 5, fill: "var(--settled)" }));
    root.append(svg("line", { x1: round(px(row.p95)), x2: round(px(row.p95)), y1: y - 7, y2: y + 7, stroke: "var(--ink)", "stroke-width": 1.5 }));
    root.append(svg("text", { class: "value", x: width, y: y + 4, "text-anchor": "end" }, `${format(row.p50)}  ·  ${format(row.p95)}  ·  ${format(row.p99)}`));
  });
  root.append(svg("text", { x: width, y: height - 6, "text-anchor": "end" }, "p50 · p95 · p99"));
  return root;
}

// rows: [{name, from, to, note}] on one scale
export function dumbbellChart({ rows, label, format, width = 560 }) {
  const all = rows.flatMap((row) => [row.from, row.to]);
  const low = Math.max(0, Math.floor((Math.min(...all) - 0.03) * 10) / 10), high = Math.min(1, Math.ceil((Math.max(...all) + 0.03) * 10) / 10);
  const left = width < 420 ? 140 : 200, right = width < 420 ? 84 : 100, step = 24, height = rows.length * step + 24;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, svg("title", {}, label));
  const px = (v) => left + ((v - low) / (high - low || 1)) * (width - left - right);
  for (const t of ticks(low, high, 5)) {
    root.append(svg("line", { class: "grid", x1: round(px(t)), x2: round(px(t)), y1: 2, y2: height - 20 }));
    root.append(svg("text", { x: round(px(t)), y: height - 5, "text-anchor": "middle" }, format(t)));
  }
  rows.forEach((row, i) => {
    const y = i * step + 12;
    root.append(svg("text", { class: "value", x: left - 12, y: y + 4, "text-anchor": "end" }, row.name));
    root.append(svg("line", { x1: round(px(row.from)), x2: round(px(row.to)), y1: y, y2: y, stroke: "var(--reserved)", "stroke-width": 2 }));
    root.append(svg("circle", { cx: round(px(row.from)), cy: y, r: 4.2, fill: "var(--card)", stroke: "var(--accent)", "stroke-width": 1.8 }));
    root.append(svg("circle", { cx: round(px(row.to)), cy: y, r: 4.6, fill: "var(--accent)" }));
    root.append(svg("text", { x: width, y: y + 4, "text-anchor": "end" }, row.note));
  });
  return root;
}

// parts: [{share, color}] of a bar from 0 to 1; larger values are cut off and marked
export function meter({ parts, label, mark }) {
  const width = 240, height = 14;
  const root = svg("svg", { class: "meter", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, svg("title", {}, label));
  root.append(svg("rect", { x: 0, y: 2, width, height: 10, rx: 3, fill: "var(--faint)" }));
  let at = 0;
  for (const part of parts) {
    const size = Math.max(0, Math.min(part.share, 1 - at));
    if (size > 0.0005) root.append(svg("rect", { x: round(at * width), y: 2, width: round(size * width), height: 10, fill: part.color }));
    at += size;
  }
  if (mark !== null && mark !== undefined) {
    const x = round(Math.min(1, Math.max(0, mark)) * width);
    root.append(svg("line", { x1: x, x2: x, y1: 0, y2: height, stroke: "var(--ink)", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" }));
  }
  return root;
}
