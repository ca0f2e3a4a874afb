"use strict";
// Tables sort by the column whose heading is pressed, and long ones can be filtered. Without this file nothing is lost.

function sortBy(table, column, heading) {
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const numeric = heading.className !== "";
  const order = (a, b) => (numeric ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b)));
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((a, b) => (ascending ? order(a, b) : order(b, a))));
}

function addSorting(table) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => sortBy(table, column, heading));
  });
}

function addFilter(table) {
  const field = document.createElement("input");
  field.type = "search";
  field.className = "filter";
  field.placeholder = "Show only cases with …";
  field.setAttribute("aria-label", "Show only cases with these words");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of table.tBodies[0].rows) {
      row.hidden = !words.every((word) => row.cells[0].textContent.toLowerCase().includes(word));
    }
  });
  table.parentElement.before(field);
}

for (const table of document.querySelectorAll("table.results")) {
  addSorting(table);
  if (table.tBodies[0].rows.length > 12) addFilter(table);
}
