// Names that assistive technology reads out: the theme's differ from what is visible, or are missing.
document.addEventListener("DOMContentLoaded", () => {
  const all = (selector, name) => document.querySelectorAll(selector).forEach(name);
  all(".search-button-field", (e) => e.setAttribute("aria-label", e.textContent.replace(/\s+/g, " ").trim()));
  all(".theme-switch-button", (e) => e.setAttribute("aria-label", "Color mode: Light, Dark or System Settings"));
  all("details.hide > summary[aria-label]", (e) => e.removeAttribute("aria-label"));
  all("li.has-children > details > summary", (e) => {
    e.setAttribute("aria-label", `Pages of ${e.closest("li").querySelector("a").textContent}`);
  });
  all(".citation-list > .citation", (e) => e.setAttribute("role", "listitem"));
  all(".bd-sidebar-primary", (e) => {
    e.setAttribute("role", "complementary");
    e.setAttribute("aria-label", "Book");
  });
});
