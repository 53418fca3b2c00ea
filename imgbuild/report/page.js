"use strict";
// What a reader gets more with JavaScript: a theme of choice, sorted tables, directories that open, keys for pictures, a search in logs.
// All that is shown is in the page already; text is only ever set as text.
(() => {
  const root = document.documentElement;
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  root.classList.add("scripted");

  // Theme: what the system has, or what was chosen; remembered where the browser lets a file remember.
  const themes = ["auto", "light", "dark"];
  const theme = one("#theme");
  const dress = (name) => {
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    theme.textContent = `Theme: ${name}`;
  };
  let chosen = "auto";
  try { chosen = localStorage.getItem("imgbuild-theme") || "auto"; } catch { /* no memory */ }
  dress(themes.includes(chosen) ? chosen : "auto");
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % themes.length];
    dress(next);
    try { localStorage.setItem("imgbuild-theme", next); } catch { /* no memory */ }
  });

  // Arrow keys among things in a plane: the nearest one in that direction. One of them is in the order of Tab.
  const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const center = (thing) => {
    const box = thing.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const nearest = (things, from, [dx, dy]) => {
    const [x, y] = center(from);
    let best = null, least = Infinity;
    for (const thing of things) {
      const [to_x, to_y] = center(thing);
      const along = (to_x - x) * dx + (to_y - y) * dy;
      const across = Math.abs((to_x - x) * dy) + Math.abs((to_y - y) * dx);
      if (thing === from || along <= 1) continue;
      if (along + 2.5 * across < least) [best, least] = [thing, along + 2.5 * across];
    }
    return best;
  };
  const rove = (things, to, focus) => {
    for (const thing of things) thing.setAttribute("tabindex", thing === to ? "0" : "-1");
    if (focus) to.focus();
  };
  const arrows = (frame, things) => frame.addEventListener("keydown", (event) => {
    const found = things();
    const at = found.find((thing) => thing === document.activeElement);
    if (!at) return;
    let to = null;
    if (event.key in directions) to = nearest(found, at, directions[event.key]) || at;
    else if (event.key === "Home") to = found[0];
    else if (event.key === "End") to = found[found.length - 1];
    if (!to) return;
    event.preventDefault();
    rove(found, to, true);
    to.scrollIntoView({ block: "nearest", inline: "nearest" });
  });

  const picture = one("#graph-svg");
  if (picture) {
    const nodes = all("a.node", picture);
    if (nodes.length) rove(nodes, nodes[0], false);
    arrows(picture, () => nodes);
    picture.addEventListener("focusin", (event) => nodes.includes(event.target) && rove(nodes, event.target, false));
  }

  // Links to rows and logs: open what is closed, and go on from there with the keyboard.
  const show = () => {
    let target = null;
    try { target = location.hash && one(`#${CSS.escape(decodeURIComponent(location.hash.slice(1)))}`); } catch { /* no such place */ }
    if (!target) return;
    if (target.tagName === "DETAILS") target.open = true;
    const to = target.tagName === "DETAILS" ? one("summary", target) : target.hasAttribute("tabindex") ? target : null;
    if (to) to.focus({ preventScroll: true });
    target.scrollIntoView({ block: target.tagName === "TR" ? "center" : "start" });
  };
  addEventListener("hashchange", show);
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a[href^='#']");
    const goes = link && (link.getAttribute("href") || "");
    if (goes && goes === location.hash) show(); // the place has not changed, so nobody would say so
  });
  show();

  // Tables that sort by the column whose head is pressed.
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    const body = one("tbody", table);
    heads.forEach((head, column) => {
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      if (column === 0) head.setAttribute("aria-sort", "ascending");
      button.addEventListener("click", () => {
        const number = head.dataset.sort === "number" || column === 0;
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : head.dataset.sort === "number";
        const value = (row) => row.children[column].dataset.v;
        const compare = (a, b) => {
          const [x, y] = [value(a), value(b)];
          if (x === "" || y === "") return (x === "") - (y === "");
          const order = number ? Number(x) - Number(y) : x < y ? -1 : x > y ? 1 : 0;
          return down ? -order : order;
        };
        body.append(...[...body.rows].sort(compare));
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
      });
      button.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        const to = step && heads[column + step];
        if (!to) return;
        event.preventDefault();
        one("button", to).focus();
      });
    });
  }

  // The treemap: [name, bytes, files, what is in it].
  const NAME = 0, SIZE = 1, COUNT = 2, INSIDE = 3;
  const units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
  const sized = (size) => {
    let exponent = 0;
    for (; size >= 999.5 && exponent < units.length - 1; exponent++) size /= 1000;
    return `${size.toFixed(exponent === 0 || size >= 99.95 ? 0 : 1)} ${units[exponent]}`;
  };
  const named = (item) => item[NAME] || `${item[COUNT].toLocaleString("en")} others`;
  const inside = (item) => (Array.isArray(item[INSIDE]) ? item[INSIDE].filter((child) => child[SIZE] > 0).sort((a, b) => b[SIZE] - a[SIZE]) : []);

  const within = (item) => { // what is shown inside of an area: not a directory that is all of it
    let found = inside(item);
    while (found.length === 1 && inside(found[0]).length) found = inside(found[0]);
    return found;
  };

  // As imgbuild.report.squarify, for the room that there is.
  const squarify = (sizes, [x, y, width, height]) => {
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const areas = sizes.map((size) => size * width * height / total);
    const worst = (largest, smallest, taken, side) => Math.max(side * side * largest / (taken * taken), taken * taken / (side * side * smallest));
    const found = [];
    for (let at = 0; at < areas.length;) {
      const side = Math.min(width, height);
      let end = at + 1, taken = areas[at];
      while (end < areas.length && worst(areas[at], areas[end], taken + areas[end], side) <= worst(areas[at], areas[end - 1], taken, side)) taken += areas[end++];
      const thick = side > 0 ? Math.min(taken / side, Math.max(width, height)) : 0;
      let along = 0;
      for (const area of areas.slice(at, end)) {
        const long = taken > 0 ? side * area / taken : 0;
        found.push(width >= height ? [x, y + along, thick, long] : [x + along, y, long, thick]);
        along += long;
      }
      if (width >= height) [x, width] = [x + thick, Math.max(0, width - thick)];
      else [y, height] = [y + thick, Math.max(0, height - thick)];
      at = end;
    }
    return found;
  };

  const frame = one("#treemap");
  if (frame) {
    const whole = JSON.parse(one("#files").textContent);
    const crumbs = one("#crumbs");
    let path = [whole];
    let shown = [];
    const put = (thing, [x, y, width, height]) => {
      Object.assign(thing.style, { left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` });
      return thing;
    };
    const layerOf = (item) => Number.parseInt(item[NAME], 10) % 8;
    const tile = (item, place, color) => {
      const opens = inside(item).length > 0;
      const share = 100 * item[SIZE] / whole[SIZE];
      const facts = `${sized(item[SIZE])}, ${share < 1 ? "< 1" : share.toFixed(0)} %, ${item[COUNT].toLocaleString("en")} ${item[COUNT] === 1 ? "file" : "files"}`;
      const made = put(make("button", { type: "button", class: `tile a${color}${opens ? " opens" : ""}`, tabindex: "-1", "aria-label": `${named(item)}: ${facts}${opens ? "; opens" : ""}`, title: `${named(item)}\n${facts}` }), place);
      const [, , width, height] = place;
      if (width > 34 && height > 18) made.append(make("span", {}, named(item)));
      if (width > 70 && height > 36) made.append(make("span", {}, sized(item[SIZE])));
      if (opens && width > 60 && height > 70) {
        const children = within(item);
        const places = squarify(children.map((child) => child[SIZE]), [2, 36, width - 6, height - 40]);
        children.forEach((child, index) => {
          const [, , w, h] = places[index];
          if (w < 3 || h < 3) return;
          made.append(put(make("i", {}, w > 40 && h > 14 ? named(child) : ""), places[index]));
        });
      }
      made.addEventListener("click", () => opens && open(item));
      return made;
    };
    const draw = (focus) => {
      const here = path[path.length - 1];
      const width = frame.clientWidth;
      const height = Math.round(Math.max(280, Math.min(560, width * 0.5)));
      frame.style.height = `${height}px`;
      const items = inside(here);
      const places = squarify(items.map((item) => item[SIZE]), [0, 0, width, height]);
      shown = items.map((item, index) => tile(item, places[index], layerOf(path.length > 1 ? path[1] : item)));
      frame.replaceChildren(...shown);
      const at = shown[Math.max(0, items.indexOf(focus))];
      if (at) rove(shown, at, Boolean(focus));
      crumbs.replaceChildren(...path.map((item, index) => index === path.length - 1
        ? make("li", {}, make("span", { "aria-current": "location" }, `${named(item)} · ${sized(item[SIZE])}`))
        : make("li", {}, crumb(item, index))));
    };
    const crumb = (item, index) => {
      const button = make("button", { type: "button" }, named(item));
      button.addEventListener("click", () => back(index));
      return button;
    };
    const open = (item) => { // and what is all of it, too
      path.push(item);
      for (let [only, more] = inside(item); only && !more && inside(only).length; [only, more] = inside(only)) path.push(only);
      draw(inside(path[path.length - 1])[0]);
    };
    const back = (index) => {
      const from = path[index + 1];
      path = path.slice(0, index + 1);
      draw(from);
    };
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", "Files by size; the table below tells the largest");
    frame.addEventListener("keydown", (event) => {
      if ((event.key === "Backspace" || event.key === "Escape") && path.length > 1) {
        event.preventDefault();
        back(path.length - 2);
      }
    });
    arrows(frame, () => shown);
    let width = 0;
    new ResizeObserver(() => {
      if (frame.clientWidth === width) return;
      width = frame.clientWidth;
      draw(null);
    }).observe(frame);
    frame.squarify = squarify; // for who compares it with Python's
  }

  // The search: every line that has the words, whatever their case.
  const field = one("#find");
  if (field) {
    const logs = all("details.log");
    const lines = logs.flatMap((log) => all(".l", log).map((line) => ({ log, line, text: line.textContent.toLowerCase() })));
    const count = one("#find-count");
    const only = one("#find-only");
    const marks = "highlights" in CSS ? { found: new Highlight(), current: new Highlight() } : null;
    if (marks) for (const [name, mark] of Object.entries(marks)) CSS.highlights.set(name, mark);
    let hits = [], at = -1, wanted = "", waiting = 0;
    const ranges = (line, word) => {
      // Runs of colors are elements of their own: places are counted over all of them.
      const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
      const parts = [];
      let length = 0;
      for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        parts.push([node, length]);
        length += node.data.length;
      }
      const place = (offset, end) => {
        const [node, start] = parts.findLast(([, from]) => (end ? from < offset : from <= offset));
        return [node, offset - start];
      };
      const text = line.textContent.toLowerCase();
      const found = [];
      if (text.length !== length) return found; // a letter that is two in lower case: places would not be right
      for (let from = text.indexOf(word); from >= 0; from = text.indexOf(word, from + word.length)) {
        const range = new Range();
        range.setStart(...place(from, false));
        range.setEnd(...place(from + word.length, true));
        found.push(range);
      }
      return found;
    };
    const MOST = 5000;
    const search = () => {
      wanted = field.value.toLowerCase();
      for (const { line } of hits) line.classList.remove("hit", "now");
      hits = wanted ? lines.filter(({ text }) => text.includes(wanted)) : [];
      at = -1;
      if (marks) {
        marks.found.clear();
        marks.current.clear();
      }
      const having = new Set();
      hits.forEach(({ log, line }, index) => {
        line.classList.add("hit");
        having.add(log);
        if (marks && index < MOST) for (const range of ranges(line, wanted)) marks.found.add(range);
      });
      filter(having);
      count.textContent = !wanted ? "" : hits.length ? `${hits.length.toLocaleString("en")} ${hits.length === 1 ? "line" : "lines"}` : "nothing found";
    };
    const filter = (having) => {
      const on = only.checked && wanted !== "";
      for (const log of logs) {
        log.classList.toggle("only", on);
        log.classList.toggle("empty", on && !having.has(log));
        if (on && having.has(log)) log.open = true;
      }
    };
    const go = (step) => {
      clearTimeout(waiting);
      if (field.value.toLowerCase() !== wanted) search();
      if (!hits.length) return;
      if (at >= 0) hits[at].line.classList.remove("now");
      at = (at < 0 ? (step > 0 ? 0 : hits.length - 1) : at + step + hits.length) % hits.length;
      const { log, line } = hits[at];
      log.open = true;
      line.classList.add("now");
      if (marks) {
        marks.current.clear();
        for (const range of ranges(line, wanted)) marks.current.add(range);
      }
      line.scrollIntoView({ block: "center", behavior: "instant" });
      count.textContent = `${(at + 1).toLocaleString("en")} of ${hits.length.toLocaleString("en")} lines`;
    };
    field.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(search, lines.length > 5000 ? 150 : 0);
    });
    only.addEventListener("change", search);
    one("#find-form").addEventListener("submit", (event) => event.preventDefault());
    one("#find-next").addEventListener("click", () => go(1));
    one("#find-before").addEventListener("click", () => go(-1));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        go(event.shiftKey ? -1 : 1);
      } else if (event.key === "Escape") {
        field.value = "";
        search();
      }
    });
    addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
      event.preventDefault();
      field.focus();
      one("#logs").scrollIntoView({ block: "start", behavior: "instant" });
    });
  }

  // Which section is read, for who looks at the links.
  const links = new Map(all(".top nav a").map((link) => [link.getAttribute("href").slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const link = links.get(entry.target.id);
      if (!link || !entry.isIntersecting) continue;
      for (const other of links.values()) other.removeAttribute("aria-current");
      link.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const section of all("main > section")) seen.observe(section);
})();
