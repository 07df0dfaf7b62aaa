"use strict";
for (const section of document.querySelectorAll("section[data-model]")) {
  const address = `models/${encodeURIComponent(section.dataset.model)}/predict`;
  const output = section.querySelector("output");
  const send = async (body, headers) => {
    output.replaceChildren("…");
    try {
      const answer = await fetch(address, { method: "POST", body, headers });
      if ((answer.headers.get("content-type") ?? "").startsWith("image/")) {
        const image = document.createElement("img");
        image.alt = "the model's image";
        image.src = URL.createObjectURL(await answer.blob());
        output.replaceChildren(image);
        return;
      }
      show(await answer.json());
    } catch (error) { output.replaceChildren(String(error)); }
  };
  const show = (value) => {
    const rows = value.predictions?.[0]?.labels;
    if (!rows) {
      const text = document.createElement("pre");
      text.textContent = value.error ?? JSON.stringify(value, null, 1).slice(0, 20000);
      output.replaceChildren(text);
      return;
    }
    output.replaceChildren(...rows.map(({ label, probability }) => {
      const row = document.createElement("div");
      row.className = "row";
      const name = document.createElement("span");
      name.textContent = label;
      const track = document.createElement("span");
      const bar = document.createElement("i");
      bar.style.width = `${probability * 100}%`;
      track.append(bar);
      const number = document.createElement("b");
      number.textContent = `${(probability * 100).toFixed(1)} %`;
      row.append(name, track, number);
      return row;
    }));
  };
  const image = (file) => {
    if (!file) return;
    const preview = section.querySelector(".drop img");
    preview.src = URL.createObjectURL(file);
    preview.hidden = false;
    const accept = output.hasAttribute("data-images") ? "image/png" : "application/json";
    send(file, { "Content-Type": file.type || "application/octet-stream", Accept: accept });
  };
  const drop = section.querySelector(".drop");
  if (drop) {
    drop.querySelector("input").addEventListener("change", (event) => image(event.target.files[0]));
    drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); image(event.dataTransfer.files[0]); });
  }
  section.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    send(event.target.querySelector("textarea").value, { "Content-Type": "application/json" });
  });
}
