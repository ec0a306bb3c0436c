// The packages that the server offers: `models/index.json`, as `samlora serve` writes it.

import { formatBytes } from "./page.ts";

export interface Offer {
  label: string;
  url: string;
}

/** `merged`, `base` or `adapter`, as the package's manifest says; undefined where it cannot be read, which loading explains. */
export async function kindOf({ url }: Offer): Promise<string | undefined> {
  return fetch(new URL("samlora.json", url))
    .then((answer) => answer.json())
    .then(
      (manifest: { kind?: string } | null) => manifest?.kind,
      () => undefined,
    );
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
