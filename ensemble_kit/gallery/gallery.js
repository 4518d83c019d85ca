"use strict";
(function () {
  var host = document.getElementById("board");
  if (!host) { return; }
  var SCALE = 60000, NO_NUMBER = 65535;
  var byId = function (id) { return document.getElementById(id); };
  var parse = function (id) { var found = byId(id); return found ? JSON.parse(found.textContent) : null; };
  var data = parse("board-data");
  var n = data.ids.length;

  /* ---------------------------------------------------------------- small helpers */
  /* as ensemble_kit.shown does it: what acts in place of being seen is written out, numbers stay where they are */
  var HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;
  var LEFTWARDS = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc](?:[^A-Za-z0-9]*[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc])*/g;
  function visible(text) {
    return String(text).replace(HIDDEN, function (sign) {
      return "\\u" + ("000" + sign.charCodeAt(0).toString(16)).slice(-4);
    }).replace(LEFTWARDS, "$&\u200e");
  }
  function make(name, attributes, children) {
    var found = document.createElement(name);
    Object.keys(attributes || {}).forEach(function (key) {
      var value = attributes[key];
      if (value === null || value === undefined || value === false) { return; }
      if (key === "text") { found.textContent = visible(value); } else { found.setAttribute(key, value === true ? "" : value); }
    });
    (children || []).forEach(function (child) {
      if (child !== null && child !== undefined) { found.append(typeof child === "string" ? visible(child) : child); }
    });
    return found;
  }
  function bytes(text) {
    var raw = atob(text), found = new Uint8Array(raw.length);
    for (var i = 0; i < raw.length; i++) { found[i] = raw.charCodeAt(i); }
    return new DataView(found.buffer);
  }
  function numbers(text, size) {
    var view = bytes(text), found = new Array(view.byteLength / size);
    for (var i = 0; i < found.length; i++) {
      found[i] = size === 1 ? view.getUint8(i) : size === 2 ? view.getUint16(2 * i, true) : view.getUint32(4 * i, true);
    }
    return found;
  }
  function probs(text) {
    return numbers(text, 2).map(function (value) { return value === NO_NUMBER ? null : value / SCALE; });
  }
  function shortNumber(value) { return value === null ? "\u2013" : value.toFixed(3); }
  function counted(number, word) { return number.toLocaleString("en") + " " + word + (number === 1 ? "" : "s"); }

  /* ---------------------------------------------------------------- what can be filtered */
  var facets = {}, filters = [];
  data.facets.forEach(function (facet) {
    facets[facet.key] = facet;
    facet.chosen = new Set();
    if (facet.filters) { filters.push(facet); }
  });
  var spans = data.spans.map(function (span) {
    var known = span.values.filter(function (value) { return value !== null; });
    span.low = known.reduce(function (a, b) { return Math.min(a, b); });
    span.high = known.reduce(function (a, b) { return Math.max(a, b); });
    span.from = span.to = null;
    return span;
  });
  var orders = {};
  data.orders.forEach(function (order) { orders[order.key] = numbers(order.rows, 4); });
  var sure = data.sure ? probs(data.sure) : null;
  data.lines.forEach(function (line) {
    line.values = line.probs.map(function (text) { return text === null ? null : probs(text); });
  });
  var state = { order: data.orders[0].key, find: "", photo: null };
  var shown = [], at = 0;

  function nameOf(key, row) {
    var facet = facets[key], value = facet.values[row];
    return value < 0 ? null : facet.names[value];
  }
  function person(row) { return data.people ? data.people.names[data.people.values[row]] : null; }

  /* ---------------------------------------------------------------- the address: #answer=wrong&said_age=30-59 */
  function written() {
    var parts = [];
    filters.forEach(function (facet) {
      if (facet.chosen.size) {
        var names = facet.names.filter(function (_, i) { return facet.chosen.has(i); });
        parts.push(encodeURIComponent(facet.key) + "=" + names.map(encodeURIComponent).join(","));
      }
    });
    spans.forEach(function (span) {
      if (span.from !== null || span.to !== null) {
        parts.push(encodeURIComponent(span.key) + "=" + (span.from === null ? "" : span.from) + ".." + (span.to === null ? "" : span.to));
      }
    });
    if (state.find) { parts.push("find=" + encodeURIComponent(state.find)); }
    if (!parts.length && Object.keys(data.start).length) { parts.push("show=all"); }
    if (parts.join("&") === startText()) { parts = []; }
    if (state.order !== data.orders[0].key) { parts.push("order=" + encodeURIComponent(state.order)); }
    if (state.photo !== null) { parts.push("photo=" + encodeURIComponent(data.ids[state.photo])); }
    return parts.join("&");
  }
  function startText() {
    return Object.keys(data.start).map(function (key) {
      return encodeURIComponent(key) + "=" + data.start[key].map(encodeURIComponent).join(",");
    }).join("&");
  }
  function decode(text) { try { return decodeURIComponent(text); } catch (error) { return text; } }
  function read(text) {
    var unknown = 0, filtered = false, photo = null;
    filters.forEach(function (facet) { facet.chosen.clear(); });
    spans.forEach(function (span) { span.from = span.to = null; });
    state.order = data.orders[0].key;
    state.find = "";
    function choose(key, names) {
      var facet = filters.find(function (one) { return one.key === key; });
      names.forEach(function (name) {
        var place = facet ? facet.names.indexOf(name) : -1;
        if (place < 0) { unknown++; } else { facet.chosen.add(place); }
      });
    }
    text.split("&").forEach(function (part) {
      var cut = part.indexOf("=");
      if (cut < 0) { return; }
      var key = decode(part.slice(0, cut)), value = part.slice(cut + 1);
      var span = spans.find(function (one) { return one.key === key; });
      if (key === "order") {
        if (Object.prototype.hasOwnProperty.call(orders, decode(value))) { state.order = decode(value); } else { unknown++; }
      } else if (key === "photo") {
        photo = data.ids.indexOf(decode(value));
        if (photo < 0) { unknown++; photo = null; }
      } else if (key === "show") {
        filtered = true;
      } else if (key === "find") {
        filtered = true;
        state.find = decode(value);
      } else if (span) {
        filtered = true;
        var ends = value.split("..").map(function (end) { return end === "" || isNaN(end) ? null : Number(end); });
        span.from = ends[0];
        span.to = ends.length > 1 ? ends[1] : null;
      } else {
        filtered = true;
        choose(key, value.split(",").map(decode));
      }
    });
    if (!filtered) { Object.keys(data.start).forEach(function (key) { choose(key, data.start[key]); }); }
    return { unknown: unknown, photo: photo };
  }
  var own = null;
  function write() {
    own = written();
    if (own === location.hash.slice(1)) { return; }
    try {
      history.replaceState(null, "", location.href.split("#")[0] + (own ? "#" + own : ""));
    } catch (error) {
      location.hash = own;
    }
  }

  /* ---------------------------------------------------------------- filtering: one pass gives photos and counts */
  function has(facet, row) {
    var value = facet.values[row];
    if (facet.kind === "one") { return facet.chosen.has(value); }
    for (var i = 0; i < value.length; i++) { if (facet.chosen.has(value[i])) { return true; } }
    return false;
  }
  function inside(span, row) {
    var value = span.values[row];
    return value !== null && (span.from === null || value >= span.from) && (span.to === null || value <= span.to);
  }
  function found(row, text) {
    var who = person(row);
    return data.ids[row].toLowerCase().includes(text) || (who !== null && who.toLowerCase().includes(text));
  }
  function count(facet, row) {
    var value = facet.values[row];
    if (facet.kind === "span") {
      if (value !== null) { facet.bins[bin(facet, value)]++; }
    } else if (facet.kind === "one") {
      if (value >= 0) { facet.counts[value]++; }
    } else {
      for (var i = 0; i < value.length; i++) { facet.counts[value[i]]++; }
    }
  }
  var BINS = 24;
  function bin(span, value) {
    return span.high === span.low ? 0 : Math.min(BINS - 1, Math.floor((value - span.low) / (span.high - span.low) * BINS));
  }
  function filter() {
    var all = filters.concat(spans), tests = [], text = state.find.toLowerCase();
    filters.forEach(function (facet) {
      facet.counts = new Array(facet.names.length).fill(0);
      if (facet.chosen.size) { tests.push({ of: facet, holds: has }); }
    });
    spans.forEach(function (span) {
      span.bins = new Array(BINS).fill(0);
      if (span.from !== null || span.to !== null) { tests.push({ of: span, holds: inside }); }
    });
    shown = [];
    orders[state.order].forEach(function (row) {
      if (text && !found(row, text)) { return; }
      var fails = 0, last = null;
      for (var i = 0; i < tests.length && fails < 2; i++) {
        if (!tests[i].holds(tests[i].of, row)) { fails++; last = tests[i].of; }
      }
      if (fails === 0) {
        shown.push(row);
        for (var k = 0; k < all.length; k++) { count(all[k], row); }
      } else if (fails === 1) {
        count(last, row); /* what choosing another value of this one filter would add */
      }
    });
  }

  /* ---------------------------------------------------------------- the filters' boxes */
  var form = byId("filters");
  function facetBox(facet) {
    var list = make("div", { "class": "values" });
    facet.boxes = facet.names.map(function (name, i) {
      var used = facet.kind === "one"
        ? facet.values.includes(i) : facet.values.some(function (value) { return value.includes(i); });
      if (!used) { return null; }
      var box = make("input", { type: "checkbox" });
      var number = make("span", { "class": "n" });
      var label = make("label", {}, [box, make("span", { "class": "name", text: name }), number]);
      box.addEventListener("change", function () {
        if (box.checked) { facet.chosen.add(i); } else { facet.chosen.delete(i); }
        at = 0;
        update();
      });
      list.append(label);
      return { box: box, number: number, label: label };
    });
    var group = make("fieldset", {}, [make("legend", { "class": "unseen", text: facet.title })]);
    if (facet.about) { group.append(make("p", { "class": "about", text: facet.about })); }
    group.append(list);
    facet.fold = make("details", { "class": "facet", open: true, "data-facet": facet.key }, [make("summary", { text: facet.title }), group]);
    form.append(facet.fold);
  }
  function spanBox(span) {
    var ends = ["from", "to"].map(function (end) {
      var limit = end === "from" ? span.low : span.high;
      var input = make("input", { type: "number", step: span.step, min: span.low, max: span.high, placeholder: String(limit), "aria-label": span.title + ", " + (end === "from" ? "at least" : "at most") });
      input.addEventListener("input", function () {
        span[end] = input.value === "" || isNaN(input.value) ? null : Number(input.value);
        at = 0;
        update();
      });
      span[end + "Box"] = input;
      return input;
    });
    var picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    picture.setAttribute("viewBox", "0 0 " + BINS * 10 + " 40");
    picture.setAttribute("preserveAspectRatio", "none");
    picture.setAttribute("class", "bins");
    picture.setAttribute("aria-hidden", "true");
    span.bars = [];
    for (var i = 0; i < BINS; i++) {
      var bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      bar.setAttribute("x", i * 10 + 1);
      bar.setAttribute("width", 8);
      picture.append(bar);
      span.bars.push(bar);
    }
    var group = make("fieldset", {}, [make("legend", { "class": "unseen", text: span.title })]);
    if (span.about) { group.append(make("p", { "class": "about", text: span.about })); }
    group.append(picture, make("div", { "class": "ends" }, [ends[0], make("span", { text: "to" }), ends[1]]));
    form.append(make("details", { "class": "facet", open: true, "data-facet": span.key }, [make("summary", { text: span.title }), group]));
  }
  var find = make("input", { type: "search", placeholder: data.people ? "name or person" : "name", "aria-label": data.people ? "Find by name or person" : "Find by name" });
  find.addEventListener("input", function () { state.find = find.value; at = 0; update(); });
  form.append(make("div", { "class": "find" }, [find]));
  filters.forEach(facetBox);
  spans.forEach(spanBox);
  var order = byId("order");
  data.orders.forEach(function (one) { order.append(make("option", { value: one.key, text: one.title })); });
  order.addEventListener("change", function () { state.order = order.value; at = 0; update(); });

  function showFilters() {
    filters.forEach(function (facet) {
      facet.boxes.forEach(function (one, i) {
        if (!one) { return; }
        one.box.checked = facet.chosen.has(i);
        one.number.textContent = facet.counts[i].toLocaleString("en");
        one.label.classList.toggle("none", facet.counts[i] === 0 && !facet.chosen.has(i));
      });
    });
    spans.forEach(function (span) {
      var most = Math.max.apply(null, span.bins.concat([1]));
      span.bars.forEach(function (bar, i) {
        var height = span.bins[i] ? Math.max(2, span.bins[i] / most * 40) : 0;
        bar.setAttribute("y", 40 - height);
        bar.setAttribute("height", height);
        var left = span.low + (span.high - span.low) * i / BINS, right = span.low + (span.high - span.low) * (i + 1) / BINS;
        bar.setAttribute("class", (span.from !== null && right < span.from) || (span.to !== null && left > span.to) ? "out" : "");
      });
      ["from", "to"].forEach(function (end) {
        var box = span[end + "Box"];
        if (document.activeElement !== box) { box.value = span[end] === null ? "" : span[end]; }
      });
    });
    if (document.activeElement !== find) { find.value = state.find; }
    order.value = state.order;
  }

  /* what is chosen, to be taken away one by one */
  var chosen = byId("chosen");
  function showChosen() {
    chosen.textContent = "";
    function chip(text, remove) {
      var button = make("button", { type: "button", "aria-label": "Remove the filter " + text }, [make("span", { text: text }), make("span", { "aria-hidden": "true", text: " \u00d7" })]);
      button.addEventListener("click", function () {
        remove();
        at = 0;
        update();
        (chosen.querySelector("button") || find).focus();
      });
      chosen.append(make("li", {}, [button]));
    }
    filters.forEach(function (facet) {
      facet.chosen.forEach(function (i) {
        chip(facet.title + ": " + facet.names[i], function () { facet.chosen.delete(i); });
      });
    });
    spans.forEach(function (span) {
      if (span.from !== null || span.to !== null) {
        var words = span.title + (span.from === null ? "" : " from " + span.from) + (span.to === null ? "" : " to " + span.to);
        chip(words, function () { span.from = span.to = null; });
      }
    });
    if (state.find) { chip("name with \u201c" + state.find + "\u201d", function () { state.find = ""; find.value = ""; }); }
    if (chosen.children.length > 1) { chip("all filters", clear); chosen.lastChild.firstChild.firstChild.textContent = "Clear all"; chosen.lastChild.firstChild.setAttribute("aria-label", "Clear all filters"); }
  }
  function clear() {
    filters.forEach(function (facet) { facet.chosen.clear(); });
    spans.forEach(function (span) { span.from = span.to = null; });
    state.find = "";
    find.value = "";
  }

  /* ---------------------------------------------------------------- photos, read piece by piece */
  var pieces = {}, large = null, heat = null;
  function small(row) {
    if (!data.has_photos) { return null; }
    var number = Math.floor(row / data.per_block);
    if (!pieces[number]) { pieces[number] = parse("board-photos-" + number); }
    return pieces[number][row - number * data.per_block];
  }
  function largest(row) {
    if (large === null) { large = parse("board-large") || {}; }
    return large[row] || small(row);
  }
  function heatOf(row) {
    if (heat === null) { heat = parse("board-heat") || {}; }
    return heat[row] || [];
  }
  function pictureOf(row, source) {
    if (typeof source === "string") { return make("img", { src: source, alt: "", decoding: "async" }); }
    return make("span", { "class": "no-photo", text: source === null ? "no photo in this page" : source.problem });
  }

  /* ---------------------------------------------------------------- tiles; only those in sight exist */
  var grid = byId("grid"), nothing = byId("nothing"), tiles = new Map();
  var GAP = 8, WIDE = 150, HIGH = data.sure ? 204 : 186, EXTRA = 2, ON_PAPER = 120;
  var columns = 1, printing = false;

  function held(line, row) { /* the last two columns of a line, and whether they differ */
    var names = line.facets.map(function (key) { return nameOf(key, row); });
    var last = names[names.length - 1], before = names.length > 1 ? names[names.length - 2] : last;
    return { names: names, differ: names.length > 1 && last !== null && before !== null && last !== before };
  }
  function caption(row) {
    var lines = [], words = [];
    data.lines.forEach(function (line) {
      var one = held(line, row);
      if (!one.differ) { return; }
      var k = one.names.length, said = one.names[k - 1], other = one.names[k - 2];
      var text = make("span", { "class": "line" }, [make("s", { text: said }), " ", make("b", { text: other })]);
      if (data.contrast === "change") {
        var truth = k > 2 ? one.names[0] : null;
        text = make("span", { "class": "line" }, [
          make("b", { "class": other === truth ? "" : "a", text: other }), other === truth ? " \u2713" : null, " \u2192 ",
          make("b", { "class": said === truth ? "" : "b", text: said }), said === truth ? " \u2713" : null,
        ]);
      }
      text.title = line.title;
      lines.push(text);
      words.push(data.contrast === "change" ? line.title + " a " + other + ", b " + said + (k > 2 ? ", truth " + one.names[0] : "") : line.title + " " + said + ", truth " + other);
    });
    if (!lines.length) {
      var all = data.lines.map(function (line) { var names = held(line, row).names; return names[names.length - 1]; });
      var text = all.every(function (name) { return name === null; }) ? "no answer" : all.join(" / ");
      lines.push(make("span", { "class": "line soft", text: text }));
      words.push(text);
    }
    if (lines.length === 1) { lines[0].classList.add("wraps"); }
    if (lines.length > 3) {
      lines = lines.slice(0, 2).concat([make("span", { "class": "line soft", text: "and " + (lines.length - 2) + " more" })]);
    }
    return { lines: lines, words: words.join("; ") };
  }
  function tile(place) {
    var row = shown[place], told = caption(row), level = sure ? sure[row] : null;
    var words = told.words + (level === null ? "" : "; probability " + shortNumber(level)) + "; " + data.ids[row];
    var button = make("button", { type: "button", "class": "tile", tabindex: place === at ? 0 : -1, "aria-label": words, "data-row": row, "data-id": data.ids[row], title: data.ids[row] });
    button.append(make("span", { "class": "frame" }, [pictureOf(row, small(row))]));
    if (level !== null) {
      var bar = make("span", { "class": "sure" }, [make("span", { "class": "fill" })]);
      bar.firstChild.style.width = level * 100 + "%";
      button.append(make("span", { "class": "level" }, [bar, make("span", { "class": "p", text: level.toFixed(2) })]));
    }
    told.lines.forEach(function (line) { button.append(line); });
    button.addEventListener("click", function () { at = place; open(row); });
    button.addEventListener("focus", function () { if (at !== place) { move(place, false); } });
    return make("div", { role: "listitem", "class": "cell", "aria-setsize": shown.length, "aria-posinset": place + 1 }, [button]);
  }
  function layout() {
    columns = Math.max(2, Math.floor((grid.clientWidth + GAP) / (WIDE + GAP)));
  }
  function draw() {
    var lines = Math.ceil(shown.length / columns), step = HIGH + GAP;
    grid.style.height = Math.max(0, lines * step - GAP) + "px";
    var top = -grid.getBoundingClientRect().top, first = Math.max(0, Math.floor(top / step) - EXTRA);
    var last = Math.floor((top + window.innerHeight) / step) + EXTRA;
    var wanted = new Set(), end = Math.min(shown.length, printing ? ON_PAPER : (last + 1) * columns);
    for (var place = printing ? 0 : first * columns; place < end; place++) { wanted.add(place); }
    byId("printed").hidden = !(printing && shown.length > ON_PAPER);
    byId("printed").textContent = "The first " + ON_PAPER + " of these photos are printed; filters choose others.";
    if (shown.length && grid.contains(document.activeElement)) { wanted.add(at); }
    if (!wanted.size) { for (var early = 0; early < Math.min(shown.length, 2 * columns); early++) { wanted.add(early); } }
    tiles.forEach(function (cell, place) { if (!wanted.has(place)) { cell.remove(); tiles.delete(place); } });
    var width = (grid.clientWidth - GAP * (columns - 1)) / columns, reachable = false;
    Array.from(wanted).sort(function (a, b) { return a - b; }).forEach(function (place) {
      var cell = tiles.get(place);
      if (!cell) {
        cell = tile(place);
        tiles.set(place, cell);
        var after = Array.from(grid.children).find(function (other) { return Number(other.dataset.place) > place; });
        cell.dataset.place = place;
        grid.insertBefore(cell, after || null);
      }
      cell.style.width = width + "px";
      cell.style.height = HIGH + "px";
      cell.style.transform = "translate(" + (place % columns) * (width + GAP) + "px," + Math.floor(place / columns) * step + "px)";
      reachable = reachable || place === at;
    });
    if (!reachable && tiles.size) { /* the tab key has to find some photo in sight */
      var near = Array.from(tiles.keys()).sort(function (a, b) { return a - b; })[Math.min(tiles.size - 1, EXTRA * columns)];
      tiles.get(near).firstChild.tabIndex = 0;
    }
  }
  function move(place, focus) {
    if (!shown.length) { return; }
    at = Math.max(0, Math.min(shown.length - 1, place));
    if (focus) {
      var top = grid.getBoundingClientRect().top + window.scrollY + Math.floor(at / columns) * (HIGH + GAP);
      var bar = host.querySelector(".bar").getBoundingClientRect().bottom;
      if (top < window.scrollY + bar + GAP) { window.scrollTo({ top: Math.max(0, top - bar - GAP), behavior: "instant" }); }
      if (top + HIGH > window.scrollY + window.innerHeight) { window.scrollTo({ top: top + HIGH - window.innerHeight + GAP, behavior: "instant" }); }
      draw();
    }
    tiles.forEach(function (cell, number) { cell.firstChild.tabIndex = number === at ? 0 : -1; });
    if (focus && tiles.get(at)) { tiles.get(at).firstChild.focus({ preventScroll: true }); }
  }
  grid.addEventListener("keydown", function (event) {
    if (event.altKey || event.ctrlKey || event.metaKey) { return; }
    var page = Math.max(1, Math.floor(window.innerHeight / (HIGH + GAP)) - 1) * columns;
    var to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: shown.length - 1, PageDown: at + page, PageUp: at - page }[event.key];
    if (to === undefined) { return; }
    event.preventDefault();
    if (event.key === "ArrowDown" && to >= shown.length) { to = Math.floor((shown.length - 1) / columns) > Math.floor(at / columns) ? shown.length - 1 : at; }
    if (event.key === "ArrowUp" && to < 0) { to = at; }
    move(to, true);
  });
  var waiting = false;
  function soon() {
    if (waiting) { return; }
    waiting = true;
    requestAnimationFrame(function () { waiting = false; draw(); });
  }
  window.addEventListener("scroll", soon, { passive: true });
  window.addEventListener("resize", function () { layout(); soon(); });
  window.addEventListener("beforeprint", function () { printing = true; layout(); draw(); });
  window.addEventListener("afterprint", function () { printing = false; layout(); draw(); });

  byId("legend").textContent = data.legend + " Arrow keys move, Enter opens a photo, Escape closes it.";

  /* ---------------------------------------------------------------- everything anew */
  var status = byId("status");
  function update(note) {
    var began = performance.now();
    filter();
    showFilters();
    showChosen();
    tiles.forEach(function (cell) { cell.remove(); });
    tiles.clear();
    at = Math.max(0, Math.min(at, shown.length - 1));
    var words = shown.length === n ? counted(n, "photo") : shown.length.toLocaleString("en") + " of " + counted(n, "photo");
    status.textContent = words + (note ? ". " + note : "");
    nothing.hidden = shown.length > 0;
    layout();
    draw();
    write();
    host.dataset.shown = shown.length;
    host.dataset.took = (performance.now() - began).toFixed(1);
  }

  /* ---------------------------------------------------------------- one photo */
  var dialog = byId("photo"), body = byId("photo-body"), details = null, heatOn = true;
  function detail() {
    if (details !== null) { return details; }
    details = parse("board-details") || {};
    (details.experts || []).forEach(function (one) {
      one.values = one.probs.map(probs);
      one.vote = probs(one.voted);
      one.asks = numbers(one.asked, 1);
      one.decides = numbers(one.decided, 1);
      one.columns = one.kept === null ? null : numbers(one.kept, 4);
      one.place = one.places === null ? null : new Map(numbers(one.places, 4).map(function (row, i) { return [row, i]; }));
    });
    (details.ways || []).forEach(function (one) { one.beliefs = probs(one.belief); one.gates = probs(one.gate); });
    (details.joint || []).forEach(function (one) { one.tops = numbers(one.top, 4); one.values = probs(one.probs); });
    return details;
  }
  function tint(cell, value) {
    if (value !== null) { cell.classList.add("good", "t" + Math.min(9, Math.floor(value * 10))); }
    return cell;
  }
  function table(caption, head, rows, kind) {
    var made = make("table", { "class": kind || "" }, [
      make("caption", { "class": "unseen", text: caption }),
      make("thead", {}, [make("tr", {}, head.map(function (text) { return typeof text === "string" ? (text ? make("th", { scope: "col", text: text }) : make("td")) : text; }))]),
      make("tbody", {}, rows),
    ]);
    return make("div", { "class": "scroll", tabindex: 0, role: "group", "aria-label": caption }, [made]);
  }
  function answersTable(row) {
    var rows = data.lines.map(function (line) {
      var one = held(line, row), k = one.names.length;
      var cells = [make("th", { scope: "row", text: line.title })];
      one.names.forEach(function (name, i) {
        var bad = one.differ && i === k - 1 && data.contrast !== "change";
        var changed = one.differ && data.contrast === "change" && i >= k - 2;
        var right = changed && k > 2 && name === one.names[0];
        var text = make("span", { "class": bad ? "bad-text" : right ? "is-true changed" : changed ? "changed" : "", text: (name === null ? "\u2013" : name) + (right ? " \u2713" : "") });
        var cell = make("td", {}, [text]);
        if (line.values[i]) { cell.append(" ", make("span", { "class": "soft", text: shortNumber(line.values[i][row]) })); }
        cells.push(cell);
      });
      return make("tr", {}, cells);
    });
    var told = data.lines.some(function (line) { return line.values.some(function (values) { return values !== null; }); });
    var made = table("Answers", [""].concat(data.columns), rows, "answers");
    return make("div", {}, [made, told ? make("p", { "class": "soft small", text: data.probs_are }) : null]);
  }
  function jointTable(one, row) {
    var rows = [];
    for (var k = 0; k < one.shown; k++) {
      var value = one.values[row * one.shown + k];
      if (value === null || (k > 0 && value < 0.0005)) { continue; }
      var bar = make("span", { "class": "sure wide" }, [make("span", { "class": "fill" })]);
      bar.firstChild.style.width = value * 100 + "%";
      rows.push(make("tr", {}, [make("th", { scope: "row", text: one.names[one.tops[row * one.shown + k]] }), make("td", { "class": "number", text: shortNumber(value) }), make("td", { "class": "bar-cell" }, [bar])]));
    }
    var title = one.title ? "Most probable, " + one.title : "Most probable joint classes";
    return make("section", {}, [make("h3", { text: title }), rows.length ? table(title, ["joint class", make("th", { scope: "col", "class": "number", text: "probability" }), ""], rows) : make("p", { "class": "soft", text: "no answer" })]);
  }
  function wayTable(way, row) {
    var k = way.states.length;
    var rows = way.states.map(function (name, i) {
      var belief = way.beliefs[row * k + i], gate = way.gates[row * k + i];
      return { belief: belief, gate: gate, row: make("tr", { "class": gate > 0 ? "" : "off" }, [make("th", { scope: "row", text: name }), tint(make("td", { "class": "number", text: shortNumber(belief) }), belief), make("td", { "class": "number", text: gate > 0 ? shortNumber(gate) : "\u2013" }), make("td", { text: way.experts[i] || "one possible class" })]) };
    });
    if (k > 12) { rows = rows.sort(function (a, b) { return b.belief - a.belief; }).slice(0, 12); }
    var head = ["state", make("th", { scope: "col", "class": "number", text: "belief" }), make("th", { scope: "col", "class": "number", text: "kept" }), "its expert"];
    return make("section", {}, [make("h3", { text: "Route of " + way.node }), table("Route of " + way.node, head, rows.map(function (one) { return one.row; }))]);
  }
  function expertTable(one, photo) {
    var row = one.place === null ? photo : one.place.get(photo);
    if (row === undefined) { return null; }
    var k = one.shown, places = [];
    for (var i = 0; i < k; i++) { places.push(one.columns === null ? i : one.columns[row * k + i]); }
    function line(name, values, kind) {
      var cells = [make("th", { scope: "row", text: name })], own = [];
      for (var i = 0; i < k; i++) { own.push(values[row * k + i]); }
      var most = Math.max.apply(null, own.map(function (value) { return value === null ? -1 : value; }));
      own.forEach(function (value) {
        cells.push(tint(make("td", { "class": "number" + (value !== null && value === most ? " most" : ""), text: shortNumber(value) }), value));
      });
      return make("tr", { "class": kind || "" }, cells);
    }
    var rows = one.voters.map(function (name, v) { return line(name, one.values[v]); });
    if (one.voters.length > 1) { rows.push(line(one.used ? "vote" : "mean", one.vote, "vote")); }
    var role = one.decides[row] ? "decided" : one.asks[row] ? "asked" : one.used ? "not asked" : "not used here";
    var truth = one.attributes.map(function (name) { return facets["true_" + name] ? nameOf("true_" + name, photo) : null; });
    truth = truth.includes(null) ? null : truth.join(" / ");
    var head = [""].concat(places.map(function (place) {
      var name = one.classes[place];
      return make("th", { scope: "col", "class": "number" }, [name, name === truth ? make("span", { "class": "is-true", text: " \u2713", title: "the truth" }) : null, name === truth ? make("span", { "class": "unseen", text: " (the truth)" }) : null]);
    }));
    var more = one.classes.length > k ? make("p", { "class": "soft", text: "the " + k + " most probable of " + one.classes.length + " classes" }) : null;
    return make("section", { "class": "expert" + (one.asks[row] ? "" : " off") }, [make("h4", {}, [one.name + " ", make("span", { "class": "role " + (one.decides[row] ? "did" : ""), text: role })]), table(one.name, head, rows, "heat"), more]);
  }
  function photoFigure(row) {
    var frame = make("div", { "class": "large" }, [pictureOf(row, largest(row))]);
    var picture = frame.querySelector("img");
    if (picture) { picture.alt = "Photo " + data.ids[row]; }
    var maps = heatOf(row), under = [];
    if (maps.length) {
      var layer = make("img", { "class": "layer", src: maps[0].picture, alt: "" });
      layer.hidden = !heatOn;
      var told = make("p", { "class": "soft" });
      var choose = function (i) { layer.src = maps[i].picture; told.textContent = "Where it looked \u2013 " + maps[i].title; };
      choose(0);
      frame.append(layer);
      var box = make("input", { type: "checkbox", id: "heat-on" });
      box.checked = heatOn;
      box.addEventListener("change", function () { heatOn = box.checked; layer.hidden = !heatOn; });
      under.push(make("label", { "class": "heat-on" }, [box, " show where the expert looked (H)"]));
      told.hidden = maps.length > 1;
      if (maps.length > 1) {
        var pick = make("select", { "aria-label": "Which expert" });
        maps.forEach(function (one, i) { pick.append(make("option", { value: i, text: one.title })); });
        pick.addEventListener("change", function () { choose(Number(pick.value)); });
        under.push(pick);
      }
      under.push(told);
    }
    return make("figure", {}, [frame].concat(under));
  }
  function factsOf(row) {
    var list = make("dl", { "class": "few" });
    function fact(term, text) { if (text !== null && text !== "") { list.append(make("div", {}, [make("dt", { text: term }), make("dd", { text: text })])); } }
    if (sure) { fact("Probability of the answer", shortNumber(sure[row])); }
    spans.forEach(function (span) { if (span.key !== "sure") { fact(span.title, span.values[row] === null ? null : span.step < 1 ? shortNumber(span.values[row]) : String(span.values[row])); } });
    fact("Person", person(row));
    var inLines = new Set();
    data.lines.forEach(function (line) { line.facets.forEach(function (key) { inLines.add(key); }); });
    data.facets.forEach(function (facet) {
      if (inLines.has(facet.key) || facet.key === "answer" || facet.key === "wrong" || facet.key === "changed") { return; }
      var value = facet.values[row], names = facet.kind === "many" ? value.map(function (i) { return facet.names[i]; }) : [nameOf(facet.key, row)];
      names = names.filter(function (name) { return name; });
      if (names.length) { fact(facet.title, names.join("; ")); }
    });
    return list;
  }
  function fill(row) {
    var place = shown.indexOf(row), all = detail(), more = [];
    (all.joint || []).forEach(function (one) { more.push(jointTable(one, row)); });
    (all.ways || []).forEach(function (way) { more.push(wayTable(way, row)); });
    if ((all.experts || []).length) {
      more.push(make("h3", { text: "Every expert, every checkpoint" }));
      all.experts.forEach(function (one) { more.push(expertTable(one, row)); });
    }
    var count = place < 0 ? "not among the photos shown" : "photo " + (place + 1).toLocaleString("en") + " of " + shown.length.toLocaleString("en");
    var before = make("button", { type: "button", "class": "before", text: "\u2190 Previous" });
    var next = make("button", { type: "button", "class": "next", text: "Next \u2192" });
    var close = make("button", { type: "button", "class": "close", text: "Close" });
    before.disabled = place <= 0;
    next.disabled = place < 0 || place >= shown.length - 1;
    before.addEventListener("click", function () { step(-1); });
    next.addEventListener("click", function () { step(1); });
    close.addEventListener("click", function () { dialog.close(); });
    body.replaceChildren(
      make("div", { "class": "photo-top" }, [make("p", { "class": "soft", id: "photo-count", text: count }), before, next, close]),
      make("h2", { id: "photo-name", tabindex: -1, text: data.ids[row] }),
      make("div", { "class": "photo-main" }, [photoFigure(row), make("div", {}, [answersTable(row), factsOf(row)])]),
      make("div", { "class": "photo-more" }, more)
    );
  }
  function open(row) {
    state.photo = row;
    fill(row);
    if (!dialog.open) { dialog.showModal(); }
    dialog.scrollTop = 0;
    byId("photo-name").focus({ preventScroll: true });
    write();
  }
  function step(by) {
    var place = shown.indexOf(state.photo) + by;
    if (place < 0 || place >= shown.length) { return; }
    at = place;
    open(shown[place]);
  }
  dialog.addEventListener("keydown", function (event) {
    if (event.altKey || event.ctrlKey || event.metaKey || /^(SELECT|INPUT)$/.test(event.target.tagName) && event.key !== "Escape" && event.target.type !== "checkbox") { return; }
    var inTable = event.target.classList.contains("scroll") && event.target.scrollWidth > event.target.clientWidth;
    if (event.key === "ArrowRight" && !inTable) { event.preventDefault(); step(1); }
    if (event.key === "ArrowLeft" && !inTable) { event.preventDefault(); step(-1); }
    if ((event.key === "h" || event.key === "H") && byId("heat-on")) { byId("heat-on").click(); }
  });
  dialog.addEventListener("click", function (event) { if (event.target === dialog) { dialog.close(); } });
  dialog.addEventListener("close", function () {
    state.photo = null;
    write();
    if (shown.length) { move(at, true); }
  });

  /* ---------------------------------------------------------------- the first time, and when the address is changed */
  function start() {
    var found = read(location.hash.slice(1));
    at = 0;
    update(found.unknown ? "The address names something that this page does not have." : "");
    if (found.photo !== null) {
      at = Math.max(0, shown.indexOf(found.photo));
      open(found.photo);
    } else if (dialog.open) {
      dialog.close();
    }
  }
  window.addEventListener("hashchange", function () {
    var text = location.hash.slice(1);
    if (text !== own && (text.includes("=") || text === "")) {
      start();
      if (text && state.photo === null) { host.scrollIntoView({ block: "start" }); }
    }
  });
  if (window.matchMedia("(max-width: 56rem)").matches) { byId("filters-fold").open = false; }
  start();
  if (location.hash.includes("=") && host.getBoundingClientRect().top > window.innerHeight / 2) { host.scrollIntoView({ block: "start" }); }
})();
