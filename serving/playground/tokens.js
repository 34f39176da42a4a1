// Visual tokens: which are kept, where they lie, what that comes to. The rules are the engine's.

/**
 * @typedef {{image: number, rows: number, columns: number,
 *   box: [number, number, number, number], thumbnail: boolean}} Grid
 * @typedef {{grids: Grid[], values: number[]}} Importance in prompt order
 */

/**
 * How many of so many visual tokens survive.
 * @param {number} visual
 * @param {number} ratio the share that is kept
 */
export function keepCount(visual, ratio) {
  return Math.min(visual, Math.max(1, Math.floor(visual * ratio)));
}

/**
 * The tokens of highest importance, ties going to the lower index.
 * @param {number[]} values
 * @param {number} count how many
 * @returns {Set<number>} their indices
 */
export function keptTokens(values, count) {
  const order = values.map((_, token) => token);
  order.sort((a, b) => values[b] - values[a] || a - b);
  return new Set(order.slice(0, count));
}

/** Whether the small model's answer stands. */
export function exits(score, threshold) {
  return score >= threshold;
}

/**
 * The average retention at another keep ratio, by how deep an answer was pruned.
 * @param {{average_retention: number, visual_tokens: number, kept_tokens: number}} pruning
 * @param {number} ratio
 * @returns {number|null} null where the depth is not known
 */
export function averageRetention(pruning, ratio) {
  const share = pruning.kept_tokens / pruning.visual_tokens;
  if (!(share < 1)) return null;
  const below = (pruning.average_retention - share) / (1 - share);
  const kept = keepCount(pruning.visual_tokens, ratio) / pruning.visual_tokens;
  return below + (1 - below) * kept;
}

/**
 * The cells of one picture's tokens, in shares of its sides. Where there are tiles beside an
 * overview, theirs: they are what the model looks at more closely.
 * @param {Grid[]} grids of the whole prompt
 * @param {number} image index of the picture
 * @returns {{token: number, left: number, top: number, right: number, bottom: number}[]}
 */
export function cellsOf(grids, image) {
  let first = 0;
  const own = [];
  for (const grid of grids) {
    if (grid.image === image) own.push({ grid, first });
    first += grid.rows * grid.columns;
  }
  const tiles = own.filter((one) => !one.grid.thumbnail);
  return (tiles.length ? tiles : own).flatMap(cellsOfGrid);
}

function cellsOfGrid({ grid, first }) {
  const [left, top, right, bottom] = grid.box;
  const x = (column) => left + ((right - left) * column) / grid.columns;
  const y = (row) => top + ((bottom - top) * row) / grid.rows;
  return Array.from({ length: grid.rows * grid.columns }, (_, cell) => {
    const row = Math.floor(cell / grid.columns);
    const column = cell % grid.columns;
    return { token: first + cell, left: x(column), top: y(row), right: x(column + 1), bottom: y(row + 1) };
  });
}

/** Tokens that are not drawn: those of overviews beside tiles. */
export function undrawn(grids) {
  const images = new Set(grids.map((grid) => grid.image));
  const drawn = [...images].reduce((sum, image) => sum + cellsOf(grids, image).length, 0);
  return grids.reduce((sum, grid) => sum + grid.rows * grid.columns, 0) - drawn;
}
