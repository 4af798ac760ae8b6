// Page 2: categories under partial pooling, for a tau and a number of line items that the reader moves. No library, nothing fetched.
(() => {
  const box = document.querySelector("[data-pooling]");
  if (!box) return;
  const { groups, tau: fitted, sigma } = JSON.parse(box.querySelector("[data-groups]").textContent);
  const [tau, times] = ["tau", "times"].map((name) => box.querySelector(`[data-input="${name}"]`));
  const shown = (name, text) => { box.querySelector(`[data-shown="${name}"]`).textContent = text; };
  const ROW = 26, LEFT = 8, top = Math.max(...groups.map((group) => group.mean)) * 1.05;

  // With variance v of each group's own mean, the common mean weighs every group by 1 / (tau^2 + v).
  const pooled = (t, factor) => {
    const own = groups.map((group) => sigma ** 2 / (group.n * factor));
    const weights = own.map((v) => 1 / (t ** 2 + v));
    const common = groups.reduce((sum, group, j) => sum + weights[j] * group.mean, 0) / weights.reduce((sum, w) => sum + w, 0);
    return { common, share: own.map((v) => v / (t ** 2 + v)) };
  };

  const draw = () => {
    const t = Number(tau.value), factor = 2 ** Number(times.value);
    const { common, share } = pooled(t, factor);
    const width = Math.max(280, box.clientWidth - 34), x = (value) => LEFT + (value / top) * (width - 2 * LEFT);
    const rows = groups.map((group, j) => {
      const y = 14 + ROW * j + 12, estimate = group.mean + share[j] * (common - group.mean);
      const n = Math.max(1, Math.round(group.n * factor));
      return `<text x="0" y="${y - 9}" font-size="12">${group.name.replace("&", "&amp;")} · ${n}</text>`
        + `<line x1="${x(group.mean)}" x2="${x(estimate)}" y1="${y}" y2="${y}" stroke="var(--muted)"/>`
        + `<rect x="${x(group.mean) - 4}" y="${y - 4}" width="8" height="8" transform="rotate(45 ${x(group.mean)} ${y})" fill="var(--none)"/>`
        + `<circle cx="${x(estimate)}" cy="${y}" r="5" fill="var(--partial)"/>`;
    });
    const height = ROW * groups.length + 20;
    box.querySelector("[data-chart]").innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Own mean (diamond) and pooled estimate (circle) of every category">`
      + `<line x1="${x(common)}" x2="${x(common)}" y1="0" y2="${height}" stroke="var(--complete)" stroke-dasharray="5 4"/>${rows.join("")}</svg>`;
    shown("tau", `$${t.toFixed(2)}${Math.abs(t - fitted) < 0.006 ? " (as estimated)" : ""}`);
    shown("times", String(factor >= 1 ? factor : Math.round(factor * 1000) / 1000));
    const percent = (value) => `${Math.round(100 * value)} %`;
    box.querySelector("[data-said]").textContent = `Common mean $${common.toFixed(2)}. Shrinkage: ${groups[0].name} ${percent(share[0])}, `
      + `${groups.at(-1).name} ${percent(share.at(-1))}.`;
  };

  tau.value = fitted;
  [tau, times].forEach((input) => input.addEventListener("input", draw));
  window.addEventListener("resize", draw);
  draw();
})();
