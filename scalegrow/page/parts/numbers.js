// Numbers as Python writes them, quantiles as NumPy takes them.

const PLACES = [1, 10, 100, 1000];

/** x with d decimals; exact ties go to the even digit, as Python's format does and toFixed does not. */
function fixed(x, d) {
  const scaled = Math.abs(x) * PLACES[d], whole = Math.floor(scaled);
  const tie = scaled - whole === 0.5 && (2 * scaled) % 5 ** d === 0;
  if (!tie) return x.toFixed(d);
  return (x < 0 ? "-" : "") + ((whole % 2 ? whole + 1 : whole) / PLACES[d]).toFixed(d);
}

/** x as d.ddde+k with p digits; exact ties go to the even digit here too. */
function exponential(x, p) {
  const [exact, power] = Math.abs(x).toExponential(80).split("e"), all = exact.replace(".", "");
  const tieToEven = /^50*$/.test(all.slice(p)) && all[p - 1] % 2 === 0;
  return tieToEven ? `${x < 0 ? "-" : ""}${all[0]}.${all.slice(1, p)}e${power}` : x.toExponential(p - 1);
}

/** x to p significant digits, like Python's format "g": no trailing zeros, exponents of two digits. */
function general(x, p) {
  if (x === 0) return "0";
  const text = exponential(x, p), [mantissa, power] = text.split("e"), exponent = Number(power);
  if (exponent >= -4 && exponent < p) return String(Number(text));
  const digits = String(Math.abs(exponent)).padStart(2, "0");
  return `${Number(mantissa)}e${exponent < 0 ? "-" : "+"}${digits}`;
}

/** 50M, 1.23B, 999: a count to three digits. */
function count(x, digits = 3) {
  const rounded = Number(exponential(x, digits)), power = Math.floor(Math.log10(rounded) + 1e-12);
  if (power < -3 || power >= 15) return flops(x, digits);
  const group = Math.max(Math.floor(power / 3), 0);
  return String(Number((rounded / 10 ** (3 * group)).toPrecision(digits))) + ["", "k", "M", "B", "T"][group];
}

/** 1.2e19: FLOPs, always scientific. */
function flops(x, digits = 3) {
  const [mantissa, power] = exponential(x, digits).split("e");
  return `${Number(mantissa)}e${Number(power)}`;
}

/** The number of 2, 1.5 or 2e1; NaN of anything else, such as 0x10. */
function readNumber(text) {
  return /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
}

const UNITS = { "": 0, k: 3, m: 6, b: 9, g: 9, t: 12 };

/** The number of 74M, 1.2B, 5e7 or 50,000; NaN of anything else. */
function readCount(text) {
  const match = /^((?:\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)(?:\.\d*)?|\.\d+)(e[+-]?\d+)?\s*([kmbgt]?)$/i.exec(text.trim());
  if (!match || (match[2] && match[3])) return NaN;
  const power = UNITS[match[3].toLowerCase()];
  return Number(match[1].replace(/[,_]/g, "") + (match[2] || `e${power}`));
}

/** n values from a to b in even steps. */
function linspace(a, b, n) {
  const step = (b - a) / (n - 1);
  return Float64Array.from({ length: n }, (_, i) => (i === n - 1 ? b : a + i * step));
}

/** The k-th smallest of `values`, which are left partly ordered: smaller ones before k, larger ones after. */
function select(values, k) {
  let low = 0, high = values.length - 1;
  while (low < high) {
    const pivot = values[(low + high) >> 1];
    let i = low, j = high;
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i <= j) { const held = values[i]; values[i++] = values[j]; values[j--] = held; }
    }
    if (k <= j) high = j; else if (k >= i) low = i; else break;
  }
  return values[k];
}

/** The median; `values` are left partly ordered. */
function median(values) {
  const n = values.length, upper = select(values, n >> 1);
  if (n % 2) return upper;
  let lower = -Infinity;
  for (let i = 0; i < n >> 1; i++) if (values[i] > lower) lower = values[i];
  return (lower + upper) / 2;
}

/** The central interval [low, high] of `values`, between order statistics as numpy.quantile. */
function interval(values, level) {
  const work = Float64Array.from(values);
  return [(1 - level) / 2, (1 + level) / 2].map((share) => {
    const place = share * (work.length - 1), k = Math.floor(place);
    const a = select(work, k), b = k + 1 < work.length ? least(work, k + 1) : a;
    return a + (b - a) * (place - k);
  });
}

/** The least from index k on. */
function least(values, k) {
  let found = Infinity;
  for (let i = k; i < values.length; i++) if (values[i] < found) found = values[i];
  return found;
}

function mean(values) {
  let total = 0;
  for (const value of values) total += value;
  return total / values.length;
}
