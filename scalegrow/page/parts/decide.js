// Grow or train from scratch: plan/decide.py and laws/forecast.py in the browser, draw for draw.
// A question is {N, g, D, base, operator, share}: base in tokens, share of the base's FLOPs that this run pays.

/** Tokens left for the grown run after its share of the base is paid. */
function tokensGrown(q) { return q.D - (q.share * 6 * (q.N / q.g) * q.base) / (6 * q.N); }

function grownPoint(q) { return { N: q.N, D: tokensGrown(q), g: q.g, base: q.base, operator: q.operator }; }

/** Mean interval and new-run interval of one loss, in nats. */
function forecastLoss(fit, point, level) {
  const factor = widening(fit, distanceOf(extrapolation(fit, point)), "loss");
  const values = widened(fit.logLoss(point), factor);
  const [low, high] = interval(values.subarray(1), level);
  const [newLow, newHigh] = interval(withNoise(values, factor, fit.noise.single.drawn), level);
  return { value: Math.exp(values[0]), interval: [Math.exp(low), Math.exp(high)], newRun: [Math.exp(newLow), Math.exp(newHigh)] };
}

/** Every draw with a residual of its own. */
function withNoise(values, factor, residuals) {
  return residuals.map((residual, m) => values[m + 1] + factor * residual);
}

/** ln L_grown - ln L_scratch, widened by the grown run's distance, and that factor. */
function logRatio(fit, grown, scratch, logScratch = fit.logLoss(scratch), logGrown = fit.logLoss(grown)) {
  const factor = widening(fit, distanceOf(extrapolation(fit, grown)), "difference");
  return { values: widened(minus(logGrown, logScratch), factor), factor };
}

function minus(a, b) {
  const out = new Float64Array(a.length);
  for (let m = 0; m < a.length; m++) out[m] = a[m] - b[m];
  return out;
}

/** L_grown - L_scratch in nats, and the chances that growing wins. */
function forecastDifference(fit, q, level) {
  const scratch = scratchPoint(q.N, q.D), logScratch = fit.logLoss(scratch);
  const { values, factor } = logRatio(fit, grownPoint(q), scratch, logScratch);
  const nats = (x) => Math.exp(logScratch[0]) * Math.expm1(x);
  const draws = values.subarray(1), { residuals, drawn } = fit.noise.paired;
  const wins = draws.map((ratio) => countNegative(ratio, factor, residuals) / residuals.length);
  return {
    difference: {
      value: nats(values[0]),
      interval: interval(draws, level).map(nats),
      newRun: interval(withNoise(values, factor, drawn), level).map(nats),
    },
    wins: { value: mean(wins), interval: interval(wins, level) },
    winsMean: draws.reduce((n, ratio) => n + (ratio < 0), 0) / draws.length,
  };
}

/** For how many residuals a run of each arm ends with growing ahead. */
function countNegative(ratio, factor, residuals) {
  let n = 0;
  for (let k = 0; k < residuals.length; k++) if (ratio + factor * residuals[k] < 0) n++;
  return n;
}

/** The chance alone, for a cell of the map: residuals below -ratio / factor, counted in their order. */
function chanceOfWinning(fit, q) {
  const { values, factor } = logRatio(fit, grownPoint(q), scratchPoint(q.N, q.D)), { ordered } = fit.noise.paired;
  let total = 0;
  for (let m = 1; m < values.length; m++) total += countBelow(ordered, -values[m] / factor);
  return total / fit.M / ordered.length;
}

function countBelow(ordered, x) {
  let low = 0, high = ordered.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ordered[middle] < x) low = middle + 1; else high = middle;
  }
  return low;
}

/** A scan's result by the law (place 0) and by the draws, whose ends are order statistics. */
function estimate(found, level) {
  const draws = found.slice(1).sort(), last = draws.length - 1, value = found[0];
  const low = draws[Math.floor(((1 - level) / 2) * last)], high = draws[Math.ceil(((1 + level) / 2) * last)];
  return { value, interval: [Math.min(low, value), Math.max(high, value)] };
}

/** Per place: where its first negative stretch (growing wins) over the columns ends, between scan points. */
function firstCrossing(columns, x, before, after) {
  const out = new Float64Array(columns[0].length), along = new Float64Array(x.length);
  for (let m = 0; m < out.length; m++) {
    for (let i = 0; i < along.length; i++) along[i] = columns[i][m];
    out[m] = crossingOf(along, x, before, after);
  }
  return out;
}

function crossingOf(along, x, before, after) {
  let start = 0;
  while (start < x.length && !(along[start] < 0)) start++;
  if (start === x.length) return before;
  let stop = start + 1;
  while (stop < x.length && along[stop] < 0) stop++;
  if (stop === x.length) return after;
  const left = along[stop - 1], right = along[stop];
  const share = Number.isFinite(right) && right > left ? -left / (right - left) : 0;
  return x[stop - 1] + share * (x[stop] - x[stop - 1]);
}

/** 1 - C_grown / C_scratch, with C_scratch of the scratch run that reaches the grown run's loss. */
function computeSaved(fit, q, level) {
  const shift = linspace(-CONSTANTS.saving_range, CONSTANTS.saving_range, 2 * CONSTANTS.grid + 1);
  const grown = grownPoint(q), logGrown = fit.logLoss(grown);
  const columns = Array.from(shift, (s) => {
    const scratch = scratchPoint(q.N, q.D * Math.exp(s));
    return logRatio(fit, grown, scratch, fit.logLoss(scratch), logGrown).values;
  });
  return estimate(firstCrossing(columns, shift, -Infinity, Infinity).map((s) => 1 - Math.exp(-s)), level);
}

/** ln of the budgets in tokens per parameter between which a break-even one is looked for. */
function budgetScan() { return linspace(...CONSTANTS.budgets_tpp.map(Math.log), CONSTANTS.grid); }

/** D / N up to which growing wins: 0 if never, infinite if throughout the scan. */
function breakEvenBudget(fit, q, level) {
  const x = budgetScan(), never = new Float64Array(fit.M + 1).fill(Infinity);
  const columns = Array.from(x, (logTpp) => {
    const asked = { ...q, D: q.N * Math.exp(logTpp) }, grown = { ...grownPoint(q), D: asked.D - (q.D - tokensGrown(q)) };
    return grown.D > 0 ? logRatio(fit, grown, scratchPoint(q.N, asked.D)).values : never;
  });
  return estimate(firstCrossing(columns, x, -Infinity, Infinity).map(Math.exp), level);
}

/** ln g, and ln(L_grown / L_scratch): bases of N/g parameters at the question's tokens per parameter. */
function factorScan(fit, q, low, high) {
  const x = linspace(Math.log(low), Math.log(high), CONSTANTS.grid), baseTpp = q.base / (q.N / q.g);
  const scratch = scratchPoint(q.N, q.D), logScratch = fit.logLoss(scratch);
  const never = new Float64Array(fit.M + 1).fill(Infinity);
  const columns = Array.from(x, (logG) => {
    const g = Math.exp(logG), small = q.N / g, D = q.D - (q.share * baseTpp * small ** 2) / q.N;
    const grown = { N: q.N, D, g, base: baseTpp * small, operator: q.operator };
    return D > 0 ? logRatio(fit, grown, scratch, logScratch).values : never;
  });
  return { x, columns };
}

/** The g at which growing stops winning: 1 if it never wins, infinite if it still wins at the scan's end. */
function largestUsefulFactor(fit, q, level) {
  const { x, columns } = factorScan(fit, q, ...CONSTANTS.factors);
  return estimate(firstCrossing(columns, x, 0, Infinity).map((s) => Math.exp(Math.max(s, 0))), level);
}

/** The g of least grown loss among the growth factors that the fit has seen. */
function bestFactor(fit, q, level) {
  const [, low, high] = fit.domain.find(([name]) => name === "g");
  const { x, columns } = factorScan(fit, q, low, high * (1 + 1e-9));
  const best = columns[0].map((_, m) => {
    let at = 0;
    for (let i = 1; i < x.length; i++) if (columns[i][m] < columns[at][m]) at = i;
    return Math.exp(x[at]);
  });
  return estimate(best, level);
}

/** Refuse a budget that the base's cost eats up, or that is more text than there is. */
function requireDecidable(q) {
  if (Math.max(q.D, q.base) > CONSTANTS.most_tokens) refuse("this budget is more than 1e+18 tokens: give a smaller budget.");
  if (tokensGrown(q) > 0) return;
  const cost = q.share * 6 * (q.N / q.g) * q.base;
  refuse(`the base costs ${general(cost, 3)} FLOPs, more than the whole budget of ${general(6 * q.N * q.D, 3)}: give a larger budget or base cost sunk.`);
}

/** Every estimate that `scalegrow predict` prints, at one confidence level. */
function decide(fit, q, level) {
  requireDecidable(q);
  const grown = grownPoint(q), ratios = extrapolation(fit, grown);
  return {
    question: q,
    level,
    lossScratch: forecastLoss(fit, scratchPoint(q.N, q.D), level),
    lossGrown: forecastLoss(fit, grown, level),
    ...forecastDifference(fit, q, level),
    computeSaved: computeSaved(fit, q, level),
    breakEvenBudget: breakEvenBudget(fit, q, level),
    largestUsefulFactor: largestUsefulFactor(fit, q, level),
    bestFactor: bestFactor(fit, q, level),
    extrapolation: ratios,
    distance: distanceOf(ratios),
  };
}
