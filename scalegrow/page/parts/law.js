// ln L by the law (place 0) and by every draw (places 1 to M), and where the fit has data: laws/ in Python.
// A point is {N, D, g, base, operator}: base in tokens; from scratch g = 1, base = 0, operator = null.

const KEPT = 8; // size terms
const SHARED = 5; // E, A, B, alpha, beta come first, then rho and kappa of each operator

/** What can be asked of an embedded fit. */
function fitted(data) {
  const theta = data.draws.map((column, i) => Float64Array.of(data.theta[i], ...column));
  const M = theta[0].length;
  const [lnE, lnA, lnB, alpha, beta] = theta, E = lnE.map(Math.exp), nothing = new Float64Array(M);

  function own(point, symbol) {
    return point.operator === null ? nothing : theta[SHARED + 2 * data.operators.indexOf(point.operator) + symbol];
  }

  /** A N^-alpha [g^rho], kept for the next points of the same size: a scan of budgets asks it hundreds of times. */
  const sizeTerms = new Map();
  function sizeTerm(point, lnN, lnPrice) {
    const key = `${point.operator} ${lnN} ${lnPrice}`;
    if (!sizeTerms.has(key)) {
      if (sizeTerms.size >= KEPT) sizeTerms.clear();
      const rho = own(point, 0), out = new Float64Array(M);
      for (let m = 0; m < M; m++) out[m] = Math.exp(lnA[m] - alpha[m] * lnN + lnPrice * rho[m]);
      sizeTerms.set(key, out);
    }
    return sizeTerms.get(key);
  }

  /** ln(E + A N^-alpha [g^rho] + B [g^rho] data^-beta), with the base's tokens discounted by g^-kappa. */
  function logLoss(point) {
    const lnN = Math.log(point.N), lnG = Math.log(point.g), rho = own(point, 0), kappa = own(point, 1);
    const lnAll = Math.log(point.D + point.base), head = lnG * Math.log1p(point.base / point.D);
    const onSize = data.price === "size" ? lnG : 0, onData = lnG - onSize;
    const discounted = data.discount === "tokens" && point.base > 0, fading = data.discount === "power" ? head : 0;
    const size = sizeTerm(point, lnN, onSize), out = new Float64Array(M);
    for (let m = 0; m < M; m++) {
      const lnData = discounted ? Math.log(point.D + point.base * Math.exp(-kappa[m] * lnG)) : lnAll;
      out[m] = Math.log(E[m] + size[m] + Math.exp(lnB[m] - beta[m] * lnData + onData * rho[m] + fading * kappa[m]));
    }
    return out;
  }

  const noise = Object.fromEntries(["single", "paired"].map((kind) => {
    const residuals = Float64Array.from(data.noise[kind]);
    const drawn = Float64Array.from(data.noise[`${kind}_drawn`], (i) => residuals[i]);
    return [kind, { residuals, drawn, ordered: residuals.slice().sort() }];
  }));
  return { ...data, M: M - 1, logLoss, noise };
}

/** A scratch run. */
function scratchPoint(N, D) { return { N, D, g: 1, base: 0, operator: null }; }

/** Per variable of the domain, how many times beyond the nearest edge; 1 inside, or within rounding of it. */
function extrapolation(fit, point) {
  const grown = point.operator !== null, { N, D } = point;
  const where = { N, D, tpp: D / N };
  if (grown) Object.assign(where, { g: point.g, base_tpp: point.base / (N / point.g) });
  return Object.fromEntries(fit.domain.map(([name, low, high]) => {
    const value = where[name] ?? low;
    const ratio = value > high ? value / high : value < low ? value / low : 1;
    return [name, Math.abs(Math.log(ratio)) < CONSTANTS.rounding ? 1 : ratio];
  }));
}

/** Distance outside the data in ln units, of ratios. */
function distanceOf(ratios) {
  const total = Math.hypot(...Object.values(ratios).map(Math.log));
  return total < 1e-9 ? 0 : total;
}

/** How many times outside in the farthest variable; 1 inside. */
function farthest(ratios) {
  return Math.max(1, ...Object.values(ratios).map((ratio) => Math.max(ratio, 1 / ratio)));
}

/** How much wider intervals of "loss" or "difference" are at this distance: between knots, and beyond the last. */
function widening(fit, distance, of) {
  const knots = fit.calibration[of], last = knots.length - 1, [x, y] = knots[last];
  const steepest = last === 0 ? Math.max(1, y)
    : Math.max((y - knots[last - 1][1]) / (x - knots[last - 1][0]), y / x);
  return Math.max(1, between(knots, distance) + steepest * Math.max(distance - x, 0));
}

/** Linear between knots, flat beyond both ends. */
function between(knots, x) {
  const next = knots.findIndex(([at]) => at >= x);
  if (next === -1) return knots[knots.length - 1][1];
  if (next === 0) return knots[0][1];
  const [[x0, y0], [x1, y1]] = [knots[next - 1], knots[next]];
  return y0 + ((y1 - y0) / (x1 - x0)) * (x - x0);
}

/** Values (law first) whose draws are centred on the law and stretched by factor. */
function widened(values, factor) {
  const centre = median(values.slice(1)), out = new Float64Array(values.length), law = values[0];
  out[0] = law;
  for (let m = 1; m < values.length; m++) out[m] = law + factor * (values[m] - centre);
  return out;
}
