"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const viewer = at("viewer"), panes = at("panes");
  const [first, second] = panes.querySelectorAll(".pane");
  const labels = new Map(data.rows.map((row) => [row.run, row.label]));
  const byKey = new Map(data.images.map((image) => [image.key, image]));
  let listed = data.images, current = null, zoom = 1;

  const file = (run, key) => `images/${encodeURIComponent(run)}/${encodeURIComponent(key)}.png`;
  const sources = data.rows.filter((row) => row.source).map((row) => row.run);
  const methods = data.rows.filter((row) => !row.source).map((row) => row.run);

  const dispute = (image) => ("dispute" in image ? `dispute ${image.dispute}` : "");

  function thumbs() {
    const words = at("find").value.trim().toLowerCase();
    const matches = (image) => image.key.toLowerCase().includes(words)
      || Object.values(image.shown).some((shown) => shown.prompt.toLowerCase().includes(words));
    listed = data.images.filter(matches);
    if (at("order").value === "key") listed = [...listed].sort((a, b) => (a.key < b.key ? -1 : 1));
    const items = listed.map((image) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.key = image.key;
      button.setAttribute("aria-current", String(image === current));
      const picture = document.createElement("img");
      picture.loading = "lazy";
      picture.alt = "";
      picture.src = file(methods.find((run) => image.shown[run]) || Object.keys(image.shown)[0], image.key);
      const note = document.createElement("small");
      note.textContent = dispute(image);
      button.append(picture, image.key, note);
      button.addEventListener("click", () => open(image.key, true));
      const item = document.createElement("li");
      item.append(button);
      return item;
    });
    at("thumbs").replaceChildren(...items);
  }

  function choices(select, wanted) {
    const runs = data.rows.map((row) => row.run).filter((run) => current.shown[run]);
    select.replaceChildren(...runs.map((run) => new Option(labels.get(run), run)));
    select.value = runs.includes(wanted) ? wanted : runs[0];
  }

  function open(key, focus) {
    const [left, right] = [at("left").value || sources.at(-1) || methods[0], at("right").value || methods[0]];
    current = byKey.get(key);
    if (!current) return;
    viewer.hidden = false;
    choices(at("left"), left);
    choices(at("right"), right);
    if (at("left").value === at("right").value) at("right").selectedIndex = (at("left").selectedIndex + 1) % at("right").length;
    at("name").textContent = dispute(current) ? `${key} (${dispute(current)})` : key;
    history.replaceState(null, "", `#${encodeURIComponent(key)}`);
    for (const button of at("thumbs").querySelectorAll("button"))
      button.setAttribute("aria-current", String(button.dataset.key === key));
    show();
    if (focus) at("name").focus();
  }

  function show() {
    const [left, right] = [at("left").value, at("right").value];
    const mode = at("mode").value;
    panes.className = `panes ${mode}`;
    second.hidden = mode !== "side";
    const set = (picture, run) => {
      picture.src = file(run, current.key);
      picture.alt = `${current.key}, ${labels.get(run)}`;
      lay(picture, run);
    };
    set(first.querySelector("img.under"), mode === "side" ? left : right);
    set(first.querySelector("img.over"), left);
    if (mode === "side") set(second.querySelector("img.under"), right);
    explain([["Left", left], ["Right", right]]);
    at("slide").parentElement.hidden = mode !== "slider";
    at("prompt-left").textContent = current.shown[left].prompt || "none";
    at("prompt-right").textContent = current.shown[right].prompt || "none";
    at("values").replaceChildren(...[left, right].map((run) => {
      const row = document.createElement("tr"), head = document.createElement("th");
      head.scope = "row";
      head.textContent = labels.get(run);
      row.append(head, ...current.shown[run].values.map((value) => {
        const cell = document.createElement("td");
        cell.textContent = value;
        return cell;
      }));
      return row;
    }));
  }

  // What was asked for last, per layer: an image may finish loading after the reader went on.
  const turns = new Map();
  const chosen = (id) => data.overlays.find((one) => String(one.number) === at(id).value);
  const layers = () => [chosen("overlay"), chosen("truth")].filter(Boolean);
  // Labels belong to an image, whoever fused it.
  const found = (one, run) => (one.truth ? current.labels : current.shown[run].found)[one.number];
  const boxes = (one, run) => found(one, run).filter((box) => one.truth || box[5] >= Number(at("least").value));
  const classOf = (one, number) => one.classes[number] || { name: `class ${number}`, colour: "#ffffff" };

  function bright(colour) {
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return 0.299 * red + 0.587 * green + 0.114 * blue > 120;
  }

  function mask(one, run) {
    const picture = document.createElement("img");
    const folder = one.truth ? found(one, run) : run;
    picture.alt = "";
    picture.classList.toggle("truth", one.truth);
    picture.src = `masks/${one.number}/${encodeURIComponent(folder)}/${encodeURIComponent(current.key)}.png`;
    return picture;
  }

  function frame(one, [x1, y1, x2, y2, number, score], width, height) {
    const { name, colour } = classOf(one, number);
    const box = document.createElement("div"), tag = document.createElement("span");
    box.style.cssText = `left:${100 * x1 / width}%;top:${100 * y1 / height}%;width:${100 * (x2 - x1) / width}%;height:${100 * (y2 - y1) / height}%`;
    box.style.setProperty("--colour", colour);
    box.style.setProperty("--letters", bright(colour) ? "#000" : "#fff");
    box.classList.toggle("truth", one.truth);
    // Names stand above predictions and below labels, within the box where the image ends.
    box.classList.toggle("inside", one.truth ? y2 / height > 0.94 : y1 / height < 0.06);
    box.classList.toggle("end", x1 / width > 0.75);
    tag.textContent = one.truth ? name : `${name} ${score.toFixed(2)}`;
    box.append(tag);
    return box;
  }

  // Draws what was found in an image, and its labels, over it; boxes are placed in per cent, so that they follow every
  // zoom.
  function lay(picture, run) {
    const layer = picture.nextElementSibling, turn = {};
    turns.set(layer, turn);
    layer.replaceChildren();
    const drawn = layers().filter((one) => found(one, run));
    layer.append(...drawn.filter((one) => one.kind === "mask").map((one) => mask(one, run)));
    const framed = drawn.filter((one) => one.kind === "boxes");
    const place = () => {
      if (turns.get(layer) !== turn) return;
      const [width, height] = [picture.naturalWidth, picture.naturalHeight];
      for (const one of framed)
        layer.append(...boxes(one, run).reverse().map((box) => frame(one, box, width, height)));
    };
    if (!framed.length) return;
    if (picture.complete && picture.naturalWidth) place();
    else picture.addEventListener("load", place, { once: true });
  }

  // The same in words, and what the colours mean.
  function explain(sides) {
    const seen = new Map(layers().map((one) => [one, new Set()]));
    const counted = (one, run) => {
      const counts = new Map();
      for (const box of boxes(one, run)) counts.set(box[4], (counts.get(box[4]) || 0) + 1);
      for (const number of counts.keys()) seen.get(one).add(number);
      const listed = [...counts].sort(([a], [b]) => a - b).map(([number, times]) => `${times} × ${classOf(one, number).name}`);
      return listed.join(", ") || "no object";
    };
    const said = (one, who, run) => {
      if (!found(one, run)) return `${who}: nothing stored.`;
      return one.kind === "mask" ? "" : `${who}: ${counted(one, run)}.`;
    };
    const words = layers().flatMap((one) => one.truth ? [said(one, "Labels", "")] : sides.map(([side, run]) => said(one, side, run)));
    at("least-choice").hidden = chosen("overlay")?.kind !== "boxes";
    at("found").textContent = words.filter(Boolean).join(" ");
    const items = layers().flatMap((one) => one.classes
      .filter(({ shown }, number) => shown && (one.kind === "mask" || seen.get(one).has(number)))
      .map(({ name, colour }) => {
        const item = document.createElement("li"), swatch = document.createElement("span");
        swatch.style.setProperty("--colour", colour);
        swatch.className = one.truth ? `truth ${one.kind}` : one.kind;
        item.append(swatch, one.truth ? `${name} (label)` : name);
        return item;
      }));
    at("legend").replaceChildren(...items);
  }

  function cut(percent) {
    const value = Math.min(100, Math.max(0, percent));
    at("slide").value = value;
    first.querySelector(".stage").style.setProperty("--cut", `${value}%`);
  }

  function scale(factor) {
    const centre = [first.scrollLeft + first.clientWidth / 2, first.scrollTop + first.clientHeight / 2];
    const before = zoom;
    zoom = Math.min(16, Math.max(1, zoom * factor));
    for (const stage of panes.querySelectorAll(".stage")) stage.style.width = `${100 * zoom}%`;
    at("zoom").value = `${Math.round(100 * zoom)} %`;
    first.scrollTo(centre[0] * zoom / before - first.clientWidth / 2, centre[1] * zoom / before - first.clientHeight / 2);
  }

  function step(by) {
    if (!listed.length) return;
    const now = listed.indexOf(current);
    open(listed[(Math.max(now, 0) + by + listed.length) % listed.length].key, false);
  }

  function swap() {
    const [left, right] = [at("left").value, at("right").value];
    at("left").value = right;
    at("right").value = left;
    show();
  }

  const handle = first.querySelector(".handle");
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const box = handle.parentElement.getBoundingClientRect();
    cut(100 * (event.clientX - box.left) / box.width);
  });
  at("slide").addEventListener("input", () => cut(Number(at("slide").value)));
  // Both panes show the same part: whichever is scrolled leads the other.
  const follow = (from, to) => from.addEventListener("scroll", () => {
    if (to.scrollLeft !== from.scrollLeft || to.scrollTop !== from.scrollTop) to.scrollTo(from.scrollLeft, from.scrollTop);
  });
  follow(first, second);
  follow(second, first);
  for (const id of ["overlay", "truth"]) {
    const offered = data.overlays.filter((one) => one.truth === (id === "truth"));
    at(id).append(...offered.map((one) => new Option(one.title, one.number)));
    at(`${id}-choice`).hidden = !offered.length;
  }
  const next = (id) => { at(id).selectedIndex = (at(id).selectedIndex + 1) % at(id).length; show(); };
  for (const id of ["left", "right", "mode", "overlay", "truth", "least"]) at(id).addEventListener("change", show);
  at("swap").addEventListener("click", swap);
  at("in").addEventListener("click", () => scale(1.5));
  at("out").addEventListener("click", () => scale(1 / 1.5));
  at("next").addEventListener("click", () => step(1));
  at("previous").addEventListener("click", () => step(-1));
  at("order").addEventListener("change", thumbs);
  at("find").addEventListener("input", thumbs);
  panes.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    scale(event.deltaY < 0 ? 1.2 : 1 / 1.2);
  }, { passive: false });
  const keys = {
    n: () => step(1), p: () => step(-1), s: swap, "+": () => scale(1.5), "=": () => scale(1.5), "-": () => scale(1 / 1.5),
    d: () => { at("mode").value = at("mode").value === "difference" ? "slider" : "difference"; show(); },
    o: () => next("overlay"), l: () => next("truth"),
  };
  document.addEventListener("keydown", (event) => {
    if (!current || event.ctrlKey || event.metaKey || event.altKey || /^(SELECT|TEXTAREA)$/.test(event.target.tagName)
      || (event.target.tagName === "INPUT" && event.target.type !== "range")) return;
    const act = keys[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  thumbs();
  cut(50);
  if (location.hash.length > 1) open(decodeURIComponent(location.hash.slice(1)), false);
})();
