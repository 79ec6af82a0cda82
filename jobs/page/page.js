"use strict";
// Without this script every tier is in view, side by side; with it, one at a time, chosen by a slider.
const pictures = [...document.querySelectorAll(".picture")].map((picture) => {
  const frames = [...picture.querySelectorAll(".frames > li")];
  const slider = picture.querySelector("input[type=range]");
  const show = (tier) => {
    const at = Math.min(tier, frames.length - 1);
    frames.forEach((frame, k) => { frame.hidden = k !== at; });
    if (slider) {
      slider.value = at;
      slider.setAttribute("aria-valuetext", frames[at].dataset.says);
    }
  };
  if (slider) slider.addEventListener("input", () => show(slider.valueAsNumber));
  show(frames.length - 1);
  return { show };
});
const all = document.getElementById("all");
if (all) {
  const at = document.querySelector(".all .at");
  all.addEventListener("input", () => {
    at.textContent = `tier ${all.value}`;
    all.setAttribute("aria-valuetext", at.textContent);
    pictures.forEach((picture) => picture.show(all.valueAsNumber));
  });
}
document.documentElement.classList.add("live");
