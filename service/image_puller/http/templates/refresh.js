"use strict";
// The browser sends the ETag of the page, and the service answers 304 while nothing changed.
async function refresh() {
  const main = document.getElementById("main");
  const wait = Number(main.dataset.refresh);
  if (!wait) return;
  setTimeout(refresh, document.hidden ? 4 * wait : wait);
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-cache" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = page.getElementById("main");
    if (!next || next.innerHTML === main.innerHTML) return;
    const link = document.activeElement && document.activeElement.getAttribute("href");
    document.title = page.title;
    main.replaceWith(next);
    const same = link && [...next.querySelectorAll("a")].find((each) => each.getAttribute("href") === link);
    if (same) same.focus({ preventScroll: true });
  } catch {
    // The service is away. The next try comes anyway.
  }
}
setTimeout(refresh, 3000);
