// The colour theme. It follows the system until the button is pressed. This is a classic script in
// <head>, because a module would run after the first paint.
(() => {
  const KEY = "vx11.theme";
  const THEMES = ["auto", "light", "dark"];
  const root = document.documentElement;

  // Storage can be switched off; the theme then lasts as long as the page.
  const read = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };
  const write = (theme) => {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Storage is switched off: the theme is not remembered.
    }
  };

  const saved = read();
  root.dataset.theme = THEMES.includes(saved) ? saved : "auto";

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      const theme = root.dataset.theme;
      const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      button.lastElementChild.textContent = theme;
      button.setAttribute("aria-label", `Theme: ${theme}`);
      button.title = `Switch to ${next}`;
    };
    button.addEventListener("click", () => {
      const theme = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
      root.dataset.theme = theme;
      write(theme);
      show();
    });
    show();
  });
})();
