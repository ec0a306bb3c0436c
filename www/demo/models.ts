// The packages that the server offers: `models/index.json`, as `samlora serve` writes it.

import { formatBytes } from "./page.ts";

export interface Offer {
  label: string;
  url: string;
}

/** The packages on this server; none if it says nothing about them. */
export async function offeredModels(): Promise<Offer[]> {
  const index = new URL("models/index.json", document.baseURI);
  const answer = await fetch(index)
    .then(
      (r) => (r.ok ? r.json() : undefined),
      () => undefined,
    )
    .catch(() => undefined);
  const models: { name: string; url: string; bytes: number }[] = answer?.models ?? [];
  return models.map(({ name, url, bytes }) => ({
    label: `${name} (${formatBytes(bytes)})`,
    url: new URL(url, index).href,
  }));
}
