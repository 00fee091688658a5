// What the page does by itself: keys, example prompts, light and dark, and bringing the picture into view on a phone.
(() => {
  const THEME_KEY = "cascade-studio-theme";
  const byId = (id) => document.getElementById(id);
  const button = (id) => {
    const found = byId(id);
    return found && (found.matches("button, a") ? found : found.querySelector("button, a"));
  };
  const press = (id) => {
    const found = button(id);
    if (!found || found.disabled) return false;
    found.click();
    return true;
  };
  const typing = (node) => node && (node.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName)) && node.type !== "checkbox" && node.type !== "radio";

  const setPrompt = (text) => {
    const area = document.querySelector("#field-prompt textarea");
    if (!area) return;
    area.value = text;
    area.dispatchEvent(new Event("input", { bubbles: true }));
    area.focus();
  };

  const chooseNext = (towards) => {
    const row = [...document.querySelectorAll("#session [data-pick]")];
    if (!row.length) return false;
    const now = row.findIndex((item) => item.getAttribute("aria-pressed") === "true");
    const next = row[Math.min(row.length - 1, Math.max(0, now + towards))];
    if (next) {
      next.click();
      next.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    return true;
  };

  const toggleTheme = () => {
    const dark = document.body.classList.toggle("dark");
    try { localStorage.setItem(THEME_KEY, dark ? "dark" : "light"); } catch { /* private mode: the choice lasts for this visit */ }
  };
  const restoreTheme = () => {
    let wanted = null;
    try { wanted = localStorage.getItem(THEME_KEY); } catch { /* private mode */ }
    if (wanted && !new URLSearchParams(location.search).has("__theme")) document.body.classList.toggle("dark", wanted === "dark");
  };

  const keys = {
    d: () => press("download"),
    r: () => press("reuse-seed"),
    a: () => press("reuse-settings"),
    s: () => press("swap"),
    l: () => (toggleTheme(), true),
    arrowleft: () => chooseNext(-1),
    arrowright: () => chooseNext(1),
  };

  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      press("generate");
    } else if (event.key === "Escape") {
      if (!document.querySelector("[role=listbox], ul.options") && press("cancel")) event.preventDefault();
    } else if (!event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target)) {
      const act = keys[event.key.toLowerCase()];
      if (act && !(event.key.startsWith("Arrow") && event.target.closest("[role=radiogroup], [type=radio], [type=range]")) && act()) event.preventDefault();
    }
  }, true);

  document.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-prompt]");
    if (chip) setPrompt(chip.dataset.prompt);
    if (event.target.closest("#theme-toggle")) toggleTheme();
    if (event.target.closest("#cancel") && !button("cancel").disabled) {
      const headline = document.querySelector("#easel .cs-headline");
      if (headline) headline.textContent = "Stopping after this step"; // until the run itself says that it has ended
    }
    if (event.target.closest("#generate") && !button("generate").disabled) {
      const easel = byId("easel");
      const { bottom, height } = easel.getBoundingClientRect();
      if (bottom < 0.6 * height) easel.scrollIntoView({ block: "start", behavior: "smooth" });
    }
  });

  const showProgressInTitle = () => {
    const rail = document.querySelector("#easel [data-state=running] [role=progressbar]");
    document.title = rail ? `${Math.round(rail.getAttribute("aria-valuenow"))}% Cascade Studio` : "Cascade Studio";
  };

  // Gradio mounts the panels one after the other; the page is shown when all are there, so that none pushes another, and
  // in its own typeface.
  const PARTS = [".cs-header", ".cs-easel", ".cs-session", "#field-prompt textarea", "#field-decoder_guidance input", ".cs-keys"];
  const waitForPage = new MutationObserver(() => {
    if (!PARTS.every((part) => document.querySelector(part))) return;
    const prompt = document.querySelector("#field-prompt textarea");
    waitForPage.disconnect();
    document.fonts.ready.then(() => document.body.classList.add("cs-ready"));
    restoreTheme();
    new MutationObserver(showProgressInTitle).observe(byId("easel"), { subtree: true, childList: true, attributes: true });
    if (/Mac|iPhone|iPad/.test(navigator.platform)) document.body.style.setProperty("--cs-key-generate", '"\u2318 \u21b5"');
    if (matchMedia("(pointer: fine)").matches) prompt.focus({ preventScroll: true }); // on a phone it would raise the keyboard
  });
  waitForPage.observe(document.documentElement, { childList: true, subtree: true });
})();
