"use strict";
(() => {
  const runs = JSON.parse(document.getElementById("facts").textContent);
  const root = document.documentElement;
  const charts = [];
  const unitNames = { usd: "USD", s: "device-seconds", flops: "FLOPs" };

  const css = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)}%`;
  const number = (value) => {
    if (value === null || value === undefined) return "-";
    const size = Math.abs(value);
    if (size >= 1e7) return value.toExponential(2).replace("e+", "e");
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(3)));
  };
  const escaped = (text) =>
    String(text).replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`);
  const clock = (s) =>
    s < 120 ? `${number(s)} s` : s < 7200 ? `${number(s / 60)} min` : `${number(s / 3600)} h`;

  // Everything that the charts have in common.
  const base = (more) => ({
    animation: false,
    aria: { enabled: true },
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: css("text") },
    grid: { left: 8, right: 18, top: 34, bottom: 8, containLabel: true },
    legend: { top: 0, left: 0, itemWidth: 14, itemHeight: 9, textStyle: { color: css("quiet") } },
    tooltip: {
      trigger: "axis", confine: true, backgroundColor: css("card"), borderColor: css("line"),
      textStyle: { color: css("text"), fontSize: 12.5 },
    },
    ...more,
  });
  const axis = (more) => ({
    type: "value", nameLocation: "middle", nameGap: 30, nameTextStyle: { color: css("quiet") },
    axisLine: { lineStyle: { color: css("line") } }, axisTick: { show: false },
    axisLabel: { color: css("quiet"), hideOverlap: true },
    splitLine: { lineStyle: { color: css("line"), opacity: 0.7 } }, ...more,
  });
  const shares = (more) => axis({ axisLabel: { color: css("quiet"), formatter: (v) => percent(v, 0) }, ...more });

  const cost = (point, unit) => (point.costs[`small_${unit}`] + point.costs[`large_${unit}`]) * 1000;
  const ofRun = (run) => {
    const at = run.points.findIndex((one) => Math.abs(one.threshold - run.settings.threshold) < 1e-6);
    return at >= 0 ? at : run.points.length - 1;
  };
  const unitOf = (run) => run.unit || (run.money.rows_usd === null ? "s" : "usd");
  const large = (run, unit) => {
    const only = run.money.large_only;
    const name = { usd: "usd", s: "device_s", flops: "flops" }[unit];
    return only && only[name] ? only[name].map((one) => one * 1000) : null;
  };
  const dot = (value, colour, label, more) => ({
    name: label, type: "scatter", data: [value], symbolSize: 11,
    itemStyle: { color: colour, borderColor: css("card"), borderWidth: 2 },
    label: { show: true, formatter: label, position: "right", color: css("quiet"), fontSize: 12 },
    ...more,
  });

  const frontier = (run) => {
    const unit = unitOf(run);
    const xy = (one, which) => [cost(one, unit), one.quality[which], one.threshold];
    const known = run.points.filter((one) => one.quality);
    const of = (bases) => known.filter((one) => bases.includes(one.basis));
    const measured = of(["measured"]);
    const probed = of(["probed"]);
    const joined = measured.length && probed.length ? [measured[measured.length - 1], ...probed] : probed;
    const line = (name, points, which, style, colour) => ({
      name, type: "line", showSymbol: false, data: points.map((one) => xy(one, which)),
      lineStyle: { color: colour, ...style }, itemStyle: { color: colour }, silent: which !== "value",
    });
    const here = run.points[run.at];
    const series = [
      line("measured", measured, "value", { width: 2.6 }, css("small")),
      line("estimated on probed records", joined, "value", { width: 2.2, type: "dashed" }, css("large")),
    ];
    for (const which of ["low", "high"]) {
      series.push(line("95 % interval", measured, which, { width: 1, opacity: 0.45 }, css("small")));
      series.push(line("95 % interval", joined, which, { width: 1, opacity: 0.45, type: "dashed" }, css("large")));
    }
    const modelled = run.points.filter((one) => !one.quality);
    if (modelled.length && known.length) {
      const from = cost(modelled[0], unit), to = cost(modelled[modelled.length - 1], unit);
      series[0].markArea = {
        silent: true, itemStyle: { color: css("rest"), opacity: 0.5 },
        label: { color: css("quiet"), formatter: "quality unknown", position: "insideTop" },
        data: [[{ xAxis: from }, { xAxis: to }]],
      };
    }
    if (known.length) series.push(dot(xy(run.points[0], "value"), css("quiet"), "small only", { symbolSize: 8 }));
    const only = large(run, unit);
    if (only && run.quality.large) {
      const at = [(only[0] + only[1]) / 2, run.quality.large.value];
      series.push(dot(at, css("quiet"), "large only", { symbol: "diamond", label: { show: true, formatter: "large only", position: "left", color: css("quiet") } }));
    }
    const own = run.points[ofRun(run)];
    if (own.quality) series.push(dot(xy(own, "value"), css("text"), "this run", { symbolSize: 8, label: { show: true, formatter: "this run", position: "left", distance: 12, color: css("quiet") } }));
    if (here.quality) series.push(dot(xy(here, "value"), css("accent"), "chosen", { symbolSize: 18, label: { show: false }, z: 9 }));
    else if (modelled.length) series[0].markLine = { symbol: "none", silent: true, lineStyle: { color: css("accent"), width: 2, type: "solid" }, label: { show: false }, data: [{ xAxis: cost(here, unit) }] };
    return base({
      grid: { left: 20, right: 30, top: 34, bottom: 34, containLabel: true },
      legend: { top: 0, left: 0, itemWidth: 22, itemHeight: 9, textStyle: { color: css("quiet") }, data: ["measured", "estimated on probed records"] },
      tooltip: {
        ...base().tooltip, trigger: "item",
        formatter: (one) => `${escaped(one.seriesName)}<br>${number(one.value[0])} ${unitNames[unit]} / 1k<br>${percent(one.value[1])}${one.value[2] === undefined ? "" : `<br>threshold ${number(one.value[2])}`}`,
      },
      xAxis: axis({ name: `cost of 1k records, ${unit === "usd" ? run.prices : unitNames[unit]}`, scale: true, axisLabel: { color: css("quiet"), formatter: number, hideOverlap: true } }),
      yAxis: shares({ scale: true, name: run.quality_name, nameGap: 46 }),
      series,
    });
  };

  const scores = (run) => {
    const found = run.histogram;
    const middle = (i) => (found.edges[i] + found.edges[i + 1]) / 2;
    const unknown = found.rows.map((rows, i) => Math.max(0, rows - found.right[i] - found.wrong[i]));
    const bars = (name, values, colour) => ({
      name, type: "bar", stack: "rows", barWidth: "92%", itemStyle: { color: colour },
      data: values.map((value, i) => [middle(i), value]),
    });
    const at = Math.min(1, run.points.length ? run.points[run.at].threshold : 1);
    const series = [
      bars(`small answer ${run.right_name}`, found.right, css("small")),
      bars("not so", found.wrong, css("wrong")),
    ];
    if (unknown.some((one) => one > 0.5)) series.push(bars("not judged", unknown, css("idle")));
    const mark = (x, colour, type, label) => ({
      xAxis: x, lineStyle: { color: colour, width: 2, type },
      label: { formatter: label, color: colour, rotate: 0, position: "end", distance: 3 },
    });
    series[0].markLine = {
      symbol: "none", silent: true,
      data: run.points.length ? [mark(run.settings.threshold, css("quiet"), "dotted", "this run"), mark(at, css("accent"), "solid", "")] : [],
    };
    series[0].markArea = { silent: true, itemStyle: { color: css("large"), opacity: 0.07 }, data: [[{ xAxis: 0 }, { xAxis: at }]] };
    return base({
      xAxis: axis({ min: 0, max: 1, splitLine: { show: false } }),
      yAxis: axis({ axisLabel: { color: css("quiet"), formatter: number } }),
      series,
    });
  };

  const bars = (rows, parts, format) => base({
    tooltip: { ...base().tooltip, axisPointer: { type: "none" }, valueFormatter: format },
    xAxis: axis({ splitLine: { show: false }, axisLabel: { color: css("quiet"), formatter: number, hideOverlap: true } }),
    yAxis: axis({ type: "category", inverse: true, data: rows.map((one) => one.name), axisLabel: { color: css("text") } }),
    series: parts.map(([key, name, colour]) => ({
      name, type: "bar", stack: "parts", barMaxWidth: 30, itemStyle: { color: css(colour), borderColor: css("card"), borderWidth: 1 },
      data: rows.map((one) => one.parts[key] || 0),
    })),
  });
  const costParts = [["small", "small model", "small"], ["large", "large model", "large"], ["overhead", "all else", "idle"]];
  const costRow = (run) => ({ name: run.name, parts: run.money.per_1k_records || {} });
  const parts = (run) => bars([{ ...costRow(run), name: "1k records" }], costParts, (v) => `${number(v)} USD`);
  const sides = () => bars(runs.map(costRow), costParts, (v) => `${number(v)} USD`);
  const pools = (run) => bars(
    Object.entries(run.money.pools).map(([name, one]) => ({ name, parts: one.parts_s })),
    [["rows", "rows", "small"], ["probe", "probe", "probe"], ["startup", "start-up", "startup"], ["idle", "idle", "rest"], ["recomputed", "recomputed", "lost"]],
    (v) => `${number(v)} device-seconds`,
  );

  const retention = (run) => base({
    legend: { show: false },
    grid: { left: 8, right: 18, top: 10, bottom: 30, containLabel: true },
    xAxis: shares({ min: 0, max: 1, name: "average retention", nameGap: 26, splitLine: { show: false } }),
    yAxis: axis({ axisLabel: { color: css("quiet"), formatter: number } }),
    series: [{ name: "records", type: "bar", barWidth: "90%", itemStyle: { color: css("large") }, data: run.retention.rows.map((n, i) => [(run.retention.edges[i] + run.retention.edges[i + 1]) / 2, n]) }],
  });

  // Over time: steps of the run that was chosen.
  const timed = (run, lines, second) => {
    const chosen = run.timeline[run.chosen === undefined ? run.timeline.length - 1 : run.chosen];
    const at = (i) => (i + 0.5) * chosen.step_s;
    const series = lines(chosen).map(([name, values, colour, more]) => ({
      name, type: "line", showSymbol: false, connectNulls: true, lineStyle: { width: 2 },
      itemStyle: { color: css(colour) }, data: values.map((value, i) => [at(i), value]), ...more,
    }));
    return base({
      xAxis: axis({ min: 0, max: chosen.rows.length * chosen.step_s, splitLine: { show: false }, axisLabel: { color: css("quiet"), formatter: clock, hideOverlap: true } }),
      yAxis: [shares({ min: 0 }), ...(second ? [axis({ splitLine: { show: false }, axisLabel: { color: css("quiet"), formatter: number } })] : [])],
      tooltip: { ...base().tooltip, formatter: (some) => `${clock(some[0].value[0])}<br>${some.map((one) => `${one.marker}${escaped(one.seriesName)}: ${one.value[1] === null ? "-" : one.seriesIndex === 1 && second ? number(one.value[1]) : percent(one.value[1])}`).join("<br>")}` },
      series,
    });
  };
  const roles = (of) => Object.entries(of).map(([role, values]) => [`${role} model`, values, role]);
  const escalation = (run) => timed(run, (one) => [
    ["escalated", one.escalation, "large"],
    ["rows per second", one.rows.map((n) => n / one.step_s), "small-soft", { yAxisIndex: 1, lineStyle: { width: 1.4, type: "dashed" } }],
  ], true);
  const fill = (run) => timed(run, (one) => roles(one.fill));
  const busy = (run) => timed(run, (one) => roles(one.busy));

  const fronts = () => {
    const colours = ["accent", "large", "small", "probe", "lost"];
    const unit = runs.every((run) => run.money.rows_usd !== null) ? "usd" : "s";
    return base({
      grid: { left: 20, right: 30, top: 34, bottom: 34, containLabel: true },
      tooltip: { ...base().tooltip, trigger: "item", formatter: (one) => `${escaped(one.seriesName)}<br>${number(one.value[0])} ${unitNames[unit]} / 1k<br>${percent(one.value[1])}` },
      xAxis: axis({ name: `cost of 1k records, ${unitNames[unit]}`, scale: true, axisLabel: { color: css("quiet"), formatter: number, hideOverlap: true } }),
      yAxis: shares({ scale: true }),
      series: runs.flatMap((run, i) => {
        const colour = css(colours[i % colours.length]);
        const known = run.points.filter((one) => one.quality);
        const xy = (one) => [cost(one, unit), one.quality.value];
        const line = { name: run.name, type: "line", showSymbol: false, itemStyle: { color: colour }, data: known.map(xy) };
        const own = run.points.length ? run.points[ofRun(run)] : null;
        return own && own.quality ? [line, dot(xy(own), colour, run.name, { label: { show: false }, symbolSize: 14 })] : [line];
      }),
    });
  };

  const options = { frontier, scores, parts, pools, retention, escalation, fill, busy, fronts, sides };

  const draw = (one) => {
    if (one.element.offsetParent === null) return;
    if (!one.chart) one.chart = echarts.init(one.element, null, { renderer: "svg" });
    one.chart.setOption(options[one.kind](one.run), { notMerge: true });
    one.chart.resize();
  };
  const drawAll = (kinds, run) => charts
    .filter((one) => (!kinds || kinds.includes(one.kind)) && (!run || one.run === run))
    .forEach(draw);

  // The slider.
  const basisNotes = {
    measured: "both answers of every record are there",
    unknown: "the large model was not asked, and nothing was probed",
  };
  const tell = (run, card) => {
    const point = run.points[run.at];
    const own = run.points[ofRun(run)];
    const unit = unitOf(run);
    const set = (name, text) => { card.querySelector(`[data-out="${name}"]`).textContent = text; };
    const change = (now, then, format) => {
      const by = now - then;
      return Math.abs(by) < 1e-12 ? "as in this run" : `${by > 0 ? "+" : "-"}${format(Math.abs(by))} to this run`;
    };
    set("threshold", point.threshold > 1 ? "above 1" : String(Number(point.threshold.toFixed(4))));
    const quality = point.quality;
    set("quality", quality ? percent(quality.value) : "unknown");
    const bounds = quality ? `95 %: ${percent(quality.low)} to ${percent(quality.high)}` : "";
    const points = quality && own.quality ? change(quality.value, own.quality.value, (v) => `${(v * 100).toFixed(1)} points`) : "";
    set("quality-note", [bounds, points].filter(Boolean).join("; "));
    set("cost", number(cost(point, unit)));
    const only = large(run, unit);
    const against = only ? `; ${percent(cost(point, unit) / only[0], 0)} of large only` : "";
    const names = unit === "usd" ? run.prices : unitNames[unit];
    set("cost-note", `${names}; ${change(cost(point, unit) / cost(own, unit), 1, (v) => percent(v))}${against}`);
    set("escalated", percent(point.escalated));
    set("escalated-note", change(point.escalated, own.escalated, (v) => `${(v * 100).toFixed(1)} points`));
    const basis = point.basis === "measured" && point.modelled > 0 ? "probed" : point.basis;
    set("basis", { measured: "measured", probed: "estimated", unknown: "cost modelled" }[basis]);
    card.querySelector("[data-out=basis]").dataset.basis = basis;
    set("basis-note", basisNotes[basis] || `${percent(point.modelled)} of the records: cost modelled, quality from the probe`);
    const slider = card.querySelector("[data-threshold]");
    slider.value = String(run.at);
    slider.setAttribute("aria-valuetext", `threshold ${number(point.threshold)}, ${percent(point.escalated)} escalated`);
  };

  document.querySelectorAll("section.run").forEach((section) => {
    const run = runs[Number(section.dataset.run)];
    section.querySelectorAll("[data-chart]").forEach((element) => {
      charts.push({ element, kind: element.dataset.chart, run });
    });
    const card = section.querySelector("[data-slider]");
    if (run) run.at = run.points.length ? ofRun(run) : 0;
    if (card) {
      const moved = (at) => {
        run.at = at;
        tell(run, card);
        drawAll(["frontier", "scores"], run);
      };
      card.querySelector("[data-threshold]").addEventListener("input", (event) => moved(Number(event.target.value)));
      card.querySelector("[data-back]").addEventListener("click", () => moved(ofRun(run)));
      card.querySelectorAll(".units input").forEach((input) => input.addEventListener("change", () => {
        run.unit = input.value;
        moved(run.at);
      }));
      tell(run, card);
    }
    const choice = section.querySelector("[data-run-choice]");
    if (choice) choice.addEventListener("change", () => {
      run.chosen = Number(choice.value);
      drawAll(["escalation", "fill", "busy"], run);
    });
  });

  // One run at a time, where there are several.
  const tabs = [...document.querySelectorAll("[data-show]")];
  const show = (name) => {
    tabs.forEach((tab) => tab.setAttribute("aria-pressed", String(tab.dataset.show === name)));
    document.querySelectorAll("section.run").forEach((one) => { one.hidden = one.dataset.run !== name; });
    drawAll();
  };
  tabs.forEach((tab) => tab.addEventListener("click", () => show(tab.dataset.show)));

  const theme = (name) => { root.dataset.theme = name; drawAll(); };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  root.dataset.theme = dark.matches ? "dark" : "light";
  dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
  document.querySelector("[data-theme-switch]").addEventListener("click", () => theme(root.dataset.theme === "dark" ? "light" : "dark"));

  let shown = null;
  window.addEventListener("beforeprint", () => {
    shown = root.dataset.theme;
    document.querySelectorAll("section.run").forEach((one) => { one.dataset.was = one.hidden; one.hidden = false; });
    theme("light");
  });
  window.addEventListener("afterprint", () => {
    document.querySelectorAll("section.run").forEach((one) => { one.hidden = one.dataset.was === "true"; });
    theme(shown);
  });
  window.addEventListener("resize", () => charts.forEach((one) => one.chart && one.chart.resize()));
  if (tabs.length) show(tabs[0].dataset.show);
  else drawAll();
})();
