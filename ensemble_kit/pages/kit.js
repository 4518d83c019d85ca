"use strict";
(function () {
  var root = document.documentElement;

  /* light or dark by hand, for whoever prefers the other one */
  var heading = document.querySelector(".top .wrap");
  if (heading) {
    var button = document.createElement("button");
    var isDark = function () {
      return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    };
    var name = function () { button.textContent = isDark() ? "Light page" : "Dark page"; };
    button.type = "button";
    button.className = "theme";
    button.addEventListener("click", function () { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
    name();
    heading.insertBefore(button, heading.firstChild);
  }

  /* the section being read, in the navigation */
  var links = {};
  document.querySelectorAll(".sections a").forEach(function (link) { links[link.hash.slice(1)] = link; });
  if (window.IntersectionObserver) {
    var seen = new Set();
    var watcher = new IntersectionObserver(function (entries) {
      entries.forEach(function (entry) { seen[entry.isIntersecting ? "add" : "delete"](entry.target.id); });
      var first = Object.keys(links).find(function (id) { return seen.has(id); });
      if (!first) { return; }
      Object.keys(links).forEach(function (id) {
        if (id === first) { links[id].setAttribute("aria-current", "true"); } else { links[id].removeAttribute("aria-current"); }
      });
    }, { rootMargin: "-60px 0px -50% 0px" });
    Object.keys(links).forEach(function (id) {
      var section = document.getElementById(id);
      if (section) { watcher.observe(section); }
    });
  }

  /* tables that can be sorted by a column */
  function value(row, column) {
    var text = row.cells[column].textContent.trim();
    var number = parseFloat(text.replace(/\u2212/g, "-").replace(/,/g, ""));
    return isNaN(number) ? text.toLowerCase() : number;
  }
  function sort(table, column, ascending) {
    var body = table.tBodies[0];
    var rows = Array.from(body.rows);
    rows.sort(function (a, b) {
      var x = value(a, column), y = value(b, column);
      var order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1;
      return ascending ? order : -order;
    });
    rows.forEach(function (row) { body.appendChild(row); });
  }
  document.querySelectorAll("table[data-sortable]").forEach(function (table) {
    Array.from(table.tHead.rows[0].cells).forEach(function (cell, column) {
      if (!cell.textContent.trim()) { return; }
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = cell.textContent;
      cell.textContent = "";
      cell.appendChild(button);
      button.addEventListener("click", function () {
        var ascending = cell.getAttribute("aria-sort") !== "ascending";
        Array.from(table.tHead.rows[0].cells).forEach(function (other) { other.removeAttribute("aria-sort"); });
        cell.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        sort(table, column, ascending);
      });
    });
  });

  /* paper cannot be unfolded: what is marked is printed open, the other folded parts are left out */
  var folded = [];
  window.addEventListener("beforeprint", function () {
    folded = Array.from(document.querySelectorAll("details[data-print]:not([open])"));
    folded.forEach(function (one) { one.open = true; });
  });
  window.addEventListener("afterprint", function () { folded.forEach(function (one) { one.open = false; }); });
})();
