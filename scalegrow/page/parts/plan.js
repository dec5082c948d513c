// The page itself: controls to a question, a question to an answer, an answer to the screen.

const fit = fitted(DATA.fit);
fit.law = fitted({ ...DATA.fit, draws: DATA.fit.draws.map(() => []) }); // the law alone, without its draws
const LEVEL = DATA.level, STEPS = 400, REACH = 20, CURVES_REACH = 3, FARTHEST = 1e6;
const by = (id) => document.getElementById(id);

/** A fitted range of a variable, so many times wider on both sides, inside hard limits. */
function reach(name, times, [least, most], around = 1) {
  const [, low, high] = fit.domain.find(([variable]) => variable === name) ?? [name, least, most];
  return [Math.max(low / times / around, least), Math.min((high * times) / around, most)];
}

const SLIDERS = {
  base: { id: "base", range: reach("N", 100, [LADDER.smallest, LADDER.largest]), read: readCount, show: shortest },
  factor: { id: "factor", range: CONSTANTS.factors, read: readNumber, show: String },
  tpp: { id: "tpp", range: reach("tpp", REACH, CONSTANTS.budgets_tpp), read: readNumber, show: String },
  base_tpp: { id: "base-tpp", range: reach("base_tpp", REACH, CONSTANTS.budgets_tpp), read: readNumber, show: String },
};
const RANGES = { g: SLIDERS.factor.range, tpp: SLIDERS.tpp.range };
const asked = { ...DATA.start };

/** The text with the fewest digits that reads back to the same number: 74M. */
function shortest(x) {
  for (let digits = 1; digits < 16; digits++) if (readCount(count(x, digits)) === x) return count(x, digits);
  return String(x);
}

/** The growth, the question and the decision that these words stand for. Throws what the page then says. */
function answer(words) {
  const named = { base: "base size", factor: "growth factor", tpp: "budget", base_tpp: "base's budget" };
  for (const [name, text] of Object.entries(named)) {
    if (!(words[name] > 0 && Number.isFinite(words[name]))) refuse(`the ${text} is no number above 0: write ${name === "base" ? "74M" : "20"}.`);
  }
  if (words.cost === "amortised" && !(words.targets >= 1)) refuse("a base is shared by 1 model or more: give a number from 1.");
  const growth = grow(words.base, words.factor), N = parameters(growth.target), baseN = parameters(growth.base);
  const share = { sunk: 0, paid: 1, amortised: 1 / words.targets }[words.cost];
  const q = { N, g: N / baseN, D: words.tpp * N, base: words.base_tpp * baseN, operator: words.operator, share, cost: words.cost };
  const decision = decide(fit, q, LEVEL);
  return { growth, decision, advice: advice(fit, decision) };
}

/** The command that gives the same numbers. */
function command(words) {
  const cost = words.cost === "amortised" ? `amortised:${words.targets}` : words.cost;
  const level = LEVEL === 0.95 ? "" : ` --level ${LEVEL}`;
  return `scalegrow predict --base ${shortest(words.base)} --factor ${words.factor} --budget ${words.tpp}tpp --operator ${words.operator} ` +
    `--base-budget ${words.base_tpp}tpp --base-cost ${cost} --fit ${quoted(fit.name)}${level}`;
}

/** A word as a POSIX shell reads it back, whatever is in it. */
const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);

const digitsOf = (x) => (Number.isFinite(x) ? String(Number(x.toPrecision(12))) : x > 0 ? "inf" : "-inf");

function setText(id, text) { if (by(id).textContent !== text) by(id).textContent = text; }

function showAnswer({ growth, decision, advice: sentence }) {
  setText("advice", sentence);
  setText("range", `This question ${rangeSentence(decision.extrapolation)}.`);
  by("range").className = decision.distance === 0 ? "" : "outside";
  setText("sizes", sizesSentence(growth, decision.question));
  setText("command", command(asked));
  showTable(decision);
}

function sizesSentence({ base, target }, q) {
  const size = (shape) => `${count(parameters(shape))} (${shape.d} wide, ${shape.L} deep)`;
  return `Base ${size(base)} on ${count(q.base)} tokens; target ${size(target)}, ${general(q.g, 3)} times as large. ` +
    `From scratch it trains on ${count(q.D)} tokens (${flops(6 * q.N * q.D)} FLOPs), grown on ${count(tokensGrown(q))}.`;
}

function showTable(decision) {
  const all = by("digits").checked;
  const body = rows(fit, decision).map(([name, words, found, form, remark]) => {
    const write = all ? digitsOf : form, range = (pair) => `${write(pair[0])} to ${write(pair[1])}`;
    const row = document.createElement("tr");
    row.id = name;
    row.append(cell("th", words), cell("td", write(found.value)), cell("td", range(found.interval)), cell("td", found.newRun ? range(found.newRun) : remark));
    row.firstChild.scope = "row";
    return row;
  });
  by("table").tBodies[0].replaceChildren(...body);
}

function cell(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

/** The table with all its digits, tab by tab, under the command that gives it. */
function tableText(decision) {
  const head = ["quantity", "estimate", "low", "high", "new run low", "new run high"].join("\t");
  const lines = rows(fit, decision).map(([name, , found]) => [name, ...[found.value, ...found.interval, ...(found.newRun ?? [])].map(digitsOf)].join("\t"));
  return [`# ${command(asked)}`, head, ...lines].join("\n");
}

let current = null, curvesFound = null, chances = [], limits = [], mapOf = "", run = 0;

function drawAll() {
  if (!current) return;
  const { decision } = current;
  drawLoss(by("loss-chart"), curvesFound, decision, asked.tpp);
  drawDifference(by("difference-chart"), fit, curvesFound, decision, asked.tpp);
  redrawMap(decision);
}

/** The map as far as it is known, and how far that is. */
function redrawMap(decision) {
  drawMap(by("map-chart"), fit, decision, asked.tpp, RANGES, chances, limits);
  showProgress();
}

function showProgress() {
  const share = (chances.length / (MAP_COLUMNS * MAP_ROWS) + limits.length / BAND_POINTS) / 2;
  setText("map-progress", share < 1 ? `Drawing: ${fixed(100 * share, 0)}% of the map.` : "");
  document.body.dataset.map = share < 1 ? "drawing" : "whole";
}

/** The budgets that the curves span: the fitted ones and some more, and the one that is asked unless a million times off. */
function curvesRange() {
  const [low, high] = reach("tpp", CURVES_REACH, CONSTANTS.budgets_tpp), drawn = clamp(asked.tpp, [low / FARTHEST, high * FARTHEST]);
  return [Math.min(low, drawn), Math.max(high, drawn)];
}

function update() {
  const mine = ++run;
  try {
    current = answer(asked);
  } catch (error) {
    by("refusal").hidden = false;
    by("copy").disabled = true; // the table is of the question before
    setText("refusal", error.message);
    document.body.dataset.state = "refused";
    return;
  }
  by("refusal").hidden = true;
  by("copy").disabled = false;
  showAnswer(current);
  curvesFound = curves(fit, current.decision.question, LEVEL, curvesRange());
  const { question } = current.decision, key = JSON.stringify([question.N / question.g, question.base, question.operator, question.share]);
  if (key !== mapOf) { chances = []; limits = []; mapOf = key; }
  drawAll();
  document.body.dataset.state = "ready";
  setTimeout(() => fillMap(mine));
}

/** Some more cells of the map, until it is whole or another question is asked; then the interval of its line. */
function fillMap(mine) {
  const cells = MAP_COLUMNS * MAP_ROWS, until = performance.now() + SLICE_MS;
  if (mine !== run) return;
  while (chances.length < cells && performance.now() < until) chances.push(chanceAt(fit, current.decision.question, chances.length, RANGES));
  redrawMap(current.decision);
  setTimeout(() => (chances.length < cells ? fillMap(mine) : fillBand(mine)), chances.length < cells ? 0 : REST_MS);
}

/** One more place of the band: each takes as long as a slice, so it is begun when the reader rests. */
function fillBand(mine) {
  if (mine !== run || limits.length === BAND_POINTS) return;
  limits.push(limitAt(fit, current.decision.question, limits.length, RANGES, LEVEL));
  if (limits.length < BAND_POINTS) showProgress(); // the band is drawn once it is whole
  else redrawMap(current.decision);
  setTimeout(() => fillBand(mine), BREATH_MS);
}

let waiting = 0;
function ask() {
  document.body.dataset.state = "busy";
  clearTimeout(waiting);
  waiting = setTimeout(update, 10);
}

const toPlace = ([low, high], v) => Math.round((STEPS * Math.log(clamp(v, [low, high]) / low)) / Math.log(high / low));
const toValue = ([low, high], place) => clamp(Number((low * (high / low) ** (place / STEPS)).toPrecision(3)), [low, high]);

/** Set a control's value everywhere it shows. */
function place(name, value, typed = false) {
  const { id, range, show } = SLIDERS[name], slider = by(id), number = by(`${id}-number`);
  asked[name] = value;
  if (value > 0) slider.value = toPlace(range, value);
  if (!typed) number.value = show(value);
  slider.setAttribute("aria-valuetext", show(value));
}

function wire(name) {
  const { id, range, read } = SLIDERS[name], slider = by(id), number = by(`${id}-number`);
  Object.assign(slider, { min: 0, max: STEPS, step: 1 });
  place(name, asked[name]);
  slider.addEventListener("input", () => { place(name, toValue(range, Number(slider.value))); ask(); });
  number.addEventListener("input", () => { place(name, read(number.value.trim() || "?"), true); ask(); });
}

function wireChoices() {
  by("operator").append(...fit.operators.map((name) => new Option(name, name)));
  for (const name of ["operator", "cost", "targets"]) {
    by(name).value = asked[name];
    by(name).addEventListener(name === "targets" ? "input" : "change", () => {
      asked[name] = name === "targets" ? Number(by(name).value) : by(name).value;
      by("sharing").hidden = asked.cost !== "amortised";
      ask();
    });
  }
  by("sharing").hidden = asked.cost !== "amortised";
}

/** A click on the map asks about that place. */
function wireMap() {
  const svg = by("map-chart");
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect(), { left, right, top, bottom } = frame(svg, box.height, RANGES.g, RANGES.tpp, { xLabel: "", yLabel: "", logY: true });
    const across = (event.clientX - box.left - left) / (right - left), up = (bottom - (event.clientY - box.top)) / (bottom - top);
    if (!(across >= 0 && across <= 1 && up >= 0 && up <= 1)) return;
    place("factor", toValue(RANGES.g, across * STEPS));
    place("tpp", toValue(RANGES.tpp, up * STEPS));
    ask();
  });
}

async function copyTable() {
  const text = tableText(current.decision);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea"); // from a file some browsers give no clipboard but this
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    by("copy").focus();
  }
  setText("copied", "copied, with all digits");
}

function describe() {
  const percentText = `${Number((LEVEL * 100).toPrecision(6))}%`;
  setText("about", `Fit ${fit.name}: ${fit.formula}; ${fit.runs} runs${fit.table ? ` of ${fit.table}` : ""}, ${fit.status}.`);
  setText("mean-head", `${percentText} interval`);
  setText("new-head", `${percentText} for one new run`);
  setText("loss-note", `Bands: ${percentText} of the mean; dotted: of one new run. Vertical line: your budget. Thick bar on the axis: fitted budgets.`);
  setText("map-note", `Diamond: your question; whisker: ${percentText} interval of its break-even budget. Line: break-even by the law; dashed: its ${percentText} interval; where it is not drawn it lies off the map. ` +
    `Hatched: outside the fitted runs, where the map EXTRAPOLATES; hatched twice: more than ${CONSTANTS.too_far} times outside, where the page gives no advice. Click to ask about a place.`);
  setText("fit-message", `The fit: ${fit.message} Its intervals were checked on ${fit.checked}.`);
  by("legend").innerHTML = `<span>0 scratch</span>${RAMP.map((colour) => `<i style="background:${colour}"></i>`).join("")}<span>1 growing wins</span>`;
}

describe();
Object.keys(SLIDERS).forEach(wire);
wireChoices();
wireMap();
by("question").addEventListener("submit", (event) => event.preventDefault());
by("digits").addEventListener("input", () => current && showTable(current.decision));
by("copy").addEventListener("click", copyTable);
new ResizeObserver(drawAll).observe(by("map-figure"));
const mapCells = () => chances.map((chance, k) => ({ ...chance, ...placeOf(k, RANGES) }));
const breakEvenAt = (g) => lawBreakEven(fit, current.decision.question, g);
window.scalegrowPlan = { answer, grow, mapCells, limits: () => limits, breakEvenAt, fixed, general, count, start: DATA.start }; // to ask the page in words
update();
