// Sizes snap to shapes, as in shape.py: a rung, with the d_ff that meets the count.

/** N = token tables + L (attention, SwiGLU) + norms, of a shape {V, tied, h, d, L, H, f}. */
function parameters({ V, tied, h, d, L, H, f }) {
  return (tied ? 1 : 2) * V * d + L * d * (4 * H * h + 3 * f) + (2 * L + 1) * d;
}

function feedForwardStep(d) {
  return LADDER.ff_steps.findLast(([start]) => d >= start)[1];
}

function refuse(text) { throw new Error(text); }

const BASE_RUNGS = LADDER.base.map(([V, tied, h, d, L, H, f]) => ({ V, tied, h, d, L, H, f }));

function targetRungs({ V, tied, h }) {
  return LADDER.target[`${V},${tied},${h}`].map(([d, L, H, f]) => ({ V, tied, h, d, L, H, f }));
}

/** The shape of the ladder nearest to `wanted` parameters; `like` gives vocabulary, tying and head size. */
function shapeFor(wanted, like = null) {
  if (!(wanted >= LADDER.smallest && wanted <= LADDER.largest)) {
    refuse(`${count(wanted, 6)} parameters are off the ladder: ask for ${count(LADDER.smallest)} to ${count(LADDER.largest)}.`);
  }
  const rungs = like ? targetRungs(like) : BASE_RUNGS, first = rungs.findIndex((rung) => parameters(rung) > wanted);
  const above = Math.max(first === -1 ? rungs.length : first, 1);
  const lower = filled(rungs[above - 1], wanted);
  const wider = { ...lower, f: lower.f + feedForwardStep(lower.d) };
  const upper = [wider, ...rungs.slice(above, above + 1)].reduce((a, b) => (parameters(b) < parameters(a) ? b : a));
  const off = (shape) => Math.abs(parameters(shape) - wanted);
  return off(upper) < off(lower) ? upper : lower;
}

/** The rung with the largest d_ff whose count is at most `wanted`, or with the least there is. */
function filled(rung, wanted) {
  const step = feedForwardStep(rung.d);
  const steps = Math.floor((wanted - parameters(rung)) / (3 * step * rung.d * rung.L));
  return { ...rung, f: Math.max(rung.f + steps * step, step) };
}

/** Base and target of a growth by `factor`, as Growth.by_factor. */
function grow(baseWanted, factor) {
  if (!(factor > 1 && Number.isFinite(factor))) {
    refuse(`a growth factor of ${general(factor, 6)} does not grow: give a number above 1, such as 2.`);
  }
  const base = shapeFor(baseWanted), target = shapeFor(parameters(base) * factor, base);
  const smaller = [["n_params", parameters], ["d_model", (s) => s.d], ["n_layers", (s) => s.L]]
    .find(([, size]) => size(target) < size(base));
  if (smaller) {
    const [name, size] = smaller;
    refuse(`the target's ${name}=${size(target)} is smaller than the base's ${size(base)}: give a larger target.`);
  }
  return { base, target };
}
