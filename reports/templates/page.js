"use strict";
// A click on a header sorts the rows of each block by that column; a second click turns them round, a third restores them.
const keyOf = (row, column) => {
  const value = row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  return value === "" || Number.isNaN(Number(value)) ? value : Number(value);
};
const compare = (a, b) => {
  if (a === "" || b === "") return (a === "") - (b === "");
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
};
const arrange = (body, column, turn) => {
  const rows = [...body.rows].filter((row) => !row.querySelector("th.block"));
  rows.forEach((row, place) => { row.dataset.place ??= place; });
  rows.sort((a, b) => {
    if (turn === "none") return a.dataset.place - b.dataset.place;
    const [x, y] = [keyOf(a, column), keyOf(b, column)];
    const order = compare(x, y);
    return x === "" || y === "" || turn === "ascending" ? order : -order;
  });
  body.append(...rows);
};
const NEXT = { none: "ascending", ascending: "descending", descending: "none" };
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const header = button.closest("th");
    const turn = NEXT[header.getAttribute("aria-sort") ?? "none"];
    for (const other of header.closest("thead").querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", turn);
    for (const body of header.closest("table").tBodies) arrange(body, Number(button.dataset.column), turn);
  });
}
