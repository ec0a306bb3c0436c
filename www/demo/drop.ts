// What was dropped or pasted: a package (its folder or its .samlora file), a picture, or the address of one.

export type Dropped = { package: File[] | File } | { picture: Blob } | { address: string };

/** Sorts out a drop; must be called while its event is being handled. */
export async function readDrop(transfer: DataTransfer): Promise<Dropped | undefined> {
  // Entries and strings are gone once the event has been handled, so everything is asked for before the first wait.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry != null);
  const loose = [...transfer.files];
  const address = (transfer.getData("text/uri-list") || transfer.getData("text/plain")).split(/\r?\n/)[0]?.trim();

  const inFolders = (await Promise.all(entries.filter((e) => e.isDirectory).map((e) => filesOf(e)))).flat();
  const files = [...inFolders, ...loose.filter((file) => !entries.some((e) => e.isDirectory && e.name === file.name))];
  if (files.some((file) => file.name === "samlora.json")) return { package: files };
  if (inFolders.length) return { package: files }; // Without a manifest: the loader says what is missing.
  const archive = files.find((file) => /\.(samlora|zip)$/i.test(file.name));
  if (archive) return { package: archive };
  const picture = files.find((file) => file.type.startsWith("image/")) ?? files[0];
  if (picture) return { picture };
  return address ? { address } : undefined;
}

async function filesOf(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile)
    return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const children: FileSystemEntry[] = [];
  for (;;) {
    // Browsers give a large folder in parts; an empty one is the end.
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) break;
    children.push(...part);
  }
  return (await Promise.all(children.map(filesOf))).flat();
}
