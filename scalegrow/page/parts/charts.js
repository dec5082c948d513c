// Three charts in SVG, redrawn whole: lines that differ in dash as well as colour, a map that is read in grey.

const RAMP = ["#fee838", "#d2c257", "#b3a768", "#948e77", "#7d7c78", "#666970", "#4f576c", "#35456c", "#1b3769", "#00224e"]; // cividis, dark where growing wins as in scalegrow plot map
const MAP_COLUMNS = 36, MAP_ROWS = 28, CURVE_POINTS = 41, BAND_POINTS = 17, SLICE_MS = 56, REST_MS = 500, BREATH_MS = 20;

/** Round numbers 1, 2, 5 x 10^k in a range; fewer of them where there is little room. */
function logTicks(low, high, most) {
  const steps = [[1, 2, 5], [1, 3], [1]], decades = [];
  for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k++) decades.push(k);
  const sets = steps.map((step) => decades.flatMap((k) => step.map((s) => s * 10 ** k)).filter((t) => t >= low && t <= high * 1.0001));
  return sets.find((ticks) => ticks.length <= most) ?? sets[2];
}

/** Round numbers of a linear range. */
function evenTicks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((s) => s * power >= rough) * power, ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** Scales and axes of a chart as wide as its place: {X, Y, axes, ...} with x on a log axis. */
function frame(svg, height, x, y, { xLabel, yLabel, logY = false }) {
  const width = Math.max(svg.clientWidth, 240), box = { left: 52, right: width - 12, top: 24, bottom: height - 40 };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  const share = ([low, high], v, log) => (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low));
  const X = (v) => box.left + share(x, v, true) * (box.right - box.left);
  const Y = (v) => box.bottom - share(y, v, logY) * (box.bottom - box.top);
  const xs = logTicks(...x, width / 60).map((t) => `<path d="M${X(t)} ${box.bottom}V${box.top}" stroke="var(--grid)"/><text class="faint" x="${X(t)}" y="${box.bottom + 16}" text-anchor="middle">${t}</text>`);
  const ys = (logY ? logTicks(...y, height / 28) : evenTicks(...y, height / 45)).map((t) => `<path d="M${box.left} ${Y(t)}H${box.right}" stroke="var(--grid)"/><text class="faint" x="${box.left - 7}" y="${Y(t) + 4}" text-anchor="end">${t}</text>`);
  const names = `<text x="${(box.left + box.right) / 2}" y="${height - 5}" text-anchor="middle">${xLabel}</text><text x="${2}" y="13">${yLabel}</text>`;
  return { ...box, width, X, Y, axes: xs.join("") + ys.join("") + names };
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
const band = (xs, lows, highs, colour) => `<path d="${path([...xs.map((x, i) => [x, lows[i]]), ...xs.map((x, i) => [x, highs[i]]).reverse()])}Z" fill="${colour}" fill-opacity="0.18"/>`;
const line = (points, colour, dash = "", width = 2.4) => `<path d="${path(points)}" fill="none" stroke="${colour}" stroke-width="${width}" stroke-dasharray="${dash}"/>`;

/** Forecasts of both arms and of their difference, at budgets of a range of tokens per parameter. */
function curves(fit, q, level, [low, high]) {
  return Array.from(linspace(Math.log(low), Math.log(high), CURVE_POINTS), (x) => {
    const tpp = Math.exp(x), asked = { ...q, D: q.N * tpp }, scratch = forecastLoss(fit, scratchPoint(q.N, asked.D), level);
    if (tokensGrown(asked) <= 0) return { tpp, scratch };
    const { values } = logRatio(fit, grownPoint(asked), scratchPoint(asked.N, asked.D));
    const nats = (ratio) => scratch.value * Math.expm1(ratio);
    const difference = { value: nats(values[0]), interval: interval(values.subarray(1), level).map(nats) };
    return { tpp, scratch, grown: forecastLoss(fit, grownPoint(asked), level), difference };
  });
}

/** One arm or the difference over the budget: its line, the mean's band, and one new run's edges. */
function arm(found, name, colour, dash, { X, Y }) {
  const known = found.filter((point) => point[name]), xs = known.map(({ tpp }) => X(tpp));
  const ys = (of) => known.map((point) => Y(of(point[name])));
  if (!known.length) return "";
  const edges = known[0][name].newRun ? [0, 1].map((i) => line(xs.map((x, k) => [x, ys((e) => e.newRun[i])[k]]), colour, "1 4", 1.2)).join("") : "";
  return band(xs, ys((e) => e.interval[0]), ys((e) => e.interval[1]), colour) + edges + line(xs.map((x, k) => [x, ys((e) => e.value)[k]]), colour, dash);
}

const INSIDE = 0.03; // of a chart's height, free above and below what is drawn

function padded(values) {
  const low = Math.min(...values), high = Math.max(...values), room = Math.max(INSIDE * (high - low), 1e-6);
  return [low - room, high + room];
}

function drawLoss(svg, found, d, tpp) {
  const all = found.flatMap(({ scratch, grown }) => [...scratch.newRun, ...(grown ? grown.newRun : [])]);
  const range = [found[0].tpp, found[found.length - 1].tpp];
  const f = frame(svg, 250, range, padded(all), { xLabel: "", yLabel: "loss, nats per token" });
  const keys = `<g transform="translate(${f.right - 176} ${f.top + 8})">${line([[0, 0], [34, 0]], "var(--grown)")}<text class="halo" x="42" y="4">grown</text>${line([[90, 0], [124, 0]], "var(--scratch)", "7 4")}<text class="halo" x="130" y="4">scratch</text></g>`;
  svg.innerHTML = f.axes + arm(found, "scratch", "var(--scratch)", "7 4", f) + arm(found, "grown", "var(--grown)", "", f) + here(f, range, tpp) + keys;
  svg.setAttribute("aria-label", `Loss against budget. At ${general(tpp, 3)} tokens per parameter: grown ${nats(d.lossGrown.value)}, from scratch ${nats(d.lossScratch.value)} nats per token.`);
}

function drawDifference(svg, fit, found, d, tpp) {
  const all = found.flatMap(({ difference }) => (difference ? difference.interval : []));
  const range = [found[0].tpp, found[found.length - 1].tpp];
  const f = frame(svg, 190, range, padded([0, ...all]), { xLabel: "budget, tokens per parameter of the target", yLabel: "grown \u2212 scratch, nats" });
  const zero = line([[f.left, f.Y(0)], [f.right, f.Y(0)]], "var(--ink)", "", 1);
  const [, low, high] = fit.domain.find(([name]) => name === "tpp") ?? ["tpp", ...range];
  const runs = `<path d="M${f.X(Math.max(low, range[0]))} ${f.bottom}H${f.X(Math.min(high, range[1]))}" stroke="var(--ink)" stroke-width="5"/>`;
  svg.innerHTML = f.axes + zero + arm(found, "difference", "var(--grown)", "", f) + here(f, range, tpp) + runs + `<text class="halo faint" x="${f.left + 6}" y="${f.bottom - 6}">below 0 growing wins</text>`;
  svg.setAttribute("aria-label", `Difference grown minus scratch against budget: ${signed(d.difference.value)} nats at ${general(tpp, 3)} tokens per parameter; break-even ${budgetText(d.breakEvenBudget.value)}.`);
}

/** The budget that is asked about. */
const here = (f, [low, high], tpp) => (tpp < low || tpp > high ? "" : `<path d="M${f.X(tpp)} ${f.top}V${f.bottom}" stroke="var(--ink)" stroke-width="1.2" stroke-dasharray="3 3"/>`);

/** The question at another factor and budget, of the same base. */
function elsewhere(q, g, tpp) {
  const N = (q.N / q.g) * g;
  return { ...q, N, g, D: tpp * N };
}

/** Tokens per parameter at which the law's two arms meet, for a growth factor; 0 or infinite where they do not. */
function lawBreakEven(fit, q, g) {
  const x = budgetScan(), asked = elsewhere(q, g, 1);
  const ratios = Array.from(x, (logTpp) => {
    const at = { ...asked, D: asked.N * Math.exp(logTpp) };
    return tokensGrown(at) > 0 ? fit.law.logLoss(grownPoint(at))[0] - fit.law.logLoss(scratchPoint(at.N, at.D))[0] : Infinity;
  });
  return Math.exp(crossingOf(ratios, x, -Infinity, Infinity));
}

const clamp = (x, [low, high]) => Math.min(Math.max(x, low), high);
const cellCentre = ([low, high], i, n) => low * (high / low) ** ((i + 0.5) / n);

/** The map's frame, line and point at once; its cells in slices, so that the sliders stay free. */
function drawMap(svg, fit, d, tpp, ranges, chances, limits) {
  const f = frame(svg, Math.min(Math.max(svg.clientWidth * 0.82, 300), 440), ranges.g, ranges.tpp, { xLabel: "growth factor (target / base)", yLabel: "tokens per parameter of the target", logY: true });
  const w = (f.right - f.left) / MAP_COLUMNS, h = (f.bottom - f.top) / MAP_ROWS;
  const cells = chances.map((chance, k) => cellOf(chance, f.left + (k % MAP_COLUMNS) * w, f.bottom - (Math.floor(k / MAP_COLUMNS) + 1) * h, w, h));
  svg.innerHTML = `<defs>${hatch("outside", 45)}${hatch("far", -45)}` +
    `<clipPath id="inside"><rect x="${f.left}" y="${f.top}" width="${f.right - f.left}" height="${f.bottom - f.top}"/></clipPath></defs>` +
    f.axes + cells.join("") + fittedBox(f, fit, ranges) + breakEvenBand(f, limits) + breakEvenLine(f, fit, d.question, ranges) + marker(f, d, tpp, ranges);
  svg.setAttribute("aria-label", `Probability that growing wins, over growth factor and tokens per parameter. At the point asked, ${general(d.question.g, 3)} and ${general(tpp, 3)}: ${fixed(d.wins.value, 2)}.`);
  return f;
}

const hatch = (name, turn) => `<pattern id="${name}" width="9" height="9" patternUnits="userSpaceOnUse" patternTransform="rotate(${turn})">` +
  `<path d="M0 0V9" stroke="#000" stroke-width="2" stroke-opacity="0.5"/><path d="M1 0V9" stroke="#fff" stroke-width="1.2" stroke-opacity="0.7"/></pattern>`;

function cellOf(chance, x, y, w, h) {
  if (!chance) return "";
  const rect = (fill) => `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${(w + 0.6).toFixed(1)}" height="${(h + 0.6).toFixed(1)}" fill="${fill}"/>`;
  if (Number.isNaN(chance.wins)) return rect("var(--card)");
  return rect(RAMP[Math.min(Math.floor(chance.wins * 10), 9)]) + (chance.outside ? rect("url(#outside)") : "") + (chance.far ? rect("url(#far)") : "");
}

/** The growth factors and budgets that the fit has seen. */
function fittedBox(f, fit, ranges) {
  const [g, tpp] = ["g", "tpp"].map((name) => fit.domain.find(([variable]) => variable === name)?.slice(1));
  if (!g || !tpp) return "";
  const [x0, x1] = g.map((v) => f.X(clamp(v, ranges.g))), [y1, y0] = tpp.map((v) => f.Y(clamp(v, ranges.tpp)));
  const rect = (stroke, width, dash) => `<rect x="${x0}" y="${y0}" width="${x1 - x0}" height="${y1 - y0}" fill="none" stroke="${stroke}" stroke-width="${width}" stroke-dasharray="${dash}"/>`;
  return rect("#000", 3, "") + rect("#fff", 1.5, "5 4") + label(x1 - 4, y0 - 6, "fitted runs", "end");
}

const label = (x, y, words, anchor) => `<text x="${x}" y="${y}" text-anchor="${anchor}" style="fill:#fff;stroke:#000;stroke-width:3px;paint-order:stroke">${words}</text>`;

function breakEvenLine(f, fit, q, ranges) {
  const points = Array.from(linspace(Math.log(ranges.g[0]), Math.log(ranges.g[1]), 61), (x) => [Math.exp(x), lawBreakEven(fit, q, Math.exp(x))])
    .filter(([, tpp]) => tpp > 0 && tpp < Infinity).map(([g, tpp]) => [f.X(g), f.Y(tpp)]);
  if (points.length < 2) return "";
  const shown = points.filter(([, y]) => y > f.top + 14 && y < f.bottom - 4), [x, y] = shown[Math.floor(shown.length * 0.85)] ?? [0, -99];
  return `<g clip-path="url(#inside)">${line(points, "#000", "", 5)}${line(points, "#fff", "", 2.5)}${label(x + 6, y - 6, "break-even", "start")}</g>`;
}

/** The ends of the line's interval, once all are known. */
function breakEvenBand(f, limits) {
  if (limits.length < BAND_POINTS) return "";
  const ends = [0, 1].map((i) => limits.map(({ g, interval }) => [g, interval[i]]).filter(([, tpp]) => tpp > 0 && tpp < Infinity).map(([g, tpp]) => [f.X(g), f.Y(tpp)]));
  const drawn = ends.filter((points) => points.length > 1).map((points) => line(points, "#000", "", 3.4) + line(points, "#fff", "6 4", 1.6));
  return `<g clip-path="url(#inside)">${drawn.join("")}</g>`;
}

/** The question as a diamond, and the interval of its break-even budget as a whisker. */
function marker(f, d, tpp, ranges) {
  const x = f.X(clamp(d.question.g, ranges.g)), y = f.Y(clamp(tpp, ranges.tpp));
  const [low, high] = d.breakEvenBudget.interval.map((v) => f.Y(clamp(v, ranges.tpp)));
  const whisker = `M${x} ${low}V${high}M${x - 5} ${low}h10M${x - 5} ${high}h10`;
  const stroke = (colour, width) => `<path d="${whisker}" stroke="${colour}" stroke-width="${width}" fill="none"/>`;
  return stroke("#000", 3) + stroke("#fff", 1) + `<path d="M${x} ${y - 9}l9 9l-9 9l-9 -9Z" fill="#fff" stroke="#000" stroke-width="2"/>`;
}

/** The growth factor and budget amid cell k of the map. */
function placeOf(k, ranges) {
  return { g: cellCentre(ranges.g, k % MAP_COLUMNS, MAP_COLUMNS), tpp: cellCentre(ranges.tpp, Math.floor(k / MAP_COLUMNS), MAP_ROWS) };
}

/** The interval of the break-even budget at one factor of BAND_POINTS, in tokens per parameter. */
function limitAt(fit, q, k, ranges, level) {
  const g = ranges.g[0] * (ranges.g[1] / ranges.g[0]) ** (k / (BAND_POINTS - 1));
  return { g, interval: breakEvenBudget(fit, elsewhere(q, g, q.D / q.N), level).interval };
}

/** The chance of a cell of the map, and whether it lies outside the runs or too far out to advise on; NaN where the base eats the budget. */
function chanceAt(fit, q, k, ranges) {
  const { g, tpp } = placeOf(k, ranges), asked = elsewhere(q, g, tpp);
  if (tokensGrown(asked) <= 0) return { wins: NaN, outside: true, far: true };
  const ratios = extrapolation(fit, grownPoint(asked));
  return { wins: chanceOfWinning(fit, asked), outside: distanceOf(ratios) > 0, far: farthest(ratios) > CONSTANTS.too_far };
}
