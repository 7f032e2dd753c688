// What asks before it is done, and what says that it was.
import { find, make } from "./dom.js";

const TOLD_FOR = 6000; // milliseconds

export function tell(text, isBad = false) {
  const toast = make("p", isBad ? "toast bad" : "toast", text);
  find("toasts").append(toast);
  while (find("toasts").children.length > 4) find("toasts").firstElementChild.remove();
  setTimeout(() => toast.remove(), TOLD_FOR);
}

// The fields of the form when it is wanted, null when it is not.
function ask(title, yes, ...body) {
  const dialog = find("dialog");
  const form = find("dialog-form");
  find("dialog-title").textContent = title;
  find("dialog-yes").textContent = yes;
  find("dialog-body").replaceChildren(...body);
  return new Promise((resolve) => {
    const done = (answer) => {
      dialog.removeEventListener("close", closed);
      form.removeEventListener("submit", submitted);
      resolve(answer);
    };
    const closed = () => done(null);
    const submitted = () => done(new FormData(form));
    dialog.addEventListener("close", closed);
    form.addEventListener("submit", submitted);
    find("dialog-no").onclick = () => dialog.close();
    dialog.showModal();
  });
}

function choice(value, title, hint, isChosen) {
  const radio = make("input");
  Object.assign(radio, { type: "radio", name: "mode", value, checked: isChosen });
  return make("label", "choice", radio, make("span", "", title), make("small", "", hint));
}

// The arguments of a stop, or null.
export async function askForStop(queue) {
  const limit = make("input");
  Object.assign(limit, { type: "number", name: "timeout", min: "0", step: "any", inputMode: "decimal", placeholder: "no limit" });
  const fields = await ask(
    `Stop ${queue.name}?`, "Stop the queue",
    choice("drain", "Drain", "what is ready still runs; what is delayed is kept", true),
    choice("stop", "Stop", "what runs is finished; all else is kept for the next start", false),
    make("label", "field", make("span", "", "Cancel what still runs after (seconds)"), limit),
    make("p", "hint", "A service that waits in run() ends when its queue has stopped."),
  );
  if (fields === null) return null;
  const seconds = String(fields.get("timeout") ?? "").trim();
  return { mode: fields.get("mode"), ...(seconds === "" ? {} : { timeout: Number(seconds) }) };
}

export async function askForClear(queue) {
  const count = queue.dead_letters.count;
  const answer = await ask(`Clear the dead letters of ${queue.name}?`, "Clear them",
    make("p", "", count === 1 ? "One is forgotten for good." : `All ${count} are forgotten for good.`));
  return answer === null ? null : {};
}
