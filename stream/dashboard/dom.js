// Building elements and pacing the work on them. Text only ever goes in as text.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** An element with properties (className, textContent, title, ...) and children (nodes or strings). */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** An SVG element with attributes and children. */
export function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A function that has `work` done in the next frame, once however often it is called. */
export function oncePerFrame(work) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    requestAnimationFrame((now) => {
      due = false;
      work(now);
    });
  };
}

/** A function that has `work` done soon, at most once in so many milliseconds. */
export function atMostEvery(milliseconds, work) {
  let timer = null;
  let last = -Infinity;
  return () => {
    if (timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      last = performance.now();
      work();
    }, Math.max(0, last + milliseconds - performance.now()));
  };
}

/** Fill a table with a head of column names and rows; the first cell of a row is its heading. */
export function fillTable(table, caption, columns, rows) {
  const heading = (scope) => (text) => element("th", { scope, textContent: text });
  const body = rows.map(([name, ...cells]) =>
    element("tr", {}, heading("row")(name), ...cells.map((text) => element("td", { textContent: text }))),
  );
  table.replaceChildren(
    element("caption", { textContent: caption }),
    element("thead", {}, element("tr", {}, ...columns.map(heading("col")))),
    element("tbody", {}, ...body),
  );
}
