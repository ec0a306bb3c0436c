// The windows of an area: on a grid of the ground that no file and no area moves.

import { type Box, fading, type Place, type WindowGrid } from "../map/grid.ts";

/** Windows along one side of a level: number `i` begins at the `i`-th step of the ground's own grid. */
class GroundAxis {
  /** Pixels of the level. */
  readonly length: number;
  /** Pixels of a window, and from one to the next. */
  readonly size: number;
  readonly step: number;
  readonly anchor: number;

  constructor(length: number, anchor: number, size: number, step: number) {
    this.length = length;
    this.anchor = anchor;
    this.size = size;
    this.step = step;
  }

  at(i: number): number {
    return i * this.step - this.anchor;
  }

  /** The first and the last window that has any of the pixels `from` to `to`. */
  touching(from: number, to: number): [number, number] {
    return [
      Math.floor((from + this.anchor - this.size) / this.step) + 1,
      Math.ceil((to + this.anchor) / this.step) - 1,
    ];
  }

  weight(offset: number): number {
    return fading(offset, this.size, this.step);
  }
}

/** The windows over a level, and the blocks that are finished together. */
export class GroundGrid implements WindowGrid {
  readonly columns: GroundAxis;
  readonly rows: GroundAxis;

  constructor(
    columns: [length: number, anchor: number],
    rows: [length: number, anchor: number],
    size: number[],
    step: number[],
  ) {
    this.columns = new GroundAxis(...columns, size[0]!, step[0]!);
    this.rows = new GroundAxis(...rows, size[1]!, step[1]!);
  }

  clip({ left, top, right, bottom }: Box): Box {
    return {
      left: Math.max(left, 0),
      top: Math.max(top, 0),
      right: Math.min(right, this.columns.length),
      bottom: Math.min(bottom, this.rows.length),
    };
  }

  box({ column, row }: Place): Box {
    const [left, top] = [this.columns.at(column), this.rows.at(row)];
    return { left, top, right: left + this.columns.size, bottom: top + this.rows.size };
  }

  /** The pixels that no other window has nearer to its middle: those of all windows cover every pixel once. */
  cell({ column, row }: Place): Box {
    const { columns, rows } = this;
    const left = columns.at(column) + Math.floor((columns.size - columns.step) / 2);
    const top = rows.at(row) + Math.floor((rows.size - rows.step) / 2);
    return { left, top, right: left + columns.step, bottom: top + rows.step };
  }

  /** The windows that have any pixel of `box`, but for those whose cell is outside of the level. */
  touching(box: Box): Place[] {
    const { left, top, right, bottom } = this.clip(box);
    if (left >= right || top >= bottom) return [];
    const [firstColumn, lastColumn] = this.columns.touching(left, right);
    const [firstRow, lastRow] = this.rows.touching(top, bottom);
    const places: Place[] = [];
    for (let row = firstRow; row <= lastRow; row++)
      for (let column = firstColumn; column <= lastColumn; column++) places.push({ column, row });
    return places.filter((place) => {
      const cell = this.clip(this.cell(place));
      return cell.left < cell.right && cell.top < cell.bottom;
    });
  }
}
