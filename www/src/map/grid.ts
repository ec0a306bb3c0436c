// The windows over a source's whole extent at one zoom, as the native program lays them over an image of that extent
// (`mosaic::Windows`): whichever tiles are asked for, a window lies at the same place and is computed once.

/** Windows along one side of the extent, in pixels from its beginning. */
export class Axis {
  /** Pixels of the extent. */
  readonly length: number;
  /** Side of a window, and of the part in its middle that needs no neighbour. */
  readonly size: number;
  readonly tile: number;
  readonly count: number;

  constructor(length: number, size: number, tile: number) {
    this.length = length;
    this.size = size;
    this.tile = tile;
    this.count = length <= size ? 1 : Math.ceil((length - size) / tile) + 1;
  }

  /** Where window `i` begins; a side that fits into a window lies in its middle. */
  at(i: number): number {
    const beyond = this.length - this.size;
    return beyond <= 0 ? -Math.floor(-beyond / 2) : Math.floor((i * beyond) / (this.count - 1));
  }

  /** Mean pixels from one window to the next. */
  get step(): number {
    return this.count === 1 ? this.length : (this.length - this.size) / (this.count - 1);
  }

  /** The pixels for which window `i` has most context: from the middle of its overlap with the one before to that with the next. */
  cell(i: number): [number, number] {
    const middle = (a: number, b: number) => (a + b + this.size) / 2;
    return [
      i === 0 ? 0 : middle(this.at(i - 1), this.at(i)),
      i === this.count - 1 ? this.length : middle(this.at(i), this.at(i + 1)),
    ];
  }

  /** The first and the last window that has any of the pixels `from` to `to`. */
  touching(from: number, to: number): [number, number] {
    const guess = (at: number) => Math.max(0, Math.min(Math.floor(at / this.step), this.count - 1));
    let first = guess(from - this.size);
    while (first < this.count - 1 && this.at(first) + this.size <= from) first++;
    let last = guess(to);
    while (last > first && this.at(last) >= to) last--;
    return [first, last];
  }

  /**
   * The first and the last window that pixels `from` to `to` cannot do without. One whose cell has but a sliver of them, no wider
   * than a window fades, is left out: its neighbour covers those pixels, if with less context.
   */
  needed(from: number, to: number): [number, number] {
    // Below a quarter of either, two slivers beside each other cannot both be left out.
    const sliver = Math.min((this.size - this.tile) / 2, this.tile / 4, (to - from) / 4);
    let [first, last] = this.touching(from, to);
    const share = (i: number) => Math.min(this.cell(i)[1], to) - Math.max(this.cell(i)[0], from);
    while (first < last && share(first) < sliver) first++;
    while (last > first && share(last) < sliver) last--;
    return [first, last];
  }

  /** The weight of the pixel at offset `i` within a window. */
  weight(i: number): number {
    return fading(i, this.size, this.tile);
  }
}

/** The weight of the pixel at offset `i` within a window of `size` pixels, one every `step`, as in the native program. */
export function fading(i: number, size: number, step: number): number {
  const fade = size - step;
  return fade === 0 ? 1 : Math.min(1, (Math.min(i, size - 1 - i) + 0.5) / fade);
}

/** A window by its place in the grid. */
export interface Place {
  column: number;
  row: number;
}

/** A rectangle of pixels of the world at one zoom, `right` and `bottom` outside. */
export interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** What blending asks of a grid of windows. */
export interface WindowGrid {
  /** Side of a window along either axis, and the weight of the pixel at an offset within it. */
  readonly columns: { readonly size: number; weight(offset: number): number };
  readonly rows: { readonly size: number; weight(offset: number): number };
  box(place: Place): Box;
  /** The pixels of `box` that the grid is about. */
  clip(box: Box): Box;
}

/** The windows over `extent`, in pixels of tiles of `side` pixels at zoom `z`. */
export class Grid implements WindowGrid {
  readonly z: number;
  readonly side: number;
  readonly extent: Box;
  readonly columns: Axis;
  readonly rows: Axis;

  constructor(z: number, side: number, extent: Box, size: number, tile: number) {
    this.z = z;
    this.side = side;
    this.extent = extent;
    this.columns = new Axis(extent.right - extent.left, size, tile);
    this.rows = new Axis(extent.bottom - extent.top, size, tile);
  }

  /** The pixels of `box` within the extent. */
  clip({ left, top, right, bottom }: Box): Box {
    const { extent } = this;
    return {
      left: Math.max(left, extent.left),
      top: Math.max(top, extent.top),
      right: Math.min(right, extent.right),
      bottom: Math.min(bottom, extent.bottom),
    };
  }

  /** The windows that have any pixel of `box`, or those that it cannot do without. */
  windows(box: Box, which: "touching" | "needed"): Place[] {
    const { left, top, right, bottom } = this.clip(box);
    if (left >= right || top >= bottom) return [];
    const [firstColumn, lastColumn] = this.columns[which](left - this.extent.left, right - this.extent.left);
    const [firstRow, lastRow] = this.rows[which](top - this.extent.top, bottom - this.extent.top);
    const places: Place[] = [];
    for (let row = firstRow; row <= lastRow; row++)
      for (let column = firstColumn; column <= lastColumn; column++) places.push({ column, row });
    return places;
  }

  /** Where a window lies; it may leave an extent that is smaller than it. */
  box({ column, row }: Place): Box {
    const left = this.extent.left + this.columns.at(column);
    const top = this.extent.top + this.rows.at(row);
    return { left, top, right: left + this.columns.size, bottom: top + this.rows.size };
  }

  /** The pixels for which it has most context. */
  cell({ column, row }: Place): Box {
    const [left, right] = this.columns.cell(column);
    const [top, bottom] = this.rows.cell(row);
    const { extent } = this;
    return {
      left: extent.left + left,
      top: extent.top + top,
      right: extent.left + right,
      bottom: extent.top + bottom,
    };
  }
}
