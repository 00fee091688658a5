// What the page does by itself: keys, example prompts, light and dark, and bringing the picture into view on a phone.
(() => {
  const cascade = (window.cascade = window.cascade || {});
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
  // Whatever carries a key and can be seen and pressed now.
  const pressKey = (key) => {
    const found = [...document.querySelectorAll(`[data-key="${CSS.escape(key)}"]`)].find((one) => !one.disabled && one.offsetParent);
    if (found) found.click();
    return Boolean(found);
  };
  const typing = (node) => node && (node.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName)) && !["checkbox", "radio", "range"].includes(node.type);

  const setPrompt = (text) => {
    const area = document.querySelector("#field-prompt textarea");
    if (!area) return;
    area.value = text;
    area.dispatchEvent(new Event("input", { bubbles: true }));
    area.focus();
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

  const unfold = (id) => {
    const fold = byId(id);
    if (!fold) return false;
    cascade.go("easel");
    const head = fold.querySelector("button.label-wrap");
    if (head && !head.classList.contains("open")) head.click();
    fold.scrollIntoView({ block: "nearest", behavior: "smooth" });
    return true;
  };
  const search = () => {
    cascade.go("gallery");
    const box = document.querySelector("#gallery-search input, #gallery-search textarea");
    if (box) box.focus();
    return Boolean(box);
  };
  cascade.ready = () => button("generate") && !button("generate").disabled;
  cascade.watchEasel = () => {
    const easel = byId("easel");
    const { bottom, height } = easel.getBoundingClientRect();
    if (bottom < 0.6 * height) easel.scrollIntoView({ block: "start", behavior: "smooth" });
  };

  const keys = { s: () => press("swap"), l: () => (toggleTheme(), true), x: () => unfold("grid"), o: () => cascade.choose(), "/": search };

  const onKey = (event) => {
    const key = event.key.toLowerCase();
    if (event.key.startsWith("Arrow") && event.target.closest("[role=radiogroup], [type=radio], [type=range]")) return false;
    if (/^[1-9]$/.test(key)) return cascade.keys.digit(Number(key));
    // Space and Enter press whatever button has the focus, unless it is one to be picked or opened.
    if ((key === " " || key === "enter") && event.target.closest("button, a, summary") && !event.target.closest("[data-pick], .cs-thumb")) return false;
    if (event.shiftKey && event.key === "A") return cascade.keys.A();
    const act = cascade.keys[key] || keys[key];
    return act ? act() : pressKey(key);
  };

  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      press(event.shiftKey ? "sketch" : "generate");
    } else if (event.key === "Escape") {
      if (document.querySelector("[role=listbox], ul.options")) return;
      if (press("cancel") || cascade.keys.escape()) event.preventDefault();
    } else if (!event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target) && onKey(event)) {
      event.preventDefault();
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
    if (event.target.closest("#generate, #sketch, #make-grid") && cascade.ready()) {
      cascade.go("easel");
      cascade.watchEasel();
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
    cascade.watchPicks();
    new MutationObserver(showProgressInTitle).observe(byId("easel"), { subtree: true, childList: true, attributes: true });
    if (/Mac|iPhone|iPad/.test(navigator.platform)) document.body.style.setProperty("--cs-key-generate", '"\u2318 \u21b5"');
    if (matchMedia("(pointer: fine)").matches) prompt.focus({ preventScroll: true }); // on a phone it would raise the keyboard
  });
  waitForPage.observe(document.documentElement, { childList: true, subtree: true });
})();
