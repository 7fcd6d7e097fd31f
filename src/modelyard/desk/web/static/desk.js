"use strict";
// Of an item's page: saves while it is worked on, counts the seconds that it is looked at, and its keys. Everything works without, save saving.
const IDLE_SECONDS = 60, SAVE_MS = 800, LETTERS = "abcdefghijk";

function item(form) {
  let seconds = Number(form.dataset.seconds), moved = Date.now(), soon = 0;
  const changed = () => { clearTimeout(soon); soon = setTimeout(() => form.dispatchEvent(new Event("saved-soon")), SAVE_MS); };
  for (const kind of ["pointermove", "keydown", "scroll"]) addEventListener(kind, () => { moved = Date.now(); }, {passive: true});
  setInterval(() => {
    if (document.hidden || Date.now() - moved > IDLE_SECONDS * 1000) return;
    form.elements.seconds.value = ++seconds;
  }, 1000);
  form.addEventListener("input", changed);
  form.addEventListener("submit", () => clearTimeout(soon));
  for (const button of form.querySelectorAll("[data-take]")) button.addEventListener("click", () => {
    form.elements.completion.value = button.previousElementSibling.textContent;
    form.elements.from_suggestion.value = "1";
    form.elements.completion.focus();
    changed();
  });
  document.addEventListener("keydown", (event) => key(form, event, changed));
  form.querySelector(".answer, textarea")?.focus({preventScroll: true});
}

function key(form, event, changed) {
  const typing = event.target.matches("textarea, input:not([type=radio], [type=checkbox])");
  if (event.ctrlKey && event.key === "Enter") { event.preventDefault(); form.requestSubmit(form.querySelector("[value=submit]")); return; }
  if (event.key === "Enter" && event.target === form.elements.reason) { // not a form's first button, which sends the answer
    event.preventDefault();
    form.querySelector("[value=skip]").focus();
    return;
  }
  if (event.ctrlKey && event.key === "Backspace" && !typing) {
    event.preventDefault();
    form.querySelector(".giveback").open = true;
    form.elements.reason.focus();
    return;
  }
  const answers = [...form.querySelectorAll(".answer")];
  if (typing || event.ctrlKey || event.metaKey || !answers.length) return;
  const at = answers.findIndex((one) => one.contains(document.activeElement)), here = answers[at] ?? answers[0], place = here.dataset.place;
  const pick = (input) => { if (!input) return; input.checked = input.type === "checkbox" ? !input.checked : true; changed(); };
  const digit = /^Digit([1-9])$/.exec(event.code)?.[1] ?? (/^[1-9]$/.test(event.key) ? event.key : null);
  if (digit) pick(form.querySelector(`[name="${event.altKey ? "rating" : "rank"}-${place}"][value="${digit}"]`));
  else if (event.altKey) return;
  else if (["ArrowDown", "n"].includes(event.key)) answers[Math.min(at + 1, answers.length - 1)].focus();
  else if (["ArrowUp", "p"].includes(event.key)) answers[Math.max(at - 1, 0)].focus();
  else if (event.key === "w") pick(form.elements.all_wrong);
  else if (LETTERS.includes(event.key) && here.querySelector(".flags")) { here.querySelector(".flags").open = true; pick(here.querySelectorAll(".flags input")[LETTERS.indexOf(event.key)]); }
  else return;
  event.preventDefault();
}

for (const form of document.querySelectorAll("form.item")) item(form);

// Of a conversation with a target: an answer is marked in a dialog, and what was sent leaves the box.
function chat(form) {
  const dialog = document.getElementById("mark");
  document.addEventListener("click", (event) => {
    const mark = event.target.closest("[data-mark]");
    if (mark) { dialog.querySelector("[name=upto]").value = mark.dataset.mark; dialog.showModal(); }
    if (event.target.closest("[data-close]")) dialog.close();
  });
  const turns = document.getElementById("turns");
  new MutationObserver(() => { if (!turns.querySelector(".problem")) form.elements.said.value = ""; form.elements.said.focus(); turns.lastElementChild?.scrollIntoView({block: "end"}); }).observe(turns, {childList: true});
  form.elements.said.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });
}

for (const form of document.querySelectorAll("form#say")) chat(form);
