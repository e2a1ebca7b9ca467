"use strict";
// Every picture of the page is a button; the viewer shows one of them large. Enter or a click
// opens it, the arrows, Home and End go to others, Z shows it in its actual size, Escape closes it
// and gives the focus back.
(function () {
  const pictures = Array.from(document.querySelectorAll("button.picture"));
  const viewer = document.getElementById("viewer");
  const image = document.getElementById("viewer-image");
  const caption = document.getElementById("viewer-caption");
  const place = document.getElementById("viewer-place");
  const size = document.getElementById("viewer-size");
  let current = 0;
  let opener = null;

  function show(number) {
    current = (number + pictures.length) % pictures.length;
    const inner = pictures[current].querySelector("img");
    image.src = inner.src;
    image.alt = inner.alt;
    // Small photographs are enlarged, so that somebody can be seen; drawings are not.
    image.classList.toggle("small", inner.naturalHeight < 500);
    caption.textContent = pictures[current].dataset.caption;
    place.textContent = `${current + 1} of ${pictures.length}`;
  }

  function resize() {
    const full = viewer.classList.toggle("full");
    size.setAttribute("aria-pressed", String(full));
  }

  const steps = {
    ArrowRight: () => show(current + 1),
    ArrowLeft: () => show(current - 1),
    Home: () => show(0),
    End: () => show(pictures.length - 1),
    z: resize,
    Z: resize,
  };

  pictures.forEach((picture, number) =>
    picture.addEventListener("click", () => {
      opener = picture;
      show(number);
      viewer.showModal();
    })
  );
  viewer.addEventListener("keydown", (event) => {
    if (event.key in steps && !event.altKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      steps[event.key]();
    }
  });
  // A click beside the picture closes it, as a click on the word does.
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer) viewer.close();
  });
  viewer.addEventListener("close", () => opener && opener.focus());
  document.getElementById("viewer-previous").addEventListener("click", steps.ArrowLeft);
  document.getElementById("viewer-next").addEventListener("click", steps.ArrowRight);
  size.addEventListener("click", resize);
  document.getElementById("viewer-close").addEventListener("click", () => viewer.close());
})();
