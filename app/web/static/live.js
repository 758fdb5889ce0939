// Keeps the status up to date. Without it the page is complete, and reloads itself.
"use strict";

const INTERVAL = 2000; // milliseconds
const PATIENCE = 8000;

const target = document.getElementById("status");
const failure_detector = document.getElementById("failure_detector");

function isBeingRead() {
  const selection = document.getSelection();
  return selection && !selection.isCollapsed && target.contains(selection.anchorNode);
}

function say(text) {
  // Spoken by screen readers when it changes, so it only changes when there is news.
  if (failure_detector.textContent !== text) failure_detector.textContent = text;
}

function replaceWith(html) {
  const focused = target.contains(document.activeElement) ? document.activeElement : null;
  const link = focused?.getAttribute("href");
  const region = focused?.closest("[aria-labelledby]")?.getAttribute("aria-labelledby");
  const scrolled = [...target.querySelectorAll(".scroll")].map((element) => element.scrollLeft);
  target.innerHTML = html;
  [...target.querySelectorAll(".scroll")].forEach((element, index) => {
    element.scrollLeft = scrolled[index] ?? 0;
  });
  if (link) target.querySelector(`a[href="${CSS.escape(link)}"]`)?.focus({ preventScroll: true });
  else if (region) target.querySelector(`.scroll[aria-labelledby="${region}"]`)?.focus({ preventScroll: true });
}

async function refresh() {
  if (document.hidden || isBeingRead()) return;
  try {
    const answer = await fetch(target.dataset.source, { signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    replaceWith(await answer.text());
    say("Live: updates by itself.");
  } catch (error) {
    say("No longer live: the server does not answer. Trying again.");
  }
}

async function keepFresh() {
  await refresh();
  setTimeout(keepFresh, INTERVAL);
}

document.addEventListener("visibilitychange", () => document.hidden || refresh());
setTimeout(keepFresh, INTERVAL);
