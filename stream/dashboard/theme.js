// Loaded before the page is drawn, so that it never flashes in the wrong theme.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = localStorage.getItem("undertone.theme");

  function show() {
    const theme = chosen ?? (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    const toggle = document.getElementById("theme-toggle");
    if (toggle) toggle.textContent = theme === "dark" ? "Light theme" : "Dark theme";
    dispatchEvent(new Event("themechange"));
  }

  dark.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme-toggle").addEventListener("click", () => {
      chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      localStorage.setItem("undertone.theme", chosen);
      show();
    });
    show();
  });
  show();
})();
