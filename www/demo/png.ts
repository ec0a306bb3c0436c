// An 8-bit paletted PNG: class indices and their colours in one file, as GIS programs read it. (A canvas can only write RGBA.)

import { type ClassInfo, NO_DATA } from "samlora";

/** Encodes a class mask, `[height, width]`. */
export async function encodeMask(mask: Uint8Array, width: number, height: number, classes: ClassInfo[]): Promise<Blob> {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 3, 0, 0, 0], 8); // 8 bits, palette, deflate, the standard filters, not interlaced.

  // Where there is no data, the picture is transparent.
  const isWhole = !mask.includes(NO_DATA);
  const colours = new Uint8Array(3 * (isWhole ? Math.max(...classes.map((c) => c.index)) + 1 : NO_DATA + 1));
  for (const { index, color } of classes) colours.set(color, 3 * index);
  const opacity = new Uint8Array(NO_DATA + 1).fill(255, 0, NO_DATA);

  const rows = new Uint8Array((width + 1) * height); // Every row starts with its filter: 0, none.
  for (let y = 0; y < height; y++) rows.set(mask.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const stream = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());

  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  return new Blob(
    [
      signature,
      chunk("IHDR", header),
      chunk("PLTE", colours),
      ...(isWhole ? [] : [chunk("tRNS", opacity)]),
      chunk("IDAT", data),
      chunk("IEND", new Uint8Array()),
    ],
    {
      type: "image/png",
    },
  );
}

function chunk(type: string, data: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(data.length + 8, crc32(bytes.subarray(4, data.length + 8)));
  return bytes;
}

/** PNG's checksum (ISO 3309), bit by bit: masks are small. */
function crc32(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
