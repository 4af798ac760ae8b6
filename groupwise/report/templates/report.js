(() => {
  "use strict";
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const cache = new Map();
  const BEHIND = "\u0001";

  // "15-24K:GROCERY" and "GROCERY / EGGS" make "15-24K: GROCERY / EGGS": what a level repeats of its parent is said once
  function nestedName(parent, level) {
    for (let from = 0; from < parent.length; from += 1) {
      const tail = parent.slice(from);
      const starts = from === 0 || parent[from - 1] === ":" || parent.slice(from - 3, from) === " / ";
      if (starts && level.startsWith(`${tail} / `)) return from === 0 ? level : `${parent.slice(0, from).replace(/:$/, ": ")}${level}`;
    }
    return `${parent} / ${level}`;
  }

  // ---- rows of the embedded datasets -------------------------------------------------------------------------------------------
  function rowsOf(name) {
    if (!cache.has(name)) {
      const columns = page.datasets[name] || {};
      const keys = Object.keys(columns);
      const rows = keys.length ? columns[keys[0]].map((_, i) => Object.fromEntries(keys.map((key) => [key, columns[key][i]]))) : [];
      const repeated = new Set(rows.map((row) => row.level)).size < rows.length;
      for (const row of rows) {
        row.label = repeated && row.parent ? nestedName(row.parent, row.level) : row.level;
        row.pooled_by = row.none == null ? null : Math.abs(row.estimate - row.none);
        const mix = row.mix === undefined ? row.none : row.mix;
        row.mixed_by = row.observed == null || mix == null ? null : Math.abs(mix - row.observed);
      }
      cache.set(name, rows);
    }
    return cache.get(name);
  }

  const collator = new Intl.Collator(undefined, { numeric: true });
  function compare(key, direction) {
    return (a, b) => {
      const x = a[key], y = b[key];
      if (x == null || y == null) return (x == null) - (y == null);
      return direction * (typeof x === "string" ? collator.compare(x, y) : x - y);
    };
  }
  function matches(row, query) {
    return !query || [row.label, row.parent, row.product].some((text) => text && text.toLowerCase().includes(query));
  }

  // ---- formats -----------------------------------------------------------------------------------------------------------------
  const significant = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
  const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
  const share = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });
  const signed = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1, signDisplay: "exceptZero" });
  const outcome = page.outcome ? new Intl.NumberFormat(undefined, page.outcome) : significant;
  const formats = {
    text: (value) => value ?? "", outcome: (v) => outcome.format(v), count: (v) => whole.format(v), share: (v) => share.format(v),
    effect: (v) => (page.effects === "percent" ? signed.format(v) : (page.effects === "odds" ? "× " : "") + significant.format(v)),
  };
  const groups = (count) => `${whole.format(count)} group${count === 1 ? "" : "s"}`;
  const show = (format, value) => (value == null ? "" : formats[format](value));

  // ---- which rows a chart shows ------------------------------------------------------------------------------------------------
  function ranked(figure, state) {
    const all = rowsOf(figure.dataset).filter((row) => row.estimate != null);
    const found = all.filter((row) => matches(row, state.query));
    found.sort(compare(state.sort, state.sort === "level" ? 1 : -1));
    let picked = found;
    let words = groups(found.length);
    if (found.length > figure.limit) {
      const half = Math.floor(figure.limit / 2);
      if (state.sort === "estimate") {
        picked = found.slice(0, half).concat(found.slice(-half));
        words = `the ${half} highest and the ${half} lowest of ${groups(found.length)}; the table has the others`;
      } else {
        picked = found.slice(0, figure.limit);
        words = `the first ${figure.limit} of ${groups(found.length)}; the table has the others`;
      }
    }
    // how many units stand behind a level stands beside its name, after a character that no name holds
    const behind = (row) => (figure.members && row.members != null ? `${BEHIND}${whole.format(row.members)} ${figure.members[row.members === 1 ? 0 : 1]}` : "");
    return { rows: picked.map((row, order) => ({ ...row, order, tick: row.label + behind(row) })), words };
  }
  function sampled(figure) {
    const all = rowsOf(figure.dataset).filter((row) => row.estimate != null && row.n > 0).sort(compare("n", -1));
    if (all.length <= figure.limit) return { rows: all, words: groups(all.length) };
    const rows = Array.from({ length: figure.limit }, (_, i) => all[Math.round((i * (all.length - 1)) / (figure.limit - 1))]);
    return { rows, words: `${figure.limit} of ${groups(all.length)}, evenly from the largest to the smallest` };
  }
  function grid(figure, state) {
    const all = rowsOf(figure.dataset);
    const size = new Map();
    for (const row of all) if (matches(row, state.query)) size.set(row.product, (size.get(row.product) || 0) + row.n);
    const products = [...size.entries()].sort((a, b) => b[1] - a[1]).slice(0, figure.limit).map(([product]) => product);
    const order = new Map(products.map((product, i) => [product, i]));
    const positive = all.every((row) => row.estimate > 0 && row.lower > 0);
    const scale = positive ? Math.log : (value) => value;
    const values = all.map((row) => scale(row.estimate));
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const spread = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length) || 1;
    const rows = all.filter((row) => order.has(row.product)).map((row) => ({
      ...row, order: order.get(row.product), certainty: 1 / (1 + ((scale(row.upper) - scale(row.lower)) / (2 * spread)) ** 2),
    }));
    return { rows, words: `${products.length} of ${whole.format(size.size)} product groups` };
  }
  const pickers = { ranked, sampled, grid };

  // ---- charts ------------------------------------------------------------------------------------------------------------------
  async function draw(figure) {
    const place = document.querySelector(`[data-figure="${figure.id}"]`);
    const box = place.closest("figure");
    const state = { query: "", sort: figure.sort };
    const status = box.querySelector('[data-role="status"]');
    const pick = () => {
      const picked = pickers[figure.picker](figure, state);
      if (status) status.textContent = picked.words;
      return picked.rows;
    };
    const spec = { ...figure.spec, config: page.config };
    if (figure.picker !== "none") spec.datasets = { rows: pick() };
    // the page's policy allows neither eval nor styles that are added later: expressions are interpreted, the style sheet has the tooltip
    const options = { actions: false, renderer: "svg", logLevel: 1, ast: true, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
    const { view } = await vegaEmbed(place, spec, options);
    // the place itself is an image with a description; its inside is not read out mark by mark
    place.querySelector("svg").setAttribute("aria-hidden", "true");
    place.dataset.drawn = "true";
    const redraw = async () => {
      // emptied first: with the same labels in another order, Vega would keep the old order of the axis
      await view.data("rows", []).runAsync();
      await view.data("rows", pick()).resize().runAsync();
    };
    const query = box.querySelector('[data-role="query"]');
    const sort = box.querySelector('[data-role="sort"]');
    if (query) query.addEventListener("input", () => { state.query = query.value.trim().toLowerCase(); redraw(); });
    if (sort) sort.addEventListener("change", () => { state.sort = sort.value; redraw(); });
  }
  const breathe = () => new Promise((resolve) => setTimeout(resolve, 0));
  async function drawAll() {
    for (const figure of page.figures) {
      try {
        await draw(figure);
      } catch (error) {
        document.querySelector(`[data-figure="${figure.id}"]`).textContent = `This chart could not be drawn: ${error.message}`;
        console.error(error);
      }
      await breathe();
    }
    document.documentElement.dataset.ready = "true";
  }

  // ---- long tables: rows made here, a page at a time ---------------------------------------------------------------------------
  const STEP = 25;
  function longTable(table) {
    const box = table.closest("details");
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const query = box.querySelector('[data-role="query"]');
    const status = box.querySelector('[data-role="status"]');
    const more = box.querySelector('[data-role="more"]');
    let key = "n", direction = -1, shown = STEP;
    for (const head of heads) if (head.dataset.format !== "text") head.classList.add("number");
    function render() {
      const text = query.value.trim().toLowerCase();
      const found = rowsOf(table.dataset.dataset).filter((row) => matches(row, text)).sort(compare(key, direction));
      body.replaceChildren(...found.slice(0, shown).map((row) => {
        const line = document.createElement("tr");
        heads.forEach((head, i) => {
          const cell = document.createElement(i === 0 ? "th" : "td");
          if (i === 0) cell.scope = "row";
          if (head.dataset.format !== "text") cell.className = "number";
          cell.textContent = show(head.dataset.format, row[head.dataset.key]);
          line.append(cell);
        });
        return line;
      }));
      for (const head of heads) {
        if (head.dataset.key === key) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      }
      status.textContent = `${whole.format(Math.min(shown, found.length))} of ${whole.format(found.length)} rows`;
      more.hidden = found.length <= shown;
    }
    for (const head of heads) {
      head.querySelector("button").addEventListener("click", () => {
        direction = key === head.dataset.key ? -direction : head.dataset.format === "text" ? 1 : -1;
        key = head.dataset.key;
        render();
      });
    }
    query.addEventListener("input", () => { shown = STEP; render(); });
    more.addEventListener("click", () => { shown += 8 * STEP; render(); });
    render();
  }

  // ---- short tables: sorted in place -------------------------------------------------------------------------------------------
  function shortTable(table) {
    const heads = [...table.tHead.rows[0].cells];
    const value = (row, i) => {
      const cell = row.cells[i];
      return cell.dataset.value === undefined ? cell.textContent.trim() || null : Number(cell.dataset.value);
    };
    heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: value(row, i) }));
      rows.sort(compare("key", direction));
      table.tBodies[0].append(...rows.map((entry) => entry.row));
    }));
  }

  // ---- light and dark ----------------------------------------------------------------------------------------------------------
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const tell = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-pressed", String(isDark())); };
  button.addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; tell(); });
  system.addEventListener("change", tell);
  tell();

  document.querySelectorAll("table[data-dataset]").forEach(longTable);
  document.querySelectorAll("table.small").forEach(shortTable);
  drawAll();
})();
