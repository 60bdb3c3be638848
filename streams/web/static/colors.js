// One colour and one dash for each LLM, kept while the page is open.

const COLORS = Array.from({ length: 10 }, (_, i) => `var(--c${i})`);
const DASHES = [null, "7 3", "2 3", "9 3 2 3"];
const order = new Map();

// LLMs with most answers come first: the first eight colours differ even without red or green vision.
export function meet(names) {
  for (const name of names) if (!order.has(name)) order.set(name, order.size);
}

export const colorOf = (name) => COLORS[order.get(name)] ?? "var(--other)";
export const dashOf = (name) => DASHES[(order.get(name) ?? 0) % DASHES.length];
