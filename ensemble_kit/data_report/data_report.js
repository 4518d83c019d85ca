"use strict";
(function () {
  var basket = document.querySelector(".basket");
  if (!basket) { return; }
  var known = JSON.parse(document.getElementById("fixes-data").textContent);
  var said = document.getElementById("basket-count");
  var save = document.getElementById("basket-save");
  var copy = document.getElementById("basket-copy");
  var none = document.getElementById("basket-none");
  var GROUP = 0, ATTRIBUTE = 2, TO = 4, SHA256 = 5;

  /* what a card says now, as rows of a fix list; nothing where it is not accepted */
  function rowsOf(card) {
    var settle = Array.from(card.querySelectorAll(".settle"));
    var rows = [];
    settle.forEach(function (one) {
      if (one.value !== "") { rows = rows.concat(JSON.parse(one.dataset.fixes)[Number(one.value)]); }
    });
    var take = card.querySelector(".take");
    if (!take || !take.checked) { return rows; }
    var to = card.querySelector(".to");
    if (to.tagName === "SELECT") { return JSON.parse(to.dataset.fixes)[Number(to.value)]; }
    return JSON.parse(to.dataset.fixes)[0].map(function (row) {
      var changed = row.slice();
      changed[TO] = to.value.trim();
      return changed;
    });
  }
  function clash(a, b) {
    return a[GROUP] === b[GROUP] && a[ATTRIBUTE] === b[ATTRIBUTE] && (!a[SHA256] || !b[SHA256] || a[SHA256] === b[SHA256]);
  }
  function drop(card) {
    var take = card.querySelector(".take");
    if (take) { take.checked = false; }
    card.querySelectorAll(".settle").forEach(function (one) { one.value = ""; });
  }
  var cards = Array.from(document.querySelectorAll(".card")).filter(function (card) { return card.querySelector(".take, .settle"); });

  function accepted() {
    return cards.reduce(function (all, card) { return all.concat(rowsOf(card)); }, []);
  }
  function show(note) {
    var rows = accepted();
    cards.forEach(function (card) { card.classList.toggle("taken", rowsOf(card).length > 0); });
    said.textContent = (rows.length === 0 ? "No fix accepted" : rows.length === 1 ? "1 fix accepted" : rows.length + " fixes accepted") +
      (rows.length && known.before.length ? ", behind the " + known.before.length + " of the list in force" : "") + (note ? "; " + note : "");
    basket.classList.toggle("full", rows.length > 0);
    [save, copy, none].forEach(function (button) { button.disabled = rows.length === 0; });
  }
  /* two cards that say different things about one label: the one touched last holds */
  function settle(touched) {
    var mine = rowsOf(touched), left = 0;
    cards.forEach(function (card) {
      if (card === touched) { return; }
      if (rowsOf(card).some(function (row) { return mine.some(function (own) { return clash(own, row); }); })) {
        drop(card);
        left += 1;
      }
    });
    show(left ? left + " other " + (left === 1 ? "choice" : "choices") + " about the same label taken back" : "");
  }
  function cell(text) { return /[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text; }
  function text() {
    var seen = {};
    return [known.columns].concat(known.before, accepted()).filter(function (row) {
      var key = JSON.stringify(row), isNew = !seen[key];
      seen[key] = true;
      return isNew && row[3] !== row[TO];
    }).map(function (row) { return row.map(cell).join(",") + "\n"; }).join("");
  }

  cards.forEach(function (card) {
    card.addEventListener("change", function (event) {
      var target = event.target, take = card.querySelector(".take");
      if (target.classList.contains("to")) {
        if (target.type === "number") {
          var isNumber = target.value.trim() !== "" && !isNaN(Number(target.value));
          target.setAttribute("aria-invalid", isNumber ? "false" : "true");
          if (!isNumber) { take.checked = false; show("a number is missing"); return; }
        }
        take.checked = true;
      }
      settle(card);
    });
  });
  none.addEventListener("click", function () { cards.forEach(drop); show(""); });
  save.addEventListener("click", function () {
    var link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text()], { type: "text/csv;charset=utf-8" }));
    link.download = "fixes.csv";
    document.body.appendChild(link);
    link.click();
    link.remove();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
    show("saved as fixes.csv");
  });
  copy.addEventListener("click", function () {
    var area = document.createElement("textarea");
    area.value = text();
    area.setAttribute("aria-hidden", "true");
    area.className = "unseen";
    document.body.appendChild(area);
    area.select();
    var done = document.execCommand("copy");
    area.remove();
    copy.focus();
    show(done ? "copied" : "this browser does not let pages copy: download them");
  });
  basket.hidden = false;
  show("");
})();
