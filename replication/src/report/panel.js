"use strict";
// The panel: Equations 6 and 7 with the parameters that were fitted and those of every resample.
(() => {
  const domains = JSON.parse(document.getElementById("laws").textContent);
  // JSON has no infinity and writes null.
  for (const domain of domains) {
    for (const law of [domain.forgetting, domain.finetuning]) {
      if (law.missing === undefined) {
        law.draws = law.draws.map((draw) => draw.map((x) => x ?? Infinity));
      }
    }
  }

  const at = (id) => document.getElementById(id);
  if (domains.length === 0) {
    at("predict").append(element("p", { class: "warning" }, "There are no laws: no run of the main grid counts."));
    return;
  }
  const state = { domain: domains[0], n: 0, d: 0, p: 0, along: "d" };

  // Eq. 7: L_pt = L_pt0 + A D_ft^beta / ((1 + B p) N)^alpha.
  const forgetting = ([a, b, alpha, beta], run) =>
    run.loss0 + a * Math.exp(beta * Math.log(run.d) - alpha * (Math.log(run.n) + Math.log1p(b * run.p)));

  // Eq. 6: L_ft = A / (N^alpha D_ft^beta) + E.
  const finetuning = ([a, alpha, beta, e], run) =>
    a * Math.exp(-alpha * Math.log(run.n) - beta * Math.log(run.d)) + e;

  // L_pt0 as a power law of N between the runs' sizes, going on beyond them.
  function lossBefore(knots, n) {
    if (knots.length === 0) return NaN;
    const known = knots.find((knot) => knot[0] === n);
    if (known) return known[1];
    if (knots.length === 1) return knots[0][1];
    const below = knots.filter((knot) => knot[0] < n).length;
    const above = Math.min(Math.max(below, 1), knots.length - 1);
    const [[n0, low], [n1, high]] = [knots[above - 1], knots[above]];
    return low * Math.pow(high / low, (Math.log(n) - Math.log(n0)) / (Math.log(n1) - Math.log(n0)));
  }

  // The ends of the middle share of some numbers, interpolated linearly between them.
  function middle(numbers, level) {
    const sorted = Float64Array.from(numbers).sort();
    const quantile = (share) => {
      const place = share * (sorted.length - 1);
      const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
      return below === above ? below : below + (above - below) * (place - Math.floor(place));
    };
    return [quantile((1 - level) / 2), quantile((1 + level) / 2)];
  }

  function predict(law, form, run) {
    if (law.missing !== undefined) return null;
    const answer = { value: form(law.values, run), law: null, run: null };
    if (law.draws.length > 0) {
      const curves = law.draws.map((draw) => form(draw, run));
      const runs = curves.map((x, i) => (law.relative ? x * law.noise[i] : x + law.noise[i]));
      const holding = ([low, high]) => [Math.min(low, answer.value), Math.max(high, answer.value)];
      answer.law = holding(middle(curves, law.level));
      answer.run = holding(middle(runs, law.level));
    }
    return answer;
  }

  function runOf(settings) {
    return { ...settings, loss0: lossBefore(settings.domain.knots, settings.n) };
  }

  const laws = (domain) => [domain.forgetting, domain.finetuning].filter((law) => law.missing === undefined);

  // The range of the fitted runs in a setting; that of p is forgetting's, which alone has p.
  function fitted(domain, name) {
    const of = name === "p" ? laws(domain).slice(0, 1) : laws(domain);
    if (of.length === 0) return null;
    return [Math.min(...of.map((law) => law[name][0])), Math.max(...of.map((law) => law[name][1]))];
  }

  // The ranges of the sliders: somewhat wider than those of the runs, and with what is set. They
  // stay while a slider is moved.
  const limits = {};
  function setLimits() {
    for (const name of ["n", "d", "p"]) {
      const runs = fitted(state.domain, name) ?? (name === "p" ? [0, 0.05] : [1e4, 1e6]);
      limits[name] =
        name === "p"
          ? [0, Math.min(1, Math.max(0.5, 2 * runs[1], state.p))]
          : [Math.min(runs[0] / 4, state[name] || Infinity), Math.max(runs[1] * 4, state[name])];
    }
  }

  // p is even near 0 and logarithmic beyond a tenth of a percent; sizes are logarithmic.
  const KNEE = 0.001;
  function toShare(name, [low, high], value) {
    if (name === "p") return Math.log1p(value / KNEE) / Math.log1p(high / KNEE);
    return Math.log(value / low) / Math.log(high / low);
  }
  function fromShare(name, [low, high], share) {
    if (name === "p") return KNEE * Math.expm1(share * Math.log1p(high / KNEE));
    return low * Math.pow(high / low, share);
  }

  // Three digits, or all of a whole number that has few.
  function round(name, value) {
    const short = Number(value.toPrecision(3));
    return name === "p" ? short : Math.max(1, Math.round(short));
  }

  function shown(name, value) {
    if (name === "p") return `${Number((100 * value).toPrecision(3))}%`;
    for (const [unit, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]]) {
      if (value >= 0.9995 * unit) return `${Number((value / unit).toPrecision(3))}${letter}`;
    }
    return `${Number(value.toPrecision(3))}`;
  }

  const four = (value) => (Number.isFinite(value) ? value.toPrecision(4) : "unknown");
  const interval = (ends) => (ends ? `[${four(ends[0])}, ${four(ends[1])}]` : "without interval");

  function put(id, text, value) {
    const output = at(id);
    output.textContent = text;
    // All digits, for whoever reads the page by program.
    output.dataset.value = value;
  }

  const LAWS = [
    { id: "pt", law: "forgetting", form: forgetting, loss: "L_pt" },
    { id: "ft", law: "finetuning", form: finetuning, loss: "L_ft" },
  ];
  const SYMBOLS = { n: "N", d: "D_ft", p: "p" };

  function show() {
    const run = runOf(state);
    for (const { id, law, form, loss } of LAWS) {
      const fit = state.domain[law];
      const answer = predict(fit, form, run);
      put(id, answer ? four(answer.value) : "no law", answer?.value ?? "");
      put(`${id}-law`, answer ? interval(answer.law) : "", answer?.law ?? "");
      put(`${id}-run`, answer ? interval(answer.run) : "", answer?.run ?? "");
      at(`${id}-about`).textContent = fit.missing ?? fit.about;
      draw(at(`${id}-chart`), id, fit, form, answer, loss);
    }
    put("pt0", four(run.loss0), run.loss0);
    const law = state.domain.forgetting;
    const rise = law.missing === undefined ? forgetting(law.values, run) - run.loss0 : NaN;
    put("rise", four(rise), rise);
    const size = law.missing === undefined ? (1 + law.values[1] * run.p) * run.n : NaN;
    put("effective", size > 0 ? `${shown("n", size)} parameters without injection` : "unknown", size);
    warn();
    for (const name of ["n", "d", "p"]) {
      at(name).value = Math.round(1000 * toShare(name, limits[name], state[name]));
      at(name).setAttribute("aria-valuetext", shown(name, state[name]));
      if (document.activeElement !== at(`${name}-exact`)) at(`${name}-exact`).value = state[name];
    }
    at("domain").value = state.domain.name;
    at("along").value = state.along;
  }

  function warn() {
    const lines = [];
    for (const name of ["n", "d", "p"]) {
      const runs = fitted(state.domain, name);
      if (runs && !(runs[0] <= state[name] && state[name] <= runs[1])) {
        lines.push(`${SYMBOLS[name]} = ${shown(name, state[name])} lies outside the ${shown(name, runs[0])} to ${shown(name, runs[1])} of the runs: an extrapolation.`);
      }
    }
    const sizes = state.domain.knots.map((knot) => knot[0]);
    if (sizes.length > 0 && (state.n < sizes[0] || state.n > sizes[sizes.length - 1])) {
      lines.push("L_pt0 is extrapolated from the two nearest sizes.");
    }
    at("warnings").replaceChildren(...lines.map((line) => element("p", { class: "warning" }, line)));
  }

  function element(name, attributes, text) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function shape(parent, name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  // The law along one setting, the others as they are set.
  function draw(chart, id, law, form, answer, loss) {
    chart.replaceChildren();
    chart.setAttribute("class", id);
    if (!answer) return;
    const along = state.along;
    const frame = { left: 44, right: 414, top: 8, bottom: 180 };
    const points = [];
    const COUNT = 48;
    for (let i = 0; i <= COUNT; i++) {
      const value = fromShare(along, limits[along], i / COUNT);
      points.push([i / COUNT, predict(law, form, runOf({ ...state, [along]: value }))]);
    }
    const ends = points.concat([[0, answer]]).flatMap(([, a]) => [a.value, ...(a.run ?? [])]).filter(Number.isFinite);
    let [low, high] = [Math.min(...ends), Math.max(...ends)];
    if (!(high - low > 0.02)) [low, high] = [low - 0.01, high + 0.01];
    const pad = 0.06 * (high - low);
    [low, high] = [low - pad, high + pad];
    const x = (share) => frame.left + (frame.right - frame.left) * Math.min(Math.max(share, 0), 1);
    const y = (value) => frame.bottom - ((frame.bottom - frame.top) * (Math.min(Math.max(value, low), high) - low)) / (high - low);
    const place = (share, value) => `${x(share).toFixed(1)} ${y(value).toFixed(1)}`;

    shape(chart, "title", {}, `${loss} along ${SYMBOLS[along]}: ${four(answer.value)} nats per token at ${SYMBOLS[along]} = ${shown(along, state[along])}`);
    const runs = fitted(state.domain, along);
    for (const [from, to] of [[0, toShare(along, limits[along], runs[0])], [toShare(along, limits[along], runs[1]), 1]]) {
      if (to > from) shape(chart, "rect", { class: "outside", x: x(from), width: x(to) - x(from), y: frame.top, height: frame.bottom - frame.top });
    }
    for (const band of ["run", "law"]) {
      if (!answer[band]) continue;
      const upper = points.map(([share, a]) => place(share, a[band][1]));
      const lower = points.map(([share, a]) => place(share, a[band][0])).reverse();
      shape(chart, "path", { class: band, d: `M${upper.concat(lower).join("L")}Z` });
    }
    shape(chart, "path", { class: "curve", d: `M${points.map(([share, a]) => place(share, a.value)).join("L")}` });
    shape(chart, "path", { class: "axis", d: `M${frame.left} ${frame.top}V${frame.bottom}H${frame.right}` });
    for (const value of evenTicks(low, high)) {
      shape(chart, "path", { class: "axis", d: `M${frame.left - 4} ${y(value)}h4` });
      shape(chart, "text", { x: frame.left - 7, y: y(value) + 4, "text-anchor": "end" }, `${Number(value.toPrecision(4))}`);
    }
    for (const value of axisTicks(along, limits[along])) {
      const share = toShare(along, limits[along], value);
      shape(chart, "path", { class: "axis", d: `M${x(share)} ${frame.bottom}v4` });
      shape(chart, "text", { x: x(share), y: frame.bottom + 16, "text-anchor": "middle" }, shown(along, value));
    }
    shape(chart, "text", { x: (frame.left + frame.right) / 2, y: frame.bottom + 34, "text-anchor": "middle" }, `${SYMBOLS[along]}, ${{ n: "parameters", d: "tokens", p: "injected" }[along]}`);
    const here = toShare(along, limits[along], state[along]);
    if (answer.run) shape(chart, "path", { class: "bar", d: `M${place(here, answer.run[0])}L${place(here, answer.run[1])}` });
    shape(chart, "circle", { class: "dot", cx: x(here), cy: y(answer.value), r: 6 });
  }

  function evenTicks(low, high) {
    const rough = (high - low) / 4;
    const power = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const ticks = [];
    for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(i * step);
    return ticks;
  }

  function axisTicks(name, [low, high]) {
    if (name === "p") return [0, 0.001, 0.01, 0.1, high].filter((p) => p <= high);
    const ticks = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) {
      for (const m of high / low < 100 ? [1, 2, 5] : [1, 3]) {
        const value = m * Math.pow(10, e);
        if (value >= low && value <= high) ticks.push(value);
      }
    }
    return ticks;
  }

  const valid = (name, value) =>
    Number.isFinite(value) && (name === "p" ? value >= 0 && value <= 1 : value > 0);

  // The middle of the runs, in the middle of the slider.
  function start() {
    setLimits();
    for (const name of ["n", "d"]) state[name] = round(name, fromShare(name, limits[name], 0.5));
    state.p = 0.01;
  }

  // The address says where to start: #domain=far&n=1e5&d=5000&p=0.01&along=p
  function readAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const domain = domains.find((one) => one.name === asked.get("domain"));
    if (domain) state.domain = domain;
    for (const name of ["n", "d", "p"]) {
      const value = asked.get(name) === null ? NaN : Number(asked.get(name));
      if (valid(name, value)) state[name] = value;
    }
    if (SYMBOLS[asked.get("along")]) state.along = asked.get("along");
    setLimits();
  }

  function writeAddress() {
    const { domain, n, d, p, along } = state;
    try {
      history.replaceState(null, "", `#${new URLSearchParams({ domain: domain.name, n, d, p, along })}`);
    } catch {
      // Some browsers refuse it for files; the panel does without.
    }
  }

  let asked = false;
  function changed() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      show();
      writeAddress();
    });
  }

  at("domain").replaceChildren(...domains.map((domain) => element("option", { value: domain.name }, domain.name)));
  at("domain").addEventListener("change", () => {
    state.domain = domains.find((domain) => domain.name === at("domain").value) ?? state.domain;
    setLimits();
    changed();
  });
  at("along").addEventListener("change", () => {
    state.along = at("along").value;
    changed();
  });
  for (const name of ["n", "d", "p"]) {
    at(name).addEventListener("input", () => {
      state[name] = round(name, fromShare(name, limits[name], at(name).value / 1000));
      changed();
    });
    at(`${name}-exact`).addEventListener("input", () => {
      const text = at(`${name}-exact`).value.trim();
      const value = text === "" ? NaN : Number(text);
      const good = valid(name, value);
      at(`${name}-exact`).setAttribute("aria-invalid", String(!good));
      if (good) {
        state[name] = value;
        setLimits();
        changed();
      }
    });
    at(`${name}-exact`).addEventListener("blur", changed);
  }
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", () => {
    if (location.hash.includes("=")) {
      readAddress();
      show();
    }
  });
  start();
  readAddress();
  at("panel").hidden = false;
  show();
  if (location.hash.includes("=")) at("predict").scrollIntoView({ behavior: "instant" });
})();
