// One plain sentence of advice, and the words of the table: plan/advise.py and cli/predict.py, word for word.

function advice(fit, d) {
  const far = farthest(d.extrapolation);
  if (far > CONSTANTS.too_far) {
    return `Too far to say: this lies ${general(far, 2)} times outside the runs behind the fit, and the numbers are ` +
      "the law's alone; fit runs nearer to the question, or ask inside the fitted range.";
  }
  const outside = d.distance === 0 ? "" : "this lies outside the runs behind the fit, so check it with a small run";
  const reasons = [expected(d), limit(d), ifPaid(fit, d), unsettled(d), outside];
  return `${verdict(d)}: ${reasons.filter(Boolean).join("; ")}.`;
}

function verdict(d) {
  const chance = d.wins.value, { sure, likely } = CONSTANTS;
  if (chance >= sure) return "Grow";
  if (chance >= likely) return "Lean towards growing";
  if (chance <= 1 - sure) return "Train from scratch";
  if (chance <= 1 - likely) return "Lean towards training from scratch";
  return "Too close to call from these runs";
}

function expected(d) {
  const { value } = d.difference, [low, high] = d.wins.interval;
  return `the grown run is expected ${fixed(Math.abs(value), 3)} nats ${value < 0 ? "below" : "above"} scratch and ends ` +
    `below it with probability ${fixed(d.wins.value, 2)} (${fixed(low, 2)} to ${fixed(high, 2)})`;
}

/** The budget at which the sign turns, where it is finite. */
function limit(d) {
  const tpp = d.breakEvenBudget.value, now = d.question.D / d.question.N;
  if (!(tpp > 0 && tpp < Infinity)) return "";
  const words = tpp > now ? "scratch catches up at about" : "growing pays only below about";
  return `${words} ${fixed(tpp, tpp >= 10 ? 0 : 1)} tokens per parameter`;
}

/** What happens if a sunk base had to be paid for, where that turns the sign. */
function ifPaid(fit, d) {
  const paid = { ...d.question, share: 1, cost: "paid" };
  if (d.question.cost === "paid" || d.difference.value >= 0) return "";
  if (tokensGrown(paid) <= 0) return "a base paid from this budget would leave nothing to train on";
  const other = forecastDifference(fit, paid, d.level);
  if (other.difference.value < 0) return "";
  return `charged for the base's own training, the expected gain would be gone (it then wins with probability ${fixed(other.wins.value, 2)})`;
}

/** That more runs could turn a verdict, where the probability's interval holds both sides of one half. */
function unsettled(d) {
  const chance = d.wins.value, [low, high] = d.wins.interval, close = 1 - CONSTANTS.likely < chance && chance < CONSTANTS.likely;
  return close || !(low < 0.5 && 0.5 < high) ? "" : "the runs do not settle it, more could turn it";
}

/** "lies inside the fitted range", or which variables lie outside it and how far. */
function rangeSentence(ratios) {
  const outside = Object.entries(ratios).filter(([, ratio]) => ratio !== 1).map(([name, ratio]) =>
    ratio > 1 ? `${CONSTANTS.labels[name]} ${times(ratio)} x the largest fitted`
      : `${CONSTANTS.labels[name]} ${general(ratio, 2)} x the smallest`);
  return outside.length ? `EXTRAPOLATES: ${outside.join("; ")}` : "lies inside the fitted range";
}

function times(ratio) {
  return ratio >= 1000 ? fixed(ratio, 0).replace(/\B(?=(\d{3})+$)/g, ",") : general(ratio, 3);
}

const nats = (x) => fixed(x, 3);
const signed = (x) => (x < 0 || Object.is(x, -0) ? "" : "+") + fixed(x, 3);
const percent = (x) => (x === -Infinity ? "none" : `${fixed(100 * x, 0)}%`);
const budgetText = (x) => (x === 0 ? "none" : x === Infinity ? `over ${CONSTANTS.budgets_tpp[1]}` : general(x, 3));
const factorText = (x) => (x <= 1 ? "none" : x === Infinity ? `over ${CONSTANTS.factors[1]}` : fixed(x, 2));
const plain = (x) => fixed(x, 2);

/** [name of the field in predict --json, what it is called, estimate, how it is written, remark] of each row. */
function rows(fit, d) {
  const edges = fit.domain.find(([name]) => name === "g").slice(1);
  const edge = edges.findIndex((g) => Math.abs(d.bestFactor.value / g - 1) < 1e-6);
  return [
    ["loss_scratch", "loss from scratch", d.lossScratch, nats, ""],
    ["loss_grown", "loss grown", d.lossGrown, nats, ""],
    ["difference", "difference (grown \u2212 scratch)", d.difference, signed, ""],
    ["probability_growing_wins", "probability growing wins", d.wins, plain, ""],
    ["compute_saved", "compute saved at equal loss", d.computeSaved, percent, ""],
    ["break_even_budget", "growing wins up to, tokens per parameter", d.breakEvenBudget, budgetText, beyond(fit, d.breakEvenBudget, "tpp")],
    ["largest_useful_factor", "largest useful growth factor", d.largestUsefulFactor, factorText, beyond(fit, d.largestUsefulFactor, "g")],
    ["best_factor", "best growth factor", d.bestFactor, plain, edge === -1 ? "" : `${["smallest", "largest"][edge]} fitted`],
  ];
}

/** "beyond the fitted 30" where a scan's result lies outside the fitted runs. */
function beyond(fit, { value }, name) {
  const range = fit.domain.find(([variable]) => variable === name);
  if (!range || !(value > 0 && value < Infinity)) return "";
  const [, low, high] = range;
  return value > high ? `beyond the fitted ${general(high, 3)}` : value < low ? `below the fitted ${general(low, 3)}` : "";
}
