// Fetches the page again and puts its main part in place, as long as it can be seen and nobody is busy with it.

const main = document.querySelector("main");
const seconds = Number(main?.dataset.refresh ?? 0);

function isBusy() {
  return document.hidden || main.contains(document.activeElement) || String(getSelection()) !== "";
}

async function refresh() {
  if (isBusy()) return;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(4000) });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    main.replaceChildren(...page.querySelector("main").childNodes);
    document.body.classList.remove("stale");
  } catch {
    document.body.classList.add("stale");
  }
}

if (seconds > 0) setInterval(refresh, seconds * 1000);
