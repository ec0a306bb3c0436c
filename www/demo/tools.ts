// The panels about this device: what it can do, and which models it keeps.

import { doctor, storage } from "samlora";
import { handle } from "./errors.ts";
import { element, formatBytes } from "./page.ts";
import type { Session } from "./session.ts";

/** Connects the panels; what they show is looked up when they are opened. */
export function showTools(session: Session): void {
  const report = element("doctor-report");
  const run = element<HTMLButtonElement>("doctor-run");
  run.addEventListener("click", () =>
    handle(async () => {
      run.disabled = true;
      report.hidden = false;
      report.textContent = "Checking…";
      try {
        report.textContent = String(await doctor(session.model));
        element("doctor-copy").hidden = false;
      } catch (error) {
        report.hidden = true;
        throw error;
      } finally {
        run.disabled = false;
      }
    }),
  );
  element("doctor-copy").addEventListener("click", () =>
    handle(async () => {
      await navigator.clipboard.writeText(report.textContent ?? "");
      session.onNotice("The report was copied.");
    }),
  );
  element<HTMLDetailsElement>("stored").addEventListener("toggle", () => handle(() => showStored(session)));
}

async function showStored(session: Session): Promise<void> {
  const [packages, size] = await Promise.all([storage.list(), storage.size()]);
  const room = size.available === undefined ? "" : `, ${formatBytes(size.available)} left`;
  element("stored-size").textContent = packages.length
    ? `${formatBytes(size.bytes)} in all${room}.`
    : "None: they are kept once they are loaded.";
  element("stored-list").replaceChildren(
    ...packages.map(({ url, name, bytes, complete }) => {
      const item = document.createElement("li");
      const text = Object.assign(document.createElement("span"), { className: "grow" });
      const title = Object.assign(document.createElement("strong"), { textContent: name });
      text.append(title, ` ${formatBytes(bytes)}${complete ? "" : ", in part"}`, document.createElement("br"));
      text.append(Object.assign(document.createElement("span"), { className: "hint", textContent: url }));
      item.append(
        text,
        button("Load", `Load ${name}`, () => session.load(url)),
        button("Remove", `Remove ${name} from this browser`, async () => {
          await storage.evict(url);
          session.onNotice(`${name} was removed from this browser.`);
          await showStored(session);
        }),
      );
      return item;
    }),
  );
}

function button(text: string, label: string, work: () => Promise<unknown>): HTMLButtonElement {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  made.setAttribute("aria-label", label);
  made.addEventListener("click", () => handle(work));
  return made;
}
