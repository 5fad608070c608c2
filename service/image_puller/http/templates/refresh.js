"use strict";
// The browser sends the ETag of the page, and the service answers 304 while nothing changed.
// A URL with a password can't be fetched, so only these parts of it.
const here = location.origin + location.pathname + location.search;
const focusable = "a[href], .scroll";
const nameOf = (element) => element.getAttribute("href") || element.getAttribute("aria-labelledby");

async function refresh() {
  const main = document.getElementById("main");
  const wait = Number(main.dataset.refresh);
  if (!wait) return;
  setTimeout(refresh, document.hidden ? 4 * wait : wait);
  if (document.hidden) return;
  try {
    const answer = await fetch(here, { headers: { Accept: "text/html" }, cache: "no-cache" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = page.getElementById("main");
    if (next && next.outerHTML !== main.outerHTML) replace(main, next, page.title);
  } catch {
    // The service is away. The next try comes anyway.
  }
}

// Keeps the focus, and how far the tables are scrolled. Tells programs that read the page aloud.
function replace(main, next, title) {
  const focused = main.contains(document.activeElement) && nameOf(document.activeElement);
  const scrolled = new Map([...main.querySelectorAll(".scroll")].map((each) => [nameOf(each), each.scrollLeft]));
  document.title = title;
  main.replaceWith(next);
  for (const each of next.querySelectorAll(".scroll")) each.scrollLeft = scrolled.get(nameOf(each)) || 0;
  const same = focused && [...next.querySelectorAll(focusable)].find((each) => nameOf(each) === focused);
  if (same) same.focus({ preventScroll: true });
  if (next.dataset.news !== main.dataset.news) document.getElementById("news").textContent = next.dataset.news;
}

setTimeout(refresh, Number(document.getElementById("main").dataset.refresh));
