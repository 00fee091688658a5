// Choosing pictures: what is picked, what a click or a key does with it, the gallery's view, and the divider of a comparison.
// The server is told through one element, the switchboard: `cascade.tell(name, data)`.
(() => {
  const cascade = (window.cascade = window.cascade || {});
  const picks = new Set();
  const MOST = 100;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  let told = 0; // the server answers only the latest of what comes faster than it can
  cascade.tell = (name, data) => cascade.trigger && cascade.trigger(name, { ...data, number: ++told });
  cascade.view = () => document.body.dataset.view || "easel";
  cascade.go = (view) => {
    if (cascade.view() === view) return;
    document.body.dataset.view = view;
    if (clear()) tellPicks();
    cascade.tell("look", { view });
    decorate();
    if (view === "gallery") window.scrollTo({ top: 0 });
  };

  // The pictures that an action would take: the picked ones, else the single one on the easel.
  const shown = () => {
    const one = document.querySelector("#easel a.cs-print-frame[data-id]");
    const two = document.querySelector("#easel .cs-compare");
    if (cascade.view() !== "easel") return [];
    return two ? two.dataset.ids.split(" ") : one ? [one.dataset.id] : [];
  };
  const selected = () => (picks.size ? [...picks] : shown());

  // Elements come and go with every update from the server; what is picked is marked again each time, before it is painted.
  const decorate = () => {
    const now = shown();
    for (const one of all("[data-pick]")) {
      const state = String(picks.has(one.dataset.pick));
      if (one.getAttribute("aria-pressed") !== state) one.setAttribute("aria-pressed", state);
    }
    for (const one of all("#session [data-show]")) {
      const state = String(now.includes(one.dataset.show));
      if (one.getAttribute("aria-current") !== state) one.setAttribute("aria-current", state);
    }
    for (const one of all("[data-view-to]")) {
      const state = one.dataset.viewTo === cascade.view() ? "page" : "false";
      if (one.getAttribute("aria-current") !== state) one.setAttribute("aria-current", state);
    }
    document.body.toggleAttribute("data-picked", picks.size > 0);
    // A key pressed right after a pick finds its button ready, before the server has answered.
    for (const one of picks.size ? all("#facts [data-takes]") : []) {
      const [fewest, most] = one.dataset.takes.split(" ").map(Number);
      const off = picks.size < fewest || picks.size > most;
      if (one.disabled !== off) one.disabled = off;
    }
  };
  const tellPicks = () => {
    decorate();
    cascade.tell("picks", { ids: [...picks], view: cascade.view() });
  };
  const clear = () => {
    if (!picks.size) return false;
    picks.clear();
    decorate();
    return true;
  };
  const toggle = (id) => {
    if (picks.has(id)) picks.delete(id);
    else if (picks.size < MOST) picks.add(id);
    tellPicks();
  };
  const pickAll = () => {
    for (const one of all("#shelf [data-pick]")) if (picks.size < MOST) picks.add(one.dataset.pick);
    tellPicks();
  };
  const show = (id) => {
    clear();
    document.body.dataset.view = "easel";
    cascade.tell("show", { id });
    decorate();
  };

  const act = (node) => {
    const { act: name } = node.dataset;
    const ids = selected();
    if (node.hasAttribute("data-makes")) {
      if (!cascade.ready()) return;
      cascade.tell("make", { act: name, ids });
      cascade.watchEasel();
    } else {
      cascade.tell("act", { act: name, ids, view: cascade.view() });
    }
    if (["delete", "undo", "compare", "contact"].includes(name) || node.hasAttribute("data-makes")) {
      clear();
      document.body.dataset.view = node.hasAttribute("data-makes") || name === "compare" || name === "contact" ? "easel" : cascade.view();
      decorate();
    }
  };

  document.addEventListener("click", (event) => {
    const on = (selector) => event.target.closest(selector);
    const open = document.querySelector(".cs-menu[open]");
    if (open && !open.contains(event.target)) open.open = false;
    const thumb = on("[data-show]");
    const picked = on("[data-pick]");
    const acting = on("[data-act]");
    const way = on("[data-view-to]");
    if (thumb) event.ctrlKey || event.metaKey || event.shiftKey ? toggle(thumb.dataset.show) : show(thumb.dataset.show);
    else if (picked) toggle(picked.dataset.pick);
    else if (acting) act(acting);
    else if (way) cascade.go(way.dataset.viewTo);
    else if (on("[data-pick-all]")) pickAll();
  });
  document.addEventListener("dblclick", (event) => {
    const print = event.target.closest("#easel [data-pick]");
    if (print) show(print.dataset.pick);
  });
  document.addEventListener("input", (event) => {
    const frame = event.target.closest(".cs-compare");
    if (frame) frame.style.setProperty("--split", `${event.target.value}%`);
  });

  const sheet = () => all("#easel button[data-pick]");
  const row = () => all(cascade.view() === "gallery" ? "#shelf [data-show]" : "#session [data-show]");
  const focused = () => document.activeElement && document.activeElement.closest("[data-pick], .cs-thumb[data-show]");
  const idOf = (node) => node && (node.dataset.pick || node.dataset.show);

  // Left and right: along the sheet or the gallery by focus, along the row by showing the next.
  const step = (towards) => {
    const gallery = cascade.view() === "gallery";
    const line = gallery || !sheet().length ? row() : sheet();
    if (!line.length) return false;
    if (gallery || sheet().length) {
      const at = line.indexOf(document.activeElement);
      const next = line[at < 0 ? (towards > 0 ? 0 : line.length - 1) : Math.min(line.length - 1, Math.max(0, at + towards))];
      next.focus();
      return true;
    }
    const at = line.findIndex((one) => one.getAttribute("aria-current") === "true");
    const next = line[Math.min(line.length - 1, Math.max(0, at + towards))];
    if (next && at !== line.indexOf(next)) next.click();
    if (next) next.scrollIntoView({ block: "nearest", inline: "nearest" });
    return true;
  };

  cascade.keys = {
    arrowleft: () => step(-1),
    arrowright: () => step(1),
    " ": () => {
      const id = idOf(focused());
      if (id) toggle(id);
      return Boolean(id);
    },
    enter: () => {
      const id = idOf(focused()) || (picks.size === 1 && [...picks][0]);
      if (id) show(id);
      return Boolean(id);
    },
    escape: () => clear() && (tellPicks(), true),
    A: () => cascade.view() === "gallery" && (pickAll(), true),
    g: () => (cascade.go(cascade.view() === "gallery" ? "easel" : "gallery"), true),
    digit: (number) => {
      const one = sheet()[number - 1];
      if (one) toggle(one.dataset.pick);
      return Boolean(one);
    },
  };
  cascade.watchPicks = () => {
    decorate();
    new MutationObserver(decorate).observe(document.querySelector(".gradio-container"), { childList: true, subtree: true });
  };
})();
