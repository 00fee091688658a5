// Opening a picture file: dropped anywhere on the page, pasted, or chosen. It goes to the gallery's own address, never through
// Gradio's cache; what came of it is told to the server, which fills the form and shows the picture.
(() => {
  const cascade = (window.cascade = window.cascade || {});
  const KINDS = ["image/png", "image/jpeg", "image/webp"];
  const size = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

  const refuse = (sentence) => cascade.tell("opened", { error: sentence });
  const open = async (file) => {
    const limit = Number(document.getElementById("open-file").dataset.limit);
    const name = file.name.slice(0, 60) || "The file";
    if (!KINDS.includes(file.type)) return refuse(`${name} is not a PNG, JPEG or WebP picture.`);
    if (file.size > limit) return refuse(`${name} has ${size(file.size)}; the limit is ${size(limit)}.`);
    document.body.dataset.opening = "";
    try {
      const answer = await fetch("pictures", { method: "POST", body: file });
      cascade.tell("opened", await answer.json());
    } catch {
      refuse(`${name} could not be sent: the connection was lost. Try again in a moment.`);
    } finally {
      delete document.body.dataset.opening;
    }
  };
  const openFirst = (files) => {
    if (!files.length) return;
    cascade.go("easel");
    open(files[0]);
  };

  const brings = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  let depth = 0; // entering a child comes before leaving its parent
  const dragging = (on) => {
    depth = on ? depth : 0;
    document.body.toggleAttribute("data-dragging", on);
  };
  document.addEventListener("dragenter", (event) => {
    if (brings(event) && ++depth) dragging(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (brings(event) && --depth <= 0) dragging(false);
  });
  document.addEventListener("dragover", (event) => {
    if (brings(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    dragging(false);
    if (!brings(event)) return;
    event.preventDefault();
    event.stopPropagation();
    openFirst(event.dataTransfer.files);
  }, true);
  document.addEventListener("paste", (event) => {
    if (event.clipboardData && event.clipboardData.files.length) openFirst(event.clipboardData.files);
  });
  document.addEventListener("change", (event) => {
    if (event.target.id !== "open-file") return;
    openFirst(event.target.files);
    event.target.value = "";
  });
  cascade.choose = () => {
    const input = document.getElementById("open-file");
    if (input) input.click();
    return Boolean(input);
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-open]")) cascade.choose();
  });
})();
