"use strict";
// Tables are complete without this script; it adds sorting and a filter.
for (const table of document.querySelectorAll("table.board")) {
  new DataTable(table, {
    paging: false,
    order: [],
    autoWidth: false,
    layout: { topStart: "search", topEnd: null, bottomStart: "info", bottomEnd: null },
    language: { search: "Filter ", info: "_TOTAL_ of _MAX_ rows", infoEmpty: "no row", infoFiltered: "", zeroRecords: "no row" },
  });
}
