// Loaded before the page is drawn, so that it never flashes in the wrong theme.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = localStorage.getItem("undertone.theme");

  function show() {
    document.documentElement.dataset.theme = chosen ?? (dark.matches ? "dark" : "light");
    dispatchEvent(new Event("themechange"));
  }

  addEventListener("themetoggle", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("undertone.theme", chosen);
    show();
  });
  dark.addEventListener("change", show);
  show();
})();
